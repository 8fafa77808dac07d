"""The heartbeat of a connection against a server with gRPC's default limits, hours of it on a clock of its own."""

from __future__ import annotations

import heapq
import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdwire.events import Observers
from holdwire.http import h2_heartbeat
from holdwire.http.h2_heartbeat import PingHeartbeat
from holdwire.http.h2_settings import Http2Settings
from holdwire.http.messages import Origin
from holdwire.policy.flight import Flight
from holdwire.policy.settings import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable

LATENCY = 0.05
FIVE_MINUTES, TWO_HOURS, STRIKES = 300.0, 7200.0, 2


class World:
    """A clock, its timers, a connection, and a server at the end of a wire with some latency."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.origin = Origin("https", "grpc.test", 443)
        self.wire: Any = SimpleNamespace(id="1", bytes_out=0, undelivered=lambda: 0, facts=dict, flight=Flight())
        self.active = 0
        self.dead = ""
        self.pings: list[float] = []
        self.answering = True
        self._valid_at = -1e9
        self._strikes = 0
        self.sent_away = False
        self.heartbeat: PingHeartbeat

    # the runtime
    def call_later(self, delay: float, callback: Callable[[], object]) -> Any:
        entry: list[Callable[[], object]] = [callback]

        def fire() -> None:
            for one in entry:
                one()

        heapq.heappush(self._timers, (self.now + delay, next(self._order), fire))
        return SimpleNamespace(cancel=entry.clear)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, callback = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            callback()
        self.now = end

    # the connection
    def send_ping(self, payload: bytes) -> None:
        self.pings.append(self.now)
        streams = self.active  # those that the server will have open: frames arrive in order
        self.call_later(LATENCY, lambda: self._arrives(payload, streams))

    def flush(self) -> None:
        pass

    def peer_is_dead(self, detail: str) -> None:
        self.dead = detail

    # the server: grpc-go, http2_server.go, handlePing
    def _arrives(self, payload: bytes, streams: int) -> None:
        least = FIVE_MINUTES if streams else TWO_HOURS
        if self.now < self._valid_at + least:
            self._strikes += 1
        self._valid_at = self.now
        self.sent_away = self.sent_away or self._strikes > STRIKES
        if self.answering:
            self.call_later(LATENCY, lambda: self._answered(payload))

    def _answered(self, payload: bytes) -> None:
        self.heartbeat.answered(self.now, payload)
        self.heartbeat.received(self.now, data=False)

    def data(self) -> None:
        """The server sends HEADERS or DATA, which forgives everything."""
        self._strikes = 0
        self._valid_at = -1e9
        self.call_later(LATENCY, lambda: self.heartbeat.received(self.now, data=True))

    def open_stream(self) -> None:
        self.heartbeat.opening(self.now, self.active)
        self.active += 1

    def reset_stream(self) -> None:
        if self.active:
            self.active -= 1
            self.heartbeat.resetting(self.now, self.active)


def world(patch: pytest.MonkeyPatch, heartbeat: Heartbeat | None = None) -> World:
    made = World()
    patch.setattr(h2_heartbeat, "time", SimpleNamespace(monotonic=lambda: made.now))
    runtime: Any = made
    made.heartbeat = PingHeartbeat(made, Http2Settings(heartbeat=heartbeat), runtime=runtime, notify=Observers())
    return made


def test_a_request_that_waits_for_a_day_is_watched_and_the_server_is_not_annoyed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = world(monkeypatch)
    made.open_stream()
    made.run(86_400)
    assert not made.sent_away
    assert not made.dead
    gaps = [after - before for before, after in itertools.pairwise([1000.0, *made.pings])]
    assert [round(gap) for gap in gaps[:3]] == [
        pytest.approx(30, abs=5),
        pytest.approx(64, abs=6),
        pytest.approx(128, abs=12),
    ]
    assert max(gaps) < 310 * 1.15 + 1
    assert len(made.pings) > 86_400 / 360


def test_a_fixed_interval_of_a_minute_is_the_users_wish_and_such_a_server_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = world(monkeypatch, Heartbeat(interval=60))
    made.open_stream()
    made.run(400)
    assert made.sent_away


def test_death_is_found_by_the_first_ping_that_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(monkeypatch)
    made.open_stream()
    made.run(300)
    made.answering = False
    before = len(made.pings)
    made.run(400)
    assert len(made.pings) == before + 1
    assert "nothing came for 20.0 s" in made.dead
    assert "earlier ones were answered in" in made.dead


@given(st.lists(st.tuples(st.sampled_from(["open", "reset", "data", "close"]), st.floats(0, 2000)), max_size=60))
@settings(max_examples=150)
def test_whatever_happens_on_a_connection_its_heartbeat_never_gets_it_sent_away(
    happenings: list[tuple[str, float]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        made = world(patch)
        for what, pause in happenings:
            made.run(pause)
            if what == "open":
                made.open_stream()
            elif what == "reset":
                made.reset_stream()
            elif what == "data":
                made.data()
            elif made.active:
                made.active -= 1
        made.run(3000)
        assert not made.sent_away
        assert not made.dead


@pytest.mark.parametrize("answering", [True, False])
def test_a_peer_is_dead_only_if_nothing_came_while_our_own_loop_stood_still(
    monkeypatch: pytest.MonkeyPatch, *, answering: bool
) -> None:
    made = world(monkeypatch, Heartbeat(interval=30, timeout=10))
    made.answering = answering
    made.open_stream()
    made.open_stream()
    made.reset_stream()
    (pinged,) = made.pings
    made.now = pinged + 11  # what arrived meanwhile is read after the timers that are due
    made.run(1)
    assert bool(made.dead) is not answering


def test_a_dead_peer_is_found_although_every_timer_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(monkeypatch, Heartbeat(interval=30, timeout=10))
    made.answering = False
    made.open_stream()
    for _ in range(400):
        made.now += 0.25
        made.run(0)
    assert made.dead
