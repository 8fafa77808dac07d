"""``PathWatch``: looks at connections under waiting requests, before the kernel or a time-out gives them up.

Theory of operation. One timer for each pool, running only while requests are in progress, costs a request nothing.
Each tick asks the connections whose request has waited for a second for the length of their send queue (one
ioctl); what the peer's kernel has acknowledged is none of our business. Where bytes are stuck TCP_INFO tells why:

* Retransmissions mount and no ACK comes back: the path drops what we send. If the request may be sent again, a
  replacement is opened first; only when it stands is the old connection aborted, and the waiting exchange sends the
  request again on it. If it cannot be had the old connection is left alone, for the path may heal. A request that
  may not be repeated waits as long as its caller said; the stall is told once. Idle connections to the same address
  become suspect.
* Our bytes are stuck behind a closed window while the peer answers probes: it lives and does not read.
  TCP_USER_TIMEOUT is lifted until the window opens or the ACKs stop, so that the kernel does not cut it.
* Nothing is stuck, and by its profile the path ends the connection before the request's time-out does: that is said
  once in the log.

Invariants: a lifted TCP_USER_TIMEOUT is armed again when the window opens, the queue is empty or the ACKs stop; the
tasks that open replacements end with the pool.
Needs TCP_INFO, so it exists on Linux only. Not responsible for the thresholds (``policy.evidence``).
"""

from __future__ import annotations

import logging
import time
import weakref
from typing import TYPE_CHECKING, Final

from ..errors import HoldwireError
from ..events import CloseReason, RequestRetried, tell_setup
from ..policy import diagnosis
from ..policy.evidence import black_hole, window_closed
from ..policy.flight import Mark
from ..policy.kind import Kind
from ..policy.phase import Phase
from ..policy.profiles import ResetBy
from .connection import Attempt

if TYPE_CHECKING:
    from ..events import Observers
    from ..net.runtime import TaskHandle, TimerHandle
    from ..policy.profiles import Profile
    from ..policy.settings import Keepalive
    from .connection import HttpConnection
    from .exchange import Exchange
    from .pool import Pool

__all__ = ["PathWatch"]

logger = logging.getLogger("holdwire")

INTERVAL: Final = 0.5
"""Seconds between two looks."""
_PATIENCE: Final = 0.9
"""Seconds of waiting before the first look at a connection."""
_AGAIN: Final = 5.0
"""Seconds before a replacement that could not be had is tried for again."""
_WATCHED: Final = frozenset({Phase.REQUEST_HEADERS, Phase.REQUEST_BODY, Phase.RESPONSE_WAIT})


