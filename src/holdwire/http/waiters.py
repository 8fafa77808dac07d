"""``Waiters``: the requests that wait for a connection, first in, first out, and what each of them is granted.

Theory of operation. A request waits for a place to open a connection in, for a connection that others have opened, or
for whichever comes first. Who wants a place stands in the pool's queue, which this is; who takes what others have
opened stands in its origin's (``OriginState.queue``); most stand in both. Nobody is searched for: who waits no more is
done, and dropped when it comes to the front. One that waits for another request's connection wants a place as soon as
it is clear that it will find no room there. A connection that is never at rest would keep its place for ever: once each
of its requests came a second after the oldest waiter, which wants that place for another origin, it takes no more.

Invariants: a waiter is granted one thing, while it waits; an origin's ``waiting`` and ``asking`` count those that are
not done; what becomes of a connection that was handed over is followed until its new owner's task runs: if it ends
before, the place is that one's. No more than one connection gives way for a waiter.
Not responsible for what there is to be granted, or for a grant whose waiter is gone (``pool``).
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from ..errors import DeadlineExceeded
from ..events import CloseReason, PoolWaited
from ..policy import diagnosis
from ..policy.authority import authority
from ..policy.kind import Kind
from ..policy.phase import Phase
from .connection import HttpConnection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..net.runtime import Signal
    from .connection import Attempt
    from .origins import OriginState

__all__ = ["CONNECT", "Waiter", "Waiters"]

CONNECT: Final = object()
"""What a waiter is granted that is to open a connection: its place is reserved."""
_PATIENCE: Final = 1.0
"""Seconds for which later requests to another origin may keep a shared connection from who waits for a place."""


class Waiter:
    """A request without a connection. ``grant`` is a connection, or CONNECT: room to open one."""

    __slots__ = ("_attempt", "_began", "_signal", "done", "for_dial", "fresh", "grant", "relieved", "since", "state")

    def __init__(self, attempt: Attempt, state: OriginState, signal: Signal, *, for_dial: bool, fresh: bool) -> None:
        self._attempt = attempt
        self._began = time.time_ns()
        self._signal = signal
        self.state = state
        self.for_dial = for_dial
        """Whether it waits for a connection that another request opens, and is in its origin's queue alone."""
        self.fresh = fresh
        """Whether it takes no connection that another request has used, and is in the pool's queue alone."""
        self.since = time.monotonic()
        self.relieved = False
        """Whether a connection that others share has been told to end for it."""
        self.grant: HttpConnection | object | None = None
        self.done = False

    async def wait(self) -> bool:
        """Until it is woken; False if its request's pool time-out, which bounds all its waits together, came first."""
        attempt = self._attempt
        timeout = attempt.request.timeouts.pool
        in_time = await self._signal.wait(None if timeout is None else max(timeout - attempt.queued, 0.0))
        attempt.queued += time.monotonic() - self.since
        return in_time

    def wake(self, grant: HttpConnection | object | None) -> None:
        """Let its task go on, with ``grant`` or, if the pool is closed, without any."""
        self.settle()
        self.grant = grant
        self._signal.set()

    def settle(self) -> None:
        """It waits no more."""
        if not self.done:
            self.done = True
            self.state.waiting -= 1
            self.state.asking -= not self.for_dial

    def told(self, *, in_time: bool) -> PoolWaited:
        """What the observers are told of the wait, which is over."""
        request = self._attempt.request
        return PoolWaited(
            host=request.origin.host,
            port=request.origin.port,
            method=request.method.decode("ascii"),
            began=self._began,
            ended=time.time_ns(),
            context=request.context,
            timed_out=not in_time,
            connection_id=self.grant.wire.id if isinstance(self.grant, HttpConnection) else None,
        )

    def too_late(self, size: int) -> DeadlineExceeded:
        """What its request ends with if it is granted nothing in time; the pool has ``size`` connections."""
        request = self._attempt.request
        failure = diagnosis.local(
            Kind.POOL_TIMEOUT,
            phase=Phase.POOL,
            facts=diagnosis.Facts(host=request.origin.host, port=request.origin.port, at=time.time()),
        )
        message = (
            f"no connection to {authority(request.origin.host, request.origin.port)} became free within "
            f"{request.timeouts.pool} s: all {size} of the pool are in use; raise max_connections or close responses "
            "sooner"
        )
        return DeadlineExceeded(message, limit="pool", failure=failure)


