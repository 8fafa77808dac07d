"""``Tunnel``: a proxy as the streams of ``holdwire.connect`` and ``holdwire.sessions`` want it, from a URL.

It is what they are given as ``proxy=``: they know where it is and that it opens a way, and nothing of HTTP or SOCKS.
Not responsible for what is said to the proxy (``proxy``), for dialling it, or for TLS.
"""

from __future__ import annotations

import ssl
from importlib.util import find_spec
from types import NoneType
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from ..policy.checks import check_type, split_url
from ..tls.context import ascii_name
from .messages import Origin, Request
from .proxy import NOT_A_PROXY, PROXY_SCHEMES, Proxy, basic_credentials

if TYPE_CHECKING:
    from ..net.wire import Wire

__all__ = ["Tunnel"]


class Tunnel:
    """A proxy that connects streams: ``Tunnel("http://user:password@proxy:3128")``, https:// or socks5:// likewise.

    Args:
        url: Scheme, credentials, host and port of the proxy.
        tls: The context for TLS with an https:// proxy itself; by default the system's authorities.

    Raises:
        ImportError: It speaks SOCKS, and the package socksio is missing (``pip install 'holdwire[socks]'``).
        TypeError: An argument has the wrong type.
        ValueError: The URL names no proxy.
    """

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None) -> None:
        check_type("Tunnel", "url", url, str, give="a str")
        check_type("Tunnel", "tls", tls, (ssl.SSLContext, NoneType), give="an ssl.SSLContext or None")
        parts = split_url(url, otherwise=NOT_A_PROXY)
        if parts.scheme not in PROXY_SCHEMES or not parts.hostname or parts.path.strip("/"):
            raise ValueError(NOT_A_PROXY)
        scheme = parts.scheme
        socks = scheme.startswith("socks")
        if socks and find_spec("socksio") is None:
            raise ImportError(f"proxy {scheme}://...: SOCKS needs the package socksio; pip install 'holdwire[socks]'")
        if tls is not None and scheme != "https":
            raise ValueError(f"tls is for a proxy with https://, and this one is {scheme}://")
        auth = None
        if parts.username is not None:
            auth = unquote_to_bytes(parts.username), unquote_to_bytes(parts.password or "")
        self._proxy = Proxy(
            scheme=scheme,
            host=parts.hostname,
            port=parts.port or PROXY_SCHEMES[scheme],
            headers=(basic_credentials(*auth),) if auth is not None and not socks else (),
            credentials=auth if socks else None,
        )
        self.tls: ssl.SSLContext | None = None
        """For TLS with the proxy itself; None where that is not spoken."""
        if scheme == "https":
            self.tls = tls or ssl.create_default_context()

    @property
    def host(self) -> str:
        """Where to connect to."""
        return self._proxy.host

    @property
    def port(self) -> int:
        """See ``host``."""
        return self._proxy.port

    @property
    def name(self) -> str:
        """``host:port``, as records have it in ``via``."""
        return self._proxy.name

    async def open(self, wire: Wire, host: str, port: int, deadline: float | None) -> None:
        """Have the proxy at the other end of ``wire`` connect it to ``host``, until ``deadline`` (monotonic).

        Raises:
            ProxyError: It refused, broke its protocol, or its connection was lost.
            DeadlineExceeded: It took too long.
            LocalProtocolError: ``host`` cannot be the name of one.
        """
        origin = Origin("tcp", ascii_name(host) or host, port)
        await self._proxy.open_tunnel(wire, Request(b"CONNECT", origin, b"*", []), deadline)
