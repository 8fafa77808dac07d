"""An asyncio event loop whose time is a number: nothing waits, and what would wait for ever is noticed at once.

The selector asks simulated sockets (``kernel``) whether they are ready; where none is, it moves the clock on to the
next timer instead of sleeping. Not responsible for what the sockets do.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

__all__ = ["Clock", "Hang", "VirtualLoop", "virtual_time"]

SPIN = 20_000
"""Turns of the loop without any time passing that are taken for an endless loop."""


class Hang(Exception):
    """Nothing will ever happen again, or nothing happens in time, or time does not pass."""


class Clock:
    """Seconds that pass only when nothing is left to do."""

    def __init__(self, *, limit: float) -> None:
        self.now = 1000.0
        self.limit = self.now + limit


class Waitable(Protocol):
    """A simulated socket, as the selector sees it."""

    def readable(self) -> bool: ...
    def writable(self) -> bool: ...


class _Selector(selectors.BaseSelector):
    def __init__(self, clock: Clock, sockets: Mapping[int, Waitable]) -> None:
        self._clock = clock
        self._sockets = sockets
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._spun = 0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, fileobj, events, data)
        return key

    modify = register

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[fileobj]

    def get_map(self) -> Any:
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = []
        for fd, key in self._keys.items():
            sock = self._sockets[fd]
            events = selectors.EVENT_READ if key.events & selectors.EVENT_READ and sock.readable() else 0
            if key.events & selectors.EVENT_WRITE and sock.writable():
                events |= selectors.EVENT_WRITE
            if events:
                ready.append((key, events))
        if ready or (timeout is not None and timeout <= 0):
            self._spun += 1
            if self._spun > SPIN:
                raise Hang(f"{SPIN} turns of the event loop and no time has passed")
            return ready
        if timeout is None:
            raise Hang("nothing is left that could ever happen")
        self._spun = 0
        self._clock.now += timeout
        if self._clock.now > self._clock.limit:
            raise Hang("the history does not end in time")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. No thread may wake it."""

    def __init__(self, clock: Clock, sockets: Mapping[int, Waitable]) -> None:
        self._csock = self._ssock = None
        self.selector = _Selector(clock, sockets)
        super().__init__(self.selector)
        self._clock_resolution = 1e-9

    def _make_self_pipe(self) -> None:
        """Nobody wakes this loop."""

    def _close_self_pipe(self) -> None:
        """There is none."""

    @property
    def watched(self) -> list[int]:
        """Descriptors that are still registered."""
        return sorted(self.selector.get_map())


@contextmanager
def virtual_time(clock: Clock) -> Generator[None]:
    """Let ``time.monotonic`` be the clock's: event loops ask it, and so does everything in holdwire."""
    real = time.monotonic
    time.monotonic = lambda: clock.now
    try:
        yield
    finally:
        time.monotonic = real
