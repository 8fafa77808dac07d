"""``IdleConnections``: the connections of a pool that are at rest, in two orders, and which of them are over.

For each origin they are kept last in, first out, so that old ones die early; over all origins by the time at which they
became idle, so that the oldest can make room. Every operation but ``over`` is O(1); it is a dictionary, so that the
most usual ones cost no call. Not responsible for watching them (``HttpConnection.rest``), for how many there may be, or
for the timer that looks through them (``pool``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ..events import CloseReason
from ..policy.kind import Category

if TYPE_CHECKING:
    from .connection import HttpConnection
    from .origin_memory import OriginMemory
    from .origins import OriginState

__all__ = ["SPREADING", "IdleConnections"]

SPREADING: Final = frozenset({Category.TIMED_OUT, Category.UNREACHABLE})
"""Failures after which other connections to the same address are suspect."""
_LEAST_SWEEP: Final = 0.05
_MOST_SWEEP: Final = 5.0
_SWEEPS: Final = 10
"""Times that the idle connections are looked through while one of them reaches its idle limit, at most."""
_SELDOM: Final = 30.0
"""Seconds between two looks for connections that are too old, where nothing limits how long they idle."""
_LOOK_AFTER: Final = 1.0
"""Seconds of idling after which every connection is looked at before it is used again."""
_SUSPECTS: Final = 256


class IdleConnections(dict["HttpConnection", None]):
    """See the module; those that have been idle longest come first.

    Args:
        limit: Seconds that one may idle; None for no limit.
        memory: The idle limits that were learnt.
        learn: Whether those end connections.
    """

    __slots__ = ("_learn", "_limit", "_memory", "_suspects")

    def __init__(self, *, limit: float | None, memory: OriginMemory, learn: bool) -> None:
        super().__init__()
        self._limit = limit
        self._memory = memory
        self._learn = learn
        self._suspects: dict[str, float] = {}
        """Addresses, and when a path to them looked dead: what had been idle by then is not to be trusted."""

    def put(self, connection: HttpConnection, state: OriginState) -> None:
        """``connection`` has come to rest."""
        state.idle[connection] = self[connection] = None

    def remove(self, connection: HttpConnection, state: OriginState) -> None:
        """It is at rest no more."""
        del self[connection]
        state.idle.pop(connection, None)

    def take(self, state: OriginState, *, look: bool) -> HttpConnection | None:
        """The one of an origin that became idle last, if it is still good; ``look`` to see that it is now."""
        idle = state.idle
        aside: list[HttpConnection] | None = None
        found: HttpConnection | None = None
        while idle and found is None:
            connection, _ = idle.popitem()
            del self[connection]
            now = time.monotonic()
            reason = self._is_over(connection, now)
            if reason is not None:
                connection.end(reason)
            elif connection.capacity < 1:  # alive, but it takes nothing now
                aside = [*(aside or ()), connection]
            else:
                connection.wake()
                if not (look or now - connection.idle_since > _LOOK_AFTER) or connection.looks_alive():
                    found = connection
        for connection in aside or ():
            self.put(connection, state)
        return found

    def suspect(self, peer: str) -> None:
        """A path to the address ``peer`` looks dead."""
        self._suspects.pop(peer, None)
        self._suspects[peer] = time.monotonic()
        if len(self._suspects) > _SUSPECTS:
            del self._suspects[next(iter(self._suspects))]

    def _is_over(self, connection: HttpConnection, now: float) -> CloseReason | None:
        """Why an idle connection is not to be used again; None if it may be."""
        idle = now - connection.idle_since
        learnt = self._memory.idle_limit(connection.origin, now) if self._learn else None
        if (
            (self._limit is not None and idle >= self._limit)
            or (connection.idle_limit is not None and idle >= connection.idle_limit)
            or (learnt is not None and idle >= learnt)
        ):
            return CloseReason.IDLE
        if now >= connection.expires:
            return CloseReason.MAX_AGE
        if self._suspects and connection.idle_since <= self._suspects.get(connection.wire.peer or "", -1.0):
            return CloseReason.FAILURE
        return None

    def over(self) -> list[tuple[HttpConnection, CloseReason]]:
        """Those that have idled for too long or are too old, each with the reason to end it."""
        now = time.monotonic()
        judged = [(connection, self._is_over(connection, now)) for connection in self]
        return [(connection, reason) for connection, reason in judged if reason is not None]

    @property
    def next_look(self) -> float | None:
        """Seconds until one of them may be over; None if there is none."""
        if not self:
            return None
        limits = (self._limit, self._memory.least_idle_limit)
        limit = min((one for one in limits if one is not None), default=None)
        if limit is None:
            return _SELDOM
        oldest = next(iter(self))
        pause = min(max(limit / _SWEEPS, _LEAST_SWEEP), _MOST_SWEEP)
        return max(oldest.idle_since + limit - time.monotonic(), pause)
