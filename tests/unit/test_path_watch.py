"""``PathWatch`` with connections made of nothing: whom it looks at, what it does about them, when it stops."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from holdwire.errors import ConnectFailed
from holdwire.events import CloseReason, ConnectionSetUp, FailureRecorded, RequestRetried, SetupStep
from holdwire.http import path_watch
from holdwire.http.connection import Attempt
from holdwire.http.messages import Request, Timeouts
from holdwire.http.path_watch import PathWatch
from holdwire.policy import diagnosis
from holdwire.policy.kind import Kind
from holdwire.policy.phase import Phase
from holdwire.policy.profiles import profile
from holdwire.policy.retry import Evidence, RetryAction, Verdict
from holdwire.policy.settings import Keepalive
from holdwire.policy.tcp_info import TcpInfo, TcpState
from tests.unit.test_pool import A, FakeConnection, FakeWire
from tests.unit.test_pool import Bench as PoolBench

if TYPE_CHECKING:
    from holdwire.http.pool import Pool

DEAD = TcpInfo(state=TcpState.ESTABLISHED, retransmits=3, last_ack_recv=5000, rtt=1000, snd_wnd=64_000, probes=0)
CLOSED_WINDOW = dataclasses.replace(DEAD, snd_wnd=0, retransmits=0)


class Wire(FakeWire):
    """A wire that says what the test wants about the kernel's view."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.phase = Phase.RESPONSE_WAIT
        self.last_write = 0.0
        self.queued = 0
        self.tcp = DEAD
        self.looks = 0
        self.flight: list[object] = []
        self.user_timeouts: list[Keepalive | None] = []

    def undelivered(self) -> int:
        return self.queued

    def facts(self) -> diagnosis.Facts:
        self.looks += 1
        return diagnosis.Facts(host="a.test", port=80, at=0.0, tcp=self.tcp, outq=self.queued)

    def latch(self, failure: Any) -> None:
        self.failure = failure

    def set_user_timeout(self, keepalive: Keepalive | None) -> None:
        self.user_timeouts.append(keepalive)


class Connection(FakeConnection):
    attempt: Attempt | None = None

    @property
    def waiting(self) -> Attempt | None:
        return self.attempt


class Bench:
    """A pool, the watch over it, and the verdict that the exchange gives."""

    def __init__(self, *, repeatable: bool = True, path: str = "default", **limits: Any) -> None:
        self.base = PoolBench(**limits)
        self.pool: Pool = self.base.pool
        self.base.pool._connect = self.connect
        self.opened: list[Connection] = []
        self.verdict = Verdict(
            action=RetryAction.CONNECT_FIRST if repeatable else RetryAction.KEEP_WAITING,
            evidence=Evidence.ASSUMED if repeatable else Evidence.NONE,
            row=32,
            reason="black_hole" if repeatable else "may_have_been_processed",
        )
        self.watch = PathWatch(
            self.pool,
            SimpleNamespace(verdict_on_suspect=lambda _: self.verdict),  # type: ignore[arg-type]
            keepalive=Keepalive(),
            profile=profile(path),
            notify=self.base.events.append,  # type: ignore[arg-type]
        )

    async def connect(self, attempt: Attempt) -> Connection:
        if self.base.gate is not None:
            await self.base.gate.wait()
        if self.base.fail is not None:
            raise self.base.fail()
        connection = Connection(len(self.opened), attempt.request.origin)
        connection.wire = Wire(len(self.opened))  # type: ignore[assignment]
        self.opened.append(connection)
        return connection

    async def waiting(self, *, queued: int = 100, read: float | None = 5.0) -> tuple[Connection, Wire]:
        """A connection on which a request waits."""
        attempt = Attempt(Request(b"GET", A, b"/", [], timeouts=Timeouts(read=read)))
        attempt.written = -100.0
        connection = await self.pool.acquire(attempt)
        assert isinstance(connection, Connection)
        wire = cast("Wire", connection.wire)
        connection.attempt = attempt
        wire.queued = queued
        return connection, wire

    async def look(self) -> None:
        self.watch._tick()
        await anyio.wait_all_tasks_blocked()

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.base.events if isinstance(event, kind)]


async def test_a_dead_path_is_replaced_and_the_replacement_kept_for_the_request() -> None:
    bench = Bench()
    dead, wire = await bench.waiting()
    assert dead.attempt is not None
    await bench.look()
    assert dead.attempt.replaced
    assert wire.ended == "abort"
    assert getattr(wire.failure, "kind", None) is Kind.HEARTBEAT_LOST
    assert await bench.pool.acquire(Attempt(dead.attempt.request), fresh=True) is bench.opened[1]
    assert bench.pool.size == 1


async def test_a_request_that_may_not_be_repeated_waits_and_that_is_said_once() -> None:
    bench = Bench(repeatable=False)
    connection, wire = await bench.waiting()
    for _ in range(3):
        bench.watch._tried = weakref.WeakKeyDictionary(dict.fromkeys(bench.watch._tried, -100.0))
        await bench.look()
    assert connection.close_reason is None
    assert wire.ended is None
    (told,) = bench.told(RequestRetried)
    assert told.verdict is bench.verdict
    assert bench.pool.size == 1


