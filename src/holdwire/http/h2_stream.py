"""``Http2Stream`` and ``Http2Source``: one request and its response on an HTTP/2 connection.

A stream is the meeting point of two tasks: the connection's reader puts in what arrives and wakes, the request's task
takes it out and waits. Not responsible for frames, flow control or fates (``http2``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import DeadlineExceeded, HoldwireError
from ..policy.authority import authority
from ..policy.phase import Phase
from .connection import REFUSED
from .h2_head import Malformed

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ..net.runtime import Runtime, Signal
    from .connection import Attempt
    from .http2 import Http2Connection
    from .messages import Headers

__all__ = ["Http2Source", "Http2Stream"]


class Http2Stream:
    """See the module."""

    __slots__ = (
        "_signal",
        "attempt",
        "begin",
        "body_size",
        "end",
        "ended",
        "error",
        "expected",
        "headers",
        "id",
        "index",
        "opened",
        "owed",
        "phase",
        "pieces",
        "receive_window",
        "reset",
        "send_window",
        "status",
    )

    def __init__(self, attempt: Attempt, *, index: int, opened: float) -> None:
        self.id = 0
        self.send_window = self.receive_window = 0
        """What the peer allows us, and we the peer; like ``id`` and ``owed`` kept by the machine."""
        self.attempt = attempt
        self.index = index
        """Which stream of the connection it is, from 1."""
        self.opened = opened
        self.begin = 0
        """Position in the outbox of its first byte."""
        self.end: int | None = None
        """Position behind its last byte; None while more of the request is to come."""
        self.phase = Phase.REQUEST_HEADERS
        self.status = 0
        """0 until the head of the final response is there."""
        self.headers: Headers = []
        self.pieces: list[tuple[bytes, int]] = []
        """Data that nobody has taken yet, each with what it counts in the window."""
        self.body_size = 0
        """Bytes of the response's body that arrived."""
        self.expected: int | None = None
        """How many the head announced."""
        self.owed = 0
        """Window that was used and is to be given back."""
        self.ended = False
        """Whether the response is complete."""
        self.reset = False
        """Whether RST_STREAM was sent or received."""
        self.error: HoldwireError | None = None
        """What ended it; what came before is still delivered first."""
        self._signal: Signal | None = None

    @property
    def answered(self) -> bool:
        """Whether no more of the request is wanted: its response is an error, or will never come.

        Who answers with success may still be reading; who is not says so with RST_STREAM (RFC 9113, section 8.1).
        """
        return self.reset or self.error is not None or self.status >= REFUSED

    def complete(self) -> None:
        """The response is at its end.

        Raises:
            Malformed: Its head had announced another length.
        """
        if self.expected is not None and self.body_size != self.expected:
            raise Malformed(
                f"peer ended the stream without sending complete message body (received {self.body_size} bytes, "
                f"expected {self.expected})"
            )
        self.ended = True

    async def changed(self, runtime: Runtime, timeout: float | None) -> bool:
        """Wait until something happens to the stream; False if nothing does within ``timeout`` seconds."""
        self._signal = signal = runtime.signal()
        try:
            return await signal.wait(timeout)
        finally:
            self._signal = None

    def wake(self) -> None:
        """Something happened."""
        if self._signal is not None:
            self._signal.set()

    async def receive_head(self, runtime: Runtime) -> None:
        """Wait for the head of the final response.

        Raises:
            DeadlineExceeded: Nothing came on this stream within the read time-out.
            HoldwireError: What ended the stream.
        """
        while not self.status:
            await self._next(runtime)

    async def receive_data(self, runtime: Runtime) -> tuple[bytes, int] | None:
        """The next data and its share of the window; None at the end. Raises: as ``receive_head``."""
        while not self.pieces:
            if self.ended:
                return None
            await self._next(runtime)
        pieces, self.pieces = self.pieces, []
        if len(pieces) == 1:
            return pieces[0]
        return b"".join([data for data, _ in pieces]), sum([used for _, used in pieces])

    async def _next(self, runtime: Runtime) -> None:
        if self.error is not None:
            raise self.error
        request = self.attempt.request
        if not await self.changed(runtime, request.timeouts.read):
            origin = request.origin
            message = (
                f"nothing came from {authority(origin.host, origin.port)} on HTTP/2 stream {self.id} within "
                f"{request.timeouts.read} s (phase {self.phase})"
            )
            raise DeadlineExceeded(message, limit="read")


class Http2Source:
    """Where the body of one response comes from, a ``body.Source``; the end of the body ends its stream."""

    __slots__ = ("_connection", "_stream")

    upgraded = False

    def __init__(self, connection: Http2Connection, stream: Http2Stream) -> None:
        self._connection = connection
        self._stream = stream

    def take_body(self) -> bytes:
        """Nothing: what is here is taken by ``read_body``, which does not wait for it."""
        return b""

    def read_body(self) -> Coroutine[Any, Any, bytes | None]:
        """The next piece, which may be empty; None at the end."""
        return self._connection.read_body(self._stream)

    def finish(self) -> None:
        """The body was read to its end or closed."""
        self._connection.finish(self._stream)

    def fail(self, exc: BaseException) -> None:
        """The body could not be read to its end because of ``exc``."""
        self._connection.fail(self._stream, exc)