class PathWatch:
    """See the module."""

    __slots__ = (
        "__weakref__",
        "_exchange",
        "_keepalive",
        "_lifted",
        "_notify",
        "_pool",
        "_profile",
        "_replacing",
        "_silence",
        "_timer",
        "_tried",
        "_warned",
    )

    def __init__(
        self,
        pool: Pool,
        exchange: Exchange,
        *,
        keepalive: Keepalive | None,
        profile: Profile,
        silence: float | None = None,
        notify: Observers,
    ) -> None:
        self._pool = pool
        self._exchange = exchange
        self._keepalive = keepalive
        self._profile = profile
        self._silence = silence
        self._warned = False
        self._notify = notify
        self._timer: TimerHandle | None = None
        self._tried: weakref.WeakKeyDictionary[Attempt, float] = weakref.WeakKeyDictionary()
        self._lifted: weakref.WeakSet[HttpConnection] = weakref.WeakSet()
        self._replacing: dict[Attempt, TaskHandle] = {}

    @property
    def running(self) -> bool:
        """Whether it will look again."""
        return self._timer is not None

    def start(self) -> None:
        """Run while requests are in progress; the pool calls this when one begins."""
        if self._timer is None:
            self._arm()

    def stop(self) -> None:
        """Look no more, and give up what is being connected."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in list(self._replacing.values()):
            task.cancel()

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
        for connection in list(self._lifted):
            self._mind_the_window(connection)
        busy = self._pool.in_use()
        for connection in busy:
            if now - connection.wire.last_write < _PATIENCE:
                continue
            if connection.wire.undelivered():
                self._look_at(connection, now)
            elif not self._warned:
                self._warn_of_the_limit(connection)
        if busy or self._lifted:
            self._arm()

    def _look_at(self, connection: HttpConnection, now: float) -> None:
        """Bytes of ours are stuck on ``connection``."""
        wire = connection.wire
        info = wire.facts().get("tcp")
        if info is None or self._mind_the_window(connection):
            return
        attempt = connection.waiting
        if attempt is None or attempt.received or wire.phase not in _WATCHED:
            return
        if attempt in self._replacing or now - self._tried.get(attempt, -_AGAIN) < _AGAIN:
            return
        finding = black_hole(info, waited=now - attempt.written, idle_before=attempt.idle_before, timeout=self._silence)
        if not finding:
            return
        self._pool.suspect(connection)
        connection.wire.flight.append((now, Mark.DOUBTED, -1))
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

    def _warn_of_the_limit(self, connection: HttpConnection) -> None:
        """Say once that a wait for a response may outlive the connection, where nothing here can keep it alive."""
        attempt, profile = connection.waiting, self._profile
        if attempt is None or not profile.cuts_off(attempt.request.timeouts.read, pings=connection.http_version == "2"):
            return
        self._warned = True
        origin = attempt.request.origin
        logger.warning(
            "a response from %s:%s may be waited for longer than the %.0f s after which %s ends silent connections, "
            "and TCP keepalive does not count there: stream it with regular data%s, or lower the read time-out",
            origin.host,
            origin.port,
            profile.idle_limit,
            profile.name,
            ", use HTTP/2" if profile.reset_by is ResetBy.PAYLOAD else "",
        )

    def _replace(self, connection: HttpConnection, attempt: Attempt, reason: str) -> None:
        pool = self._pool

        def is_waiting() -> bool:
            return connection.waiting is attempt and not attempt.received

        async def connect_first() -> None:
            try:
                replacement = await pool.open_spare(Attempt(attempt.request, attempt.number), wanted=is_waiting)
            except HoldwireError as exc:  # no better way is to be had: keep waiting on this one
                if exc.setup is not None:  # its failures are as real as any
                    tell_setup(exc.setup, self._notify)
                return
            finally:
                self._replacing.pop(attempt, None)
                self._tried[attempt] = time.monotonic()
            if replacement is None:
                return
            if not is_waiting():
                pool.give_back(replacement)
                return
            attempt.replaced = True
            wire = connection.wire
            wire.latch(diagnosis.local(Kind.HEARTBEAT_LOST, phase=wire.phase, facts=wire.facts(), detail=reason))
            pool.promises.keep(replacement, attempt.request)
            connection.end(CloseReason.FAILURE, wire.failure, abort=True)

        self._replacing[attempt] = pool.runtime.spawn(connect_first, name="holdwire: replacement for a dead path")

    def _mind_the_window(self, connection: HttpConnection) -> bool:
        """Lift or arm TCP_USER_TIMEOUT; whether the peer lives behind a closed window."""
        wire, keepalive = connection.wire, self._keepalive
        facts = wire.facts()
        info, queued = facts.get("tcp"), facts.get("outq")
        closed = bool(info and queued and window_closed(info, queued=queued, dead_after=self._dead_after()))
        if keepalive is None:
            return closed
        if closed and connection not in self._lifted:
            self._lifted.add(connection)
            wire.flight.append((time.monotonic(), Mark.CLOSED_WINDOW, -1))
            wire.set_user_timeout(None)
        elif not closed and connection in self._lifted:
            self._lifted.discard(connection)
            wire.set_user_timeout(keepalive)
        return closed

    def _dead_after(self) -> float:
        keepalive = self._keepalive
        return 90.0 if keepalive is None or keepalive.dead_after is None else keepalive.dead_after
