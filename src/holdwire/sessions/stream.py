"""``Stream``: what ``holdwire.connect`` gives: an anyio byte stream with a heartbeat, numbers and an honest end.

Theory of operation. The wire does the work. This adds who is in the middle of what: one lock for everything that is
sent, so that a heartbeat never lands inside a message. A send that is cancelled midway leaves the rest of its message
behind (``_rest``); it goes out before anything else, because the peer could not tell where the next one begins. So a
message that was begun is sent whole, or the connection ends.

Invariants: a failure is told to the observers once, whoever meets it first; the end is told once; an error says what
became of the bytes that were sent; a collected stream closes its socket in its own loop. Not responsible for opening
(``opener``), framing (anyio's ``BufferedByteStream`` and ``TextStream`` do that) or reconnecting (``sessions``).
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from anyio import BusyResourceError, EndOfStream
from anyio.abc import ByteStream

from ..errors import ClosedError, ConnectionLost, HoldwireError
from ..events import CloseReason, ConnectionClosed, FailureRecorded
from ..net.runtime import current
from ..net.turn import Turn
from ..policy.fate import Fate, fate_of
from .heartbeat import Beat
from .memory import TargetMemory, Witness
from .slow_peer import SlowPeer
from .statistics import Statistics, StreamAttribute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Context

    from ..events import Observers
    from ..net.stream import SocketStream
    from ..policy.failure import Failure
    from ..policy.settings import Heartbeat, Keepalive
    from ..tls.stream import TLSStream

__all__ = ["Stream"]


class Stream(ByteStream):
    """See the module; made by ``holdwire.connect``.

    At most one task may receive and one may send at a time. ``failure``, ``peer`` and ``statistics`` are properties
    too.
    """

    def __init__(
        self,
        wire: SocketStream | TLSStream,
        *,
        notify: Observers,
        keepalive: Keepalive | None = None,
        heartbeat: Heartbeat | None = None,
        context: Context | None = None,
        memory: TargetMemory | None = None,
    ) -> None:
        self._wire = wire
        self._witness = Witness(memory or TargetMemory())
        wire.explain = self._witness.explain
        self._notify = notify
        self._context = context
        self._runtime = current()
        self._sending = False
        self._turn = Turn()
        """Held by who sends: a message, or what is left of one."""
        self._reading = False
        self._rest = b""
        self._failure_told = False
        self._end_told = False
        dead_after = None if keepalive is None else keepalive.dead_after
        self._slow_peer = None if keepalive is None or not dead_after else SlowPeer(wire, keepalive, dead_after)
        self._beat: Beat | None = None
        if heartbeat is not None:
            self._beat = Beat(self, wire, heartbeat, keepalive=keepalive, notify=notify)

    # --- anyio's contract ---

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """As ``anyio.abc.ByteReceiveStream.receive``.

        Raises:
            ConnectionLost: The connection failed; ``fate`` says what became of what was sent.
            anyio.EndOfStream: The peer has ended its side.
            anyio.BusyResourceError, ClosedError, ValueError: As anyio has it.
        """
        beat = self._beat
        already, self._reading = self._reading, True
        if beat is not None and beat.waits:
            beat.reading()
        in_use = not self._end_told
        wire = self._wire
        used, waits = max(wire.last_read, wire.last_write), wire.wait_count
        try:
            data = await wire.receive(max_bytes)
        except EndOfStream:
            self._witness.closed(wire)
            raise
        except (ConnectionLost, ClosedError) as exc:
            raise self._lost(exc, in_use=in_use) from exc.__cause__
        finally:
            self._reading = already
        if beat is not None and beat.waits:
            beat.heard(data)
        if wire.wait_count != waits:  # what had been here already may have come at any time
            self._witness.heard(wire.last_read - max(used, wire.last_write))
        return data

    async def send(self, item: bytes) -> None:
        """As ``anyio.abc.ByteSendStream.send``. Cancelled midway, the rest of ``item`` is sent before anything else.

        Raises:
            ConnectionLost: The connection failed; ``fate`` says how much of ``item`` was written and acknowledged.
            anyio.BusyResourceError, ClosedError: As anyio has it.
        """
        if self._sending:
            raise BusyResourceError("writing to")
        self._sending = True
        turn = self._turn
        try:
            if turn.held:
                await turn.acquire(None)
            else:
                turn.held = True
            try:
                if self._rest:
                    await self._send_rest()
                await self._send_whole(item)
            finally:
                turn.release()
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """As ``anyio.abc.ByteStream.send_eof``."""
        if self._sending:
            raise BusyResourceError("writing to")
        self._sending = True
        try:
            async with self._turn:
                await self._send_rest()
                await self._wire.send_eof()
        finally:
            self._sending = False

    async def aclose(self) -> None:
        """Close gracefully; may be called again, and while other tasks use the stream."""
        self._stop()
        try:
            if self._rest:
                self._wire.abort()
            await self._wire.aclose()
        finally:
            self._tell_end(CloseReason.ACLOSE)

    def abort(self) -> None:
        """End the connection at once; nothing that is queued will be delivered."""
        self._stop()
        self._wire.abort()
        self._tell_end(CloseReason.ACLOSE)

    # --- sending ---

    async def _send_rest(self) -> None:
        if self._rest:
            await self._send_whole(self._rest)  # cancelled before any of it has left, it stays
            self._rest = b""

    async def _send_whole(self, item: bytes) -> None:
        wire = self._wire
        taken, on_wire = wire.accepted, wire.bytes_out
        in_use = not self._end_told
        if self._slow_peer is not None:
            self._slow_peer.watch()
        self._witness.sending(wire)
        try:
            await wire.send(item)
        except (ConnectionLost, ClosedError) as exc:
            raise self._lost(exc, in_use=in_use, size=len(item), taken=taken, on_wire=on_wire) from exc.__cause__
        except BaseException:
            written = wire.accepted - taken
            if written:
                self._rest = bytes(item[written:])
            raise

    # --- for the heartbeat ---

    @property
    def is_reading(self) -> bool:
        """Whether a task waits for bytes."""
        return self._reading

    @property
    def is_writing(self) -> bool:
        """Whether a message is being sent."""
        return self._turn.held

    def try_probe(self, item: bytes) -> bool:
        """Send ``item`` without waiting, unless a message is on its way; whether it left."""
        if self.is_writing:
            return False
        wire = self._wire
        self._witness.sending(wire)
        if self._rest:
            self._rest = self._rest[wire.write_now(self._rest) :]
            if self._rest:
                return False
        taken = wire.write_now(item)
        if 0 < taken < len(item):
            self._rest = item[taken:]
        if self._rest or wire.unsent:  # the kernel had no room for all of it
            self._runtime.spawn(self._finish_probe, name="holdwire: the rest of a probe")
        return taken > 0

    async def _finish_probe(self) -> None:
        with contextlib.suppress(HoldwireError):  # latched, or the stream is closed
            async with self._turn:
                if self._slow_peer is not None:
                    self._slow_peer.watch()
                await self._send_rest()
                await self._wire.write(b"")  # TLS: the ciphertext that is left

    async def send_probe(self, item: bytes, /) -> None:
        """Send ``item`` when no message is on its way."""
        async with self._turn:
            await self._send_rest()
            await self._send_whole(item)

    def on_failure(self) -> None:
        """The wire has failed, and perhaps nobody waits there."""
        self._stop()
        self._tell_failure()

    # --- the end ---

    def _lost(
        self,
        exc: ConnectionLost | ClosedError,
        *,
        in_use: bool = True,
        size: int | None = None,
        taken: int = 0,
        on_wire: int = 0,
    ) -> ConnectionLost | ClosedError:
        """What to raise for ``exc``: the loss, with the fate of what was sent; told to the observers, once.

        The failure wakes everyone who waits, and the first one may have closed the stream before the others run: what
        was ``in_use`` when the call began ends with the failure all the same.
        """
        failure = self._wire.failure
        if failure is None or (isinstance(exc, ClosedError) and not in_use):
            return exc
        self.on_failure()
        fate = fate_of(
            on_wire=self._wire.bytes_out - on_wire,
            outq=failure.outq,
            size=size,
            written=0 if size is None else self._wire.accepted - taken,
        )
        lost = exc if isinstance(exc, ConnectionLost) else self._wire.latch(failure)
        error = type(lost)(f"{failure} ({fate})", failure=failure)
        error.fate = fate
        return error

    def _stop(self) -> None:
        if self._beat is not None:
            self._beat.stop()

    def _tell_failure(self) -> None:
        failure = self._wire.failure
        if failure is None or self._failure_told:
            return
        self._failure_told = True
        ended = time.time_ns()
        quiet_for = (failure.idle or 0.0) * 1e9
        self._notify(
            FailureRecorded(failure=failure, began=ended - int(quiet_for), ended=ended, last_context=self._context)
        )

    def _tell_end(self, reason: CloseReason) -> None:
        if self._end_told:
            return
        self._end_told = True
        self._tell_failure()
        wire = self._wire
        self._witness.over(wire)
        now = time.monotonic()
        self._notify(
            ConnectionClosed(
                host=wire.host,
                port=wire.port,
                connection_id=wire.id,
                reason=reason if wire.failure is None else CloseReason.FAILURE,
                age=now - wire.opened_at,
                idle=now - max(wire.last_read, wire.last_write),
                requests=0,
                failure=wire.failure,
            )
        )

    def __del__(self) -> None:
        wire = getattr(self, "_wire", None)
        if wire is None or wire.closed:
            return
        runtime = self._runtime
        if runtime.is_current():
            wire.abort()
        elif runtime.is_over() or not runtime.call_soon_threadsafe(wire.abort):
            wire.drop()

    # --- looking ---

    @property
    def id(self) -> str:
        """The connection's id in records, spans and logs."""
        return self._wire.id

    @property
    def peer(self) -> str | None:
        """The peer's address, or the path of its Unix socket."""
        return self._wire.peer

    @property
    def failure(self) -> Failure | None:
        """Why the stream broke; None while it has not."""
        return self._wire.failure

    @property
    def closed(self) -> bool:
        """Whether the stream has ended: closed by us, or given up."""
        return self._wire.closed

    @property
    def statistics(self) -> Statistics:
        """The numbers of this moment."""
        wire, beat = self._wire, self._beat
        facts = wire.facts()
        return Statistics(
            bytes_in=wire.bytes_in,
            bytes_out=wire.bytes_out,
            age=facts.get("age") or 0.0,
            idle=facts.get("idle") or 0.0,
            probes=0 if beat is None else beat.sent,
            answers=0 if beat is None else beat.answered,
            last_rtt=None if beat is None else beat.last_rtt,
            smoothed_rtt=None if beat is None else beat.smoothed_rtt,
            unacknowledged=facts.get("outq"),
            tcp=facts.get("tcp"),
        )

    @property
    def fate(self) -> Fate:
        """What has become, up to now, of all bytes that were sent."""
        return fate_of(on_wire=self._wire.bytes_out, outq=self._wire.undelivered())

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            **self._wire.extra_attributes,
            StreamAttribute.connection_id: lambda: self.id,
            StreamAttribute.peer: lambda: self.peer,
            StreamAttribute.failure: lambda: self.failure,
            StreamAttribute.statistics: lambda: self.statistics,
        }
