"""``ResilientClient``: what makes a family's ``AsyncClient`` build resilient transports, the proxies' ones too.

A client that is given a ``transport`` ignores the environment's proxies (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY),
and ``proxy=`` builds a stock transport beside it. So the two private methods with which a client builds its transports
are replaced; a test pins them. Not responsible for which proxy is meant for which URL: that stays the family's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ._checks import UNSET, Unset
from ._proxy import proxy_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..events import Observer
    from ..policy.profiles import Profile
    from ..policy.settings import Heartbeat, Keepalive, PoolPolicy
    from ..retrying import RetryPolicy
    from ._family import Family

__all__ = ["ResilientClient"]


class ResilientClient:
    """An ``AsyncClient`` whose every request goes through holdwire, whatever proxy the environment names for it.

    Every argument of ``AsyncClient`` has the same meaning, those of ``ResilientTransport`` come besides; ``limits``
    that are given hold for each transport, as in httpx.

    Raises:
        TypeError: ``transport`` is given together with settings for the transports that are built without it.
        TypeError, ValueError, ImportError: As ``ResilientTransport``.
    """

    _family: ClassVar[Family]
    _resilient: ClassVar[Any]

    def __init__(
        self,
        *,
        limits: Any = None,
        transport: Any = None,
        local_address: str | None = None,
        retries: int = 0,
        socket_options: Iterable[tuple[Any, ...]] | None = None,
        profile: str | Profile | None = None,
        keepalive: Keepalive | Unset | None = UNSET,
        heartbeat: Heartbeat | Unset | None = UNSET,
        pool: PoolPolicy | None = None,
        retry: RetryPolicy | Unset | None = UNSET,
        tls_truncation: str = "error",
        observers: Iterable[Observer] = (),
        **options: Any,
    ) -> None:
        self._resilience: dict[str, Any] = {
            "local_address": local_address,
            "retries": retries,
            "socket_options": None if socket_options is None else tuple(socket_options),
            "profile": profile,
            "keepalive": keepalive,
            "heartbeat": heartbeat,
            "pool": pool,
            "retry": retry,
            "tls_truncation": tls_truncation,
            "observers": tuple(observers),
        }
        given = [name for name, value in self._resilience.items() if value != _DEFAULTS[name]]
        if transport is not None and given:
            message = f"transport= and {', '.join(given)} do not go together: give the settings to that transport"
            raise TypeError(message)
        self._resilience["limits"] = limits
        if limits is not None:
            options["limits"] = limits
        proxy_of(self._family, options.get("proxy"))  # its words about a wrong one hold no password
        self._family.client.__init__(self, transport=transport, **options)

    def _init_transport(self, *args: Any, transport: Any = None, **options: Any) -> Any:
        if transport is not None:
            return transport
        return self._resilient(*args, **(options | self._resilience))

    def _init_proxy_transport(self, proxy: Any, *args: Any, **options: Any) -> Any:
        return self._resilient(*args, proxy=proxy, **(options | self._resilience))


_DEFAULTS = {
    "local_address": None,
    "retries": 0,
    "socket_options": None,
    "profile": None,
    "keepalive": UNSET,
    "heartbeat": UNSET,
    "pool": None,
    "retry": UNSET,
    "tls_truncation": "error",
    "observers": (),
}
