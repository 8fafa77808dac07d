"""From the arguments of a transport to ``ClientSettings``: profile, explicit limits, wrong combinations.

Not responsible for the defaults of each setting (``policy.settings``) or for applying them.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from ..events import Observers
from ..http.client import ClientSettings
from ..http.h2_settings import DEAD_AFTER, Http2Settings
from ..http.pool import PoolLimits
from ..policy.checks import socket_options_of
from ..policy.profiles import Profile
from ..policy.profiles import profile as named_profile
from ..policy.settings import Heartbeat
from ..retrying import RetryPolicy
from ..telemetry import default_observer
from ._checks import Unset, check_arguments

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from ..events import Observer
    from ..http.proxy import Proxy
    from ..policy.settings import Keepalive, PoolPolicy

__all__ = ["client_settings"]

_MAX_CONNECTIONS: Final = 100
_MAX_IDLE: Final = 20


def client_settings(
    *,
    tls_context: Callable[[], ssl.SSLContext],
    http1: bool,
    http2: bool,
    limits: Any,
    proxy: Proxy | None,
    retries: int,
    uds: str | None,
    local_address: str | None,
    socket_options: Iterable[tuple[Any, ...]] | None,
    profile: str | Profile | None,
    keepalive: Keepalive | Unset | None,
    heartbeat: Heartbeat | Unset | None,
    pool: PoolPolicy | None,
    retry: RetryPolicy | Unset | None,
    tls_truncation: str,
    observers: Iterable[Observer],
) -> ClientSettings:
    """Check the arguments and put them together.

    Raises:
        TypeError, ValueError: An argument is wrong, or does not go with another one; the message says which.
    """
    check_arguments(
        {
            "limits": limits,
            "retries": retries,
            "proxy": proxy,
            "uds": uds,
            "local_address": local_address,
            "profile": profile,
            "keepalive": keepalive,
            "heartbeat": heartbeat,
            "pool": pool,
            "retry": retry,
            "tls_truncation": tls_truncation,
            "observers": observers,
        }
    )
    _check_versions(http1=http1, http2=http2)
    chosen = profile if isinstance(profile, Profile) else named_profile("default" if profile is None else profile)
    policy = pool if pool is not None and profile is None else chosen.pool(pool)
    if isinstance(retry, Unset):
        retry = RetryPolicy(names_may_appear=chosen.names_may_appear)
    elif retry is None:
        retry = RetryPolicy(stop=_at_once)
    if isinstance(keepalive, Unset):
        keepalive = chosen.keepalive
    return ClientSettings(
        tls_context=tls_context,
        limits=_limits(limits, policy),
        pool=policy,
        keepalive=keepalive,
        profile=chosen,
        silence=heartbeat.timeout if isinstance(heartbeat, Heartbeat) else None,
        retry=retry,
        connect_rounds=retries + 1 if retries else None,
        observers=Observers((default_observer(), *observers)),
        tls_truncation=tls_truncation,
        uds=uds,
        local_address=local_address,
        socket_options=socket_options_of(socket_options or ()),
        http1=http1,
        http2=_http2(chosen, heartbeat, keepalive, policy) if http2 else None,
        proxy=proxy,
    )


def _check_versions(*, http1: bool, http2: bool) -> None:
    """Whether the versions of HTTP that are asked for can be spoken.

    Raises:
        ValueError: None is left.
        ImportError: HTTP/2 needs a library that is not installed.
    """
    if not http1 and not http2:
        message = "http1=False and http2=False leave no version of HTTP; switch one of them on"
        raise ValueError(message)
    if http2 and find_spec("h2") is None:
        message = "http2=True needs the package h2, which is not installed: pip install 'holdwire[http2]'"
        raise ImportError(message)


def _http2(
    chosen: Profile, heartbeat: Heartbeat | Unset | None, keepalive: Keepalive | None, policy: PoolPolicy
) -> Http2Settings:
    """The settings of HTTP/2: the profile's heartbeat unless one is given; without either the default schedule."""
    beat = chosen.heartbeat if isinstance(heartbeat, Unset) else heartbeat
    dead_after = None if keepalive is None else keepalive.dead_after
    return Http2Settings(
        pings=heartbeat is not None,
        heartbeat=beat,
        dead_after=DEAD_AFTER if dead_after is None else dead_after,
        max_requests=policy.max_requests,
    )


def _limits(limits: Any, policy: PoolPolicy) -> PoolLimits:
    """Explicit limits to the letter; without any, the policy's numbers."""
    if limits is None:
        return PoolLimits(
            max_connections=_MAX_CONNECTIONS,
            max_idle=_MAX_IDLE,
            idle=policy.idle,
            max_requests=policy.max_requests,
            learn=policy.learn == "apply",
        )
    return PoolLimits(
        max_connections=limits.max_connections,
        max_idle=limits.max_keepalive_connections,
        idle=limits.keepalive_expiry,
        max_requests=policy.max_requests,
    )


def _at_once(_: Any) -> bool:
    """The stop rule of ``retry=None``: no counted retry at all."""
    return True
