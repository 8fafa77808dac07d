"""``Beat``: the heartbeat of one connection: ``policy.liveness`` with a socket, a probe and a timer.

Theory of operation. The ticker asks when something is due. Then the beat tells the machine what the connection has
seen since (the wire notes the time of every byte, so reading costs nothing), asks it what to do, and sends a probe
without waiting: bytes are written if the kernel takes them at once; a probe that is a function gets a task. Before a
silent peer is given up, the beat looks at what only the kernel knows: unread bytes, a closed window, bytes that move.

A lost peer is one ``Failure``, latched on the wire, which is then aborted: every task that waits there, and every
later use, gets the same ``HeartbeatLost``.

Invariants: nothing is sent into the middle of a message that the user is sending; while nobody reads, nothing is said
about the peer; the beat holds its owner weakly. A probe's reply is not taken out of the stream: bytes have no frames,
so the reader gets it and skips it. Not responsible for protocols (``probes``) or for reconnecting (``sessions``).
"""

from __future__ import annotations

import logging
import math
import random
import time
import weakref
from typing import TYPE_CHECKING, Final, Protocol

from anyio.abc import SocketAttribute

from ..errors import HoldwireError
from ..events import HeartbeatAnswered, HeartbeatMissed
from ..net.runtime import current
from ..net.tcp_info import inq, send_queue
from ..net.ticker import WINDOW, current_ticker
from ..policy import diagnosis
from ..policy.evidence import window_closed
from ..policy.kind import Kind
from ..policy.liveness import Liveness, State, Step
from ..policy.phase import Phase

if TYPE_CHECKING:
    from ..events import Observers
    from ..net.runtime import TaskHandle
    from ..net.stream import SocketStream
    from ..policy.settings import Heartbeat, Keepalive
    from ..tls.stream import TLSStream

__all__ = ["NO_PROBE", "Beat", "Owner"]

logger = logging.getLogger("holdwire")

NO_PROBE: Final = "Heartbeat: a stream needs a probe: give probe=bytes, an async function, or one of holdwire.probes"
_DEAD_AFTER: Final = 90.0


class Owner(Protocol):
    """What a beat wants to know of its connection, and tells it."""

    @property
    def is_reading(self) -> bool:
        """Whether a task waits for bytes."""
        ...

    @property
    def is_writing(self) -> bool:
        """Whether a task is in the middle of sending."""
        ...

    def try_probe(self, item: bytes) -> bool:
        """Send ``item`` without waiting, unless a message is on its way; whether it left."""
        ...

    async def send_probe(self, item: bytes, /) -> None:
        """Send ``item`` when no message is on its way."""
        ...

    def on_failure(self) -> None:
        """The wire has failed, and nobody may be there to notice."""
        ...


class _ProbeSender:
    """What a probe function sends on."""

    __slots__ = ("_owner",)

    def __init__(self, owner: weakref.ref[Owner]) -> None:
        self._owner = owner

    async def send(self, item: bytes, /) -> None:
        owner = self._owner()
        if owner is not None:
            await owner.send_probe(item)


