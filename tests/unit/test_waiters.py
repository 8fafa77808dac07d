"""Who waits, how many there may be and what is kept, each without a pool: order, counts, what becomes of grants."""

from __future__ import annotations

import gc

import anyio
import pytest

from holdwire.errors import DeadlineExceeded
from holdwire.events import CloseReason, Observers
from holdwire.http.connection import Attempt
from holdwire.http.messages import Request, Timeouts
from holdwire.http.origins import OriginState
from holdwire.http.places import Places
from holdwire.http.pool import Pool, PoolLimits
from holdwire.http.promises import Promises
from holdwire.http.waiters import CONNECT, Waiter, Waiters
from holdwire.http.weak_pool import WeakPool
from holdwire.net.runtime import current
from tests.unit.test_pool import A, FakeConnection


class Hall:
    """Waiters of one origin."""

    def __init__(self) -> None:
        self.waiters = Waiters()
        self.state = OriginState()

    def add(self, *, for_dial: bool = False, fresh: bool = False, pool_timeout: float | None = None) -> Waiter:
        request = Request(b"GET", A, b"/", [], timeouts=Timeouts(pool=pool_timeout))
        self.attempt = Attempt(request)
        waiter = Waiter(self.attempt, self.state, current().signal(), for_dial=for_dial, fresh=fresh)
        self.waiters.add(waiter)
        return waiter

    @property
    def counts(self) -> tuple[int, int]:
        return self.state.waiting, self.state.asking


async def test_who_was_handed_a_connection_wants_no_place_any_more() -> None:
    hall = Hall()
    first, second = hall.add(), hall.add()
    connection = FakeConnection(0, A)
    assert hall.waiters.hand_over(connection, hall.state)
    assert first.grant is connection
    assert await first.wait()
    assert hall.waiters.oldest is second
    assert hall.counts == (1, 1)


async def test_who_needs_a_fresh_connection_is_handed_none_that_was_used() -> None:
    hall = Hall()
    waiter = hall.add(fresh=True)
    assert not hall.waiters.hand_over(FakeConnection(0, A), hall.state)
    assert hall.waiters.oldest is waiter


async def test_a_connection_that_ends_on_the_way_to_its_waiter_leaves_it_the_place() -> None:
    hall = Hall()
    waiter = hall.add()
    connection = FakeConnection(0, A)
    hall.waiters.hand_over(connection, hall.state)
    assert hall.waiters.lost(connection, inherit=True)
    assert waiter.grant is CONNECT
    assert not hall.waiters.lost(connection, inherit=True), "it is told once"


@pytest.mark.parametrize("taken_over", [True, False], ids=["it has run", "the pool is closed"])
async def test_a_connection_that_ends_later_leaves_its_waiter_nothing(*, taken_over: bool) -> None:
    hall = Hall()
    waiter = hall.add()
    connection = FakeConnection(0, A)
    hall.waiters.hand_over(connection, hall.state)
    if taken_over:
        hall.waiters.take_over(waiter)
    assert not hall.waiters.lost(connection, inherit=taken_over)
    assert waiter.grant is connection


async def test_who_gives_up_returns_what_it_was_granted_and_is_counted_no_more() -> None:
    hall = Hall()
    granted, other = hall.add(), hall.add()
    hall.waiters.let_connect(granted)
    assert hall.waiters.withdraw(granted) is CONNECT
    assert hall.waiters.withdraw(other) is None
    assert hall.counts == (0, 0)
    assert hall.waiters.oldest is None


async def test_only_as_many_followers_are_called_as_will_find_no_room() -> None:
    hall = Hall()
    hall.state.sharing, hall.state.width = True, 2
    for _ in range(5):
        hall.add(for_dial=True)
    assert hall.waiters.oldest is None
    assert hall.counts == (5, 0)
    hall.state.connecting = 1  # one of them will find room there
    assert hall.waiters.call_for_more(hall.state)
    assert hall.counts == (5, 2), "two open a connection, and two find room on these"
    assert len(hall.waiters) == 2
    assert not hall.waiters.call_for_more(hall.state)


async def test_when_nobody_is_granted_anything_any_more_everybody_is_woken() -> None:
    hall = Hall()
    waiters = [hall.add(), hall.add(for_dial=True), hall.add(fresh=True)]
    hall.waiters.wake_all([hall.state.queue])
    assert [await waiter.wait() for waiter in waiters] == [True, True, True]
    assert [waiter.grant for waiter in waiters] == [None, None, None]
    assert hall.counts == (0, 0)


async def test_a_wait_that_was_too_long_says_so_and_counts_for_the_next_one() -> None:
    hall = Hall()
    waiter = hall.add(pool_timeout=0.01)
    assert not await waiter.wait()
    assert hall.attempt.queued > 0
    assert waiter.told(in_time=False).timed_out
    error = waiter.too_late(7)
    assert isinstance(error, DeadlineExceeded)
    assert "within 0.01 s: all 7 of the pool are in use" in str(error)


async def test_no_more_places_than_there_are_but_for_who_answers_for_it() -> None:
    places = Places(1, current())
    assert [places.take(), places.take()] == [True, False]
    places.exceed()
    assert places.taken == 2
    places.leave()
    assert not places.take()
    assert Places(None, current()).take()


async def test_nobody_who_waits_for_all_to_leave_is_told_while_a_request_is_in_progress() -> None:
    places = Places(1, current())
    over = anyio.Event()

    async def wait() -> None:
        await places.all_left()
        over.set()

    async with anyio.create_task_group() as group:
        with places.pausing():
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert not over.is_set()
            places.take()
        await anyio.wait_all_tasks_blocked()
        assert not over.is_set()
        places.leave()
    await places.all_left()


async def test_a_pause_that_ends_in_nothing_is_the_end_as_well() -> None:
    places = Places(1, current())
    with anyio.fail_after(2):
        async with anyio.create_task_group() as group:
            with places.pausing():
                group.start_soon(places.all_left)
                await anyio.wait_all_tasks_blocked()


async def test_what_is_promised_is_for_one_request_and_once() -> None:
    promises = Promises(current(), lambda _: None)
    request, connection = Request(b"GET", A, b"/", []), FakeConnection(0, A)
    promises.keep(connection, request)
    assert promises.take(Request(b"GET", A, b"/", [])) is None
    assert promises.take(request) is connection
    assert promises.take(request) is None


async def test_a_promise_that_is_not_claimed_lapses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdwire.http.promises._KEPT", 0.0)
    returned = anyio.Event()
    promises = Promises(current(), lambda _: returned.set())
    promises.keep(FakeConnection(0, A), Request(b"GET", A, b"/", []))
    with anyio.fail_after(2):
        await returned.wait()
    assert not promises


async def test_a_connection_that_nobody_will_use_any_more_ends() -> None:
    async def connect(attempt: Attempt) -> FakeConnection:
        return FakeConnection(0, attempt.request.origin)

    pool = Pool(connect, limits=PoolLimits(), sharable=lambda _: False, notify=Observers())
    weak = WeakPool(pool)
    del pool
    gc.collect()
    came_back, unclaimed = FakeConnection(1, A), FakeConnection(2, A)
    weak.on_idle(came_back)
    weak.give_back(unclaimed)
    assert [came_back.close_reason, unclaimed.close_reason] == [CloseReason.ACLOSE, CloseReason.ACLOSE]
