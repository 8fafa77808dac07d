"""What a user of the proxies sees: an async one on every event loop, and a blocking one."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import sys
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from holdwire.testing.certificates import self_signed
from holdwire.testing.messages import Answer, Framing
from holdwire.testing.proxy import BlockingChaosProxy, ChaosProxy
from holdwire.testing.server import ChaosServer
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 30
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSING_GET = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer() as running:
        yield running


async def talk(address: tuple[str, int], data: bytes = CLOSING_GET) -> tuple[bytes, BaseException | None]:
    """Send, read to the end, and say how it ended."""
    received = b""
    async with await anyio.connect_tcp(*address) as stream:
        try:
            await stream.send(data)
            while True:
                received += await stream.receive()
        except anyio.EndOfStream:
            return received, None
        except anyio.BrokenResourceError as error:
            return received, error.__cause__


def read_all(sock: socket.socket) -> tuple[bytes, BaseException | None]:
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except OSError as error:
        return data, error
    return data, None


@pytest.mark.parametrize("target", ["localhost:6379", ("localhost",), ("localhost", "6379"), 6379])
def test_a_target_is_host_and_port(target: Any) -> None:
    for kind in (ChaosProxy, BlockingChaosProxy):
        with pytest.raises(TypeError, match=rf"{kind.__name__}: target must be host and port, \('localhost', 6379\)"):
            kind(target)
    with pytest.raises(TypeError, match=r"target_tls must be an ssl\.SSLContext or None, not bool"):
        ChaosProxy(("localhost", 1), target_tls=target is not None)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_a_healthy_proxy_changes_nothing(server: ChaosServer) -> None:
    server.answer("/", Answer(body=b"x" * 3_000_000, framing=Framing.CLOSE))
    async with ChaosProxy(server.address) as proxy:
        data, error = await talk(proxy.address)
        assert len(data) > 3_000_000
        assert error is None
        assert proxy.accepted == 1
        await proxy.until("closed")
        assert proxy.connections == 0


@pytest.mark.anyio
async def test_the_answer_is_cut_at_the_exact_byte_and_reset(server: ChaosServer) -> None:
    async with ChaosProxy(server.address) as proxy:
        proxy.script("response:7 rst", "response:7 fin", "request:3 rst", "connect rst")
        data, error = await talk(proxy.address)
        assert data in {b"HTTP/1.", b""}  # a loop may report the reset before it hands over what came before it
        assert isinstance(error, ConnectionResetError)
        assert await talk(proxy.address) == (b"HTTP/1.", None)
        assert server.ledger.count() == 2
        data, error = await talk(proxy.address)
        assert data == b""
        assert isinstance(error, ConnectionResetError)
        assert server.ledger.count() == 2
        assert (await talk(proxy.address))[0] == b""
        assert (await talk(proxy.address))[1] is None
        assert [entry.detail for entry in proxy.journal.entries("fault")] == [
            "response:7 rst",
            "response:7 fin",
            "request:3 rst",
            "connect rst",
        ]


@pytest.mark.anyio
async def test_an_error_inside_it_reaches_the_user_as_it_is(server: ChaosServer) -> None:
    with pytest.raises(ZeroDivisionError):
        async with ChaosProxy(server.address):
            raise ZeroDivisionError


@pytest.mark.anyio
async def test_a_refused_target_resets_the_client() -> None:
    async with ChaosProxy(("127.0.0.1", free_port())) as proxy:
        assert (await talk(proxy.address))[0] == b""
        await proxy.until("closed")
        assert "refused" in proxy.journal.entries("closed")[0].detail


@pytest.mark.anyio
async def test_it_refuses_and_heals(server: ChaosServer) -> None:
    async with ChaosProxy(server.address) as proxy:
        proxy.refuse()
        with pytest.raises(OSError, match=r"connection attempts failed|refused"):
            await talk(proxy.address)
        proxy.heal()
        assert (await talk(proxy.address))[1] is None


@pytest.mark.anyio
async def test_idle_connections_end_by_limit_and_on_command(server: ChaosServer) -> None:
    async with ChaosProxy(server.address) as proxy:
        proxy.script("idle:0.2 fin")
        data, error = await talk(proxy.address, GET)
        assert data.endswith(b"hello\n")
        assert error is None
        async with await anyio.connect_tcp(*proxy.address) as stream:
            await stream.send(GET)
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")
            proxy.fin_idle()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()


@pytest.mark.anyio
async def test_a_stalled_answer_comes_when_it_is_healed(server: ChaosServer) -> None:
    async with ChaosProxy(server.address) as proxy, anyio.create_task_group() as tasks:
        proxy.script("response:5 stall")

        async def heal() -> None:
            await proxy.until("fault")
            proxy.heal()

        tasks.start_soon(heal)
        assert (await talk(proxy.address))[0].endswith(b"hello\n")


@pytest.mark.anyio
async def test_it_passes_tls_through(anyio_backend_name: str) -> None:
    assert anyio_backend_name in {"asyncio", "trio"}
    with ChaosServer(tls=True) as server:
        async with ChaosProxy(server.address) as proxy:
            proxy.script("", "response:20 corrupt")
            context = server.client_context()
            async with await anyio.connect_tcp(*proxy.address, ssl_context=context, tls_hostname="localhost") as stream:
                await stream.send(CLOSING_GET)
                assert (await stream.receive()).startswith(b"HTTP/1.1 200")
            with pytest.raises((ssl.SSLError, anyio.BrokenResourceError)):
                await anyio.connect_tcp(*proxy.address, ssl_context=context, tls_hostname="localhost")


def test_it_ends_tls_on_both_sides() -> None:
    identity = self_signed("proxy.test")
    with (
        ChaosServer(tls=True) as server,
        BlockingChaosProxy(("localhost", server.address[1]), tls=identity, target_tls=server.client_context()) as proxy,
    ):
        proxy.script("response:9 fin_without_close_notify", "handshake rst")
        raw = socket.create_connection(proxy.address, timeout=TIMEOUT)
        context = proxy.client_context()
        with context.wrap_socket(raw, server_hostname="proxy.test", suppress_ragged_eofs=False) as sock:
            sock.sendall(GET)
            data, error = read_all(sock)
            assert data == b"HTTP/1.1 "
            assert isinstance(error, ssl.SSLEOFError)
        with (
            pytest.raises(ConnectionResetError),
            socket.create_connection(proxy.address, timeout=TIMEOUT) as raw,
        ):
            context.wrap_socket(raw, server_hostname="proxy.test")


def test_a_blocking_one_serves_blocking_clients(server: ChaosServer) -> None:
    with BlockingChaosProxy(server.address) as proxy:
        connection = http.client.HTTPConnection(*proxy.address, timeout=TIMEOUT)
        connection.request("POST", "/x", body=b"data")
        assert connection.getresponse().read() == b"data"
        proxy.reset_idle()
        assert isinstance(read_all(connection.sock)[1], ConnectionResetError)
        connection.close()
        proxy.wait_for("closed")
        server.wait_for("closed")


class CountingServer:
    """Reads to the end and answers with the number of bytes; keeps how the reading ended."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.end: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        sock, _ = self._listener.accept()
        with sock:
            sock.settimeout(TIMEOUT)
            data, self.end = read_all(sock)
            with contextlib.suppress(OSError):
                sock.sendall(str(len(data)).encode())

    def join(self) -> None:
        self._thread.join()
        self._listener.close()


