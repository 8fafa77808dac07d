"""The pool with connections made of nothing: limits, order, hand-over, what happens to grants nobody can take."""

from __future__ import annotations

import gc
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from holdwire.errors import ClosedError, ConnectFailed, DeadlineExceeded
from holdwire.events import CloseReason, ConnectionClosed, Observers, PoolWaited, register_stats
from holdwire.http.connection import Attempt, HttpConnection
from holdwire.http.messages import Origin, Request, Timeouts
from holdwire.http.pool import Pool, PoolLimits
from holdwire.telemetry.totals import totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdwire.events import Event

A = Origin("http", "a.test", 80)
B = Origin("http", "b.test", 80)


class FakeWire:
    """Enough of a wire for a connection that never sends a byte."""

    def __init__(self, number: int) -> None:
        self.id = f"c{number}"
        self.peer = "192.0.2.1"
        self.failure = None
        self.ended: str | None = None

    def close(self) -> None:
        self.ended = "close"

    def abort(self) -> None:
        self.ended = "abort"

    def drop(self) -> None:
        self.ended = "drop"


class FakeConnection(HttpConnection):
    """Busy from acquire to ``done``."""

    def __init__(self, number: int, origin: Origin, max_age: float | None = None) -> None:
        super().__init__(FakeWire(number), origin, max_age=max_age)  # type: ignore[arg-type]
        self.number = number
        self.busy = True
        self.alive = True
        self.looks = 0

    @property
    def capacity(self) -> int:
        return 0 if self.busy else 1

    @property
    def active(self) -> int:
        return int(self.busy)

    @property
    def waiting(self) -> Attempt | None:
        return None

    async def exchange(self, attempt: Attempt) -> Any:
        raise NotImplementedError

    def rest(self) -> None:
        self.busy = False

    def wake(self) -> None:
        self.busy = True

    def looks_alive(self) -> bool:
        self.looks += 1
        if not self.alive:
            self.busy = False
            self.end(CloseReason.PEER_IDLE)
        return self.alive

    def done(self) -> None:
        """The exchange is over and the connection can be used again."""
        self.busy = False
        self.served += 1
        assert self.on_idle is not None
        self.on_idle(self)


class Bench:
    """A pool and everything that it opened and said."""

    def __init__(self, **limits: Any) -> None:
        self.events: list[Event] = []
        self.opened: list[FakeConnection] = []
        self.fail: Callable[[], Exception] | None = None
        self.gate: anyio.Event | None = None
        observers = Observers([self])
        self.sharable = False
        self.make: type[FakeConnection] = FakeConnection
        self.pool = Pool(self.connect, limits=PoolLimits(**limits), sharable=lambda _: self.sharable, notify=observers)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    async def connect(self, attempt: Attempt) -> HttpConnection:
        if self.gate is not None:
            await self.gate.wait()
        if self.fail is not None:
            raise self.fail()
        connection = self.make(len(self.opened), attempt.request.origin)
        self.opened.append(connection)
        return connection

    async def acquire(
        self, origin: Origin = A, *, pool_timeout: float | None = None, look: bool = False, fresh: bool = False
    ) -> FakeConnection:
        request = Request(b"GET", origin, b"/", [], timeouts=Timeouts(pool=pool_timeout))
        connection = await self.pool.acquire(Attempt(request), look=look, fresh=fresh)
        assert isinstance(connection, FakeConnection)
        return connection

    def reasons(self) -> list[CloseReason]:
        return [event.reason for event in self.events if isinstance(event, ConnectionClosed)]


async def test_the_most_recently_used_connection_is_used_again() -> None:
    bench = Bench()
    first, second = await bench.acquire(), await bench.acquire()
    first.done()
    second.done()
    assert await bench.acquire() is second
    assert await bench.acquire() is first
    assert len(bench.opened) == 2


async def test_no_more_connections_than_the_limit_and_the_rest_wait_in_order() -> None:
    bench = Bench(max_connections=2)
    held = [await bench.acquire(), await bench.acquire()]
    served: list[int] = []

    async def request(number: int) -> None:
        connection = await bench.acquire()
        served.append(number)
        connection.done()

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(request, number)
            await anyio.wait_all_tasks_blocked()
        assert bench.pool.size == 2
        held[0].done()
    assert served == [0, 1, 2, 3, 4]
    assert len(bench.opened) == 2
    assert sum(isinstance(event, PoolWaited) for event in bench.events) == 5


