"""``PingHeartbeat``: the PINGs of one HTTP/2 connection: when one is sent, what its answer or its absence means.

Joins the schedule and its ledger (``policy.pings``) with the judgement on silence (``policy.liveness``), one timer
that is armed only while a PING can become due, and the wire. Any frame is life; only a missed answer is death, and
not while the peer's window is closed, our own bytes still move or our own loop stood still.
Not responsible for frames or streams (``http2``): it asks its owner to send a PING and tells it that the peer is dead.
"""

from __future__ import annotations

import logging
import math
import random
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from ..events import HeartbeatAnswered, HeartbeatMissed
from ..policy.evidence import window_closed
from ..policy.flight import Mark
from ..policy.liveness import Liveness, State, Step
from ..policy.pings import Pings

if TYPE_CHECKING:
    from ..events import Observers
    from ..net.runtime import Runtime, TimerHandle
    from ..net.wire import Wire
    from .h2_settings import Http2Settings
    from .messages import Origin

__all__ = ["PingHeartbeat", "PingOwner"]

logger = logging.getLogger("holdwire")

KIND: Final = "http2_ping"
TIMEOUT: Final = 20.0
LATE: Final = 1.0
"""Seconds without an answer after which new streams avoid the connection (OkHttp's rule)."""
_HISTORY: Final = 5
_STALL: Final = 0.1
"""Seconds by which a timer comes late only where the loop ran nothing else either."""


class PingOwner(Protocol):
    """What the heartbeat needs of its connection."""

    wire: Wire
    origin: Origin

    @property
    def active(self) -> int:
        """Streams in progress."""
        ...

    def send_ping(self, payload: bytes) -> None:
        """Have a PING leave with the next ``flush``."""
        ...

    def flush(self) -> None:
        """Send what is ready."""
        ...

    def peer_is_dead(self, detail: str) -> None:
        """A heartbeat was missed."""
        ...


