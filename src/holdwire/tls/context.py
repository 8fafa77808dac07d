"""TLS contexts: the options that holdwire sets on its own, ALPN, host names, and engines made from any context.

A context that is not the standard library's (truststore's, say) may do blocking work when it makes an engine, so that
happens in a thread. Not responsible for which certificates are trusted (``transports``) or for sessions (``session``).
"""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING

import anyio.to_thread
import idna

from ..errors import LocalProtocolError
from .engine import Engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .engine import Truncation

__all__ = ["ascii_name", "make_engine", "offer_protocols", "prepare"]

_offering = threading.Lock()
"""Held from the choice of ALPN protocols on a context, which others may share, to the making of an engine."""


def prepare(context: ssl.SSLContext) -> ssl.SSLContext:
    """Clear OP_IGNORE_UNEXPECTED_EOF on a context of our own, which some versions set by default; return it.

    The engine does not depend on it; whoever else uses the context's sockets is told of truncation too.
    """
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


def offer_protocols(context: ssl.SSLContext, protocols: Sequence[str]) -> None:
    """Offer ``protocols`` by ALPN, in order of preference; none leaves the context as it is.

    It counts for every connection that the context makes from now on.

    Raises:
        ValueError: A name is empty, longer than 255 bytes or not ASCII (RFC 7301, section 3.1).
    """
    for protocol in protocols:
        if not protocol.isascii() or not 0 < len(protocol) < 256:
            message = f"ALPN protocol {protocol!r}: give 1 to 255 ASCII characters, such as 'h2' or 'http/1.1'"
            raise ValueError(message)
    if protocols:
        context.set_alpn_protocols(list(protocols))


def ascii_name(host: str) -> str | None:
    """``host`` as TLS and proxies want it: ASCII by IDNA 2008 (ssl itself has 2003), no trailing dot; None if empty.

    Raises:
        LocalProtocolError: It cannot be a host name.
    """
    name = host.removesuffix(".")
    if not name:
        return None
    if name.isascii():
        return name
    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except UnicodeError as exc:
        message = f"{host!r} is not a valid host name: {exc}"
        raise LocalProtocolError(message) from exc


async def make_engine(
    context: ssl.SSLContext,
    *,
    server_hostname: str | None,
    server_side: bool = False,
    session: ssl.SSLSession | None = None,
    truncation: Truncation = "error",
    protocols: Sequence[str] = (),
) -> Engine:
    """An engine for one connection, which offers ``protocols`` by ALPN; none leaves that to the context.

    Raises:
        LocalProtocolError: The host name or the context cannot be used for it.
    """
    name = None if server_hostname is None else ascii_name(server_hostname)

    def make() -> Engine:
        with _offering:
            offer_protocols(context, protocols)
            return Engine(
                context, server_hostname=name, server_side=server_side, session=session, truncation=truncation
            )

    try:
        if type(context) is ssl.SSLContext:
            return make()
        return await anyio.to_thread.run_sync(make)
    except (ValueError, ssl.SSLError) as exc:
        side = "as a server" if server_side else f"with {name or 'a server without a name'}"
        message = f"TLS cannot start {side}: {exc}. Check the server name and the context's purpose"
        raise LocalProtocolError(message) from exc
