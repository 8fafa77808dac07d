"""``Http11Connection``: HTTP/1.1 on one wire, one exchange at a time.

Theory of operation. A request leaves in one write where it is small (head and body together). While it is being
written the peer may answer early: input that arrives while the kernel has no room interrupts the write, and after a
failed write the read side is drained first, so that a 413 is delivered and not lost behind EPIPE. How much of the
request the kernel took is counted on the wire; ``Attempt`` holds that evidence when something fails.

Invariants: a connection is given back only if both messages are complete, nothing stray follows, and nobody said
close; after an exception or a cancellation inside an exchange it is closed, aborted if bytes of the request could
still leave. Not responsible for parsing (``parser``), encoding the head (``head``), retries or the pool.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from ..errors import (
    ClosedError,
    ConnectionLost,
    DeadlineExceeded,
    HoldwireError,
    LocalProtocolError,
    RemoteProtocolError,
)
from ..events import CloseReason
from ..policy import diagnosis
from ..policy.evidence import delivery, fin_before_write
from ..policy.flight import Mark
from ..policy.kind import Kind
from ..policy.phase import Phase, Sent
from ..policy.tcp_info import TcpState
from .body import CLOSED_MESSAGE
from .connection import REFUSED, Attempt, HttpConnection
from .head import length_message
from .messages import Response
from .parser import ResponseReader, Truncated, Violation
from .trace import Traced, TracedBody, tell_closed

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ..net.wire import Wire
    from ..policy.failure import Failure
    from .messages import BodySource, Origin, Request, Trace

__all__ = ["Http11Connection"]

READ_SIZE: Final = 65_536
_SWITCHING_PROTOCOLS: Final = 101
KEEP_ALIVE_MARGIN: Final = 2.0
"""Seconds: a server that announces ``Keep-Alive: timeout=N`` closes just then, so reuse ends earlier."""
EARLY_LIMIT: Final = 2**24
"""Bytes of a response that are read while its request is still being written."""
JOIN_LIMIT: Final = 65_536
"""A body up to this size leaves in the same write as the head."""
_CHUNK: Final = b"%x\r\n%b\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Http11Connection(HttpConnection):
    """See the module."""

    __slots__ = ("_attempt", "_eof_lost", "_heard", "_mark", "_reader", "_upload_cut", "truncation")

    def __init__(self, wire: Wire, origin: Origin, *, max_age: float | None, truncation: str = "error") -> None:
        super().__init__(wire, origin, max_age=max_age)
        self.truncation = truncation
        self._reader = ResponseReader()
        self._attempt: Attempt | None = None
        self._mark = 0
        self._heard = 0
        """Bytes of the response that came while the request was being written."""
        self._upload_cut = False
        self._eof_lost: ConnectionLost | None = None
        """After either there is no further exchange."""

    @property
    def capacity(self) -> int:
        return 1 if self._attempt is None and self.close_reason is None else 0

    @property
    def active(self) -> int:
        return 0 if self._attempt is None else 1

    @property
    def waiting(self) -> Attempt | None:
        return self._attempt

    # --- the exchange ---

    async def exchange(self, attempt: Attempt) -> Response:
        request = attempt.request
        wire = self.wire
        self._attempt = attempt
        attempt.written = now = time.monotonic()
        if self.served:
            attempt.reused = True
            attempt.idle_before = now - self.idle_since
        wire.flight.append((now, Mark.REQUEST, self.served + 1))
        self._mark = wire.bytes_out
        self._heard = 0
        reader = self._reader
        reader.begin(request.method)
        hook = request.trace
        try:
            if hook is None:
                await self._send(request)
                await self._receive_head(attempt)
            else:
                await self._traced_exchange(request, hook)
        except BaseException as exc:
            self._abandon(exc)
            if hook is not None:
                await tell_closed(hook, exc)
            raise
        wire.flight.append((time.monotonic(), Mark.RESPONSE, reader.status))
        wire.phase = Phase.UPGRADED if reader.upgraded else Phase.RESPONSE_BODY
        body = request.body_type(self)
        return Response(
            reader.status,
            reader.headers,
            body if hook is None else TracedBody(body, request, hook),
            http_version=reader.http_version,
            is_ascii=reader.is_ascii,
            reason=reader.reason,
            wire=wire,
            leftover=reader.leftover,
        )

    async def _traced_exchange(self, request: Request, hook: Trace) -> None:
        reader = self._reader
        info = {"request": request}
        async with Traced(hook, "http11.send_request_headers", info):
            await self._send_head(request)
        async with Traced(hook, "http11.send_request_body", info):
            await self._send_body(request)
        async with Traced(hook, "http11.receive_response_headers", info) as step:
            await self._receive_head(self._current())
            step.result = (reader.http_version, reader.status, reader.reason, reader.headers)

    def _send(self, request: Request) -> Coroutine[Any, Any, None]:
        """To be awaited: in one write where the request is small."""
        body = request.body
        if isinstance(body, bytes) and len(body) <= JOIN_LIMIT:
            self.wire.phase = Phase.REQUEST_HEADERS
            return self._write(request.head + _framed(request, body), request, until_input=bool(body))
        return self._send_parts(request)

    async def _send_parts(self, request: Request) -> None:
        await self._send_head(request)
        await self._send_body(request)

    async def _send_head(self, request: Request) -> None:
        self.wire.phase = Phase.REQUEST_HEADERS
        await self._write(request.head, request, until_input=False)

    async def _send_body(self, request: Request) -> None:
        body = request.body
        if self.wire.failure is not None:  # the head did not get out: the body is not touched, and can go elsewhere
            return
        if isinstance(body, bytes):
            if body := _framed(request, body):
                self.wire.phase = Phase.REQUEST_BODY
                await self._write(body, request, until_input=True)
            return
        self.wire.phase = Phase.REQUEST_BODY
        try:
            await self._send_pieces(body, request)
        finally:
            await body.aclose()

    async def _send_pieces(self, body: BodySource, request: Request) -> None:
        sent = 0
        declared = None if request.chunked else (request.content_length or 0)
        async for piece in body:
            if not piece:
                continue
            sent += len(piece)
            if declared is not None and sent > declared:
                raise LocalProtocolError(length_message(sent, declared))
            framed = _CHUNK % (len(piece), piece) if request.chunked else piece
            await self._write(framed, request, until_input=True)
            if self._upload_cut:
                return
        if declared is not None and sent != declared:
            raise LocalProtocolError(length_message(sent, declared))
        if request.chunked:
            await self._write(_LAST_CHUNK, request, until_input=True)

    async def _write(self, data: bytes, request: Request, *, until_input: bool) -> None:
        """Write ``data``; cut the upload short if the peer refuses it early or the write fails.

        Once TLS has encrypted the last piece a refusal is no early one any more, though the kernel may not have all of
        it: what is with us may still leave, and an upload that may be complete is not repeated.
        """
        wire = self.wire
        try:
            hears = until_input and self._heard < EARLY_LIMIT
            done = await wire.write(data, request.timeouts.write, until_input=hears)
            while done < len(data) or (until_input and wire.unsent):
                if await self._early_answer(request):
                    self._upload_cut = True
                    if done == len(data):
                        self._current().response_early = False
                    return
                hears = self._heard < EARLY_LIMIT
                done += await wire.write(memoryview(data)[done:], request.timeouts.write, until_input=hears)
        except DeadlineExceeded:
            if not self._reader.complete or self._reader.upgraded:
                raise
            self._upload_cut = True  # it has answered, and wants no more
        except ConnectionLost as lost:
            self._current().write_failure = lost.failure
            self._upload_cut = True  # an answer that came before the reset is still readable: look there first
        except ClosedError:
            raise ClosedError(CLOSED_MESSAGE) from None

    async def _early_answer(self, request: Request) -> bool:
        """Input arrived while the request was being written: whether it ends the upload.

        A refusal does, and the end of the connection. Who answers with success may still be reading: it is heard, so
        that neither side waits for the other, and gets the rest.
        """
        try:
            data = await self.wire.read(READ_SIZE, request.timeouts.read)
        except (ConnectionLost, ClosedError) as exc:
            data = self._no_more(exc)
        if not data:
            self._upload_cut = True
            return True
        self._heard += len(data)
        self._feed(data)
        # an interim answer is none: the rest of the request follows, and what comes then is not early
        attempt = self._current()
        attempt.response_early = self._reader.head_complete
        return attempt.response_early and self._reader.status >= REFUSED

    async def _receive_head(self, attempt: Attempt) -> None:
        reader = self._reader
        request = attempt.request
        wire = self.wire
        wire.phase = Phase.RESPONSE_WAIT
        while not reader.head_complete:
            try:
                data = await wire.read(READ_SIZE, request.timeouts.read)
            except (ConnectionLost, ClosedError) as exc:
                data = self._no_more(exc)
            if data:
                attempt.received += len(data)
                self._feed(data)
            else:
                self._feed_eof(request)
        if reader.status == _SWITCHING_PROTOCOLS and not any(name.lower() == b"upgrade" for name, _ in request.headers):
            raise self._illegal(Violation("101 Switching Protocols, for which the request did not ask"))
        if self._upload_cut:
            reader.reusable = False

    def _no_more(self, exc: ConnectionLost | ClosedError) -> bytes:
        """What a read that ended in ``exc`` has read: ``b""`` if it was an end of file without close_notify.

        It is read as one with close_notify: the framing decides what that means.

        Raises:
            ConnectionLost, ClosedError: It was something else.
        """
        if isinstance(exc, ClosedError):
            raise ClosedError(CLOSED_MESSAGE) from None
        if exc.failure is None or exc.failure.kind is not Kind.UNEXPECTED_EOF:
            raise exc
        self._eof_lost = exc
        return b""

    def _feed(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except Violation as violation:
            raise self._illegal(violation) from None

    def _illegal(self, violation: Violation) -> RemoteProtocolError:
        failure = diagnosis.from_protocol(phase=self.wire.phase, facts=self.wire.facts(), detail=str(violation))
        self.wire.latch(failure)
        return RemoteProtocolError(f"{violation} [{failure.endpoint}]", failure=failure)

    def _feed_eof(self, request: Request) -> None:
        reader = self._reader
        try:
            reader.feed_eof()
        except Truncated as truncated:
            lost = self._eof_lost
            failure = lost.failure if lost is not None else None
            if failure is None:
                failure = diagnosis.from_eof(phase=self.wire.phase, facts=self.wire.facts())
                self.wire.latch(failure)
            raise RemoteProtocolError(f"{truncated} [{failure}]", failure=failure) from lost
        if self._eof_lost is not None and (request.truncation or self.truncation) != "accept":
            # the body is delimited by the end of the connection, and TLS says that this was no orderly end
            failure = self._eof_lost.failure
            raise RemoteProtocolError(
                "the body is delimited by the end of the connection, which ended without close_notify: it may be "
                f'truncated; tls_truncation="accept" takes it as it is [{failure}]',
                failure=failure,
            ) from self._eof_lost

    def take_body(self) -> bytes | None:
        """What has arrived of the body, possibly ``b""``; None at its end."""
        reader = self._reader
        pieces = reader.body
        if pieces:
            reader.body = []
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return None if reader.complete else b""

    async def read_body(self) -> bytes | None:
        """The next piece of the body; None at its end."""
        request = self._current().request
        while (piece := self.take_body()) == b"":
            try:
                data = await self.wire.read(READ_SIZE, request.timeouts.read)
            except (ConnectionLost, ClosedError) as exc:
                data = self._no_more(exc)
            if data:
                self._feed(data)
            else:
                self._feed_eof(request)
        return piece

    @property
    def upgraded(self) -> bool:
        """Whether the wire belongs to another protocol now."""
        return self._reader.upgraded

    # --- the end of an exchange ---

    def finish(self) -> None:
        """The response was read to its end, or its owner lost interest: give the connection back, or close it."""
        if self._attempt is None or self.close_reason is not None:
            return
        reader = self._reader
        request = self._attempt.request
        if not reader.complete:
            self.end(CloseReason.CANCELLED, abort=self.wire.undelivered() != 0)
            return
        self._attempt = None
        self.idle_since = time.monotonic()
        self.served += 1
        self.wire.requests = self.served
        if reader.keep_alive is not None:
            self.idle_limit = max(reader.keep_alive - KEEP_ALIVE_MARGIN, 0.0)
        if not reader.reusable or request.close:
            # what is left of an upload that was cut short is not to be pushed out by a graceful close
            self.end(CloseReason.RESPONSE, abort=self._upload_cut and self.wire.undelivered() != 0)
            return
        if self.on_idle is not None:
            self.on_idle(self)

    def fail(self, exc: BaseException) -> None:
        """The body could not be read to its end because of ``exc``."""
        self._abandon(exc)

    def _abandon(self, exc: BaseException) -> None:
        """Close after a failure, a time-out or a cancellation: what could still leave is never delivered."""
        attempt = self._attempt
        if attempt is None:
            return
        wire = self.wire
        attempt.phase = wire.phase
        if attempt.sent is not Sent.ALL:
            attempt.sent = self._sent(attempt)
        reader = self._reader
        if reader.started and not attempt.received:
            attempt.received = 1
        undelivered = wire.undelivered()
        failure = self._failure_of(exc, attempt, undelivered or 0)
        if isinstance(exc, HoldwireError) and exc.failure is None:
            exc.failure = failure
        failed = isinstance(exc, HoldwireError)
        reason = CloseReason.FAILURE if failed else CloseReason.CANCELLED
        self.end(reason, failure if failed else None, abort=undelivered != 0)

    def _sent(self, attempt: Attempt) -> Sent:
        accepted = self.wire.bytes_out - self._mark
        if accepted == 0:
            return Sent.NONE
        request = attempt.request
        if self.wire.phase in {Phase.RESPONSE_WAIT, Phase.RESPONSE_BODY} and not self._upload_cut:
            return Sent.ALL if not self.wire.unsent else Sent.PART
        body = request.body
        whole = len(request.head) + (len(_framed(request, body)) if isinstance(body, bytes) else 1 << 62)
        return Sent.ALL if accepted >= whole and not self.wire.unsent else Sent.PART

    def _failure_of(self, exc: BaseException, attempt: Attempt, discarded: int) -> Failure | None:
        """The record of ``exc``, with what only this layer knows."""
        failure: Failure | None
        if isinstance(exc, HoldwireError) and not isinstance(exc, DeadlineExceeded):
            failure = exc.failure or self.wire.failure
        elif isinstance(exc, DeadlineExceeded) or attempt.request.deadline is not None:
            failure = diagnosis.local(Kind.LOCAL_TIMEOUT, phase=attempt.phase, facts=self.wire.facts())
        else:
            return None
        if failure is None:
            return None
        accepted = self.wire.bytes_out - self._mark
        known = delivery(
            accepted=accepted,
            outq=failure.outq,
            notsent=None if failure.tcp is None else failure.tcp.notsent_bytes,
            response_bytes=attempt.received,
            ended=failure.tcp is not None and failure.tcp.state is TcpState.CLOSE,
        )
        failure = failure.evolve(
            sent=attempt.sent,
            delivery=known,
            reused=attempt.reused,
            fin_before_write=fin_before_write(failure, accepted=accepted),
            discarded=discarded,
        )
        if isinstance(exc, HoldwireError):
            exc.failure = failure
        attempt.failure = failure
        return failure

    def _current(self) -> Attempt:
        assert self._attempt is not None  # noqa: S101 - inside an exchange
        return self._attempt

    # --- idleness ---

    def rest(self) -> None:
        self.wire.phase = Phase.IDLE
        self.wire.flight.append((self.idle_since, Mark.IDLE, -1))
        self.wire.watch(self._on_input)

    def wake(self) -> None:
        self.wire.unwatch()

    def _on_input(self) -> None:
        """Something arrived on the idle connection: its end, a failure, TLS's own talk, or bytes nobody asked for."""
        self.looks_alive()

    def _ended(self) -> None:
        self._reader = ResponseReader()  # lets go of the parser, which refers back to its reader


def _framed(request: Request, body: bytes) -> bytes:
    """The whole ``body``, as it goes out."""
    if not request.chunked:
        return body
    return _CHUNK % (len(body), body) + _LAST_CHUNK if body else _LAST_CHUNK