class PingHeartbeat:
    """See the module."""

    __slots__ = (
        "__weakref__",
        "_acked",
        "_armed_for",
        "_liveness",
        "_notify",
        "_owner",
        "_pinged",
        "_pings",
        "_round_trips",
        "_runtime",
        "_sequence",
        "_settings",
        "_stood_still",
        "_timer",
    )

    def __init__(self, owner: PingOwner, settings: Http2Settings, *, runtime: Runtime, notify: Observers) -> None:
        self._owner = weakref.ref(owner)
        self._settings = settings
        self._runtime = runtime
        self._notify = notify
        now = time.monotonic()
        beat = settings.heartbeat
        self._pings = Pings(
            now,
            interval=None if beat is None else beat.interval,
            scale=settings.memory.pings.scale(owner.origin),
            while_idle=beat is not None and beat.while_idle,
            dice=random.random(),  # noqa: S311 - jitter
            floor=settings.floor,
            **({} if beat is None else {"jitter": beat.jitter}),
        )
        self._liveness = Liveness(now, interval=None, timeout=TIMEOUT if beat is None else beat.timeout)
        self._timer: TimerHandle | None = None
        self._armed_for = math.inf
        self._stood_still = False
        self._pinged = 0.0
        self._acked = 0
        self._sequence = 0
        self._round_trips: deque[float] = deque(maxlen=_HISTORY)
        if settings.pings:
            self._arm(0)

    # --- what the connection tells ---

    def opening(self, now: float, streams: int) -> None:
        """A stream is about to be opened beside ``streams`` others: ask for a PING in front of it if one is due."""
        if not self._settings.pings:
            return
        pings = self._pings
        if pings.wants(now, streams=streams):
            self._ping(now, streams, scheduled=True)
        elif pings.wants_first_use(now, streams=streams):
            self._ping(now, streams, scheduled=False)
        self._arm(streams + 1)

    def resetting(self, now: float, streams: int) -> bool:
        """A stream was reset for want of an answer, ``streams`` are left: ask whether the connection is to blame.

        Returns whether a PING was sent.
        """
        if not self._settings.pings or not self._pings.wants_after_reset(now, streams=streams):
            return False
        self._ping(now, streams, scheduled=False)
        self._arm(streams)
        return True

    def received(self, now: float, *, data: bool) -> bool:
        """Frames arrived, HEADERS or DATA among them if ``data``. Returns whether new streams may come again."""
        was_late = self.late(now)
        self._pings.received(now, data=data, dice=random.random())  # noqa: S311 - jitter
        self._liveness.received(now)
        return was_late

    def answered(self, now: float, payload: bytes) -> None:
        """A PING was acknowledged."""
        self._pings.received(now, data=False, ack=True)
        owner = self._owner()
        if owner is None or payload != self._payload():
            return
        rtt = now - self._pinged
        self._round_trips.append(rtt)
        owner.wire.flight.append((now, Mark.PONG, int(rtt * 1e3)))
        self._notify(
            HeartbeatAnswered(
                host=owner.origin.host, port=owner.origin.port, connection_id=owner.wire.id, kind=KIND, rtt=rtt
            )
        )

    @property
    def round_trips(self) -> tuple[float, ...]:
        """The last ones, in seconds."""
        return tuple(self._round_trips)

    def too_many(self) -> None:
        """The server sent us away for our PINGs: new connections to the origin wait longer."""
        owner = self._owner()
        if owner is None:
            return
        scale = self._settings.memory.pings.learn(owner.origin)
        logger.warning(
            "%s:%d wants fewer HTTP/2 PINGs (too_many_pings): their intervals are now %g times as long",
            owner.origin.host,
            owner.origin.port,
            scale,
        )

    def late(self, now: float) -> bool:
        """Whether an answer is overdue so long that new streams had better go elsewhere."""
        return self._liveness.state is State.PROBING and now - self._pinged > LATE

    def stop(self) -> None:
        """The connection has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- time ---

    def _payload(self) -> bytes:
        return self._sequence.to_bytes(8, "big")

    def _ping(self, now: float, streams: int, *, scheduled: bool) -> None:
        owner = self._owner()
        if owner is None:
            return
        self._sequence += 1
        self._pinged = now
        self._acked = _acked(owner.wire)
        self._pings.sent(now, streams=streams, scheduled=scheduled, dice=random.random())  # noqa: S311 - jitter
        self._liveness.probed(now)
        owner.wire.flight.append((now, Mark.PING, -1))
        owner.send_ping(self._payload())

    def _arm(self, streams: int) -> None:
        """Have ``_tick`` called when something may be due; a timer that fires too early arms itself anew."""
        due = self._liveness.due if self._liveness.state is State.PROBING else self._pings.due(streams=streams)
        if due == math.inf or (self._timer is not None and self._armed_for <= due):
            return
        self._call_at(due)

    def _call_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = due
        reference = weakref.ref(self)

        def tick() -> None:
            heartbeat = reference()
            if heartbeat is not None:
                heartbeat._tick()  # noqa: SLF001 - our own, reached weakly so that the timer keeps nothing alive

        self._timer = self._runtime.call_later(max(due - time.monotonic(), 0.0), tick)

    def _tick(self) -> None:
        self._timer = None
        owner = self._owner()
        if owner is None:
            return
        now = time.monotonic()
        self._stood_still = now - self._armed_for > _STALL and not self._stood_still
        if self._stood_still:  # our loop did: what came meanwhile is read first
            self._call_at(now + _STALL)
            return
        streams = owner.active
        if self._liveness.state is State.PROBING:
            if self._liveness.check(now) is Step.LOOK and not self._lives(owner, now):
                self._missed(owner, now)
                return
        elif self._pings.wants(now, streams=streams):
            self._ping(now, streams, scheduled=True)
            owner.flush()
        self._arm(streams)

    def _lives(self, owner: PingOwner, now: float) -> bool:
        """Whether the silence has another reason than death."""
        wire = owner.wire
        facts = wire.facts()
        info, queued = facts.get("tcp"), facts.get("outq")
        acked, before = _acked(wire, queued), self._acked
        self._acked = acked
        step = self._liveness.judge(
            now,
            window_closed=info is not None
            and queued is not None
            and bool(window_closed(info, queued=queued, dead_after=self._settings.dead_after)),
            write_moving=bool(queued) and acked > before,
        )
        if step is Step.PROBE:  # our loop stood still; the PING is still on its way, so only its time begins anew
            self._liveness.probed(now)
        return step is not Step.DEAD

    def _missed(self, owner: PingOwner, now: float) -> None:
        waited = now - self._pinged
        self._notify(
            HeartbeatMissed(
                host=owner.origin.host, port=owner.origin.port, connection_id=owner.wire.id, kind=KIND, waited=waited
            )
        )
        known = ", ".join(f"{rtt * 1e3:.0f}" for rtt in self._round_trips)
        owner.peer_is_dead(
            f"nothing came for {waited:.1f} s after an HTTP/2 PING; "
            + (f"earlier ones were answered in {known} ms" if known else "it was the first one")
        )


def _acked(wire: Wire, queued: int | None = None) -> int:
    """Bytes of ours that the peer's kernel has."""
    if queued is None:
        queued = wire.undelivered()
    return wire.bytes_out - (queued or 0)
