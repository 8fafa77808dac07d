"""``Outbox``: ciphertext on its way from the engine to the stream beneath, in the order in which it was made.

Invariants: one task sends at a time, and it sends on until nothing is left, what other tasks add included. What was
not taken, be it for want of room, a time limit or a cancellation, stays and goes first next time: the records behind
it could not be read without it. Not responsible for plaintext or for input (``stream``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ..errors import DeadlineExceeded
from ..net.turn import Turn
from ._deadline import time_left

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..net.stream import SocketStream
    from .engine import Engine
    from .foreign import ForeignWire
    from .stream import TLSStream

__all__ = ["Lower", "Outbox"]

Lower: TypeAlias = "SocketStream | TLSStream | ForeignWire"
"""What TLS runs over."""


class Outbox:
    """The ciphertext of ``engine`` for ``lower``."""

    __slots__ = ("_engine", "_lower", "_mark", "_rest", "turn")

    def __init__(self, engine: Engine, lower: Lower) -> None:
        self._engine = engine
        self._lower = lower
        self._rest = b""
        """Taken out of the engine; ``lower`` has had what it has taken since ``_mark``."""
        self._mark = 0
        self.turn = Turn()
        """Held by the task that sends."""

    def __len__(self) -> int:
        """Bytes that ``lower`` has not taken."""
        beneath = len(self._rest) - (self._lower.accepted - self._mark) if self._rest else 0
        return beneath + self._engine.pending

    @property
    def busy(self) -> bool:
        """Whether a task is sending, or something was left behind."""
        return self.turn.held or bool(self._rest)

    @property
    def left_behind(self) -> bool:
        """Whether something was left behind that nobody is sending."""
        return bool(self._rest) and not self.turn.held

    def push(self) -> bool:
        """Send without waiting; whether something is left. Nobody else may be sending.

        Raises:
            ConnectionLost, ClosedError: As ``lower``.
        """
        if not self._gather():
            return False
        taken = self._lower.write_now(self._rest)
        if taken == len(self._rest):
            self._rest = b""
            return False
        self._rest = self._rest[taken:]
        self._mark = self._lower.accepted
        return True

    async def flush(self, deadline: float | None, until: Callable[[bool], bool] | None = None) -> bool:
        """Send everything.

        Args:
            deadline: In monotonic seconds.
            until: Asked before each send whether to stop; its argument says whether input has arrived meanwhile.

        Returns:
            Whether everything was sent; False if ``until`` said stop.

        Raises:
            DeadlineExceeded, ConnectionLost, ClosedError: As ``lower``.
        """
        if not await self.turn.acquire(time_left(deadline)):
            raise DeadlineExceeded(limit="write")
        try:
            arrived = False
            while self._gather():
                if until is not None and until(arrived):
                    return False
                arrived = await self._send(deadline, until_input=until is not None)
        finally:
            self.turn.release()
        return True

    def discard(self) -> None:
        """What has not left will never leave."""
        self._engine.discard()
        self._rest = b""

    def _gather(self) -> bool:
        """Whether there is something to send, now in ``_rest``."""
        if not self._rest:
            self._rest = self._engine.take()
            self._mark = self._lower.accepted
        return bool(self._rest)

    async def _send(self, deadline: float | None, *, until_input: bool) -> bool:
        """Send ``_rest``; True if input came first."""
        rest = self._rest
        mark = self._mark
        try:
            return await self._lower.write(rest, time_left(deadline), until_input=until_input) < len(rest)
        finally:
            self._mark = self._lower.accepted
            self._rest = rest[self._mark - mark :]
