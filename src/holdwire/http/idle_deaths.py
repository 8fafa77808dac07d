"""``IdleDeaths``: the failures of idle connections, those of one origin and one moment told as one.

A server that restarts ends every idle connection at once. The first of them opens a window of a second; when that is
over, one ``FailureRecorded`` stands for all that died of the same kind. It keeps nothing alive but what it is about to
tell. Not responsible for noticing deaths (``connection``) or for what they teach (``history``).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..events import FailureRecorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..events import Observers
    from ..net.runtime import Runtime, TimerHandle
    from ..policy.failure import Failure
    from ..policy.kind import Kind
    from .connection import HttpConnection
    from .messages import Origin

__all__ = ["IdleDeaths"]

WINDOW: Final = 1.0
"""Seconds from the first death to the telling."""


class IdleDeaths:
    """See the module. ``explain`` is asked for the cause when the moment is over, and all that belongs to it known."""

    __slots__ = ("_explain", "_notify", "_runtime", "_timer", "_waiting")

    def __init__(
        self, notify: Observers, runtime: Runtime, explain: Callable[[Origin, Failure, float], Failure]
    ) -> None:
        self._notify = notify
        self._explain = explain
        self._runtime = runtime
        self._waiting: dict[tuple[Origin, Kind], tuple[FailureRecorded, float]] = {}
        self._timer: TimerHandle | None = None

    def add(self, connection: HttpConnection, failure: Failure, idle: float) -> None:
        """``connection``, which no request had used for ``idle`` seconds, has died of ``failure``."""
        key = (connection.origin, failure.kind)
        first = self._waiting.get(key)
        if first is not None:
            event, age = first
            self._waiting[key] = (replace(event, deaths=event.deaths + 1), age)
            return
        now = time.time_ns()
        event = FailureRecorded(failure=failure, began=now, ended=now, last_context=connection.last_context)
        self._waiting[key] = (event, idle)
        if self._timer is None:
            self._timer = self._runtime.call_later(WINDOW, self._window_over)

    def _window_over(self) -> None:
        self._timer = None
        self.tell()

    def tell(self, *, here: bool = True) -> None:
        """Tell what has come together, now; ``here`` if the caller is in the pool's own loop."""
        if self._timer is not None and here:
            self._timer.cancel()
        self._timer = None
        waiting, self._waiting = self._waiting, {}
        for (origin, _), (event, idle) in waiting.items():
            self._notify(replace(event, failure=self._explain(origin, event.failure, idle)))
