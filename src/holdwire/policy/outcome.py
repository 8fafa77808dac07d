"""``Outcome``: how one attempt of a request ended, as far as a retry decision needs to know it.

Filled in by the layer that made the attempt. Not responsible for the decision (``retry``).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .kind import Action, Category, Kind
from .phase import Delivery, Phase, Sent

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from .failure import Failure

__all__ = ["Http2Signal", "Outcome", "has_retrier", "is_idempotent"]


class Http2Signal(enum.StrEnum):
    """What HTTP/2 said about a stream (RFC 9113, sections 6.8, 7 and 8.7)."""

    REFUSED_STREAM = enum.auto()
    GOAWAY_BELOW = enum.auto()
    """GOAWAY whose last stream id is below ours, 0 included: the stream was not processed."""
    GOAWAY_COVERS = enum.auto()
    """GOAWAY whose last stream id is ours or above: the server may finish it."""
    HTTP_1_1_REQUIRED = enum.auto()
    ENHANCE_YOUR_CALM = enum.auto()
    RESET = enum.auto()
    """RST_STREAM with any other code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of an attempt: where it was, what was seen, what kind of request it is.

    Either a failure (``category``, ``kind``, ``action``), an HTTP/2 signal, a response that may not be the answer
    (``status`` and what its headers say), or a path that only looks dead (``path_suspect``). The defaults are the
    careful ones: all sent, not idempotent, not replayable.
    """

    phase: Phase
    sent: Sent = Sent.ALL
    reused: bool = False
    """Whether at least one exchange was completed on the connection before."""
    multiplexed: bool = False
    """Whether the connection is HTTP/2 and lives on without this stream."""

    category: Category | None = None
    kind: Kind | None = None
    action: Action = Action.PHASE_TABLE
    name_not_found: bool = False
    fin_before_write: bool = False
    """The peer's FIN had arrived before the first byte was written and was noticed only afterwards, with nothing of
    the request acknowledged. It proves nothing (``evidence``)."""
    user_timeout: bool = False
    """A time limit that the user set expired."""
    cancelled: bool = False
    path_suspect: bool = False
    """``evidence.black_hole`` holds; nothing has failed yet."""
    http2: Http2Signal | None = None
    first_stream: bool = False
    goaway_error: bool = False
    """The code of the GOAWAY is not NO_ERROR."""

    status: int | None = None
    retry_after: float | None = None
    connection_close: bool = False
    early_response: bool = False
    """Bytes of the response arrived before the request was fully written."""
    response_readable: bool = False
    """A write failed, but a response can be read."""
    answered: bool = False
    """At least one byte of a response arrived, though no complete head."""
    response_started: bool = False
    """The head of the response was delivered to the caller."""
    event_stream: bool = False
    """The response is of server-sent events, which whoever reads them can have continued (``Last-Event-ID``)."""

    idempotent: bool = False
    replayable: bool = False
    body_consumed: bool = False
    caller_retries: bool = False
    """A retrier above has announced itself."""
    other_address_left: bool = False

    @classmethod
    def of(cls, failure: Failure) -> Self:
        """What a failure tells; ``dataclasses.replace`` adds what it does not know."""
        sent = failure.sent
        if sent is None:
            sent = Sent.NONE if failure.phase.is_setup else Sent.ALL
        return cls(
            phase=failure.phase,
            sent=sent,
            reused=failure.reused,
            category=failure.category,
            kind=failure.kind,
            action=failure.action,
            # BACK_OFF: the name has resolved before in this process, so that it is the resolver that has a problem
            name_not_found=failure.errno_name in _NOT_FOUND and failure.action is not Action.BACK_OFF,
            fin_before_write=failure.fin_before_write,
            answered=failure.delivery is Delivery.ANSWERED,
            cancelled=failure.kind is Kind.CANCELLED,
        )


_NOT_FOUND: Final = frozenset({"EAI_NONAME", "EAI_NODATA", "WSAHOST_NOT_FOUND", "WSANO_DATA"})
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_KEYS: Final = frozenset({b"idempotency-key", b"x-idempotency-key"})
_RETRIER: Final = b"x-stainless-retry-count"


def is_idempotent(method: str, headers: Iterable[tuple[bytes, bytes]], *, marked: bool | None = None) -> bool:
    """Whether doing a request again does no more than doing it once (RFC 9110, section 9.2.2).

    By the caller's mark if there is one, else by the method, or by an ``Idempotency-Key`` or ``X-Idempotency-Key``.
    """
    if marked is not None:
        return marked
    return method in _IDEMPOTENT or any(name.lower() in _KEYS for name, _ in headers)


def has_retrier(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request says that a retrier above sent it (the OpenAI and Anthropic SDKs do)."""
    return any(name.lower() == _RETRIER for name, _ in headers)
