"""What becomes of requests to a server that cannot bear the TLS sessions which it hands out itself."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest
import tenacity

import holdwire
from holdwire.events import RequestRetried
from holdwire.policy.phase import Phase
from tests.seen import Seen
from tests.trap_server import answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trustme

HANDSHAKE_FAILURE = bytes.fromhex("15 0303 0002 02 28")
ONCE_EACH = holdwire.RetryPolicy(connect_rounds=1)


@dataclass
class Hater:
    """A server that ends every handshake whose ClientHello is longer than the first one: it holds a ticket."""

    listener: socket.socket
    context: ssl.SSLContext
    manner: str
    hates: str = "tickets"
    refused: int = 0
    plain: int = 0

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def run(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                sock, _ = self.listener.accept()
                with sock, contextlib.suppress(OSError):  # the client is gone
                    self.serve(sock)

    def serve(self, sock: socket.socket) -> None:
        hello = sock.recv(65536, socket.MSG_PEEK)
        first = not self.plain
        self.plain = self.plain or len(hello)
        if len(hello) > self.plain or (self.hates == "all" and not first):
            self.refused += 1
            if self.manner == "rst":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            sock.recv(65536)
            sock.sendall(HANDSHAKE_FAILURE if self.manner == "alert" else b"")
            return
        with self.context.wrap_socket(sock, server_side=True) as tls:
            if tls.recv(65536) == b"ping":
                tls.sendall(b"pong")
            else:
                tls.sendall(answer("200 OK", b"ok", "Connection: close"))


@pytest.fixture(params=["alert", "fin", "rst"])
def hater(server_context: ssl.SSLContext, request: pytest.FixtureRequest) -> Iterator[Hater]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hater = Hater(listener, server_context, request.param)
        thread = threading.Thread(target=hater.run, daemon=True)
        thread.start()
        yield hater
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_session_that_breaks_handshakes_is_left_out_at_once_and_not_offered_for_ever(
    hater: Hater, client_context: ssl.SSLContext, method: str
) -> None:
    seen = Seen()
    transport = holdwire.ResilientTransport(verify=client_context, retry=ONCE_EACH, observers=[seen])
    async with httpx.AsyncClient(transport=transport, base_url=f"https://localhost:{hater.port}") as client:
        texts = [(await client.request(method, "/")).text for _ in range(9)]
    assert texts == ["ok"] * 9
    assert hater.refused == 3, "after that it is taken to resume none"
    assert [failure.phase for failure in seen.failures] == [Phase.TLS_HANDSHAKE] * 3
    assert not seen.of(RequestRetried)


async def test_a_server_that_ends_all_handshakes_is_asked_once_more_without_the_session(
    hater: Hater, client_context: ssl.SSLContext
) -> None:
    transport = holdwire.ResilientTransport(verify=client_context, retry=ONCE_EACH)
    async with httpx.AsyncClient(transport=transport, base_url=f"https://localhost:{hater.port}") as client:
        assert (await client.get("/")).text == "ok"
        hater.hates = "all"
        with pytest.raises(httpx.ConnectError):
            await client.get("/")
    assert hater.refused == 2


async def test_a_session_that_breaks_handshakes_does_not_end_a_series_of_sessions(hater: Hater, ca: trustme.CA) -> None:
    context = ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())  # of which nothing is remembered
    policy = holdwire.ReconnectPolicy(wait=tenacity.wait_none())
    rounds = 0
    async for session in holdwire.sessions(f"tls://localhost:{hater.port}", tls=context, reconnect=policy):
        async with session:
            await session.send(b"ping")
            assert await session.receive() == b"pong"
            rounds += 1
            if rounds == 3:
                break
            await session.receive()  # the end of the connection
    assert hater.refused == 2
