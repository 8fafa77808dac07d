"""Whatever mix of PINGs is asked for, a default gRPC server counts no third strike in 24 hours."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdwire.policy.pings import Pings

DAY = 86_400.0


class Server:
    """The rules of gRPC's servers: of the Go one, or as written in A8 (since the last *valid* PING)."""

    def __init__(self, *, since_valid: bool) -> None:
        self.since_valid = since_valid
        self.strikes = 0
        self.last = -math.inf
        self.free = True

    def ping(self, now: float, streams: int) -> None:
        strike = not self.free and now < self.last + (300 if streams else 7200)
        self.free = False
        self.strikes += strike
        if not (strike and self.since_valid):
            self.last = now

    def data(self) -> None:
        self.strikes = 0
        self.free = True


steps = st.lists(
    st.tuples(
        st.sampled_from(["wait", "schedule", "first_use", "reset", "open", "close", "data", "crossing", "other"]),
        st.floats(0, 1) | st.floats(0, 60) | st.floats(0, 800) | st.floats(0, 9000),
        st.floats(0, 1),
    ),
    max_size=120,
)


@pytest.mark.parametrize("since_valid", [False, True])
@settings(max_examples=400)
@given(steps=steps, while_idle=st.booleans())
def test_no_third_strike_whatever_is_asked_for(  # noqa: C901 - one case for each event
    *, since_valid: bool, steps: list[tuple[str, float, float]], while_idle: bool
) -> None:
    server, pings, now, streams = Server(since_valid=since_valid), Pings(0.0, while_idle=while_idle), 0.0, 0

    def ping(at: float, dice: float, *, scheduled: bool, crossing: bool = False) -> None:
        if crossing:
            server.data()
        server.ping(at + 4, streams)  # four seconds on the way; the next one may take none
        pings.sent(at, streams=streams, scheduled=scheduled, dice=dice)
        if crossing:
            pings.received(at, data=True, dice=dice)
        pings.received(at, data=False, ack=True)
        assert server.strikes <= 2

    for what, pause, dice in steps:
        now += pause
        if now > DAY:
            break
        match what:
            case "schedule" if (due := pings.due(streams=streams)) < math.inf:
                now = max(now, due)
                assert pings.wants(now, streams=streams)
                ping(now, dice, scheduled=True)
            case "first_use" if pings.wants_first_use(now, streams=streams):
                ping(now, dice, scheduled=False)
                streams += 1
            case "reset" if streams:
                streams -= 1
                if pings.wants_after_reset(now, streams=streams):
                    ping(now, dice, scheduled=False)
            case "crossing" if pings.wants_after_reset(now, streams=streams):
                ping(now, dice, scheduled=False, crossing=True)
            case "open":
                streams += 1
            case "close":
                streams = max(0, streams - 1)
            case "data" if streams:
                server.data()
                pings.received(now, data=True, dice=dice)
            case "other":
                pings.received(now, data=False)
            case _:
                pass


@given(st.lists(st.floats(0, 1), min_size=1, max_size=400), st.floats(0, 5))
def test_a_day_of_silence_under_one_stream_brings_no_third_strike(dice: list[float], rtt: float) -> None:
    server, pings = Server(since_valid=False), Pings(0.0, dice=dice[0])
    count = 0
    while (now := pings.due(streams=1)) < DAY:
        server.ping(now, 1)
        pings.sent(now, streams=1, dice=dice[count % len(dice)])
        pings.received(now + rtt, data=False, ack=True)
        count += 1
        assert server.strikes <= 2
    assert count > 230