async def test_a_connection_to_another_origin_makes_room_when_it_is_idle() -> None:
    bench = Bench(max_connections=1)
    (await bench.acquire(A)).done()
    other = await bench.acquire(B)
    assert other.origin == B
    assert bench.reasons() == [CloseReason.LIMITS]
    assert bench.pool.size == 1


async def test_a_waiter_for_another_origin_gets_its_turn_before_a_younger_one_for_ours() -> None:
    bench = Bench(max_connections=1)
    held = await bench.acquire(A)
    order: list[str] = []

    async def request(origin: Origin) -> None:
        connection = await bench.acquire(origin)
        order.append(origin.host)
        connection.done()

    async with anyio.create_task_group() as group:
        for origin in (B, A):
            group.start_soon(request, origin)
            await anyio.wait_all_tasks_blocked()
        held.done()
    assert order == ["b.test", "a.test"]
    assert bench.pool.size == 1


async def test_a_waiter_that_is_cancelled_costs_nobody_a_place() -> None:
    bench = Bench(max_connections=1)
    held = await bench.acquire()
    async with anyio.create_task_group() as group:
        group.start_soon(bench.acquire)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    held.done()
    again = await bench.acquire(pool_timeout=1)
    assert again is held


async def test_a_grant_that_meets_a_cancelled_waiter_goes_to_the_next_one() -> None:
    bench = Bench(max_connections=1)
    held = await bench.acquire()
    got: list[FakeConnection] = []

    async def request() -> None:
        got.append(await bench.acquire())

    async def cancelled_request() -> None:
        connection = await bench.acquire()
        connection.done()  # where the loop delivers what was granted before it cancels

    async with anyio.create_task_group() as outer, anyio.create_task_group() as group:
        group.start_soon(cancelled_request)
        await anyio.wait_all_tasks_blocked()
        outer.start_soon(request)
        await anyio.wait_all_tasks_blocked()
        held.done()  # granted to the first waiter, which is cancelled before it runs
        group.cancel_scope.cancel()
    assert len(got) == 1
    assert bench.pool.size == 1


async def test_a_connect_that_fails_gives_its_place_to_who_waits() -> None:
    bench = Bench(max_connections=1)
    bench.gate = anyio.Event()
    bench.fail = lambda: ConnectFailed("no")
    outcomes: list[object] = []

    async def request() -> None:
        try:
            outcomes.append(await bench.acquire())
        except ConnectFailed as exc:
            outcomes.append(exc)
            bench.fail = None

    async with anyio.create_task_group() as group:
        group.start_soon(request)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(request)
        await anyio.wait_all_tasks_blocked()
        bench.gate.set()
    assert isinstance(outcomes[0], ConnectFailed)
    assert isinstance(outcomes[1], FakeConnection)
    assert bench.pool.size == 1


async def test_a_request_that_is_cancelled_while_connecting_leaves_its_place() -> None:
    bench = Bench(max_connections=1)
    bench.gate = anyio.Event()
    for _ in range(2):
        async with anyio.create_task_group() as group:
            group.start_soon(bench.acquire)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert bench.pool.size == 0
    bench.gate.set()
    await bench.acquire(pool_timeout=1)


async def test_no_connection_in_time_is_a_pool_time_out_that_says_what_to_do() -> None:
    bench = Bench(max_connections=1)
    await bench.acquire()
    with pytest.raises(DeadlineExceeded, match=r"a\.test:80 became free within 0\.01 s.*max_connections") as caught:
        await bench.acquire(pool_timeout=0.01)
    assert caught.value.limit == "pool"
    assert caught.value.failure is not None
    assert caught.value.failure.kind == "pool_timeout"


async def test_only_so_many_idle_connections_are_kept_and_the_oldest_go_first() -> None:
    bench = Bench(max_idle=1)
    first, second = await bench.acquire(), await bench.acquire()
    first.done()
    second.done()
    assert first.close_reason is CloseReason.LIMITS
    assert second.close_reason is None
    assert bench.pool.size == 1


