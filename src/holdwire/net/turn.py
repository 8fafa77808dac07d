"""``Turn``: a lock for one resource, handed over first come, first served. Free, it costs one attribute.

Invariant: a hand-over survives a waiter that is cancelled, or runs out of time, at the very moment of it.
Not responsible for what the lock guards.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .runtime import current

if TYPE_CHECKING:
    from .runtime import Signal

__all__ = ["Turn"]


class Turn:
    """Whoever finds ``held`` False may set it without an await; whoever holds it must ``release`` it."""

    __slots__ = ("_queue", "held")

    def __init__(self) -> None:
        self.held = False
        self._queue: deque[Signal] | None = None

    async def acquire(self, timeout: float | None) -> bool:
        """Wait for the turn; False if it did not come within ``timeout`` seconds."""
        if not self.held:
            self.held = True
            return True
        if self._queue is None:
            self._queue = deque()
        mine = current().signal()
        self._queue.append(mine)
        granted = False
        try:
            granted = await mine.wait(timeout)
        finally:
            if not granted:
                self._leave(mine)
        return granted

    def release(self) -> None:
        """Hand the turn to whoever waits longest."""
        if self._queue:
            self._queue.popleft().set()
        else:
            self.held = False

    async def __aenter__(self) -> None:
        await self.acquire(None)

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def _leave(self, mine: Signal) -> None:
        if self._queue is not None and mine in self._queue:
            self._queue.remove(mine)
        else:  # it was handed over at this very moment
            self.release()
