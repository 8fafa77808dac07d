"""``Http2Connection``: HTTP/2 on one wire, many exchanges at a time, on the h2 library.

Theory of operation. One service task reads, whatever requests there are, so that PING and SETTINGS are answered and
GOAWAY and FIN are seen the moment they arrive. It cuts the bytes into frames, lets h2 check and decode each, and puts
what comes out on the streams, whose tasks it wakes. Writing is synchronous (``h2_outbox``): a frame is never torn, and
nobody waits for a lock. GOAWAY does not reach h2, which would take it for the end of everything: streams up to its
last id go on. The window of the connection is given back when data arrives, that of a stream when it is read, so that
a response nobody reads stops itself and nobody else; only when very much lies unread does the connection stop too.

Invariants: what ends a stream is put on it once, behind what had arrived before; a stream that is given up is reset,
and its siblings never notice; a connection that has ended fails every stream with the same record; no stream is opened
after GOAWAY, the second REFUSED_STREAM, or while an answer to a PING is overdue.
Not responsible for when to PING (``h2_heartbeat``), for the pool, or for what is sent again.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from typing import TYPE_CHECKING, Final

import h2.events
from anyio.lowlevel import checkpoint
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from ..errors import (
    ClosedError,
    ConnectionLost,
    DeadlineExceeded,
    HeartbeatLost,
    HoldwireError,
    LocalProtocolError,
    RemoteProtocolError,
)
from ..events import CloseReason
from ..net.runtime import current
from ..net.stream import SocketStream
from ..net.wire import Look
from ..policy import diagnosis
from ..policy.evidence import delivery
from ..policy.kind import Category, Kind
from ..policy.outcome import Http2Signal
from ..policy.phase import Phase, Sent
from ..policy.tcp_info import TcpState
from ..tls.stream import TLSStream
from .connection import Attempt, HttpConnection
from .h2_frames import DATA, GOAWAY, HEADERS, Flood, FrameError, FrameSplitter
from .h2_head import Malformed, request_fields, response_head
from .h2_heartbeat import PingHeartbeat
from .h2_outbox import Outbox
from .h2_stream import Http2Body, Http2Stream
from .head import length_message
from .messages import Response

if TYPE_CHECKING:
    from ..events import Observers
    from ..net.runtime import TaskHandle
    from ..net.wire import Wire
    from ..policy.failure import Failure
    from .h2_settings import Http2Settings
    from .messages import Origin, Request

__all__ = ["Http2Connection"]

READ_SIZE: Final = 262_144
WINDOW: Final = 2**24
"""Bytes that may be on their way to us, on a stream and on the connection."""
UNREAD_LIMIT: Final = 2**26
"""Unread bytes of all streams from which on the connection's window is given back only as they are read."""
HEADER_LIST: Final = 65_536
STREAMS: Final = 100
"""Concurrent streams where the server sets no limit."""
REFUSALS: Final = 2
"""REFUSED_STREAMs after which a connection takes no more streams."""
_BATCH: Final = 65_536
"""Bytes of a request body that are put into one write."""
_SETTINGS: Final = {
    SettingCodes.ENABLE_PUSH: 0,
    SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
    SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
    SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_LIST,
}
_CONFIG: Final = H2Configuration(
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)
"""Requests are checked by ``head``, responses by ``h2_head``."""
_SIGNALS: Final = {
    ErrorCodes.REFUSED_STREAM: Http2Signal.REFUSED_STREAM,
    ErrorCodes.HTTP_1_1_REQUIRED: Http2Signal.HTTP_1_1_REQUIRED,
    ErrorCodes.ENHANCE_YOUR_CALM: Http2Signal.ENHANCE_YOUR_CALM,
}
_TOO_MANY_PINGS: Final = b"too_many_pings"


