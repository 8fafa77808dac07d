"""``Origins``: what a pool knows of each origin: its connections, who waits for one, and what is counted.

Origins that nothing is open to are kept only up to a number, so that a crawler's pool does not grow without end; their
counts are handed to telemetry first. Not responsible for who gets a connection (``pool``).
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from .connection import HttpConnection
    from .messages import Origin
    from .waiters import Waiter

__all__ = ["CROWDED", "OriginState", "OriginStats", "Origins"]

_USUAL_WIDTH: Final = 100
"""Requests at a time that a shared connection is expected to allow, as RFC 9113, section 6.5.2 wants it."""
_LEAST_LIMIT: Final = 1024
CROWDED: Final = 1.0
"""Seconds in which no further connection is tried for, after one did not come about while others live."""


class OriginStats:
    """What happened at one origin, in plain integers: all that a request which goes well costs telemetry."""

    __slots__ = ("closed", "failed", "ok", "opened", "recovered", "reused")

    def __init__(self) -> None:
        self.ok = self.recovered = self.failed = self.opened = self.reused = 0
        self.closed: dict[str, int] = {}


class OriginState:
    """The pool's view of one origin."""

    __slots__ = (
        "asking",
        "connecting",
        "connections",
        "crowded_until",
        "idle",
        "queue",
        "shared",
        "sharing",
        "stats",
        "waiting",
        "width",
    )

    def __init__(self) -> None:
        self.idle: dict[HttpConnection, None] = {}
        self.shared: dict[HttpConnection, None] = {}
        self.queue: deque[Waiter] = deque()
        self.connecting = self.connections = 0
        """Connections that are being opened, and those that stand."""
        self.sharing: bool | None = None
        """Whether connections to the origin can be shared; None while nobody knows."""
        self.width = _USUAL_WIDTH
        """How many requests the last one of them allowed at a time."""
        self.waiting = self.asking = 0
        """Requests without a connection, and how many of them are to open one."""
        self.crowded_until = 0.0
        self.stats = OriginStats()

    def crowded(self) -> None:
        """The server takes no further connection now."""
        self.crowded_until = time.monotonic() + CROWDED

    @property
    def is_crowded(self) -> bool:
        """Whether the streams that there are must do for now."""
        return self.crowded_until > 0 and time.monotonic() < self.crowded_until

    @property
    def coming(self) -> int:
        """Connections that will have streams to give: being opened, not settled yet, or asked for."""
        return self.connecting + self.asking + sum(not connection.width for connection in self.shared)

    @property
    def is_coming(self) -> bool:
        """Whether another request's connection will have a stream for one more request, if they can be shared."""
        if self.sharing is False:
            return False
        if self.is_crowded:
            return True
        if not self.coming:
            return False
        return self.sharing is None or self.waiting - self.asking < self.room

    @property
    def missing(self) -> int:
        """How many more connections those need who wait for one that another request opens."""
        followers = self.waiting - self.asking
        if self.sharing is False:
            return followers
        if followers and self.is_crowded:
            return 0
        if self.sharing is None:
            return int(followers > 0 and not self.coming)
        return max(-(-(followers - self.room) // self.width), 0)

    @property
    def room(self) -> int:
        """Requests that will find a place on the connections that are coming, beside those these are opened for."""
        return self.coming * (self.width - 1)


class Origins(dict["Origin", OriginState]):
    """See the module: a dictionary, so that a request's look-up costs no call; a state is made where there is none.

    ``settle`` is called before origins are forgotten and after it.
    """

    __slots__ = ("_limit", "_settle")

    def __init__(self, settle: Callable[[], None]) -> None:
        super().__init__()
        self._limit = _LEAST_LIMIT
        self._settle = settle

    def __missing__(self, origin: Origin) -> OriginState:
        if len(self) >= self._limit:
            self._forget()
        state = self[origin] = OriginState()
        return state

    def queues(self) -> list[deque[Waiter]]:
        """Who waits, by origin."""
        return [state.queue for state in self.values()]

    def _forget(self) -> None:
        self._settle()
        for origin, state in list(self.items()):
            if not (state.connections or state.connecting or state.waiting):
                del self[origin]
        self._settle()
        self._limit = max(_LEAST_LIMIT, 2 * len(self))

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
                "active": state.connections - len(state.idle),
                "http_version": "2" if state.sharing else "1.1",
            }
            for origin, state in list(self.items())
        ]