class Waiters(deque[Waiter]):
    """See the module: the pool's queue, so that to see whether anybody is in it costs no call."""

    __slots__ = ("_handed",)

    def __init__(self) -> None:
        super().__init__()
        self._handed: dict[object, Waiter] = {}
        """Connections that were handed over, and to whom, until their tasks run."""

    def add(self, waiter: Waiter) -> None:
        """``waiter`` waits from now on."""
        state = waiter.state
        state.waiting += 1
        state.asking += not waiter.for_dial
        if not waiter.fresh:
            state.queue.append(waiter)
        if not waiter.for_dial:
            self.append(waiter)

    @property
    def oldest(self) -> Waiter | None:
        """Who has waited longest of those who want a place."""
        return _oldest(self)

    def let_connect(self, waiter: Waiter) -> None:
        """``waiter``, which is the oldest, gets a place."""
        self.popleft()
        waiter.wake(CONNECT)

    def hand_over(self, connection: HttpConnection, state: OriginState) -> bool:
        """Grant ``connection`` to who has waited longest for its origin; whether there is anybody."""
        waiter = _take_oldest(state.queue)
        if waiter is None:
            return False
        connection.reserve()
        self._handed[connection] = waiter
        waiter.wake(connection)
        return True

    def take_over(self, waiter: Waiter) -> None:
        """The waiter's task runs: what becomes of its grant is its own business now."""
        if self._handed.get(waiter.grant) is waiter:
            del self._handed[waiter.grant]

    def withdraw(self, waiter: Waiter) -> HttpConnection | object | None:
        """The waiter is gone: what it was granted and does not take."""
        waiter.settle()
        self.take_over(waiter)
        grant, waiter.grant = waiter.grant, None
        return grant

    def lost(self, connection: HttpConnection, *, inherit: bool) -> bool:
        """``connection`` has ended; with ``inherit`` its place is of who was to have it, and whether that is so."""
        waiter = self._handed.pop(connection, None)
        if waiter is None or not inherit:
            return False
        waiter.grant = CONNECT
        return True

    def call_for_more(self, state: OriginState) -> bool:
        """Of those who wait for another request's connection, have as many want a place as are needed for all."""
        missing = left = state.missing
        if missing:
            for waiter in state.queue:
                if waiter.for_dial and not waiter.done:
                    waiter.for_dial = False
                    state.asking += 1
                    self.append(waiter)
                    left -= 1
                    if not left:
                        break
        return missing > 0

    def gives_way(self, connection: HttpConnection, state: OriginState) -> bool:
        """Whether ``connection``, which can be shared and is in use, ends with its requests: another origin's came
        before them all.
        """
        oldest = _oldest(self)
        since = connection.busy_since
        if oldest is None or oldest.state is state or oldest.relieved or since is None:
            return False
        if since < oldest.since + _PATIENCE:
            return False
        oldest.relieved = True
        connection.retire(CloseReason.LIMITS)
        return True

    def wake_all(self, queues: Iterable[deque[Waiter]]) -> None:
        """Nobody is granted anything any more; ``queues`` are those of the origins."""
        for queue in (self, *queues):
            while (waiter := _take_oldest(queue)) is not None:
                waiter.wake(None)


def _oldest(queue: deque[Waiter]) -> Waiter | None:
    """The oldest waiter that still waits."""
    while queue:
        if not queue[0].done:
            return queue[0]
        queue.popleft()
    return None


def _take_oldest(queue: deque[Waiter]) -> Waiter | None:
    """The same, taken out of the queue."""
    waiter = _oldest(queue)
    if waiter is not None:
        queue.popleft()
    return waiter
