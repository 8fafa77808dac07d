"""``proxy_of``: what users write for a proxy, a URL or a family's ``Proxy``, as ``http.proxy.Proxy``; or a clear error.

Not responsible for talking to it (``http.proxy``) or for the environment's proxies (``_client``).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..http.proxy import NOT_A_PROXY, PROXY_SCHEMES, Proxy, basic_credentials

if TYPE_CHECKING:
    import ssl

    from ._family import Family

__all__ = ["proxy_of"]


def proxy_of(family: Family, given: Any) -> Proxy | None:
    """The proxy that ``given`` names; None if it is None.

    Raises:
        TypeError: It is no URL and no ``Proxy``.
        ValueError: Its scheme is unknown, or its parts do not go together.
        ImportError: It speaks SOCKS, and the library for that is not installed.
    """
    if given is None:
        return None
    if isinstance(given, str) or not hasattr(given, "raw_auth"):
        try:
            given = family.proxy(given)
        except (ValueError, family.invalid_url):  # its words hold the URL, and so the password
            message = f"proxy: {NOT_A_PROXY}"
            raise ValueError(message) from None
        except TypeError:  # the same
            message = f"proxy: give the URL as str, or a Proxy, not {type(given).__name__}"
            raise TypeError(message) from None
    url = given.url
    scheme: str = url.scheme
    socks = scheme.startswith("socks")
    if socks and find_spec("socksio") is None:
        message = f"proxy={scheme}://...: SOCKS needs the package socksio; pip install 'holdwire[socks]'"
        raise ImportError(message)
    if given.ssl_context is not None and scheme != "https":
        message = f"proxy: ssl_context is for TLS with an https:// proxy, and this one is {scheme}://"
        raise ValueError(message)
    headers = tuple(given.headers.raw)
    if socks and headers:
        message = "proxy: headers are for HTTP proxies; SOCKS5 knows a user name and a password only"
        raise ValueError(message)
    auth = given.raw_auth
    if auth is not None and not socks:
        headers = (basic_credentials(*auth), *headers)
    return Proxy(
        scheme=scheme,
        host=url.raw_host.decode("ascii"),
        port=url.port or PROXY_SCHEMES[scheme],
        headers=headers,
        credentials=auth if socks else None,
        tls_context=_Context(family, given.ssl_context) if scheme == "https" else None,
    )


class _Context:
    """The context for TLS with the proxy itself: the user's, or the family's default, made when it is needed."""

    def __init__(self, family: Family, context: ssl.SSLContext | None) -> None:
        self._family = family
        self._context = context

    def __call__(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._family.ssl_context(verify=True, cert=None, trust_env=True)
        return self._context