async def test_without_idle_connections_allowed_each_is_closed_after_its_request() -> None:
    bench = Bench(max_idle=0)
    (await bench.acquire()).done()
    assert bench.reasons() == [CloseReason.LIMITS]


async def test_a_connection_idle_for_too_long_is_not_used_again() -> None:
    bench = Bench(idle=0.0)
    first = await bench.acquire()
    first.done()
    assert await bench.acquire() is not first
    assert first.close_reason is CloseReason.IDLE


async def test_a_connection_idle_for_too_long_is_closed_without_any_request() -> None:
    bench = Bench(idle=0.01)
    first = await bench.acquire()
    first.done()
    closed = anyio.Event()
    forward = first.on_end

    def ended(*args: Any) -> None:
        assert forward is not None
        forward(*args)
        closed.set()

    first.on_end = ended
    await closed.wait()
    assert first.close_reason is CloseReason.IDLE
    assert bench.pool.size == 0


async def test_the_servers_own_hint_ends_reuse_earlier() -> None:
    bench = Bench(idle=60)
    first = await bench.acquire()
    first.idle_limit = 0.0
    first.done()
    assert await bench.acquire() is not first


async def test_a_connection_that_is_too_old_is_drained_and_closed() -> None:
    bench = Bench()
    first = await bench.acquire()
    first.expires = 0.0
    first.done()
    assert first.close_reason is CloseReason.MAX_AGE


async def test_a_connection_used_often_enough_is_closed() -> None:
    bench = Bench(max_requests=1)
    first = await bench.acquire()
    first.done()
    assert first.close_reason is CloseReason.MAX_REQUESTS


async def test_a_dead_connection_found_by_the_last_look_is_not_handed_out() -> None:
    bench = Bench()
    first = await bench.acquire()
    first.done()
    first.alive = False
    assert await bench.acquire(look=True) is not first
    assert bench.reasons() == [CloseReason.PEER_IDLE]


async def test_a_suspect_connection_is_not_handed_out() -> None:
    bench = Bench()
    first, second = await bench.acquire(), await bench.acquire()
    first.done()
    bench.pool.suspect(second)
    assert await bench.acquire() is not first


async def test_closing_ends_every_connection_and_wakes_every_waiter() -> None:
    bench = Bench(max_connections=1)
    held = await bench.acquire()
    errors: list[ClosedError] = []

    async def request() -> None:
        try:
            await bench.acquire()
        except ClosedError as exc:
            errors.append(exc)

    async with anyio.create_task_group() as group:
        group.start_soon(request)
        await anyio.wait_all_tasks_blocked()
        bench.pool.close()
    assert len(errors) == 1
    assert held.close_reason is CloseReason.ACLOSE
    with pytest.raises(ClosedError, match="new client"):
        await bench.acquire()


async def test_a_request_that_was_handed_a_connection_just_before_the_pool_was_closed_opens_no_other() -> None:
    bench = Bench(max_connections=1)
    held = await bench.acquire()

    async def request() -> None:
        with pytest.raises(ClosedError):
            await bench.acquire()

    async with anyio.create_task_group() as group:
        group.start_soon(request)
        await anyio.wait_all_tasks_blocked()
        held.done()
        bench.pool.close()
    assert bench.opened == [held]
    assert bench.pool.size == 0


async def test_draining_waits_for_requests_in_progress() -> None:
    bench = Bench()
    held, idle = await bench.acquire(), await bench.acquire()
    idle.done()
    over = anyio.Event()

    async def drain() -> None:
        await bench.pool.drain()
        over.set()

    async with anyio.create_task_group() as group:
        group.start_soon(drain)
        await anyio.wait_all_tasks_blocked()
        assert idle.close_reason is CloseReason.ACLOSE
        assert not over.is_set()
        assert held.close_reason is None
        held.done()
    assert over.is_set()
    assert held.close_reason is not None


async def test_a_pool_that_nobody_holds_is_collected_although_connections_and_timers_know_it() -> None:
    bench = Bench()
    connection = await bench.acquire()
    connection.done()
    reference = weakref.ref(bench.pool)
    del bench
    gc.collect()
    assert reference() is None


