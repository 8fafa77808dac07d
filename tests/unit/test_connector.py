"""``Connector``: what a connection is made with, and what an attempt that fails says about the next one."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from holdwire.errors import ConnectFailed
from holdwire.events import Observers
from holdwire.http.connection import Attempt
from holdwire.http.connector import Connector
from holdwire.http.messages import Origin, Request
from holdwire.net.resolve import AddressMemory
from holdwire.policy.settings import PoolPolicy
from holdwire.testing import ChaosServer
from holdwire.tls.session import SessionCache
from holdwire.tls.stream import TLSStream
from tests.tls_helpers import session_reads
from tests.unit.test_resolve import answering

if TYPE_CHECKING:
    from pathlib import Path


def connector(**settings: Any) -> Connector:
    settings.setdefault("tls_context", ssl.create_default_context)
    settings.setdefault("memory", AddressMemory())
    return Connector(sessions=SessionCache(), notify=Observers(), policy=PoolPolicy(), keepalive=None, **settings)


async def test_the_users_socket_options_are_set_on_a_unix_socket_too(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    options = ((socket.SOL_SOCKET, socket.SO_RCVBUF, 8192),)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        made = connector(uds=path, socket_options=options)
        connection = await made.connect(Attempt(Request(b"GET", Origin("http", "service", 80), b"/", [])))
        raw = connection.wire.extra(anyio.abc.SocketAttribute.raw_socket)
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2 * 8192
        connection.wire.close()


async def test_a_handshake_that_fails_says_whether_another_address_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with ChaosServer(tls=True) as server:
        server.script("handshake rst", "handshake rst")
        memory = AddressMemory()
        made = connector(tls_context=server.client_context, memory=memory)
        origin = Origin("https", "service.test", server.address[1])
        monkeypatch.setattr(anyio, "getaddrinfo", answering("127.0.0.1", "127.0.0.2"))
        with pytest.raises(ConnectFailed) as first:
            await made.connect(Attempt(Request(b"GET", origin, b"/", [])))
        assert first.value.address_left
        monkeypatch.setattr(anyio, "getaddrinfo", answering("127.0.0.1"))
        with pytest.raises(ConnectFailed) as second:
            await made.connect(Attempt(Request(b"GET", origin, b"/", [])))
        assert not second.value.address_left


async def test_a_path_that_fails_now_and_then_reads_no_tls_session_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = session_reads(monkeypatch)
    with ChaosServer(tls=True) as server:
        context = server.client_context()
        made = connector(tls_context=lambda: context)
        origin = Origin("https", "127.0.0.1", server.address[1])
        resumed: list[bool] = []

        async def exchange() -> None:
            connection = await made.connect(Attempt(Request(b"GET", origin, b"/", [])))
            wire = connection.wire
            assert isinstance(wire, TLSStream)
            resumed.append(wire.session_reused)
            await wire.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await wire.read(1000)
            wire.abort()

        await exchange()
        for _ in range(4):
            for _ in range(2):
                server.script("handshake rst")
                await exchange()  # at the second attempt, which offers none: the server may have hated it
            await exchange()
    assert resumed == [False] + [False, False, True] * 4
    assert len(reads) == 1
