"""``Pool``: the connections of one transport on one runtime: who gets one, who waits, which ones end.

Theory of operation. Every operation is O(1) in the number of connections and requests. Idle connections are kept in
two orders: for each origin last in, first out (old ones die early), and over all origins by the time they became
idle (the oldest is closed when room is needed). Who finds no room waits first in, first out; a connection that comes
back is handed to the oldest waiter, closed for it if it belongs to another origin. A connection that several requests
can share (HTTP/2) is offered as long as it has streams to spare. While one to such an origin is being opened, or has
not said yet how many streams it allows, further requests wait for it; only those that will find no stream there open
others, so that a burst never opens a crowd.

Invariants: connections being opened, in use and idle never number more than ``max_connections``; there are waiters
only when there is no room; a grant that its waiter cannot take any more (cancelled, timed out) goes to the next one;
idle connections are watched, so that the end of one is noticed when it comes and never handed out.
State belongs to one runtime. Not responsible for opening connections (``connector``) or for retries (``exchange``).
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..errors import ClosedError, DeadlineExceeded
from ..events import CloseReason, ConnectionClosed, PoolWaited
from ..net.runtime import current
from ..policy import diagnosis
from ..policy.kind import Category, Kind
from ..policy.phase import Phase
from .connection import HttpConnection
from .idle_deaths import IdleDeaths

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..events import Observers
    from ..net.runtime import Runtime, Signal, TimerHandle
    from ..policy.failure import Failure
    from .connection import Attempt
    from .messages import Origin

__all__ = ["SPREADING", "OriginStats", "Pool", "PoolLimits"]

SPREADING: Final = frozenset({Category.TIMED_OUT, Category.UNREACHABLE})
"""Failures after which other connections to the same address are suspect."""
_LEAST_SWEEP: Final = 0.05
_USUAL_WIDTH: Final = 100
"""Requests at a time that a shared connection is expected to allow, as RFC 9113, section 6.5.2 wants it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How many connections, and for how long; None means no limit. Times in seconds."""

    max_connections: int | None = 100
    max_idle: int | None = 20
    idle: float | None = 55.0
    max_requests: int | None = None


class OriginStats:
    """What happened at one origin, in plain integers: all that a request which goes well costs telemetry."""

    __slots__ = ("closed", "failed", "ok", "opened", "recovered", "reused")

    def __init__(self) -> None:
        self.ok = self.recovered = self.failed = self.opened = self.reused = 0
        self.closed: dict[str, int] = {}


class _OriginState:
    """The pool's view of one origin."""

    __slots__ = ("asking", "connecting", "idle", "queue", "shared", "sharing", "stats", "waiting", "width")

    def __init__(self) -> None:
        self.idle: dict[HttpConnection, None] = {}
        self.shared: dict[HttpConnection, None] = {}
        self.queue: deque[_Waiter] = deque()
        self.connecting = 0
        self.sharing: bool | None = None
        """Whether connections to the origin can be shared; None while nobody knows."""
        self.width = _USUAL_WIDTH
        """How many requests the last one of them allowed at a time."""
        self.waiting = self.asking = 0
        """Requests without a connection, and how many of them are to open one."""
        self.stats = OriginStats()

    @property
    def coming(self) -> int:
        """Connections that will have streams to give: being opened, not settled yet, or asked for."""
        return self.connecting + self.asking + sum(not connection.width for connection in self.shared)

    @property
    def missing(self) -> int:
        """How many more connections those need who wait for one that another request opens."""
        followers = self.waiting - self.asking
        if self.sharing is False:
            return followers
        if self.sharing is None:
            return int(followers > 0 and not self.coming)
        return max(-(-(followers - self.room) // self.width), 0)

    @property
    def room(self) -> int:
        """Requests that will find a place on the connections that are coming, beside those these are opened for."""
        return self.coming * (self.width - 1)


class _Waiter:
    """A request without a connection. ``grant`` is a connection, or CONNECT: room to open one."""

    __slots__ = ("done", "for_dial", "grant", "signal", "state")

    def __init__(self, state: _OriginState, signal: Signal, *, for_dial: bool) -> None:
        self.state = state
        self.signal = signal
        self.for_dial = for_dial
        """Whether it waits for a connection that another request opens, and is in its origin's queue alone."""
        state.waiting += 1
        state.asking += not for_dial
        self.grant: HttpConnection | object | None = None
        self.done = False

    def settle(self) -> None:
        """It waits no more."""
        if not self.done:
            self.done = True
            self.state.waiting -= 1
            self.state.asking -= not self.for_dial


_CONNECT: Final = object()


class Pool:
    """See the module.

    Args:
        connect: Opens a connection for an attempt, within its connect time-out.
        limits: How many, how long.
        sharable: Whether connections to an origin may turn out to be HTTP/2.
        notify: Where events go.
    """

    def __init__(
        self,
        connect: Callable[[Attempt], Awaitable[HttpConnection]],
        *,
        limits: PoolLimits,
        sharable: Callable[[Origin], bool],
        notify: Observers,
    ) -> None:
        self.runtime: Runtime = current()
        self._connect = connect
        self._limits = limits
        self._sharable = sharable
        self._notify = notify
        self._idle_deaths = IdleDeaths(notify, self.runtime)
        self._origins: dict[Origin, _OriginState] = {}
        self._all: dict[HttpConnection, None] = {}
        self._by_idleness: dict[HttpConnection, None] = {}
        self._queue: deque[_Waiter] = deque()
        self._count = 0
        self._sweeper: TimerHandle | None = None
        self._closed = False
        self._draining: Signal | None = None
        self.on_busy: Callable[[], None] | None = None
        """Told when a request takes a connection; set by who watches the paths."""
        max_connections = limits.max_connections
        self._max = float("inf") if max_connections is None else max_connections
        max_idle = limits.max_idle
        self._max_idle = self._max if max_idle is None else min(max_idle, self._max)

    # --- getting a connection ---

    async def acquire(self, attempt: Attempt, *, fresh: bool = False, look: bool = False) -> HttpConnection:
        """A connection for the attempt: an idle one, a shared one, or a new one.

        Args:
            attempt: Whose request, time-outs and context count.
            fresh: Only a connection that no request has used.
            look: Make one last non-blocking look at a reused one.

        Raises:
            DeadlineExceeded: No connection became free within the pool time-out.
            ClosedError: The pool was closed.
            ConnectFailed, ProxyError: None could be opened.
        """
        if self._closed or self._draining is not None:
            raise ClosedError("the transport was closed; make a new client")
        if self.on_busy is not None:
            self.on_busy()
        origin = attempt.request.origin
        state = self._origins.get(origin)
        if state is None:
            state = self._origins[origin] = _OriginState()
        if not fresh:
            connection = self._take_shared(state) or self._take_idle(state, look=look)
            if connection is not None:
                state.stats.reused += 1
                connection.reserve()
                return connection
        waits_for_dial = not fresh and self._is_coming(state, origin)
        if not waits_for_dial and self._make_room():
            state.connecting += 1
            return await self._open(attempt, state)
        grant = await self._wait(attempt, state, for_dial=waits_for_dial)
        if grant is _CONNECT:
            return await self._open(attempt, state)
        state.stats.reused += 1
        return grant  # type: ignore[return-value]  # the only other grant is a connection

    def _is_coming(self, state: _OriginState, origin: Origin) -> bool:
        """Whether another request's connection will have a stream for one more request."""
        if state.sharing is False or not state.coming or not self._sharable(origin):
            return False
        return state.sharing is None or state.waiting - state.asking < state.room

    def _take_idle(self, state: _OriginState, *, look: bool) -> HttpConnection | None:
        idle = state.idle
        while idle:
            connection, _ = idle.popitem()
            del self._by_idleness[connection]
            if self._retire(connection, time.monotonic()):
                continue
            connection.wake()
            if not look or connection.looks_alive():
                return connection
        return None

    def _retire(self, connection: HttpConnection, now: float) -> bool:
        """Close an idle connection that has been idle for too long, or is too old."""
        idle = now - connection.idle_since
        if (self._limits.idle is not None and idle >= self._limits.idle) or (
            connection.idle_limit is not None and idle >= connection.idle_limit
        ):
            connection.end(CloseReason.IDLE)
        elif connection.is_expired(now):
            connection.end(CloseReason.MAX_AGE)
        elif connection.suspect:
            connection.end(CloseReason.FAILURE)
        else:
            return False
        return True

    def _take_shared(self, state: _OriginState) -> HttpConnection | None:
        for connection in state.shared:
            if connection.active and connection.capacity > 0 and not connection.is_expired(time.monotonic()):
                return connection
        return None

    def _make_room(self) -> bool:
        """Reserve a place for one more connection, closing the connection that has been idle longest if need be."""
        if self._count >= self._max:
            if not self._by_idleness:
                return False
            self._evict_oldest(CloseReason.LIMITS)
        self._count += 1
        return True

    def _evict_oldest(self, reason: CloseReason) -> None:
        connection = next(iter(self._by_idleness))
        self._forget_idle(connection)
        connection.wake()
        # the place it leaves is the caller's: nobody waits, or there would be no idle connection
        connection.end(reason)

    async def _wait(self, attempt: Attempt, state: _OriginState, *, for_dial: bool) -> HttpConnection | object:
        request = attempt.request
        waiter = _Waiter(state, self.runtime.signal(), for_dial=for_dial)
        state.queue.append(waiter)
        if not for_dial:
            self._queue.append(waiter)
        began = time.time_ns()
        timeout = request.timeouts.pool
        try:
            granted = await waiter.signal.wait(timeout)
        except BaseException:
            self._withdraw(waiter)
            raise
        if waiter.grant is None:
            self._withdraw(waiter)
        self._notify(
            PoolWaited(
                host=request.origin.host,
                port=request.origin.port,
                method=request.method.decode("ascii"),
                began=began,
                ended=time.time_ns(),
                context=request.context,
                timed_out=not granted,
                connection_id=waiter.grant.wire.id if isinstance(waiter.grant, HttpConnection) else None,
            )
        )
        if waiter.grant is not None:
            return waiter.grant
        if self._closed:
            raise ClosedError("the transport was closed while the request waited for a connection")
        failure = diagnosis.local(
            Kind.POOL_TIMEOUT,
            phase=Phase.POOL,
            facts=diagnosis.Facts(host=request.origin.host, port=request.origin.port, at=time.time()),
        )
        message = (
            f"no connection to {request.origin.host}:{request.origin.port} became free within {timeout} s: all "
            f"{self._count} of the pool are in use; raise max_connections or close responses sooner"
        )
        raise DeadlineExceeded(message, limit="pool", failure=failure)

    def _withdraw(self, waiter: _Waiter) -> None:
        """The waiter is gone: what it was granted goes to the next one."""
        waiter.settle()
        grant, waiter.grant = waiter.grant, None
        if grant is _CONNECT:
            self._count -= 1
            waiter.state.connecting -= 1
            self._call_for_more(waiter.state)
            self._serve()
        elif grant is not None:
            connection: HttpConnection = grant  # type: ignore[assignment]  # the only other grant
            connection.release()
            self._offer(connection)
        else:
            self._call_for_more(waiter.state)

    # --- opening ---

    async def _open(self, attempt: Attempt, state: _OriginState) -> HttpConnection:
        """Open a connection in the place that is already reserved, and counted as ``connecting``."""
        connection: HttpConnection | None = None
        try:
            connection = await self._connect(attempt)
        finally:
            state.connecting -= 1
            if connection is None:
                self._count -= 1
                self._call_for_more(state)
                self._serve()
        state.stats.opened += 1
        if self._closed:
            connection.end(CloseReason.ACLOSE)
            self._count -= 1
            raise ClosedError("the transport was closed while the connection was being opened")
        self._all[connection] = None
        connection.on_end = _WeakCallback(self).ended
        connection.on_idle = _WeakCallback(self).idle
        state.sharing = connection.http_version == "2"
        connection.reserve()
        if state.sharing:
            state.shared[connection] = None
            self._share(connection, state)
        else:
            self._call_for_more(state)
        return connection

    def _share(self, connection: HttpConnection, state: _OriginState) -> None:
        """Hand streams of ``connection`` to those who wait for its origin."""
        state.width = connection.width or state.width
        while connection.capacity > 0 and (waiter := _next(state.queue)) is not None:
            self._grant(waiter, connection)
        self._call_for_more(state)

    def _call_for_more(self, state: _OriginState) -> None:
        """Of those who wait for another request's connection, have as many open one as are needed for all."""
        missing = state.missing
        if not missing:
            return
        for waiter in state.queue:
            if waiter.for_dial and not waiter.done:
                waiter.for_dial = False
                state.asking += 1
                self._queue.append(waiter)
                missing -= 1
                if not missing:
                    break
        self._serve()

    async def open_spare(self, attempt: Attempt) -> HttpConnection | None:
        """One more connection for an attempt that waits on another one; None if there is no room.

        The caller gives it back by ``on_idle``.

        Raises: as ``acquire``.
        """
        if self._closed or self._draining is not None or not self._make_room():
            return None
        state = self._origins[attempt.request.origin]
        state.connecting += 1
        return await self._open(attempt, state)

    def suspect(self, connection: HttpConnection) -> None:
        """The path under ``connection`` looks dead: idle ones to the same address are not to be trusted."""
        peer = connection.wire.peer
        if peer is not None:
            self.suspect_peer(peer)

    def suspect_peer(self, peer: str) -> None:
        """The same, for an address."""
        for sibling in self._by_idleness:
            if sibling.wire.peer == peer:
                sibling.suspect = True

    # --- giving back ---

    def _offer(self, connection: HttpConnection) -> None:
        """``connection`` can take a request: hand it to who waits, or let it rest."""
        if connection.close_reason is not None:
            return
        state = self._origins[connection.origin]
        oldest = _peek(self._queue)
        if self._closed or self._draining is not None:
            if not connection.active:
                connection.end(CloseReason.ACLOSE)
        elif oldest is not None and not connection.active and oldest.state is not state:
            connection.end(CloseReason.LIMITS)
        elif connection.http_version == "2":
            self._share(connection, state)
            if not connection.active:
                self._rest(connection, state)
        elif (waiter := _next(state.queue)) is not None:
            self._grant(waiter, connection)
        else:
            self._rest(connection, state)

    def on_idle(self, connection: HttpConnection) -> None:
        """An exchange on ``connection`` is over and it can be used again."""
        now = time.monotonic()
        limit = self._limits.max_requests
        if connection.is_expired(now):
            connection.retire(CloseReason.MAX_AGE)
        elif limit is not None and connection.served >= limit:
            connection.retire(CloseReason.MAX_REQUESTS)
        self._offer(connection)
        if self._draining is not None and not self._count:
            self._draining.set()

    def _rest(self, connection: HttpConnection, state: _OriginState) -> None:
        if len(self._by_idleness) >= self._max_idle:
            if not self._by_idleness:
                connection.end(CloseReason.LIMITS)
                return
            self._evict_oldest(CloseReason.LIMITS)
        state.idle[connection] = None
        self._by_idleness[connection] = None
        connection.rest()
        if self._sweeper is None:
            self._arm()

    def _grant(self, waiter: _Waiter, connection: HttpConnection) -> None:
        connection.reserve()
        self._wake(waiter, connection)

    def _wake(self, waiter: _Waiter, grant: HttpConnection | object) -> None:
        waiter.settle()
        waiter.grant = grant
        waiter.signal.set()

    def _serve(self) -> None:
        """Room may have become free: the oldest waiters may open connections."""
        while self._count < self._max and (waiter := _next(self._queue)) is not None:
            self._count += 1
            waiter.state.connecting += 1
            self._wake(waiter, _CONNECT)

    def close_idle(self, reason: CloseReason = CloseReason.LIMITS) -> None:
        """Close what is not in use: this host has run out of something, or the pool is to end."""
        while self._by_idleness:
            self._evict_oldest(reason)

    def on_end(self, connection: HttpConnection, reason: CloseReason, failure: Failure | None) -> None:
        """``connection`` has ended, whoever ended it."""
        if self._all.pop(connection, self) is self:
            return
        self._count -= 1
        state = self._origins[connection.origin]
        if connection in state.idle:
            self._forget_idle(connection)
        idle = not connection.active
        state.shared.pop(connection, None)
        closed = state.stats.closed
        closed[reason] = closed.get(reason, 0) + 1
        now = time.monotonic()
        origin = connection.origin
        if idle and failure is not None:
            if failure.category in SPREADING:
                self.suspect(connection)
            self._idle_deaths.add(connection, failure)
        self._notify(
            ConnectionClosed(
                host=origin.host,
                port=origin.port,
                connection_id=connection.wire.id,
                reason=reason,
                age=now - connection.created,
                idle=now - connection.idle_since if idle else 0.0,
                requests=connection.served,
                failure=failure,
                http_version=connection.http_version,
            )
        )
        if not self._closed:
            self._call_for_more(state)
            if self._queue:
                self._serve()
        if self._draining is not None and not self._count:
            self._draining.set()

    def _forget_idle(self, connection: HttpConnection) -> None:
        del self._by_idleness[connection]
        self._origins[connection.origin].idle.pop(connection, None)

    # --- time ---

    def _arm(self) -> None:
        limit = self._limits.idle
        if limit is None or not self._by_idleness:
            self._sweeper = None
            return
        oldest = next(iter(self._by_idleness))
        delay = max(oldest.idle_since + limit - time.monotonic(), _LEAST_SWEEP)
        self._sweeper = self.runtime.call_later(delay, _WeakCallback(self).sweep)

    def sweep(self) -> None:
        """Close what has been idle for too long, or is too old."""
        now = time.monotonic()
        for connection in list(self._by_idleness):
            self._retire(connection, now)
        self._arm()

    # --- the end ---

    def close(self, reason: CloseReason = CloseReason.ACLOSE) -> None:
        """End every connection and wake every waiter; in the pool's own loop, or with FOREIGN from anywhere."""
        self._closed = True
        if self._sweeper is not None and reason is not CloseReason.FOREIGN:
            self._sweeper.cancel()
        self._sweeper = None
        for connection in list(self._all):
            connection.end(reason)
        self._idle_deaths.tell(here=reason is not CloseReason.FOREIGN)
        if reason is not CloseReason.FOREIGN:
            for state in self._origins.values():
                for waiter in state.queue:
                    if not waiter.done:
                        waiter.settle()
                        waiter.signal.set()

    async def drain(self) -> None:
        """Take no more requests, wait until those in progress are over, then close."""
        if self._closed:
            return
        self._draining = self._draining or self.runtime.signal()
        self.close_idle(CloseReason.ACLOSE)
        if self._count:
            await self._draining.wait(None)
        self.close()

    # --- being looked at ---

    def origin_stats(self, origin: Origin) -> OriginStats:
        """The counters of ``origin``."""
        state = self._origins.get(origin)
        if state is None:
            state = self._origins[origin] = _OriginState()
        return state.stats

    def stats(self) -> list[dict[str, Any]]:
        """One mapping for each origin: see ``telemetry.metrics``."""
        return [
            {
                "host": origin.host,
                "port": origin.port,
                "requests_ok": state.stats.ok,
                "requests_recovered": state.stats.recovered,
                "requests_failed": state.stats.failed,
                "opened": state.stats.opened,
                "reused": state.stats.reused,
                "closed": dict(state.stats.closed),
                "idle": len(state.idle),
                "active": sum(1 for connection in self._all if connection.origin == origin) - len(state.idle),
                "http_version": "2" if state.sharing else "1.1",
            }
            for origin, state in list(self._origins.items())
        ]

    @property
    def connections(self) -> list[HttpConnection]:
        """Every connection, in use or idle."""
        return list(self._all)

    @property
    def size(self) -> int:
        """Connections in use, idle, or being opened."""
        return self._count


class _WeakCallback:
    """A connection, a timer and the loop know their pool only weakly: a collected pool is not kept alive by them."""

    __slots__ = ("_pool",)

    def __init__(self, pool: Pool) -> None:
        self._pool = weakref.ref(pool)

    def ended(self, connection: HttpConnection, reason: CloseReason, failure: Failure | None) -> None:
        pool = self._pool()
        if pool is not None:
            pool.on_end(connection, reason, failure)

    def idle(self, connection: HttpConnection) -> None:
        pool = self._pool()
        if pool is not None:
            pool.on_idle(connection)
        else:
            connection.end(CloseReason.ACLOSE)

    def sweep(self) -> None:
        pool = self._pool()
        if pool is not None:
            pool.sweep()


def _peek(queue: deque[_Waiter]) -> _Waiter | None:
    """The oldest waiter that still waits."""
    while queue:
        if not queue[0].done:
            return queue[0]
        queue.popleft()
    return None


def _next(queue: deque[_Waiter]) -> _Waiter | None:
    """Take the oldest waiter that still waits."""
    waiter = _peek(queue)
    if waiter is not None:
        queue.popleft()
    return waiter
