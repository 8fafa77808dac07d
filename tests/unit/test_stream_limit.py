"""How long a stream of events may be silent, and how long without an event: in virtual time."""

from __future__ import annotations

import pytest

from holdwire.policy.stream_limit import StreamLimit


def after_pauses(*pauses: float) -> StreamLimit:
    """A stream whose limit is learnt, and on which bytes came after each of ``pauses``."""
    limit = StreamLimit(idle=None, progress=None)
    now = 100.0
    limit.begin(now)
    for pause in pauses:
        now += pause
        limit.heard(now, events=False)
    return limit


@pytest.mark.parametrize(
    ("pauses", "idle"),
    [
        ((), 90),
        ((10, 10), 90),
        ((10, 10, 10), 30),
        ((8, 10, 25), 30),
        ((2, 2, 2), 15),
        ((40, 40, 40), 90),
        ((0.9,) * 9, 90),  # a burst says nothing
        ((1, 1, 1), 15),
        ((10, 0.1, 0.1, 9.8, 10), 30),
        ((20,) * 9 + (10,) * 4, 60),
        ((20,) * 9 + (10,) * 5, 30),  # most of the last nine
    ],
)
def test_the_limit_for_silence_is_three_times_what_the_server_is_used_to(
    pauses: tuple[float, ...], idle: float
) -> None:
    assert after_pauses(*pauses).idle == pytest.approx(idle)


def test_a_limit_that_was_given_is_not_learnt() -> None:
    limit = StreamLimit(idle=5, progress=None)
    limit.begin(0.0)
    for at in (10.0, 20.0, 30.0):
        limit.heard(at, events=True)
    assert limit.idle == 5


def test_silence_is_measured_from_the_last_byte() -> None:
    limit = after_pauses(10, 10, 10)  # so that it is 130, and 30 s are allowed
    assert [limit.left(now) for now in (130, 140, 160, 161)] == pytest.approx([30, 20, 0, 0])


def test_comments_are_life_and_no_progress() -> None:
    limit = StreamLimit(idle=5, progress=8)
    limit.begin(0.0)
    limit.heard(2.0, events=False)
    assert (limit.left(3.0), "nothing was received for 5 s" in limit.reason) == (4.0, True)
    limit.heard(4.0, events=False)
    assert (limit.left(7.0), "no event was received for 8 s, only comments" in limit.reason) == (1.0, True)
    limit.heard(5.0, events=True)
    assert (limit.left(7.0), "nothing was received for 5 s" in limit.reason) == (3.0, True)


def test_a_stream_that_says_nothing_at_all_is_not_said_to_have_sent_comments() -> None:
    limit = StreamLimit(idle=8, progress=8)
    limit.begin(50.0)
    assert limit.left(58.0) == 0
    assert "nothing was received" in limit.reason


def test_a_new_connection_has_all_its_time() -> None:
    limit = StreamLimit(idle=5, progress=8)
    limit.begin(0.0)
    limit.heard(4.0, events=False)
    limit.begin(100.0)
    assert limit.left(100.0) == 5
    limit.heard(104.0, events=False)
    assert limit.left(104.0) == 4
