"""Connections that become something else: WebSockets of httpx2 and httpx-ws, CONNECT, any upgrade; event streams."""

from __future__ import annotations

import contextlib
import importlib
import math
import socket
import struct
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from holdwire.testing import Answer, ChaosServer, Framing, self_signed
from tests.proxies import StubProxy

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Callable, Iterator

    from tests.transports.conftest import Family

    Connect = Callable[[Any, str], contextlib.AbstractAsyncContextManager[Any]]


class WebSocketServer:
    """Echoes; ``close`` closes with 4001, ``reset`` sends RST, ``silence`` reads on and answers nothing."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        server = pytest.importorskip("websockets.sync.server")
        self.closed_with: list[int | None] = []
        self.closed = threading.Event()
        self._server = server.serve(self._talk, "127.0.0.1", 0, ssl=context)
        scheme = "ws" if context is None else "wss"
        self.url = f"{scheme}://127.0.0.1:{self._server.socket.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _talk(self, connection: Any) -> None:
        for message in connection:
            if message == "close":
                connection.close(4001, "as you wish")
            elif message == "reset":
                linger = struct.pack("ii", 1, 0)
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                with contextlib.suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RD)
                connection.socket.close()
                return
            elif message != "silence":
                connection.send(message)
        self.closed_with.append(connection.close_code)
        self.closed.set()

    def shut_down(self) -> None:
        self._server.shutdown()
        self._thread.join(5)


@pytest.fixture(params=["ws", "wss"])
def server(request: pytest.FixtureRequest) -> Iterator[WebSocketServer]:
    context = self_signed("127.0.0.1").server_context() if request.param == "wss" else None
    server = WebSocketServer(context)
    yield server
    server.shut_down()


def websockets_of(family: Family) -> tuple[Connect, Any]:
    """How the family's users open a WebSocket, and the module of the exceptions."""
    if family.name == "httpx2":
        pytest.importorskip("wsproto")
        return lambda client, url: client.websocket(url), importlib.import_module("httpx2.websockets._exceptions")
    httpx_ws: Any = pytest.importorskip("httpx_ws")
    return lambda client, url: httpx_ws.aconnect_ws(url, client), httpx_ws


@contextlib.asynccontextmanager
async def websocket(family: Family, server: WebSocketServer, **settings: Any) -> AsyncGenerator[tuple[Any, Any]]:
    connect, errors = websockets_of(family)
    verify = self_signed("127.0.0.1").client_context()
    async with family.client(verify=verify, **settings) as client, connect(client, server.url) as session:
        yield session, errors


@pytest.mark.parametrize("settings", [{}, {"http2": True}], ids=["http1", "http2 allowed"])
async def test_a_websocket_echoes_and_closes(family: Family, server: WebSocketServer, settings: dict[str, Any]) -> None:
    async with websocket(family, server, **settings) as (session, _):
        await session.send_text("hello")
        assert await session.receive_text() == "hello"
        await session.send_bytes(b"x" * 50_000)
        assert await session.receive_bytes() == b"x" * 50_000
    assert await anyio.to_thread.run_sync(server.closed.wait, 5)
    assert server.closed_with == [1000]


async def test_what_the_server_closes_with_is_told(family: Family, server: WebSocketServer) -> None:
    async with websocket(family, server) as (session, errors):
        await session.send_text("close")
        with pytest.raises(errors.WebSocketDisconnect) as caught:
            await session.receive_text()
        assert (caught.value.code, caught.value.reason) == (4001, "as you wish")


async def test_a_reset_is_the_error_that_the_library_knows(family: Family, server: WebSocketServer) -> None:
    async with websocket(family, server) as (session, errors):
        await session.send_text("reset")
        with pytest.raises(errors.WebSocketNetworkError), anyio.fail_after(5):
            await session.receive_text()


async def test_a_websocket_through_a_proxy(family: Family, server: WebSocketServer) -> None:
    with StubProxy() as proxy:
        async with websocket(family, server, proxy=proxy.url) as (session, _):
            await session.send_text("hello")
            assert await session.receive_text() == "hello"
        assert proxy.heads[0].startswith(b"CONNECT ")


# --- the stream itself ---


@pytest.fixture
def upgrading() -> Iterator[tuple[str, socket.socket]]:
    """A server that answers 101 and more in one write; the other end of its connection comes with it."""
    listener = socket.create_server(("127.0.0.1", 0))
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as sock:
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nfirst words")
            while data := sock.recv(65536):
                sock.sendall(data.upper())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/", ours
    listener.close()
    ours.close()
    theirs.close()
    thread.join(5)


async def test_after_101_the_stream_begins_with_what_came_behind_the_head(
    family: Family, upgrading: tuple[str, socket.socket]
) -> None:
    headers = {"Connection": "upgrade", "Upgrade": "x"}
    async with family.client() as client, client.stream("GET", upgrading[0], headers=headers) as response:
        assert response.status_code == 101
        stream = response.extensions["network_stream"]
        assert await stream.read(5, timeout=10) == b"first"
        assert await stream.read(100, timeout=10) == b" words"
        await stream.write(b"", timeout=10)
        await stream.write(b"hello", timeout=10)
        assert await stream.read(100, timeout=10) == b"HELLO"
        with pytest.raises(family.core.ReadTimeout):
            await stream.read(100, timeout=0.05)
        for call in (partial(stream.read, 100), partial(stream.write, b"x"), partial(stream.start_tls, None)):
            with pytest.raises(ValueError, match="=nan: give a number of seconds"):
                await call(timeout=math.nan)
        await stream.write(b"still there", timeout=10)
        assert await stream.read(100, timeout=10) == b"STILL THERE"