async def test_an_answer_that_has_begun_is_not_given_up() -> None:
    bench = Bench()
    connection, _ = await bench.waiting()
    assert connection.attempt is not None
    connection.attempt.received = 1
    await bench.look()
    assert len(bench.opened) == 1
    assert connection.close_reason is None


async def test_an_answer_that_comes_while_the_replacement_is_being_opened_wins() -> None:
    bench = Bench()
    connection, _ = await bench.waiting()
    assert connection.attempt is not None
    bench.base.gate = anyio.Event()
    await bench.look()
    connection.attempt.received = 1
    bench.base.gate.set()
    await anyio.wait_all_tasks_blocked()
    assert connection.close_reason is None
    assert not connection.attempt.replaced
    assert bench.pool.size == 2


async def test_where_no_replacement_can_be_had_the_old_connection_stays_and_the_failure_is_told() -> None:
    bench = Bench()
    connection, _ = await bench.waiting()
    failure = diagnosis.local(
        Kind.LOCAL_TIMEOUT, phase=Phase.CONNECT, facts=diagnosis.Facts(host="a.test", port=80, at=0.0)
    )
    error = ConnectFailed(failure=failure)
    step = SetupStep(phase=Phase.CONNECT, began=1, ended=2, failure=failure)
    error.setup = ConnectionSetUp(
        host="a.test", port=80, connection_id=None, began=1, ended=2, steps=(step,), context=None, failure=failure
    )
    bench.base.fail = lambda: error
    await bench.look()
    await bench.look()
    assert connection.close_reason is None
    assert [event.failure for event in bench.told(FailureRecorded)] == [failure], "tried again after some seconds only"
    (setup,) = bench.told(ConnectionSetUp)
    assert not setup.final
    assert bench.pool.size == 1


async def test_what_the_peer_has_acknowledged_is_none_of_our_business_and_costs_one_question() -> None:
    bench = Bench(max_connections=None)
    wires = [(await bench.waiting(queued=0))[1] for _ in range(500)]
    await bench.look()
    assert sum(wire.looks for wire in wires) == 0
    assert bench.pool.size == 500


async def test_a_closed_window_lifts_the_user_timeout_until_it_opens() -> None:
    bench = Bench()
    connection, wire = await bench.waiting()
    wire.tcp = CLOSED_WINDOW
    await bench.look()
    await bench.look()
    assert wire.user_timeouts == [None]
    wire.tcp = dataclasses.replace(CLOSED_WINDOW, snd_wnd=1000)
    await bench.look()
    assert wire.user_timeouts == [None, Keepalive()]
    assert connection.close_reason is None


async def test_a_lifted_user_timeout_is_armed_again_although_the_request_is_over() -> None:
    bench = Bench()
    connection, wire = await bench.waiting()
    wire.tcp = CLOSED_WINDOW
    await bench.look()
    wire.queued = 0
    connection.attempt = None
    connection.done()
    await bench.look()
    assert wire.user_timeouts == [None, Keepalive()]


async def test_it_stops_when_nothing_is_in_progress_and_starts_with_the_next_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(path_watch, "INTERVAL", 0.001)
    bench = Bench()
    connection, _ = await bench.waiting(queued=0)
    bench.pool.on_busy = bench.watch.start
    bench.watch.start()
    await anyio.sleep(0.02)
    running = [bench.watch.running]
    connection.done()
    with anyio.fail_after(5):
        while bench.watch.running:  # noqa: ASYNC110 - it tells nobody
            await anyio.sleep(0.001)
    await bench.waiting(queued=0)
    running.append(bench.watch.running)
    assert running == [True, True]


async def test_it_ends_with_the_pool_and_takes_what_it_is_opening_along() -> None:
    bench = Bench()
    bench.pool.on_close = bench.watch.stop
    await bench.waiting()
    bench.base.gate = anyio.Event()
    await bench.look()
    assert bench.pool.size == 2
    bench.pool.close()
    await anyio.wait_all_tasks_blocked()
    assert bench.pool.size == 0, "the connect was given up"


async def test_a_timer_does_not_keep_it_alive() -> None:
    bench = Bench()
    await bench.waiting(queued=0)
    bench.watch.start()
    reference = weakref.ref(bench.watch)
    del bench
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize(
    ("path", "read", "warned"),
    [
        ("aws-alb", 61.0, True),
        ("aws-alb", None, True),
        ("aws-alb", 60.0, False),
        ("aws-nlb", None, False),  # TCP keepalive counts there
        ("cloudflare", 401.0, True),
        ("default", None, False),
    ],
)
async def test_a_wait_that_the_path_will_not_outlive_is_said_once(
    caplog: pytest.LogCaptureFixture, path: str, read: float | None, *, warned: bool
) -> None:
    bench = Bench(path=path)
    await bench.waiting(queued=0, read=read)
    await bench.look()
    await bench.look()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == int(warned)
    if warned:
        assert "a.test:80" in said[0]
        assert path in said[0]
        assert ("use HTTP/2" in said[0]) == (path == "cloudflare"), "where not even a PING counts it would not help"


async def test_the_connection_that_died_makes_its_idle_siblings_suspect() -> None:
    bench = Bench()
    await bench.waiting()
    idle, _ = await bench.waiting(queued=0)
    idle.attempt = None
    idle.done()
    await bench.look()
    await bench.pool.acquire(Attempt(Request(b"GET", A, b"/", [])))
    assert idle.close_reason is CloseReason.FAILURE
