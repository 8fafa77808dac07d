"""A reset that arrives right behind the last bytes: both are told, on every loop, to who reads and to who watches."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.lowlevel import checkpoint

from holdwire.errors import ConnectionLost
from holdwire.net.wire import Look
from tests.net_helpers import clean_runtime, reset, until_blocked
from tests.net_helpers import stream_pair as pair

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import TypeAlias

    from holdwire.net.stream import SocketStream

    Pair: TypeAlias = Callable[[], tuple[SocketStream, socket.socket]]

__all__ = ["clean_runtime", "pair"]

pytestmark = [pytest.mark.usefixtures("clean_runtime", "no_leaks")]


async def read_what_a_reset_follows(stream: SocketStream, peer: socket.socket) -> bytes:
    """What a task that waits gets when data and RST arrive in one step of the loop."""
    got = b""

    async def read() -> None:
        nonlocal got
        got = await stream.read(100)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        for _ in range(5):
            await checkpoint()
        peer.send(b"data")
        reset(peer)
    return got


async def test_a_reset_right_behind_the_data_ends_the_next_read(pair: Pair) -> None:
    stream, peer = pair()
    with anyio.fail_after(5):
        assert await read_what_a_reset_follows(stream, peer) == b"data"
        with pytest.raises(ConnectionLost, match="ECONNRESET"):
            await stream.read(100)


async def test_a_reset_right_behind_the_data_is_told_to_who_watches(pair: Pair) -> None:
    stream, peer = pair()
    noticed = anyio.Event()
    with anyio.fail_after(5):
        assert await read_what_a_reset_follows(stream, peer) == b"data"

        def look() -> None:
            assert stream.look() is Look.FAILED
            stream.unwatch()
            noticed.set()

        stream.watch(look)
        await noticed.wait()
    assert stream.failure is not None
    assert stream.failure.errno_name == "ECONNRESET"


async def test_an_answer_to_an_upload_is_read_and_then_the_reset_right_behind_it(pair: Pair) -> None:
    stream, peer = pair()
    peer.send(b"x")
    assert await stream.read(10, 5) == b"x"  # the loop knows the descriptor
    size = 8 * 2**20

    async def upload() -> None:
        with suppress(ConnectionLost):  # room and input come at once: which is seen first is the loop's affair
            assert await stream.write(bytes(size), 5, until_input=True) < size

    async with anyio.create_task_group() as group:
        group.start_soon(upload)
        await until_blocked()
        peer.send(b"413")
        reset(peer)
    assert await stream.read(10, 5) == b"413"
    with pytest.raises(ConnectionLost, match="ECONNRESET"):
        await stream.read(10, 5)
