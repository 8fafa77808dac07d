"""What a protocol of asyncio sees of a transport over our streams, at the moments when things cross."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
from anyio.lowlevel import checkpoint

from holdwire.net.asyncio_view import StreamTransport, asyncio_streams
from tests.conftest import BACKENDS
from tests.net_helpers import clean_runtime, stream_pair, until_blocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdwire.net.stream import SocketStream

__all__ = ["clean_runtime", "stream_pair"]

pytestmark = [
    pytest.mark.usefixtures("clean_runtime", "no_leaks"),
    pytest.mark.parametrize("anyio_backend", [BACKENDS["asyncio"], BACKENDS["uvloop"]], ids=["asyncio", "uvloop"]),
]

LIMIT = 5
"""Seconds for what would else never come."""


class Recorder(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.ended = False
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.got += data

    def eof_received(self) -> bool:
        self.ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def arrived(stream: SocketStream) -> None:
    """Until the stream has received something, and whoever wants it has had a chance."""
    async with asyncio.timeout(LIMIT):
        while not stream.bytes_in:
            await checkpoint()
    await until_blocked()


@pytest.mark.parametrize("turns", range(4))
async def test_a_close_while_the_end_is_being_said_closes(
    stream_pair: Callable[..., tuple[SocketStream, socket.socket]], turns: int
) -> None:
    stream, peer = stream_pair()
    _, writer = asyncio_streams(stream)
    writer.write(b"x")
    writer.write_eof()
    for _ in range(turns):
        await asyncio.sleep(0)
    writer.close()
    async with asyncio.timeout(LIMIT):
        await writer.wait_closed()
    assert stream.closed
    assert [peer.recv(10), peer.recv(10)] == [b"x", b""]


async def test_a_protocol_may_close_as_soon_as_it_is_connected(
    stream_pair: Callable[..., tuple[SocketStream, socket.socket]],
) -> None:
    class Refusing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.close()

    stream, _ = stream_pair()
    protocol = Refusing()
    StreamTransport(stream, protocol)
    async with asyncio.timeout(LIMIT):
        assert await protocol.lost is None
    assert stream.closed


async def test_what_nobody_expected_of_a_send_is_reported_and_ends_the_connection(
    stream_pair: Callable[..., tuple[SocketStream, socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(item: bytes) -> None:
        raise KeyError("mine")

    told: list[dict[str, Any]] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_exception_handler", told.append)
    stream, _ = stream_pair()
    monkeypatch.setattr(stream, "send", broken)
    protocol = Recorder()
    StreamTransport(stream, protocol).write(b"x")
    async with asyncio.timeout(LIMIT):
        assert isinstance(await protocol.lost, KeyError)
    assert [context["message"] for context in told] == ["sending failed"]
    assert stream.closed


async def test_what_comes_right_after_reading_was_paused_is_delivered_when_it_is_resumed(
    stream_pair: Callable[..., tuple[SocketStream, socket.socket]],
) -> None:
    stream, peer = stream_pair()
    protocol = Recorder()
    transport = StreamTransport(stream, protocol)
    await until_blocked()
    transport.pause_reading()
    peer.send(b"data")
    await arrived(stream)
    assert not protocol.got
    transport.resume_reading()
    await until_blocked()
    assert protocol.got == b"data"
    transport.abort()
    await protocol.lost


async def test_nothing_is_delivered_after_a_close_although_output_still_waits(
    stream_pair: Callable[..., tuple[SocketStream, socket.socket]],
) -> None:
    stream, peer = stream_pair()
    protocol = Recorder()
    transport = StreamTransport(stream, protocol)
    transport.write(bytes(8 * 2**20))
    await until_blocked()
    transport.close()
    peer.send(b"late")
    await arrived(stream)
    assert not protocol.got
    transport.abort()
    await protocol.lost


async def test_the_end_that_comes_while_reading_is_paused_is_told_when_it_is_resumed(
    stream_pair: Callable[..., tuple[SocketStream, socket.socket]],
) -> None:
    stream, peer = stream_pair()
    protocol = Recorder()
    transport = StreamTransport(stream, protocol)
    await until_blocked()
    transport.pause_reading()
    peer.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(LIMIT):
        while not stream._eof:
            await checkpoint()
    await until_blocked()
    assert not protocol.ended
    assert not transport.is_closing()
    transport.resume_reading()
    async with asyncio.timeout(LIMIT):
        assert await protocol.lost is None
    assert protocol.ended


async def test_a_protocol_that_raises_at_the_end_is_reported(
    stream_pair: Callable[..., tuple[SocketStream, socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Raising(Recorder):
        def eof_received(self) -> bool:
            raise KeyError("mine")

    told: list[dict[str, Any]] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_exception_handler", told.append)
    stream, peer = stream_pair()
    protocol = Raising()
    StreamTransport(stream, protocol)
    peer.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(LIMIT):
        assert isinstance(await protocol.lost, KeyError)
    assert [context["message"] for context in told] == ["a protocol raised"]
