"""Libraries that own their connections, over streams of holdwire: asyncio's streams, redis-py, websockets."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
import redis.asyncio
import redis.exceptions
from anyio.streams.buffered import BufferedByteStream
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosedError, InvalidStatus

import holdwire
from holdwire import Heartbeat
from holdwire.events import HeartbeatMissed
from holdwire.net.asyncio_view import StreamTransport
from holdwire.sessions.redis import Connection, heartbeat
from holdwire.sessions.websockets import connect_websocket
from tests.conftest import BACKENDS
from tests.sessions.peers import echo, serve, silent
from tests.sessions.programs import redis_server

if TYPE_CHECKING:
    from anyio.abc import ByteStream

    from holdwire.events import Event

pytestmark = [
    pytest.mark.usefixtures("clean_runtime", "no_leaks"),
    pytest.mark.parametrize("anyio_backend", [BACKENDS["asyncio"], BACKENDS["uvloop"]], ids=["asyncio", "uvloop"]),
]


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def test_asyncios_reader_and_writer(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> None:
    async with serve(echo, tls=server_context) as port:
        stream = await holdwire.connect(f"tls://localhost:{port}", tls=client_context)
        reader, writer = holdwire.asyncio_streams(stream)
        writer.writelines([b"one\n", b"two\n"])
        await writer.drain()
        assert await reader.readline() == b"one\n"
        assert await reader.readline() == b"two\n"
        assert writer.get_extra_info("peername") == ("127.0.0.1", port)
        assert isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)
        assert writer.get_extra_info("socket").fileno() > 0
        assert writer.get_extra_info("nothing", 5) == 5
        await close(writer)
        assert stream.closed


async def test_large_data_pass_with_flow_control_and_half_close() -> None:
    size = 5_000_000

    async def count(stream: ByteStream) -> None:
        total = 0
        async for data in stream:
            total += len(data)
        await stream.send(b"%d\n" % total)

    async with serve(count) as port:
        reader, writer = holdwire.asyncio_streams(await holdwire.connect(f"tcp://127.0.0.1:{port}"))
        for _ in range(10):
            writer.write(b"x" * (size // 10))
            await writer.drain()
        writer.write_eof()
        assert await reader.readline() == b"%d\n" % size
        assert await reader.read() == b""
        await close(writer)


async def test_a_reader_that_does_not_read_pauses_the_stream() -> None:
    async def flood(stream: ByteStream) -> None:
        for _ in range(100):
            await stream.send(b"x" * 65536)

    async with serve(flood) as port:
        stream = await holdwire.connect(f"tcp://127.0.0.1:{port}")
        reader, writer = holdwire.asyncio_streams(stream, limit=1000)
        await anyio.sleep(0.2)
        assert stream.statistics.bytes_in < 1_000_000
        assert len(await reader.read(-1)) == 6_553_600
        await close(writer)


async def test_a_lost_heartbeat_reaches_the_reader_with_its_failure() -> None:
    beat = Heartbeat(interval=0.1, timeout=0.1, probe=b"PING\n")
    async with serve(silent) as port:
        reader, writer = holdwire.asyncio_streams(await holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat))
        with pytest.raises(ConnectionError) as raised:
            await reader.read(10)
        failure = holdwire.failure_of(raised.value)
        assert failure is not None
        assert failure.kind is holdwire.Kind.HEARTBEAT_LOST
        with pytest.raises(ConnectionError):
            await close(writer)


async def test_abort_drops_everything_and_a_protocol_that_raises_ends_its_connection() -> None:
    class Broken(asyncio.Protocol):
        def __init__(self) -> None:
            self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def data_received(self, data: bytes) -> None:  # noqa: ARG002 - asyncio's
            raise KeyError("mine")

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(exc)

    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context))
    try:
        async with serve(echo) as port:
            broken = Broken()
            StreamTransport(await holdwire.connect(f"tcp://127.0.0.1:{port}"), broken).write(b"x")
            assert isinstance(await broken.lost, KeyError)
            quiet = Broken()
            StreamTransport(await holdwire.connect(f"tcp://127.0.0.1:{port}"), quiet).abort()
            assert await quiet.lost is None
    finally:
        loop.set_exception_handler(handler)
    assert [context["message"] for context in told] == ["a protocol raised"]


# --- redis-py ---


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.server
async def test_redis_py_publishes_and_subscribes_through_a_restart(protocol: int) -> None:
    with redis_server() as server:
        options: dict[str, Any] = {
            "connection_class": Connection,
            "host": "127.0.0.1",
            "port": server.port,
            "protocol": protocol,
            "retry": Retry(ConstantBackoff(0.05), 100),
        }
        commands = redis.asyncio.Redis(connection_pool=redis.asyncio.ConnectionPool(**options))
        listening = redis.asyncio.Redis(
            connection_pool=redis.asyncio.ConnectionPool(heartbeat=heartbeat(interval=0.05, timeout=5), **options)
        )
        assert await commands.set("key", "value")
        assert await commands.get("key") == b"value"
        async with listening.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe("news")
            assert await _next(pubsub, commands, b"one") == b"one"
            await anyio.sleep(0.3)  # heartbeats come and go
            await anyio.to_thread.run_sync(server.kill)
            await anyio.to_thread.run_sync(server.start)
            assert await _next(pubsub, commands, b"two") == b"two"
            connection = pubsub.connection
            assert isinstance(connection, Connection)
        await commands.aclose()
        await listening.aclose()
        await commands.connection_pool.disconnect()
        await listening.connection_pool.disconnect()


async def _next(pubsub: Any, commands: Any, data: bytes) -> bytes:
    """Publish until it was received: after a restart nobody may have subscribed yet."""
    with anyio.fail_after(20):
        while True:
            await commands.publish("news", data)
            message = await pubsub.get_message(timeout=0.2)
            if message is not None and message["data"] == data:
                return data


async def test_no_heartbeat_is_sent_before_redis_py_has_subscribed_for_it_counts_the_answers_till_then() -> None:
    asked: list[bytes] = []
    probed = anyio.Event()

    async def slow(stream: ByteStream) -> None:
        lines = BufferedByteStream(stream)
        while True:
            count = int((await lines.receive_until(b"\r\n", 100))[1:])
            words: list[bytes] = []
            for _ in range(count):
                size = int((await lines.receive_until(b"\r\n", 100))[1:])
                words.append((await lines.receive_exactly(size + 2))[:-2])
            if not asked:
                await anyio.sleep(0.4)
            asked.append(words[0] if len(words) > 1 or words[0] != b"PING" else b"its own PING")
            if asked[-1] == b"PING":
                probed.set()
                await stream.send(b"*2\r\n$4\r\npong\r\n$%d\r\n%s\r\n" % (len(words[1]), words[1]))
            elif words[0] == b"PING":
                await stream.send(b"+PONG\r\n")
            elif words[0] == b"SUBSCRIBE":
                await stream.send(b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n")
            else:
                await stream.send(b"+OK\r\n")

    async with serve(slow) as port:
        pool = redis.asyncio.ConnectionPool(
            connection_class=Connection,
            host="127.0.0.1",
            port=port,
            protocol=2,
            heartbeat=heartbeat(interval=0.05, timeout=5),
        )
        client = redis.asyncio.Redis(connection_pool=pool)
        pubsub: Any = client.pubsub()
        with anyio.fail_after(10):
            await pubsub.subscribe("news")
            message = None
            while message is None or message["type"] != "subscribe":
                message = await pubsub.get_message(timeout=1)
            await probed.wait()
        await pubsub.aclose()
        await client.aclose()
        await pool.disconnect()
    assert asked.index(b"PING") > asked.index(b"SUBSCRIBE") > 1


class Missed:
    def __init__(self) -> None:
        self.at: list[float] = []

    def on_event(self, event: Event) -> None:
        if isinstance(event, HeartbeatMissed):
            self.at.append(time.monotonic())


@pytest.mark.server
@pytest.mark.slow
async def test_redis_py_learns_of_a_frozen_server_while_it_listens() -> None:
    missed = Missed()
    with redis_server() as server:
        pool = redis.asyncio.ConnectionPool(
            connection_class=Connection,
            host="127.0.0.1",
            port=server.port,
            retry=Retry(ConstantBackoff(0.05), 0),
            socket_timeout=None,
            heartbeat=heartbeat(interval=0.5, timeout=0.5),
            stream={"observers": [missed]},
        )
        client = redis.asyncio.Redis(connection_pool=pool)
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        await pubsub.subscribe("news")
        await pubsub.get_message(timeout=0.1)
        server.freeze()
        began = time.monotonic()
        with anyio.fail_after(5), pytest.raises(redis.exceptions.ConnectionError) as raised:
            await pubsub.get_message(timeout=None)
        assert missed.at[0] - began <= 0.5 * 1.15 + 0.5 + 1.0, "how exactly is shown without other programs"
        assert "heartbeat_lost" in str(raised.value), "redis-py keeps the words of the error"
        server.thaw()
        await pubsub.aclose()  # type: ignore[no-untyped-call]
        await client.aclose()
        await pool.disconnect()


# --- websockets ---


async def test_a_websockets_client_over_a_stream(
    client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve_websocket(answer, "127.0.0.1", 0, ssl=server_context) as server:
        port = server.sockets[0].getsockname()[1]
        stream = await holdwire.connect(f"tls://localhost:{port}", tls=client_context, alpn=())
        async with await connect_websocket(stream, f"wss://localhost:{port}/", ping_interval=0.05) as connection:
            await connection.send("hello")
            assert await connection.recv() == "hello"
            await connection.send(b"x" * 500_000)
            assert await connection.recv() == b"x" * 500_000
            assert await (await connection.ping()) >= 0
        assert stream.closed


async def test_a_websocket_whose_connection_is_lost_says_why() -> None:
    gone = asyncio.Event()

    async def drop(connection: ServerConnection) -> None:
        connection.transport.abort()
        gone.set()

    async with serve_websocket(drop, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        stream = await holdwire.connect(f"tcp://127.0.0.1:{port}")
        connection = await connect_websocket(stream, f"ws://127.0.0.1:{port}/")
        with pytest.raises(ConnectionClosedError) as raised:
            await connection.recv()
        await connection.wait_closed()
    failure = holdwire.failure_of(raised.value)
    if failure is not None:  # a FIN is told by websockets alone, a reset by us too
        assert failure.category is holdwire.Category.PEER_CLOSED


async def test_a_refused_handshake_leaves_nothing() -> None:
    async def refuse(stream: ByteStream) -> None:
        await stream.receive()
        await stream.send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")

    async with serve(refuse) as port:
        stream = await holdwire.connect(f"tcp://127.0.0.1:{port}")
        with pytest.raises(InvalidStatus):
            await connect_websocket(stream, f"ws://127.0.0.1:{port}/")
