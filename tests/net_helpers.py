"""What the tests of ``holdwire.net`` share: connected pairs, resets, a runtime that is set up before leaks count."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import pytest
import trio

from holdwire.net.dial import substitute_sockets
from holdwire.net.resolve import Address
from holdwire.net.runtime import Runtime, current
from holdwire.net.stream import SocketStream
from tests.forks import in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from holdwire.net.wire import Wire

__all__ = [
    "clean_runtime",
    "end_in_fork",
    "listener",
    "refused_then_silent",
    "reset",
    "stream_pair",
    "tcp_pair",
    "until_blocked",
    "unwilling",
]


_TURNS = 20
"""Turns of the loop after which a task that was just started waits for its stream."""


def tcp_pair(*, buffers: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets, with small buffers on request."""
    with socket.socket() as server:
        if buffers is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        server.bind(("127.0.0.1", 0))
        server.listen()
        client = socket.socket()
        if buffers is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        client.connect(server.getsockname())
        accepted = server.accept()[0]
        for sock in (client, accepted):  # else the last data before a reset may never leave
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client, accepted


async def until_blocked() -> None:
    """Until every other task waits; anyio's way sleeps on asyncio, where a few turns of the loop do as well."""
    if trio.lowlevel.in_trio_task():
        await anyio.wait_all_tasks_blocked()
        return
    for _ in range(_TURNS):
        await anyio.lowlevel.checkpoint()


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def end_in_fork(stream: Wire, how: str) -> None:
    """Let a forked child call the method ``how`` of its copy of ``stream``, as far as that goes without waiting."""

    def end() -> None:
        ending = getattr(stream, how)()
        if ending is not None:
            with contextlib.suppress(StopIteration):
                ending.send(None)

    assert in_child(end) == 0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening socket on 127.0.0.1."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


@pytest.fixture
async def clean_runtime(anyio_backend: object) -> Runtime:
    """The runtime, with the tasks that last as long as the run started: list it before ``no_leaks``."""
    runtime = current()
    runtime.call_later(0, lambda: None)
    first, second = socket.socketpair()
    first.settimeout(0)
    channel = runtime.channel(first)
    channel.watch(lambda: None)
    channel.detach()
    first.close()
    second.close()
    await anyio.lowlevel.checkpoint()
    return runtime


@pytest.fixture
def stream_pair(clean_runtime: Runtime) -> Iterator[Callable[..., tuple[SocketStream, socket.socket]]]:
    """Makes a stream and the blocking socket of its peer; both are closed at the end."""
    made: list[tuple[SocketStream, socket.socket]] = []

    def make(**options: int) -> tuple[SocketStream, socket.socket]:
        client, peer = tcp_pair(**options)
        peer.settimeout(5)
        stream = SocketStream(client, host="peer.test", port=443)
        made.append((stream, peer))
        return stream, peer

    yield make
    for stream, peer in made:
        stream.abort()
        peer.close()


@contextlib.contextmanager
def unwilling(host: str, *, deaf: bool) -> Generator[Address]:
    """Where no connect comes about: it is refused, or not answered because the backlog is full."""
    with socket.socket() as sock, socket.socket() as first, socket.socket() as second:
        sock.bind((host, 0))
        if deaf:
            sock.listen(0)
            for one in (first, second):
                one.settimeout(0)
                one.connect_ex(sock.getsockname())
        yield Address(socket.AF_INET, *sock.getsockname())


@contextlib.contextmanager
def refused_then_silent(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> Generator[None]:
    """Every name has two addresses: the first refuses, the second is silent; ``then`` is called as that is tried."""

    async def resolve(*_: object, **__: object) -> list[Address]:
        await anyio.lowlevel.checkpoint()
        return [refuses, silent]

    class Told(socket.socket):
        def connect_ex(self, address: Any, /) -> int:
            if address[0] == silent.host:
                then()
            return super().connect_ex(address)

    monkeypatch.setattr("holdwire.net.dial.resolve", resolve)
    with (
        unwilling("127.0.0.2", deaf=False) as refuses,
        unwilling("127.0.0.3", deaf=True) as silent,
        substitute_sockets(Told),
    ):
        yield
