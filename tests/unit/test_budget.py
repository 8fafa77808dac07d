"""The budget: its share, its floor and its window."""

from __future__ import annotations

from typing import Any

import pytest

from holdwire.policy.budget import Budget, RetryBudget


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


def test_the_window_moves_by_a_tenth_of_itself() -> None:
    budget = Budget(floor=0, share=1, window=10)
    for second in range(10):
        budget.deposit(second)
    assert [budget.available(second) for second in (9.9, 10, 11, 18.5, 19)] == [10, 9, 8, 1, 0]


def test_a_wider_window_gives_more_of_the_floor_and_later() -> None:
    budget = Budget(floor=1, share=0, window=20)
    assert [budget.withdraw(0) for _ in range(21)] == [True] * 20 + [False]
    assert [budget.available(second) for second in (19.9, 20)] == [0, 20]


def test_a_retry_belongs_to_the_slot_in_which_it_was_taken() -> None:
    budget = Budget(floor=1, share=0, window=10)
    assert all(budget.withdraw(second) for second in range(10))
    assert [budget.available(second) for second in (9.5, 10, 12)] == [0, 1, 3]


def test_no_more_than_a_thousand_origins_are_remembered() -> None:
    budgets = RetryBudget(floor=1, window=10)
    first = budgets.of("first")
    for number in range(1023):
        budgets.of(number)
    assert budgets.of("first") is first
    budgets.of("one more")
    assert len(budgets._budgets) == 1024
    assert budgets.of("first") is not first


def test_without_settings_an_origin_has_the_budget_of_the_documentation() -> None:
    budget = RetryBudget().of("x")
    assert budget.available(0) == 10
    for _ in range(5):
        budget.deposit(0)
    assert [budget.available(second) for second in (0, 9.9, 10)] == [11, 11, 10]


def test_the_shortest_window_and_the_least_floor_are_taken() -> None:
    budget = RetryBudget(share=0, floor=0, window=0.1).of("x")
    assert budget.available(0.0) == 0


@pytest.mark.parametrize("bad", [{"share": 1.5}, {"share": -0.1}, {"floor": -1}, {"window": 0}])
def test_a_bad_setting_is_refused(bad: dict[str, Any]) -> None:
    for cls in (Budget, RetryBudget):
        with pytest.raises(ValueError, match="Budget"):
            cls(**bad)
