"""``Machine``: the HTTP/2 of one client connection without I/O: bytes in, calls to a ``Sink`` out, frames to be sent.

Theory of operation. HPACK, settings and error codes are the h2 project's; the frames are handled here, because h2's own
state machine takes three times the CPU for a small request (benchmarks/compare.py) and takes a GOAWAY for the end of
everything, while streams up to its last id go on. A client that allows no push needs little more: windows in both
directions, header blocks in several frames, and what is not legal.

Invariants: every header block is decoded, also of streams that are over, for the compression has state; data of such
streams counts in the connection's window; what the peer may make us keep is bounded: by the windows, by
``HEADER_LIST`` and ``_MAX_BLOCK``, and by the splitter's count of frames without progress. Pure: time comes in.
Not responsible for what the end of a stream means (``h2_fates``) or for when to read and write (``http2``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import hpack
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from .h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_FRAME,
    PADDED,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    FrameError,
    FrameSplitter,
    frame,
)

if TYPE_CHECKING:
    from .h2_sink import Sink
    from .h2_stream import Http2Stream

__all__ = ["HEADER_LIST", "WINDOW", "Machine"]

WINDOW: Final = 2**24
"""Bytes that may be on their way to us, on a stream and on the connection."""
HEADER_LIST: Final = 65_536
"""Bytes of a response's head, decoded."""
UNREAD_LIMIT: Final = 2**26
"""Unread bytes of all streams from which on the connection's window is given back only as they are read."""
_MAX_BLOCK: Final = 2 * HEADER_LIST
_MAX_WINDOW: Final = 2**31 - 1
_MAX_TABLE: Final = 65_536
_DEFAULT_WINDOW: Final = 65_535
_LAST_ID: Final = 2**31 - 1
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS: Final = {
    SettingCodes.ENABLE_PUSH: 0,
    SettingCodes.MAX_CONCURRENT_STREAMS: 100,
    SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
    SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_LIST,
}


