"""What a user sees of KeyUpdate (TLS 1.3) and renegotiation (TLS 1.2): nothing, whatever both directions carry."""

from __future__ import annotations

import random

import anyio
import anyio.to_thread
import pytest

from holdwire.net.stream import SocketStream
from holdwire.testing.certificates import self_signed
from holdwire.tls.stream import TLSStream
from tests.net_helpers import clean_runtime, tcp_pair
from tests.tls_helpers import VERSIONS, Contexts
from tests.tls_peer import Peer, can_rekey

__all__ = ["clean_runtime"]

pytestmark = [
    pytest.mark.usefixtures("clean_runtime"),
    pytest.mark.skipif(not can_rekey(), reason="cannot call OpenSSL on CPython's objects here"),
]

_LARGE = 24 * 2**20
"""With less everything fits into the buffers of the kernel, and nobody ever waits."""


class Session:
    """A stream of ours and the peer that changes its keys."""

    def __init__(self, stream: TLSStream, peer: Peer) -> None:
        self.stream = stream
        self.peer = peer

    async def receive(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            got += await self.stream.receive()
        return bytes(got)

    async def over(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.peer.join, 10)
        assert self.peer.failure is None, repr(self.peer.failure)


@pytest.fixture(params=list(VERSIONS))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def started(version: str, *, data: bytes, expected: int, every: int) -> Session:
    contexts = Contexts.of(self_signed(), version)
    ours, theirs = tcp_pair()
    peer = Peer(theirs, contexts.server, data=data, expected=expected, every=every)
    peer.start()
    lower = SocketStream(ours, host="localhost", port=443)
    return Session(await TLSStream.connect(lower, context=contexts.client, server_hostname="localhost"), peer)


async def test_two_tasks_that_send_and_receive_at_once_see_nothing_of_new_keys(version: str) -> None:
    data = random.Random(1).randbytes(2 * 2**20)
    session = await started(version, data=data[::-1], expected=len(data), every=100_000)
    session.peer.go.set()
    got: list[bytes] = []

    async def receive() -> None:
        got.append(await session.receive(len(data)))

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        for start in range(0, len(data), 10_000):
            await session.stream.send(data[start : start + 10_000])
    await session.stream.send_eof()
    await session.over()
    assert got == [data[::-1]]
    assert session.peer.received == data
    assert session.peer.rekeyed > 10
    await session.stream.aclose()


async def test_a_large_send_that_is_blocked_goes_on_when_the_keys_change(version: str) -> None:
    data = random.Random(2).randbytes(2**20) * (_LARGE // 2**20)
    session = await started(version, data=b"answer", expected=len(data), every=4 * 2**20)

    async def receive() -> None:
        assert await session.receive(6) == b"answer"

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        group.start_soon(session.stream.send, data)
        with anyio.fail_after(10):
            while not session.stream.unsent:  # noqa: ASYNC110 - until it waits for room
                await anyio.sleep(0.005)
        session.peer.go.set()
    await session.stream.send_eof()
    await session.over()
    assert session.peer.received == data
    assert session.peer.rekeyed >= 5
    await session.stream.aclose()


async def test_a_task_that_only_sends_sees_nothing_of_new_keys(version: str) -> None:
    data = random.Random(3).randbytes(2 * 2**20)
    session = await started(version, data=b"", expected=len(data), every=100_000)
    session.peer.go.set()
    for start in range(0, len(data), 10_000):
        await session.stream.send(data[start : start + 10_000])
    await session.stream.send_eof()
    await session.over()
    assert session.peer.received == data
    await session.stream.aclose()


async def test_a_task_that_only_receives_answers_a_change_of_keys_with_the_next_bytes(version: str) -> None:
    data = random.Random(4).randbytes(2 * 2**20)
    session = await started(version, data=data, expected=2, every=1)
    session.peer.go.set()
    await session.stream.send(b"x")
    assert await session.receive(len(data)) == data
    await session.stream.send(b"y")
    await session.stream.send_eof()
    await session.over()
    assert session.peer.received == b"xy"
    assert session.peer.rekeyed == 2
    await session.stream.aclose()
