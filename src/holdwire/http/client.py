"""``HttpClient``: the settings of one transport, and its pools: one for each runtime that uses it.

State belongs to one (process, event loop or trio run): a client that is used by two loops, one after the other or in
two threads, has two pools. What belongs to a loop that is over, or to another process, is dropped by a plain close of
its descriptors, without touching the old loop. A collected client closes its sockets.
Not responsible for requests (``exchange``) or for the types of any client library (``transports``).
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import TransportClosed
from ..events import CloseReason, Observers, register_snapshots, register_stats
from ..net.dial import AddressMemory
from ..net.runtime import current
from ..policy.profiles import profile as named_profile
from ..policy.settings import Keepalive, PoolPolicy
from ..retrying import RetryPolicy
from ..switches import retries_off
from ..telemetry import settle
from ..tls.session import SessionCache
from .connector import Connector
from .exchange import Exchange
from .path_watch import PathWatch
from .pool import Pool, PoolLimits
from .snapshot import pool_snapshot

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine

    from ..net.runtime import Runtime
    from ..policy.profiles import Profile
    from .h2_settings import Http2Settings
    from .messages import Request, Response
    from .proxy import Proxy

__all__ = ["ClientSettings", "HttpClient"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Everything a transport can be told; the defaults are the product."""

    tls_context: Callable[[], ssl.SSLContext]
    limits: PoolLimits = field(default_factory=PoolLimits)
    pool: PoolPolicy = field(default_factory=PoolPolicy)
    keepalive: Keepalive | None = field(default_factory=Keepalive)
    profile: Profile = field(default_factory=lambda: named_profile("default"))
    """What is known of the path; its numbers are in the other settings already."""
    silence: float | None = None
    """A heartbeat time-out that the user gave: so long a silence under a waiting request is enough."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    connect_rounds: int | None = None
    observers: Observers = field(default_factory=Observers)
    tls_truncation: str = "error"
    uds: str | None = None
    local_address: str | None = None
    socket_options: tuple[tuple[Any, ...], ...] = ()
    http1: bool = True
    http2: Http2Settings | None = None
    """None for HTTP/1.1 alone."""
    proxy: Proxy | None = None


class _Lane:
    """What one runtime has: a pool and the exchange on top of it."""

    __slots__ = ("exchange", "path_watch", "pool", "runtime")

    def __init__(self, runtime: Runtime, pool: Pool, exchange: Exchange, path_watch: PathWatch) -> None:
        self.runtime = runtime
        self.pool = pool
        self.exchange = exchange
        self.path_watch = path_watch


class HttpClient:
    """See the module."""

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._lanes: dict[int, _Lane] = {}
        self._lane: _Lane | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._sessions = SessionCache()
        self._memory = AddressMemory()
        self._budget = settings.retry.new_budget()
        self._finalizer = weakref.finalize(self, _close_lanes, self._lanes)
        register_snapshots(self)

    def send(self, request: Request) -> Coroutine[Any, Any, Response]:
        """To be awaited: the answer to ``request``; see ``Exchange.send``.

        Raises:
            TransportClosed: The transport was closed.
        """
        lane = self._lane
        if lane is None or not lane.runtime.is_current():
            lane = self._find_lane()
        if self.settings.proxy is not None:
            self.settings.proxy.prepare(request)
        sending = lane.exchange.send(request)
        return sending if request.spans is None else request.spans.around(sending)

    def open(self) -> None:
        """Make a closed client usable again: entering it says that it is wanted."""
        self._closed = False

    async def aclose(self) -> None:
        """Close every connection, also those of other loops and threads. May be called again."""
        self._closed = True
        with self._lock:
            self._lane = None
            _close_lanes(self._lanes)

    async def drain(self) -> None:
        """Take no more requests, wait for those in progress in this loop, then close everything."""
        lane = self._lanes.get(id(current()))  # the last one used may be another loop's
        if lane is not None:
            await lane.pool.drain()
        await self.aclose()

    @property
    def pools(self) -> list[Pool]:
        """The pools of all runtimes."""
        return [lane.pool for lane in list(self._lanes.values())]

    def snapshot(self) -> list[dict[str, Any]]:
        """What every pool is doing: see ``pool_snapshot``."""
        return [entry for pool in self.pools for entry in pool_snapshot(pool, self._budget)]

    def _find_lane(self) -> _Lane:
        if self._closed:
            message = "the transport was closed and cannot be used again; make a new client, or enter this one anew"
            raise TransportClosed(message)
        runtime = current()
        with self._lock:
            for key, lane in list(self._lanes.items()):
                if lane.runtime.is_over():
                    del self._lanes[key]
                    lane.pool.close(CloseReason.FOREIGN)
                    settle(lane.pool)
            found = self._lanes.get(id(runtime))
            if found is None:
                found = self._lanes[id(runtime)] = self._make_lane(runtime)
            self._lane = found
        return found

    def _make_lane(self, runtime: Runtime) -> _Lane:
        settings = self.settings
        connector = Connector(
            tls_context=settings.tls_context,
            sessions=self._sessions,
            memory=self._memory,
            notify=settings.observers,
            keepalive=settings.keepalive,
            policy=settings.pool,
            truncation=settings.tls_truncation,
            uds=settings.uds,
            local_address=settings.local_address,
            socket_options=settings.socket_options,
            http1=settings.http1,
            http2=settings.http2,
            proxy=settings.proxy,
        )
        pool = Pool(
            connector.connect,
            limits=settings.limits,
            sharable=connector.sharable,
            notify=settings.observers,
        )
        connector.learnt = pool.memory
        rules = settings.retry.rules(switched_off=retries_off(), connect_rounds=settings.connect_rounds)
        exchange = Exchange(pool, policy=settings.retry, rules=rules, budget=self._budget, notify=settings.observers)
        path_watch = PathWatch(
            pool,
            exchange,
            keepalive=settings.keepalive,
            profile=settings.profile,
            silence=settings.silence,
            notify=settings.observers,
        )
        pool.on_busy, pool.on_close = path_watch.start, path_watch.stop
        register_stats(pool)
        return _Lane(runtime, pool, exchange, path_watch)


def _close_lanes(lanes: dict[int, _Lane]) -> None:
    """Close all pools, each in its own loop; from any thread, and at the end of the process too."""
    for lane in list(lanes.values()):
        pool, runtime = lane.pool, lane.runtime
        if runtime.is_current():
            pool.close()
        elif runtime.is_over() or not runtime.call_soon_threadsafe(pool.close):
            pool.close(CloseReason.FOREIGN)
        settle(pool)
    lanes.clear()
