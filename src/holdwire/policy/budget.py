"""``Budget``: how many retries an origin gets, as a share of its requests, so that retries cannot multiply a storm.

``RetryBudget`` holds one for each origin. Not responsible for which retries cost something (``retry``). Every operation
takes the time and is O(1). Threads that share a budget can lose a count to each other, never more: nothing is summed
up over time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .checks import check_number, check_seconds, check_share

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Budget", "RetryBudget"]

_SLOTS: Final = 10
_ORIGINS: Final = 1024
"""The origins that are remembered; beyond it the one that was met first starts anew."""


class Budget:
    """A sliding window in ten slots: retries may be ``share`` of the requests in it plus ``floor`` for each second.

    The shape is Finagle's. Each first attempt is a ``deposit``, each retry with a cost a ``withdraw``; free retries
    do neither. Times are seconds of any clock that does not go back.

    Raises:
        TypeError: A setting is not a number.
        ValueError: A setting is out of range.
    """

    __slots__ = ("_floor", "_requests", "_retries", "_share", "_slot", "_width")

    def __init__(self, *, share: float = 0.2, floor: float = 1.0, window: float = 10.0) -> None:
        check_share("Budget", "share", share, hint="0.2 lets one retry follow five requests")
        check_seconds("Budget", "window", window, least=0.1, hint="10 is the default")
        what = "a number of retries a second"
        check_number("Budget", "floor", floor, what=what, span="at least 0", least=0, hint="1 is the default")
        self._share = share
        self._floor = floor * window
        self._width = window / _SLOTS
        self._slot = 0
        self._requests = [0] * _SLOTS
        self._retries = [0] * _SLOTS

    def deposit(self, now: float) -> None:
        """A first attempt was made."""
        self._requests[self._at(now)] += 1

    def withdraw(self, now: float) -> bool:
        """Take one retry; False if there is none left."""
        at = self._at(now)
        if self._left() < 1:
            return False
        self._retries[at] += 1
        return True

    def available(self, now: float) -> int:
        """How many retries could be taken now."""
        self._at(now)
        return max(0, int(self._left()))

    def _left(self) -> float:
        # rounded: 0.2 * 15 must not lose a token to binary fractions
        return round(sum(self._requests) * self._share + self._floor - sum(self._retries), 9)

    def _at(self, now: float) -> int:
        """The index of the slot of ``now``, after emptying the slots that have left the window."""
        slot = int(now / self._width)
        if slot > self._slot:
            for passed in range(max(self._slot + 1, slot - _SLOTS + 1), slot + 1):
                self._requests[passed % _SLOTS] = self._retries[passed % _SLOTS] = 0
            self._slot = slot
        return self._slot % _SLOTS


class RetryBudget:
    """A ``Budget`` for each origin, with the same settings; given to several retry policies, they share it.

    Raises:
        TypeError: A setting is not a number.
        ValueError: A setting is out of range.
    """

    __slots__ = ("_budgets", "_floor", "_share", "_window")

    def __init__(self, *, share: float = 0.2, floor: float = 1.0, window: float = 10.0) -> None:
        Budget(share=share, floor=floor, window=window)  # its checks, now rather than at the first request
        self._share = share
        self._floor = floor
        self._window = window
        self._budgets: dict[Hashable, Budget] = {}

    def of(self, origin: Hashable) -> Budget:
        """The budget of ``origin``: whatever tells origins apart."""
        budget = self._budgets.get(origin)
        if budget is None:
            if len(self._budgets) >= _ORIGINS:
                self._budgets.pop(next(iter(self._budgets)), None)
            budget = self._budgets.setdefault(origin, Budget(share=self._share, floor=self._floor, window=self._window))
        return budget
