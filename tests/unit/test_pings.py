"""HTTP/2 PINGs: the default schedule, the ledger, fixed intervals, the memory of too_many_pings."""

from __future__ import annotations

import math
from typing import Any

import pytest

from holdwire.policy.pings import PingMemory, Pings


def pings(**settings: Any) -> Pings:
    defaults: dict[str, Any] = {"jitter": 0.0}
    return Pings(0.0, **(defaults | settings))


def silence(one: Pings, until: float, *, streams: int = 1, rtt: float = 0.0) -> list[float]:
    """The times of the PINGs while nothing but their ACKs arrives."""
    times: list[float] = []
    while (now := one.due(streams=streams)) <= until:
        assert one.wants(now, streams=streams)
        one.sent(now, streams=streams)
        assert one.due(streams=streams) == math.inf  # one at a time
        one.received(now + rtt, data=False, ack=True)
        times.append(now)
    return times


def test_the_schedule_is_30_60_120_310() -> None:
    assert silence(pings(), 1200) == [30, 90, 210, 520, 830, 1140]


def test_silence_is_measured_from_the_last_byte_read() -> None:
    assert silence(pings(), 600, rtt=1.0) == [30, 91, 212, 523]
    one = pings()
    one.received(20, data=False)
    assert one.due(streams=1) == 50


def test_an_ack_does_not_start_the_schedule_over_and_data_does() -> None:
    one = pings()
    silence(one, 210)
    one.received(300, data=False)
    assert one.due(streams=1) == 610
    one.received(400, data=True)
    assert one.due(streams=1) == 430


def test_long_steps_are_jittered_only_upward() -> None:
    for dice, first, second in [(0, 25.5, 60), (0.5, 30, 64.5), (1, 34.5, 69)]:
        one = Pings(0.0, dice=dice)
        assert one.due(streams=1) == pytest.approx(first)
        one.sent(first, streams=1, dice=dice)
        one.received(first, data=False, ack=True)
        assert one.due(streams=1) == pytest.approx(first + second)
        one.received(first + 10, data=True, dice=dice)
        assert one.due(streams=1) == pytest.approx(10 + 2 * first)


def test_without_dice_an_interval_is_neither_short_nor_long() -> None:
    one = Pings(0.0)
    assert one.due(streams=1) == 30
    one.sent(30, streams=1)
    one.received(30, data=False)
    assert one.due(streams=1) == pytest.approx(30 + 64.5)
    one.received(40, data=True)
    assert one.due(streams=1) == 70


def test_nothing_is_sent_by_schedule_while_no_stream_is_open() -> None:
    assert pings().due(streams=0) == math.inf
    assert not pings().wants(1e6, streams=0)
    assert pings(while_idle=True).due(streams=0) == 30


def test_pings_of_an_idle_connection_lie_two_hours_apart_after_two_strikes() -> None:
    assert silence(pings(while_idle=True), 15_000, streams=0) == [30, 90, 210, 7420, 14_630]


def test_a_fixed_interval_replaces_the_schedule_and_goes_past_the_ledger() -> None:
    assert silence(pings(interval=60), 300) == [60, 120, 180, 240, 300]


def test_a_fixed_interval_is_at_least_ten_seconds_whatever_the_dice() -> None:
    assert pings(interval=1).due(streams=1) == 10
    assert Pings(0.0, interval=10, dice=0).due(streams=1) == 10
    assert [Pings(0.0, interval=100, dice=dice).due(streams=1) for dice in (0, 0.5, 1)] == pytest.approx([85, 100, 115])
    assert Pings(0.0, interval=0.1, floor=0.05, jitter=0).due(streams=1) == 0.1


@pytest.mark.parametrize(
    ("settings", "too_early", "late_enough"),
    [({}, 30.0, 30.1), ({"scale": 2}, 60.0, 60.1), ({"interval": 60}, 59.9, 60.0)],
)
def test_a_ping_goes_before_the_headers_after_silence(
    settings: dict[str, Any], too_early: float, late_enough: float
) -> None:
    one = pings(**settings)
    one.received(1000.0, data=False)
    assert not one.wants_first_use(1000.0 + too_early, streams=0)
    assert one.wants_first_use(1000.0 + late_enough, streams=0)


def test_a_ping_before_the_headers_leaves_the_schedule_where_it_is() -> None:
    one = pings()
    one.sent(30.1, streams=0, scheduled=False)
    assert not one.wants_first_use(99.0, streams=0)  # one is outstanding
    one.received(31, data=False, ack=True)
    assert one.due(streams=1) == 61  # the schedule stays where it is


def test_a_reset_stream_takes_a_ping_along_unless_one_is_outstanding() -> None:
    one = pings()
    assert one.wants_after_reset(1.0, streams=0)
    one.sent(1.0, streams=0, scheduled=False)
    assert not one.wants_after_reset(2.0, streams=0)


def test_two_strikes_are_allowed_and_no_third() -> None:
    one = pings()
    for now in (1.0, 2.0, 3.0):
        assert one.wants_after_reset(now, streams=1)
        one.sent(now, streams=1, scheduled=False)
        one.received(now + 0.5, data=False, ack=True)
    assert not one.wants_after_reset(4.0, streams=1)
    assert not one.wants_first_use(200.0, streams=1)
    assert one.due(streams=1) == 313  # the schedule waits for the ledger
    assert one.wants_after_reset(313.0, streams=1)
    assert not one.wants_after_reset(400.0, streams=0)  # without a stream it is two hours
    one.received(500.0, data=True)
    assert one.wants_after_reset(501.0, streams=0)


def test_data_that_crosses_a_ping_does_not_make_the_next_one_free() -> None:
    one = pings()
    one.sent(100.0, streams=1)
    one.received(100.1, data=True)  # sent before the server saw the PING, which is the free one
    one.received(100.2, data=False, ack=True)
    for now in (101.0, 102.0):
        assert one.allows(now, streams=1)
        one.sent(now, streams=1, scheduled=False)
        one.received(now, data=False, ack=True)
    assert not one.allows(103.0, streams=1)


def test_data_makes_a_ping_free_and_forgets_the_strikes() -> None:
    one = pings()
    for begin in (100.0, 200.0):
        for now in (begin, begin + 1, begin + 2):
            assert one.allows(now, streams=1)
            one.sent(now, streams=1, scheduled=False)
            one.received(now, data=False, ack=True)
        assert not one.allows(begin + 3, streams=1)
        one.received(begin + 3, data=True)


def test_an_origin_that_had_too_many_pings_is_left_alone_for_twice_as_long_after_two_strikes() -> None:
    one = pings(scale=2)
    for now in (1.0, 2.0, 3.0):
        one.sent(now, streams=1, scheduled=False)
        one.received(now, data=False, ack=True)
    assert [one.allows(now, streams=1) for now in (622.9, 623.0)] == [False, True]


def test_an_origin_with_too_many_pings_gets_half_as_many_for_ever() -> None:
    memory = PingMemory()
    assert memory.scale("a") == 1
    assert [memory.learn("a"), memory.learn("a")] == [2, 4]
    assert (memory.scale("a"), memory.scale("b")) == (4, 1)
    assert silence(pings(scale=memory.scale("a")), 900) == [120, 360, 840]
    assert silence(pings(scale=2, interval=60), 300) == [120, 240]


def test_the_memory_is_bounded_and_keeps_what_is_used() -> None:
    memory = PingMemory(size=2)
    for origin in ("a", "b"):
        memory.learn(origin)
    memory.scale("a")
    memory.learn("c")
    assert [memory.scale(origin) for origin in ("a", "b", "c")] == [2, 1, 2]
