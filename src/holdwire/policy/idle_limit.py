"""``IdleLimit``: learns at which idle age the path to an origin ends connections.

Theory of operation: middleboxes cut at fixed idle times, so deaths cluster; everything else that ends idle
connections does not. Deaths of one moment are one observation, however many connections ended in it. A server that
is being replaced ends connections of all idle ages at one moment, busy ones too, and refuses new ones: such a moment
says nothing about idle ages and is left out (a rolling deploy must not look like an idle limit). Connections that
lived through a longer silence refute a limit, and so do those that lived through the same one if they are more than the
deaths: who asks once a minute finds connections of one age only, and a server that crashes now and then ends some.

Memory is bounded: 64 deaths, 64 survivals of either sort. Times are seconds of a monotonic clock. The default use
is to report; not responsible for applying a limit, and no traffic is made to find one.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from .profiles import matching

if TYPE_CHECKING:
    from .profiles import Profile

__all__ = ["MOMENT", "YOUNG", "IdleEstimate", "IdleLimit"]

_SIZE: Final = 64
YOUNG: Final = 5.0
"""Deaths below this idle age are never a limit, and no learnt limit goes below it."""
_TOLERANCE: Final = 2.0
_TOLERANCE_SHARE: Final = 0.01
MOMENT: Final = 5.0
"""Deaths within so many seconds of each other, or of a disturbance, have one cause."""
_EPISODES: Final = 3
_APART: Final = 300.0
_SHARE: Final = 0.75
"""A limit explains at least this share of the deaths at or below its age."""
_EXPIRES: Final = 3600.0
_MEMORY: Final = 86_400.0
_MARGIN: Final = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleEstimate:
    """A limit as far as it is known: ``deaths`` observations between ``low`` and ``high`` seconds of idle age.

    ``episodes`` are deaths at least 5 minutes apart, ``newest`` is the time of the last one. ``survived`` is the
    longest silence after which a connection was found alive.
    """

    low: float
    high: float
    deaths: int
    episodes: int
    newest: float
    survived: float | None

    @property
    def limit(self) -> float:
        """The limit: the youngest death of the cluster."""
        return self.low

    @property
    def safe_idle(self) -> float:
        """80 % of the limit, at least 5 s: for the pool's idle time and a heartbeat's interval."""
        return max(YOUNG, _MARGIN * self.low)

    def as_dict(self) -> dict[str, Any]:
        """As the snapshot shows it."""
        return {
            "seconds": round(self.limit, 1),
            "deaths": self.deaths,
            "episodes": self.episodes,
            "survived": self.survived,
            "paths": [profile.name for profile in self.profiles],
        }

    def covers(self, idle: float) -> bool:
        """Whether a death at this idle age belongs to the cluster."""
        return self.low - _tolerance(self.low) <= idle <= self.high + _tolerance(self.high)

    @property
    def profiles(self) -> list[Profile]:
        """The well-known paths with this limit."""
        return matching(self.low)


class IdleLimit:
    """What is known about the idle ages of one origin and route."""

    __slots__ = ("_alive", "_deaths", "_disturbed_at", "_mixed_at", "_survived", "changes")

    def __init__(self) -> None:
        self._deaths: deque[tuple[float, float]] = deque(maxlen=_SIZE)
        self._survived: deque[tuple[float, float]] = deque()  # ages descending: each the longest since its time
        self._alive: deque[tuple[float, float]] = deque(maxlen=_SIZE)  # the last that a request found alive
        self._disturbed_at = self._mixed_at = -math.inf
        self.changes = 0
        """Grows with all that may change the estimate, but for the passing of time."""

    def died(self, now: float, *, idle: float, watched: bool = True) -> None:
        """A connection was found dead after ``idle`` seconds of silence; a clean close counts as well.

        ``watched`` if its end was noticed as it happened, so that it was alive until then; False if it was found dead
        by using it, so that it may have died long before.
        """
        self.changes += 1
        if watched:
            self._lived(now, idle)
        if now - self._disturbed_at <= MOMENT:
            return
        if self._deaths and now - self._deaths[-1][0] <= MOMENT:
            age = self._deaths[-1][1]
            if abs(age - idle) > _tolerance(max(age, idle)):
                self._mixed_at = now
                self.disturbed(now)  # one moment, different ages: not a timer
            return
        self._deaths.append((now, idle))

    def disturbed(self, now: float) -> None:
        """The origin itself is changing: a busy connection was lost, a connect was refused, GOAWAY came."""
        self.changes += 1
        self._disturbed_at = now
        while self._deaths and now - self._deaths[-1][0] <= MOMENT:
            self._deaths.pop()

    def is_mixed(self, now: float) -> bool:
        """Whether connections of different idle ages died just now."""
        return now - self._mixed_at <= MOMENT

    def survived(self, now: float, *, idle: float) -> None:
        """A connection was found alive after ``idle`` seconds of silence."""
        self.changes += 1
        self._alive.append((now, idle))
        self._lived(now, idle)

    def _lived(self, now: float, idle: float) -> None:
        while self._survived and self._survived[-1][1] <= idle:
            self._survived.pop()
        if len(self._survived) == _SIZE:
            self._survived.pop()
        self._survived.append((now, idle))

    def estimate(self, now: float) -> IdleEstimate | None:
        """The tightest and largest cluster of deaths that nothing refutes; None if there is none of at least two.

        From any thread, so that what its own thread adds to is copied at once.
        """
        deaths = sorted((age, then) for then, age in list(self._deaths) if now - then <= _MEMORY and age >= YOUNG)
        best = _densest(deaths)
        if len(best) < 2:
            return None
        low, high = best[0][0], best[-1][0]
        moments = sorted(then for _, then in best)
        while self._survived and now - self._survived[0][0] > _MEMORY:
            self._survived.popleft()
        survived = list(self._survived)
        refuted = any(then >= moments[0] and age > high + _tolerance(high) for then, age in survived)
        alive = sum(1 for then, age in list(self._alive) if then >= moments[0] and age >= low)
        younger = sum(1 for age, _ in deaths if age < low)
        if refuted or alive > len(best) or len(best) < _SHARE * (len(best) + younger):
            return None
        return IdleEstimate(
            low=low,
            high=high,
            deaths=len(best),
            episodes=_episodes(moments),
            newest=moments[-1],
            survived=max((age for _, age in survived), default=None),
        )

    def applies(self, now: float, *, explicit_limits: bool) -> IdleEstimate | None:
        """The estimate if it may set pool and heartbeat: three episodes, at most an hour old, no explicit limits."""
        if explicit_limits:
            return None
        found = self.estimate(now)
        if found is None or found.episodes < _EPISODES or now - found.newest > _EXPIRES:
            return None
        return found


def _tolerance(age: float) -> float:
    return max(_TOLERANCE, age * _TOLERANCE_SHARE)


def _densest(deaths: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The longest run of ages, ascending, that lies within twice the tolerance; of equals the youngest."""
    best: list[tuple[float, float]] = []
    start = 0
    for end, (age, _) in enumerate(deaths):
        while age - deaths[start][0] > 2 * _tolerance(deaths[start][0]):
            start += 1
        if end + 1 - start > len(best):
            best = deaths[start : end + 1]
    return best


def _episodes(moments: list[float]) -> int:
    """How many of ``moments``, ascending, lie at least five minutes after the one counted before."""
    count, last = 1, moments[0]
    for _, then in pairwise(moments):
        if then - last >= _APART:
            count, last = count + 1, then
    return count
