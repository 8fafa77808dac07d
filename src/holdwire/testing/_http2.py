"""``Http2Talk``: one connection of a ``ChaosServer`` whose client speaks HTTP/2. Needs hpack, of the extra ``http2``.

A small server of its own, on purpose: what is under test must not test itself. It trusts its client, executes requests
when they are whole, and answers each in a task of its own. Bytes at ``request`` and ``response`` are those of the
frames of one request and of its answer, so that a script means the same as over HTTP/1.1; what stalls or drips holds up
the whole connection. Not responsible for frames' bytes (``_frames``), for faults (``_faulty``, ``_faulty_frames``), or
for what is answered (``server``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, final

import anyio
import hpack

from ._faulty_frames import Exchange, FaultyFrames
from ._frames import PREFACE, Flag, Frame, FrameCutter, Kind, goaway, ping, rst_stream
from ._link import LinkEnded
from .faults import Point
from .messages import BadRequestError, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVarTuple, Unpack

    from anyio.abc import TaskGroup

    from ._chaos import Connection
    from .messages import Answer
    from .server import ChaosServer

    _Args = TypeVarTuple("_Args")

__all__ = ["Http2Talk"]

_CHUNK: Final = 16_384
_WINDOW: Final = 65_535
_STREAMS: Final = 100
_HEADER_TABLE_SIZE, _MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE = 1, 3, 4  # RFC 9113, section 6.5.2
_NO_ERROR: Final = 0


@final
@dataclass(slots=True)
class _Stream:
    request: Request
    exchange: Exchange
    window: int
    answer: Answer | None = None
    body: bytearray = field(default_factory=bytearray)


@final
class Http2Talk:
    """See the module."""

    def __init__(self, connection: Connection, server: ChaosServer) -> None:
        self._connection = connection
        self._faulty = connection.faulty
        self._server = server
        self._frames = FaultyFrames(connection.faulty)
        self._cutter = FrameCutter()
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._block = b""
        self._ends = False
        self._streams: dict[int, _Stream] = {}
        self._window = self._initial_window = _WINDOW
        self._opened = anyio.Event()
        """A window has opened, or a stream has ended."""
        self._active = anyio.current_time()
        self._rested = anyio.Event()
        """The first answer is out."""
        self._tasks: TaskGroup
        self._end: LinkEnded | BadRequestError | None = None

    async def run(self, first: bytes = b"") -> None:
        """Serve until the connection is over; ``first`` was received before.

        Raises:
            LinkEnded: A fault or the peer ended the connection.
            BadRequestError: The client does not speak HTTP/2.
        """
        async with anyio.create_task_group() as self._tasks:
            self._start(self._watch)
            self._start(self._read, first)
        if self._end is not None:
            raise self._end

    def _start(self, work: Callable[[Unpack[_Args]], Awaitable[None]], *args: *_Args) -> None:
        self._tasks.start_soon(self._until_the_end, work, args)

    async def _until_the_end(self, work: Callable[..., Awaitable[None]], args: tuple[object, ...]) -> None:
        try:
            await work(*args)
        except (LinkEnded, BadRequestError) as end:
            self._end = self._end or end
            self._tasks.cancel_scope.cancel()

    # --- what arrives ---

    async def _read(self, data: bytes) -> None:
        """Take note of all that the client says, until it has ended its side."""
        settings = struct.pack("!HL", _MAX_CONCURRENT_STREAMS, _STREAMS)
        await self._frames.send(Frame(Kind.SETTINGS, 0, 0, settings))
        while len(data) < len(PREFACE):
            more = await self._faulty.receive_any()
            if not more:
                message = "closed before it said anything"
                raise LinkEnded(message, orderly=True)
            data += more
        if not data.startswith(PREFACE):
            message = f"not HTTP/2: {data[:40]!r}"
            raise BadRequestError(message)
        data = data[len(PREFACE) :]
        while True:
            for frame in self._cutter.feed(data):
                await self._on_frame(frame)
            data = await self._faulty.receive_any()
            self._active = anyio.current_time()
            if not data:
                break
        self._tasks.cancel_scope.cancel()

    async def _on_frame(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.SETTINGS if not frame.flags & Flag.ACK:
                self._apply(frame.payload)
                await self._frames.send(Frame(Kind.SETTINGS, Flag.ACK, 0))
            case Kind.PING if not frame.flags & Flag.ACK:
                await self._frames.send(ping(frame.payload, ack=True))
            case Kind.WINDOW_UPDATE:
                self._open_window(frame.stream, struct.unpack("!L", frame.payload)[0])
            case Kind.RST_STREAM:
                self._forget(frame.stream)
            case Kind.HEADERS | Kind.CONTINUATION:
                await self._on_head(frame)
            case Kind.DATA:
                await self._on_data(frame)
            case _:
                pass

    async def _on_head(self, frame: Frame) -> None:
        if frame.kind == Kind.HEADERS:
            self._ends = bool(frame.flags & Flag.END_STREAM)
        self._block += frame.content()
        if not frame.flags & Flag.END_HEADERS:
            return
        block, self._block = self._block, b""
        ends = self._ends
        if frame.stream not in self._streams:
            if frame.stream <= self._frames.latest:
                return  # trailers of a request that is over
            if self._frames.last is not None:  # it was told to go away
                self._decode(block)
                return
            self._frames.latest = frame.stream
            self._faulty.exchange += 1
            exchange = Exchange(self._faulty.exchange, frame.stream)
            block = await self._arrive(exchange, block)
            request = self._request(self._decode(block), exchange)
            self._streams[frame.stream] = stream = _Stream(request, exchange, self._initial_window)
            self._connection.idle = False
            await self._began(stream, ends=ends)
        else:
            self._decode(await self._arrive(self._streams[frame.stream].exchange, block))
        if ends and frame.stream in self._streams:
            await self._whole(self._streams[frame.stream])

    async def _on_data(self, frame: Frame) -> None:
        stream = self._streams.get(frame.stream)
        if frame.payload:
            size = struct.pack("!L", len(frame.payload))
            await self._frames.send(Frame(Kind.WINDOW_UPDATE, 0, 0, size))
            if stream is not None and not frame.flags & Flag.END_STREAM:
                await self._frames.send(Frame(Kind.WINDOW_UPDATE, 0, frame.stream, size))
        if stream is None:
            return
        stream.body += await self._arrive(stream.exchange, frame.content())
        if frame.flags & Flag.END_STREAM:
            await self._whole(stream)

    async def _arrive(self, exchange: Exchange, data: bytes) -> bytes:
        start, exchange.received = exchange.received, exchange.received + len(data)
        return await self._faulty.arrived_of(exchange.number, start, data)

    def _decode(self, block: bytes) -> list[tuple[str, str]]:
        try:
            fields = self._decoder.decode(block, raw=True)
        except hpack.HPACKError as error:
            message = f"not a header block: {error!r}"
            raise BadRequestError(message) from error
        return [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in fields]

    def _request(self, fields: list[tuple[str, str]], exchange: Exchange) -> Request:
        pseudo = {name: value for name, value in fields if name.startswith(":")}
        return Request(
            method=pseudo.get(":method", ""),
            target=pseudo.get(":path", ""),
            version="HTTP/2",
            headers=(
                ("host", pseudo.get(":authority", "")),
                *((name, value) for name, value in fields if name not in pseudo),
            ),
            connection=self._connection.number,
            exchange=exchange.number,
        )

    def _apply(self, settings: bytes) -> None:
        for start in range(0, len(settings), 6):
            name, value = struct.unpack("!HL", settings[start : start + 6])
            if name == _INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.window += value - self._initial_window
                self._initial_window = value
                self._wake()
            elif name == _HEADER_TABLE_SIZE:
                self._encoder.header_table_size = value

    def _open_window(self, number: int, size: int) -> None:
        if number == 0:
            self._window += size
        elif number in self._streams:
            self._streams[number].window += size
        self._wake()

    def _forget(self, number: int) -> None:
        if (stream := self._streams.pop(number, None)) is not None:
            stream.exchange.over = True
        self._wake()

    def _wake(self) -> None:
        self._opened.set()
        self._opened = anyio.Event()

    # --- what is answered ---

    async def _began(self, stream: _Stream, *, ends: bool) -> None:
        request = stream.request
        self._server.journal.note("request", self._connection.number, f"{request.method} {request.target}")
        if script := self._server.script_for(request.path):
            self._faulty.add(replace(script, faults=tuple(replace(f, nth=stream.exchange.number) for f in script)))
            for fault in self._faulty.due(Point.REQUEST, stream.exchange.number):
                if fault.at <= stream.exchange.received:
                    await self._faulty.strike(fault)
        stream.answer = self._server.next_answer(request.path)
        if stream.answer is not None and stream.answer.early:
            self._start(self._reply, stream, stream.answer, not ends)
        elif (request.header("expect") or "").lower() == "100-continue":
            await self._headers(stream, [(":status", "100")])

    async def _whole(self, stream: _Stream) -> None:
        if stream.answer is not None and stream.answer.early:
            return
        await self._faulty.request_over(stream.exchange.number)
        answer = self._server.execute(replace(stream.request, body=bytes(stream.body)), stream.answer)
        self._start(self._reply, stream, answer)

    async def _reply(self, stream: _Stream, answer: Answer, unread: bool = False) -> None:  # noqa: FBT001, FBT002
        exchange = stream.exchange
        if answer.raw is not None:
            await self._faulty.send_beside(answer.raw)
            return
        for status in answer.interim:
            await self._headers(stream, [(":status", str(status))])
        body = b"" if stream.request.method == "HEAD" else answer.body
        head = [(":status", str(answer.status)), *((name.lower(), value) for name, value in answer.headers)]
        await self._headers(stream, head, end=not body and not answer.trailers)
        await self._send_body(stream, body, end=not answer.trailers)
        if answer.trailers:
            await self._headers(stream, [(name.lower(), value) for name, value in answer.trailers], end=True)
        if unread and not exchange.over:
            await self._frames.send(rst_stream(exchange.stream, _NO_ERROR))
        if not exchange.over:
            self._server.journal.note("answered", self._connection.number, str(answer.status))
            await self._faulty.response_over(exchange.number)
        self._forget(exchange.stream)
        self._active = anyio.current_time()
        if answer.close and self._frames.last is None:
            self._frames.last = self._frames.latest
            await self._frames.send(goaway(self._frames.last, _NO_ERROR))
        if not self._streams:
            self._connection.idle = True
            self._server.journal.note("idle", self._connection.number)
            self._rested.set()
            if self._frames.last is not None:
                self._faulty.link.fin()
                message = "went away"
                raise LinkEnded(message, orderly=True)

    async def _headers(self, stream: _Stream, fields: list[tuple[str, str]], *, end: bool = False) -> None:
        if stream.exchange.over:
            return
        # never indexed: a block that a fault swallows must not be missing in the client's table
        pairs = [(name.encode("latin-1"), value.encode("latin-1"), True) for name, value in fields]
        block = self._encoder.encode(pairs)
        kind, flags = Kind.HEADERS, Flag.END_STREAM if end else 0
        while True:
            piece, block = block[:_CHUNK], block[_CHUNK:]
            frame = Frame(kind, flags if block else flags | Flag.END_HEADERS, stream.exchange.stream, piece)
            await self._frames.send(frame, stream.exchange)
            if not block:
                return
            kind, flags = Kind.CONTINUATION, 0

    async def _send_body(self, stream: _Stream, body: bytes, *, end: bool) -> None:
        start = 0
        while start < len(body) and not stream.exchange.over:
            room = min(_CHUNK, self._window, stream.window, len(body) - start)
            if room <= 0:
                await self._opened.wait()
                continue
            self._window -= room
            stream.window -= room
            piece = body[start : start + room]
            start += room
            flags = Flag.END_STREAM if end and start == len(body) else 0
            await self._frames.send(Frame(Kind.DATA, flags, stream.exchange.stream, piece), stream.exchange)

    async def _watch(self) -> None:
        """Strike idle faults: so many seconds after the last byte, if no request is in progress."""
        await self._rested.wait()
        while fault := self._faulty.next_idle():
            while (rest := self._active + fault.at - anyio.current_time()) > 0 or self._streams:
                await (self._opened.wait() if self._streams else anyio.sleep(rest))
            await self._faulty.strike(fault)
