"""What the end of an HTTP/2 stream means: the words of the peer, or the end of its connection, as an error.

Each error carries a ``Failure`` with the evidence about the stream's request, and the h2 event of the peer's word,
which others look for. Not responsible for deciding what is sent again (``policy.retry``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import h2.events
from h2.errors import ErrorCodes

from ..errors import ClosedError, ConnectionLost, HeartbeatLost, HoldwireError, RemoteProtocolError
from ..policy import diagnosis
from ..policy.evidence import delivery
from ..policy.kind import Category, Kind
from ..policy.outcome import Http2Signal
from ..policy.phase import Sent
from ..policy.tcp_info import TcpState
from .body import CLOSED_MESSAGE

if TYPE_CHECKING:
    from ..policy.diagnosis import Facts
    from ..policy.failure import Failure
    from .h2_outbox import Outbox
    from .h2_stream import Http2Stream

__all__ = [
    "code_name",
    "evident",
    "goaway_event",
    "malformed",
    "peer_said",
    "reset_error",
    "severed_error",
    "signal_of",
    "timed_out",
]

_SIGNALS: Final = {
    ErrorCodes.REFUSED_STREAM: Http2Signal.REFUSED_STREAM,
    ErrorCodes.HTTP_1_1_REQUIRED: Http2Signal.HTTP_1_1_REQUIRED,
    ErrorCodes.ENHANCE_YOUR_CALM: Http2Signal.ENHANCE_YOUR_CALM,
}
_CODES: Final = {int(code): code for code in ErrorCodes}


_CLOSED_WINDOW: Final = "The server takes bytes, but keeps the request's HTTP/2 window closed: it does not read it."
_CLOSED_WINDOW_REMEDY: Final = "Look for what holds the server up, or raise the write time-out."


def signal_of(code: int) -> Http2Signal:
    """What RST_STREAM with ``code`` says."""
    known = _CODES.get(code)
    return Http2Signal.RESET if known is None else _SIGNALS.get(known, Http2Signal.RESET)


def code_name(code: int) -> str:
    """The name of an error code, or its number."""
    known = _CODES.get(code)
    return f"code {code:#x}" if known is None else known.name


def goaway_event(last: int, code: int, text: bytes) -> h2.events.ConnectionTerminated:
    """h2's event for a GOAWAY."""
    event = h2.events.ConnectionTerminated()
    event.last_stream_id = last
    event.error_code = _CODES.get(code, code)
    event.additional_data = text or None
    return event


def evident(stream: Http2Stream, failure: Failure, outbox: Outbox) -> Failure:
    """``failure`` with what is known about the request of ``stream``."""
    attempt = stream.attempt
    accepted = 0 if attempt.sent is Sent.NONE else outbox.taken - stream.begin
    waits = attempt.sent is not Sent.NONE and accepted <= 0  # in our own memory, from where it may still leave
    known = delivery(
        accepted=1 if waits else accepted,
        outq=None if waits else failure.outq,
        notsent=None if failure.tcp is None else failure.tcp.notsent_bytes,
        response_bytes=attempt.received,
        ended=failure.tcp is not None and failure.tcp.state is TcpState.CLOSE,
    )
    return failure.evolve(sent=attempt.sent, delivery=known, reused=attempt.reused)


def peer_said(failure: Failure, event: h2.events.Event) -> RemoteProtocolError:
    """The error of a stream that the peer ended in so many words."""
    error = RemoteProtocolError(f"{event!r}: {failure}", failure=failure)
    error.protocol_event = event
    return error


def reset_error(stream: Http2Stream, code: int, facts: Facts, outbox: Outbox) -> RemoteProtocolError:
    """The peer reset the stream."""
    event = h2.events.StreamReset(stream_id=stream.id)
    event.error_code = _CODES.get(code, code)
    failure = diagnosis.local(
        Kind.HTTP2_STREAM_RESET, phase=stream.phase, facts=facts, detail=f"RST_STREAM with {code_name(code)}"
    )
    return peer_said(evident(stream, failure, outbox), event)


def malformed(stream: Http2Stream, detail: str, facts: Facts, outbox: Outbox) -> RemoteProtocolError:
    """The response is not legal."""
    failure = diagnosis.from_protocol(phase=stream.phase, facts=facts, detail=detail)
    failure = evident(stream, failure, outbox)
    return RemoteProtocolError(f"{detail} [{failure.endpoint}]", failure=failure)


def timed_out(stream: Http2Stream, detail: str | None, facts: Facts, outbox: Outbox, *, window_closed: bool) -> Failure:
    """A time limit of the caller expired; ``window_closed`` if the peer takes our bytes, but none of this body."""
    failure = diagnosis.local(Kind.LOCAL_TIMEOUT, phase=stream.phase, facts=facts, detail=detail)
    if window_closed:
        failure = failure.evolve(cause=_CLOSED_WINDOW, remedy=_CLOSED_WINDOW_REMEDY)
    return evident(stream, failure, outbox)


def severed_error(
    stream: Http2Stream, failure: Failure | None, outbox: Outbox, goaway: h2.events.Event | None
) -> HoldwireError:
    """The connection ended under the stream, by ``failure``; without one by its owner's wish."""
    if failure is None:
        return ClosedError(CLOSED_MESSAGE)
    failure = evident(stream, failure.evolve(phase=stream.phase), outbox)
    if failure.kind is Kind.HEARTBEAT_LOST:
        return HeartbeatLost(failure=failure)
    if failure.kind is Kind.UNEXPECTED_EOF:
        error = RemoteProtocolError(f"Server disconnected [{failure}]", failure=failure)
        error.protocol_event = goaway
        return error
    if failure.category is Category.VIOLATION and failure.tls is None:
        return RemoteProtocolError(failure=failure)
    return ConnectionLost(failure=failure)
