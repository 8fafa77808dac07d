"""``PathWatch``: looks at connections under waiting requests, before the kernel or a time-out gives them up.

Theory of operation. One timer for each pool, running only while requests are in progress, costs a request nothing.
Each tick looks at the connections whose request has waited for a second or more (TCP_INFO, 3 microseconds each):

* Retransmissions mount and no ACK comes back: the path drops what we send. If the request may be sent again, a
  replacement is opened first; only when it stands is the old connection aborted, and the waiting exchange sends the
  request again. If it cannot be had the old connection is left alone, for the path may heal. A request that may not
  be repeated waits as long as its caller said; the stall is told once. Idle connections to the same address become
  suspect.
* Our bytes are stuck behind a closed window while the peer answers probes: it lives and does not read.
  TCP_USER_TIMEOUT is lifted until the window opens or the ACKs stop, so that the kernel does not cut it.

Needs TCP_INFO, so it exists on Linux only. Not responsible for the thresholds (``policy.evidence``).
"""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Final

from ..errors import HoldwireError
from ..events import CloseReason, RequestRetried
from ..policy import diagnosis
from ..policy.evidence import black_hole, window_closed
from ..policy.kind import Kind
from ..policy.phase import Phase

if TYPE_CHECKING:
    from ..events import Observers
    from ..net.runtime import TimerHandle
    from ..policy.settings import Keepalive
    from .connection import Attempt, HttpConnection
    from .exchange import Exchange
    from .pool import Pool

__all__ = ["PathWatch"]

INTERVAL: Final = 0.5
"""Seconds between two looks."""
_PATIENCE: Final = 0.9
"""Seconds of waiting before the first look at a connection."""
_AGAIN: Final = 5.0
"""Seconds before a replacement that could not be had is tried for again."""
_WATCHED: Final = frozenset({Phase.REQUEST_HEADERS, Phase.REQUEST_BODY, Phase.RESPONSE_WAIT})


class PathWatch:
    """See the module."""

    __slots__ = ("__weakref__", "_exchange", "_keepalive", "_lifted", "_notify", "_pool", "_timer", "_tried")

    def __init__(self, pool: Pool, exchange: Exchange, *, keepalive: Keepalive | None, notify: Observers) -> None:
        self._pool = pool
        self._exchange = exchange
        self._keepalive = keepalive
        self._notify = notify
        self._timer: TimerHandle | None = None
        self._tried: weakref.WeakKeyDictionary[Attempt, float] = weakref.WeakKeyDictionary()
        self._lifted: weakref.WeakSet[HttpConnection] = weakref.WeakSet()

    def start(self) -> None:
        """Run while requests are in progress; the pool calls this when one begins."""
        if self._timer is None:
            self._arm()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        reference = weakref.ref(self)

        def tick() -> None:
            watch = reference()
            if watch is not None:
                watch._tick()  # noqa: SLF001 - our own, reached weakly so that the timer keeps nothing alive

        self._timer = self._pool.runtime.call_later(INTERVAL, tick)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        busy = False
        for connection in self._pool.connections:
            if not connection.active:
                continue
            busy = True
            wire = connection.wire
            if now - wire.last_write >= _PATIENCE and wire.phase in _WATCHED:
                self._look_at(connection, now)
        if busy:
            self._arm()

    def _look_at(self, connection: HttpConnection, now: float) -> None:
        facts = connection.wire.facts()
        info, queued = facts.get("tcp"), facts.get("outq")
        if info is None or queued is None:
            return
        self._mind_the_window(connection, window_closed(info, queued=queued, dead_after=self._dead_after()).holds)
        attempt = connection.waiting
        if attempt is None or not queued or now - self._tried.get(attempt, -_AGAIN) < _AGAIN:
            return
        finding = black_hole(info, waited=now - attempt.written, idle_before=attempt.idle_before)
        if not finding:
            return
        self._pool.suspect(connection)
        first_time = attempt not in self._tried
        self._tried[attempt] = now
        verdict = self._exchange.verdict_on_suspect(attempt)
        if verdict.retries:
            self._replace(connection, attempt, finding.reason)
        elif first_time:
            request = attempt.request
            self._notify(
                RequestRetried(
                    host=request.origin.host,
                    port=request.origin.port,
                    verdict=verdict,
                    attempt=attempt.number,
                    delay=0.0,
                    context=request.context,
                )
            )

    def _replace(self, connection: HttpConnection, attempt: Attempt, reason: str) -> None:
        pool = self._pool

        async def connect_first() -> None:
            try:
                replacement = await pool.open_spare(attempt)
            except HoldwireError:  # no better way is to be had: keep waiting on this one
                return
            if replacement is None:
                return
            if connection.waiting is attempt and not attempt.received:
                attempt.replaced = True
                wire = connection.wire
                wire.latch(diagnosis.local(Kind.HEARTBEAT_LOST, phase=wire.phase, facts=wire.facts(), detail=reason))
                connection.end(CloseReason.FAILURE, wire.failure, abort=True)
            replacement.release()
            pool.on_idle(replacement)

        pool.runtime.spawn(connect_first, name="holdwire: replacement for a dead path")

    def _mind_the_window(self, connection: HttpConnection, closed: bool) -> None:  # noqa: FBT001 - one private caller
        if self._keepalive is None:
            return
        if closed and connection not in self._lifted:
            self._lifted.add(connection)
            connection.wire.set_user_timeout(None)
        elif not closed and connection in self._lifted:
            self._lifted.discard(connection)
            connection.wire.set_user_timeout(self._keepalive)

    def _dead_after(self) -> float:
        keepalive = self._keepalive
        return 90.0 if keepalive is None or keepalive.dead_after is None else keepalive.dead_after
