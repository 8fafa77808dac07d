"""``Ticker``: one timer for all heartbeats of an event loop, however many thousands there are.

Theory of operation. A heap of times; one timer, armed for the earliest of them. What is due within 100 ms goes out in
one tick, so that 10,000 connections wake the loop ten times a second and not ten thousand times. A time that became
later is not moved: the tick asks the beat, which says when it wants to be asked again. A time that became earlier
(``wake``) is a second entry, and the first one is skipped when it comes up.

The timer fires once a second even when nothing is due. That is how a stalled loop (``lag``) and a host that slept are
noticed: only the boot-time clock goes on while the host is suspended.

Invariants: beats are held weakly and everything is synchronous, so a ticker keeps nothing alive and owns no task; a
beat that raises harms no other. Not responsible for what a beat does.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import time
import weakref
from typing import TYPE_CHECKING, Final, Protocol

from ..policy.liveness import was_suspended
from .runtime import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from .runtime import Runtime, TimerHandle

__all__ = ["WINDOW", "Ticked", "Ticker", "boottime_clock", "current_ticker"]

logger = logging.getLogger("holdwire")

WINDOW: Final = 0.1
"""Seconds: beats that are due within it go out together."""
PULSE: Final = 1.0
"""Seconds between two ticks at most, while there are beats."""
_PUNCTUAL: Final = 0.02
"""A timer that fires so many seconds late is not late."""
_SOON: Final = 0.001


class Ticked(Protocol):
    """Something with a time at which it wants to be asked."""

    scheduled: float
    """Kept by the ticker: when it will be asked; infinity for not at all."""

    def tick(self, now: float) -> float:
        """Do what is due (monotonic seconds) and return when to be asked again; infinity for not at all."""
        ...

    def suspect(self, now: float) -> float:
        """The host has slept: as ``tick``, but nothing that was known holds any more."""
        ...


def boottime_clock() -> float:
    """Seconds since boot, sleep included; where there is no such clock, nothing is ever seen to sleep."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Ticker:
    """The beats of one runtime. See the module.

    Args:
        runtime: Whose timer is used; held weakly.
        monotonic, boottime: The clocks, in seconds.
    """

    __slots__ = (
        "__weakref__",
        "_armed_for",
        "_boottime",
        "_clocks",
        "_heap",
        "_monotonic",
        "_order",
        "_runtime",
        "_timer",
        "lag",
        "ticks",
    )

    def __init__(
        self,
        runtime: Runtime,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        boottime: Callable[[], float] = boottime_clock,
    ) -> None:
        self._runtime = weakref.ref(runtime)
        self._monotonic = monotonic
        self._boottime = boottime
        self._clocks = (monotonic(), boottime())
        self._heap: list[tuple[float, int, weakref.ref[Ticked]]] = []
        self._order = itertools.count()
        self._timer: TimerHandle | None = None
        self._armed_for = math.inf
        self.lag = 0.0
        """Seconds by which ticks came too late, all together; the tick in progress is not counted yet."""
        self.ticks = 0

    def add(self, beat: Ticked, due: float) -> None:
        """Ask ``beat`` at ``due`` (monotonic seconds), instead of when it was to be asked before."""
        if due == beat.scheduled:
            return
        beat.scheduled = due
        if due == math.inf:
            return
        if not self._heap:
            self._clocks = (self._monotonic(), self._boottime())
        heapq.heappush(self._heap, (due, next(self._order), weakref.ref(beat)))
        if due < self._armed_for:
            self._arm(self._monotonic())

    def discard(self, beat: Ticked) -> None:
        """Ask ``beat`` no more. What it holds is not kept alive by the entry that is left until then."""
        beat.scheduled = math.inf

    def _arm(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_for = math.inf
        runtime = self._runtime()
        if not self._heap or runtime is None or runtime.is_over():
            return
        self._armed_for = min(self._heap[0][0], now + PULSE)
        self._timer = runtime.call_later(max(self._armed_for - now, 0.0), self._tick)

    def _tick(self) -> None:
        now = self._monotonic()
        boottime = self._boottime()
        before, self._clocks = self._clocks, (now, boottime)
        late = now - self._armed_for
        self._timer = None
        self._armed_for = -math.inf  # whatever is added meanwhile arms nothing: the end of this tick does
        self.ticks += 1
        slept = was_suspended(now - before[0], boottime - before[1])
        for beat in self._due(math.inf if slept else now + WINDOW):
            try:
                due = beat.suspect(now) if slept else beat.tick(now)
            except Exception:
                logger.exception("a heartbeat failed and ends")
            else:
                if due != math.inf:
                    self.add(beat, max(due, now + _SOON))
        if late > _PUNCTUAL:
            self.lag += late
        self._arm(self._monotonic())

    def _due(self, limit: float) -> list[Ticked]:
        """Take what is due until ``limit`` off the heap."""
        heap = self._heap
        found: list[Ticked] = []
        while heap and heap[0][0] <= limit:
            due, _, reference = heapq.heappop(heap)
            beat = reference()
            if beat is not None and beat.scheduled == due:
                beat.scheduled = math.inf
                found.append(beat)
        return found


_tickers: weakref.WeakKeyDictionary[Runtime, Ticker] = weakref.WeakKeyDictionary()


def current_ticker() -> Ticker:
    """The ticker of the running event loop."""
    runtime = current()
    ticker = _tickers.get(runtime)
    if ticker is None:
        ticker = _tickers[runtime] = Ticker(runtime)
    return ticker
