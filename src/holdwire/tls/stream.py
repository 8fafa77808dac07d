"""``TLSStream``: TLS over our own socket, over TLS, or over any other anyio byte stream.

Theory of operation. The engine does TLS, this does the waiting. Every call is a loop of one engine step, then exactly
one await (send what is pending, or receive), then a look at the engine again. A reader and a writer may be in that
loop at once, because a read may have to send and a write to receive. What keeps them right:

* Ciphertext leaves in the order in which the engine made it (``Outbox``), by one task at a time.
* One task receives at a time, into the engine, in the step in which the bytes leave the kernel. Who had to wait for
  the turn looks at the engine's count of receipts: another task has fed it, so look there before waiting.
* Send before waiting to receive; a reader that finds the kernel full waits for whichever comes first.
* A write is taken by the chunk. Once encrypted, a chunk is committed: a cancelled write leaves its ciphertext for the
  next one, because the records after it could not be read without it. ``close`` refuses to be graceful then.
* The connection's failure is latched once, on the lowest stream: every layer raises the same record.

Nothing is allocated and nobody yields where there is no need: a write is one engine step and one system call, a read
that finds plaintext is none, a read that must wait waits once. Time limits hold for a whole call.
Not responsible for certificates (``context``), sessions (``session``), or the meaning of failures (``policy``).
"""

from __future__ import annotations

import time
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
from anyio.lowlevel import checkpoint

from ..errors import ClosedError, ConnectFailed, ConnectionLost, DeadlineExceeded, HoldwireError
from ..net.stream import SocketStream
from ..net.turn import Turn
from ..net.wire import CLOSED_MESSAGE, FINISHED_MESSAGE, Look, Wire
from ..policy import diagnosis
from ..policy.authority import authority
from ..policy.flight import Mark
from ..policy.kind import Kind
from ..policy.phase import Phase
from ._attributes import tls_attributes
from ._deadline import deadline_after, time_left
from ._outbox import Outbox
from .context import make_engine
from .engine import Step, TlsFailure
from .foreign import ForeignWire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from anyio.abc import ByteStream

    from ..policy.failure import Failure
    from ..policy.settings import Keepalive
    from ._outbox import Lower
    from .engine import Engine, Truncation

__all__ = ["TLSStream"]

_CHUNK: Final = 262_144
"""Bytes of plaintext that are encrypted at once; what a cancelled or interrupted write leaves behind is no more."""
_READ_SIZE: Final = 262_144
_CLOSE_LIMIT: Final = 1.0
"""Seconds that ``aclose`` gives a peer that does not read to take our close_notify."""
_CERTIFICATE_ALERTS: Final = frozenset({40, 42, 43, 44, 45, 46, 48, 49, 51, 116})
"""What a TLS 1.3 server says about our certificate after our side of the handshake is done (RFC 8446, section 6.2)."""


def _of_lower(name: str) -> Any:  # noqa: ANN401 - takes the type of the attribute that it stands for
    """The attribute ``name`` of the stream beneath."""
    return property(attrgetter(f"lower.{name}"), lambda self, value: setattr(self.lower, name, value))


