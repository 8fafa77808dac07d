"""The 32 rows of the retry decision as data, and the order in which an outcome is matched to one.

The numbers are those of the reference table; rows 12 and 14 are 11 and 13 for a request without evidence. Not
responsible for refusals, costs and counting (``retry``).
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from .kind import Category, Kind
from .outcome import Http2Signal
from .phase import Phase, Sent
from .verdict import RetryAction

if TYPE_CHECKING:
    from collections.abc import Callable

    from .outcome import Outcome
    from .verdict import Rules

__all__ = [
    "BLACK_HOLE",
    "FOUND_UNUSABLE",
    "FRESH_CLOSED",
    "GOAWAY",
    "MATCHES",
    "NOT_SENT",
    "OVERLOADED",
    "REASONS",
    "REQUEST_TIMEOUT",
    "STALE",
    "STATUS",
    "TABLE",
    "WITHOUT_EVIDENCE",
    "Row",
]

FOUND_UNUSABLE: Final = 7
NOT_SENT: Final = 8
FRESH_CLOSED: Final = 9
STALE: Final = 10
GOAWAY: Final = 16
REQUEST_TIMEOUT: Final = 25
OVERLOADED: Final = 26
STATUS: Final = 27
BLACK_HOLE: Final = 32
WITHOUT_EVIDENCE: Final = {11: 12, 13: 14}
"""The rows of a lost connection, and those of the same signs for a request without evidence."""


_ALWAYS: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table: ``first`` is done ``shots`` times, ``then`` afterwards; the first ``free`` cost nothing.

    ``free_unproven`` is the same for a request that is repeated without proof. ``proof``: the row itself proves that
    nothing was processed. ``uncounted``: a proven free retry at once is not counted by the stop rule, within the three
    of a request. ``fresh``: only on a connection that no request has used; with ``slow`` an HTTP/2 connection that
    lives will do.
    """

    reason: str
    says: str
    first: RetryAction
    shots: int = _ALWAYS
    then: RetryAction = RetryAction.SURFACE
    proof: bool = False
    free: int = 0
    free_unproven: int = 0
    uncounted: bool = False
    fresh: bool = False
    slow: bool = False
    free_idle: bool = False


_NOW, _BACKOFF, _OTHER = RetryAction.RETRY_NOW, RetryAction.RETRY_BACKOFF, RetryAction.RETRY_OTHER_ADDRESS
_SURFACE, _DELIVER, _WAIT = RetryAction.SURFACE, RetryAction.DELIVER, RetryAction.KEEP_WAITING

# fmt: off
TABLE: Final[dict[int, Row]] = {
    1: Row(reason="name_resolution", says="name resolution failed for now", first=_BACKOFF, proof=True, free=_ALWAYS),
    2: Row(reason="name_not_found", says="the name does not exist", first=_BACKOFF, proof=True, free=_ALWAYS),
    3: Row(reason="connect", says="no connection came about", first=_OTHER, proof=True, free=_ALWAYS),
    4: Row(reason="local_resource", says="this host has run out of descriptors, ports or memory", first=_BACKOFF,
            shots=1, proof=True, free=_ALWAYS, free_idle=True),
    5: Row(reason="tls_handshake", says="the TLS handshake failed", first=_OTHER, shots=2, proof=True, free=_ALWAYS),
    6: Row(reason="not_retryable", says="it would fail again in the same way", first=_SURFACE, proof=True),
    7: Row(reason="found_unusable", says="the connection was found unusable before anything was written",
            first=_NOW, proof=True, free=_ALWAYS, uncounted=True),
    8: Row(reason="not_sent", says="the connection failed before the kernel took a byte of the request",
            first=_NOW, proof=True, free=_ALWAYS, uncounted=True, fresh=True),
    9: Row(reason="fresh_connection_closed", says="new connections are closed before anything is written",
            first=_BACKOFF, shots=1, proof=True, free=1, fresh=True),
    10: Row(reason="stale_connection", says="the peer had closed the connection before the request was written",
             first=_NOW, shots=1, then=_BACKOFF, fresh=True),
    # one for each connection that was reused and died, so that these cannot multiply: a restart ends hundreds at once
    11: Row(reason="reused_connection_lost", says="a reused connection ended before any response byte",
             first=_NOW, shots=1, then=_BACKOFF, fresh=True, free_unproven=1),
    12: Row(reason="may_have_been_processed", says="the request may have been processed", first=_SURFACE),
    13: Row(reason="connection_lost", says="the connection ended before any response byte", first=_BACKOFF,
             fresh=True),
    14: Row(reason="may_have_been_processed", says="the request may have been processed", first=_SURFACE),
    15: Row(reason="refused_stream", says="the server refused the stream unprocessed", first=_NOW, shots=1,
             then=_BACKOFF, proof=True, free=1, uncounted=True),
    16: Row(reason="goaway", says="the server closes the connection and did not process the stream", first=_NOW,
             shots=1, then=_BACKOFF, proof=True, free=1, uncounted=True, fresh=True),
    17: Row(reason="goaway_covers", says="the server closes the connection and may still finish the stream",
             first=_WAIT),
    18: Row(reason="stream_reset", says="the server reset the stream", first=_BACKOFF),
    19: Row(reason="http_1_1_required", says="the server wants HTTP/1.1", first=_NOW, shots=1, then=_BACKOFF,
             fresh=True),
    20: Row(reason="timed_out", says="nothing came back in time", first=_BACKOFF, fresh=True,
             slow=True),
    21: Row(reason="write_timed_out", says="the request could not be written in time", first=_BACKOFF,
             fresh=True, slow=True),
    22: Row(reason="early_response", says="the server answered before it read the whole request", first=_DELIVER),
    23: Row(reason="too_early", says="the server answered 425 Too Early", first=_NOW, shots=1, then=_DELIVER,
             proof=True, free=1, uncounted=True),
    24: Row(reason="misdirected", says="the server answered 421 Misdirected Request", first=_NOW, shots=1,
             then=_DELIVER, proof=True, free=1, uncounted=True, fresh=True),
    25: Row(reason="request_timeout", says="the server answered 408 and closes a reused connection", first=_NOW,
             shots=1, then=_DELIVER, free=1, uncounted=True, fresh=True),
    26: Row(reason="overloaded", says="the server asked for patience", first=_BACKOFF),
    27: Row(reason="status", says="the response is listed as one to repeat", first=_BACKOFF),
    28: Row(reason="response_started", says="the response has already begun", first=_SURFACE),
    29: Row(reason="event_stream_cut", says="an event stream ended early", first=_SURFACE),
    30: Row(reason="upgraded", says="the connection belongs to whoever upgraded it", first=_SURFACE),
    31: Row(reason="proxy", says="the proxy opened no tunnel", first=_OTHER, proof=True, free=_ALWAYS),
    32: Row(reason="black_hole", says="the path drops what we send", first=RetryAction.CONNECT_FIRST, shots=1,
             then=_WAIT, fresh=True),
}
# fmt: on

