"""``Http2Connection``: HTTP/2 on one wire, many exchanges at a time.

Theory of operation. One service task reads, whatever requests there are, so that PING and SETTINGS are answered and
GOAWAY and FIN are seen the moment they arrive. What comes out of the machine is put on the streams, whose tasks are
woken. Writing is synchronous (``h2_outbox``): a frame is never torn, and nobody waits for a lock. When one read wakes
several tasks, what they send next leaves in one write, after all of them have run.

Invariants: what ends a stream is put on it once, behind what had arrived before; a stream that is given up is reset,
and its siblings never notice; a connection that has ended fails every stream with the same record; no stream is opened
after GOAWAY, the second REFUSED_STREAM, or while an answer to a PING is overdue.
Not responsible for frames and windows (``h2_machine``), for sending bodies (``h2_upload``), for what arrives
(``h2_inbound``), for when to PING (``h2_heartbeat``), for the pool, or for what is sent again.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes

from ..errors import ClosedError, DeadlineExceeded, HoldwireError, RemoteProtocolError
from ..events import CloseReason
from ..net.runtime import current
from ..net.stream import SocketStream
from ..net.wire import Look
from ..policy import diagnosis
from ..policy.authority import authority
from ..policy.flight import Mark
from ..policy.kind import Kind
from ..policy.phase import Phase
from ..tls.stream import TLSStream
from .body import CLOSED_MESSAGE
from .connection import Attempt, HttpConnection
from .h2_fates import severed_error, timed_out
from .h2_head import request_fields
from .h2_heartbeat import PingHeartbeat
from .h2_inbound import Inbound
from .h2_machine import Machine
from .h2_outbox import Outbox
from .h2_reader import read_all
from .h2_stream import Http2Source, Http2Stream
from .h2_terms import Terms
from .h2_trace import traced_exchange
from .h2_upload import Uploader
from .messages import Response
from .trace import TracedBody

if TYPE_CHECKING:
    from ..events import Observers
    from ..net.runtime import TaskHandle
    from ..net.wire import Wire
    from ..policy.failure import Failure
    from .h2_settings import Http2Settings
    from .messages import Origin

__all__ = ["Http2Connection"]


class Http2Connection(HttpConnection):
    """See the module."""

    __slots__ = (
        "_lost_by",
        "_reader",
        "_reserved",
        "_runtime",
        "_streams",
        "_uploader",
        "_write_failed",
        "batching",
        "heartbeat",
        "held_resets",
        "inbound",
        "machine",
        "outbox",
        "terms",
    )

    http_version = "2"

    def __init__(
        self, wire: Wire, origin: Origin, *, max_age: float | None, settings: Http2Settings, notify: Observers
    ) -> None:
        super().__init__(wire, origin, max_age=max_age)
        self._runtime = runtime = current()
        self.terms = Terms(settings.memory, origin)
        self.inbound = Inbound(self)
        self.machine = Machine(self.inbound)
        self._streams = self.machine.streams
        self.outbox = Outbox(wire, runtime, on_room=self.on_room, on_failure=self._on_write_failure)
        self._uploader = Uploader(self.machine, self.outbox, runtime, self.flush_now)
        self.heartbeat = PingHeartbeat(self, settings, runtime=runtime, notify=notify)
        self._reserved = 0
        self.held_resets = 0
        self._lost_by: Failure | None = None
        self._write_failed = False
        self.batching = False
        wire.phase = Phase.IDLE
        itself: weakref.ref[Http2Connection] = weakref.ref(self)
        self._reader: TaskHandle = runtime.spawn(lambda: read_all(itself, wire), name="holdwire: HTTP/2 reader")

    # --- what the pool asks ---

    @property
    def capacity(self) -> int:
        if self._write_failed or self._is_leaving or self.heartbeat.late(time.monotonic()):
            return 0
        return self.terms.spare(len(self._streams) + self.held_resets, self._reserved)

    @property
    def active(self) -> int:
        return len(self._streams) + self._reserved

    @property
    def serving(self) -> bool:
        return bool(self._streams)

    @property
    def busy_since(self) -> float | None:
        return next((stream.opened for stream in self._streams.values()), None)

    @property
    def width(self) -> int:
        return self.terms.width

    @property
    def waiting(self) -> Attempt | None:
        if len(self._streams) != 1:
            return None
        (stream,) = self._streams.values()
        return None if stream.status else stream.attempt

    @property
    def _is_leaving(self) -> bool:
        """Whether it takes no more streams and ends with its last one."""
        return self.terms.is_over or self.close_reason is not None or self.machine.used_up

    def retire(self, reason: CloseReason) -> None:
        self.terms.leave(reason)
        if not self.active:
            self.end(reason)

    def reserve(self) -> None:
        self._reserved += 1

    @property
    def honours_reservation(self) -> bool:
        self._reserved -= 1
        honoured = self.capacity > 0
        self._reserved += 1
        return honoured

    @property
    def round_trips(self) -> tuple[float, ...]:
        return self.heartbeat.round_trips

    def release(self) -> None:
        self._reserved -= 1
        if self._is_leaving and not self.active:
            self.end(self.terms.leaving or CloseReason.MAX_REQUESTS)

    def rest(self) -> None:
        self.wire.phase = Phase.IDLE
        self.wire.flight.append((self.idle_since, Mark.IDLE, -1))
        self.flush()

    def wake(self) -> None:
        pass

    def looks_alive(self) -> bool:
        """The reader notices every end; only a loop that was too busy to run it may have missed one."""
        lowest = self.wire
        while isinstance(lowest, TLSStream) and isinstance(lowest.lower, SocketStream | TLSStream):
            lowest = lowest.lower
        if self.close_reason is None and isinstance(lowest, SocketStream):
            look = lowest.look()
            if look is Look.FAILED:
                self.lose(self.wire.failure)
            elif look is Look.ENDED:
                self.end(CloseReason.PEER_IDLE)
        return self.close_reason is None

    # --- the exchange ---

    async def exchange(self, attempt: Attempt) -> Response:
        self._reserved -= 1
        stream = self._open(attempt)
        request = attempt.request
        hook = request.trace
        try:
            if hook is None:
                self.flush()
                await self._uploader.send_body(stream)
                await stream.receive_head(self._runtime)
            else:
                self.flush_now()
                await traced_exchange(stream, hook, self._uploader.send_body, self.terms, self._runtime)
        except BaseException as exc:
            self.fail(stream, exc)
            raise
        stream.phase = Phase.RESPONSE_BODY
        body = request.body_type(Http2Source(self, stream))
        return Response(
            stream.status,
            stream.headers,
            body if hook is None else TracedBody(body, request, hook, protocol="http2", stream_id=stream.id),
            http_version=b"HTTP/2",
            is_ascii=all(value.isascii() for _, value in stream.headers),
            wire=self.wire,
            stream_id=stream.id,
        )

    def _open(self, attempt: Attempt) -> Http2Stream:
        """Open a stream and have its HEADERS ready to be sent.

        Raises:
            RemoteProtocolError: The connection takes no more streams; nothing was sent.
        """
        if self.capacity < 1:
            raise self._unusable(attempt)
        now = time.monotonic()
        request = attempt.request
        self.heartbeat.opening(now, len(self._streams))
        attempt.written = now
        attempt.reused = self.served > 0
        if attempt.reused and not self._streams:
            attempt.idle_before = now - self.idle_since
        self.terms.opened += 1
        stream = Http2Stream(attempt, index=self.terms.opened, opened=now)
        stream.begin = self.outbox.put_in + self.machine.pending
        bodiless = request.body == b""
        self.machine.open(stream, request_fields(request), ended=bodiless)
        if bodiless:
            stream.end = self.outbox.put_in + self.machine.pending
        attempt.first_stream = stream.index == 1
        self.wire.phase = Phase.RESPONSE_WAIT
        self.wire.flight.append((now, Mark.REQUEST, stream.index))
        return stream

    def _unusable(self, attempt: Attempt) -> RemoteProtocolError:
        """Found before anything was written: another connection takes the request."""
        attempt.reused = True
        attempt.phase = Phase.POOL
        self.offer()
        return RemoteProtocolError(
            f"the HTTP/2 connection to {authority(self.origin.host, self.origin.port)} took no more requests when this "
            "one came",
            failure=self._lost_by,
        )

    async def read_body(self, stream: Http2Stream) -> bytes | None:
        """The next piece of the body; None at its end."""
        taken = await stream.receive_data(self._runtime)
        if taken is None:
            return None
        data, used = taken
        self.machine.consumed(stream, used)
        if self.machine.pending:
            self.flush()
        return data

    # --- the end of a stream ---

    def finish(self, stream: Http2Stream) -> None:
        """The response was read to its end, or its owner lost interest."""
        if stream.id not in self._streams:
            return
        self.machine.drop(stream)
        self.idle_since = time.monotonic()
        if stream.ended:
            self.served += 1
            self.wire.requests = self.served
        elif stream.error is None:  # another task may be reading
            stream.error = ClosedError(CLOSED_MESSAGE)
            stream.wake()
        if self.close_reason is not None:
            return
        if not stream.reset and not (stream.ended and stream.end is not None):
            self.reset(stream, ErrorCodes.CANCEL, doubtful=False)
        self.offer()

    def fail(self, stream: Http2Stream, exc: BaseException) -> None:
        """The exchange ended in ``exc``: note the evidence, and reset the stream if the connection lives."""
        if stream.id not in self._streams:
            return
        self.machine.drop(stream)
        self.idle_since = time.monotonic()
        attempt = stream.attempt
        attempt.phase = stream.phase
        alive = self.close_reason is None
        attempt.multiplexed = alive
        if alive:
            self.note_sent(stream)
        limited = isinstance(exc, DeadlineExceeded)
        if limited or (attempt.request.deadline is not None and not isinstance(exc, HoldwireError)):
            uploads = stream.phase is Phase.REQUEST_BODY
            closed = uploads and self.machine.room(stream) <= 0 and not self.outbox.busy
            detail = str(exc) if limited else None
            failure = timed_out(stream, detail, self.wire.facts(), self.outbox, window_closed=closed)
            attempt.failure = failure  # for a deadline of the request, which comes as a cancellation
            if isinstance(exc, DeadlineExceeded):
                exc.failure = failure
        if not alive:
            return
        if not stream.reset:
            doubtful = limited or self.wire.last_read < stream.opened
            self.reset(stream, ErrorCodes.CANCEL, doubtful=doubtful)
        self.offer()

    def reset(self, stream: Http2Stream, code: ErrorCodes, *, doubtful: bool) -> None:
        """Send RST_STREAM; in doubt about the connection a PING too, and hold the stream's place until it answers."""
        stream.reset = True
        self.machine.reset(stream, code)
        if doubtful:
            pinged = self.heartbeat.resetting(time.monotonic(), len(self._streams))
            if pinged and self.wire.last_read < stream.opened:
                self.held_resets += 1
        self.flush()

    def offer(self) -> None:
        """The connection can take more, or has nothing left to do."""
        if self.close_reason is not None:
            return
        self.flush()  # letting go of a stream may have opened the connection's window
        if self._is_leaving and not self.active:
            self.end(self.terms.leaving or CloseReason.MAX_REQUESTS)
        elif self.on_idle is not None:
            self.on_idle(self)

    # --- what the reader and the writer tell ---

    def on_room(self) -> None:
        """A window has opened, or the kernel has taken something."""
        self._uploader.on_room()

    # --- the end of the connection ---

    @property
    def unfinished(self) -> bool:
        """Whether a response is still to come."""
        return any(not stream.ended and stream.error is None for stream in self._streams.values())

    def lose(self, failure: Failure | None) -> None:
        undelivered = self.wire.undelivered()
        self.end(CloseReason.FAILURE, failure, abort=undelivered is None or undelivered > 0)

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
        for stream in self._streams.values():
            if stream.end is None or stream.end > self.outbox.taken:
                stream.attempt.write_failure = self.wire.failure  # to be told even if the answer comes all the same
        self._reader.cancel()
        itself: weakref.ref[Http2Connection] = weakref.ref(self)
        wire = self.wire
        self._reader = self._runtime.spawn(
            lambda: read_all(itself, wire), name="holdwire: HTTP/2 reader of what is left"
        )

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
                self.say_goodbye(ErrorCodes.NO_ERROR)
            for stream in self._streams.values():
                self.note_sent(stream, ended=True)
        super().end(reason, failure, abort=abort)

    def say_goodbye(self, code: ErrorCodes) -> None:
        """GOAWAY, if it can be sent without waiting."""
        if self.outbox.busy or self.wire.closed:
            return
        self.machine.goaway(code)
        with contextlib.suppress(HoldwireError):
            self.wire.write_now(self.machine.take())

    def _ended(self) -> None:
        if self.close_reason is CloseReason.FOREIGN:
            return
        self.heartbeat.stop()
        failure = self._lost_by
        if failure is None and self.terms.goaway is not None and self.close_reason is not CloseReason.ACLOSE:
            failure = diagnosis.local(Kind.HTTP2_GOAWAY, phase=self.wire.phase, facts=self.wire.facts())
        for stream in self._streams.values():
            if stream.ended:
                stream.reset = True  # what is left of its request goes nowhere
            elif stream.error is None:
                stream.error = severed_error(stream, failure, self.outbox, self.terms.goaway)
            stream.wake()

    # --- evidence and writing ---

    def note_sent(self, stream: Http2Stream, *, ended: bool = False) -> None:
        """How much of its request the kernel has taken."""
        stream.attempt.sent = self.outbox.sent(stream.begin, stream.end, ended=ended)

    def send_ping(self, payload: bytes) -> None:
        """Have a PING leave with the next ``flush``."""
        self.machine.ping(payload)

    def flush(self) -> None:
        """Send what is ready, now or with what others have to say."""
        if not self.batching:
            self.flush_now()

    def flush_now(self) -> None:
        if self.machine.pending and self.close_reason is None:
            self.outbox.put(self.machine.take())
