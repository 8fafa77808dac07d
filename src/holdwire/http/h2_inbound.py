"""``Inbound``: puts what one HTTP/2 connection receives on its streams, and wakes their tasks.

A response that is not legal ends its stream, not the connection. Not responsible for frames (``h2_machine``) or for the
end of the connection (``http2``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes

from ..events import CloseReason
from ..policy import diagnosis
from ..policy.flight import Mark
from ..policy.kind import Kind
from ..policy.outcome import Http2Signal
from .h2_fates import code_name, evident, goaway_event, malformed, peer_said, reset_error, signal_of
from .h2_head import Malformed, announced_length, response_head

if TYPE_CHECKING:
    from ..policy.failure import Failure
    from .h2_stream import Http2Stream
    from .http2 import Http2Connection

__all__ = ["Inbound"]

_TOO_MANY_PINGS: Final = b"too_many_pings"


class Inbound:
    """See the module; a ``Sink`` of the machine."""

    __slots__ = ("_connection", "woken")

    def __init__(self, connection: Http2Connection) -> None:
        self._connection = connection
        self.woken = 0
        """How often a task was woken."""

    def on_head(self, stream: Http2Stream, fields: list[tuple[bytes, bytes]], *, ended: bool) -> None:
        stream.attempt.received += 1
        try:
            if not stream.status:
                self._on_first_head(stream, fields, ended=ended)
            elif not ended:
                _refuse("the response has a second head")
            if ended:
                stream.complete()
        except Malformed as exc:
            self._reject(stream, str(exc))
        self._wake(stream)

    def _on_first_head(self, stream: Http2Stream, fields: list[tuple[bytes, bytes]], *, ended: bool) -> None:
        status, headers = response_head(fields)
        if status < 200:
            if ended:
                _refuse("the response ended with an interim head")
            return
        attempt = stream.attempt
        stream.expected = announced_length(headers, method=attempt.request.method, status=status)
        stream.status, stream.headers = status, headers
        attempt.response_early = stream.end is None
        wire = self._connection.wire
        wire.flight.append((wire.last_read, Mark.RESPONSE, status))
        self._connection.terms.on_answer(stream.index)

    def on_data(self, stream: Http2Stream, data: bytes, used: int, *, ended: bool) -> None:
        stream.attempt.received += used
        stream.body_size += len(data)
        stream.pieces.append((data, used))
        try:
            if not stream.status:
                _refuse("the response has a body before its head")
            if ended:
                stream.complete()
        except Malformed as exc:
            self._reject(stream, str(exc))
        self._wake(stream)

    def _wake(self, stream: Http2Stream) -> None:
        self.woken += 1
        stream.wake()

    def _reject(self, stream: Http2Stream, detail: str) -> None:
        connection = self._connection
        connection.note_sent(stream)
        stream.error = malformed(stream, detail, connection.wire.facts(), connection.outbox)
        connection.reset(stream, ErrorCodes.PROTOCOL_ERROR, doubtful=False)

    def on_settings(self, changed: dict[int, int]) -> None:
        self._connection.terms.on_settings(changed)
        self._connection.on_room()

    def on_ping_answer(self, payload: bytes) -> None:
        self._connection.heartbeat.answered(time.monotonic(), payload)

    def on_room(self) -> None:
        self._connection.on_room()

    def on_reset(self, stream: Http2Stream, code: int) -> None:
        connection = self._connection
        stream.reset = True
        wire = connection.wire
        wire.flight.append((wire.last_read, Mark.RESET, code))
        signal = signal_of(code)
        if signal is Http2Signal.REFUSED_STREAM:
            connection.terms.refused()
        elif signal is Http2Signal.HTTP_1_1_REQUIRED:
            connection.terms.wants_http11()
        if not stream.ended and stream.error is None:
            stream.attempt.http2 = signal
            connection.note_sent(stream)
            stream.error = reset_error(stream, code, wire.facts(), connection.outbox)
        self._wake(stream)

    def on_goaway(self, last: int, code: int, text: bytes) -> None:
        """The peer takes no streams above an id; those up to it go on (RFC 9113, section 6.8)."""
        connection = self._connection
        wire = connection.wire
        wire.flight.append((wire.last_read, Mark.GOAWAY, code))
        event = goaway_event(last, code, text)
        streams = connection.machine.streams.values()
        rejected = [stream for stream in streams if stream.id > last and not stream.ended and stream.error is None]
        connection.terms.on_goaway(event, rejects=bool(rejected))
        if code == ErrorCodes.ENHANCE_YOUR_CALM and text.startswith(_TOO_MANY_PINGS):
            connection.heartbeat.too_many()
        failure: Failure | None = None
        if rejected or code:
            detail = f"GOAWAY with {code_name(code)}, last stream {last}"
            failure = diagnosis.local(Kind.HTTP2_GOAWAY, phase=wire.phase, facts=wire.facts(), detail=detail)
            required = code == ErrorCodes.HTTP_1_1_REQUIRED
            for stream in rejected:
                stream.attempt.goaway_error = code != ErrorCodes.NO_ERROR
                stream.attempt.http2 = Http2Signal.HTTP_1_1_REQUIRED if required else Http2Signal.GOAWAY_BELOW
                stream.reset = True
                connection.note_sent(stream)
                stream.error = peer_said(evident(stream, failure.evolve(phase=stream.phase), connection.outbox), event)
                self._wake(stream)
        if not connection.active:
            connection.end(CloseReason.GOAWAY, failure)


def _refuse(detail: str) -> None:
    raise Malformed(detail)
