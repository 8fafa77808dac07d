"""``Pool``: the connections of one transport on one runtime: who gets one, who waits, which ones end.

Theory of operation. Every operation is O(1) in the number of connections and requests. The idle connection that was
used last is taken first; the oldest is closed when room is needed. Who finds no room waits first in, first out; a
connection that comes back is handed to the oldest waiter, closed for it if it belongs to another origin; if it ends
before that one's task has run, its place is that one's. A connection that several requests can share (HTTP/2) is
offered as long as it has streams to spare. While one to such an origin is being opened, or has not said yet how many
streams it allows, further requests wait for it; only those that will find no stream there open others, so that a burst
never opens a crowd. One that is never at rest takes no more once another origin's waiter came before all its requests,
so that its place is that one's as soon as they are over; an event stream that came first is waited for, whatever it
takes.

Invariants: connections being opened, in use and idle never number more than ``max_connections``, but for one at a time
that replaces a dead one; there are waiters only when there is no room; a grant that its waiter cannot take any more
(cancelled, timed out) goes to the next one; idle connections are watched, so that the end of one is noticed when it
comes and never handed out; what nobody watched, or what idled for more than a second, is looked at first.
State belongs to one runtime. Not responsible for opening connections (``connector``), for the order of those who wait
(``waiters``) and of idle ones, and when these are over (``idle``), for how many there may be (``places``), or for
retries (``exchange``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio

from ..errors import ClosedError, ConnectFailed, TransportClosed
from ..events import CloseReason, ConnectionClosed, tell_setup
from ..net.runtime import current
from ..telemetry import settle
from .idle import SPREADING, IdleConnections
from .idle_deaths import IdleDeaths
from .origin_memory import OriginMemory
from .origins import CROWDED, Origins, OriginState, OriginStats
from .places import Places
from .promises import Promises
from .waiters import CONNECT, Waiter, Waiters
from .weak_pool import WeakPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from ..events import Observers
    from ..net.runtime import Runtime, TimerHandle
    from ..policy.failure import Failure
    from .connection import Attempt, HttpConnection
    from .messages import Origin

__all__ = ["OriginStats", "Pool", "PoolLimits"]


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
        self._weak = WeakPool(self)
        self._idle_deaths = IdleDeaths(notify, self.runtime, self._weak.explain)
        self._origins = Origins(partial(settle, self))
        self._all: dict[HttpConnection, None] = {}
        self._waiters = Waiters()
        self._places = Places(limits.max_connections, self.runtime)
        self._evicting = False
        """Whether room is being made: what becomes free is not for those who wait."""
        self._beyond_limit = anyio.Lock()
        self.promises = Promises(self.runtime, self._weak.give_back)
        self._sweeper: TimerHandle | None = None
        self._closed = False
        self._draining = 0
        """How many drains are going on; as long as there are any no further requests are taken."""
        self.on_busy: Callable[[], None] | None = None
        """Told when a request takes a connection; set by who watches the paths."""
        self.on_close: Callable[[], None] | None = None
        """Told when the pool is closed in its own loop; set by the same."""
        most = self._places.limit
        self._max_idle = most if limits.max_idle is None else min(limits.max_idle, most)

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
        if self._closed or (self._draining and attempt.retrier is None):
            raise TransportClosed("the transport was closed; make a new client")
        if self.on_busy is not None:
            self.on_busy()
        request = attempt.request
        if self.promises and (promised := self.promises.take(request)) is not None:
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
            waits_for_dial = not alone and state.is_coming and self._sharable(attempt.request.origin)
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

    def _take(self, state: OriginState, *, fresh: bool, look: bool) -> HttpConnection | None:
        connection = self._take_shared(state, fresh=fresh) if state.shared else None
        if connection is None and not fresh:
            connection = self.idle.take(state, look=look)
        if connection is not None:
            state.stats.reused += 1
            connection.reserve()
        return connection

    def _can_be_used(self, connection: HttpConnection, *, look: bool) -> bool:
        """Whether a connection that was handed over is still good: much may have happened since.

        If it is not and ends, its place is the caller's, who has waited for it.
        """
        self._evicting = True
        try:
            if not connection.honours_reservation:
                connection.release()
                return False
            return not look or connection.http_version == "2" or connection.looks_alive()  # HTTP/2 has a reader
        finally:
            self._evicting = False

    def _take_shared(self, state: OriginState, *, fresh: bool) -> HttpConnection | None:
        for connection in state.shared:
            if connection.active and connection.capacity > 0 and time.monotonic() < connection.expires:
                if (fresh and connection.served) or (self._waiters and self._waiters.gives_way(connection, state)):
                    continue
                return connection
        return None

    def _take_place(self, state: OriginState) -> bool:
        """A place for a connection that is opened now; who has been idle longest is closed if there is no other."""
        while not (taken := self._places.take()) and self.idle:
            self._evict_oldest(CloseReason.LIMITS)
        if taken:
            state.connecting += 1
        return taken

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
        self._places.leave()
        self._serve()

    async def _wait(
        self, attempt: Attempt, state: OriginState, *, for_dial: bool, fresh: bool
    ) -> HttpConnection | object:
        waiter = Waiter(attempt, state, self.runtime.signal(), for_dial=for_dial, fresh=fresh)
        self._waiters.add(waiter)
        try:
            in_time = await waiter.wait()
        except BaseException:
            self._withdraw(waiter)
            raise
        self._waiters.take_over(waiter)
        if waiter.grant is None or self._closed:
            self._withdraw(waiter)
        self._notify(waiter.told(in_time=in_time))
        if waiter.grant is not None:
            return waiter.grant
        if self._closed:
            raise ClosedError("the transport was closed while the request waited for a connection")
        raise waiter.too_late(self._places.taken)

    def _withdraw(self, waiter: Waiter) -> None:
        """The waiter is gone: what it was granted goes to the next one."""
        grant = self._waiters.withdraw(waiter)
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
            self.runtime.call_later(CROWDED, partial(self._weak.call_for_more, state))
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
        connection.on_end = self._weak.on_end
        connection.on_idle = self._weak.on_idle
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
        while state.queue and connection.capacity > 0 and not self._waiters.gives_way(connection, state):
            if not self._waiters.hand_over(connection, state):
                break
            if connection in self.idle:  # it came to rest before it could be shared
                self.idle.remove(connection, state)
        self.call_for_more(state)

    def call_for_more(self, state: OriginState) -> None:
        """Of those who wait for another request's connection, have as many open one as are needed for all."""
        if self._waiters.call_for_more(state):
            self._serve()

    async def open_spare(self, attempt: Attempt, *, wanted: Callable[[], bool]) -> HttpConnection | None:
        """One more connection for a request that waits on a dead one; None if it is not ``wanted`` any more.

        In a full pool one connection more than allowed is opened, one at a time: else nobody would ever get off the
        dead ones. The caller gives it back by ``give_back``, or promises it to the request (``promises.keep``).

        Raises: as ``acquire``.
        """
        state = self._origins[attempt.request.origin]
        if self._take_place(state):
            return await self._open(attempt, state)
        async with self._beyond_limit:
            if self._closed or self._places.taken > self._places.limit or not wanted():
                return None
            self._places.exceed()
            state.connecting += 1
            return await self._open(attempt, state)

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
        oldest = self._waiters.oldest if self._waiters else None
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
        elif not (state.queue and self._waiters.hand_over(connection, state)):
            self._rest(connection, state)

    def on_idle(self, connection: HttpConnection) -> None:
        """An exchange on ``connection`` is over and it can be used again."""
        limit, places = self._limits.max_requests, self._places
        if connection.idle_since >= connection.expires:
            connection.retire(CloseReason.MAX_AGE)
        elif limit is not None and connection.served >= limit:
            connection.retire(CloseReason.MAX_REQUESTS)
        elif places.taken > places.limit and not connection.active:  # a replacement turned out not to be needed
            connection.end(CloseReason.LIMITS)
        self._offer(connection)

    def _rest(self, connection: HttpConnection, state: OriginState) -> None:
        if self._draining:
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

    def _serve(self) -> None:
        """Room may have become free: the oldest waiters may open connections."""
        if self._closed or self._evicting:
            return
        while (waiter := self._waiters.oldest) is not None and self._take_place(waiter.state):
            self._waiters.let_connect(waiter)

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
        idle = not connection.serving
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
        inherit = not self._closed and self._places.taken <= self._places.limit
        inherited = self._waiters.lost(connection, inherit=inherit)
        state.connecting += inherited
        if not self._closed:
            self.call_for_more(state)
        if not inherited:
            self._leave()

    # --- time ---

    def _arm(self) -> None:
        delay = self.idle.next_look
        self._sweeper = None if delay is None else self.runtime.call_later(delay, self._weak.sweep)

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
        self.promises.clear()
        if self.on_close is not None and reason is not CloseReason.FOREIGN:
            self.on_close()
        for connection in list(self._all):
            connection.end(reason)
        self._idle_deaths.tell(here=reason is not CloseReason.FOREIGN)
        if reason is not CloseReason.FOREIGN:
            self._waiters.wake_all(self._origins.queues())

    async def drain(self) -> None:
        """Take no more requests, wait until those in progress are over, then close; cancelled, go on as before."""
        if self._closed:
            return
        self._draining += 1
        try:
            self.close_idle(CloseReason.ACLOSE)
            await self._places.all_left()
        finally:
            self._draining -= 1
        self.close()

    def pausing(self) -> AbstractContextManager[None]:
        """A request holds no connection and will ask for another one: a drain waits for it."""
        return self._places.pausing()

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
        return self._places.taken