async def test_a_connection_handed_over_to_a_waiter_is_looked_at_like_any_other() -> None:
    bench = Bench(max_connections=1)
    held = await bench.acquire()
    got: list[FakeConnection] = []

    async def request() -> None:
        got.append(await bench.acquire(look=True))

    async with anyio.create_task_group() as group:
        group.start_soon(request)
        await anyio.wait_all_tasks_blocked()
        held.alive = False
        held.done()
    assert got[0] is not held
    assert bench.reasons() == [CloseReason.PEER_IDLE]
    assert bench.pool.size == 1


async def test_who_was_handed_a_dead_connection_is_not_sent_to_the_end_of_the_queue() -> None:
    bench = Bench(max_connections=1)
    held = await bench.acquire()
    served: list[int] = []

    async def request(number: int) -> None:
        connection = await bench.acquire(look=True)
        served.append(number)
        connection.alive = False
        connection.done()

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(request, number)
            await anyio.wait_all_tasks_blocked()
        held.alive = False
        held.done()
    assert served == [0, 1, 2, 3]
    assert bench.pool.size == 1


class SharedConnection(FakeConnection):
    """HTTP/2 whose every stream is taken."""

    http_version = "2"

    @property
    def width(self) -> int:
        return 1


async def test_the_pool_time_out_bounds_all_waits_of_a_request_together() -> None:
    bench = Bench()
    bench.sharable = True
    bench.make = SharedConnection
    await bench.acquire()
    bench.fail = lambda: ConnectFailed("the server takes no further connection")
    with anyio.fail_after(8), pytest.raises(DeadlineExceeded, match=r"within 1\.5 s"):
        await bench.acquire(pool_timeout=1.5)  # for ever, if each wait of a second began anew


class Leaving(SharedConnection):
    """HTTP/2 whose server says GOAWAY once the place is handed over; it ends with its last request."""

    leaving = False

    @property
    def honours_reservation(self) -> bool:
        return not self.leaving

    def release(self) -> None:
        self.busy = False
        self.end(CloseReason.GOAWAY)


@pytest.mark.parametrize("most", [1, 2])
async def test_who_was_handed_a_place_on_a_connection_that_takes_no_more_by_now_gets_another_one(most: int) -> None:
    bench = Bench(max_connections=most)
    bench.sharable = True
    bench.make = Leaving
    held = await bench.acquire()
    others = [await bench.acquire() for _ in range(most - 1)]
    got: list[FakeConnection] = []

    async def request() -> None:
        got.append(await bench.acquire())

    async with anyio.create_task_group() as group:
        group.start_soon(request)
        await anyio.wait_all_tasks_blocked()
        held.done()
        assert isinstance(held, Leaving)
        held.leaving = True
    assert got == [bench.opened[most]]
    assert [held.close_reason, *(other.close_reason for other in others)] == [CloseReason.GOAWAY, *[None] * (most - 1)]
    assert bench.pool.size == most


async def test_a_replacement_that_takes_no_more_by_now_is_not_handed_out() -> None:
    bench = Bench(max_connections=2)
    bench.make = Leaving
    request = Request(b"GET", A, b"/", [])
    await bench.acquire()
    replacement = await bench.pool.open_spare(Attempt(request), wanted=lambda: True)
    assert isinstance(replacement, Leaving)
    bench.pool.promises.keep(replacement, request)
    replacement.leaving = True
    assert await bench.pool.acquire(Attempt(request), fresh=True) is bench.opened[2]
    assert replacement.close_reason is CloseReason.GOAWAY
    assert bench.pool.size == 2


async def test_a_connection_that_idled_for_more_than_a_second_is_looked_at_before_any_request() -> None:
    bench = Bench()
    first = await bench.acquire()
    first.done()
    first.idle_since = time.monotonic()
    assert await bench.acquire() is first
    assert first.looks == 0, "the reader has watched it, and it was a moment"
    first.done()
    first.idle_since = time.monotonic() - 1.1
    first.alive = False
    assert await bench.acquire() is not first


async def test_a_request_that_must_have_a_fresh_connection_gets_none_that_was_used() -> None:
    bench = Bench(max_connections=1)
    held = await bench.acquire()
    got: list[FakeConnection] = []

    async def request(*, fresh: bool) -> None:
        connection = await bench.acquire(fresh=fresh)
        got.append(connection)
        connection.done()

    async with anyio.create_task_group() as group:
        for fresh in (True, False):
            group.start_soon(partial(request, fresh=fresh))
            await anyio.wait_all_tasks_blocked()
        held.done()
    assert got == [bench.opened[1], bench.opened[1]]
    assert held.close_reason is CloseReason.LIMITS


