"""An HTTP/2 server for tests that does what it is told, frame by frame, in the test's own event loop.

By default it is a decent server: it answers every request with 200 and its path, acknowledges SETTINGS and PING and
gives windows back. A ``handler`` decides otherwise, with the whole connection in its hands. Everything that the client
did is on record: ``server.seen`` are the requests that arrived whole, ``server.answered`` those that were executed,
``connection.received`` is every frame. A client that chooses HTTP/1.1 by ALPN gets "by HTTP/1.1" as its answer.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import hpack
from anyio.streams.tls import TLSAttribute, TLSStream
from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from holdwire.net.stream import SocketStream

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine

    from anyio.abc import ByteStream, TaskGroup

    Handler = Callable[["Connection", "Received"], Coroutine[Any, Any, None]]

__all__ = ["Connection", "Received", "Server", "serve"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4


@dataclass
class Received:
    """One request."""

    stream: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    complete: bool = False

    @property
    def path(self) -> str:
        return dict(self.headers)[":path"]

    @property
    def method(self) -> str:
        return dict(self.headers)[":method"]


class Connection:
    """One client's connection, and everything that can be done to it."""

    def __init__(self, server: Server, stream: ByteStream, socket: SocketStream, number: int) -> None:
        self.server = server
        self.socket = socket
        self.number = number
        self.stream = stream
        self.received: list[Frame] = []
        self.requests: dict[int, Received] = {}
        self.answers_pings = True
        self.gives_windows = True
        self.paused = anyio.Event()
        self.paused.set()
        self.closed = anyio.Event()
        self._changed = anyio.Event()
        self._lock = anyio.Lock()
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._block = b""
        self._ends = False

    # --- saying things ---

    async def send(self, *frames: Frame | bytes) -> None:
        data = b"".join(frame if isinstance(frame, bytes) else frame.serialize() for frame in frames)
        async with self._lock:
            try:
                await self.stream.send(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                self.closed.set()

    async def settings(self, **values: int) -> None:
        numbers = {"streams": MAX_CONCURRENT_STREAMS, "window": INITIAL_WINDOW_SIZE}
        await self.send(SettingsFrame(0, settings={numbers[name]: value for name, value in values.items()}))

    def head(self, stream: int, *fields: tuple[str, str], status: int = 200, end: bool = False) -> HeadersFrame:
        block = self._encoder.encode([(":status", str(status)), *fields])
        return HeadersFrame(stream, block, flags=["END_HEADERS", *(["END_STREAM"] if end else [])])

    def encode(self, fields: list[tuple[str, str]]) -> bytes:
        block: bytes = self._encoder.encode(fields)
        return block

    def data(self, stream: int, body: bytes, *, end: bool = True) -> DataFrame:
        return DataFrame(stream, body, flags=["END_STREAM"] if end else [])

    async def answer(self, request: Received, body: bytes | None = None, *, status: int = 200) -> None:
        if body is None:
            body = request.path.encode()
        self.server.answered.append(request.path)
        await self.send(self.head(request.stream, status=status), self.data(request.stream, body))

    async def reset_stream(self, stream: int, code: int = ErrorCodes.CANCEL) -> None:
        await self.send(RstStreamFrame(stream, code))

    async def goaway(self, last: int, code: int = 0, text: bytes = b"") -> None:
        await self.send(GoAwayFrame(0, last, code, text))

    async def ping(self, payload: bytes = b"are you?") -> None:
        await self.send(PingFrame(0, payload))

    async def open_window(self, stream: int, size: int) -> None:
        await self.send(WindowUpdateFrame(stream, size))

    async def close(self) -> None:
        """FIN, in TLS with close_notify."""
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self.stream.aclose()

    async def rst(self) -> None:
        """End the connection with a TCP reset."""
        self.socket.abort()
        await self.close()

    def stop_reading(self) -> None:
        """Take nothing more off the socket: the client's window and the kernel's buffers fill up."""
        self.paused = anyio.Event()

    # --- what was heard ---

    def frames(self, kind: type[Any], stream: int | None = None) -> list[Any]:
        return [
            frame
            for frame in self.received
            if isinstance(frame, kind) and (stream is None or frame.stream_id == stream)
        ]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something that was received makes ``condition`` true."""
        with anyio.fail_after(20):
            while not condition():
                await self._changed.wait()

    async def heard(self, kind: type[Any], count: int = 1, stream: int | None = None) -> list[Any]:
        """Wait for ``count`` frames of a kind."""
        await self.until(lambda: len(self.frames(kind, stream)) >= count)
        return self.frames(kind, stream)

    # --- inside ---

    async def run(self, group: TaskGroup) -> None:
        buffer = b""
        greeted = False
        try:
            await self.server.greet(self)
            while True:
                await self.paused.wait()
                buffer += await self.stream.receive(65536)
                if not greeted:
                    if len(buffer) < len(PREFACE):
                        continue
                    assert buffer.startswith(PREFACE)
                    buffer, greeted = buffer[len(PREFACE) :], True
                while len(buffer) >= 9:
                    frame, length = Frame.parse_frame_header(memoryview(buffer[:9]))
                    if len(buffer) < 9 + length:
                        break
                    frame.parse_body(memoryview(buffer[9 : 9 + length]))
                    buffer = buffer[9 + length :]
                    await self._on_frame(frame, group)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            self.closed.set()
            self._tell()
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(self.stream)

    async def _on_frame(self, frame: Frame, group: TaskGroup) -> None:
        self.received.append(frame)
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            await self.send(SettingsFrame(0, flags=["ACK"]))
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags and self.answers_pings:
            await self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
        elif isinstance(frame, HeadersFrame | ContinuationFrame):
            self._block += frame.data
            if isinstance(frame, HeadersFrame):
                self._ends = "END_STREAM" in frame.flags
            if "END_HEADERS" not in frame.flags:
                return
            fields = [(str(name), str(value)) for name, value in self._decoder.decode(self._block)]
            self._block = b""
            self.requests[frame.stream_id] = Received(frame.stream_id, fields)
        elif isinstance(frame, DataFrame):
            self.requests[frame.stream_id].body += frame.data
            if frame.flow_controlled_length and self.gives_windows:
                await self.send(
                    WindowUpdateFrame(0, frame.flow_controlled_length),
                    WindowUpdateFrame(frame.stream_id, frame.flow_controlled_length),
                )
        if "END_STREAM" in frame.flags or (isinstance(frame, ContinuationFrame) and self._ends):
            request = self.requests[frame.stream_id]
            request.complete = True
            self.server.seen.append(request.path)
            group.start_soon(self.server.handler, self, request)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


@dataclass
class Server:
    """See the module."""

    handler: Handler
    greet: Callable[[Connection], Awaitable[None]]
    context: ssl.SSLContext | None = None
    port: int = 0
    listener: socket.socket | None = None
    seen: list[str] = field(default_factory=list[str])
    answered: list[str] = field(default_factory=list[str])
    connections: list[Connection] = field(default_factory=list[Connection])

    @property
    def url(self) -> str:
        return f"http{'s' if self.context else ''}://localhost:{self.port}"


async def speak_http11(stream: ByteStream) -> None:
    """Answer requests without a body."""
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        async with stream:
            while True:
                await stream.receive()
                await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nby HTTP/1.1")


async def answer(connection: Connection, request: Received) -> None:
    """Be decent."""
    await connection.answer(request)


@contextlib.asynccontextmanager
async def serve(
    handler: Handler = answer,
    *,
    settings: dict[str, int] | None = None,
    greet: Callable[[Connection], Awaitable[None]] | None = None,
    context: ssl.SSLContext | None = None,
) -> AsyncGenerator[Server]:
    """Run a server for the length of a block. ``settings``: ``streams`` and ``window`` of its first SETTINGS."""

    async def say_settings(connection: Connection) -> None:
        await connection.settings(**({"streams": 100} | (settings or {})))

    server = Server(handler, greet or say_settings, context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)  # noqa: FBT003 - the socket module's signature
        server.port = listener.getsockname()[1]
        server.listener = listener
        async with anyio.create_task_group() as group:
            group.start_soon(_accept, listener, server, group)
            try:
                yield server
            finally:
                group.cancel_scope.cancel()


async def _accept(listener: socket.socket, server: Server, group: TaskGroup) -> None:
    while listener.fileno() >= 0:
        with contextlib.suppress(anyio.ClosedResourceError):
            await anyio.wait_readable(listener)
        if listener.fileno() < 0:
            return
        # our own stream, because anyio's on asyncio reads ahead: it could not stop reading
        group.start_soon(_serve, SocketStream(listener.accept()[0], host="client"), server, group)


async def _serve(sock: SocketStream, server: Server, group: TaskGroup) -> None:
    stream: ByteStream = sock
    context = server.context
    if context is not None:
        stream = await TLSStream.wrap(stream, server_side=True, ssl_context=context, standard_compatible=False)
        if stream.extra(TLSAttribute.alpn_protocol) != "h2":
            await speak_http11(stream)
            return
    connection = Connection(server, stream, sock, len(server.connections))
    server.connections.append(connection)
    await connection.run(group)
