"""``IdleSearch``: finds the idle limit of a path by asking for waits and being told what became of them. Pure.

Theory of operation. A wait is a connection that had one exchange, was silent for so long, and was then used again. The
first round spreads its waits geometrically over the range, so that any limit in it is met with the same relative
error; each further round spreads them evenly between the longest wait that was survived and the shortest that was not,
and repeats that one. An end that is seen while waiting (FIN, RST) gives the limit at once: no further round is needed.

Relative error after r rounds of k connections: (ratio - 1) / (k + 1) ** (r - 1), ratio = (longest / shortest) **
(1 / (k - 1)). Not responsible for connections (``idle_probe``) or for showing the result (``cli``).
"""

from __future__ import annotations

import enum
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..policy.profiles import matching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..policy.profiles import Profile

__all__ = ["Ending", "IdleFinding", "IdleSearch", "Observation"]

MAX_CONNECTIONS: Final = 15
"""Of the first round; later ones have one more, and 16 at a time are the most: it must not look like an attack."""
_SEEN: Final = 3
"""Ends seen while waiting that are awaited for their median."""


class Ending(enum.StrEnum):
    """What became of a connection that was silent for a while."""

    ALIVE = "alive"
    """It answered the second request."""
    CANCELLED = "cancelled"
    """A shorter wait had failed already, so this one was given up."""
    FIN_WHILE_IDLE = "fin_while_idle"
    RST_WHILE_IDLE = "rst_while_idle"
    UNSOLICITED_DATA = "unsolicited_data"
    """Bytes that nobody asked for came, such as a 408."""
    FIN_ON_SEND = "fin_on_send"
    RST_ON_SEND = "rst_on_send"
    SILENT_DROP = "silent_drop"
    """The second request is not acknowledged: retransmissions mount."""
    ACKED_NO_ANSWER = "acked_no_answer"
    """The peer's kernel has it, but no answer comes: the server stalls."""
    FAILED = "failed"
    """Something else; ``detail`` says what."""

    @property
    def seen_while_idle(self) -> bool:
        """Whether the end was seen when it came, so that its time is exact."""
        return self in {Ending.FIN_WHILE_IDLE, Ending.RST_WHILE_IDLE, Ending.UNSOLICITED_DATA}

    @property
    def alive(self) -> bool:
        """Whether it tells nothing against the wait."""
        return self in {Ending.ALIVE, Ending.CANCELLED}


@dataclass(frozen=True, slots=True)
class Observation:
    """One connection: silent for ``idle`` seconds, and what became of it."""

    idle: float
    ending: Ending
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleFinding:
    """What a search found. The limit lies between ``low`` and ``high`` seconds; ``high`` None: none was found.

    ``survived`` is the longest wait after which a connection was alive.
    """

    low: float
    high: float | None
    ending: Ending | None
    detail: str
    survived: float
    connections: int

    @property
    def limit(self) -> float | None:
        """The limit: the middle of the bracket; None if there is none up to the longest wait."""
        return None if self.high is None else (self.low + self.high) / 2

    @property
    def error(self) -> float:
        """Half the width of the bracket, in seconds."""
        return 0.0 if self.high is None else (self.high - self.low) / 2

    @property
    def profiles(self) -> list[Profile]:
        """The well-known paths with this limit."""
        return [] if self.limit is None else matching(self.limit)

    @property
    def heartbeat(self) -> float | None:
        """The interval that keeps a connection alive: half the limit, in seconds."""
        return None if self.limit is None else self.limit / 2


class IdleSearch:
    """See the module.

    Args:
        shortest: The shortest wait in seconds.
        longest: The longest.
        connections: Connections of the first round, 2 to 15; later ones have one more.
        rounds: Rounds at most.
        precision: The relative width of the bracket at which the search is over.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        shortest: float = 1.0,
        longest: float = 65.0,
        connections: int = 12,
        rounds: int = 3,
        precision: float = 0.02,
    ) -> None:
        if not 0 < shortest < longest:
            raise ValueError(
                f"the shortest wait ({shortest:g} s) must be above 0 and below the longest ({longest:g} s)"
            )
        if not 2 <= connections <= MAX_CONNECTIONS:
            raise ValueError(f"connections={connections}: give 2 to {MAX_CONNECTIONS}")
        if rounds < 1:
            raise ValueError(f"rounds={rounds}: give at least 1")
        self._connections = connections
        self._rounds = rounds
        self._precision = precision
        self._ratio = (longest / shortest) ** (1 / (connections - 1))
        self._next = [shortest * self._ratio**number for number in range(connections)]
        self._longest = longest
        self._low = 0.0
        self._survived = 0.0
        self._failure: Observation | None = None
        self._exact: list[float] = []
        self._used = 0
        self.round = 0
        """Rounds that were made."""

    @property
    def duration(self) -> tuple[float, float]:
        """Seconds that the search will take: if an end is seen while waiting or there is none, and at the worst."""
        return self._longest, self._longest * (self._ratio + self._rounds - 1)

    @property
    def most_connections(self) -> int:
        """Connections that all rounds together open at most."""
        return self._connections + (self._rounds - 1) * (self._connections + 1)

    def waits(self) -> list[float]:
        """The waits of the next round in seconds, ascending; empty when the search is over."""
        return list(self._next)

    def is_pointless(self, wait: float, ended: Sequence[Observation], waiting: int) -> bool:
        """Whether a connection that is to wait for ``wait`` can be given up, by what has ``ended`` in this round.

        ``waiting`` counts those that still wait, it included.
        """
        failed = [one for one in ended if not one.ending.alive]
        if not failed or wait <= min(one.idle for one in failed):
            return False
        seen = sum(one.ending.seen_while_idle for one in failed)
        return seen == 0 or seen >= min(_SEEN, seen + waiting)

    def take(self, observations: Sequence[Observation]) -> None:
        """What became of the waits of a round."""
        self.round += 1
        self._used += len(observations)
        failed = [one for one in observations if not one.ending.alive]
        first = min(failed, key=lambda one: one.idle) if failed else None
        lived = [one.idle for one in observations if one.ending is Ending.ALIVE]
        self._survived = max([self._survived, *lived])
        if first is None:
            self._low = max([self._low, *lived])
            self._next = []
            return
        self._failure = first
        self._low = max([self._low, *(idle for idle in lived if idle <= first.idle)])
        if first.ending.seen_while_idle:
            self._exact = sorted(one.idle for one in failed if one.ending is first.ending)
            self._next = []
        elif self.round >= self._rounds or (first.idle - self._low) / first.idle < self._precision:
            self._next = []
        else:
            step = (first.idle - self._low) / (self._connections + 1)
            self._next = [self._low + step * (number + 1) for number in range(self._connections)] + [first.idle]

    def finding(self) -> IdleFinding:
        """What is known by now."""
        failure = self._failure
        low, high = self._low, None
        if failure is not None:
            high = failure.idle
            if self._exact:
                middle, spread = statistics.median(self._exact), self._exact[-1] - self._exact[0]
                low, high = middle - spread / 2, middle + spread / 2
        return IdleFinding(
            low=low,
            high=high,
            ending=None if failure is None else failure.ending,
            detail="" if failure is None else failure.detail,
            survived=self._survived,
            connections=self._used,
        )
