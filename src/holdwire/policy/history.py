"""``OriginHistory``: what the connections to one origin went through, as far as it explains the next failure.

Told of every end of an idle connection and every failure; of requests that go well only those that found a
connection alive after a long silence. Memory is bounded. Times are seconds of a monotonic clock and come in as
arguments. Not responsible for the words (``cause``) or for the arithmetic of idle ages (``idle_limit``).
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final

from .cause import Clues, explain
from .idle_limit import MOMENT, YOUNG, IdleLimit
from .kind import Category, Kind
from .phase import Delivery, Phase

if TYPE_CHECKING:
    from .failure import Failure
    from .idle_limit import IdleEstimate

__all__ = ["OriginHistory"]

_ENDED: Final = frozenset({Kind.CONNECTION_RESET, Kind.UNEXPECTED_EOF, Kind.BROKEN_PIPE, Kind.CONNECTION_ABORTED})
_FORGOTTEN: Final = frozenset({Kind.TIMED_OUT, Kind.HEARTBEAT_LOST})
"""How a connection ends that the path forgot without a word; its idle age counts where a request found that out. At
rest it does not: keepalive notices such a death at an idle age of its own."""
_FIRST_USE: Final = frozenset({Phase.REQUEST_HEADERS, Phase.REQUEST_BODY, Phase.RESPONSE_WAIT})


def _outlived_silence(failure: Failure) -> bool:
    """Whether the connection of a request is known to have been alive when the request came."""
    if failure.phase is Phase.RESPONSE_BODY or failure.delivery is Delivery.ANSWERED:
        return True
    # who forgets a connection acknowledges nothing
    return failure.kind in _FORGOTTEN and failure.delivery is Delivery.ACKED


class _End(enum.Enum):
    """In which ways an origin shows that it goes away; several at one moment have one cause."""

    RESTING = enum.auto()
    BUSY = enum.auto()
    ANNOUNCED = enum.auto()
    REFUSED = enum.auto()
    MIXED = enum.auto()
    """Connections of different idle ages."""


class OriginHistory:
    """See the module."""

    __slots__ = (
        "_answered_at",
        "_ends",
        "_estimate",
        "_idle",
        "_known",
        "_streak",
        "_streak_of",
        "last_failure",
    )

    def __init__(self) -> None:
        self._idle = IdleLimit()
        self._ends: dict[_End, float] = {}
        """When each was seen last."""
        self._known = 0
        self._estimate: IdleEstimate | None = None
        self._streak = 0
        self._streak_of: tuple[Kind, Phase, int] | None = None
        self._answered_at: float | None = None
        self.last_failure: Failure | None = None

    def answered(self, at: float) -> None:
        """The origin answered a request then."""
        self._answered_at = at if self._answered_at is None else max(self._answered_at, at)

    def survived(self, now: float, *, idle: float) -> None:
        """A connection was found alive after ``idle`` seconds of silence."""
        if idle >= YOUNG:
            self._idle.survived(now, idle=idle)

    def ended_idle(self, now: float, *, idle: float, failure: Failure | None) -> None:
        """A connection that no request used was ended by its peer, or by ``failure``, and that was noticed."""
        if failure is None or failure.kind in _ENDED:
            if failure is not None:  # that a peer ends an idle connection in good order says nothing
                self._ends[_End.RESTING] = now
            self._idle.died(now, idle=idle)

    def told_to_leave(self, now: float) -> None:
        """The origin has announced that it ends a connection: GOAWAY came."""
        self._disturbed(now, _End.ANNOUNCED)

    def _disturbed(self, now: float, end: _End) -> None:
        self._ends[end] = now
        self._idle.disturbed(now)

    def failed(self, now: float, failure: Failure, *, idle: float, answers: int) -> Failure:
        """Take note of a failure, and explain it.

        Args:
            now: When.
            failure: What happened.
            idle: How long its connection had been idle, before the request if there was one; 0 if it was fresh.
            answers: How many requests the origin has answered so far.
        """
        if failure.category in {Category.INTENTIONAL, Category.NOT_AN_ERROR}:
            return failure
        if _outlived_silence(failure):  # and died of something else
            idle = 0.0
        at_rest = failure.phase in {Phase.IDLE, Phase.POOL}
        others = self._others(now, _End.RESTING if at_rest else _End.BUSY) if at_rest or failure.reused else set[_End]()
        if not at_rest:
            self._learn(now, failure, idle=idle)
        return self._explained(now, failure, others, idle=idle, answers=answers)

    def stream_failed(self, now: float, failure: Failure, *, idle: float, used: bool, answers: int) -> Failure:
        """The same for an established stream, of which nobody knows when it is asked something.

        ``idle`` is how long it had been silent; ``used`` if we have broken that silence then, and nothing was heard
        since.
        """
        if failure.category in {Category.INTENTIONAL, Category.NOT_AN_ERROR}:
            return failure
        at_rest = idle >= YOUNG and not used
        if at_rest:
            self.ended_idle(now, idle=idle, failure=failure)
        others = self._others(now, _End.RESTING if at_rest else _End.BUSY)
        if failure.kind in _ENDED | _FORGOTTEN and not at_rest:
            if idle >= YOUNG:
                self._idle.died(now, idle=idle, watched=False)
            else:
                self._disturbed(now, _End.BUSY)
        return self._explained(now, failure, others, idle=idle, answers=answers)

    def _others(self, now: float, this: _End) -> set[_End]:
        """In which other ways the origin went away just now: one end after another of a kind is the peer's habit."""
        # not over the dictionary: a client that is collected meanwhile tells of ends in this very thread
        found = {end for end in _End if now - self._ends.get(end, -math.inf) <= MOMENT and end is not this}
        return found | {_End.MIXED} if self._idle.is_mixed(now) else found

    def _explained(self, now: float, failure: Failure, others: set[_End], *, idle: float, answers: int) -> Failure:
        sort = (failure.kind, failure.phase, answers)
        self._streak = self._streak + 1 if sort == self._streak_of else 1
        self._streak_of = sort
        explained = explain(
            failure,
            Clues(
                idle=idle if idle >= YOUNG else None,
                limit=self.estimate(now) if idle >= YOUNG else None,
                answered=None if self._answered_at is None else now - self._answered_at,
                streak=self._streak,
                restarted=bool(others - {_End.REFUSED}),
                refused=_End.REFUSED in others,
            ),
        )
        self.last_failure = explained
        return explained

    def _learn(self, now: float, failure: Failure, *, idle: float) -> None:
        """What the failure of a request, or of a connect, says about idle ages."""
        if failure.kind is Kind.CONNECTION_REFUSED:
            self._disturbed(now, _End.REFUSED)
        elif failure.kind not in _ENDED | _FORGOTTEN or failure.phase.is_setup:
            return
        elif idle >= YOUNG and failure.reused and failure.phase in _FIRST_USE:
            self._idle.died(now, idle=idle, watched=False)
        else:  # it was busy, or had been until just now
            self._disturbed(now, _End.BUSY)

    def estimate(self, now: float) -> IdleEstimate | None:
        """The idle limit as far as it is known."""
        if self._known != self._idle.changes:
            self._known = self._idle.changes
            self._estimate = self._idle.estimate(now)
        return self._estimate

    def applies(self, now: float) -> float | None:
        """The idle time that ``learn="apply"`` sets now; None while the evidence does not suffice."""
        found = self._idle.applies(now, explicit_limits=False)
        return None if found is None else found.safe_idle
