"""``Http2``: HTTP/2 on one connection of a simulated server, many requests at a time.

A small server of its own, as the kit's: what is under test must not test itself. It executes a request when it is here
whole, and never says of one that it executed that it did not. What a client must not do becomes a complaint.
Bytes at ``request`` and ``response`` are those of the frames of one request and of its answer; what stalls holds up the
whole connection. Not responsible for faults that all protocols share (``peer``).
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import hpack

from holdwire.testing._frames import PREFACE, Flag, Frame, FrameCutter, Kind, goaway, ping, rst_stream
from holdwire.testing.faults import END, HTTP2_CODES, Action, Fault, Point

from .peer import HttpPeer

if TYPE_CHECKING:
    from holdwire.testing._faulty import Cursor

    from .kernel import SimSocket
    from .origin import Origin
    from .peer import Link

__all__ = ["GOAWAYS", "UNPROCESSED", "Http2"]

GOAWAYS: Final = {
    "latest": "with the latest stream; what is here is answered, then the connection is closed",
    "executed": "with the last stream that was executed; what is above it never is",
    "graceful": "with the highest stream there can be, and a little later with the latest",
    "abrupt": "as executed, and the connection is closed at once",
}
"""What GOAWAY can be like."""
_NO_ERROR, _REFUSED_STREAM, _CANCEL = (HTTP2_CODES.index(name) for name in ("NO_ERROR", "REFUSED_STREAM", "CANCEL"))
UNPROCESSED: Final = frozenset({_REFUSED_STREAM, HTTP2_CODES.index("HTTP_1_1_REQUIRED")})
"""RST_STREAM with these codes comes as soon as a request's head is here: it is not executed."""
_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE = 3, 4  # RFC 9113, section 6.5.2
_ALL: Final = 2**31 - 1
_WINDOW: Final = 65_535
_CHUNK: Final = 16_384
_FLOOD: Final = 10_000


@dataclass(eq=False, slots=True)
class _Stream:
    id: int
    number: int
    """Of the connection's requests, from 1: the exchange of the faults."""
    name: str
    window: int
    """What the client takes."""
    granted: int
    """What we take."""
    received: int = 0
    sent: int = 0
    frames: int = 0
    body: bytearray = field(default_factory=bytearray)
    out: deque[Frame] = field(default_factory=deque[Frame])
    answered: bool = False
    """Whether the answer waits in ``out``."""
    whole: bool = False
    reset: bool = False
    over: bool = False


