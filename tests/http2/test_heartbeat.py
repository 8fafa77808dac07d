"""PINGs on real connections: silent death is found in time, life is not mistaken for it, servers are not annoyed."""

from __future__ import annotations

import dataclasses
import logging
import socket
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import HeadersFrame, PingFrame

import holdwire
from holdwire.events import ConnectionClosed, FailureRecorded, HeartbeatAnswered, HeartbeatMissed
from tests.http2.clients import Watch, client_of, connections_of
from tests.http2.server import serve

if TYPE_CHECKING:
    from tests.http2.server import Connection, Received

INTERVAL, TIMEOUT = 1.0, 0.6
SLACK = 1.1


def quick(client: httpx.AsyncClient, **changes: Any) -> None:
    """Allow a heartbeat quicker than servers like it."""
    transport: Any = client._transport
    inner = transport._client
    http2 = dataclasses.replace(inner.settings.http2, floor=0.01, **changes)
    inner.settings = dataclasses.replace(inner.settings, http2=http2)


def beat(interval: float = INTERVAL, *, while_idle: bool = False) -> holdwire.Heartbeat:
    return holdwire.Heartbeat(interval=interval, timeout=TIMEOUT, jitter=0.0, while_idle=while_idle)


async def say_nothing(connection: Connection, request: Received) -> None:
    """A server whose process hangs."""


async def deaf(connection: Connection) -> None:
    await connection.settings(streams=100)
    connection.answers_pings = False


@pytest.mark.parametrize("streams", [1, 100])
async def test_a_peer_that_died_under_waiting_requests_is_found_within_interval_and_time_out(streams: int) -> None:
    """Within a tenth more in one of a few tries: where this machine has no time for us, the guards allow for it."""
    idle, waited = await _found_dead(streams)
    for _ in range(4):
        if idle < (INTERVAL + TIMEOUT) * SLACK and waited < TIMEOUT * SLACK + 0.05:
            break
        idle, waited = await _found_dead(streams)
    assert idle < (INTERVAL + TIMEOUT) * SLACK
    assert waited < TIMEOUT * SLACK + 0.05


async def _found_dead(streams: int) -> tuple[float, float]:
    """How long the connection had been silent, and how long the PING unanswered."""
    watch = Watch()
    async with serve(say_nothing, greet=deaf) as server, client_of(watch, heartbeat=beat()) as client:
        quick(client)
        failed: list[BaseException] = []

        async def post(number: int) -> None:
            with pytest.raises(httpx.ReadError) as caught:
                await client.post(f"{server.url}/{number}", timeout=None)
            failed.append(caught.value)

        async with anyio.create_task_group() as group:
            for number in range(streams):
                group.start_soon(post, number)
            with anyio.fail_after(10):
                while len(server.seen) < streams:  # noqa: ASYNC110 - until all of them wait
                    await anyio.sleep(0.001)
    failures = [holdwire.failure_of(error) for error in failed]
    assert len(failures) == streams
    assert {str(failure.kind) for failure in failures if failure is not None} == {"heartbeat_lost"}
    (missed,) = [event for event in watch.events if isinstance(event, HeartbeatMissed)]
    (closed,) = [event for event in watch.events if isinstance(event, ConnectionClosed)]
    assert closed.failure is not None
    assert closed.failure.idle is not None
    assert len(watch.failures) == streams
    return closed.failure.idle, missed.waited


async def test_a_get_on_a_dead_connection_is_answered_by_a_new_one() -> None:
    watch = Watch()

    async def handle(connection: Connection, request: Received) -> None:
        if connection.number:
            await connection.answer(request)

    async def first_is_deaf(connection: Connection) -> None:
        await connection.settings(streams=100)
        connection.answers_pings = connection.number > 0

    async with serve(handle, greet=first_is_deaf) as server, client_of(watch, heartbeat=beat(0.2)) as client:
        quick(client)
        assert (await client.get(f"{server.url}/x", timeout=None)).text == "/x"
    assert (server.seen, server.answered, len(server.connections)) == (["/x", "/x"], ["/x"], 2)
    assert watch.kinds == ["heartbeat_lost"]


async def test_a_peer_that_dies_while_idle_is_found_if_asked_for_and_no_request_meets_it() -> None:
    watch = Watch()
    heartbeat = beat(0.3, while_idle=True)
    async with serve() as server, client_of(watch, heartbeat=heartbeat) as client:
        quick(client)
        await client.get(f"{server.url}/x")
        connection = server.connections[0]
        await connection.heard(PingFrame, 2)
        connection.answers_pings = False
        with anyio.fail_after(10):
            await connection.closed.wait()
        assert (await client.get(f"{server.url}/y")).text == "/y"
    missed = [event for event in watch.events if isinstance(event, HeartbeatMissed)]
    failures = [event for event in watch.events if isinstance(event, FailureRecorded)]
    assert (len(missed), [str(event.failure.kind) for event in failures]) == (1, ["heartbeat_lost"])
    assert sum(isinstance(event, HeartbeatAnswered) for event in watch.events) >= 2
    assert "earlier ones were answered in" in (failures[0].failure.detail or "")
    assert failures[0].context is None
    assert server.seen == ["/x", "/y"]


