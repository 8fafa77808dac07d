"""``Session``: one connection of a series: a stream that is logged in, knows its number, and swallows its own end.

``async with session:`` closes it, and swallows the ``ConnectionLost`` of this very session, alone or as all that a
task group raised. The end of the peer is such a loss too: whoever waits for a message learns that none will come, and
what became of what was sent. Byte streams are never spliced: the next session is another object.

Recycling needs to know where messages end, and only the caller does: ``boundary`` says so. It happens there, or while
the caller waits after it with nothing received. Not responsible for opening or for pauses (``sessions``).
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio.lowlevel import checkpoint

from ..errors import ClosedError, ConnectionLost
from ..events import CloseReason
from ..net.ticker import boottime_clock, current_ticker
from ..net.wire import Look
from ..policy import diagnosis
from ..policy.kind import Category, Kind
from .stream import Stream

if TYPE_CHECKING:
    from types import TracebackType

    from ..policy.failure import Failure

__all__ = ["Session"]


class Session(Stream):
    """See the module; made by ``holdwire.sessions``.

    ``number`` is 1 for the first session of the series. ``previous`` is why the one before ended: None for the first,
    and after an end that was no failure. ``down_for`` are the seconds without a session before this one, ``attempts``
    what it took to get it, ``login`` what ``on_connect`` returned.
    """

    number: int = 1
    previous: Failure | None = None
    down_for: float = 0.0
    attempts: int = 1
    login: Any = None
    heard: bool = False
    """Whether a message was handled: ``boundary`` was called."""
    up_since: float = 0.0
    """When it was given out, in monotonic seconds."""
    ended_at: float = 0.0
    """When it had ended, in monotonic seconds."""
    scheduled: float = math.inf
    """For the ticker: when it will be too old."""
    _too_old_at: float = math.inf
    """The same in seconds since boot, which go on while the host sleeps."""
    _recycling: str | None = None
    _between = False
    _ended: anyio.Event | None = None
    _held = b""
    """What was received before the session was given out."""

    # --- the stream ---

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """As ``Stream.receive``, but the end of the peer is the end of the session.

        Raises:
            ConnectionLost: The session has ended; ``fate`` says what became of what was sent.
            anyio.BusyResourceError, ClosedError, ValueError: As anyio has it.
        """
        if self._recycling is not None and self._between:
            self._recycle_now()
        if self._held and max_bytes > 0:
            await checkpoint()
            data, self._held = self._held[:max_bytes], self._held[max_bytes:]
            self._between = False
            return data
        try:
            data = await super().receive(max_bytes)
        except anyio.EndOfStream:
            raise self._peer_ended() from None
        self._between = False
        return data

    def _peer_ended(self) -> ConnectionLost | ClosedError:
        """The loss of a session whose peer has closed, or that has failed already."""
        wire = self._wire
        detail = "the peer ended the session" + ("" if wire.saw_close_notify else ", without close_notify")
        failure = wire.failure or diagnosis.from_eof(phase=wire.phase, facts=wire.facts(), detail=detail)
        return self._lost(wire.latch(failure))

    async def send(self, item: bytes) -> None:
        self._between = False
        await super().send(item)

    async def aclose(self) -> None:
        current_ticker().discard(self)
        self._note_end()
        try:
            await super().aclose()
        finally:
            self._set_ended()

    def _note_end(self) -> None:
        if self.ended_at <= self.up_since:
            self.ended_at = time.monotonic()

    def abort(self) -> None:
        self._note_end()
        super().abort()
        self._set_ended()

    def _tell_end(self, reason: CloseReason) -> None:
        failure = self.failure
        if failure is not None and failure.category is Category.INTENTIONAL:
            reason = CloseReason.MAX_AGE
        super()._tell_end(reason)

    async def __aexit__(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride] - it may swallow
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        await self.aclose()
        return self.owns(value)

    def owns(self, exc: BaseException | None) -> bool:
        """Whether ``exc`` is the loss of this session and nothing else."""
        if isinstance(exc, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", exc)
            return all(self.owns(one) for one in group.exceptions)
        return isinstance(exc, ConnectionLost) and exc.failure is not None and exc.failure is self.failure

    # --- recycling ---

    def boundary(self) -> None:
        """Say that a whole message was handled, and none has begun: here the session may end to be recycled.

        It also tells that the server is in working order: the pauses between sessions begin anew.

        Raises:
            ConnectionLost: It ends here, as too old or as asked for; ``async with session`` swallows that.
        """
        self.heard = True
        self._between = True
        if self._recycling is not None:
            self._recycle_now()

    def recycle(self, reason: str) -> None:
        """End the session when it is between messages, which may be now."""
        if self._recycling is None and not self.closed:
            self._recycling = reason
            if self._between and not self.is_writing and self._wire.look() is Look.QUIET:
                self.end(reason)

    @property
    def recycled(self) -> bool:
        """Whether it was ended to make a new one."""
        return self.failure is not None and self.failure.category is Category.INTENTIONAL

    def _recycle_now(self) -> None:
        if not self.closed and self._recycling is not None:
            self.end(self._recycling)
        failure = self.failure
        if failure is not None:
            raise self._lost(self._wire.latch(failure))

    def end(self, reason: str) -> None:
        """Close in good order, and let whoever waits know why."""
        wire = self._wire
        if wire.closed or wire.failure is not None:
            return
        failure = diagnosis.local(Kind.CANCELLED, phase=wire.phase, facts=wire.facts(), detail=reason)
        wire.close()
        wire.latch(failure)
        self.on_failure()

    def age_limit(self, seconds: float) -> None:
        """Recycle it when it is so old."""
        self._too_old_at = boottime_clock() + seconds
        current_ticker().add(self, time.monotonic() + seconds)

    def tick(self, now: float) -> float:  # noqa: ARG002 - the ticker's
        self.recycle("it has reached its maximum age")
        return math.inf

    def suspect(self, now: float) -> float:
        left = self._too_old_at - boottime_clock()
        return now + left if left > 0 else self.tick(now)

    # --- for sessions ---

    async def wait_ended(self) -> None:
        """Wait until it was closed."""
        if self._end_told:
            return
        if self._ended is None:
            self._ended = anyio.Event()
        await self._ended.wait()

    def _set_ended(self) -> None:
        if self._ended is not None:
            self._ended.set()

    async def wait_for_life(self) -> None:
        """Send the heartbeat's probe and wait until anything arrives, which the caller will receive.

        Raises:
            ConnectionLost: It is dead.
        """
        if self._beat is not None:
            seen = self._wire.look()
            if seen is Look.QUIET:
                await self._beat.probe_now()
            elif seen is not Look.INPUT:
                raise self._peer_ended()
            self._held = await self.receive()

    def on_failure(self) -> None:
        self._note_end()
        super().on_failure()
