"""``Pool``: the connections of one transport on one runtime: who gets one, who waits, which ones end.

Theory of operation. Every operation is O(1) in the number of connections and requests. The idle connection that was
used last is taken first; the oldest is closed when room is needed. Who finds no room waits first in, first out; a
connection that comes back is handed to the oldest waiter, closed for it if it belongs to another origin; if it ends
before that one's task has run, its place is that one's. A connection that several requests can share (HTTP/2) is
offered as long as it has streams to spare. While one to such an origin is being opened, or has not said yet how many
streams it allows, further requests wait for it; only those that will find no stream there open others, so that a burst
never opens a crowd. One that is never at rest would never make room for another origin: once each of its requests came
a second after the oldest waiter, it takes no more, so that its place is that one's as soon as they are over. No more
than one does so for a waiter; and an event stream that came first is waited for, whatever it takes.

Invariants: connections being opened, in use and idle never number more than ``max_connections``, but for one at a time
that replaces a dead one; there are waiters only when there is no room; a grant that its waiter cannot take any more
(cancelled, timed out) goes to the next one; idle connections are watched, so that the end of one is noticed when it
comes and never handed out; what nobody watched, or what idled for more than a second, is looked at first.
State belongs to one runtime. Not responsible for opening connections (``connector``), for the order of idle ones
and when they are over (``idle``), or for retries (``exchange``).
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from anyio.lowlevel import checkpoint

from ..errors import ClosedError, ConnectFailed, DeadlineExceeded, TransportClosed
from ..events import CloseReason, ConnectionClosed, PoolWaited, tell_setup
from ..net.runtime import current
from ..policy import diagnosis
from ..policy.kind import Category, Kind
from ..policy.phase import Phase
from ..telemetry import settle
from .connection import HttpConnection
from .idle import IdleConnections
from .idle_deaths import IdleDeaths
from .origin_memory import OriginMemory
from .origins import CONNECT, CROWDED, Origins, OriginState, OriginStats, Waiter, take_oldest
from .origins import oldest as oldest_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from ..events import Observers
    from ..net.runtime import Runtime, Signal, TimerHandle
    from ..policy.failure import Failure
    from .connection import Attempt
    from .messages import Origin, Request

__all__ = ["SPREADING", "OriginStats", "Pool", "PoolLimits"]

SPREADING: Final = frozenset({Category.TIMED_OUT, Category.UNREACHABLE})
"""Failures after which other connections to the same address are suspect."""
_PROMISE: Final = 1.0
"""Seconds that a replacement is kept for the request that it was opened for."""
_PATIENCE: Final = 1.0
"""Seconds for which later requests to another origin may keep a shared connection from who waits for a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How many connections, and for how long; None means no limit. Times in seconds."""

    max_connections: int | None = 100
    max_idle: int | None = 20
    idle: float | None = 55.0
    max_requests: int | None = None
    learn: bool = False
    """Whether an idle limit of the path that was learnt ends connections before it does."""


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
        self.memory = OriginMemory(learn=limits.learn)
        self.idle = IdleConnections(limit=limits.idle, memory=self.memory, learn=limits.learn)
        self._idle_deaths = IdleDeaths(notify, self.runtime, _WeakCallback(self).explain)
        self._origins = Origins(partial(settle, self))
        self._all: dict[HttpConnection, None] = {}
        self._queue: deque[Waiter] = deque()
        self._handed: dict[object, Waiter] = {}
        """Connections that were granted, and to whom, until their tasks run."""
        self._count = 0
        self._pausing = 0
        self._evicting = False
        """Whether room is being made: what becomes free is not for those who wait."""
        self._beyond_limit = anyio.Lock()
        self._promised: dict[Request, HttpConnection] = {}
        self._sweeper: TimerHandle | None = None
        self._closed = False
        self._drains: list[Signal] = []
        """Those that wait for the last request to end; as long as there are any no further ones are taken."""
        self.on_busy: Callable[[], None] | None = None
        """Told when a request takes a connection; set by who watches the paths."""
        self.on_close: Callable[[], None] | None = None
        """Told when the pool is closed in its own loop; set by the same."""
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
        if self._closed or (self._drains and attempt.retrier is None):
            raise TransportClosed("the transport was closed; make a new client")
        if self.on_busy is not None:
            self.on_busy()
        request = attempt.request
        if self._promised and (promised := self._take_promised(request)) is not None:
            return promised
        state = self._origins[request.origin]
        # where connections are shared, a fresh one is one on which nothing was completed yet
        alone = fresh and not (state.sharing and self._sharable(request.origin))
        if not alone and (taken := self._take(state, fresh=fresh, look=look)) is not None:
            return taken
        return await self._wait_or_open(attempt, state, alone=alone, fresh=fresh, look=look)

    async def _wait_or_open(
        self, attempt: Attempt, state: OriginState, *, alone: bool, fresh: bool, look: bool
    ) -> HttpConnection:
        """A connection where none can be taken at once; as ``acquire``. ``alone``: it is nobody else's."""
        while True:
            waits_for_dial = not alone and self._is_coming(state, attempt.request.origin)
            if waits_for_dial or not self._take_place(state):
                grant = await self._wait(attempt, state, for_dial=waits_for_dial, fresh=alone)
                if grant is not CONNECT:
                    connection = cast("HttpConnection", grant)  # the only other grant
                    if self._can_be_used(connection, look=look):
                        state.stats.reused += 1
                        return connection
                    if not self._take_place(state):
                        continue
            opened = await self._open_one_more(attempt, state, alone=alone)
            if opened is not None:
                return opened
            if (taken := self._take(state, fresh=fresh, look=look)) is not None:
                return taken

    def _take_promised(self, request: Request) -> HttpConnection | None:
        promised = self._promised.pop(request, None)
        return promised if promised is not None and promised.close_reason is None else None

    def _take(self, state: OriginState, *, fresh: bool, look: bool) -> HttpConnection | None:
        connection = self._take_shared(state, fresh=fresh) if state.shared else None
        if connection is None and not fresh:
            connection = self.idle.take(state, look=look)
        if connection is not None:
            state.stats.reused += 1
            connection.reserve()
        return connection

    def _can_be_used(self, connection: HttpConnection, *, look: bool) -> bool:
        """Whether a connection that was handed over is still good: nobody has watched it since.

        If this look finds it dead its place is the caller's, who has waited for it.
        """
        if connection.http_version == "2":  # it has a reader
            return connection.close_reason is None
        self._evicting = True
        try:
            return connection.close_reason is None and (not look or connection.looks_alive())
        finally:
            self._evicting = False

    def _is_coming(self, state: OriginState, origin: Origin) -> bool:
        """Whether another request's connection will have a stream for one more request."""
        if state.sharing is False or not self._sharable(origin):
            return False
        if state.is_crowded:
            return True
        if not state.coming:
            return False
        return state.sharing is None or state.waiting - state.asking < state.room

    def _take_shared(self, state: OriginState, *, fresh: bool) -> HttpConnection | None:
        for connection in state.shared:
            if connection.active and connection.capacity > 0 and time.monotonic() < connection.expires:
                if (fresh and connection.served) or (self._queue and self._gives_way(connection, state)):
                    continue
                return connection
        return None

    def _gives_way(self, connection: HttpConnection, state: OriginState) -> bool:
        """Whether ``connection``, which can be shared and is in use, ends with its requests: another origin's came
        before them all.
        """
        oldest = oldest_of(self._queue)
        since = connection.busy_since
        if oldest is None or oldest.state is state or oldest.relieved or since is None:
            return False
        if since < oldest.since + _PATIENCE:
            return False
        oldest.relieved = True
        connection.retire(CloseReason.LIMITS)
        return True

    @contextlib.contextmanager
    def pausing(self) -> Generator[None]:
        """A request holds no connection and will ask for another one: a drain waits for it."""
        self._pausing += 1
        try:
            yield
        finally:
            self._pausing -= 1
            self._tell_drains()

    def _make_room(self) -> bool:
        """Reserve a place for one more connection, closing the connection that has been idle longest if need be."""
        while self._count >= self._max and self.idle:
            self._evict_oldest(CloseReason.LIMITS)
        if self._count >= self._max:
            return False
        self._count += 1
        return True

    def _take_place(self, state: OriginState) -> bool:
        """The same, for a connection that is opened now."""
        if not self._make_room():
            return False
        state.connecting += 1
        return True

    def _evict_oldest(self, reason: CloseReason) -> None:
        """Close the connection that has been idle longest; its place is the caller's."""
        connection = next(iter(self.idle))
        self.idle.remove(connection, self._origins[connection.origin])
        connection.wake()
        self._evicting = True
        try:
            connection.end(reason)
        finally:
            self._evicting = False

    def _leave(self) -> None:
        """A place has become free."""
        self._count -= 1
        self._serve()
        self._tell_drains()

    def _tell_drains(self) -> None:
        if not self._count and not self._pausing:
            for signal in self._drains:
                signal.set()

    async def _wait(
        self, attempt: Attempt, state: OriginState, *, for_dial: bool, fresh: bool
    ) -> HttpConnection | object:
        request = attempt.request
        waiter = Waiter(state, self.runtime.signal(), for_dial=for_dial, fresh=fresh)
        if not fresh:
            state.queue.append(waiter)
        if not for_dial:
            self._queue.append(waiter)
        began = time.time_ns()
        timeout = request.timeouts.pool
        try:
            granted = await waiter.signal.wait(None if timeout is None else max(timeout - attempt.queued, 0.0))
        except BaseException:
            self._withdraw(waiter)
            raise
        self._take_over(waiter)
        if waiter.grant is None or self._closed:
            self._withdraw(waiter)
        attempt.queued += time.monotonic() - waiter.since
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

    def _withdraw(self, waiter: Waiter) -> None:
        """The waiter is gone: what it was granted goes to the next one."""
        waiter.settle()
        self._take_over(waiter)
        grant, waiter.grant = waiter.grant, None
        if grant is CONNECT:
            waiter.state.connecting -= 1
            self.call_for_more(waiter.state)
            self._leave()
        elif grant is not None:
            connection = cast("HttpConnection", grant)  # the only other grant
            connection.release()
            self._offer(connection)
        else:
            self.call_for_more(waiter.state)

    def _take_over(self, waiter: Waiter) -> None:
        """The waiter's task runs: what becomes of its grant is its own business now."""
        if self._handed.get(waiter.grant) is waiter:
            del self._handed[waiter.grant]

    # --- opening ---

    async def _open_one_more(self, attempt: Attempt, state: OriginState, *, alone: bool) -> HttpConnection | None:
        """A new connection; None if none came about, but others to the origin live, whose streams can be waited for.

        Raises: as ``acquire``.
        """
        try:
            return await self._open(attempt, state)
        except ConnectFailed as exc:
            if alone or not any(connection.active for connection in state.shared):
                raise
            attempt.connect_by = None
            state.crowded()
            self.runtime.call_later(CROWDED, partial(_WeakCallback(self).call_for_more, state))
            if exc.setup is not None:
                tell_setup(exc.setup, self._notify)
            return None

    async def _open(self, attempt: Attempt, state: OriginState) -> HttpConnection:
        """Open a connection in the place that is already reserved, and counted as ``connecting``."""
        try:
            connection = await self._connect(attempt)
        except BaseException:
            state.connecting -= 1
            self.call_for_more(state)
            self._leave()
            raise
        state.connecting -= 1
        state.stats.opened += 1
        if self._closed:
            connection.end(CloseReason.ACLOSE)
            self._leave()
            raise ClosedError("the transport was closed while the connection was being opened")
        self._all[connection] = None
        state.connections += 1
        connection.on_end = _WeakCallback(self).ended
        connection.on_idle = _WeakCallback(self).idle
        state.sharing = connection.http_version == "2"
        connection.reserve()
        if state.sharing:
            state.shared[connection] = None
            self._share(connection, state)
        else:
            self.call_for_more(state)
        return connection

    def _share(self, connection: HttpConnection, state: OriginState) -> None:
        """Hand streams of ``connection`` to those who wait for its origin."""
        state.width = connection.width or state.width
        while state.queue and connection.capacity > 0 and not self._gives_way(connection, state):
            waiter = take_oldest(state.queue)
            if waiter is None:
                break
            if connection in self.idle:  # it came to rest before it could be shared
                self.idle.remove(connection, state)
            self._grant(waiter, connection)
        self.call_for_more(state)

    def call_for_more(self, state: OriginState) -> None:
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

    async def open_spare(self, attempt: Attempt, *, wanted: Callable[[], bool]) -> HttpConnection | None:
        """One more connection for a request that waits on a dead one; None if it is not ``wanted`` any more.

        In a full pool one connection more than allowed is opened, one at a time: else nobody would ever get off the
        dead ones. The caller gives it back by ``give_back``, or keeps it for the request by ``promise``.

        Raises: as ``acquire``.
        """
        state = self._origins[attempt.request.origin]
        if self._take_place(state):
            return await self._open(attempt, state)
        async with self._beyond_limit:
            if self._closed or self._count > self._max or not wanted():
                return None
            self._count += 1
            state.connecting += 1
            return await self._open(attempt, state)

    def promise(self, connection: HttpConnection, request: Request) -> None:
        """Keep ``connection`` for ``request``, which is about to ask for one; for a second at most."""
        self._promised[request] = connection
        self.runtime.call_later(_PROMISE, partial(_WeakCallback(self).forget_promise, request))

    def forget_promise(self, request: Request) -> None:
        """Whom the connection was kept for has taken it, or does not come."""
        connection = self._promised.pop(request, None)
        if connection is not None:
            self.give_back(connection)

    def give_back(self, connection: HttpConnection) -> None:
        """``connection`` was opened, or waited for, and no request follows."""
        connection.release()
        self.on_idle(connection)

    def suspect(self, connection: HttpConnection) -> None:
        """The path under ``connection`` looks dead: idle ones to the same address are not to be trusted."""
        peer = connection.wire.peer
        if peer is not None:
            self.idle.suspect(peer)

    # --- giving back ---

    def _offer(self, connection: HttpConnection) -> None:
        """``connection`` can take a request: hand it to who waits, or let it rest."""
        if connection.close_reason is not None:
            return
        state = self._origins[connection.origin]
        oldest = oldest_of(self._queue) if self._queue else None
        if self._closed:
            if not connection.active:
                connection.end(CloseReason.ACLOSE)
        elif (
            oldest is not None
            and not connection.active
            and (oldest.state is not state or oldest.fresh or connection.capacity < 1)
        ):
            connection.end(CloseReason.LIMITS)
        elif connection.http_version == "2":
            self._share(connection, state)
            if not connection.active:
                self._rest(connection, state)
        elif state.queue and (waiter := take_oldest(state.queue)) is not None:
            self._grant(waiter, connection)
        else:
            self._rest(connection, state)

    def on_idle(self, connection: HttpConnection) -> None:
        """An exchange on ``connection`` is over and it can be used again."""
        limit = self._limits.max_requests
        if connection.idle_since >= connection.expires:
            connection.retire(CloseReason.MAX_AGE)
        elif limit is not None and connection.served >= limit:
            connection.retire(CloseReason.MAX_REQUESTS)
        elif self._count > self._max and not connection.active:  # a replacement turned out not to be needed
            connection.end(CloseReason.LIMITS)
        self._offer(connection)

    def _rest(self, connection: HttpConnection, state: OriginState) -> None:
        if self._drains:
            connection.end(CloseReason.ACLOSE)
            return
        if connection in self.idle:
            return
        if len(self.idle) >= self._max_idle:
            if not self.idle:
                connection.end(CloseReason.LIMITS)
                return
            self._evict_oldest(CloseReason.LIMITS)
        self.idle.put(connection, state)
        connection.rest()
        if self._sweeper is None:
            self._arm()

    def _grant(self, waiter: Waiter, connection: HttpConnection) -> None:
        connection.reserve()
        self._handed[connection] = waiter
        self._wake(waiter, connection)

    def _wake(self, waiter: Waiter, grant: HttpConnection | object) -> None:
        waiter.settle()
        waiter.grant = grant
        waiter.signal.set()

    def _serve(self) -> None:
        """Room may have become free: the oldest waiters may open connections."""
        if self._closed or self._evicting:
            return
        while (waiter := oldest_of(self._queue)) is not None and self._take_place(waiter.state):
            self._queue.popleft()
            self._wake(waiter, CONNECT)

    def close_idle(self, reason: CloseReason = CloseReason.LIMITS) -> None:
        """Close what is not in use: this host has run out of something, or the pool is to end."""
        while self.idle:
            self._evict_oldest(reason)
        self._serve()

    def on_end(self, connection: HttpConnection, reason: CloseReason, failure: Failure | None) -> None:
        """``connection`` has ended, whoever ended it."""
        if self._all.pop(connection, self) is self:
            return
        state = self._origins[connection.origin]
        state.connections -= 1
        if connection in state.idle:
            self.idle.remove(connection, state)
        idle = not connection.active
        state.shared.pop(connection, None)
        closed = state.stats.closed
        closed[reason] = closed.get(reason, 0) + 1
        now = time.monotonic()
        origin = connection.origin
        self.memory.ended(connection, now, reason, failure, at_rest=idle)
        if idle and failure is not None:
            if failure.category in SPREADING:
                self.suspect(connection)
            self._idle_deaths.add(connection, failure, now - connection.idle_since)
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
        handed = self._handed.pop(connection, None)
        if self._closed or self._count > self._max:
            handed = None
        if handed is not None:
            handed.grant = CONNECT
            state.connecting += 1
        if not self._closed:
            self.call_for_more(state)
        if handed is None:
            self._leave()

    # --- time ---

    def _arm(self) -> None:
        delay = self.idle.next_look
        self._sweeper = None if delay is None else self.runtime.call_later(delay, _WeakCallback(self).sweep)

    def sweep(self) -> None:
        """Close what has been idle for too long, or is too old."""
        for connection, reason in self.idle.over():
            connection.end(reason)
        self._arm()

    # --- the end ---

    def close(self, reason: CloseReason = CloseReason.ACLOSE) -> None:
        """End every connection and wake every waiter; in the pool's own loop, or with FOREIGN from anywhere."""
        self._closed = True
        if self._sweeper is not None and reason is not CloseReason.FOREIGN:
            self._sweeper.cancel()
        self._sweeper = None
        self._promised.clear()
        if self.on_close is not None and reason is not CloseReason.FOREIGN:
            self.on_close()
        for connection in list(self._all):
            connection.end(reason)
        self._idle_deaths.tell(here=reason is not CloseReason.FOREIGN)
        if reason is not CloseReason.FOREIGN:
            for queue in (self._queue, *self._origins.queues()):
                while (waiter := take_oldest(queue)) is not None:
                    waiter.settle()
                    waiter.signal.set()

    async def drain(self) -> None:
        """Take no more requests, wait until those in progress are over, then close; cancelled, go on as before."""
        if self._closed:
            return
        signal = self.runtime.signal()
        self._drains.append(signal)
        try:
            self.close_idle(CloseReason.ACLOSE)
            while self._count or self._pausing:
                await signal.wait(None)
                await checkpoint()  # who lost its connection may have to ask for another one
                self._drains.remove(signal)
                signal = self.runtime.signal()
                self._drains.append(signal)
        finally:
            self._drains.remove(signal)
        self.close()

    # --- being looked at ---

    def explain(self, origin: Origin, failure: Failure, idle: float = 0.0) -> Failure:
        """``failure`` with its likely cause; its connection had been idle for ``idle`` seconds."""
        state = self._origins[origin]
        answers = state.stats.ok + state.stats.recovered
        return self.memory.explain(origin, failure, idle=idle, answers=answers, idle_ones=state.idle)

    def origin_stats(self, origin: Origin) -> OriginStats:
        """The counters of ``origin``."""
        return self._origins[origin].stats

    def stats(self) -> list[dict[str, Any]]:
        """One mapping for each origin: see ``telemetry.metrics``."""
        return self._origins.stats()

    def origins(self) -> list[tuple[Origin, OriginState]]:
        """What is known of each origin."""
        return list(self._origins.items())

    def in_use(self) -> list[HttpConnection]:
        """The connections that have requests in progress."""
        return [connection for connection in self._all if connection not in self.idle and connection.active]

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

    def call_for_more(self, state: OriginState) -> None:
        pool = self._pool()
        if pool is not None:
            pool.call_for_more(state)

    def forget_promise(self, request: Request) -> None:
        pool = self._pool()
        if pool is not None:
            pool.forget_promise(request)

    def explain(self, origin: Origin, failure: Failure, idle: float) -> Failure:
        pool = self._pool()
        return failure if pool is None else pool.explain(origin, failure, idle)