async def test_draining_does_not_hang_on_a_connect_that_fails() -> None:
    bench = Bench()
    bench.gate = anyio.Event()
    bench.fail = lambda: ConnectFailed("no")
    with anyio.fail_after(2):
        async with anyio.create_task_group() as group:
            group.start_soon(fails_to_connect, bench)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(bench.pool.drain)
            await anyio.wait_all_tasks_blocked()
            bench.gate.set()
    assert bench.pool.size == 0


async def fails_to_connect(bench: Bench) -> None:
    with pytest.raises(ConnectFailed):
        await bench.acquire()


async def test_draining_serves_who_already_waits_and_may_be_asked_for_twice() -> None:
    bench = Bench(max_connections=1)
    held = await bench.acquire()
    served: list[FakeConnection] = []

    async def request() -> None:
        connection = await bench.acquire()
        served.append(connection)
        connection.done()

    with anyio.fail_after(2):
        async with anyio.create_task_group() as group:
            group.start_soon(request)
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(0.01):
                await bench.pool.drain()
            group.start_soon(bench.pool.drain)
            group.start_soon(bench.pool.drain)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(ClosedError):
                await bench.acquire()
            held.done()
    assert served == [held], "it waited before the drain began"
    assert bench.pool.size == 0


async def test_draining_waits_for_a_request_that_pauses_between_two_attempts() -> None:
    bench = Bench()
    first = Attempt(Request(b"GET", A, b"/", []))
    held = await bench.pool.acquire(first)
    again: Any = object()
    over = anyio.Event()

    async def drain() -> None:
        await bench.pool.drain()
        over.set()

    with anyio.fail_after(2):
        async with anyio.create_task_group() as group:
            group.start_soon(drain)
            await anyio.wait_all_tasks_blocked()
            with bench.pool.pausing():
                held.end(CloseReason.FAILURE, abort=True)
                await anyio.wait_all_tasks_blocked()
                assert not over.is_set()
            await bench.pool.acquire(Attempt(first.request, 2, again))
            await anyio.wait_all_tasks_blocked()
            assert not over.is_set()
            bench.opened[1].done()
    assert bench.reasons() == [CloseReason.FAILURE, CloseReason.ACLOSE]


async def test_a_drain_that_is_given_up_lets_requests_in_again() -> None:
    bench = Bench()
    held = await bench.acquire()
    with anyio.move_on_after(0.01) as scope:
        await bench.pool.drain()
    assert scope.cancelled_caught
    held.done()
    assert await bench.acquire() is held


async def test_who_waited_for_a_connection_that_cannot_be_shared_gets_the_place_of_an_idle_one() -> None:
    bench = Bench(max_connections=2)
    (await bench.acquire(A)).done()
    bench.sharable = True
    bench.gate = anyio.Event()
    got: list[FakeConnection] = []

    async def request() -> None:
        got.append(await bench.acquire(B))

    with anyio.fail_after(2):
        async with anyio.create_task_group() as group:
            group.start_soon(request)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(request)  # waits: the first one may turn out to be HTTP/2
            await anyio.wait_all_tasks_blocked()
            bench.gate.set()
    assert len(got) == 2
    assert bench.reasons() == [CloseReason.LIMITS]
    assert bench.pool.size == 2


async def test_in_a_full_pool_dead_connections_are_replaced_one_at_a_time() -> None:
    bench = Bench(max_connections=2)
    dead = [await bench.acquire(), await bench.acquire()]
    requests = [Request(b"GET", A, b"/", []), Request(b"GET", A, b"/", [])]
    bench.gate = anyio.Event()
    sizes: list[int] = []

    async def replace(index: int) -> None:
        replacement = await bench.pool.open_spare(Attempt(requests[index]), wanted=lambda: True)
        assert replacement is not None
        sizes.append(bench.pool.size)
        bench.pool.promises.keep(replacement, requests[index])
        dead[index].end(CloseReason.FAILURE, abort=True)
        assert await bench.pool.acquire(Attempt(requests[index]), fresh=True) is replacement

    async with anyio.create_task_group() as group:
        group.start_soon(replace, 0)
        group.start_soon(replace, 1)
        await anyio.wait_all_tasks_blocked()
        assert bench.pool.size == 3
        bench.gate.set()
    assert sizes == [3, 3]
    assert bench.pool.size == 2


