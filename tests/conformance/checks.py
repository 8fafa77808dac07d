"""Checks of byte streams that nobody here wrote: trio's own on trio, and their port to anyio for every backend.

The adapters give an ``anyio.abc.ByteStream`` the face of a trio stream, for ``trio.testing.check_one_way_stream`` and
its relatives. ``check_one_way`` and ``check_two_way`` hold the same properties, after trio's ``_check_streams.py``, on
the backend that runs. Makers are async functions that return a connected pair; a clogged pair is one whose streams have
no room to send until the other one is read (``clog``).
"""

from __future__ import annotations

import functools
import operator
import random
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing
from anyio import BrokenResourceError, BusyResourceError, ClosedResourceError, EndOfStream
from anyio.abc import ByteStream

from holdwire.net.stream import SocketStream
from holdwire.net.wire import Wire
from holdwire.tls.stream import TLSStream
from tests.net_helpers import until_blocked

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

Pair: TypeAlias = tuple[ByteStream, ByteStream]
Maker: TypeAlias = Callable[[], Awaitable[Pair]]

__all__ = [
    "Maker",
    "Pair",
    "ReceiveAdapter",
    "SendAdapter",
    "StreamAdapter",
    "aclose_forcefully",
    "adapted",
    "assert_yields",
    "check_clogged",
    "check_one_way",
    "check_two_way",
    "clog",
    "trio_check_one_way",
    "trio_check_two_way",
]


def clog(sockets: tuple[socket.socket, socket.socket], pair: tuple[Wire, Wire]) -> tuple[Wire, Wire]:
    """Fill both directions of ``pair``, which runs over ``sockets``, until nothing more is taken."""
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for stream in pair:
        for _ in range(3):  # on a busy machine, acknowledgements that make room once more may be late
            while stream.write_now(bytes(65536)):
                pass
            time.sleep(0.01)
    return pair


# --- trio's own checks ---


@contextmanager
def _trio_errors() -> Generator[None]:
    """Anyio's exceptions are not trio's."""
    try:
        yield
    except BusyResourceError as exc:
        raise trio.BusyResourceError(str(exc)) from exc
    except ClosedResourceError as exc:
        raise trio.ClosedResourceError(str(exc)) from exc
    except BrokenResourceError as exc:
        raise trio.BrokenResourceError(str(exc)) from exc


class _Adapter(trio.abc.AsyncResource):
    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream

    async def aclose(self) -> None:
        await self.stream.aclose()


class SendAdapter(_Adapter, trio.abc.SendStream):
    """A byte stream as a ``trio.abc.SendStream``."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with _trio_errors():
            await self.stream.send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Anyio has no such method: under the stream's own guard for writing, wait for room in our kernel."""
        with _trio_errors():
            assert isinstance(self.stream, Wire)
            if self.stream._sending:
                raise anyio.BusyResourceError("writing to")
            self.stream._sending = True
            try:
                await anyio.lowlevel.checkpoint()
                self.stream._check_in_use()
                await _wait_for_room(self.stream)
                self.stream._check_in_use()
            finally:
                self.stream._sending = False


async def _wait_for_room(wire: Wire) -> None:
    if isinstance(wire, TLSStream):
        await wire._outbox.flush(None)
        await _wait_for_room(wire.lower)
    elif isinstance(wire, SocketStream):
        await wire._channel.wait_writable(None, until_input=False)


class ReceiveAdapter(_Adapter, trio.abc.ReceiveStream):
    """A byte stream as a ``trio.abc.ReceiveStream``."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        with _trio_errors():
            try:
                return await self.stream.receive(65536 if max_bytes is None else operator.index(max_bytes))
            except EndOfStream:
                return b""


class StreamAdapter(SendAdapter, ReceiveAdapter, trio.abc.HalfCloseableStream):
    """A byte stream as a ``trio.abc.HalfCloseableStream``."""

    async def send_eof(self) -> None:
        with _trio_errors():
            await self.stream.send_eof()


def adapted(maker: Maker) -> Callable[[], Awaitable[tuple[StreamAdapter, StreamAdapter]]]:
    """``maker`` for trio's checks."""

    async def make() -> tuple[StreamAdapter, StreamAdapter]:
        first, second = await maker()
        return StreamAdapter(first), StreamAdapter(second)

    return make


async def trio_check_one_way(maker: Maker, clogged: Maker | None = None) -> None:
    """``trio.testing.check_one_way_stream``; its clogged part needs a ``Wire``."""
    await trio.testing.check_one_way_stream(adapted(maker), None if clogged is None else adapted(clogged))


async def trio_check_two_way(maker: Maker, clogged: Maker | None = None) -> None:
    """``trio.testing.check_half_closeable_stream``, which holds all that ``check_two_way_stream`` does."""
    await trio.testing.check_half_closeable_stream(adapted(maker), None if clogged is None else adapted(clogged))


# --- the port ---


@asynccontextmanager
async def _both(maker: Maker) -> AsyncGenerator[Pair]:
    """A pair that is closed forcefully at the end."""
    pair = await maker()
    async with AsyncExitStack() as stack:
        for stream in pair:
            stack.push_async_callback(aclose_forcefully, stream)
        yield pair