class Beat:
    """See the module. Begins to beat when it is made.

    Raises:
        ValueError: ``settings`` has no probe.
    """

    __slots__ = (
        "__weakref__",
        "_answered",
        "_dead_after",
        "_keepalive",
        "_lag",
        "_liveness",
        "_notify",
        "_owner",
        "_probed_at",
        "_sent",
        "_settings",
        "_slack",
        "_taken",
        "_task",
        "_ticker",
        "_warned",
        "_wire",
        "answered",
        "scheduled",
        "sent",
    )

    def __init__(
        self,
        owner: Owner,
        wire: SocketStream | TLSStream,
        settings: Heartbeat,
        *,
        keepalive: Keepalive | None,
        notify: Observers,
    ) -> None:
        if settings.probe is None:
            raise ValueError(NO_PROBE)
        now = time.monotonic()
        self._owner = weakref.ref(owner)
        self._wire = wire
        self._settings = settings
        self._dead_after = (keepalive and keepalive.dead_after) or _DEAD_AFTER
        self._notify = notify
        self._liveness = Liveness(
            now,
            interval=settings.interval,
            timeout=settings.timeout,
            direction=settings.direction,
            jitter=settings.jitter,
            allowance=min(0.5, settings.timeout / 2),
            dice=_dice(),
        )
        self._slack = min(WINDOW, settings.interval / 10)
        self._ticker = current_ticker()
        self._lag = 0.0
        self._taken: int | None = None
        self._probed_at = now
        self._sent = True
        self._task: TaskHandle | None = None
        self._warned = False
        self.scheduled = math.inf
        self.sent = 0
        """Probes sent."""
        self.answered = 0
        """Probes that were answered, and timed."""
        self._ticker.add(self, self._liveness.due)

    # --- what the connection tells ---

    @property
    def waits(self) -> bool:
        """Whether bytes or a reader would change anything: the machine is probing or paused."""
        return self._liveness.state is not State.IDLE

    @property
    def last_rtt(self) -> float | None:
        """The latest round trip in seconds."""
        return self._liveness.last_rtt

    @property
    def smoothed_rtt(self) -> float | None:
        """The smoothed round trip in seconds (RFC 6298)."""
        return self._liveness.smoothed_rtt

    def reading(self) -> None:
        """A task begins to read: a paused machine goes on where it was."""
        if self._liveness.state is State.PAUSED:
            now = time.monotonic()
            self._liveness.resume(now)
            self._ticker.add(self, max(self._liveness.due, now))

    def heard(self, data: bytes) -> None:
        """Bytes were received. To be called while ``waits``."""
        liveness = self._liveness
        if liveness.state is not State.PROBING:
            return
        rtt = liveness.received(self._wire.last_read, reply=self._is_reply(data))
        if rtt is not None:
            self.answered += 1
            self._tell_answered(rtt)

    async def probe_now(self) -> None:
        """Probe without waiting for an interval to pass; return when the probe has left.

        Raises:
            HoldwireError: The connection failed.
        """
        owner, probe = self._owner(), self._settings.probe
        if owner is None:
            return
        self._ticker.add(self, self._probe(owner, time.monotonic()))
        if not self._sent and isinstance(probe, bytes):
            await owner.send_probe(probe)
            self._sent = True
            self.sent += 1

    def stop(self) -> None:
        """Beat no more; may be called again."""
        self._ticker.discard(self)
        if self._task is not None:
            self._task.cancel()
            self._task = None

    # --- what the ticker asks ---

    def tick(self, now: float) -> float:
        owner, wire, liveness = self._owner(), self._wire, self._liveness
        if owner is None or wire.closed or wire.failure is not None:
            self.stop()
            return math.inf
        if wire.last_read > liveness.last_read:
            liveness.received(wire.last_read, reply=False)
        liveness.wrote(wire.last_write)
        if not owner.is_reading and self._settings.direction != "write":
            liveness.pause(now)
            return math.inf
        step = liveness.check(now, slack=self._slack)
        try:
            if step is Step.LOOK:
                step = self._look(owner, now)
            if step is Step.PROBE:
                return self._probe(owner, now)
        except HoldwireError:  # latched: whoever uses the connection next finds out; its owner is told now
            owner.on_failure()
            return math.inf
        if step is Step.DEAD:
            self._give_up(
                owner,
                f"nothing was received for {now - liveness.last_read:.1f} s, "
                f"and a heartbeat was not answered for {now - self._probed_at:.1f} s",
                waited=now - self._probed_at,
            )
            return math.inf
        return self._next(now) if liveness.state is State.PROBING else liveness.due

    def suspect(self, now: float) -> float:
        self._liveness.suspect(now)
        return self.tick(now)

    # --- probing ---

    def _probe(self, owner: Owner, now: float) -> float:
        self._begin(now)
        self._taken = self._taken_now()
        self._sent = False
        self._send(owner)
        return self._next(now)

    def _next(self, now: float) -> float:
        """When to be asked again. An answer moves no timer, so while probing that may be before the time-out."""
        return min(self._liveness.due, now + self._settings.interval * (1 - self._settings.jitter))

    def _begin(self, now: float) -> None:
        """The time-out of a probe begins."""
        self._liveness.probed(now, dice=_dice())
        self._probed_at = now
        self._lag = self._ticker.lag

    def _send(self, owner: Owner) -> bool:
        """Send the probe; whether it left (one that is a function says so later)."""
        probe = self._settings.probe
        if not isinstance(probe, bytes):
            self._call()
            return False
        wire = self._wire
        phase, wire.phase = wire.phase, Phase.HEARTBEAT
        try:
            self._sent = owner.try_probe(probe)
        finally:
            wire.phase = phase
        self.sent += self._sent
        return self._sent

    def _call(self) -> None:
        """Run a probe that is a function as a task; an older call that hangs is ended."""
        probe, owner = self._settings.probe, self._owner
        if self._task is not None:
            self._task.cancel()

        async def call() -> None:
            try:
                if callable(probe):
                    await probe(_ProbeSender(owner))
            except HoldwireError:  # the connection's end, latched there
                return
            except Exception:
                logger.exception("the heartbeat's probe function raised; its connection is given up")
                one = owner()
                if one is not None:
                    self._give_up(one, "the probe function raised; its traceback is in the log of logger 'holdwire'")
                return
            self._sent = True
            self.sent += 1

        self._task = current().spawn(call, name="holdwire: probe")

    def _look(self, owner: Owner, now: float) -> Step:
        """The time-out has passed: what does the kernel say?"""
        # a probe of bytes may never have left: a message was being sent, or the kernel had no room
        if not self._sent and isinstance(self._settings.probe, bytes) and self._send(owner):
            self._begin(now)  # now it has, and gets all of its time
            return Step.WAIT
        facts = self._wire.facts()
        info, queued = facts.get("tcp"), facts.get("outq") or 0
        before, self._taken = self._taken, self._taken_now()
        moving = before is not None and self._taken is not None and self._taken > before
        return self._liveness.judge(
            now,
            unread=bool(inq(self._wire.extra(SocketAttribute.raw_socket))),  # noqa: S610 - anyio's, not Django's
            window_closed=info is not None and bool(window_closed(info, queued=queued, dead_after=self._dead_after)),
            write_moving=moving,
            stalled=self._ticker.lag - self._lag,
        )

    def _taken_now(self) -> int | None:
        """Bytes that the peer's side has taken of ours; None if no more wait for it, or nobody knows.

        Without TCP's numbers (a Unix socket has none) it may be less, and grows all the same as the peer reads.
        """
        wire = self._wire
        info = wire.facts().get("tcp")
        if info is not None:
            return info.bytes_acked if wire.undelivered() else None
        queue = send_queue(wire.extra(SocketAttribute.raw_socket))  # noqa: S610 - anyio's, not Django's
        return wire.bytes_out - queue if queue else None

    def _give_up(self, owner: Owner, detail: str, *, waited: float = 0.0) -> None:
        wire = self._wire
        if wire.closed or wire.failure is not None:
            return
        self._notify(
            HeartbeatMissed(host=wire.host, port=wire.port, connection_id=wire.id, kind="stream", waited=waited)
        )
        wire.latch(diagnosis.local(Kind.HEARTBEAT_LOST, phase=Phase.HEARTBEAT, facts=wire.facts(), detail=detail))
        wire.abort()
        self.stop()
        owner.on_failure()

    def _is_reply(self, data: bytes) -> bool:
        """Whether ``data`` may be timed as the answer: not if ``is_reply`` says no."""
        is_reply = self._settings.is_reply
        if is_reply is None:
            return True
        try:
            return is_reply(data) is not False
        except Exception:
            if not self._warned:
                self._warned = True
                logger.exception("the heartbeat's is_reply raised; its answers are taken for 'cannot tell'")
            return True

    def _tell_answered(self, rtt: float) -> None:
        wire = self._wire
        self._notify(HeartbeatAnswered(host=wire.host, port=wire.port, connection_id=wire.id, kind="stream", rtt=rtt))


def _dice() -> float:
    return random.random()  # noqa: S311 - jitter, not a secret
