"""A pool that applies what it learnt: in virtual time, with connections made of nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import holdwire
from holdwire.events import CloseReason, FailureRecorded
from holdwire.http.h2_settings import Http2Settings
from holdwire.net.runtime import current as client_runtime
from holdwire.policy.failure import Failure
from holdwire.policy.kind import Category, Kind
from holdwire.policy.phase import Phase
from holdwire.policy.settings import Heartbeat
from tests.unit.test_pool import A, B, Bench

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.test_pool import FakeConnection

RESET = Failure(kind=Kind.CONNECTION_RESET, category=Category.PEER_CLOSED, phase=Phase.IDLE)


class Clock:
    """Stands in for the module ``time``; it goes only when it is told to."""

    now = 1_000_000.0
    time_ns = staticmethod(time.time_ns)
    time = staticmethod(time.time)

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


CLOCK = Clock()


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the pool's time pass."""
    for module in ("pool", "idle", "connection", "origin_memory"):
        monkeypatch.setattr(f"holdwire.http.{module}.time", CLOCK)
    return CLOCK.wait


def rest(connection: FakeConnection) -> None:
    """The exchange on it is over, now."""
    connection.done()
    connection.idle_since = CLOCK.monotonic()


async def die_at(bench: Bench, wait: Callable[[float], None], idle: float, *, times: int, apart: float = 400.0) -> None:
    """Let that many connections idle until the path cuts them."""
    for _ in range(times):
        connection = await bench.acquire()
        rest(connection)
        wait(idle)
        connection.end(CloseReason.FAILURE, RESET)
        wait(apart)


async def is_reused_after(bench: Bench, wait: Callable[[float], None], idle: float) -> bool:
    first = await bench.acquire()
    rest(first)
    wait(idle)
    again = await bench.acquire()
    rest(again)
    return again is first


async def test_three_episodes_shorten_the_idle_time_to_80_percent(wait: Callable[[float], None]) -> None:
    bench = Bench(idle=None, learn=True)
    await die_at(bench, wait, 100.0, times=3)
    assert await is_reused_after(bench, wait, 79.0)
    assert not await is_reused_after(bench, wait, 81.0)
    assert bench.reasons()[-1] is CloseReason.IDLE


async def test_two_episodes_do_not(wait: Callable[[float], None]) -> None:
    bench = Bench(idle=None, learn=True)
    await die_at(bench, wait, 100.0, times=2)
    assert await is_reused_after(bench, wait, 90.0)


async def test_without_apply_it_is_only_told(wait: Callable[[float], None]) -> None:
    bench = Bench(idle=None)
    await die_at(bench, wait, 100.0, times=3)
    assert await is_reused_after(bench, wait, 90.0)
    bench.pool.close()
    told = [event.failure.cause for event in bench.events if isinstance(event, FailureRecorded)]
    assert "ends idle connections at 100 s" in told[-1]


async def test_a_survivor_takes_it_back(wait: Callable[[float], None]) -> None:
    bench = Bench(idle=None, learn=True)
    await die_at(bench, wait, 100.0, times=3)
    connection = await bench.acquire()
    bench.pool.memory.survived(connection.origin, idle=130.0)
    rest(connection)
    assert await is_reused_after(bench, wait, 90.0)


async def test_it_is_forgotten_after_an_hour(wait: Callable[[float], None]) -> None:
    bench = Bench(idle=None, learn=True)
    await die_at(bench, wait, 100.0, times=3)
    assert not await is_reused_after(bench, wait, 90.0)
    wait(3700.0)
    assert await is_reused_after(bench, wait, 90.0)


async def test_it_never_goes_below_five_seconds(wait: Callable[[float], None]) -> None:
    bench = Bench(idle=None, learn=True)
    await die_at(bench, wait, 5.2, times=4)
    assert await is_reused_after(bench, wait, 4.9)
    assert not await is_reused_after(bench, wait, 5.1)


async def test_other_origins_keep_their_idle_time(wait: Callable[[float], None]) -> None:
    bench = Bench(idle=None, learn=True)
    await die_at(bench, wait, 100.0, times=3)
    first = await bench.acquire(B)
    rest(first)
    wait(90.0)
    assert await bench.acquire(B) is first


async def test_a_deploy_that_ends_many_at_once_shortens_nothing(wait: Callable[[float], None]) -> None:
    bench = Bench(idle=None, learn=True)
    for _ in range(5):
        connections = [await bench.acquire() for _ in range(4)]
        for connection in connections:
            wait(20.0)
            rest(connection)
        wait(30.0)
        for connection in connections:
            connection.end(CloseReason.FAILURE, RESET)
        bench.pool._idle_deaths.tell()
        wait(600.0)
    assert await is_reused_after(bench, wait, 90.0)
    (*_, last) = [event for event in bench.events if isinstance(event, FailureRecorded)]
    assert "restarted or replaced" in last.failure.cause


async def test_the_heartbeat_of_new_http2_connections_follows_unless_one_was_given(
    wait: Callable[[float], None],
) -> None:
    bench = Bench(idle=None, learn=True)
    plain = Http2Settings()
    assert plain.below(bench.pool.memory.idle_limit(A, CLOCK.now)) is plain
    await die_at(bench, wait, 100.0, times=3)
    learnt = bench.pool.memory.idle_limit(A, CLOCK.now)
    assert plain.below(learnt).heartbeat == Heartbeat(interval=80.0)
    given = Http2Settings(heartbeat=Heartbeat(interval=30))
    assert given.below(learnt) is given
    off = Http2Settings(pings=False)
    assert off.below(learnt) is off
    assert plain.below(5.0).heartbeat == Heartbeat(interval=plain.floor)


async def test_a_transport_hands_what_its_pool_learnt_to_who_opens_connections() -> None:
    client = holdwire.ResilientTransport()._client
    lane = client._make_lane(client_runtime())
    opener = lane.pool._connect.__self__  # type: ignore[attr-defined]
    assert opener.learnt is lane.pool.memory
    lane.pool.close()