class Machine:
    """See the module."""

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_stream",
        "_credit",
        "_decoder",
        "_encoder",
        "_goaway_last",
        "_initial_window",
        "_out",
        "_receive_window",
        "_send_window",
        "_sink",
        "_splitter",
        "last_id",
        "max_frame",
        "pending",
        "streams",
        "unread",
    )

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._splitter = FrameSplitter()
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder(max_header_list_size=HEADER_LIST)
        self._out: list[bytes] = []
        self.pending = 0
        """Bytes that wait for ``take``."""
        self.streams: dict[int, Http2Stream] = {}
        """Those whose owner has not let go of them."""
        self.last_id = -1
        """Of the stream that was opened last; -1 before the first."""
        self.max_frame = MAX_FRAME
        """The longest payload that the peer takes."""
        self.unread = 0
        """Bytes that arrived and nobody has taken yet."""
        self._initial_window = self._send_window = _DEFAULT_WINDOW
        self._receive_window = _DEFAULT_WINDOW + WINDOW
        self._credit = 0
        self._goaway_last = _LAST_ID
        self._block: bytearray | None = None
        self._block_stream = self._block_flags = 0
        settings = b"".join(code.to_bytes(2, "big") + value.to_bytes(4, "big") for code, value in _SETTINGS.items())
        self._put(_PREFACE + frame(SETTINGS, 0, 0, settings))
        self._widen(0, WINDOW)

    # --- what is to be sent ---

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self.pending += len(data)

    def take(self) -> bytes:
        """Everything that is to be sent, in order."""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self.pending = 0
        return data

    @property
    def used_up(self) -> bool:
        """Whether there are no stream ids left."""
        return self.last_id >= _LAST_ID - 1

    def open(self, stream: Http2Stream, fields: list[tuple[bytes, bytes]], *, ended: bool) -> None:
        """Give ``stream`` its id and have its HEADERS sent; ``ended`` if no body follows."""
        self.last_id += 2
        stream.id = self.last_id
        stream.send_window = self._initial_window
        stream.receive_window = WINDOW
        self.streams[stream.id] = stream
        block = self._encoder.encode(fields, huffman=False)
        flags = END_STREAM if ended else 0
        if len(block) <= self.max_frame:
            self._put(frame(HEADERS, flags | END_HEADERS, stream.id, block))
            return
        pieces = [block[start : start + self.max_frame] for start in range(0, len(block), self.max_frame)]
        self._put(frame(HEADERS, flags, stream.id, pieces[0]))
        for piece in pieces[1:-1]:
            self._put(frame(CONTINUATION, 0, stream.id, piece))
        self._put(frame(CONTINUATION, END_HEADERS, stream.id, pieces[-1]))

    def room(self, stream: Http2Stream) -> int:
        """Bytes of DATA that may be sent in one frame now; 0 or less while a window is closed."""
        return min(self._send_window, stream.send_window, self.max_frame)

    def send_data(self, stream: Http2Stream, data: bytes, *, ended: bool) -> None:
        """Have DATA sent, for which there is ``room``."""
        size = len(data)
        self._send_window -= size
        stream.send_window -= size
        self._put(frame(DATA, END_STREAM if ended else 0, stream.id, data))
        self._splitter.sent_data(size)

    def reset(self, stream: Http2Stream, code: int) -> None:
        """Have RST_STREAM sent."""
        self._put(frame(RST_STREAM, 0, stream.id, code.to_bytes(4, "big")))

    def ping(self, payload: bytes) -> None:
        """Have a PING sent."""
        self._put(frame(PING, 0, 0, payload))

    def goaway(self, code: int) -> None:
        """Have GOAWAY sent; we have taken no stream of the peer."""
        self._put(frame(GOAWAY, 0, 0, (0).to_bytes(4, "big") + code.to_bytes(4, "big")))

    def consumed(self, stream: Http2Stream, used: int) -> None:
        """Data that counts ``used`` was taken by its reader: windows open again, for whole halves at a time."""
        self.unread -= used
        stream.owed += used
        if stream.owed >= WINDOW // 2 and not stream.ended and not stream.reset:
            self._widen(stream.id, stream.owed)
            stream.receive_window += stream.owed
            stream.owed = 0
        self._give_back()

    def drop(self, stream: Http2Stream) -> None:
        """The owner of ``stream`` has let go of it, and of what it has not read."""
        self.streams.pop(stream.id, None)
        for _, used in stream.pieces:
            self.unread -= used
        stream.pieces = []
        self._give_back()

    def _give_back(self) -> None:
        """Open the connection's window again for what has arrived."""
        if self._credit >= WINDOW // 2 and self.unread <= UNREAD_LIMIT:
            self._widen(0, self._credit)
            self._receive_window += self._credit
            self._credit = 0

    def _widen(self, stream: int, size: int) -> None:
        self._put(frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big")))

    # --- what is received ---

    def receive(self, data: bytes, now: float) -> bool:
        """Take bytes of the peer; whether HEADERS or DATA were among them.

        Raises:
            FrameError: They are not legal. What came before has been told.
        """
        progress = False
        for kind, flags, stream, payload in self._splitter.split(data, now):
            if self._block is not None and kind != CONTINUATION:
                raise FrameError("a header block was interrupted by another frame")
            if kind == DATA:
                self._on_data(flags, stream, payload)
                progress = True
            elif kind == HEADERS:
                self._on_headers(flags, stream, payload)
                progress = True
            else:
                self._on_other(kind, flags, stream, payload)
        self._give_back()
        return progress

    def _on_other(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            self._on_window_update(stream, payload)
        elif kind == SETTINGS:
            self._on_settings(flags, stream, payload)
        elif kind == PING:
            self._on_ping(flags, stream, payload)
        elif kind == RST_STREAM:
            self._on_rst_stream(stream, payload)
        elif kind == CONTINUATION:
            self._on_continuation(flags, stream, payload)
        elif kind == GOAWAY:
            self._on_goaway(stream, payload)
        elif kind == PRIORITY:
            _check_size("PRIORITY", payload, 5)
        elif kind < GOAWAY:
            raise FrameError("the server pushes, which we have not allowed")

    def _stream(self, name: str, number: int) -> Http2Stream | None:
        """The stream of that number; None for one that is over.

        Raises:
            FrameError: We have never opened it.
        """
        stream = self.streams.get(number)
        if stream is None and (not number % 2 or number > self.last_id):
            raise FrameError(f"{name} on stream {number}, which was never opened")
        return stream

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        used = len(payload)
        self._receive_window -= used
        if self._receive_window < 0:
            raise FrameError("more DATA than the connection's window allows", ErrorCodes.FLOW_CONTROL_ERROR)
        self._credit += used
        stream = self._stream("DATA", number)
        if flags & PADDED:
            payload = _unpadded(payload)
        if stream is None or stream.reset:
            return
        stream.receive_window -= used
        if stream.receive_window < 0:
            raise FrameError(f"more DATA than the window of stream {number} allows", ErrorCodes.FLOW_CONTROL_ERROR)
        if stream.ended:
            raise FrameError(f"DATA on stream {number} behind its end", ErrorCodes.STREAM_CLOSED)
        self.unread += used
        self._sink.on_data(stream, payload, used, ended=bool(flags & END_STREAM))

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if flags & PADDED:
            payload = _unpadded(payload)
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                raise FrameError("HEADERS are too short for their priority", ErrorCodes.FRAME_SIZE_ERROR)
            payload = payload[5:]
        if flags & END_HEADERS:
            self._on_block(number, payload, ended=bool(flags & END_STREAM))
            return
        self._stream("HEADERS", number)
        self._block, self._block_stream, self._block_flags = bytearray(payload), number, flags

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        block = self._block
        if block is None or number != self._block_stream:
            raise FrameError("CONTINUATION without a header block that it belongs to")
        block += payload
        if len(block) > _MAX_BLOCK:
            raise FrameError(f"a header block of more than {_MAX_BLOCK} bytes", ErrorCodes.ENHANCE_YOUR_CALM)
        if flags & END_HEADERS:
            self._block = None
            self._on_block(number, bytes(block), ended=bool(self._block_flags & END_STREAM))

    def _on_block(self, number: int, block: bytes, *, ended: bool) -> None:
        stream = self._stream("HEADERS", number)
        try:
            fields = self._decoder.decode(block, raw=True)
        except hpack.OversizedHeaderListError:
            raise FrameError(f"a head of more than {HEADER_LIST} bytes", ErrorCodes.ENHANCE_YOUR_CALM) from None
        except Exception as exc:  # hpack does not promise which ones
            # its words may hold addresses of memory, and what was in the head
            detail = f"a header block is damaged: {type(exc).__name__}"
            raise FrameError(detail, ErrorCodes.COMPRESSION_ERROR) from exc
        if stream is None or stream.reset:
            return
        if stream.ended:
            raise FrameError(f"HEADERS on stream {number} behind its end", ErrorCodes.STREAM_CLOSED)
        before = stream.status
        self._sink.on_head(stream, fields, ended=ended)  # type: ignore[arg-type]  # raw=True makes them bytes
        if not before and stream.status:
            self._splitter.progress()

    def _on_rst_stream(self, number: int, payload: bytes) -> None:
        _check_size("RST_STREAM", payload, 4)
        stream = self._stream("RST_STREAM", number)
        if stream is not None and not stream.reset:
            self._sink.on_reset(stream, int.from_bytes(payload, "big"))

    def _on_window_update(self, number: int, payload: bytes) -> None:
        _check_size("WINDOW_UPDATE", payload, 4)
        size = int.from_bytes(payload, "big") & 0x7FFF_FFFF
        if not size:
            raise FrameError("WINDOW_UPDATE by 0")
        if not number:
            self._send_window += size
            window = self._send_window
        else:
            stream = self._stream("WINDOW_UPDATE", number)
            if stream is None:
                return
            stream.send_window += size
            window = stream.send_window
        if window > _MAX_WINDOW:
            raise FrameError(f"a window of more than {_MAX_WINDOW} bytes", ErrorCodes.FLOW_CONTROL_ERROR)
        self._sink.on_room()

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) % 6 or (flags & ACK and payload):
            raise FrameError("a SETTINGS frame is not legal", ErrorCodes.FRAME_SIZE_ERROR)
        if flags & ACK:
            return
        changed: dict[int, int] = {}
        for start in range(0, len(payload), 6):
            code = int.from_bytes(payload[start : start + 2], "big")
            value = int.from_bytes(payload[start + 2 : start + 6], "big")
            changed[code] = value
            if code == SettingCodes.HEADER_TABLE_SIZE:
                self._encoder.header_table_size = min(value, _MAX_TABLE)
            elif code == SettingCodes.INITIAL_WINDOW_SIZE:
                self._change_windows(value)
            elif code == SettingCodes.MAX_FRAME_SIZE:
                if not MAX_FRAME <= value < 2**24:
                    raise FrameError(f"a SETTINGS frame asks for frames of {value} bytes")
                self.max_frame = min(value, 4 * MAX_FRAME)
        self._put(frame(SETTINGS, ACK, 0))
        self._sink.on_settings(changed)

    def _change_windows(self, initial: int) -> None:
        if initial > _MAX_WINDOW:
            raise FrameError(f"a SETTINGS frame makes windows of {initial} bytes", ErrorCodes.FLOW_CONTROL_ERROR)
        change, self._initial_window = initial - self._initial_window, initial
        for stream in self.streams.values():
            stream.send_window += change
            if stream.send_window > _MAX_WINDOW:
                raise FrameError("SETTINGS make a window too large", ErrorCodes.FLOW_CONTROL_ERROR)

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        _check_size("PING", payload, 8)
        if number:
            raise FrameError("PING on a stream")
        if flags & ACK:
            self._sink.on_ping_answer(payload)
        else:
            self._put(frame(PING, ACK, 0, payload))

    def _on_goaway(self, number: int, payload: bytes) -> None:
        if number or len(payload) < 8:
            raise FrameError("a GOAWAY frame is not legal", ErrorCodes.FRAME_SIZE_ERROR)
        last = int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF
        if (last and not last % 2) or last > self._goaway_last:
            raise FrameError(f"GOAWAY with the last stream id {last}, which cannot be")
        self._goaway_last = last
        self._sink.on_goaway(last, int.from_bytes(payload[4:8], "big"), payload[8:])


def _check_size(name: str, payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise FrameError(f"{name} with {len(payload)} bytes", ErrorCodes.FRAME_SIZE_ERROR)


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise FrameError("a frame has more padding than bytes")
    return payload[1 : len(payload) - payload[0]]
