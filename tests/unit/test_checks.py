"""What is refused as a setting, at its bounds, and what the refusal says."""

from __future__ import annotations

import math

import pytest

from holdwire.policy.checks import (
    check_count,
    check_flag,
    check_observers,
    check_seconds,
    check_share,
    check_type,
    socket_options_of,
    split_url,
)


@pytest.mark.parametrize("value", [2, 2.0, 7.5, 9])
def test_numbers_of_seconds_up_to_both_bounds_are_taken(value: float) -> None:
    check_seconds("Owner", "wait", value, least=2, most=9, hint="try 5")


@pytest.mark.parametrize("value", [1.99, 9.01, math.nan, math.inf, -math.inf])
def test_seconds_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"^Owner: wait=.* is out of range, it must be from 2 to 9 seconds; try 5$"):
        check_seconds("Owner", "wait", value, least=2, most=9, hint="try 5")


def test_without_an_upper_bound_none_is_told() -> None:
    check_seconds("Owner", "wait", 1e300, least=2, hint="try 5")
    with pytest.raises(ValueError, match="it must be at least 2 seconds; try 5"):
        check_seconds("Owner", "wait", math.inf, least=2, hint="try 5")


@pytest.mark.parametrize("value", [True, "3", None])
def test_what_is_no_number_is_refused_by_its_type(value: object) -> None:
    kind = type(value).__name__
    with pytest.raises(TypeError, match=f"^Owner: wait must be a number of seconds, not {kind}; try 5$"):
        check_seconds("Owner", "wait", value, least=0, hint="try 5")
    with pytest.raises(TypeError, match=f"^Owner: part must be a number from 0 to 1, not {kind}; try 0.5$"):
        check_share("Owner", "part", value, hint="try 0.5")
    with pytest.raises(TypeError, match=f"^Owner: times must be a whole number, not {kind}; try 5$"):
        check_count("Owner", "times", value, least=0, hint="try 5")


def test_shares_go_from_0_to_1() -> None:
    for share in (0, 0.5, 1):
        check_share("Owner", "part", share, hint="try 0.5")
    for share in (-0.01, 1.01):
        with pytest.raises(ValueError, match="it must be from 0 to 1; try"):
            check_share("Owner", "part", share, hint="try 0.5")


def test_a_count_is_whole_and_may_be_the_least() -> None:
    check_count("Owner", "times", 3, least=3, hint="try 5")
    with pytest.raises(ValueError, match="times=2 is too small, it must be at least 3; try 5"):
        check_count("Owner", "times", 2, least=3, hint="try 5")
    with pytest.raises(TypeError, match="not float"):
        check_count("Owner", "times", 3.0, least=3, hint="try 5")


def test_a_type_is_named_in_words_and_none_by_its_name() -> None:
    check_type("Owner", "name", "x", str, give="a string")
    check_flag("Owner", "on", value=False)
    with pytest.raises(TypeError, match=r"^Owner: name must be a string, not None$"):
        check_type("Owner", "name", None, str, give="a string")
    with pytest.raises(TypeError, match=r"^Owner: on must be True or False, not str$"):
        check_flag("Owner", "on", "no")


@pytest.mark.parametrize("text", ["http://u:secret@host:port", "http://u:secret@host:99999", "http://u:secret@[::1"])
def test_a_url_that_cannot_be_read_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a URL$") as caught:
        split_url(text, otherwise="not a URL")
    assert caught.value.__suppress_context__  # a traceback would show what the standard library said


def test_a_url_comes_apart() -> None:
    assert split_url("http://host:8080/x", otherwise="not a URL").port == 8080


def test_socket_options_may_come_from_a_generator_and_have_three_or_four_parts() -> None:
    options = ((1, 2, 3), (1, 2, None, 4))
    assert socket_options_of(option for option in options) == options
    assert socket_options_of([]) == ()


@pytest.mark.parametrize("wrong", [(1, 2), (1, 2, 3, 4, 5), [1, 2, 3], "abc", 7])
def test_what_is_no_socket_option_is_refused_and_shown(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"^socket_options: give setsockopt's arguments as tuples .*, not .") as caught:
        socket_options_of([(1, 2, 3), wrong])
    assert str(caught.value).endswith(f"not {wrong!r}")


def test_one_socket_option_that_is_no_list_is_refused() -> None:
    with pytest.raises(TypeError, match=r"not 7$"):
        socket_options_of(7)


def test_observers_come_in_a_list() -> None:
    check_observers([])
    with pytest.raises(TypeError, match=r"^observers=7: give a list of observers, \[observer\]$"):
        check_observers(7)
