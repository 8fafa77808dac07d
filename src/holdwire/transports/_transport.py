"""``Resilient``: what makes a family's ``AsyncHTTPTransport`` a holdwire transport; the first base of either class.

An adapter stands in place of the pool. As long as nobody has patched the family's ``handle_async_request`` (as
OpenTelemetry's instrumentation and pytest-httpx do) requests go straight to it; otherwise by way of that method, which
then calls the adapter as its pool: no patch is passed by. Nothing here imports a family: a class whose bases mix two
would be refused by the SDKs that check. Not responsible for anything behind the adapter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from ..http.client import HttpClient
from ..switches import is_off
from ._adapter import Adapter
from ._checks import UNSET, Unset
from ._proxy import proxy_of
from ._settings import client_settings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable
    from types import CoroutineType

    from ..events import Observer
    from ..policy.profiles import Profile
    from ..policy.settings import Heartbeat, Keepalive, PoolPolicy
    from ..retrying import RetryPolicy
    from ._family import Family

__all__ = ["Resilient"]

_ASYNC_ONLY = "async only: use httpx.AsyncClient with this transport"


class Resilient:
    """Sends the requests of an ``AsyncClient``, again where that is safe, and says why a connection died.

    Every argument of ``AsyncHTTPTransport`` has the same meaning. ``limits`` that are given hold to the letter;
    without them ``pool`` (or the profile) says how long connections idle. ``profile`` sets keepalive and pool for a
    known path, see ``holdwire.profile_names``; each can be given alone, and None switches keepalive, heartbeat or retry
    off. ``heartbeat`` replaces the default schedule of HTTP/2 PINGs by a fixed interval.

    Raises:
        ImportError: ``http2=True`` without the package h2 (``pip install 'holdwire[http2]'``).
        TypeError, ValueError: An argument is wrong; the message names it and says what to give.
        ImportError: A SOCKS proxy without the package socksio (``pip install 'holdwire[socks]'``).
    """

    _family: ClassVar[Family]
    _client: HttpClient
    _pool: Any

    def __init__(
        self,
        verify: ssl.SSLContext | str | bool = True,  # noqa: FBT001, FBT002 - httpx's signature
        cert: Any = None,
        trust_env: bool = True,  # noqa: FBT001, FBT002 - httpx's signature
        http1: bool = True,  # noqa: FBT001, FBT002 - httpx's signature
        http2: bool = False,  # noqa: FBT001, FBT002 - httpx's signature
        limits: Any = None,
        proxy: Any = None,
        uds: str | None = None,
        local_address: str | None = None,
        retries: int = 0,
        socket_options: Iterable[tuple[Any, ...]] | None = None,
        *,
        profile: str | Profile | None = None,
        keepalive: Keepalive | Unset | None = UNSET,
        heartbeat: Heartbeat | Unset | None = UNSET,
        pool: PoolPolicy | None = None,
        retry: RetryPolicy | Unset | None = UNSET,
        tls_truncation: str = "error",
        observers: Iterable[Observer] = (),
    ) -> None:
        family = self._family
        context = family.ssl_context(verify, cert, trust_env)
        settings = client_settings(
            tls_context=lambda: context,
            http1=http1,
            http2=http2,
            limits=limits,
            proxy=proxy_of(family, proxy),
            retries=retries,
            uds=uds,
            local_address=local_address,
            socket_options=socket_options,
            profile=profile,
            keepalive=keepalive,
            heartbeat=heartbeat,
            pool=pool,
            retry=retry,
            tls_truncation=tls_truncation,
            observers=observers,
        )
        if is_off():
            stock: dict[str, Any] = {} if limits is None else {"limits": limits}
            family.transport.__init__(
                self,
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
        self._pool = Adapter(family, self._client, self)

    def handle_async_request(self, request: Any) -> CoroutineType[Any, Any, Any]:
        """To be awaited, as ``AsyncHTTPTransport.handle_async_request``.

        Raises:
            TypeError: The request is one of another library.
        """
        family = self._family
        adapter = self._pool
        if not isinstance(request.stream, family.async_stream):
            raise TypeError(
                f"this transport is for {family.name}, and what came is no request of its AsyncClient: "
                "httpx takes holdwire.ResilientTransport, httpx2 takes holdwire.transports.httpx2.ResilientTransport"
            )
        if (
            adapter.__class__ is Adapter
            and family.untouched
            and "trace" not in request.extensions  # whose hooks are shown the core's request
        ):
            return adapter.send(request)  # type: ignore[return-value] # to mypy an async function returns a Coroutine
        sending: CoroutineType[Any, Any, Any] = family.transport.handle_async_request(self, request)
        return sending

    def handle_request(self, request: Any) -> NoReturn:
        """Refuse a sync client.

        Raises:
            TypeError: Always.
        """
        del request
        raise TypeError(_ASYNC_ONLY)

    def close(self) -> None:
        """Refuse a sync client's end as quietly as possible: it never held anything."""

    def __enter__(self) -> NoReturn:
        raise TypeError(_ASYNC_ONLY)

    def __exit__(self, *_: object) -> None:
        """For the type of a context manager only: entering refuses."""

    async def drain(self) -> None:
        """Take no more requests, wait for those in progress in this loop, then close every connection.

        A drain that is cancelled closes nothing that is in use, and requests are taken again: call ``aclose`` then.
        """
        if isinstance(self._pool, Adapter):
            await self._client.drain()
        else:
            await self._pool.aclose()

    def snapshot(self) -> list[dict[str, Any]]:
        """What there is now, one mapping for each origin; nothing with ``HOLDWIRE=off``."""
        return self._client.snapshot() if isinstance(self._pool, Adapter) else []
