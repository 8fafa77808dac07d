"""What a transport shows of itself: origins, connections, TCP_INFO, what was learnt; as JSON, from any thread."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx
import pytest

import holdwire
from holdwire import events
from holdwire.policy.flight import Mark
from holdwire.testing import ChaosServer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer(tls=False) as server:
        yield server


def entry(transport: holdwire.ResilientTransport) -> dict[str, Any]:
    (found,) = transport.snapshot()
    assert json.loads(json.dumps(found)) == found
    return found


async def test_an_idle_connection_is_shown_with_its_numbers(server: ChaosServer) -> None:
    transport = holdwire.ResilientTransport()
    async with httpx.AsyncClient(transport=transport, base_url=server.url) as http:
        assert transport.snapshot() == []
        for _ in range(3):
            await http.post("/x", content=b"hello")
        shown = entry(transport)
        assert (shown["scheme"], shown["host"], shown["port"]) == ("http", "127.0.0.1", httpx.URL(server.url).port)
        assert shown["requests"] == {"ok": 3, "recovered": 0, "failed": 0, "reused": 2}
        assert (shown["opened"], shown["closed"], shown["waiting"], shown["last_failure"]) == (1, {}, 0, None)
        (connection,) = shown["connections"]
        assert (connection["state"], connection["requests"], connection["streams"]) == ("idle", 3, 0)
        assert connection["bytes_out"] > 15
        assert connection["tcp"]["state"] == "established"
        assert connection["tcp"]["rtt"] > 0
        assert connection["flight"].endswith("s idle")
        assert 0 <= connection["idle"] <= connection["age"]


async def test_a_busy_connection_and_who_waits_for_it_are_shown(server: ChaosServer) -> None:
    server.script("response:0 stall", path="/slow")
    transport = holdwire.ResilientTransport(limits=httpx.Limits(max_connections=1))
    async with httpx.AsyncClient(transport=transport, base_url=server.url) as http, anyio.create_task_group() as group:
        group.start_soon(http.get, "/slow")
        await anyio.to_thread.run_sync(lambda: server.wait_for("fault", count=1))
        group.start_soon(http.get, "/next")
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        shown = entry(transport)
        assert shown["waiting"] == 1
        (connection,) = shown["connections"]
        assert (connection["state"], connection["phase"], connection["streams"]) == ("active", "response_wait", 1)
        group.cancel_scope.cancel()


async def test_the_last_failure_is_shown_with_its_cause(server: ChaosServer) -> None:
    transport = holdwire.ResilientTransport()
    async with httpx.AsyncClient(transport=transport, base_url=server.url) as http:
        server.script("response:0 rst", path="/order")
        with pytest.raises(httpx.ReadError):
            await http.post("/order", content=b"1")
        shown = entry(transport)
        assert shown["requests"]["failed"] == 1
        assert shown["closed"] == {"failure": 1}
        last = shown["last_failure"]
        assert (last["errno"], last["phase"], last["confidence"]) == ("ECONNRESET", "response_wait", "possible")
        assert last["cause"]
        assert last["remedy"]
        assert shown["budget"] >= 0


async def test_all_transports_are_shown_together_from_any_thread(server: ChaosServer) -> None:
    gc.collect()
    known = len(holdwire.snapshot())
    first, second = holdwire.ResilientTransport(), holdwire.ResilientTransport()
    async with (
        httpx.AsyncClient(transport=first, base_url=server.url) as one,
        httpx.AsyncClient(transport=second, base_url=server.url) as other,
    ):
        await one.get("/x")
        await other.get("/x")
        found: list[list[dict[str, Any]]] = []
        thread = threading.Thread(target=lambda: found.append(holdwire.snapshot()))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        assert len(found[0]) == known + 2
        ids = [connection["id"] for shown in found[0][-2:] for connection in shown["connections"]]
        assert len(set(ids)) == len(ids)


class Shown:
    """Shows and counts nothing."""

    def snapshot(self) -> list[dict[str, Any]]:
        return [{}]

    def stats(self) -> list[dict[str, Any]]:
        return []


class Busy(weakref.WeakSet[Shown]):
    """Another thread adds ``late`` to it while it is read for the first time."""

    def __init__(self, members: list[Shown], late: list[Shown]) -> None:
        super().__init__(members)
        self.late = late

    def __iter__(self) -> Iterator[Shown]:
        for member in super().__iter__():
            while self.late:
                self.add(self.late.pop())
            yield member


def test_a_client_that_is_made_while_another_thread_looks_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    living = [Shown() for _ in range(3)]
    monkeypatch.setattr(events, "_shown", Busy(living[:2], living[2:]))
    monkeypatch.setattr(events, "_sources", Busy(living[:2], living[2:]))
    assert holdwire.snapshot() == [{}] * 3
    assert set(events.stats_sources()) == set(living)


async def test_an_http2_connection_shows_its_streams_and_its_failure_the_frames_before_it() -> None:
    from tests.http2.clients import Watch, client_of, misbehaving
    from tests.http2.server import Connection, Received, serve

    async def reset(connection: Connection, request: Received) -> None:
        await connection.reset_stream(request.stream, 2)

    watch = Watch()
    async with (
        serve(misbehaving(reset)) as server,
        client_of(watch, retry=None) as client,
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(f"{server.url}/lost", content=b"1")
        assert (await client.get(f"{server.url}/next")).status_code == 200
        transport = client._transport
        assert isinstance(transport, holdwire.ResilientTransport)
        shown = transport.snapshot()[0]
        assert shown["http_version"] == "2"
        (connection,) = shown["connections"]
        assert connection["round_trips"] == []
        marks = [entry.partition(" s ")[2] for entry in connection["flight"].split("; ")]
        assert marks == [
            "connected",
            "request 1",
            "stream reset by the peer, code 2",
            "idle",
            "request 2",
            "response 200",
            "idle",
        ]
    assert [moment.mark for moment in watch.failures[0].flight][-1] == Mark.RESET