async def aclose_forcefully(stream: ByteStream) -> None:
    """Close without waiting for anything, as ``trio.aclose_forcefully``."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await stream.aclose()


async def assert_yields(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Await, and require that the loop had a turn meanwhile."""
    watched = _Watched(coroutine)
    result = await watched
    assert watched.yields, "no checkpoint"
    return result


class _Watched:
    """Counts how often a coroutine hands control to the loop."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self.yields = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = functools.partial(self._coroutine.send, None)
        while True:
            try:
                wanted = step()
            except StopIteration as end:
                return end.value
            self.yields += 1
            try:
                step = functools.partial(self._coroutine.send, (yield wanted))
            except BaseException as exc:  # noqa: BLE001 - handed on to the coroutine, whatever it is
                step = functools.partial(self._coroutine.throw, exc)


async def _expect(expected: type[BaseException], function: Callable[..., Awaitable[Any]], *args: Any) -> None:
    with pytest.raises(expected):
        await function(*args)


async def _receive(stream: ByteStream, max_bytes: int = 65536) -> bytes:
    """As ``receive``, but ``b""`` at the end, and with a checkpoint required."""
    data: bytes = b""
    with suppress(EndOfStream):
        data = await stream.receive(max_bytes)
    return data


async def _expect_bytes(stream: ByteStream, expected: bytes) -> None:
    data = b""
    while len(data) < len(expected):
        got = await _receive(stream, len(expected) - len(data))
        if not got:
            break
        data += got
    assert data == expected


async def _together(*functions: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """All at once; a lone exception comes out without its group."""
    try:
        async with anyio.create_task_group() as group:
            for function in functions:
                group.start_soon(function)
    except BaseExceptionGroup as exc:
        if len(exc.exceptions) == 1:
            raise exc.exceptions[0] from exc
        raise


async def check_one_way(maker: Maker, clogged: Maker | None = None) -> None:
    """What a sender and a receiver must hold, from the first stream of a pair to the second."""
    await _check_exchange(maker)
    await _check_closing(maker)
    await _check_cancellation(maker)
    if clogged is not None:
        await check_clogged(clogged)


async def _check_exchange(maker: Maker) -> None:
    async with _both(maker) as (sender, receiver):
        await _together(lambda: sender.send(b"x"), lambda: _expect_bytes(receiver, b"x"))

        async def empty_then_y() -> None:
            await assert_yields(sender.send(b""))
            await sender.send(b"y")

        await _together(empty_then_y, lambda: _expect_bytes(receiver, b"y"))
        # every call yields at least once, also when there is nothing to wait for
        await assert_yields(sender.send(b"12"))
        assert await assert_yields(receiver.receive(1)) == b"1"
        assert await assert_yields(receiver.receive(1)) == b"2"
        for wrong in (-1, 0):
            await _expect(ValueError, receiver.receive, wrong)
        # a second receiver is refused, and the first one is not disturbed
        first: list[bytes] = []

        async def waits() -> None:
            first.append(await receiver.receive(1))

        async with anyio.create_task_group() as group:
            group.start_soon(waits)
            await until_blocked()
            await _expect(BusyResourceError, receiver.receive, 1)
            await sender.send(b"z")
        assert first == [b"z"]


async def _check_closing(maker: Maker) -> None:
    async def until_broken(sender: ByteStream) -> None:
        async def send_for_ever() -> None:
            while True:
                await sender.send(b"x" * 100)

        await _expect(BrokenResourceError, send_for_ever)

    async with _both(maker) as (sender, receiver):
        await _together(lambda: until_broken(sender), receiver.aclose)
        await _expect(BrokenResourceError, sender.send, b"x" * 100)  # it stays broken
        await _expect(ClosedResourceError, receiver.receive, 4096)
        await receiver.aclose()  # any number of times
        await assert_yields(receiver.aclose())
        await assert_yields(sender.aclose())
        await _expect(ClosedResourceError, sender.send, b"x" * 100)
        await _expect(ClosedResourceError, sender.send, b"")
        await sender.aclose()

    async with _both(maker) as (sender, receiver):

        async def send_then_close() -> None:
            await sender.send(b"y")
            await sender.aclose()

        async def receive_late() -> None:
            await until_blocked()
            await _expect_bytes(receiver, b"y")
            for _ in range(2):
                await _expect(EndOfStream, receiver.receive, 1)
            await receiver.aclose()

        await _together(send_then_close, receive_late)

    async with _both(maker) as (sender, receiver):
        await aclose_forcefully(receiver)
        await until_broken(sender)
        await _expect(ClosedResourceError, receiver.receive, 4096)

    async with _both(maker) as (sender, receiver):
        await aclose_forcefully(sender)
        await _expect(ClosedResourceError, sender.send, b"123")
        with suppress(BrokenResourceError):  # an end or a break, but no bytes and no hang
            assert await _receive(receiver, 1) == b""

    # a receiver that waits is woken by the close
    async with _both(maker) as (_, receiver):

        async def close_soon() -> None:
            await until_blocked()
            await aclose_forcefully(receiver)

        await _together(lambda: _expect(ClosedResourceError, receiver.receive, 10), close_soon)


async def _check_cancellation(maker: Maker) -> None:
    # a cancelled close still closes
    async with _both(maker) as (sender, receiver):
        for stream in (receiver, sender):
            await aclose_forcefully(stream)
        await _expect(ClosedResourceError, sender.send, b"123")
        await _expect(ClosedResourceError, receiver.receive, 4096)

    # a call that is cancelled before it starts does nothing, and the streams close gracefully afterwards
    async with _both(maker) as (sender, receiver):
        for call in (lambda: sender.send(b"x"), lambda: receiver.receive(1)):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await call()
                pytest.fail("not cancelled")
            assert scope.cancelled_caught
        await _together(lambda: sender.send(b"still"), lambda: _expect_bytes(receiver, b"still"))
        await _together(sender.aclose, receiver.aclose)

    # a receive that is cancelled in the very moment in which bytes come loses none
    async with _both(maker) as (sender, receiver):
        for number in range(20):
            got: list[bytes] = []

            async def receive(got: list[bytes] = got) -> None:
                got.append(await receiver.receive(1))

            async with anyio.create_task_group() as group:
                group.start_soon(receive)
                await until_blocked()
                await sender.send(bytes([number]))
                for _ in range(number % 4):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            if not got:
                with anyio.fail_after(5):
                    await _expect_bytes(receiver, bytes([number]))
            else:
                assert got == [bytes([number])]


async def check_clogged(maker: Maker) -> None:
    """The part of the checks that needs a sender without room."""
    # a second sender is refused, and the first one is not disturbed
    async with _both(maker) as (sender, receiver), anyio.create_task_group() as group:
        group.start_soon(sender.send, b"123")
        await until_blocked()
        await _expect(BusyResourceError, sender.send, b"456")

        async def drain() -> None:
            data = b""
            while not data.endswith(b"123"):
                data += await receiver.receive()

        group.start_soon(drain)

    # closing the sender wakes it
    async with _both(maker) as (sender, _):

        async def close_soon(stream: ByteStream) -> None:
            await until_blocked()
            await aclose_forcefully(stream)

        with pytest.raises((ClosedResourceError, BrokenResourceError)):
            await _together(lambda: sender.send(b"xyzzy"), lambda: close_soon(sender))
        await _expect(ClosedResourceError, sender.send, b"xyzzy")

    # closing the receiver breaks it
    async with _both(maker) as (sender, receiver):
        with pytest.raises(BrokenResourceError):
            await _together(lambda: sender.send(b"xyzzy"), lambda: close_soon(receiver))


DUPLEX_SIZE = 2**20
CHUNK_LIMIT = 2**14


async def check_two_way(maker: Maker, clogged: Maker | None = None, *, half_close: bool = True) -> None:
    """What a byte stream must hold: ``check_one_way`` in both directions, both at once, and the half-close."""

    async def flipped() -> Pair:
        first, second = await maker()
        return second, first

    async def flipped_clogged() -> Pair:
        assert clogged is not None
        first, second = await clogged()
        return second, first

    await check_one_way(maker, clogged)
    await check_one_way(flipped, None if clogged is None else flipped_clogged)
    async with _both(maker) as (first, second):
        data = random.Random(0).randbytes(DUPLEX_SIZE)

        async def send(stream: ByteStream, item: bytes, seed: int) -> None:
            dice = random.Random(seed)
            view = memoryview(item)
            while view:
                size = dice.randint(1, CHUNK_LIMIT)
                await stream.send(bytes(view[:size]))
                view = view[size:]

        async def receive(stream: ByteStream, expected: bytes, seed: int) -> None:
            dice = random.Random(seed)
            got = bytearray()
            while len(got) < len(expected):
                size = dice.randint(1, CHUNK_LIMIT)
                chunk = await stream.receive(size)
                assert 0 < len(chunk) <= size
                got += chunk
            assert got == expected

        await _together(
            lambda: send(first, data, 0),
            lambda: send(second, data[::-1], 1),
            lambda: receive(first, data[::-1], 2),
            lambda: receive(second, data, 3),
        )
        await first.aclose()
        await _expect(EndOfStream, second.receive, 10)
        await second.aclose()
    if half_close:
        await _check_half_close(maker)


async def _check_half_close(maker: Maker) -> None:
    async with _both(maker) as (first, second):

        async def x_then_eof(stream: ByteStream) -> None:
            await stream.send(b"x")
            await assert_yields(stream.send_eof())

        async def expect_x_then_eof(stream: ByteStream) -> None:
            await _expect_bytes(stream, b"x")
            await _expect(EndOfStream, stream.receive, 10)

        await _together(lambda: x_then_eof(first), lambda: expect_x_then_eof(second))
        await _expect(ClosedResourceError, first.send, b"y")
        await assert_yields(first.send_eof())
        await _together(lambda: x_then_eof(second), lambda: expect_x_then_eof(first))