async def test_a_replacement_that_is_not_needed_any_more_leaves_a_full_pool_again() -> None:
    bench = Bench(max_connections=1)
    await bench.acquire()
    request = Request(b"GET", A, b"/", [])
    replacement = await bench.pool.open_spare(Attempt(request), wanted=lambda: True)
    assert isinstance(replacement, FakeConnection)
    replacement.busy = False
    bench.pool.give_back(replacement)
    assert bench.pool.size == 1
    assert await bench.pool.open_spare(Attempt(request), wanted=lambda: False) is None


async def test_a_replacement_whose_request_does_not_come_serves_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdwire.http.promises._KEPT", 0.01)
    bench = Bench(max_connections=2)
    await bench.acquire()
    request = Request(b"GET", A, b"/", [])
    replacement = await bench.pool.open_spare(Attempt(request), wanted=lambda: True)
    assert isinstance(replacement, FakeConnection)
    bench.pool.promises.keep(replacement, request)
    replacement.busy = False
    assert await bench.acquire(pool_timeout=3) is replacement


async def test_a_pool_keeps_only_so_many_origins_that_nothing_is_open_to_and_loses_no_count() -> None:
    bench = Bench(max_idle=0)
    register_stats(bench.pool)
    kept = await bench.acquire(Origin("http", "kept.test", 80))
    for number in range(5000):
        (await bench.acquire(Origin("http", f"{number}.test", 80))).done()
    assert len(bench.pool.stats()) <= 2048
    assert any(entry["host"] == "kept.test" and entry["active"] == 1 for entry in bench.pool.stats())
    (await bench.acquire(Origin("http", "0.test", 80))).done()
    opened = sum(total.counts.get("opened", 0) for total in totals())
    assert opened >= 5002, "forgotten origins were counted first"
    kept.end(CloseReason.ACLOSE)
    assert bench.pool.size == 0


async def test_what_the_statistics_say_is_what_there_is() -> None:
    bench = Bench()
    first, _, third = await bench.acquire(A), await bench.acquire(A), await bench.acquire(B)
    first.done()
    third.end(CloseReason.FAILURE)
    assert [(entry["host"], entry["idle"], entry["active"], entry["closed"]) for entry in bench.pool.stats()] == [
        ("a.test", 1, 1, {}),
        ("b.test", 0, 0, {"failure": 1}),
    ]


async def test_what_became_idle_after_the_suspicion_is_trusted() -> None:
    bench = Bench()
    first, second = await bench.acquire(), await bench.acquire()
    first.done()
    bench.pool.suspect(second)
    second.idle_since = time.monotonic()
    second.done()
    assert await bench.acquire() is second
    assert await bench.acquire() is not first
    assert first.close_reason is CloseReason.FAILURE


async def test_a_replacement_that_died_before_its_request_came_is_not_handed_out() -> None:
    bench = Bench(max_connections=2)
    request = Request(b"GET", A, b"/", [])
    await bench.acquire()
    replacement = await bench.pool.open_spare(Attempt(request), wanted=lambda: True)
    assert replacement is not None
    bench.pool.promises.keep(replacement, request)
    replacement.end(CloseReason.FAILURE)
    assert await bench.pool.acquire(Attempt(request), fresh=True) is bench.opened[2]
    assert bench.pool.size == 2


async def test_a_connection_that_idles_without_limit_is_closed_when_it_is_too_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("holdwire.http.idle._SELDOM", 0.01)
    bench = Bench(idle=None)
    first = await bench.acquire()
    first.expires = time.monotonic() + 3600.0
    first.done()
    first.expires = 0.0
    with anyio.fail_after(2):
        while first.close_reason is None:  # noqa: ASYNC110 - a timer of the pool has no event
            await anyio.sleep(0.005)
    assert first.close_reason is CloseReason.MAX_AGE
    assert bench.pool.size == 0
