"""``ResilientTransport`` for httpx: a drop-in for ``httpx.AsyncHTTPTransport``.

It inherits ``handle_async_request``, so that whoever patches that method (OpenTelemetry's instrumentation,
pytest-httpx) keeps working, and gives it an adapter in place of the pool. Not responsible for anything behind that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import httpcore
import httpx

from ..http.client import HttpClient
from ..switches import is_off
from ._adapter import Adapter
from ._family import Family
from ._settings import UNSET, Unset, client_settings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from ..events import Observer
    from ..policy.profiles import Profile
    from ..policy.settings import Keepalive, PoolPolicy
    from ..retrying import RetryPolicy

__all__ = ["ResilientTransport"]

_FAMILY = Family(httpx, httpcore)


class ResilientTransport(httpx.AsyncHTTPTransport):
    """Sends the requests of an ``httpx.AsyncClient``, again where that is safe, and says why a connection died.

    Every argument of ``httpx.AsyncHTTPTransport`` has the same meaning. ``limits`` that are given hold to the letter;
    without them ``pool`` (or the profile) says how long connections idle. ``profile`` sets keepalive and pool for a
    known path, see ``holdwire.profile_names``; each can be given alone, and None switches keepalive or retry off.

    Raises:
        TypeError, ValueError: An argument is wrong; the message names it and says what to give.
    """

    def __init__(
        self,
        verify: ssl.SSLContext | str | bool = True,  # noqa: FBT001, FBT002 - httpx's signature
        cert: Any = None,
        trust_env: bool = True,  # noqa: FBT001, FBT002 - httpx's signature
        http1: bool = True,  # noqa: FBT001, FBT002 - httpx's signature
        http2: bool = False,  # noqa: FBT001, FBT002 - httpx's signature
        limits: httpx.Limits | None = None,
        proxy: Any = None,
        uds: str | None = None,
        local_address: str | None = None,
        retries: int = 0,
        socket_options: Iterable[tuple[Any, ...]] | None = None,
        *,
        profile: str | Profile | None = None,
        keepalive: Keepalive | Unset | None = UNSET,
        pool: PoolPolicy | None = None,
        retry: RetryPolicy | Unset | None = UNSET,
        tls_truncation: str = "error",
        observers: Iterable[Observer] = (),
    ) -> None:
        context = httpx.create_ssl_context(verify=verify, cert=cert, trust_env=trust_env)
        settings = client_settings(
            tls_context=lambda: context,
            limits=limits,
            retries=retries,
            uds=uds,
            local_address=local_address,
            socket_options=socket_options,
            profile=profile,
            keepalive=keepalive,
            pool=pool,
            retry=retry,
            tls_truncation=tls_truncation,
            observers=observers,
        )
        if is_off():
            stock: dict[str, Any] = {} if limits is None else {"limits": limits}
            super().__init__(
                verify=context,
                http1=http1,
                http2=http2,
                proxy=proxy,
                uds=uds,
                local_address=local_address,
                retries=retries,
                socket_options=settings.socket_options,
                **stock,
            )
            return
        self._client = HttpClient(settings)
        self._pool: Any = Adapter(_FAMILY, self._client)

    def handle_request(self, request: Any) -> NoReturn:
        """Refuse a sync client.

        Raises:
            TypeError: Always.
        """
        del request
        message = "async only: use httpx.AsyncClient with this transport"
        raise TypeError(message)

    def close(self) -> None:
        """Refuse a sync client's end as quietly as possible: it never held anything."""

    def __enter__(self) -> NoReturn:
        message = "async only: use httpx.AsyncClient with this transport"
        raise TypeError(message)

    def __exit__(self, *_: object) -> None:
        """For the type of a context manager only: entering refuses."""

    async def drain(self) -> None:
        """Take no more requests, wait for those in progress in this loop, then close every connection."""
        await self._client.drain()

    def snapshot(self) -> list[dict[str, Any]]:
        """What there is now, one mapping for each origin."""
        return self._client.stats()
