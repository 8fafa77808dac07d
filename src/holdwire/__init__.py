"""holdwire keeps the connections of async Python programs alive, says why one died, and brings it back.

Importing this package imports no HTTP library: names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .errors import (
        ClosedError,
        ConnectFailed,
        ConnectionLost,
        DeadlineExceeded,
        Fatal,
        HeartbeatLost,
        HoldwireError,
        LocalProtocolError,
        LoginRefused,
        ProxyError,
        RemoteProtocolError,
        SessionDown,
        failure_of,
    )
    from .events import Observer, snapshot
    from .http.tunnel import Tunnel
    from .net.asyncio_view import asyncio_streams
    from .policy.backoff import Backoff
    from .policy.budget import RetryBudget
    from .policy.failure import Failure
    from .policy.fate import Fate
    from .policy.kind import Category, Kind
    from .policy.phase import Delivery, Phase, Sent
    from .policy.profiles import Profile, profile_names
    from .policy.settings import Heartbeat, Keepalive, PoolPolicy
    from .retrying import ReconnectPolicy, RetryPolicy
    from .sessions import probes
    from .sessions.connect import connect
    from .sessions.event_stream import ServerSentEvent
    from .sessions.session import Session
    from .sessions.sessions import Sessions, sessions
    from .sessions.statistics import Statistics, StreamAttribute
    from .sessions.stream import Stream
    from .switches import set_testing
    from .telemetry import recent_failures
    from .transports.httpx import AsyncClient, ResilientTransport
    from .transports.sse import EventSource, sse
    from .transports.wrap import wrap

__all__ = [
    "AsyncClient",
    "Backoff",
    "Category",
    "ClosedError",
    "ConnectFailed",
    "ConnectionLost",
    "DeadlineExceeded",
    "Delivery",
    "EventSource",
    "Failure",
    "Fatal",
    "Fate",
    "Heartbeat",
    "HeartbeatLost",
    "HoldwireError",
    "Keepalive",
    "Kind",
    "LocalProtocolError",
    "LoginRefused",
    "Observer",
    "Phase",
    "PoolPolicy",
    "Profile",
    "ProxyError",
    "ReconnectPolicy",
    "RemoteProtocolError",
    "ResilientTransport",
    "RetryBudget",
    "RetryPolicy",
    "Sent",
    "ServerSentEvent",
    "Session",
    "SessionDown",
    "Sessions",
    "Statistics",
    "Stream",
    "StreamAttribute",
    "Tunnel",
    "asyncio_streams",
    "connect",
    "failure_of",
    "probes",
    "profile_names",
    "recent_failures",
    "sessions",
    "set_testing",
    "snapshot",
    "sse",
    "wrap",
]

_HOMES: Final[dict[str, tuple[str, ...]]] = {
    "errors": (
        "ClosedError",
        "ConnectFailed",
        "ConnectionLost",
        "DeadlineExceeded",
        "Fatal",
        "HeartbeatLost",
        "HoldwireError",
        "LocalProtocolError",
        "LoginRefused",
        "ProxyError",
        "RemoteProtocolError",
        "SessionDown",
        "failure_of",
    ),
    "events": ("Observer", "snapshot"),
    "policy.budget": ("RetryBudget",),
    "http.tunnel": ("Tunnel",),
    "net.asyncio_view": ("asyncio_streams",),
    "policy.backoff": ("Backoff",),
    "policy.failure": ("Failure",),
    "policy.fate": ("Fate",),
    "policy.kind": ("Category", "Kind"),
    "policy.phase": ("Delivery", "Phase", "Sent"),
    "policy.profiles": ("Profile", "profile_names"),
    "policy.settings": ("Heartbeat", "Keepalive", "PoolPolicy"),
    "retrying": ("ReconnectPolicy", "RetryPolicy"),
    "sessions": ("probes",),
    "sessions.connect": ("connect",),
    "sessions.event_stream": ("ServerSentEvent",),
    "sessions.session": ("Session",),
    "sessions.sessions": ("Sessions", "sessions"),
    "sessions.statistics": ("Statistics", "StreamAttribute"),
    "sessions.stream": ("Stream",),
    "switches": ("set_testing",),
    "telemetry": ("recent_failures",),
    "transports.httpx": ("AsyncClient", "ResilientTransport"),
    "transports.sse": ("EventSource", "sse"),
    "transports.wrap": ("wrap",),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    home = _HOME_OF.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    # importing a part of the package ``sessions`` has set that name: the package can be called, so it stays
    return globals().setdefault(name, getattr(importlib.import_module(f"{__name__}.{home}"), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
