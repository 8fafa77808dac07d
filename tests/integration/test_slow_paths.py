"""Peers and paths that are slow but alive: no request fails, and hardly a living connection is given up."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Self

import anyio
import httpx
from anyio.abc import SocketAttribute

import holdwire
from holdwire.net.keepalive import effective
from tests.lab import ASYNCIO, LOOPS, MARKS, TRIO, UVLOOP, bench
from tests.netns import SERVER
from tests.seen import Seen

if TYPE_CHECKING:
    from tests.lab import Bench

__all__ = ["bench"]

pytestmark = MARKS


class PausingReader:
    """A server that takes the head of a request, pauses, and then reads the rest and answers."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._listener.settimeout(60)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.received = 0
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        peer = self._listener.accept()[0]
        with peer:
            peer.settimeout(60)
            head = peer.recv(4096)
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            self.received = len(head.partition(b"\r\n\r\n")[2])
            time.sleep(self._pause)
            while self.received < size and (data := peer.recv(1 << 20)):
                self.received += len(data)
            peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            peer.recv(1)


async def load(client: httpx.AsyncClient, url: str, *, workers: int, each: int) -> int:
    """Let ``workers`` send ``each`` requests, one after another, half of them POSTs; how many were answered."""
    answered = 0

    async def worker(number: int) -> None:
        nonlocal answered
        for turn in range(each):
            method = "POST" if (number + turn) % 2 else "GET"
            response = await client.request(method, f"{url}/{number}-{turn}", content=b"x" * 1000 * (method == "POST"))
            assert response.status_code == 200
            answered += 1

    async with anyio.create_task_group() as group:
        for number in range(workers):
            group.start_soon(worker, number)
    return answered


def assert_hardly_any_was_given_up(bench: Bench, answered: int) -> None:
    aborted = [failure for failure in bench.seen.failures if failure.kind == "heartbeat_lost"]
    assert bench.seen.failures == aborted, "nothing else failed"
    assert len(aborted) <= 0.03 * answered, f"{len(aborted)} of {answered} were moved although their path was alive"
    moved = bench.server.ledger.duplicates()
    assert all(identity.startswith("GET ") for identity in moved), "only what may be repeated is ever moved"


@ASYNCIO
async def test_a_slow_but_living_server_reaches_the_caller_as_no_error(bench: Bench) -> None:
    bench.server.script("response:0 stall=4.5", path="/slow")
    async with bench.client() as client:
        await client.get(bench.url)
        response = await client.get(f"{bench.url}/slow")
    assert response.status_code == 200
    assert bench.server.ledger.count("/slow") == 1
    assert bench.server.accepted == 1
    assert bench.seen.failures == []


@LOOPS
async def test_a_path_that_loses_a_fifth_of_its_packets_fails_no_request(bench: Bench) -> None:
    bench.net.nft(f"add rule inet f fw ip saddr {SERVER} numgen random mod 5 == 0 drop")
    async with bench.client() as client:
        answered = await load(client, bench.url, workers=50, each=8)
    assert answered == 400
    assert_hardly_any_was_given_up(bench, answered)


@TRIO
async def test_a_path_whose_queues_are_full_fails_no_request(bench: Bench) -> None:
    bench.net.slow_down(rate="160kbit", latency="4000ms")
    async with bench.client() as client:
        answered = await load(client, bench.url, workers=20, each=4)
        info = bench.pool(client).connections[0].wire.facts().get("tcp")
        assert info is not None
        assert (info.rtt or 0) > 100_000, "the queue did build up"
    assert answered == 80
    assert_hardly_any_was_given_up(bench, answered)


@UVLOOP
async def test_a_reader_that_pauses_for_three_times_the_user_timeout_loses_no_connection_and_no_byte() -> None:
    seen = Seen()
    size = 8_000_000
    keepalive = holdwire.Keepalive(dead_after=5)
    transport = holdwire.ResilientTransport(keepalive=keepalive, observers=[seen])
    with PausingReader(15.0) as reader:
        async with httpx.AsyncClient(transport=transport, timeout=None) as client:
            lifted: list[float | None] = []

            async def look_meanwhile() -> None:
                await anyio.sleep(10)
                lifted.append(effective(raw_socket(transport)).dead_after)

            async with anyio.create_task_group() as group:
                group.start_soon(look_meanwhile)
                (await client.post(reader.url, content=bytes(size))).raise_for_status()
            assert lifted == [0]
            with anyio.fail_after(10):
                while effective(raw_socket(transport)).dead_after != 5:  # noqa: ASYNC110 - until it is armed again
                    await anyio.sleep(0.05)
    assert reader.received == size
    assert seen.failures == []


def raw_socket(transport: holdwire.ResilientTransport) -> socket.socket:
    sock: socket.socket = transport._client.pools[0].connections[0].wire.extra(SocketAttribute.raw_socket)
    return sock
