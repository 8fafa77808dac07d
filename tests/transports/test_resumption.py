"""What becomes of requests to a server that cannot bear the TLS sessions which it hands out itself."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

import holdwire
from tests.trap_server import answer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

HANDSHAKE_FAILURE = bytes.fromhex("15 0303 0002 02 28")


@pytest.fixture
def hater(server_context: ssl.SSLContext) -> Iterator[int]:
    """The port of a server that refuses every ClientHello that is longer than the first: it has a ticket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=hate_tickets, args=(listener, server_context), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def hate_tickets(listener: socket.socket, context: ssl.SSLContext) -> None:
    plain = 0
    with contextlib.suppress(OSError):  # the listener is closed
        while True:
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError):  # the client is gone
                hello = sock.recv(65536, socket.MSG_PEEK)
                plain = plain or len(hello)
                if len(hello) > plain:
                    sock.sendall(HANDSHAKE_FAILURE)
                    continue
                with context.wrap_socket(sock, server_side=True) as tls:
                    tls.recv(65536)
                    tls.sendall(answer("200 OK", b"ok", "Connection: close"))


async def test_a_session_that_breaks_handshakes_is_not_offered_for_ever(
    hater: int, client_context: ssl.SSLContext
) -> None:
    outcomes: list[str] = []
    transport = holdwire.ResilientTransport(verify=client_context)
    async with httpx.AsyncClient(transport=transport, base_url=f"https://localhost:{hater}") as client:
        for _ in range(9):
            try:
                outcomes.append((await client.get("/")).text)
            except httpx.ConnectError:
                outcomes.append("refused")
    assert outcomes == ["ok", "refused"] * 3 + ["ok"] * 3
