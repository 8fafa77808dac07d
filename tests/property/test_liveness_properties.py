"""The liveness machine under any course of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdwire.policy.liveness import Liveness, State, Step

INTERVAL, TIMEOUT = 30.0, 20.0
events = st.lists(
    st.tuples(
        st.sampled_from(["read", "write", "pause", "resume", "suspect", "tick", "tick", "tick"]), st.floats(0, 40)
    ),
    max_size=80,
)


@given(events, st.sampled_from(["read", "write", "both"]))
def test_only_silence_after_a_probe_kills_and_no_second_probe_is_asked_for(  # noqa: C901 - one case each
    course: list[tuple[str, float]], direction: str
) -> None:
    live = Liveness(0.0, interval=INTERVAL, timeout=TIMEOUT, direction=direction, jitter=0)  # type: ignore[arg-type]
    now, last_read, last_probe, outstanding = 0.0, 0.0, -1.0, False
    for what, pause in course:
        now += pause
        match what:
            case "read":
                live.received(now)
                last_read, outstanding = now, False
            case "write":
                live.wrote(now)
            case "pause":
                live.pause(now)
                outstanding = False
            case "resume":
                live.resume(now)
            case "suspect":
                live.suspect(now)
                outstanding = outstanding and live.state is State.PAUSED
            case _:
                step = live.check(now)
                if step is Step.LOOK:
                    step = live.judge(now)
                    outstanding = outstanding and step is not Step.PROBE
                if step is Step.PROBE:
                    assert not outstanding
                    live.probed(now)
                    last_probe, outstanding = now, True
                if step is Step.DEAD:
                    assert now - last_read >= TIMEOUT
                    assert now - last_probe >= TIMEOUT
                    return
                assert live.state is not State.DEAD
                if live.state is not State.PAUSED:
                    assert live.due >= now


@given(st.floats(0, 1), st.floats(0.001, 1000))
def test_a_dead_peer_is_found_within_interval_and_timeout(dice: float, interval: float) -> None:
    live = Liveness(0.0, interval=interval, timeout=TIMEOUT, dice=dice)
    now = live.due
    assert live.check(now) is Step.PROBE
    live.probed(now)
    now = live.due
    assert live.check(now) is Step.LOOK
    assert live.judge(now) is Step.DEAD
    assert now <= 1.15 * interval + TIMEOUT + 1e-6