async def test_a_101_that_nobody_asked_for_is_no_response(family: Family, upgrading: tuple[str, socket.socket]) -> None:
    async with family.client() as client:
        with pytest.raises(family.http.RemoteProtocolError, match="did not ask"):
            await client.get(upgrading[0])


async def test_a_reader_wakes_when_another_task_closes_the_stream(
    family: Family, upgrading: tuple[str, socket.socket]
) -> None:
    headers = {"Connection": "upgrade", "Upgrade": "x"}
    async with family.client() as client, client.stream("GET", upgrading[0], headers=headers) as response:
        stream = response.extensions["network_stream"]
        await stream.read(100)

        async def read() -> None:
            with pytest.raises(family.core.ReadError):
                await stream.read(100)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                await stream.aclose()


async def test_connect_hands_over_a_tunnel_that_tls_can_be_spoken_in(family: Family) -> None:
    with ChaosServer(tls=True) as origin, StubProxy() as proxy:
        host, port = origin.address
        target = f"{host}:{port}".encode()
        request = {"extensions": {"target": target}, "headers": {"Host": target.decode()}}
        async with family.client() as client, client.stream("CONNECT", proxy.url, **request) as response:
            assert response.status_code == 200
            stream = await response.extensions["network_stream"].start_tls(
                origin.client_context(), server_hostname=host, timeout=5
            )
            assert stream.get_extra_info("ssl_object") is not None
            await stream.write(b"GET /inside HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await stream.read(1000, timeout=5)).startswith(b"HTTP/1.1 200")
        assert proxy.heads[0].startswith(b"CONNECT " + target)
        assert origin.ledger.count("/inside") == 1


# --- the other extensions ---


async def test_what_a_response_says_of_itself(family: Family) -> None:
    with ChaosServer() as server:
        server.answer("/odd", Answer(status=299, reason="Rather Odd"))
        async with family.client() as client:
            response = await client.get(f"{server.url}/odd")
            assert response.extensions["http_version"] == b"HTTP/1.1"
            assert response.extensions["reason_phrase"] == b"Rather Odd"
            assert "stream_id" not in response.extensions
            stream = response.extensions["network_stream"]
            assert stream.get_extra_info("server_addr") == server.address
            assert stream.get_extra_info("client_addr") == stream.get_extra_info("socket").getsockname()
            assert stream.get_extra_info("ssl_object") is None
            assert stream.get_extra_info("is_readable") is False
            assert stream.get_extra_info("colour") is None


async def test_the_target_is_sent_as_it_was_given(family: Family) -> None:
    with ChaosServer() as server:
        async with family.client() as client:
            await client.options(server.url, extensions={"target": b"*"})
            await client.get(server.url, extensions={"target": "/words"})
            with pytest.raises(family.http.LocalProtocolError):
                await client.get(server.url, extensions={"target": b"/with space"})
        assert [execution.target for execution in server.ledger.executions()] == ["*", "/words"]


async def test_a_server_name_of_ones_own_is_sent_and_verified(family: Family) -> None:
    with ChaosServer(tls=True) as server:
        async with family.client(verify=server.client_context(), retry=None) as client:
            url = server.url
            good = await client.get(url, extensions={"sni_hostname": "localhost"})
            assert good.status_code == 200
            with pytest.raises(family.http.ConnectError, match="certificate"):
                await client.get(url, extensions={"sni_hostname": "other.example"})


async def test_an_event_stream_comes_event_by_event(family: Family) -> None:
    events = b": comment\n\ndata: one\n\nevent: named\nid: 7\ndata: two\n\n"
    with ChaosServer() as server:
        answer = Answer(body=events, framing=Framing.CHUNKED, headers=(("Content-Type", "text/event-stream"),))
        server.answer("/events", answer)
        async with family.client() as client:
            if family.name == "httpx2":
                async with client.sse(f"{server.url}/events") as source:
                    got = [(event.event, event.data, event.id) async for event in source]
                assert [data for _, data, _ in got] == ["one", "two"]
                assert got[1][0] == "named"
            else:
                async with client.stream("GET", f"{server.url}/events") as response:
                    lines = [line async for line in response.aiter_lines()]
                assert [line for line in lines if line.startswith("data")] == ["data: one", "data: two"]


async def test_a_cut_event_stream_is_told_as_one(family: Family) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\ndata: one\n\n"
    with ChaosServer() as server:
        server.answer("/events", Answer(raw=raw, close=True))
        async with family.client() as client, client.stream("GET", f"{server.url}/events") as response:
            with pytest.raises(family.http.RemoteProtocolError) as caught:
                await response.aread()
    assert "event stream ended early" in "".join(caught.value.__cause__.__notes__)