class Http2Connection(HttpConnection):
    """See the module."""

    __slots__ = (
        "_budget",
        "_credit",
        "_goaway",
        "_h2",
        "_heartbeat",
        "_held_resets",
        "_leaving",
        "_limit",
        "_lost_by",
        "_memory",
        "_opened",
        "_outbox",
        "_reader",
        "_refusals",
        "_reserved",
        "_runtime",
        "_settings_event",
        "_settled",
        "_splitter",
        "_streams",
        "_unread",
        "_write_failed",
        "_writers",
    )

    http_version = "2"

    def __init__(
        self,
        wire: Wire,
        origin: Origin,
        *,
        max_age: float | None,
        settings: Http2Settings,
        notify: Observers,
    ) -> None:
        super().__init__(wire, origin, max_age=max_age)
        self._runtime = runtime = current()
        self._memory = settings.memory
        self._h2 = _make_h2()
        self._splitter = FrameSplitter()
        self._outbox = Outbox(wire, runtime, on_room=self._on_room, on_failure=self._on_write_failure)
        self._heartbeat = PingHeartbeat(self, settings, runtime=runtime, notify=notify)
        self._streams: dict[int, Http2Stream] = {}
        self._writers: set[Http2Stream] = set()
        self._reserved = 0
        self._opened = 0
        self._settled = False
        self._settings_event: h2.events.Event | None = None
        self._limit = STREAMS
        self._budget = settings.memory.requests(origin)
        self._held_resets = 0
        self._refusals = 0
        self._leaving: CloseReason | None = None
        self._credit = 0
        self._unread = 0
        self._goaway: h2.events.ConnectionTerminated | None = None
        self._lost_by: Failure | None = None
        self._write_failed = False
        wire.phase = Phase.IDLE
        itself = weakref.ref(self)
        self._reader: TaskHandle = runtime.spawn(lambda: _read(itself, wire), name="holdwire: HTTP/2 reader")

    # --- what the pool asks ---

    @property
    def capacity(self) -> int:
        if self._write_failed or self._is_leaving or self._heartbeat.late(time.monotonic()):
            return 0
        limit = self._limit if self._settled else 1
        spare = limit - len(self._streams) - self._reserved - self._held_resets
        if self._budget is not None:
            spare = min(spare, self._budget - self._opened - self._reserved)
        return spare

    @property
    def active(self) -> int:
        return len(self._streams) + self._reserved

    @property
    def width(self) -> int:
        return self._limit if self._settled else 0

    @property
    def waiting(self) -> Attempt | None:
        if len(self._streams) != 1:
            return None
        (stream,) = self._streams.values()
        return None if stream.status else stream.attempt

    @property
    def _is_leaving(self) -> bool:
        """Whether it takes no more streams and ends with its last one."""
        return (
            self._leaving is not None
            or (self._budget is not None and self._opened >= self._budget)
            or self._h2.highest_outbound_stream_id >= H2Connection.HIGHEST_ALLOWED_STREAM_ID - 1
        )

    def retire(self, reason: CloseReason) -> None:
        self._leaving = self._leaving or reason
        if not self.active:
            self.end(self._leaving)

    def reserve(self) -> None:
        self._reserved += 1

    def release(self) -> None:
        self._reserved -= 1

    def rest(self) -> None:
        self.idle_since = time.monotonic()
        self.wire.phase = Phase.IDLE
        self.flush()

    def wake(self) -> None:
        pass

    def looks_alive(self) -> bool:
        """The reader notices every end; only a loop that was too busy to run it may have missed one."""
        if self.close_reason is None:
            lowest = self.wire
            while isinstance(lowest, TLSStream) and isinstance(lowest.lower, SocketStream | TLSStream):
                lowest = lowest.lower
            look = lowest.look() if isinstance(lowest, SocketStream) else Look.QUIET
            if look is Look.FAILED:
                self._lose(self.wire.failure)
            elif look is Look.ENDED:
                self.end(CloseReason.PEER_IDLE)
        return self.close_reason is None

    # --- the exchange ---

    async def exchange(self, attempt: Attempt) -> Response:
        self._reserved -= 1
        stream = self._open(attempt)
        request = attempt.request
        try:
            if request.trace is None:
                await self._send(stream)
                await stream.receive_head(self._runtime)
            else:
                await self._traced_exchange(stream)
        except BaseException as exc:
            self.fail(stream, exc)
            raise
        stream.phase = Phase.RESPONSE_BODY
        return Response(
            stream.status,
            stream.headers,
            Http2Body(self, stream),
            http_version=b"HTTP/2",
            wire=self.wire,
            stream_id=stream.id,
        )

    async def _traced_exchange(self, stream: Http2Stream) -> None:
        request = stream.attempt.request
        trace = request.trace
        assert trace is not None  # noqa: S101 - the caller has looked
        if stream.index == 1:
            await trace("http2.send_connection_init.started", {"request": request})
            await trace("http2.send_connection_init.complete", {"return_value": None})
        info = {"request": request, "stream_id": stream.id}
        steps = (
            ("http2.send_request_headers", self._send_head),
            ("http2.send_request_body", self._send_body),
            ("http2.receive_response_headers", self._receive_head),
        )
        for name, step in steps:
            await trace(f"{name}.started", dict(info))
            try:
                await step(stream)
            except BaseException as exc:
                await trace(f"{name}.failed", {"exception": exc})
                raise
            result = (stream.status, stream.headers) if stream.status and step == self._receive_head else None
            await trace(f"{name}.complete", {"return_value": result})
            if self._settings_event is not None:
                event, self._settings_event = self._settings_event, None
                await trace("http2.receive_remote_settings.started", {})
                await trace("http2.receive_remote_settings.complete", {"return_value": event})

    def _open(self, attempt: Attempt) -> Http2Stream:
        """Open a stream and have its HEADERS ready to be sent.

        Raises:
            RemoteProtocolError: The connection takes no more streams; nothing was sent.
        """
        if self.capacity < 1:
            raise self._unusable(attempt)
        now = time.monotonic()
        request = attempt.request
        self._heartbeat.opening(now, len(self._streams))
        attempt.written = now
        attempt.reused = self.served > 0
        if attempt.reused and not self._streams:
            attempt.idle_before = now - self.idle_since
        h2_connection = self._h2
        stream_id = h2_connection.get_next_available_stream_id()
        bodiless = request.body == b""
        try:
            h2_connection.send_headers(stream_id, request_fields(request), end_stream=bodiless)
        except H2Error:  # the server has lowered its limit in this moment
            raise self._unusable(attempt) from None
        self._opened += 1
        stream = Http2Stream(stream_id, attempt, index=self._opened, opened=now)
        stream.begin = self._outbox.put_in
        attempt.first_stream = stream.index == 1
        self._streams[stream_id] = stream
        self.wire.phase = Phase.RESPONSE_WAIT
        return stream

    def _unusable(self, attempt: Attempt) -> RemoteProtocolError:
        """Found before anything was written: another connection takes the request."""
        attempt.reused = True
        attempt.phase = Phase.POOL
        self._offer()
        return RemoteProtocolError(
            f"the HTTP/2 connection to {self.origin.host}:{self.origin.port} took no more requests when this one came",
            failure=self._lost_by,
        )

    async def _send(self, stream: Http2Stream) -> None:
        if stream.attempt.request.body == b"":
            await self._send_head(stream)
        else:
            await self._send_body(stream)

    async def _send_head(self, stream: Http2Stream) -> None:
        self.flush()
        if stream.attempt.request.body == b"":
            stream.end = self._outbox.put_in
            await self._drained(stream)
            stream.phase = Phase.RESPONSE_WAIT

    async def _receive_head(self, stream: Http2Stream) -> None:
        await stream.receive_head(self._runtime)

    async def _send_body(self, stream: Http2Stream) -> None:
        request = stream.attempt.request
        body = request.body
        if body == b"":
            return
        stream.phase = Phase.REQUEST_BODY
        if isinstance(body, bytes):
            complete = await self._send_piece(stream, body, last=True)
        else:
            self.flush()
            complete = await self._send_source(stream, request)
        if complete:
            stream.end = self._outbox.put_in
            await self._drained(stream)
            stream.phase = Phase.RESPONSE_WAIT

    async def _send_source(self, stream: Http2Stream, request: Request) -> bool:
        body = request.body
        assert not isinstance(body, bytes)  # noqa: S101 - the caller has looked
        declared = None if request.chunked else (request.content_length or 0)
        sent = 0
        async for piece in body:
            if not piece:
                continue
            sent += len(piece)
            if declared is not None and sent > declared:
                raise LocalProtocolError(length_message(sent, declared))
            if not await self._send_piece(stream, piece, last=False):
                return False
        if declared is not None and sent != declared:
            raise LocalProtocolError(length_message(sent, declared))
        if stream.answered:
            return False
        self._h2.end_stream(stream.id)
        self.flush()
        return True

    async def _send_piece(self, stream: Http2Stream, data: bytes, *, last: bool) -> bool:
        """Send a piece of the body as the windows allow; False if no more of it is wanted."""
        h2_connection = self._h2
        size, done, batched = len(data), 0, 0
        while not stream.answered:
            room = min(h2_connection.local_flow_control_window(stream.id), h2_connection.max_outbound_frame_size)
            if room > 0 and not self._outbox.busy:
                end = min(done + room, size)
                h2_connection.send_data(stream.id, data[done:end], end_stream=last and end == size)
                batched += end - done
                done = end
                if done == size or batched >= _BATCH:
                    batched = 0
                    self.flush()
                    self._splitter.progress()
                if done == size:
                    return True
            else:
                self.flush()
                batched = 0
                if self._outbox.busy or room <= 0:
                    await self._room(stream, window_closed=room <= 0)
        self.flush()
        return False

    async def _drained(self, stream: Http2Stream) -> None:
        """Wait until the kernel has taken the request."""
        while stream.end is not None and self._outbox.taken < stream.end and not stream.answered:
            await self._room(stream, window_closed=False)

    async def _room(self, stream: Http2Stream, *, window_closed: bool) -> None:
        """Wait for a window to open, or for the kernel to take more."""
        timeout = stream.attempt.request.timeouts.write
        taken = self._outbox.taken
        deadline = None if timeout is None else time.monotonic() + timeout
        self._writers.add(stream)
        try:
            while not stream.answered and self._outbox.taken == taken:
                left = None if deadline is None else deadline - time.monotonic()
                if (left is not None and left <= 0) or not await stream.changed(self._runtime, left):
                    where = "its HTTP/2 window stayed closed" if window_closed else "the kernel took no more bytes"
                    message = (
                        f"the request to {self.origin.host}:{self.origin.port} could not be written for {timeout} s: "
                        f"{where} (phase {stream.phase})"
                    )
                    raise DeadlineExceeded(message, limit="write")
                if stream.answered:  # an await lies between
                    return  # type: ignore[unreachable]
                if window_closed and self._h2.local_flow_control_window(stream.id) > 0:
                    return
        finally:
            self._writers.discard(stream)

    def _on_room(self) -> None:
        for stream in self._writers:
            stream.wake()

    async def read_body(self, stream: Http2Stream) -> bytes | None:
        """The next piece of the body; None at its end."""
        taken = await stream.receive_data(self._runtime)
        if taken is None:
            return None
        data, used = taken
        self._unread -= used
        if self.close_reason is None:
            stream.owed += used
            if stream.owed >= WINDOW // 2 and not stream.ended and not stream.reset:
                self._h2.increment_flow_control_window(stream.owed, stream.id)
                stream.owed = 0
            self._give_back()
            self.flush()
        return data

    def _give_back(self) -> None:
        """Open the connection's window again for what has arrived."""
        if self._credit >= WINDOW // 2 and self._unread <= UNREAD_LIMIT:
            self._h2.increment_flow_control_window(self._credit)
            self._credit = 0

    # --- the end of a stream ---

    def finish(self, stream: Http2Stream) -> None:
        """The response was read to its end, or its owner lost interest."""
        if self._streams.pop(stream.id, None) is None:
            return
        self._drop_unread(stream)
        if stream.ended:
            self.served += 1
            self.wire.requests = self.served
        if self.close_reason is not None:
            return
        if not stream.reset and not (stream.ended and stream.end is not None):
            self._reset(stream, ErrorCodes.NO_ERROR if stream.ended else ErrorCodes.CANCEL, doubtful=False)
        self._offer()

    def fail(self, stream: Http2Stream, exc: BaseException) -> None:
        """The exchange ended in ``exc``: note the evidence, and reset the stream if the connection lives."""
        if self._streams.pop(stream.id, None) is None:
            return
        self._drop_unread(stream)
        attempt = stream.attempt
        attempt.phase = stream.phase
        alive = self.close_reason is None
        attempt.multiplexed = alive
        if alive:
            attempt.sent = self._sent(stream)
        if isinstance(exc, DeadlineExceeded):
            exc.failure = self._evidence(
                stream,
                diagnosis.local(Kind.LOCAL_TIMEOUT, phase=stream.phase, facts=self.wire.facts(), detail=str(exc)),
            )
        if not alive:
            return
        if not stream.reset:
            doubtful = isinstance(exc, DeadlineExceeded) or self.wire.last_read < stream.opened
            self._reset(stream, ErrorCodes.CANCEL, doubtful=doubtful)
        self._offer()

    def _reset(self, stream: Http2Stream, code: ErrorCodes, *, doubtful: bool) -> None:
        """Send RST_STREAM; in doubt about the connection a PING too, and hold the stream's place until it answers."""
        stream.reset = True
        now = time.monotonic()
        with contextlib.suppress(H2Error):  # the server was faster
            self._h2.reset_stream(stream.id, code)
        if doubtful and self._heartbeat.resetting(now, len(self._streams)) and self.wire.last_read < stream.opened:
            self._held_resets += 1
        self.flush()

    def _drop_unread(self, stream: Http2Stream) -> None:
        for _, used in stream.pieces:
            self._unread -= used
        stream.pieces = []

    def _offer(self) -> None:
        """The connection can take more, or has nothing left to do."""
        if self.close_reason is not None:
            return
        if self._is_leaving and not self.active:
            self.end(self._leaving or CloseReason.MAX_REQUESTS)
        elif self.on_idle is not None:
            self.on_idle(self)

    # --- reading ---

    def receive(self, data: bytes) -> None:
        """Bytes arrived. For the reader."""
        now = time.monotonic()
        progress = False
        was_settled, limit, leaving = self._settled, self._limit, self._leaving
        try:
            for kind, frame in self._splitter.split(data, now):
                if kind == GOAWAY:
                    self._on_goaway(frame)
                else:
                    for event in self._decode(frame):
                        self._on_event(event, now)
                    progress = progress or kind in (HEADERS, DATA)
                if self.close_reason is not None:
                    return
        except FrameError as exc:
            self._violated(exc)
            return
        more = self._held_resets > 0
        self._held_resets = 0
        more = (
            self._heartbeat.received(now, data=progress)
            or more
            or self._settled > was_settled
            or self._limit > limit
            or self._leaving is not leaving
        )
        self._give_back()
        self.flush()
        if more and self.active:
            self._offer()

    def _decode(self, frame: bytes) -> list[h2.events.Event]:
        """What a frame says.

        Raises:
            FrameError: It says nothing that is legal here; h2 has a GOAWAY ready.
        """
        try:
            return self._h2.receive_data(frame)
        except Exception as exc:
            raise FrameError(f"{type(exc).__name__}: {exc}") from exc

    def _on_event(self, event: h2.events.Event, now: float) -> None:  # noqa: C901 - one line for each kind of event
        if isinstance(event, h2.events.DataReceived):
            self._on_data(event)
        elif isinstance(event, h2.events.ResponseReceived):
            self._on_response(event)
        elif isinstance(event, h2.events.StreamEnded):
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                stream.ended = True
                stream.wake()
        elif isinstance(event, h2.events.StreamReset):
            self._on_reset(event)
        elif isinstance(event, h2.events.WindowUpdated):
            self._on_room()
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self._on_settings(event)
        elif isinstance(event, h2.events.PingAckReceived):
            self._heartbeat.answered(now, event.ping_data)
        elif isinstance(event, h2.events.InformationalResponseReceived):
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                stream.attempt.received += 1

    def _on_data(self, event: h2.events.DataReceived) -> None:
        used = event.flow_controlled_length
        self._credit += used
        stream = self._streams.get(event.stream_id)
        if stream is None or stream.error is not None:
            return
        self._unread += used
        stream.attempt.received += used
        stream.pieces.append((event.data, used))
        stream.wake()

    def _on_response(self, event: h2.events.ResponseReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None or stream.error is not None:
            return
        self._splitter.progress()
        attempt = stream.attempt
        attempt.received += 1
        attempt.response_early = stream.end is None
        try:
            stream.status, stream.headers = response_head(
                event.headers, method=attempt.request.method, ended=event.stream_ended is not None
            )
        except Malformed as malformed:
            stream.error = self._malformed(stream, str(malformed))
            if not stream.reset:
                self._reset(stream, ErrorCodes.PROTOCOL_ERROR, doubtful=False)
        if self._budget is not None and stream.index >= self._budget and self._goaway is None:
            self._budget = None  # it answers more than it did the last time
            self._memory.forget_requests(self.origin)
        stream.wake()

    def _malformed(self, stream: Http2Stream, detail: str) -> RemoteProtocolError:
        failure = diagnosis.from_protocol(phase=stream.phase, facts=self.wire.facts(), detail=detail)
        failure = self._evidence(stream, failure)
        return RemoteProtocolError(f"{detail} [{failure.endpoint}]", failure=failure)

    def _on_settings(self, event: h2.events.RemoteSettingsChanged) -> None:
        changed = event.changed_settings.get(SettingCodes.MAX_CONCURRENT_STREAMS)
        if changed is not None:
            self._limit = changed.new_value
        if not self._settled:
            self._settled = True
            self._settings_event = event
        self._on_room()

    def _on_reset(self, event: h2.events.StreamReset) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.reset = True
        code = event.error_code
        signal = _SIGNALS.get(ErrorCodes(code), Http2Signal.RESET) if code in _CODES else Http2Signal.RESET
        if signal is Http2Signal.REFUSED_STREAM:
            self._refusals += 1
            if self._refusals >= REFUSALS:
                self._leaving = self._leaving or CloseReason.LIMITS
        elif signal is Http2Signal.HTTP_1_1_REQUIRED:
            self._memory.require_http11(self.origin)
            self._leaving = self._leaving or CloseReason.LIMITS
        if not stream.ended and stream.error is None:
            stream.attempt.http2 = signal
            failure = diagnosis.local(
                Kind.HTTP2_STREAM_RESET,
                phase=stream.phase,
                facts=self.wire.facts(),
                detail=f"RST_STREAM with {_code_name(code)}",
            )
            stream.error = self._peer_said(stream, failure, event)
        stream.wake()

    def _on_goaway(self, frame: bytes) -> None:
        """The peer takes no streams above an id; those up to it go on (RFC 9113, section 6.8)."""
        payload = frame[9:]
        if int.from_bytes(frame[5:9], "big") & 0x7FFF_FFFF or len(payload) < 8:
            raise FrameError("a GOAWAY frame is not legal")
        last = int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF
        code = int.from_bytes(payload[4:8], "big")
        before = self._goaway
        if (last and not last % 2) or (before is not None and last > (before.last_stream_id or 0)):
            raise FrameError(f"GOAWAY with the last stream id {last}, which cannot be")
        event = h2.events.ConnectionTerminated()
        event.last_stream_id = last
        event.error_code = ErrorCodes(code) if code in _CODES else code
        event.additional_data = payload[8:] or None
        self._goaway = event
        self._leaving = self._leaving or CloseReason.GOAWAY
        if code == ErrorCodes.ENHANCE_YOUR_CALM and payload[8:].startswith(_TOO_MANY_PINGS):
            self._heartbeat.too_many()
        if code == ErrorCodes.HTTP_1_1_REQUIRED:
            self._memory.require_http11(self.origin)
        rejected = [stream for stream in self._streams.values() if stream.id > last and stream.error is None]
        detail = f"GOAWAY with {_code_name(code)}, last stream {last}"
        failure: Failure | None = None
        if rejected or code:
            failure = diagnosis.local(Kind.HTTP2_GOAWAY, phase=self.wire.phase, facts=self.wire.facts(), detail=detail)
        if rejected and not code:
            self._memory.learn_requests(self.origin, (last + 1) // 2)
        for stream in rejected:
            assert failure is not None  # noqa: S101 - made above, because there are some
            attempt = stream.attempt
            attempt.goaway_error = code != ErrorCodes.NO_ERROR
            attempt.http2 = (
                Http2Signal.HTTP_1_1_REQUIRED if code == ErrorCodes.HTTP_1_1_REQUIRED else Http2Signal.GOAWAY_BELOW
            )
            stream.reset = True
            stream.error = self._peer_said(stream, failure, event)
            stream.wake()
        if not self.active:
            self.end(CloseReason.GOAWAY, failure)

    def _peer_said(self, stream: Http2Stream, failure: Failure, event: h2.events.Event) -> RemoteProtocolError:
        """The error of a stream that the peer ended in so many words; it carries h2's event."""
        stream.attempt.sent = self._sent(stream)
        failure = self._evidence(stream, failure)
        error = RemoteProtocolError(f"{event!r}: {failure}", failure=failure)
        error.protocol_event = event
        return error

    # --- the end of the connection ---

    def ended_by_peer(self) -> None:
        """The input is at its end. For the reader."""
        failure = self.wire.failure
        if failure is not None:
            self._lose(failure)
        elif self._unfinished:
            failure = diagnosis.from_eof(phase=self.wire.phase, facts=self.wire.facts())
            self.wire.latch(failure)
            self._lose(failure)
        else:
            self.end(CloseReason.PEER_IDLE if self._goaway is None else CloseReason.GOAWAY)

    def failed(self, error: HoldwireError) -> None:
        """Reading failed with ``error``. For the reader."""
        failure = error.failure
        if failure is not None and failure.kind is Kind.UNEXPECTED_EOF and self._goaway and not self._unfinished:
            self.end(CloseReason.GOAWAY)  # it had said goodbye, only not once more in TLS
        elif not isinstance(error, ClosedError):
            self._lose(failure)

    @property
    def _unfinished(self) -> bool:
        """Whether a response is still to come."""
        return any(not stream.ended and stream.error is None for stream in self._streams.values())

    def _lose(self, failure: Failure | None) -> None:
        undelivered = self.wire.undelivered()
        self.end(CloseReason.FAILURE, failure, abort=undelivered is None or undelivered > 0)

    def _violated(self, error: FrameError) -> None:
        """The peer's bytes are not HTTP/2: say so, and end the connection."""
        failure = diagnosis.from_protocol(phase=self.wire.phase, facts=self.wire.facts(), detail=str(error))
        self._say_goodbye(ErrorCodes.ENHANCE_YOUR_CALM if isinstance(error, Flood) else ErrorCodes.PROTOCOL_ERROR)
        self.wire.latch(failure)
        self.end(CloseReason.FAILURE, failure)

    def peer_is_dead(self, detail: str) -> None:
        """A heartbeat was missed."""
        wire = self.wire
        wire.phase = Phase.HEARTBEAT
        failure = diagnosis.local(Kind.HEARTBEAT_LOST, phase=Phase.HEARTBEAT, facts=wire.facts(), detail=detail)
        wire.latch(failure)
        self.end(CloseReason.FAILURE, failure, abort=True)

    def _on_write_failure(self) -> None:
        """Writing failed. What had arrived before is read first: an answer may be among it."""
        if self.close_reason is not None or self._write_failed:
            return
        self._write_failed = True
        self._reader.cancel()
        itself, wire = weakref.ref(self), self.wire
        self._reader = self._runtime.spawn(lambda: _read(itself, wire), name="holdwire: HTTP/2 reader of what is left")

    def interrupted(self) -> None:
        """The reader was cancelled. For the reader."""
        if not self._write_failed:
            self.end(CloseReason.CANCELLED)

    def end(self, reason: CloseReason, failure: Failure | None = None, *, abort: bool = False) -> None:
        if self.close_reason is not None:
            return
        self._lost_by = failure
        if reason is not CloseReason.FOREIGN:
            if not abort and self.wire.failure is None:
                self._say_goodbye(ErrorCodes.NO_ERROR)
            for stream in self._streams.values():
                stream.attempt.sent = self._sent(stream, ended=True)
        super().end(reason, failure, abort=abort)

    def _say_goodbye(self, code: ErrorCodes) -> None:
        """GOAWAY, if it can be sent without waiting."""
        if self._outbox.busy or self.wire.closed:
            return
        with contextlib.suppress(H2Error):
            self._h2.close_connection(code)
        with contextlib.suppress(HoldwireError):
            self.wire.write_now(self._h2.data_to_send())

    def _ended(self) -> None:
        if self.close_reason is CloseReason.FOREIGN:
            return
        self._heartbeat.stop()
        for stream in self._streams.values():
            if not stream.ended and stream.error is None:
                stream.error = self._error(stream)
            stream.wake()

    def _error(self, stream: Http2Stream) -> HoldwireError:
        """What the end of the connection means for ``stream``."""
        failure = self._lost_by
        if failure is None:
            if self._goaway is None or self.close_reason is CloseReason.ACLOSE:
                return ClosedError("the connection was closed by its owner while the request was in progress")
            failure = diagnosis.local(Kind.HTTP2_GOAWAY, phase=stream.phase, facts=self.wire.facts())
        failure = self._evidence(stream, failure.evolve(phase=stream.phase))
        if failure.kind is Kind.HEARTBEAT_LOST:
            return HeartbeatLost(failure=failure)
        if failure.kind is Kind.UNEXPECTED_EOF:
            error = RemoteProtocolError(f"Server disconnected [{failure}]", failure=failure)
            error.protocol_event = self._goaway
            return error
        if failure.category is Category.VIOLATION and failure.tls is None:
            return RemoteProtocolError(failure=failure)
        return ConnectionLost(failure=failure)

    # --- evidence ---

    def _sent(self, stream: Http2Stream, *, ended: bool = False) -> Sent:
        return self._outbox.sent(stream.begin, stream.end, ended=ended)

    def _evidence(self, stream: Http2Stream, failure: Failure) -> Failure:
        """``failure`` with what is known about the request of ``stream``."""
        attempt = stream.attempt
        if self.close_reason is None:
            attempt.sent = self._sent(stream)
        known = delivery(
            accepted=max(self._outbox.taken - stream.begin, 0) if attempt.sent is not Sent.NONE else 0,
            outq=failure.outq,
            notsent=None if failure.tcp is None else failure.tcp.notsent_bytes,
            response_bytes=attempt.received,
            ended=failure.tcp is not None and failure.tcp.state is TcpState.CLOSE,
        )
        return failure.evolve(sent=attempt.sent, delivery=known, reused=attempt.reused)

    # --- writing ---

    def send_ping(self, payload: bytes) -> None:
        """Have a PING leave with the next ``flush``."""
        self._h2.ping(payload)

    def flush(self) -> None:
        """Send what h2 has ready."""
        if self.close_reason is None and (data := self._h2.data_to_send()):
            self._outbox.put(data)


async def _read(reference: weakref.ref[Http2Connection], wire: Wire) -> None:
    """The reader of one connection: holds it weakly while it waits, and ends with it."""
    while True:
        waits = wire.wait_count
        try:
            data = await wire.read(READ_SIZE)
            if wire.wait_count == waits:  # more is there than anybody has taken: let the others run
                await checkpoint()
        except HoldwireError as exc:
            connection = reference()
            if connection is not None:
                connection.failed(exc)
            return
        except BaseException:
            connection = reference()
            if connection is not None:
                connection.interrupted()
            raise
        connection = reference()
        if connection is None:
            wire.close()
            return
        if data:
            connection.receive(data)
        else:
            connection.ended_by_peer()
        if connection.close_reason is not None:
            return
        del connection


def _make_h2() -> H2Connection:
    """A client's state machine with its first frames ready to be sent."""
    machine = H2Connection(_CONFIG)
    machine.local_settings = Settings(client=True, initial_values=_SETTINGS)
    del machine.local_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL]  # some servers refuse to see it
    machine.initiate_connection()
    machine.increment_flow_control_window(WINDOW)
    return machine


_CODES: Final = frozenset(ErrorCodes)


def _code_name(code: int) -> str:
    return ErrorCodes(code).name if code in _CODES else f"code {code:#x}"
