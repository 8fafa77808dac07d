"""What ends an idle connection is noticed when it comes, and told as what it is, with no request made."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import anyio
import httpx
import pytest

import holdwire
from holdwire.events import CloseReason
from holdwire.testing import ChaosServer
from holdwire.testing.messages import Answer
from tests.net_helpers import listener
from tests.seen import Seen
from tests.tls_peer import can_rekey, send_key_update, send_session_ticket

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from holdwire.http.pool import Pool

__all__ = ["listener"]

NOTICED = 0.05
"""Seconds within which an end must be noticed."""


class Idle:
    """A client with one idle connection."""

    def __init__(self, server: ChaosServer, **settings: Any) -> None:
        self.server = server
        self.seen = Seen()
        verify: Any = server.client_context() if server.identity is not None else True
        self.transport = holdwire.ResilientTransport(verify=verify, observers=[self.seen], **settings)
        self.client = httpx.AsyncClient(transport=self.transport, timeout=5)

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        await self.client.get(self.server.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    @property
    def pool(self) -> Pool:
        return self.transport._client.pools[0]

    async def ended(self, by: Callable[[], object]) -> float:
        """Do ``by``; how long it took until the pool was empty."""
        began = time.perf_counter()
        by()
        with anyio.fail_after(10):
            while self.pool.size:  # noqa: ASYNC110 - it is the time until then that is measured
                await anyio.sleep(0.001)
        return time.perf_counter() - began


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("how", ["rst", "fin"])
async def test_an_idle_connection_that_ends_is_noticed_within_50_ms(
    record_property: Callable[[str, object], None], how: str, *, tls: bool
) -> None:
    times: list[float] = []
    with ChaosServer(tls=tls) as server:
        for _ in range(5):
            async with Idle(server) as idle:
                end = server.reset_idle if how == "rst" else server.fin_idle
                times.append(await idle.ended(end))
                (closed,) = idle.seen.closed
                if how == "rst":
                    assert closed.reason is CloseReason.FAILURE
                    assert closed.failure is not None
                    assert (closed.failure.errno_name, closed.failure.phase) == ("ECONNRESET", "idle")
                else:
                    assert (closed.reason, closed.failure) == (CloseReason.PEER_IDLE, None)
        assert server.ledger.count() == 5, "no request was made to find out"
    record_property("milliseconds", [round(1e3 * one, 1) for one in times])
    assert min(times) < NOTICED, "the others may have met a busy machine"


async def test_a_fin_without_close_notify_is_a_failure_with_tls() -> None:
    with ChaosServer(tls=True) as server:
        async with Idle(server) as idle:
            await idle.ended(lambda: server.fin_idle(close_notify=False))
            (closed,) = idle.seen.closed
            assert closed.reason is CloseReason.FAILURE
            assert closed.failure is not None
            assert (closed.failure.kind, closed.failure.phase) == ("unexpected_eof", "idle")
            assert (await idle.client.get(server.url)).status_code == 200, "and the next request does not feel it"


async def test_among_many_idle_connections_each_end_is_noticed_and_the_others_stay() -> None:
    with ChaosServer() as server:
        async with Idle(server, limits=httpx.Limits(max_keepalive_connections=100)) as idle:
            server.script(*["response:0 stall=0.2"] * 60, path="/")
            async with anyio.create_task_group() as group:
                for _ in range(60):
                    group.start_soon(idle.client.get, server.url)
            before = idle.pool.size
            assert before > 20
            took = await idle.ended(server.reset_idle)
            assert len(idle.seen.closed) == before
            assert took < before * NOTICED  # all of them together, on a machine that has more to do


class TalkativeServer(threading.Thread):
    """Serves one TLS connection: a request, then what ``say`` sends while it is idle, then another request."""

    def __init__(self, context: ssl.SSLContext, say: Callable[[ssl.SSLSocket], None]) -> None:
        super().__init__(daemon=True)
        self._context = context
        self._say = say
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.url = f"https://localhost:{self._listener.getsockname()[1]}"
        self.idle = threading.Event()
        self.said = threading.Event()

    def run(self) -> None:
        with self._listener, self._listener.accept()[0] as sock:
            sock.settimeout(5)
            with self._context.wrap_socket(sock, server_side=True) as tls:
                self._answer(tls)
                self.idle.wait(5)
                self._say(tls)
                self.said.set()
                self._answer(tls)

    @staticmethod
    def _answer(tls: ssl.SSLSocket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += tls.recv(4096)
        tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


@pytest.mark.skipif(not can_rekey(), reason="OpenSSL cannot be called on this interpreter's objects")
@pytest.mark.parametrize("say", [send_key_update, send_session_ticket])
async def test_what_tls_says_on_an_idle_connection_is_not_taken_for_its_end(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, say: Callable[[ssl.SSLSocket], None]
) -> None:
    seen = Seen()
    server = TalkativeServer(server_context, say)
    server.start()
    transport = holdwire.ResilientTransport(verify=client_context, observers=[seen])
    async with httpx.AsyncClient(transport=transport, timeout=5) as client:
        await client.get(server.url)
        before = transport._client.pools[0].connections
        server.idle.set()
        assert await anyio.to_thread.run_sync(server.said.wait, 10)
        await anyio.sleep(0.05)
        assert transport._client.pools[0].connections == before
        assert (await client.post(server.url)).status_code == 200, "it would time out on a second connection"
        assert transport._client.pools[0].connections == before
    server.join()
    assert [event.reason for event in seen.closed] == [CloseReason.ACLOSE]


async def test_bytes_that_nobody_asked_for_end_an_idle_connection(listener: socket.socket) -> None:
    def serve() -> None:
        with listener.accept()[0] as sock:
            sock.settimeout(5)
            sock.recv(4096)
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            ready.wait(5)
            sock.sendall(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            assert sock.recv(1) == b""

    ready = threading.Event()
    server = threading.Thread(target=serve)
    server.start()
    seen = Seen()
    transport = holdwire.ResilientTransport(observers=[seen])
    async with httpx.AsyncClient(transport=transport, timeout=5) as client:
        await client.get(f"http://127.0.0.1:{listener.getsockname()[1]}")
        ready.set()
        await seen.until(lambda seen: seen.closed)
    server.join()
    assert seen.closed[0].reason is CloseReason.PEER_IDLE


async def test_the_servers_own_hint_ends_reuse_two_seconds_early() -> None:
    with ChaosServer() as server:
        server.answer("/", Answer(headers=(("keep-alive", "timeout=3"),)))
        async with Idle(server) as idle:
            (connection,) = idle.pool.connections
            assert connection.idle_limit == 1.0
            connection.idle_since -= 1.0
            await idle.client.get(server.url)
            assert idle.seen.closed[0].reason is CloseReason.IDLE
    assert server.accepted == 2


async def test_a_connection_that_is_too_old_is_drained_and_never_cut() -> None:
    with ChaosServer() as server:
        server.script("response:0 stall=0.3", path="/slow")
        async with Idle(server, pool=holdwire.PoolPolicy(max_age=0.1)) as idle:
            (await idle.client.get(f"{server.url}/slow")).raise_for_status()
            assert [event.reason for event in idle.seen.closed][-1] is CloseReason.MAX_AGE
            assert idle.seen.failures == []
            assert idle.pool.size == 0


async def test_draining_lets_a_response_come_to_its_end_and_closes_the_rest() -> None:
    with ChaosServer() as server:
        server.answer("/large", Answer(body=b"x" * 300_000))
        async with Idle(server) as idle:
            async with idle.client.stream("GET", f"{server.url}/large") as response, anyio.create_task_group() as group:
                group.start_soon(idle.transport.drain)
                await anyio.sleep(0.02)
                with pytest.raises(RuntimeError, match="closed"):
                    await idle.client.get(server.url)
                assert len(await response.aread()) == 300_000
            assert idle.transport.snapshot() == []
        await server.until(lambda: server.connections == 0)


async def test_draining_waits_for_this_loop_although_another_one_used_the_client_last() -> None:
    with ChaosServer() as server:
        server.answer("/large", Answer(body=b"x" * 300_000))
        async with Idle(server) as idle:

            async def elsewhere() -> None:
                (await idle.client.get(server.url)).raise_for_status()

            async with idle.client.stream("GET", f"{server.url}/large") as response, anyio.create_task_group() as group:
                await anyio.to_thread.run_sync(asyncio.run, elsewhere())
                group.start_soon(idle.transport.drain)
                await anyio.sleep(0.02)
                assert len(await response.aread()) == 300_000
