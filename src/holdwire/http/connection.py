"""``HttpConnection``: what the pool and the exchange know of a connection, whatever HTTP version it speaks.

Not responsible for any protocol (``http11``, ``http2``) or for who uses the connection (``pool``).
"""

from __future__ import annotations

import abc
import math
import time
from typing import TYPE_CHECKING, Final

from ..events import CloseReason
from ..net.wire import Look
from ..policy.phase import Phase, Sent

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from ..net.wire import Wire
    from ..policy.failure import Failure
    from ..policy.outcome import Http2Signal
    from ..retrying import Retrier
    from .messages import Origin, Request, Response

__all__ = ["REFUSED", "Attempt", "HttpConnection"]

REFUSED: Final = 300
"""Final statuses from here on end an upload: no more of the request is wanted."""


class Attempt:
    """One try of a request on one connection: the evidence, gathered while it goes on.

    What is usual stands on the class: most attempts go well, and set little of it.
    """

    connect_by: float | None = None
    """Monotonic time at which the caller's connect time-out expires; set by the first try to connect."""
    queued = 0.0
    """Seconds that it waited for connections: the caller's pool time-out bounds them together."""
    written = 0.0
    """Monotonic time at which its first byte was about to be written."""
    idle_before = 0.0
    """Seconds that the connection had been idle."""
    phase = Phase.POOL
    sent = Sent.NONE
    failure: Failure | None = None
    """What a cancelled attempt would say if its cancellation turns out to be the request's deadline."""
    write_failure: Failure | None = None
    """What kept the request from being written to its end; the answer may have come all the same."""
    reused = False
    received = 0
    response_early = False
    """Whether response bytes arrived before the request was fully written."""
    replaced = False
    """Whether its path looked dead, and a replacement stands."""
    multiplexed = False
    """Whether the connection is HTTP/2 and lives on without this request's stream."""
    http2: Http2Signal | None = None
    """What HTTP/2 said about its stream."""
    first_stream = False
    """Whether its stream was the connection's first."""
    goaway_error = False
    """Whether the GOAWAY that ended its stream has an error code."""

    def __init__(self, request: Request, number: int = 1, retrier: Retrier | None = None) -> None:
        self.request = request
        self.number = number
        self.retrier = retrier
        self.began = time.time_ns()


class HttpConnection(abc.ABC):
    """One connection to one origin."""

    __slots__ = (
        "__weakref__",
        "close_reason",
        "created",
        "expires",
        "idle_limit",
        "idle_since",
        "last_context",
        "on_end",
        "on_idle",
        "origin",
        "served",
        "wire",
    )

    http_version: str = "1.1"

    def __init__(self, wire: Wire, origin: Origin, *, max_age: float | None) -> None:
        self.wire = wire
        self.origin = origin
        self.created = time.monotonic()
        self.idle_since = self.created
        """When its last exchange was over, whether it came to rest then or went to the next request at once."""
        self.expires = math.inf if max_age is None else self.created + max_age
        """Monotonic time from which on it is too old for another request."""
        self.last_context: Context | None = None
        self.close_reason: CloseReason | None = None
        self.served: int = 0
        """Exchanges completed."""
        self.idle_limit: float | None = None
        """Seconds of idling that the server has announced, less a margin; None if it has not."""
        self.on_idle: Callable[[HttpConnection], None] | None = None
        """Told when an exchange is over and the connection can be used again; set by the pool."""
        self.on_end: Callable[[HttpConnection, CloseReason, Failure | None], None] | None = None
        """Told once, synchronously, when the connection has ended; set by the pool."""

    @property
    @abc.abstractmethod
    def capacity(self) -> int:
        """How many more requests it can take now; below 1 it is busy, or takes no more at all."""

    @property
    @abc.abstractmethod
    def active(self) -> int:
        """Requests in progress, and places that are reserved for some."""

    @property
    def serving(self) -> bool:
        """Whether a request is in progress, which hears of the connection's end."""
        return self.active > 0

    @property
    def busy_since(self) -> float | None:
        """When the oldest request in progress was begun (monotonic); None without one, and where nobody shares it."""
        return None

    @property
    def width(self) -> int:
        """How many requests the peer allows at a time; 0 while that is not known."""
        return 1

    @property
    def round_trips(self) -> tuple[float, ...]:
        """How long the last heartbeats took, in seconds."""
        return ()

    def reserve(self) -> None:  # noqa: B027 - where one request at a time is the rule nothing is counted
        """A request will follow: where several can share the connection, its place is counted from now on."""

    def release(self) -> None:  # noqa: B027 - the same
        """The request does not follow."""

    @property
    def honours_reservation(self) -> bool:
        """Whether the request of a reserved place can still follow."""
        return self.close_reason is None

    @property
    @abc.abstractmethod
    def waiting(self) -> Attempt | None:
        """The attempt whose request is being sent or answered; None if there is none, or several."""

    @abc.abstractmethod
    async def exchange(self, attempt: Attempt) -> Response:
        """Send the attempt's request and return the final response's head; the body follows on it.

        Raises:
            ConnectionLost, RemoteProtocolError, DeadlineExceeded, LocalProtocolError: The connection is closed or
                will be (HTTP/2: the stream is), and the attempt holds the evidence.
        """

    @abc.abstractmethod
    def rest(self) -> None:
        """Become idle: watch for the peer's end, and do not let it pass unnoticed."""

    @abc.abstractmethod
    def wake(self) -> None:
        """Stop being idle: a request follows."""

    def retire(self, reason: CloseReason) -> None:
        """Take no more requests, and end when those in progress are over."""
        self.end(reason)

    def looks_alive(self) -> bool:
        """One non-blocking look while no request is in progress; what is dead is closed, and told by ``on_end``."""
        wire = self.wire
        look = wire.look()
        if look is Look.QUIET:
            return True
        if wire.failure is not None:
            self.end(CloseReason.FAILURE, wire.failure)
        else:  # an orderly end, or bytes nobody asked for, such as 408: either way nothing more can be asked here
            self.end(CloseReason.PEER_IDLE)
        return False

    def end(self, reason: CloseReason, failure: Failure | None = None, *, abort: bool = False) -> None:
        """End the connection now, gracefully unless ``abort``; may be called again."""
        if self.close_reason is not None:
            return
        self.close_reason = reason
        if reason is CloseReason.FOREIGN:
            self.wire.drop()
        elif abort:
            self.wire.abort()
        else:
            self.wire.close()
        self._ended()
        if self.on_end is not None:
            self.on_end(self, reason, failure)

    def _ended(self) -> None:  # noqa: B027 - most have nothing to let go of
        """For what a subclass has to let go of."""