class TLSStream(Wire):
    """TLS over ``lower``, which belongs to it. Made by ``connect``."""

    phase: Phase = _of_lower("phase")
    failure: Failure | None = _of_lower("failure")
    explain: Callable[[Failure], Failure] | None = _of_lower("explain")
    bytes_in: int = _of_lower("bytes_in")
    bytes_out: int = _of_lower("bytes_out")
    last_read: float = _of_lower("last_read")
    last_write: float = _of_lower("last_write")
    requests: int = _of_lower("requests")

    def __init__(self, lower: Lower, engine: Engine) -> None:
        super().__init__(lower.runtime)
        self.lower = lower
        self.flight = lower.flight
        self.engine = engine
        self.id = lower.id
        self.opened_at = lower.opened_at
        self.peer = lower.peer
        self.peer_port = lower.peer_port
        self.host: str = lower.host
        self.port: int = lower.port
        self._accepted = 0
        self.on_session: Callable[[Engine], None] | None = None
        """Given the engine, once, after the first application data: now its session is one to resume."""
        self._outbox = Outbox(engine, lower)
        self._turn_to_receive = Turn()
        self._carry = b""
        """Plaintext that was decrypted while nobody was reading."""
        self._proven = False
        """Whether the peer has sent application data."""
        self._failure: Failure | None = None
        """What the engine has failed with."""
        self._finished = False
        self._end_said = False
        """Whether ``finish`` has come to its end: cancelled midway, it is to be called again."""
        self._closed = False

    @classmethod
    async def connect(
        cls,
        lower: ByteStream,
        *,
        context: ssl.SSLContext,
        server_hostname: str | None,
        session: ssl.SSLSession | None = None,
        timeout: float | None = None,
        truncation: Truncation = "error",
        server_side: bool = False,
        protocols: Sequence[str] = (),
    ) -> Self:
        """Shake hands over ``lower`` and return the stream. If that fails or is cancelled, ``lower`` is aborted.

        Args:
            lower: The connected stream; it belongs to the TLS stream from now on. Over a stream that is none of ours
                a write that is cancelled midway breaks the connection.
            context: What is trusted, and with what certificate we present ourselves.
            server_hostname: The name for which the peer's certificate must be good; None or empty for none.
            session: One to resume; of the same context and name.
            timeout: Seconds for all of it.
            truncation: What an end of file between two records without close_notify is: ``error`` or ``accept``.
            server_side: Whether we are the server.
            protocols: What is offered by ALPN, best first; none leaves that to the context.

        Raises:
            ConnectFailed: The handshake failed; ``failure`` tells a certificate, the protocol, an alert, an end of
                file and a system call apart.
            DeadlineExceeded: It was not over within ``timeout`` seconds; ``limit`` is ``connect``.
            LocalProtocolError: The name or the context cannot be used.
        """
        wire = lower if isinstance(lower, SocketStream | TLSStream) else ForeignWire(lower)
        phase, wire.phase = wire.phase, Phase.TLS_HANDSHAKE
        deadline = deadline_after(timeout)
        try:
            engine = await make_engine(
                context,
                server_hostname=server_hostname,
                server_side=server_side,
                session=session,
                truncation=truncation,
                protocols=protocols,
            )
            self = cls(wire, engine)
            await self._shake_hands(deadline)
        except ConnectionLost as lost:
            wire.abort()
            failed = ConnectFailed(failure=lost.failure)
            failed.session_refused = session is not None and lost.failure is not None and lost.failure.ended_by_peer
            raise failed from lost.__cause__
        except DeadlineExceeded:
            failure = diagnosis.local(Kind.LOCAL_TIMEOUT, phase=wire.phase, facts=wire.facts())
            wire.abort()
            message = f"the TLS handshake with {failure.endpoint} was not over within {timeout} s"
            raise DeadlineExceeded(message, limit="connect", failure=failure) from None
        except BaseException:
            wire.abort()
            raise
        wire.phase = phase
        wire.flight.append((time.monotonic(), Mark.SECURED, -1))
        return self

    async def _shake_hands(self, deadline: float | None) -> None:
        while True:
            step = self._step(self.engine.handshake)
            if self.engine.pending:
                await self._outbox.flush(deadline)
            if step is Step.DONE:
                return
            if step is Step.NEED_RECV:
                await self._receive(deadline)

    # --- reading ---

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._decrypt(max_bytes)
        if isinstance(data, bytes):
            return data
        deadline = deadline_after(timeout)
        try:
            while True:
                if (data is Step.NEED_SEND or self._outbox.busy) and self.lower.failure is None:
                    await self._send_or_receive(deadline)
                else:
                    await self._receive(deadline)
                data = self._decrypt(max_bytes)
                if isinstance(data, bytes):
                    return data
        except DeadlineExceeded:
            message = f"nothing was received from {self._name} within {timeout} s (phase {self.phase})"
            raise DeadlineExceeded(message, limit="read") from None

    @property
    def holds_input(self) -> bool:
        return bool(self._carry) or self.engine.holds_input

    async def read_into(self, sink: Callable[[memoryview], object], timeout: float | None = None) -> int:
        """As ``net.stream.SocketStream.read_into``, for TLS over this stream."""
        data = await self.read(_READ_SIZE, timeout)
        if data:
            sink(memoryview(data))
        return len(data)

    def read_now(self, sink: Callable[[memoryview], object]) -> int | None:
        """As ``net.stream.SocketStream.read_now``, for TLS over this stream."""
        self._absorb()
        if not self._carry and not (self.engine.ended or self.engine.eof):
            return None
        data = self._decrypt(_READ_SIZE)
        if isinstance(data, bytes) and data:
            sink(memoryview(data))
        return len(data) if isinstance(data, bytes) else None

    def _decrypt(self, max_bytes: int) -> bytes | Step:
        """Plaintext that is here, ``b""`` at the end, or what is needed first."""
        if self._closed:
            raise self._ended()
        if self._carry:
            data, self._carry = self._carry[:max_bytes], self._carry[max_bytes:]
            return data
        try:
            found = self.engine.read(max_bytes)
        except TlsFailure as exc:
            lost = self._fail(exc)
        else:
            if not self._proven and isinstance(found, bytes) and found:
                self._prove()
            return found
        raise lost

    def _prove(self) -> None:
        self._proven = True
        if self.on_session is not None:
            self.on_session(self.engine)

    async def _receive(self, deadline: float | None) -> None:
        """Feed the engine once, or see that another task has done so."""
        turn = self._turn_to_receive
        engine = self.engine
        if turn.held:
            receipts = engine.receipts
            if not await turn.acquire(time_left(deadline)):
                raise DeadlineExceeded(limit="read")
            if engine.receipts != receipts:
                turn.release()
                return
        else:
            turn.held = True
        try:
            if not await self.lower.read_into(engine.feed, time_left(deadline)):
                engine.feed_eof()
        finally:
            turn.release()

    async def _send_or_receive(self, deadline: float | None) -> None:
        """There is ciphertext to send before the peer can answer: wait for room or for input."""
        if not self._outbox.turn.held:
            await self._outbox.flush(deadline, self._answered)
        elif isinstance(self.lower, ForeignWire):  # the writer sends it, or breaks the stream when it is cancelled
            await self._receive(deadline)
        else:
            await self._receive_beside_writer(deadline)

    async def _receive_beside_writer(self, deadline: float | None) -> None:
        """A writer is sending, and may be cancelled before it has sent what the engine made since: be its heir."""
        failed: HoldwireError | None = None

        async def flush() -> None:
            with suppress(HoldwireError):  # latched, or the time is up for the reader too: it finds out
                await self._outbox.flush(deadline)

        async with anyio.create_task_group() as group:
            group.start_soon(flush)
            try:
                await self._receive(deadline)
            except HoldwireError as exc:
                failed = exc
            group.cancel_scope.cancel()
        if failed is not None:
            raise failed

    # --- writing ---

    async def write(self, data: bytes | memoryview, timeout: float | None = None, *, until_input: bool = False) -> int:
        if self._closed or self._finished or self.lower.failure is not None:
            raise self._ended()
        size = len(data)
        done = 0
        if size <= _CHUNK and not self._outbox.busy:
            if self._encrypt(data) is Step.DONE:
                done = size
            if not self._outbox.push() and done == size:
                return done
        return await self._write_rest(memoryview(data), done, timeout, until_input=until_input)

    async def _write_rest(self, data: memoryview, done: int, timeout: float | None, *, until_input: bool) -> int:
        deadline = deadline_after(timeout)
        size = len(data)
        until = self._answered if until_input else None
        try:
            while True:
                if not await self._outbox.flush(deadline, until) or done == size:
                    return done
                chunk = data[done : done + _CHUNK]
                step = self._encrypt(chunk)
                if step is Step.DONE:
                    done += len(chunk)
                elif step is Step.NEED_RECV:
                    await self._receive(deadline)
                if self._closed or self.lower.failure is not None:
                    raise self._ended()
        except DeadlineExceeded:
            message = (
                f"{self._name} did not take {size} bytes within {timeout} s, {self.unsent} bytes of ciphertext are "
                f"left (phase {self.phase}): it does not read, or the path is dead"
            )
            raise DeadlineExceeded(message, limit="write") from None

    def write_now(self, data: bytes | memoryview) -> int:
        """As ``net.stream.SocketStream.write_now``, for TLS over this stream: a chunk, or nothing."""
        if self._closed or self._finished or self.lower.failure is not None:
            raise self._ended()
        if self._outbox.turn.held or self._outbox.push():
            return 0
        chunk = data[:_CHUNK]
        if self._encrypt(chunk) is not Step.DONE:
            return 0
        self._outbox.push()
        return len(chunk)

    def _encrypt(self, data: bytes | memoryview) -> Step:
        step = self._step(self.engine.write, data)
        if step is Step.DONE:
            self._accepted += len(data)
        return step

    def _answered(self, arrived: bool = False) -> bool:  # noqa: FBT001, FBT002 - the outbox's question
        """Whether the peer has said something that a reader wants to know, decrypted now; ``arrived``: look there."""
        if arrived:
            self._absorb()
        elif not self._carry and not self.engine.eof and not self._turn_to_receive.held:
            data = self._decrypt(_READ_SIZE)
            if isinstance(data, bytes):
                self._carry = data
        return bool(self._carry) or self.engine.ended or self.engine.eof

    def _absorb(self) -> None:
        """Take in what has arrived, until there is plaintext, without waiting; answer what TLS itself has to answer."""
        while not self._answered() and not self._turn_to_receive.held:
            count = self.lower.read_now(self.engine.feed)
            if count is None:
                break
            if not count:
                self.engine.feed_eof()
        if self.engine.pending and not self._outbox.busy and self.lower.failure is None:
            self._outbox.push()

    async def finish(self) -> None:
        if self._closed or self.failure is not None:
            raise self._ended()
        if self._end_said:
            return
        self._finished = True
        self._keep_input()
        while self.engine.unwrap() is Step.NEED_RECV and not self.engine.eof:
            await self._outbox.flush(None)
            await self._receive(None)
            self._keep_input()
        await self._outbox.flush(None)
        await self.lower.finish()
        self._end_said = True

    def _keep_input(self) -> None:
        """Decrypt what is here: OpenSSL loses what is unread when we say that we end."""
        pieces: list[bytes] = []
        try:
            while isinstance(data := self._decrypt(_READ_SIZE), bytes) and data:
                pieces.append(data)
        finally:
            self._carry = b"".join(pieces)

    # --- looking ---

    def look(self) -> Look:
        if self.failure is not None:
            return Look.FAILED
        if self._closed:
            return Look.ENDED
        try:
            self._absorb()
            if not self._carry and self.engine.eof:
                data = self._decrypt(_READ_SIZE)  # an end without close_notify is latched, unless it is accepted
                self._carry = data if isinstance(data, bytes) else b""
        except ConnectionLost:
            return Look.FAILED
        if self._carry:
            return Look.INPUT
        return Look.ENDED if self.engine.ended or self.engine.eof else Look.QUIET

    def watch(self, callback: Callable[[], None]) -> None:
        self.lower.watch(callback)

    def unwatch(self) -> None:
        self.lower.unwatch()

    @property
    def wait_count(self) -> int:
        return self.lower.wait_count

    # --- failures ---

    @property
    def _name(self) -> str:
        return authority(self.host, self.port) if self.port else self.host

    def facts(self) -> diagnosis.Facts:
        return self.lower.facts()

    def latch(self, failure: Failure) -> ConnectionLost:
        return self.lower.latch(failure)

    def _step(self, step: Callable[..., Step], *arguments: bytes | memoryview) -> Step:
        try:
            return step(*arguments)
        except TlsFailure as exc:
            lost = self._fail(exc)
        raise lost

    def _fail(self, exc: TlsFailure) -> ConnectionLost:
        """Latch what the engine says, unless the connection has failed before, and send the alert."""
        if self.lower.failure is None:
            failure = self._diagnose(exc)
            self._failure = failure = failure if self.explain is None else self.explain(failure)
            if not self._outbox.busy:
                with suppress(HoldwireError):
                    self._outbox.push()
            self.lower.failure = failure  # sending the alert may have failed too, but this came first
        return self._lost(self.lower.failure)

    def _diagnose(self, exc: TlsFailure) -> Failure:
        tls, phase, facts = exc.detail, self.phase, self.facts()
        if exc.eof:
            where = "the input ended inside a TLS record" if exc.inside_record else None
            return diagnosis.from_eof(phase=phase, facts=facts, tls=tls, detail=where)
        about_us = tls.alert_direction == "received" and tls.alert in _CERTIFICATE_ALERTS
        if about_us and self.engine.handshaken and not self._proven:
            phase = Phase.POST_HANDSHAKE
        return diagnosis.from_tls(phase=phase, facts=facts, tls=tls)

    def _lost(self, failure: Failure) -> ConnectionLost:
        lost = self.lower.latch(failure)
        if failure is self._failure and self.engine.failure is not None:
            lost.__cause__ = self.engine.failure.__cause__
        return lost

    def _ended(self) -> HoldwireError:
        """Why the stream cannot be used."""
        failure = self.failure
        if failure is not None:
            return self._lost(failure)
        return ClosedError(FINISHED_MESSAGE if self._finished and not self._closed else CLOSED_MESSAGE)

    # --- ending ---

    @property
    def closed(self) -> bool:
        return self._closed or self.lower.closed

    @property
    def accepted(self) -> int:
        return self._accepted

    @property
    def unsent(self) -> int:
        return len(self._outbox)

    def undelivered(self) -> int | None:
        beneath = self.lower.undelivered()
        return None if beneath is None else beneath + self.unsent

    def close(self) -> None:
        if self._closed:
            return
        if not self.runtime.same_process:  # the connection is the parent's
            self.drop()
            return
        self._closed = True
        if self._outbox.busy or self.unsent:
            self._outbox.discard()
            self.lower.abort()
            return
        self.engine.unwrap()
        with suppress(HoldwireError):
            self._outbox.push()
        self._outbox.discard()
        self.lower.close()

    def abort(self) -> None:
        self._closed = True
        self._outbox.discard()
        self.lower.abort()

    def drop(self) -> None:
        self._closed = True
        self.lower.drop()

    async def aclose(self) -> None:
        self._disuse()
        if self._closed or self._outbox.busy or self.unsent or not self.runtime.same_process:
            self.close()
            await checkpoint()
            return
        self._closed = True
        self.engine.unwrap()
        try:
            with anyio.move_on_after(_CLOSE_LIMIT), suppress(HoldwireError):
                await self._outbox.flush(None)
        finally:
            self._outbox.discard()
            await self.lower.aclose()

    def set_user_timeout(self, keepalive: Keepalive | None) -> None:
        self.lower.set_user_timeout(keepalive)

    # --- attributes ---

    @property
    def saw_close_notify(self) -> bool:
        """Whether the peer has ended its side as TLS wants it: nothing was cut off."""
        return self.engine.ended

    @property
    def alpn_protocol(self) -> str | None:
        """The protocol that was agreed upon, such as ``h2``."""
        return self.engine.object.selected_alpn_protocol()

    @property
    def version(self) -> str | None:
        """The version of TLS, such as ``TLSv1.3``."""
        return self.engine.object.version()

    @property
    def session_reused(self) -> bool:
        """Whether a session was resumed."""
        return self.engine.session_reused

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {**self.lower.extra_attributes, **tls_attributes(self.engine)}