@pytest.fixture
def counting() -> Iterator[CountingServer]:
    server = CountingServer()
    yield server
    server.join()


def test_a_half_close_is_passed_on(counting: CountingServer) -> None:
    with (
        BlockingChaosProxy(counting.address) as proxy,
        socket.create_connection(proxy.address, timeout=TIMEOUT) as sock,
    ):
        sock.sendall(b"x" * 1000)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == (b"1000", None)


@pytest.mark.parametrize(("script", "orderly"), [("request:3 fin", True), ("request:3 rst", False)])
def test_what_ends_the_client_ends_the_server_alike(
    counting: CountingServer,
    script: str,
    orderly: bool,  # noqa: FBT001
) -> None:
    scripted = BlockingChaosProxy(counting.address)
    scripted.script(script)
    with scripted as proxy, socket.create_connection(proxy.address, timeout=TIMEOUT) as sock:
        sock.sendall(b"xxxx")
        read_all(sock)
        counting.join()
        assert (counting.end is None) is orderly


def test_a_reset_by_the_server_reaches_the_client_as_a_reset(server: ChaosServer) -> None:
    server.script("response:0 rst")
    with (
        BlockingChaosProxy(server.address) as proxy,
        socket.create_connection(proxy.address, timeout=TIMEOUT) as sock,
    ):
        sock.sendall(GET)
        assert isinstance(read_all(sock)[1], ConnectionResetError)


def test_an_expired_connection_is_reset_when_it_is_used(server: ChaosServer) -> None:
    scripted = BlockingChaosProxy(server.address)
    scripted.script("idle:0.2 expire")
    with scripted as proxy, socket.create_connection(proxy.address, timeout=TIMEOUT) as sock:
        sock.sendall(GET)
        proxy.wait_for("fault")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        sock.sendall(GET)
        assert isinstance(read_all(sock)[1], ConnectionResetError)
        assert server.ledger.count() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="a black hole needs Linux")
def test_a_black_hole_is_silent_and_heals(server: ChaosServer) -> None:
    with (
        BlockingChaosProxy(server.address) as proxy,
        socket.create_connection(proxy.address, timeout=TIMEOUT) as sock,
    ):
        sock.sendall(GET)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        proxy.black_hole()
        sock.sendall(GET)
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        proxy.heal()
        sock.settimeout(TIMEOUT)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("response#2 rst", "leave out the #2"),
        ("handshake rst", "needs a proxy that ends TLS"),
        ("idle:1 stall", "cannot be done by a proxy"),
        ("frame:1 rst", "BlockingChaosProxy without http2=True has no point frame"),
    ],
)
def test_scripts_that_it_cannot_carry_out_are_refused(script: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        BlockingChaosProxy(("127.0.0.1", 1)).script(script)


def test_sprinkled_faults_cannot_be_at_connect() -> None:
    with pytest.raises(ValueError, match="sprinkle has no point connect"):
        BlockingChaosProxy(("127.0.0.1", 1)).sprinkle("connect refuse")
