"""How many connections a burst of requests opens, and what the server's limit on streams does to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from holdwire.events import ConnectionSetUp, FailureRecorded
from holdwire.http.connection import Attempt
from holdwire.http.http2 import Http2Connection
from holdwire.http.messages import Request
from tests.http2.clients import Watch, client_of, connections_of
from tests.http2.server import serve
from tests.ports import free_port

if TYPE_CHECKING:
    from holdwire.http.messages import Response
    from tests.http2.server import Connection, Received, Server


class Gate:
    """Holds answers back and counts how many requests were open at a time on each connection."""

    def __init__(self) -> None:
        self.opened = anyio.Event()
        self.now: dict[int, int] = {}
        self.most: dict[int, int] = {}
        self.arrived = 0
        self._changed = anyio.Event()

    async def handle(self, connection: Connection, request: Received) -> None:
        number = connection.number
        self.now[number] = self.now.get(number, 0) + 1
        self.most[number] = max(self.most.get(number, 0), self.now[number])
        self.arrived += 1
        self._changed.set()
        self._changed = anyio.Event()
        await self.opened.wait()
        self.now[number] -= 1
        await connection.answer(request)

    async def until(self, count: int) -> None:
        with anyio.fail_after(20):
            while self.arrived < count:
                await self._changed.wait()


async def burst(client: httpx.AsyncClient, server: Server, count: int, *, opens: tuple[Gate, int] | None = None) -> int:
    """Send ``count`` requests at once; open the gate when so many have arrived; return how many were answered."""
    answered = 0

    async def get(number: int) -> None:
        nonlocal answered
        response = await client.get(f"{server.url}/{number}")
        assert response.text == f"/{number}"
        answered += 1

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(get, number)
        if opens is not None:
            gate, arrived = opens
            await gate.until(arrived)
            gate.opened.set()
    return answered


async def test_a_burst_to_a_new_origin_opens_one_connection() -> None:
    watch, gate = Watch(), Gate()
    async with serve(gate.handle) as server, client_of(watch) as client:
        assert await burst(client, server, 100, opens=(gate, 100)) == 100
    assert (len(server.connections), watch.opened, gate.most) == (1, 1, {0: 100})


@pytest.mark.parametrize("streams", [1, 2])
async def test_further_connections_where_streams_run_out(streams: int) -> None:
    watch, gate = Watch(), Gate()
    async with serve(gate.handle, settings={"streams": streams}) as server, client_of(watch) as client:
        assert await burst(client, server, 6, opens=(gate, 6)) == 6
    assert len(server.connections) == 6 // streams
    assert set(gate.most.values()) == {streams}
    assert watch.kinds == []


@pytest.mark.parametrize("streams", [1, 2])
async def test_requests_wait_for_streams_where_the_limit_on_connections_is_reached(streams: int) -> None:
    gate = Gate()
    limits = httpx.Limits(max_connections=1)
    async with serve(gate.handle, settings={"streams": streams}) as server, client_of(limits=limits) as client:
        assert await burst(client, server, 6, opens=(gate, streams)) == 6
    assert len(server.connections) == 1
    assert gate.most == {0: streams}


async def test_a_limit_that_is_lowered_midway_is_kept() -> None:
    gate = Gate()
    limits = httpx.Limits(max_connections=1)
    async with serve(gate.handle) as server, client_of(limits=limits) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(burst, client, server, 4)
            await gate.until(4)
            connection = server.connections[0]
            await connection.settings(streams=2)
            await connection.ping()
            (ours,) = connections_of(client)
            with anyio.fail_after(5):
                while ours.width != 2:  # noqa: ASYNC110 - of the client, which tells nobody
                    await anyio.sleep(0.001)
            assert ours.capacity < 1
            gate.opened.set()
        gate.most.clear()
        gate.now.clear()
        gate.opened = anyio.Event()
        gate.arrived = 0
        assert await burst(client, server, 6, opens=(gate, 2)) == 6
    assert gate.most == {0: 2}
    assert len(server.connections) == 1


async def test_a_server_that_allows_no_streams_any_more_gets_a_new_connection_in_place_of_the_old_one() -> None:
    limits = httpx.Limits(max_connections=1)
    watch = Watch()
    async with serve() as server, client_of(watch, limits=limits) as client:
        assert await burst(client, server, 1) == 1
        await server.connections[0].settings(streams=0)
        (ours,) = connections_of(client)
        with anyio.fail_after(5):
            while ours.terms.limit:  # noqa: ASYNC110 - of the client, which tells nobody
                await anyio.sleep(0.001)
        assert await burst(client, server, 2) == 2
    assert (len(server.connections), watch.kinds) == (2, [])


async def test_who_waits_gets_another_connection_where_the_last_stream_timed_out_and_still_holds_its_place() -> None:
    async def handle(connection: Connection, request: Received) -> None:
        if request.path != "/silent":
            await connection.answer(request)

    limits = httpx.Limits(max_connections=1)
    async with serve(handle, settings={"streams": 1}) as server, client_of(limits=limits) as client:
        await client.get(f"{server.url}/first")
        waited: list[httpx.Response] = []

        async def time_out() -> None:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"{server.url}/silent", timeout=httpx.Timeout(5, read=0.3))

        async def wait() -> None:
            waited.append(await client.get(f"{server.url}/second", timeout=httpx.Timeout(5, pool=3)))

        async with anyio.create_task_group() as group:
            group.start_soon(time_out)
            with anyio.fail_after(5):
                while "/silent" not in server.seen:  # noqa: ASYNC110 - of the server, which tells nobody
                    await anyio.sleep(0.001)
            group.start_soon(wait)
        assert waited[0].text == "/second"


async def test_a_connection_that_goes_from_request_to_request_has_not_been_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idle: list[float] = []
    exchange = Http2Connection.exchange

    async def watched(self: Http2Connection, attempt: Attempt) -> Response:
        response = await exchange(self, attempt)
        idle.append(attempt.idle_before)
        return response

    async def handle(connection: Connection, request: Received) -> None:
        await anyio.sleep(0.3)
        await connection.answer(request)

    monkeypatch.setattr(Http2Connection, "exchange", watched)
    limits = httpx.Limits(max_connections=1)
    async with serve(handle, settings={"streams": 1}) as server, client_of(limits=limits) as client:
        assert await burst(client, server, 3) == 3
    assert len(server.connections) == 1
    assert len(idle) == 3
    assert max(idle) < 0.3


async def test_a_connection_that_is_too_old_finishes_what_it_has() -> None:
    watch, gate = Watch(), Gate()
    async with serve(gate.handle) as server, client_of(watch) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(burst, client, server, 3)
            await gate.until(3)
            (ours,) = connections_of(client)
            ours.expires = 0.0
            group.start_soon(burst, client, server, 2)
            await gate.until(5)
            gate.opened.set()
        await burst(client, server, 1)
    assert len(server.connections) == 2
    assert (watch.kinds, gate.most) == ([], {0: 3, 1: 2})
    assert "max_age" in watch.ends


async def test_requests_wait_for_a_connection_that_fails_and_open_another() -> None:
    port = free_port()
    watch = Watch()
    async with client_of(watch) as client:
        failed = 0

        async def get() -> None:
            nonlocal failed
            with pytest.raises((httpx.ConnectError, httpx.ConnectTimeout)):
                await client.get(f"http://localhost:{port}/x", timeout=httpx.Timeout(5, connect=0.2))
            failed += 1

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(get)
    assert failed == 5


async def test_a_request_that_is_cancelled_while_it_waits_for_a_stream_leaves_its_place_to_the_next() -> None:
    gate = Gate()
    limits = httpx.Limits(max_connections=1)
    async with serve(gate.handle, settings={"streams": 1}) as server, client_of(limits=limits) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(burst, client, server, 1)
            await gate.until(1)
            async with anyio.create_task_group() as inner:
                inner.start_soon(burst, client, server, 3)
                await anyio.wait_all_tasks_blocked()
                inner.cancel_scope.cancel()
            group.start_soon(burst, client, server, 1)
            await anyio.wait_all_tasks_blocked()
            gate.opened.set()
        (ours,) = connections_of(client)
        assert (ours.active, ours.capacity) == (0, 1)
    assert len(server.seen) == 2


async def test_requests_make_do_with_the_streams_there_are_where_the_server_takes_no_further_connection() -> None:
    watch, gate = Watch(), Gate()
    async with (
        serve(gate.handle, settings={"streams": 2}) as server,
        client_of(watch) as client,
        anyio.create_task_group() as group,
    ):
        group.start_soon(burst, client, server, 2)
        await gate.until(2)
        assert server.listener is not None
        anyio.notify_closing(server.listener)
        server.listener.close()
        group.start_soon(burst, client, server, 4)
        await anyio.sleep(0.7)
        gate.opened.set()
    assert len(server.seen) == 6
    assert gate.most == {0: 2}
    dials = [event for event in watch.events if isinstance(event, ConnectionSetUp)]
    assert len(dials) <= 1 + 4
    refused = [event.failure for event in dials if event.connection_id is None]
    assert refused
    assert [event.failure for event in watch.events if isinstance(event, FailureRecorded)] == refused


async def test_a_request_gets_a_connection_whose_first_request_was_cancelled_before_the_servers_settings() -> None:
    greeting = anyio.Event()

    async def greet(connection: Connection) -> None:
        await greeting.wait()
        await connection.settings(streams=100)

    async with serve(greet=greet) as server, client_of() as client, anyio.create_task_group() as group:
        first = anyio.CancelScope()

        async def give_up() -> None:
            with first:
                await client.get(f"{server.url}/x")

        group.start_soon(give_up)
        with anyio.fail_after(10):
            while not connections_of(client):  # noqa: ASYNC110 - nothing tells of it yet
                await anyio.sleep(0.001)
        group.start_soon(burst, client, server, 2)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        greeting.set()
        with anyio.fail_after(10):
            while len(server.answered) < 2:  # noqa: ASYNC110 - see above
                await anyio.sleep(0.001)
    assert len(server.connections) == 1


class Doors:
    """Answers each request when its path is opened, and tells which have arrived."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.answered: list[str] = []
        self._doors: dict[str, anyio.Event] = {}
        self._changed = anyio.Event()

    def door(self, path: str) -> anyio.Event:
        return self._doors.setdefault(path, anyio.Event())

    async def handle(self, connection: Connection, request: Received) -> None:
        self.arrived.append(request.path)
        self._tell()
        await self.door(request.path).wait()
        await connection.answer(request)

    async def get(self, client: httpx.AsyncClient, url: str) -> None:
        self.answered.append((await client.get(url)).text)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def until(self, *arrived: str, answered: tuple[str, ...] = ()) -> None:
        while self.arrived != list(arrived) or sorted(self.answered) != list(answered):
            await self._changed.wait()


