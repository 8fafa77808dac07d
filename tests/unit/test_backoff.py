"""The pauses: between connect rounds and between the reconnects of a session."""

from __future__ import annotations

from typing import Any

import pytest

from holdwire.policy.backoff import Backoff, connect_pause


@pytest.mark.parametrize(("rounds", "low", "high"), [(1, 0.1, 0.2), (2, 0.2, 0.4), (3, 0.4, 0.8)])
def test_connect_pauses_have_equal_jitter_and_double(rounds: int, low: float, high: float) -> None:
    assert connect_pause(rounds, spent=0, dice=0) == pytest.approx(low)
    assert connect_pause(rounds, spent=0, dice=1) == pytest.approx(high)


def test_connect_pauses_end_at_three_seconds() -> None:
    assert connect_pause(9, spent=2.9, dice=1) == pytest.approx(0.1)
    assert connect_pause(9, spent=3.0, dice=1) == 0


def test_the_first_reconnect_after_a_stable_connection_is_only_spread() -> None:
    assert [Backoff().after_stable(dice) for dice in (0, 1)] == [0, 0.25]


def test_the_first_pause_is_half_to_one_base() -> None:
    assert [Backoff().next(None, dice=dice) for dice in (0, 1)] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("last", "dice", "expected"), [(1, 0, 1), (1, 1, 3), (10, 0, 10), (10, 1, 30), (30, 0, 10), (30, 1, 30)]
)
def test_later_pauses_are_decorrelated(last: float, dice: float, expected: float) -> None:
    assert Backoff().next(last, dice=dice) == pytest.approx(expected)


def test_a_spread_of_nothing_does_not_make_a_fast_loop() -> None:
    assert Backoff().next(0.0, dice=0) >= 0.5


def test_an_overloaded_peer_gets_at_least_a_second() -> None:
    assert Backoff().next(None, dice=0, overloaded=True) == 1.0
    assert Backoff().next(20, dice=1, overloaded=True) == 30


def test_only_stability_or_a_message_starts_over() -> None:
    backoff = Backoff()
    assert not backoff.starts_over(9.9, last=None)
    assert backoff.starts_over(10, last=None)
    assert not backoff.starts_over(10, last=30)
    assert backoff.starts_over(0.1, last=30, heard=True)


@pytest.mark.parametrize("bad", [{"base": 0.0}, {"base": "1"}, {"cap": -1}, {"spread": -0.1}, {"spread": None}])
def test_a_bad_pause_is_refused_by_its_name(bad: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^Backoff: {next(iter(bad))}"):
        Backoff(**bad)


def test_the_shortest_base_and_no_spread_are_taken() -> None:
    assert Backoff(base=0.001, cap=0.001, spread=0).after_stable(1.0) == 0


def test_four_rounds_of_connecting_are_made() -> None:
    assert connect_pause(4, spent=1.0, dice=1.0) == connect_pause(4, spent=1.0, dice=1.0, of=4) == 1.6
    assert connect_pause(3, spent=2.6, dice=1.0) == pytest.approx(0.4), "one round is left for what is left"
    assert connect_pause(2, spent=2.6, dice=1.0) == pytest.approx(0.2), "two share it"


def test_a_cap_below_the_base_is_refused() -> None:
    with pytest.raises(ValueError, match="cap=1"):
        Backoff(base=2, cap=1)
