"""``WeakPool``: a pool as its connections and timers know it: weakly, so that none of them keeps it alive.

What a pool that was collected is told is lost, but for a connection that could be used again: it ends, for nobody will.
Not responsible for what a pool does when it is told (``pool``).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from ..events import CloseReason

if TYPE_CHECKING:
    from ..policy.failure import Failure
    from .connection import HttpConnection
    from .messages import Origin
    from .origins import OriginState
    from .pool import Pool

__all__ = ["WeakPool"]


class WeakPool:
    """See the module; each method is the pool's of the same name."""

    __slots__ = ("_pool",)

    def __init__(self, pool: Pool) -> None:
        self._pool = weakref.ref(pool)

    def on_end(self, connection: HttpConnection, reason: CloseReason, failure: Failure | None) -> None:
        pool = self._pool()
        if pool is not None:
            pool.on_end(connection, reason, failure)

    def on_idle(self, connection: HttpConnection) -> None:
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

    def give_back(self, connection: HttpConnection) -> None:
        pool = self._pool()
        if pool is not None:
            pool.give_back(connection)
        else:
            connection.end(CloseReason.ACLOSE)

    def explain(self, origin: Origin, failure: Failure, idle: float) -> Failure:
        pool = self._pool()
        return failure if pool is None else pool.explain(origin, failure, idle)
