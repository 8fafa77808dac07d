"""``Origin``, ``Request``, ``Response``: what goes in and out of ``http/``, in small types of its own.

Not responsible for the types of any client library: ``transports`` translates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from .body import Body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextvars import Context

    from ..net.wire import Wire
    from .attempt_span import AttemptSpans

__all__ = ["BodySource", "Headers", "Origin", "Request", "Response", "ResponseBody", "Timeouts", "Trace"]

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Name and value as they stand on the wire, in order, repeats apart."""

Trace: TypeAlias = "Callable[[str, dict[str, Any]], Awaitable[None]]"
"""Called with httpcore's event names, for example ``http11.send_request_headers.started``."""


class Origin(NamedTuple):
    """Where a request goes, and what may share a connection: equal origins may.

    ``server_name`` is the TLS name if the caller chose one that differs from ``host``.
    """

    scheme: str
    host: str
    port: int
    server_name: str | None = None

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken to the origin."""
        return self.scheme in {"https", "wss"}

    @property
    def upgradable(self) -> bool:
        """Whether the scheme asks for a WebSocket, which needs HTTP/1.1."""
        return self.scheme in {"ws", "wss"}


class Timeouts:
    """The caller's promises to itself, in seconds; None means no limit.

    ``connect`` bounds the whole connect phase, ``read`` and ``write`` each single wait, ``pool`` the wait for a
    connection.
    """

    __slots__ = ("connect", "pool", "read", "write")

    def __init__(
        self,
        connect: float | None = None,
        read: float | None = None,
        write: float | None = None,
        pool: float | None = None,
    ) -> None:
        self.connect = connect
        self.read = read
        self.write = write
        self.pool = pool

    def as_dict(self) -> dict[str, float | None]:
        """By name, as the client libraries have them."""
        return {"connect": self.connect, "read": self.read, "write": self.write, "pool": self.pool}


class BodySource(Protocol):
    """A request body that is produced piece by piece."""

    replayable: bool
    """Whether it can be produced again, byte for byte."""
    started: bool
    """Whether any of it was asked for."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces, from the beginning."""
        ...

    async def aclose(self) -> None:
        """No more of it is wanted, or all of it was produced: what produces it cleans up, where it was begun."""
        ...


class Request:
    """One logical request, the same through all its attempts.

    ``head`` is filled by ``head.encode_head`` once. ``marked`` is the caller's word on whether it is idempotent.
    ``context`` is the caller's context at the start, for telemetry. ``deadline`` is a monotonic time that bounds all
    attempts and pauses. ``truncation`` overrides the transport's ``tls_truncation``. ``spans`` are those of its
    attempts, if there shall be any. ``body_type`` is what the body of its response is to be.
    """

    __slots__ = (
        "body",
        "body_type",
        "chunked",
        "close",
        "content_length",
        "context",
        "deadline",
        "head",
        "headers",
        "marked",
        "method",
        "origin",
        "spans",
        "target",
        "timeouts",
        "trace",
        "truncation",
    )

    def __init__(
        self,
        method: bytes,
        origin: Origin,
        target: bytes,
        headers: Headers,
        body: bytes | BodySource = b"",
        *,
        timeouts: Timeouts | None = None,
        marked: bool | None = None,
        context: Context | None = None,
        deadline: float | None = None,
        trace: Trace | None = None,
        truncation: str | None = None,
        body_type: type[Body] = Body,
    ) -> None:
        self.method = method
        self.origin = origin
        self.target = target
        self.headers = headers
        self.body = body
        self.timeouts = timeouts or Timeouts()
        self.marked = marked
        self.context = context
        self.deadline = deadline
        self.trace = trace
        self.truncation = truncation
        self.body_type = body_type
        self.spans: AttemptSpans | None = None
        self.head = b""
        self.chunked = False
        self.close = False
        self.content_length: int | None = None


class ResponseBody(Protocol):
    """The body of a response: an asynchronous iterable of bytes that must be closed."""

    @property
    def on_end(self) -> Callable[[BaseException | None], None] | None:
        """Told once, when the body was read to its end or closed (None), or could not be read."""
        ...

    @on_end.setter
    def on_end(self, told: Callable[[BaseException | None], None] | None, /) -> None: ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces as they arrive."""
        ...

    async def aclose(self) -> None:
        """Give the connection back, or end it if the body was not read to its end. May be called again."""
        ...


class Response:
    """The final response of an exchange (1xx are skipped, but for 101)."""

    __slots__ = ("body", "headers", "http_version", "is_ascii", "leftover", "reason", "status", "stream_id", "wire")

    def __init__(
        self,
        status: int,
        headers: Headers,
        body: ResponseBody,
        *,
        http_version: bytes,
        is_ascii: bool,
        reason: bytes | None = None,
        wire: Wire | None = None,
        stream_id: int | None = None,
        leftover: bytes = b"",
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.http_version = http_version
        self.is_ascii = is_ascii
        """Whether the values of all headers are."""
        self.reason = reason
        self.wire = wire
        self.stream_id = stream_id
        self.leftover = leftover
        """What arrived behind the head of a 101 or of 2xx to CONNECT; it belongs to the upgraded stream."""
