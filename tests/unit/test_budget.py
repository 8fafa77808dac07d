"""The budget: its share, its floor and its window."""

from __future__ import annotations

from typing import Any

import pytest

from holdwire.policy.budget import Budget


def test_a_quiet_origin_gets_one_retry_for_each_second_of_the_window() -> None:
    budget = Budget()
    assert budget.available(100.0) == 10
    assert [budget.withdraw(100.0) for _ in range(11)] == [True] * 10 + [False]


def test_a_fifth_of_the_requests_may_be_retries() -> None:
    budget = Budget(floor=0)
    for _ in range(14):
        budget.deposit(5.0)
    assert budget.available(5.0) == 2
    budget.deposit(5.0)
    assert [budget.withdraw(5.0) for _ in range(4)] == [True, True, True, False]


def test_tokens_come_back_when_the_window_has_passed() -> None:
    budget = Budget()
    while budget.withdraw(0.5):
        pass
    assert budget.available(9.9) == 0
    assert budget.available(10.5) == 10


def test_requests_leave_the_window_too() -> None:
    budget = Budget(floor=0)
    for _ in range(50):
        budget.deposit(1.0)
    assert budget.available(10.9) == 10
    assert budget.available(11.1) == 0


def test_a_long_pause_empties_the_window() -> None:
    budget = Budget(floor=0)
    for _ in range(50):
        budget.deposit(1.0)
    assert budget.available(1e9) == 0


def test_a_clock_that_goes_back_a_little_breaks_nothing() -> None:
    budget = Budget()
    budget.deposit(100.0)
    assert budget.withdraw(98.0)
    assert budget.available(100.0) == 9


@pytest.mark.parametrize("bad", [{"share": 1.5}, {"share": -0.1}, {"floor": -1}, {"window": 0}])
def test_a_bad_setting_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Budget"):
        Budget(**bad)
