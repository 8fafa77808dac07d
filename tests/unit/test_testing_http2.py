"""What a user of ``ChaosServer`` sees who speaks HTTP/2 with it: the same ledger, and faults at frames."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import anyio
import hpack
import httpx
import pytest
from hyperframe.frame import HeadersFrame, SettingsFrame, WindowUpdateFrame

import holdwire
from holdwire.testing import Answer, BlockingChaosProxy, ChaosServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Iterator


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    with ChaosServer(tls=request.param, http2=True) as running:
        yield running


def client(server: ChaosServer, *, http1: bool = False) -> httpx.Client:
    """Httpx without holdwire: nothing of ours tests itself."""
    verify: ssl.SSLContext | bool = True if server.identity is None else server.client_context()
    return httpx.Client(verify=verify, http1=http1, http2=True, base_url=server.url, timeout=30)


def resilient(to: ChaosServer | BlockingChaosProxy) -> httpx.AsyncClient:
    """For what httpcore does not do over HTTP/2, such as going on after a GOAWAY."""
    tls = to.identity is not None
    transport = holdwire.ResilientTransport(verify=to.client_context() if tls else True, http1=False, http2=True)
    return httpx.AsyncClient(transport=transport, base_url=f"http{'s' if tls else ''}://localhost:{to.address[1]}")


def test_it_answers_and_echoes_on_one_connection(server: ChaosServer) -> None:
    with client(server) as http:
        first, second = http.get("/a?x=1"), http.post("/b", content=b"data")
    assert (first.http_version, first.text) == ("HTTP/2", "hello\n")
    assert second.content == b"data"
    assert [(one.method, one.path, one.size, one.connection, one.exchange) for one in server.ledger.executions()] == [
        ("GET", "/a", 0, 1, 1),
        ("POST", "/b", 4, 1, 2),
    ]


def test_a_client_of_http11_is_served_too(server: ChaosServer) -> None:
    verify: ssl.SSLContext | bool = True if server.identity is None else server.client_context()
    server.script("response#2:0 rst")
    with httpx.Client(verify=verify, base_url=server.url) as http:
        assert http.get("/").http_version == "HTTP/1.1"
        with pytest.raises(httpx.TransportError):
            http.get("/again")


def test_a_body_larger_than_every_window_comes_whole(server: ChaosServer) -> None:
    server.answer("/", Answer(body=b"x" * 300_000, headers=(("X-Long", "y" * 20_000),), trailers=(("x-end", "1"),)))
    with client(server) as http:
        response = http.post("/", content=b"z" * 200_000)
    assert len(response.content) == 300_000
    assert len(response.headers["x-long"]) == 20_000
    assert [one.size for one in server.ledger.executions()] == [200_000]


async def test_a_header_that_is_not_ascii_is_understood_as_over_http11(server: ChaosServer) -> None:
    server.handle("/", lambda request: Answer(headers=(("x-back", request.header("x-name") or ""),)))
    async with resilient(server) as http:
        response = await http.get("/", headers=[(b"x-name", "M\u00fcller".encode("latin-1"))])
    assert dict(response.headers.raw)[b"x-back"] == "M\u00fcller".encode("latin-1")


def test_head_304_and_interim_answers(server: ChaosServer) -> None:
    server.answer("/", Answer(body=b"12345", interim=(103,)))
    server.answer("/same", Answer(status=304))
    with client(server) as http:
        assert http.head("/").content == b""
        assert http.get("/").content == b"12345"
        assert http.get("/same").status_code == 304
    assert server.accepted == 1


async def test_an_early_answer_is_no_execution(server: ChaosServer) -> None:
    server.answer("/", Answer(status=413, early=True))
    async with resilient(server) as http:
        assert (await http.post("/", content=b"x" * 200_000)).status_code == 413
        assert (await http.get("/other")).status_code == 200
    assert [one.path for one in server.ledger.executions()] == ["/other"]
    assert server.accepted == 1


async def test_an_answer_that_closes_says_goaway_and_the_next_request_takes_a_new_connection(
    server: ChaosServer,
) -> None:
    server.answer("/last", Answer(close=True))
    async with resilient(server) as http:
        for path in ("/last", "/next"):
            assert (await http.get(path)).status_code == 200
    assert server.accepted == 2


@pytest.mark.parametrize(
    ("script", "executed"),
    [
        ("request:0 rst", 0),
        ("request#1:0 fin", 0),
        ("response:0 rst", 1),
        ("response:15 fin", 1),
        ("frame rst", 0),
        ("frame:3 rst", 1),
        ("frame#1:0 fin", 1),
        ("frame#1:1 truncate", 1),
        ("frame#1:1 truncate=1", 1),
        ("frame#1:1 rst_stream=INTERNAL_ERROR", 1),
        ("frame#1:0 rst_stream", 1),
    ],
)
def test_a_request_fails_at_the_frame_or_byte_that_the_script_names(
    server: ChaosServer, script: str, executed: int
) -> None:
    server.script(script)
    server.answer("/", Answer(body=b"x" * 100))
    with client(server) as http, pytest.raises(httpx.TransportError):
        http.get("/")
    server.wait_for("fault")
    assert server.ledger.count() == executed


def test_a_fault_strikes_at_its_own_answer_and_the_connection_lives_on(server: ChaosServer) -> None:
    server.script("frame#2:0 rst_stream=REFUSED_STREAM")
    server.script("frame rst_stream=8", path="/by-path")
    with client(server) as http:
        assert http.get("/first").status_code == 200
        with pytest.raises(httpx.RemoteProtocolError, match="error_code:7"):
            http.get("/second")
        assert http.get("/third", headers={"x-new": "1"}).status_code == 200
        server.script("response:3 rst", path="/cut")
        with pytest.raises(httpx.TransportError):
            http.get("/cut")
    assert [one.connection for one in server.ledger.executions()] == [1, 1, 1, 1]


async def test_a_goaway_lets_what_is_here_live_and_sends_others_elsewhere(server: ChaosServer) -> None:
    server.script("frame#2:0 goaway=NO_ERROR; frame#2:0 stall")
    async with resilient(server) as http:
        await http.get("/")  # so that there is a connection to share
        async with anyio.create_task_group() as group:
            group.start_soon(http.post, "/here")
            await server.until("fault", count=2)
            assert (await http.post("/later")).status_code == 200
            server.heal()
    assert [(one.path, one.connection) for one in server.ledger.executions()] == [("/", 1), ("/here", 1), ("/later", 2)]


def test_after_a_goaway_nothing_is_executed_on_the_connection() -> None:
    encoder = hpack.Encoder()

    def request(stream: int, path: str) -> bytes:
        block = encoder.encode([(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", path)])
        return HeadersFrame(stream, block, flags=["END_HEADERS", "END_STREAM"]).serialize()

    with ChaosServer(http2=True) as server, socket.create_connection(server.address, timeout=30) as sock:
        server.script("frame:2 goaway", path="/1")
        server.answer("/1", Answer(body=b"x" * 100_000))
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize() + request(1, "/1"))
        server.wait_for("fault")
        sock.sendall(request(3, "/3") + WindowUpdateFrame(0, 100_000).serialize())
        sock.sendall(WindowUpdateFrame(1, 100_000).serialize())
        server.wait_for("closed")
        assert [one.path for one in server.ledger.executions()] == ["/1"]


def test_a_flood_comes_before_the_answer(server: ChaosServer) -> None:
    server.script("frame#1:0 flood=50")
    with client(server) as http:
        assert http.get("/").status_code == 200
        assert http.get("/").status_code == 200
    assert [str(entry).split(maxsplit=2)[2] for entry in server.journal.entries("fault")] == ["frame#1 flood=50"]


def test_a_stall_before_a_frame_ends_when_it_is_healed(server: ChaosServer) -> None:
    server.script("frame#1:1 stall")
    server.answer("/", Answer(body=b"x" * 10))
    with client(server) as http, http.stream("GET", "/") as response:
        assert response.status_code == 200
        server.heal()
        assert response.read() == b"x" * 10


async def test_an_idle_connection_of_http2_is_closed_after_its_time(server: ChaosServer) -> None:
    server.script("idle:0.2 fin")
    async with resilient(server) as http:
        assert (await http.get("/")).status_code == 200
        await server.until("closed")
        assert (await http.get("/")).status_code == 200
    assert server.accepted == 2


@pytest.mark.parametrize("server", [False], ids=["plain"], indirect=True)
async def test_a_connection_of_http2_is_not_idle_while_a_request_is_in_progress(server: ChaosServer) -> None:
    async def slowly() -> AsyncGenerator[bytes]:
        yield b"x"
        await anyio.sleep(1)
        yield b"y"

    server.script("idle:0.5 fin")
    async with resilient(server) as http:
        assert (await http.get("/")).status_code == 200
        assert (await http.post("/", content=slowly())).content == b"xy"
        await server.until("closed")


def test_what_is_no_http2_is_rejected() -> None:
    with ChaosServer(tls=True, http2=True) as server:
        context = server.client_context()
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(server.address, timeout=30) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as sock,
        ):
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            server.wait_for("rejected")


def test_frames_are_refused_where_there_are_none() -> None:
    with ChaosServer() as server:
        for path in (None, "/"):
            with pytest.raises(ValueError, match="ChaosServer without http2=True has no point frame"):
                server.script("frame:1 rst", path=path)


# --- through a proxy ---


@pytest.fixture
def proxy(server: ChaosServer) -> Iterator[BlockingChaosProxy]:
    """Ends TLS where the server has it."""
    target = None
    if server.identity is not None:
        target = server.client_context()
        target.set_alpn_protocols(["h2"])
    with BlockingChaosProxy(server.address, tls=target is not None, target_tls=target, http2=True) as running:
        yield running


def through(proxy: BlockingChaosProxy) -> httpx.Client:
    verify: ssl.SSLContext | bool = True if proxy.identity is None else proxy.client_context()
    scheme = "http" if proxy.identity is None else "https"
    return httpx.Client(
        verify=verify, http1=False, http2=True, base_url=f"{scheme}://localhost:{proxy.address[1]}", timeout=30
    )


@pytest.mark.parametrize(
    ("script", "executed"),
    [("frame rst", 0), ("frame:2 rst", 1), ("frame:3 truncate", 1), ("frame:2 fin", 1), ("response:1 rst", 0)],
)
def test_a_proxy_breaks_between_two_frames(
    server: ChaosServer, proxy: BlockingChaosProxy, script: str, executed: int
) -> None:
    proxy.script(f"{script}; frame:1000 rst")
    with through(proxy) as http:
        with pytest.raises(httpx.TransportError):
            http.get("/")
        proxy.wait_for("fault")
        assert http.get("/").status_code == 200
    assert server.ledger.count() >= executed + 1  # the server may be ahead of what the proxy has passed on


async def test_a_proxy_says_goaway_for_the_server(server: ChaosServer, proxy: BlockingChaosProxy) -> None:
    proxy.script("frame:2 goaway; frame:2 flood=3")
    async with resilient(proxy) as http:
        for _ in range(2):
            assert (await http.get("/")).status_code == 200
    assert proxy.accepted == 2, "the second request takes another connection"
    assert server.ledger.count() == 2


@pytest.mark.parametrize("server", [False], ids=["plain"], indirect=True)  # by TLS the proxy itself offers HTTP/2 alone
def test_a_proxy_passes_http11_on_as_it_is(proxy: BlockingChaosProxy) -> None:
    proxy.script("frame:1 rst")
    with httpx.Client(base_url=f"http://localhost:{proxy.address[1]}") as http:
        assert http.get("/").http_version == "HTTP/1.1"
        assert http.get("/").status_code == 200


def test_a_proxy_cannot_reset_a_stream(proxy: BlockingChaosProxy) -> None:
    with pytest.raises(ValueError, match="cannot be done by a proxy"):
        proxy.script("frame:1 rst_stream")