REASONS: Final[dict[str, str]] = {row.reason: row.says for row in TABLE.values()} | {
    "cancelled": "the caller cancelled",
    "caller_retries": "the caller retries by itself, so that only proven retries are made here",
    "body_not_replayable": "the body of the request was consumed and cannot be produced again",
    "kind_excluded": "the retry policy names this kind of failure as one that is never retried",
    "timeout": "a time limit of the caller expired, and such are not retried unless asked for",
    "goaway_error": "the server closed the connection with an error on its first stream",
    "not_listed": "the response is the answer",
    "retry_after_too_long": "the server asks for a longer pause than is allowed",
    "attempts": "the stop rule allows no further attempt",
    "budget": "the retry budget of the origin is used up",
    "deadline": "the deadline leaves no time for another attempt",
    "switched_off": "retries that are not free are switched off",
}

_SLOW: Final = frozenset({Category.TIMED_OUT, Category.UNREACHABLE, Category.REFUSED, Category.LOCAL_RESOURCE})
_PHASES_TLS: Final = frozenset({Phase.TLS_HANDSHAKE, Phase.POST_HANDSHAKE})
_PHASES_BEFORE: Final = frozenset({Phase.POOL, Phase.IDLE})
_PHASES_WRITE: Final = frozenset({Phase.REQUEST_HEADERS, Phase.REQUEST_BODY})

MATCHES: Final[tuple[tuple[int, Callable[[Outcome, Rules], bool]], ...]] = (
    (30, lambda o, _: o.phase is Phase.UPGRADED),
    (29, lambda o, _: o.event_stream and (o.response_started or o.phase is Phase.RESPONSE_BODY)),
    (28, lambda o, _: o.response_started or o.phase is Phase.RESPONSE_BODY),
    (22, lambda o, _: o.response_readable),
    (2, lambda o, _: o.phase is Phase.DNS and o.name_not_found),
    (1, lambda o, _: o.phase is Phase.DNS),
    (6, lambda o, _: o.phase in _PHASES_TLS and o.category is Category.CONFIGURATION),
    (4, lambda o, _: o.phase.is_setup and o.category is Category.LOCAL_RESOURCE),
    (31, lambda o, _: o.phase is Phase.PROXY),
    (3, lambda o, _: o.phase is Phase.CONNECT),
    (5, lambda o, _: o.phase is Phase.TLS_HANDSHAKE),
    (32, lambda o, _: o.path_suspect),
    (15, lambda o, _: o.http2 is Http2Signal.REFUSED_STREAM),
    (16, lambda o, _: o.http2 is Http2Signal.GOAWAY_BELOW),
    (17, lambda o, _: o.http2 is Http2Signal.GOAWAY_COVERS and o.kind in {None, Kind.HTTP2_GOAWAY}),
    (19, lambda o, _: o.http2 is Http2Signal.HTTP_1_1_REQUIRED),
    (18, lambda o, _: o.http2 in {Http2Signal.ENHANCE_YOUR_CALM, Http2Signal.RESET}),
    (23, lambda o, _: o.status == HTTPStatus.TOO_EARLY),
    (24, lambda o, _: o.status == HTTPStatus.MISDIRECTED_REQUEST and o.reused),
    (25, lambda o, _: o.status == HTTPStatus.REQUEST_TIMEOUT and o.connection_close and o.reused),
    (26, lambda o, _: o.status in {429, 503}),
    (27, lambda o, _: o.status is not None),
    (7, lambda o, _: o.sent is Sent.NONE and o.reused and o.phase in _PHASES_BEFORE),
    (8, lambda o, _: o.sent is Sent.NONE and o.reused),
    (9, lambda o, _: o.sent is Sent.NONE),
    (28, lambda o, _: o.answered),
    (10, lambda o, r: r.stale_proof and o.fin_before_write and o.reused and o.category is Category.PEER_CLOSED),
    (21, lambda o, _: o.category in _SLOW and o.phase in _PHASES_WRITE),
    (20, lambda o, _: o.category in _SLOW),
    (11, lambda o, _: o.reused),
    (13, lambda _o, _r: True),
)
