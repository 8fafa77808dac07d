"""``wrap``: makes a client resilient that somebody else has built, before its first request.

It reads private fields of the client and of its pools; a test pins every one of them against the installed httpx and
httpx2. Not responsible for clients that are in use: their connections have an owner already.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from ..telemetry.instrumentation import family_of

if TYPE_CHECKING:
    from ._family import Family

__all__ = ["wrap"]

logger = logging.getLogger("holdwire")

ClientT = TypeVar("ClientT")


def wrap(client: ClientT, **settings: Any) -> ClientT:
    """Replace the stock transports of ``client``, those of its mounts too, by resilient ones with the same settings.

    TLS contexts, HTTP versions, limits, proxies, Unix sockets and socket options are kept; limits that are httpx's
    defaults count as not given. Transports of other kinds stay as they are, with a warning in the log.

    Args:
        client: An ``AsyncClient`` of httpx or httpx2, or of a subclass, that has made no request.
        settings: Those of ``ResilientTransport`` that ``AsyncHTTPTransport`` does not have: ``profile``, ``retry`` ...

    Returns:
        ``client``.

    Raises:
        TypeError: It is no asynchronous client, or a setting is unknown.
        ValueError: It has been used, or instrumented by itself.
    """
    any_client: Any = client
    try:
        name = family_of(client)
    except TypeError as exc:
        message = f"wrap() takes an AsyncClient of httpx or httpx2, not {type(client).__name__}: holdwire is async only"
        raise TypeError(message) from exc
    ours: Any = importlib.import_module(f"{__package__}.{name}").ResilientTransport
    family: Family = ours._family  # noqa: SLF001 - our own class
    if any_client._state.name != "UNOPENED":  # noqa: SLF001 - pinned by a test
        message = "wrap() comes before the first request: this client has been used or closed; make a new one"
        raise ValueError(message)
    replaced: dict[int, Any] = {}

    def replacement(transport: Any) -> Any:
        if id(transport) not in replaced:
            replaced[id(transport)] = _replacement(transport, ours, family, settings)
        return replaced[id(transport)]

    main = replacement(any_client._transport)  # noqa: SLF001
    mounts = {pattern: replacement(mounted) for pattern, mounted in any_client._mounts.items()}  # noqa: SLF001
    any_client._transport = main  # noqa: SLF001
    any_client._mounts = mounts  # noqa: SLF001
    return client


def _replacement(transport: Any, ours: Any, family: Family, settings: dict[str, Any]) -> Any:
    if transport is None or isinstance(transport, ours):
        return transport
    if type(transport) is not family.transport:
        logger.warning(
            "wrap() leaves a transport as it is: %s is not the stock AsyncHTTPTransport, and its requests do not go "
            "through holdwire",
            type(transport).__name__,
        )
        return transport
    if "handle_async_request" in vars(transport):
        message = "wrap() comes before instrument_client(): the instrumentation of this client would be lost"
        raise ValueError(message)
    pool = transport._pool  # noqa: SLF001 - pinned by a test
    if pool.connections:
        message = "wrap() comes before the first request: a transport of this client is in use elsewhere"
        raise ValueError(message)
    return ours(**_settings_of(pool, family), **settings)


def _settings_of(pool: Any, family: Family) -> dict[str, Any]:
    """The arguments of the transport whose stock pool this is."""
    limits = family.limits(
        max_connections=None if pool._max_connections == sys.maxsize else pool._max_connections,  # noqa: SLF001
        max_keepalive_connections=None
        if pool._max_keepalive_connections == sys.maxsize  # noqa: SLF001
        else pool._max_keepalive_connections,  # noqa: SLF001
        keepalive_expiry=pool._keepalive_expiry,  # noqa: SLF001
    )
    return {
        "verify": pool._ssl_context,  # noqa: SLF001
        "http1": pool._http1,  # noqa: SLF001
        "http2": pool._http2,  # noqa: SLF001
        "limits": None if limits == family.default_limits else limits,
        "proxy": _proxy_of(pool, family),
        "uds": pool._uds,  # noqa: SLF001
        "local_address": pool._local_address,  # noqa: SLF001
        "retries": pool._retries,  # noqa: SLF001
        "socket_options": pool._socket_options,  # noqa: SLF001
    }


def _proxy_of(pool: Any, family: Family) -> Any:
    """The proxy of a stock pool; what it sends to an HTTP proxy as credentials is among its headers already."""
    url = getattr(pool, "_proxy_url", None)
    if url is None:
        return None
    host = url.host.decode("ascii")
    host = f"[{host}]" if ":" in host else host
    port = "" if url.port is None else f":{url.port}"
    auth = getattr(pool, "_proxy_auth", None)
    return family.proxy(
        f"{url.scheme.decode('ascii')}://{host}{port}",
        ssl_context=getattr(pool, "_proxy_ssl_context", None),
        auth=None if auth is None else tuple(part.decode("utf-8") for part in auth),
        headers=getattr(pool, "_proxy_headers", None),
    )
