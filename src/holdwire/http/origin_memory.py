"""``OriginMemory``: the history of each origin of a pool, and the idle limits that were learnt from it.

With ``learn`` a learnt limit applies as long as its evidence suffices; otherwise it is only told, in causes and in
the snapshot. Not responsible for what is learnt (``policy.history``) or for ending connections (``pool``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ..events import CloseReason
from ..policy.history import OriginHistory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..policy.failure import Failure
    from ..policy.idle_limit import IdleEstimate
    from .connection import HttpConnection
    from .messages import Origin

__all__ = ["OriginMemory"]

_MAX_ORIGINS: Final = 1024
"""How many origins are remembered; the oldest is forgotten first."""
_LOOK_AGAIN: Final = 60.0
"""Seconds for which what applies is taken as it was found."""


class OriginMemory:
    """See the module."""

    __slots__ = ("_applied", "_histories", "_learn")

    def __init__(self, *, learn: bool) -> None:
        self._learn = learn
        self._histories: dict[Origin, OriginHistory] = {}
        self._applied: dict[Origin, tuple[float, float]] = {}

    def _history(self, origin: Origin) -> OriginHistory:
        history = self._histories.get(origin)
        if history is None:
            if len(self._histories) >= _MAX_ORIGINS:
                forgotten = next(iter(self._histories))
                del self._histories[forgotten]
                self._applied.pop(forgotten, None)
            history = self._histories[origin] = OriginHistory()
        return history

    def survived(self, origin: Origin, *, idle: float) -> None:
        """A request found its connection alive after ``idle`` seconds of silence."""
        now = time.monotonic()
        self._history(origin).survived(now, idle=idle)
        self._apply(origin, now)

    def ended(
        self, connection: HttpConnection, now: float, reason: CloseReason, failure: Failure | None, *, at_rest: bool
    ) -> None:
        """A connection has ended; ``at_rest`` if no request used it."""
        origin = connection.origin
        if connection.served:
            self._history(origin).answered(connection.idle_since)
        if reason is CloseReason.GOAWAY:
            self._history(origin).told_to_leave(now)
        elif at_rest and (failure is not None or reason is CloseReason.PEER_IDLE):
            self._history(origin).ended_idle(now, idle=now - connection.idle_since, failure=failure)
            self._apply(origin, now)

    def explain(
        self, origin: Origin, failure: Failure, *, idle: float, answers: int, idle_ones: Iterable[HttpConnection]
    ) -> Failure:
        """Take note of a failure; it, with its likely cause in the light of the origin's history.

        ``idle`` is how long its connection had been idle (0 if it was fresh), ``answers`` how many requests the origin
        has answered, ``idle_ones`` are its idle connections: they know when it did so last.
        """
        now = time.monotonic()
        history = self._history(origin)
        for one in idle_ones:
            if one.served:
                history.answered(one.idle_since)
        explained = history.failed(now, failure, idle=idle, answers=answers)
        self._apply(origin, now)
        return explained

    def estimate(self, origin: Origin) -> IdleEstimate | None:
        """The idle limit of ``origin`` as far as it is known."""
        history = self._histories.get(origin)
        return None if history is None else history.estimate(time.monotonic())

    def last_failure(self, origin: Origin) -> Failure | None:
        """The last failure of ``origin``."""
        history = self._histories.get(origin)
        return None if history is None else history.last_failure

    def _apply(self, origin: Origin, now: float) -> None:
        if not self._learn:
            return
        idle = self._histories[origin].applies(now)
        if idle is None:
            self._applied.pop(origin, None)
        else:
            self._applied[origin] = (idle, now + _LOOK_AGAIN)

    def idle_limit(self, origin: Origin, now: float) -> float | None:
        """The idle time that was learnt and applies now."""
        found = self._applied.get(origin)
        if found is None:
            return None
        if now >= found[1]:
            self._apply(origin, now)
            found = self._applied.get(origin)
        return None if found is None else found[0]

    @property
    def least_idle_limit(self) -> float | None:
        """The shortest of all that apply; None if there is none."""
        return min((idle for idle, _ in self._applied.values()), default=None)