class Http2(HttpPeer):
    """See the module."""

    def __init__(self, origin: Origin, sock: SimSocket, link: Link | None, cursor: Cursor) -> None:
        super().__init__(origin, sock, link, cursor)
        terms = origin.history.http2
        assert terms is not None
        self._terms = terms
        self._preface = PREFACE
        self._cutter = FrameCutter()
        self._waiting: deque[Frame] = deque()
        """Frames that came in while we read nothing."""
        self._held: list[tuple[Frame, _Stream | None]] = []
        self._ready: list[_Stream] = []
        """Those that can be answered."""
        self._rest: tuple[bytes, _Stream] | None = None
        """Of a frame that was cut by a stall."""
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._streams: dict[int, _Stream] = {}
        self._initial = self._bound = self._window = self._granted = _WINDOW
        self._limit = terms.max_streams
        self._latest = self._executed = self._number = self._frames = self._unacked = 0
        self._last: int | None = None
        """After a GOAWAY: the last stream that it lets live."""
        self._mute = True
        self.kernel.after(terms.delay, None, self._greet)

    def _greet(self) -> None:
        limit = [] if self._limit is None else [(_MAX_CONCURRENT_STREAMS, self._limit)]
        self._held.insert(0, (self._settings((_INITIAL_WINDOW_SIZE, self._terms.window), *limit), None))
        self._speak()

    def _settings(self, *settings: tuple[int, int]) -> Frame:
        self._unacked += 1
        return Frame(Kind.SETTINGS, 0, 0, b"".join(struct.pack("!HL", *one) for one in settings))

    def _complain(self, what: str) -> None:
        self.origin.complaints.append(f"HTTP/2 on connection {self.sock.port}: {what}")

    # --- what comes in ---

    def _listen(self) -> None:
        self._deaf = False
        data = bytes(self._unread)
        self._unread.clear()
        if self._preface:
            count = min(len(self._preface), len(data))
            if data[:count] != self._preface[:count]:
                self._complain(f"begins with {data[:24]!r}")
            self._preface, data = self._preface[count:], data[count:]
        self._waiting += self._cutter.feed(data)
        while self._waiting and not self._deaf and not self.over:
            frame = self._waiting.popleft()
            if self._is_held_up(frame):
                self._waiting.appendleft(frame)
                continue
            self._on_frame(frame)
        self.sock.flush()

    def _is_held_up(self, frame: Frame) -> bool:
        """Whether a fault strikes in ``frame`` that stops us from reading on."""
        stream = self._streams.get(frame.stream)
        if frame.kind not in {Kind.HEADERS, Kind.DATA} or (stream is None and frame.stream <= self._latest):
            return False
        number, received = (self._number + 1, 0) if stream is None else (stream.number, stream.received)
        for fault in self._cursor.due(Point.REQUEST, number):
            if fault.at < received + len(frame.payload):
                self._cursor.take(fault)
                if self._strike(fault):
                    return True
        return False

    def _on_frame(self, frame: Frame) -> None:
        kind, flags = frame.kind, frame.flags
        if kind == Kind.HEADERS:
            self._on_head(frame)
        elif kind == Kind.DATA:
            self._on_data(frame)
        elif kind == Kind.SETTINGS:
            self._on_settings(frame)
        elif kind == Kind.PING and not flags & Flag.ACK:
            self._on_ping(frame)
        elif kind == Kind.WINDOW_UPDATE:
            self._open_window(frame)
        elif kind == Kind.RST_STREAM:
            self._forget(frame.stream)
        elif kind == Kind.GOAWAY:
            code = struct.unpack("!L", frame.payload[4:8])[0]
            if code and not any(Action.FLOOD in what for what in self.sock.struck):
                self._complain(f"the client says GOAWAY with {HTTP2_CODES[code]} to a legal server")

    def _on_ping(self, frame: Frame) -> None:
        if self._terms.pings:
            self._send(ping(frame.payload, ack=True))
        else:
            self.sock.suffer("PING unanswered", "ping", "unanswered")

    def _on_settings(self, frame: Frame) -> None:
        if frame.flags & Flag.ACK:
            self._unacked -= 1
            self._bind(self._terms.window)
        else:
            self._apply(frame.payload)
            self._send(Frame(Kind.SETTINGS, Flag.ACK, 0))

    def _bind(self, window: int) -> None:
        """The client knows the initial window now; until then it was the default."""
        for stream in self._streams.values():
            stream.granted += window - self._bound
        self._bound = window

    def _apply(self, settings: bytes) -> None:
        for start in range(0, len(settings), 6):
            name, value = struct.unpack("!HL", settings[start : start + 6])
            if name == _INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.window += value - self._initial
                self._initial = value
        self._pump()

    def _open_window(self, frame: Frame) -> None:
        size = struct.unpack("!L", frame.payload)[0]
        if not frame.stream:
            self._window += size
        elif frame.stream in self._streams:
            self._streams[frame.stream].window += size
        self._pump()

    def _forget(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.over = stream.reset = True
            self._settled()

    def _on_head(self, frame: Frame) -> None:
        name = dict(self._decoder.decode(frame.content(), raw=True))[b":path"].decode()
        if frame.stream <= self._latest or not frame.stream % 2:
            self._complain(f"HEADERS on stream {frame.stream} after {self._latest}")
            return
        self._latest = frame.stream
        if self._last is not None and frame.stream > self._last:
            return
        self._number += 1
        stream = _Stream(frame.stream, self._number, name, self._initial, self._bound)
        stream.received += len(frame.payload)
        if self._limit is not None and len(self._streams) >= self._limit:
            if not self._unacked:
                self._complain(f"more than {self._limit} streams")
            self._refuse(stream, _REFUSED_STREAM, "limit")
            return
        for fault in self._cursor.due(Point.FRAME, stream.number):
            if fault.action is Action.RST_STREAM and fault.value in UNPROCESSED:
                self._cursor.take(fault)
                self._refuse(stream, int(fault.value or 0), "frame")
                return
        self._streams[stream.id] = stream
        instead = self.origin.instead[stream.name]
        if instead and instead[0] == 413 and not frame.flags & Flag.END_STREAM:
            instead.pop()
            self._answer_later(stream, 413, b"no")
        elif frame.flags & Flag.END_STREAM:
            self._whole(stream)

    def _refuse(self, stream: _Stream, code: int, point: str) -> None:
        self.sock.suffer(f"refused {stream.name} with {HTTP2_CODES[code]}", point, Action.RST_STREAM)
        one = self.sock.try_of(stream.name, stream.id)
        assert one is not None
        one.refused = code == _REFUSED_STREAM
        stream.over = True
        self._send(rst_stream(stream.id, code))
        one.end = self.sock.given

    def _on_data(self, frame: Frame) -> None:
        stream = self._streams.get(frame.stream)
        size = len(frame.payload)
        self._granted -= size
        if self._granted < 0:
            self._complain("more DATA than the connection's window allows")
        ends = bool(frame.flags & Flag.END_STREAM)
        if size:
            self._granted += size
            self._send(Frame(Kind.WINDOW_UPDATE, 0, 0, struct.pack("!L", size)))
        if stream is None or stream.over:
            return
        stream.received += size
        stream.granted -= size
        if stream.granted < 0:
            self._complain(f"more DATA than the window of stream {stream.id} allows")
        if size and not ends:
            stream.granted += size
            self._send(Frame(Kind.WINDOW_UPDATE, 0, stream.id, struct.pack("!L", size)))
        if self._streams.get(stream.id) is not stream or self.over:  # a fault struck before one of those frames
            return
        stream.body += frame.content()
        stream.whole |= ends
        if ends and not stream.answered:
            self._whole(stream)

    def _whole(self, stream: _Stream) -> None:
        stream.whole = True
        origin = self.origin
        body = bytes(stream.body)
        origin.check_upload(stream.name, body)
        for fault in self._cursor.due(Point.REQUEST, stream.number):
            if fault.at == END:
                self._cursor.take(fault)
                self._strike(fault)
                if self.over or stream.over:
                    return
        instead = origin.instead[stream.name]
        if instead:
            self._answer_later(stream, instead.pop(0), b"no!")
            return
        answer = origin.execute(stream.name, body, self.sock, stream.id)
        self._executed = max(self._executed, stream.id)
        self._answer_later(stream, 200, answer)

    # --- what is answered ---

    def _answer_later(self, stream: _Stream, status: int, body: bytes) -> None:
        stream.answered = True
        ask = self.origin.asks[stream.name]
        trailers = ask.framing == "chunked"
        if ask.pieces == 5:
            stream.out.append(self._headers(stream, [(":status", "103")]))
        fields = [(":status", str(status))]
        if status == 429:
            fields.append(("retry-after", "1"))
        if not trailers:
            fields.append(("content-length", str(len(body))))
        stream.out.append(self._headers(stream, fields))
        size = len(body) // ask.pieces + 1
        for start in range(0, len(body), size):
            ends = Flag.END_STREAM if start + size >= len(body) and not trailers else 0
            stream.out.append(Frame(Kind.DATA, ends, stream.id, body[start : start + size]))
        if trailers:
            stream.out.append(self._headers(stream, [("x-checked", "yes")], Flag.END_STREAM))
        self.kernel.after(self.origin.history.service, None, partial(self._answer, stream))

    def _headers(self, stream: _Stream, fields: list[tuple[str, str]], flags: int = 0) -> Frame:
        # never indexed: a block that a fault swallows must not be missing in the client's table
        block = self._encoder.encode([(name, value, True) for name, value in fields])
        return Frame(Kind.HEADERS, flags | Flag.END_HEADERS, stream.id, block)

    def _answer(self, stream: _Stream) -> None:
        self._ready.append(stream)
        self._pump()

    def _pump(self) -> None:
        """Send of every answer what the windows allow, one frame of each in turn."""
        moving = True
        while moving:
            moving = False
            for stream in list(self._ready):
                if self.over or self._mute:
                    return
                if stream.over or not stream.out:
                    self._ready.remove(stream)
                    if not stream.over:
                        self._answered(stream)
                elif (frame := self._next_frame(stream)) is not None:
                    self._send(frame, stream)
                    moving = True

    def _next_frame(self, stream: _Stream) -> Frame | None:
        frame = stream.out.popleft()
        if frame.kind != Kind.DATA:
            return frame
        room = min(_CHUNK, self._window, stream.window, len(frame.payload))
        if room <= 0:
            stream.out.appendleft(frame)
            return None
        self._window -= room
        stream.window -= room
        if room == len(frame.payload):
            return frame
        stream.out.appendleft(frame._replace(payload=frame.payload[room:]))
        return frame._replace(flags=0, payload=frame.payload[:room])

    def _answered(self, stream: _Stream) -> None:
        stream.over = True
        if not self._half:
            self._said(stream)
        for fault in self._cursor.due(Point.RESPONSE, stream.number):
            if fault.at == END and not self.over:
                self._cursor.take(fault)
                self._strike(fault)
        if not stream.whole:
            self._send(rst_stream(stream.id, _NO_ERROR))
        self._streams.pop(stream.id, None)
        if self._number == 3 and self._terms.lowered is not None:
            self._limit = self._terms.lowered
            self._send(self._settings((_MAX_CONCURRENT_STREAMS, self._limit)))
        if self.origin.asks[stream.name].closes and self._last is None:
            self.sock.struck.append("GOAWAY behind an answer")
            self._say_last(_NO_ERROR, self._latest)
        self._settled()

    def _settled(self) -> None:
        """A stream is over; perhaps it was the last one."""
        if self._streams or self.over:
            return
        if self._last is not None:
            self.end(Action.FIN)
            return
        for fault in self._cursor.due(Point.IDLE, self._number):
            self.kernel.after(fault.at, None, partial(self._idle, fault, self._number))

    def _idle(self, fault: Fault, number: int) -> None:
        idles = not self._streams and self._number == number
        if idles and not self.over and fault in self._cursor.due(Point.IDLE, number):
            self._cursor.take(fault)
            self._strike(fault)

    def _go_away(self, code: int) -> None:
        how = self._terms.goaway
        if self._last is not None:  # it cannot be raised again
            return
        if how == "graceful":
            self._emit(goaway(_ALL, _NO_ERROR).encode())
            pause = 2 * self.sock.latency + 0.01
            self.kernel.after(pause, None, lambda: self._say_last(code, self._latest))
            return
        self._say_last(code, self._latest if how == "latest" else self._executed)
        if how == "abrupt":
            self.end(Action.FIN)

    def _say_last(self, code: int, last: int) -> None:
        if self.over or self._last is not None:
            return
        self._last = self.sock.last_stream = last
        for stream in [stream for stream in self._streams.values() if stream.id > last]:
            stream.over = stream.reset = True
            del self._streams[stream.id]
        if not self._half:
            self._emit(goaway(last, code).encode())
        self._settled()

    # --- what goes out ---

    def _speak(self) -> None:
        self._mute = False
        if self.over:
            return
        rest, self._rest = self._rest, None
        if rest is not None:
            self._emit(*rest)
        held, self._held = self._held, []
        for frame, stream in held:
            self._send(frame, stream)
        self._pump()

    def _send(self, frame: Frame, stream: _Stream | None = None) -> None:
        """Send a frame, of an answer or of the connection, after the faults that strike before it."""
        if self.over or self._half or (stream is not None and stream.reset):
            return
        if not self._mute and self._is_stopped(frame, stream):
            return
        if self._mute:
            self._held.append((frame, stream))
            return
        self._frames += 1
        if stream is not None:
            stream.frames += 1
        if self._emit(frame.encode(), stream) and stream is not None and frame.flags & Flag.END_STREAM:
            self._said(stream)

    def _said(self, stream: _Stream) -> None:
        """All of an answer has left."""
        if (one := self.sock.try_of(stream.name, stream.id)) is not None:
            one.end = self.sock.given

    def _is_stopped(self, frame: Frame, stream: _Stream | None) -> bool:
        """Whether a fault that strikes before ``frame`` leaves nobody to send it to."""
        for fault in self._cursor.due(Point.FRAME, 0 if stream is None else stream.number):
            passed = self._frames if fault.nth is None or stream is None else stream.frames
            if fault.at > passed or (fault.action is Action.RST_STREAM and stream is None):
                continue
            if not self._frames and fault.action in {Action.GOAWAY, Action.FLOOD}:  # SETTINGS come first
                continue
            self._cursor.take(fault)
            value = None if fault.value is None else int(fault.value)
            if fault.action is Action.RST_STREAM and stream is not None:
                self.sock.strike(fault)
                self._reset(stream, _CANCEL if value is None else value)
            elif fault.action is Action.GOAWAY:
                self.sock.strike(fault)
                self._go_away(value or _NO_ERROR)
            elif fault.action is Action.FLOOD:
                self.sock.strike(fault)
                self._emit(ping(b"\0" * 8).encode() * (value or _FLOOD))
            elif fault.action is Action.TRUNCATE:
                self.sock.strike(fault)
                data = frame.encode()
                self._emit(data[: min(value or len(data) // 2, len(data) - 1)])
                self.end(Action.FIN)
            else:
                self._strike(fault)
            if self.over or (stream is not None and stream.reset):
                return True
            if self._mute:
                break
        return False

    def _reset(self, stream: _Stream, code: int) -> None:
        stream.over = stream.reset = True
        self._streams.pop(stream.id, None)
        self._emit(rst_stream(stream.id, code).encode())
        self._said(stream)
        self._settled()

    def _emit(self, data: bytes, stream: _Stream | None = None) -> bool:
        """Whether all of it has left."""
        if self._half:
            return False
        if stream is None:
            self.link.from_peer(data)
            return True
        for part in self._cursor.split(Point.RESPONSE, stream.number, stream.sent, data):
            if isinstance(part, Fault):
                if self._strike(part):
                    if not self.over:
                        self._rest = (data, stream)
                    return False
            else:
                stream.sent += len(part)
                data = data[len(part) :]
                if not self._half:
                    self.link.from_peer(part)
        return not self._half
