"""What a pool is doing at this moment, in the manner of gRPC's channelz: plain values that JSON can hold.

Taken on request, from any thread, without stopping anything: numbers of two connections may be a moment apart. Never
a URL, header or payload. Not responsible for what is counted (``origins``) or learnt (``origin_memory``).
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from anyio.abc import SocketAttribute

from ..net.keepalive import effective
from ..policy.flight import narrate

if TYPE_CHECKING:
    from ..net.wire import Wire
    from ..policy.budget import RetryBudget
    from ..policy.failure import Failure
    from ..policy.idle_limit import IdleEstimate
    from ..policy.tcp_info import TcpInfo
    from .connection import HttpConnection
    from .messages import Origin
    from .pool import Pool

__all__ = ["pool_snapshot"]

_ATTEMPTS = 3


def pool_snapshot(pool: Pool, budget: RetryBudget) -> list[dict[str, Any]]:
    """One mapping for each origin, its connections in it.

    ``requests`` and ``closed`` count since the pool was made; ``waiting`` requests have no connection yet; ``budget``
    is how many retries are left; ``idle_limit`` is what was learnt of the path, and whether it applies;
    ``last_failure`` says what, when and why. Of each connection: state, age, idle time, requests, streams, bytes,
    addresses, round trips of heartbeats, keepalive as it is set, the kernel's TCP_INFO, and what happened on it last.
    """
    by_origin: dict[Origin, list[dict[str, Any]]] = {}
    now = time.monotonic()
    for connection in _connections(pool):
        by_origin.setdefault(connection.origin, []).append(_connection(connection, now))
    return [
        {
            "scheme": origin.scheme,
            "host": origin.host,
            "port": origin.port,
            "http_version": "2" if state.sharing else "1.1",
            "requests": {
                "ok": state.stats.ok,
                "recovered": state.stats.recovered,
                "failed": state.stats.failed,
                "reused": state.stats.reused,
            },
            "opened": state.stats.opened,
            "closed": {str(reason): number for reason, number in state.stats.closed.items()},
            "connecting": state.connecting,
            "waiting": state.waiting,
            "budget": budget.of(origin).available(now),
            "idle_limit": _limit(pool.memory.estimate(origin), pool.memory.idle_limit(origin, now)),
            "last_failure": _failure(pool.memory.last_failure(origin)),
            "connections": by_origin.get(origin, []),
        }
        for origin, state in pool.origins()
    ]


def _connections(pool: Pool) -> list[HttpConnection]:
    for _ in range(_ATTEMPTS):
        try:
            return pool.connections
        except RuntimeError:  # its own thread changes the number of them at this moment
            continue
    return []


def _connection(connection: HttpConnection, now: float) -> dict[str, Any]:
    wire = connection.wire
    facts = wire.facts()
    info = facts.get("tcp")
    return {
        "id": wire.id,
        "state": "closed" if connection.close_reason else "active" if connection.active else "idle",
        "phase": wire.phase.value,
        "http_version": connection.http_version,
        "age": round(now - connection.created, 3),
        "idle": 0.0 if connection.active else round(now - connection.idle_since, 3),
        "requests": connection.served,
        "streams": connection.active,
        "bytes_in": wire.bytes_in,
        "bytes_out": wire.bytes_out,
        "peer": facts.get("peer"),
        "peer_port": facts.get("peer_port"),
        "local_port": facts.get("local_port"),
        "via": facts.get("via"),
        "round_trips": [round(one, 6) for one in connection.round_trips],
        "outq": facts.get("outq"),
        "keepalive": _keepalive(wire),
        "tcp": None if info is None else _tcp(info),
        "failure": _failure(wire.failure),
        "flight": narrate(wire.flight.before(now)),
    }


def _keepalive(wire: Wire) -> dict[str, Any] | None:
    """What is set on the socket, read back from the kernel; None where there is no socket any more."""
    sock = wire.extra(SocketAttribute.raw_socket, None)  # noqa: S610 - anyio's, not Django's
    try:
        return None if sock is None else asdict(effective(sock))
    except OSError:
        return None


def _tcp(info: TcpInfo) -> dict[str, Any]:
    """What the kernel told; units as in ``TcpInfo``."""
    found = {name: getattr(info, name) for name in info.__slots__ if getattr(info, name) is not None}
    return {**found, "state": info.state.name.lower()}


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {
        "kind": failure.kind.value,
        "phase": failure.phase.value,
        "syscall": failure.syscall,
        "errno": failure.errno_name,
        "at": failure.at,
        "cause": failure.cause,
        "remedy": failure.remedy,
        "confidence": failure.confidence.value,
        "connection_id": failure.connection_id,
    }


def _limit(found: IdleEstimate | None, applied: float | None) -> dict[str, Any] | None:
    return None if found is None else {**found.as_dict(), "applied": applied}
