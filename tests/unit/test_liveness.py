"""The liveness machine with a fake clock: its states, its guards, its round-trip times."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import pytest

from holdwire.policy.liveness import Liveness, State, Step, was_suspended


def machine(**settings: Any) -> Liveness:
    defaults: dict[str, Any] = {"interval": 30.0, "timeout": 20.0, "jitter": 0.0}
    return Liveness(0.0, **(defaults | settings))


def probing(at: float = 30.0, **settings: Any) -> Liveness:
    live = machine(**settings)
    live.probed(at)
    return live


def test_silence_for_an_interval_calls_for_a_probe() -> None:
    live = machine()
    assert (live.check(29.9), live.due) == (Step.WAIT, 30.0)
    assert live.check(30.0) is Step.PROBE


def test_the_clock_starts_at_the_last_byte_received() -> None:
    live = machine()
    live.received(10.0)
    assert (live.check(30.0), live.due) == (Step.WAIT, 40.0)
    live.probed(40.0)
    live.received(41.0)
    assert (live.check(70.0), live.due) == (Step.WAIT, 71.0)


def test_only_one_probe_is_outstanding() -> None:
    live = probing(30.0)
    assert [live.check(now) for now in (30.0, 40.0, 49.9)] == [Step.WAIT] * 3
    assert live.due == 50.0


def test_any_byte_ends_a_probe() -> None:
    live = probing()
    live.received(49.9, reply=False)
    assert live.state is State.IDLE
    assert live.check(50.0) is Step.WAIT


def test_bytes_from_before_a_probe_are_no_answer_to_it() -> None:
    live = probing(40.0)
    assert live.received(5.0) is None  # the kernel gave them long ago, the reader takes them now
    assert (live.state, live.smoothed_rtt) == (State.PROBING, None)
    assert live.received(40.2) == pytest.approx(0.2)


def test_an_answer_within_the_same_tick_of_the_clock_is_an_answer() -> None:
    live = probing(40.0)
    assert live.received(40.0) == 0.0
    assert live.state is State.IDLE


def test_what_we_write_is_no_sign_of_life_of_the_peer() -> None:
    live = machine()
    live.wrote(20.0)
    assert live.check(30.0) is Step.PROBE


def test_a_probe_without_answer_is_death_after_a_look() -> None:
    live = probing()
    assert live.check(50.0) is Step.LOOK
    assert live.judge(50.0) is Step.DEAD
    assert (live.state, live.due) == (State.DEAD, math.inf)
    live.received(51.0)
    assert live.check(51.0) is Step.DEAD
    live.pause(52.0)
    live.resume(53.0)
    assert live.check(53.0) is Step.DEAD


def test_unread_bytes_are_life() -> None:
    live = probing()
    assert live.check(50.0) is Step.LOOK
    assert live.judge(50.0, unread=True) is Step.WAIT
    assert (live.state, live.due) == (State.IDLE, 80.0)
    assert live.smoothed_rtt is None


@pytest.mark.parametrize("guard", ["window_closed", "write_moving"])
def test_time_stands_still_while_the_probe_may_be_stuck(guard: str) -> None:
    live = probing()
    for now in (50.0, 60.0, 70.0):
        assert live.check(now) is Step.LOOK
        assert live.judge(now, **{guard: True}) is Step.WAIT
    assert live.due == 80.0
    live.received(75.0)
    assert live.smoothed_rtt is None  # 45 s were no round trip
    live.probed(110.0)
    assert live.check(130.0) is Step.LOOK
    assert live.judge(130.0) is Step.DEAD


def test_a_probe_that_was_not_stuck_is_timed_again() -> None:
    live = probing()
    live.judge(50.0, write_moving=True)
    live.received(55.0)
    live.probed(90.0)
    assert live.received(90.5) == 0.5


def test_a_late_look_from_before_time_stood_still_saves_nobody_afterwards() -> None:
    live = probing()
    live.judge(70.0, window_closed=True)
    assert live.check(90.0) is Step.LOOK
    assert live.judge(90.0) is Step.DEAD


def test_a_stalled_loop_probes_again_instead_of_killing() -> None:
    live = probing()
    assert live.check(50.0) is Step.LOOK
    assert live.judge(50.0, stalled=10.1) is Step.PROBE
    assert (live.due, live.check(50.0)) == (50.0, Step.PROBE)
    live.probed(50.0)
    assert live.check(70.0) is Step.LOOK
    assert live.judge(70.0) is Step.DEAD


def test_a_late_look_is_a_stalled_loop_too() -> None:
    live = probing()
    assert live.check(60.1) is Step.LOOK
    assert live.judge(60.1) is Step.PROBE
    assert live.due == 60.1


def test_a_stalled_loop_probes_again_though_the_interval_has_not_passed() -> None:
    live = machine()
    live.suspect(5.0)
    live.probed(5.0)
    assert live.check(25.0) is Step.LOOK
    assert live.judge(25.0, stalled=10.1) is Step.PROBE
    assert live.check(25.0) is Step.PROBE


def test_a_short_stall_saves_nobody() -> None:
    live = probing()
    assert live.check(50.5) is Step.LOOK
    assert live.judge(50.5, stalled=9.5) is Step.DEAD, "half of the time-out"


def test_a_host_that_slept_probes_at_once() -> None:
    live = machine()
    live.suspect(5.0)
    assert live.due == 5.0
    assert (live.check(5.0), live.due) == (Step.PROBE, 5.0)
    live.probed(5.0)
    live.received(5.1)
    assert (live.check(6.0), live.due) == (Step.WAIT, 35.1)


def test_a_suspicion_asks_for_one_probe_only() -> None:
    live = machine()
    live.suspect(5.0)
    live.probed(5.0)
    live.pause(6.0)  # nobody reads what the probe brings
    live.resume(8.0)
    assert live.due == 32.0


def test_a_probe_from_before_the_sleep_is_void() -> None:
    live = probing()
    live.suspect(5000.0)
    assert live.check(5000.0) is Step.PROBE
    live.probed(5000.0)
    assert (live.check(5000.0), live.due) == (Step.WAIT, 5020.0)


@pytest.mark.parametrize(
    ("monotonic", "boottime", "slept"), [(10, 10, False), (10, 12, False), (10, 12.1, True), (10, 600, True)]
)
def test_sleep_is_what_only_boot_time_counts(monotonic: float, boottime: float, *, slept: bool) -> None:
    assert was_suspended(monotonic, boottime) is slept


@pytest.mark.parametrize("direction", ["read", "write", "both"])
def test_a_paused_reader_kills_nobody(direction: str) -> None:
    live = machine(direction=direction)
    live.pause(20.0)
    assert (live.check(500.0), live.due) == (Step.WAIT, math.inf)
    assert live.judge(500.0) is Step.WAIT
    live.pause(400.0)
    live.resume(500.0)
    assert live.due == 510.0  # 20 of 30 seconds of silence had passed
    assert live.check(510.0) is Step.PROBE


def test_a_pause_makes_the_outstanding_probe_void() -> None:
    live = probing()
    live.pause(40.0)
    assert live.check(60.0) is Step.WAIT
    live.resume(60.0)
    assert live.check(60.0) is Step.PROBE


def test_a_probe_that_we_wrote_before_a_pause_counts_as_written() -> None:
    live = probing(30.0, direction="write")
    live.pause(40.0)
    live.resume(500.0)
    assert live.due == 520.0


@pytest.mark.parametrize("direction", ["read", "write"])
def test_bytes_of_a_pause_do_not_lie_in_the_future_after_it(direction: str) -> None:
    live = machine(direction=direction)
    live.pause(10.0)
    live.received(95.0)
    live.wrote(95.0)
    live.resume(100.0)
    assert live.due == 130.0


def test_the_interval_is_jittered_by_fifteen_percent() -> None:
    assert [Liveness(0.0, interval=100.0, dice=dice).due for dice in (0, 0.5, 1)] == pytest.approx([85, 100, 115])
    live = Liveness(0.0, interval=100.0)
    live.probed(100.0, dice=1)
    live.received(101.0)
    live.check(101.0)
    assert live.due == pytest.approx(101 + 115)


def test_without_dice_an_interval_is_neither_short_nor_long() -> None:
    live = Liveness(0.0, interval=100.0)
    assert live.due == 100
    live.probed(100.0)
    assert live.due == 120, "20 s are the patience that is not asked for"
    live.received(101.0)
    live.check(101.0)
    assert live.due == 201


def test_round_trips_are_recorded_and_smoothed() -> None:
    live = probing(30.0)
    live.received(30.8)
    assert live.smoothed_rtt == pytest.approx(0.8)
    live.probed(61.0)
    live.received(62.6)
    assert live.last_rtt == pytest.approx(1.6)
    assert live.smoothed_rtt == pytest.approx(0.9)


def test_a_slow_path_gets_four_round_trips_and_an_allowance() -> None:
    for allowance, settings in ((0.5, {}), (0.1, {"allowance": 0.1})):
        live = probing(30.0, timeout=1.0, **settings)
        live.received(30.8)
        live.probed(61.0)
        assert live.due == pytest.approx(61.0 + 4 * 0.8 + allowance)


def test_writing_counts_where_the_peer_wants_to_hear_from_us() -> None:
    live = machine(direction="write")
    live.received(25.0)
    assert live.check(30.0) is Step.PROBE  # MQTT: nothing was sent for the whole interval
    live.wrote(20.0)
    assert (live.check(30.0), live.due) == (Step.WAIT, 50.0)
    live.probed(50.0)
    live.received(51.0)
    live.check(51.0)
    assert live.due == 80.0


def test_both_directions_together_wait_for_silence_in_both() -> None:
    live = machine(direction="both")
    live.received(10.0)
    live.wrote(20.0)
    assert (live.check(40.0), live.due) == (Step.WAIT, 50.0)


def test_beats_that_are_due_soon_go_out_together() -> None:
    live = machine()
    assert live.check(29.85, slack=0.1) is Step.WAIT
    assert live.check(29.95, slack=0.1) is Step.PROBE


def test_without_an_interval_it_only_watches_probes() -> None:
    live = machine(interval=None)
    assert (live.check(1e6), live.due) == (Step.WAIT, math.inf)
    live.probed(1e6)
    assert live.check(1e6 + 20) is Step.LOOK


def test_a_beat_leaves_no_memory_behind() -> None:
    live = machine()
    base = 1000.0
    tracemalloc.start()
    try:
        for beat in range(2000):
            now = base + beat * 31.0
            live.check(now)
            live.probed(now)
            live.received(now + 0.1)
        first = tracemalloc.get_traced_memory()[0]
        for beat in range(2000, 4000):
            now = base + beat * 31.0
            live.check(now)
            live.probed(now)
            live.received(now + 0.1)
        assert tracemalloc.get_traced_memory()[0] - first < 1000
    finally:
        tracemalloc.stop()
    assert not hasattr(live, "__dict__")