async def test_any_frame_is_life_and_a_slow_answer_is_waited_for() -> None:
    async def slow(connection: Connection, request: Received) -> None:
        connection.answers_pings = False
        for _ in range(8):
            await anyio.sleep(0.2)
            await connection.ping()
        await connection.answer(request)

    watch = Watch()
    async with serve(slow) as server, client_of(watch, heartbeat=beat(0.3)) as client:
        quick(client)
        assert (await client.get(f"{server.url}/x")).text == "/x"
    assert (watch.kinds, len(server.connections)) == ([], 1)


async def test_no_ping_while_idle_and_one_before_the_first_use_after_long_idling() -> None:
    async with serve() as server, client_of(heartbeat=beat(0.5)) as client:
        quick(client)
        await client.get(f"{server.url}/x")
        await anyio.sleep(1.1)
        (connection,) = server.connections
        assert connection.frames(PingFrame) == []
        await client.get(f"{server.url}/y")
        kinds = [type(frame) for frame in connection.received if isinstance(frame, PingFrame | HeadersFrame)]
        assert kinds == [HeadersFrame, PingFrame, HeadersFrame]


async def test_new_requests_avoid_a_connection_whose_ping_is_overdue() -> None:
    watch = Watch()
    over = anyio.Event()

    async def handle(connection: Connection, request: Received) -> None:
        if request.path == "/slow":
            await over.wait()
        await connection.answer(request)

    heartbeat = holdwire.Heartbeat(interval=0.1, timeout=10, jitter=0.0)
    async with serve(handle, greet=deaf) as server, client_of(watch, heartbeat=heartbeat) as client:
        quick(client)
        async with anyio.create_task_group() as group:
            group.start_soon(client.get, f"{server.url}/slow")
            with anyio.fail_after(5):
                while not server.connections or not server.connections[0].frames(PingFrame):  # noqa: ASYNC110 - see below
                    await anyio.sleep(0.01)  # until the server is asked whether it lives
            await anyio.sleep(1.1)
            assert (await client.get(f"{server.url}/quick")).text == "/quick"
            assert len(server.connections) == 2
            assert "/quick" not in [request.path for request in server.connections[0].requests.values()]
            over.set()
    assert watch.kinds == []


async def test_a_server_that_had_too_many_pings_is_asked_half_as_often_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def touchy(connection: Connection, request: Received) -> None:
        if request.path == "/long" and not connection.number:
            await connection.heard(PingFrame)
            await connection.goaway(request.stream, ErrorCodes.ENHANCE_YOUR_CALM, b"too_many_pings")
            await connection.close()
        else:
            await connection.answer(request)

    async with serve(touchy) as server, client_of(heartbeat=beat(0.1)) as client:
        quick(client)
        with caplog.at_level(logging.WARNING, "holdwire"):
            assert (await client.get(f"{server.url}/long")).text == "/long"
        transport: Any = client._transport
        pings = transport._client.settings.http2.memory.pings
        (ours,) = connections_of(client)
        assert pings.scale(ours.origin) == 2.0
        assert "too_many_pings" in caplog.text
    assert len(server.connections) == 2


async def test_no_ping_at_all_where_the_heartbeat_is_switched_off() -> None:
    async with serve(say_nothing) as server, client_of(heartbeat=None) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(f"{server.url}/x", timeout=httpx.Timeout(5, read=0.2))
        await anyio.sleep(0.1)
        assert server.connections[0].frames(PingFrame) == []


async def test_a_peer_that_reads_nothing_for_longer_than_a_heartbeat_is_not_killed() -> None:
    async def slow_reader(connection: Connection) -> None:
        await connection.settings(streams=100, window=2**30)
        await connection.open_window(0, 2**30)
        connection.stop_reading()

    watch = Watch()
    small = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)]
    async with (
        serve(greet=slow_reader) as server,
        client_of(watch, heartbeat=beat(0.2), socket_options=small) as client,
    ):
        quick(client)
        async with anyio.create_task_group() as group:

            async def post() -> None:
                response = await client.post(f"{server.url}/x", content=b"x" * 2**21, timeout=None)
                assert response.status_code == 200

            group.start_soon(post)
            await anyio.sleep(2.5 * (0.2 + TIMEOUT))
            server.connections[0].paused.set()
    assert (watch.kinds, len(server.connections)) == ([], 1)