@pytest.mark.parametrize("streams", [2, 100], ids=["none to spare", "many to spare"])
async def test_a_connection_that_never_rests_makes_room_for_another_origin_whose_request_came_first(
    monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    monkeypatch.setattr("holdwire.http.waiters._PATIENCE", 0.0)
    watch, doors = Watch(), Doors()
    async with (
        serve(doors.handle, settings={"streams": streams}) as server,
        serve() as other,
        client_of(watch, limits=httpx.Limits(max_connections=1)) as client,
    ):
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(doors.get, client, f"{server.url}/1")
                await doors.until("/1")
                group.start_soon(doors.get, client, f"{other.url}/waits")
                await anyio.wait_all_tasks_blocked()
                group.start_soon(
                    doors.get, client, f"{server.url}/2"
                )  # while what came first is in progress nothing is lost
                await doors.until("/1", "/2")
                if streams == 2:
                    group.start_soon(doors.get, client, f"{server.url}/3")  # waits for a stream
                    await anyio.wait_all_tasks_blocked()
                doors.door("/1").set()
                await doors.until("/1", "/2", answered=("/1",))
                if streams > 2:
                    group.start_soon(doors.get, client, f"{server.url}/3")
                    await anyio.wait_all_tasks_blocked()
                doors.door("/2").set()
                await doors.until("/1", "/2", "/3", answered=("/1", "/2", "/waits"))
                doors.door("/3").set()
    assert len(server.connections) == 2
    assert watch.kinds == []


async def test_who_waits_for_a_place_waits_for_a_stream_that_came_first_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("holdwire.http.waiters._PATIENCE", 0.0)
    doors = Doors()
    async with (
        serve(doors.handle) as server,
        serve() as other,
        client_of(limits=httpx.Limits(max_connections=1)) as client,
    ):
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(doors.get, client, f"{server.url}/events")
                await doors.until("/events")
                group.start_soon(doors.get, client, f"{other.url}/waits")
                await anyio.wait_all_tasks_blocked()
                for number in range(5):
                    doors.door(f"/{number}").set()
                    await client.get(f"{server.url}/{number}")
                assert other.seen == []
                doors.door("/events").set()
    assert other.seen == ["/waits"]
    assert len(server.connections) == 1


async def test_a_connection_that_dies_before_the_request_that_it_is_kept_for_comes_is_told() -> None:
    watch = Watch()
    async with serve() as server, client_of(watch) as client:
        await client.get(f"{server.url}/")
        transport: Any = client._transport
        (pool,) = transport._client.pools
        request = Request(b"GET", connections_of(client)[0].origin, b"/", [])
        replacement = await pool.open_spare(Attempt(request), wanted=lambda: True)
        pool.promises.keep(replacement, request)
        with anyio.fail_after(10):
            while len(server.connections) < 2:  # noqa: ASYNC110 - until the server has it too
                await anyio.sleep(0.001)
        await server.connections[1].rst()
        await watch.until(lambda seen: seen.failures)
        assert [failure.connection_id for failure in watch.failures] == [replacement.wire.id]
        assert len(connections_of(client)) == 1
