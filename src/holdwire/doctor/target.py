"""``Target``: the server that a command looks at, from what a person writes: a host, host:port, or a URL.

Pure. Not responsible for finding out whether a port speaks TLS where nobody said so.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from ..policy.authority import authority
from ..tls.context import ascii_name

__all__ = ["Target", "parse_target", "path_of"]

_SCHEMES: Final[dict[str, tuple[int, bool]]] = {
    "https": (443, True),
    "wss": (443, True),
    "http": (80, False),
    "ws": (80, False),
    "tls": (443, True),
    "tcp": (80, False),
}
_LEFT_ALONE: Final = "!$%&'()*+,/:;=?@[]|~"
"""What a path or a query may hold, and what servers bear."""
_TLS_PORTS: Final = frozenset({443, 465, 563, 636, 853, 990, 993, 995, 5671, 6380, 8443, 8883, 9443})
_PLAIN_PORTS: Final = frozenset({21, 22, 25, 53, 80, 110, 143, 1883, 3128, 5672, 6379, 8000, 8080, 8888})


@dataclass(frozen=True, slots=True)
class Target:
    """A host and a port; ``secure`` is whether TLS is spoken there, None where it is to be found out."""

    host: str
    port: int
    secure: bool | None

    def __str__(self) -> str:
        return authority(self.host, self.port)

    @property
    def authority(self) -> str:
        """What the header Host says: an interface is nobody else's business, and the usual port is left out."""
        host = self.host.partition("%")[0]
        host = f"[{host}]" if ":" in host else host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def parse_target(text: str, *, secure: bool | None = None) -> Target:
    """The target that ``text`` names: ``example.com``, ``example.com:8443``, ``[::1]:443``, ``https://example.com/``.

    Without a port it is 443. ``secure`` overrides what scheme and port suggest. The host is as DNS has it, in ASCII.

    Raises:
        ValueError: It names none; the message says what to write.
    """
    hint = "write HOST, HOST:PORT, [IPV6]:PORT or a URL"
    if any(character.isspace() or not character.isprintable() for character in text) or "@" in text:
        raise ValueError(f"the target must hold no spaces, control characters or credentials; {hint}")
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() not in _SCHEMES:
        raise ValueError(f"the scheme {scheme!r} is unknown; {hint}")
    default, by_scheme = _SCHEMES[scheme.lower()] if separator else (443, None)
    if not separator and _is_ipv6(text):
        host, port = text, None
    else:
        parts = urlsplit("//" + (rest if separator else text))
        try:
            host, port = parts.hostname or "", parts.port
        except ValueError as exc:
            raise ValueError(f"{exc}; {hint}") from None
    if not host:
        raise ValueError(f"{text!r} names no host; {hint}")
    if port == 0:
        raise ValueError(f"port 0 is no port; {hint}")
    host = _as_dns_has_it(host, of_url=bool(separator))
    port = port or default
    if secure is None:
        secure = by_scheme
    if secure is None and port in _TLS_PORTS | _PLAIN_PORTS:
        secure = port in _TLS_PORTS
    return Target(host, port, secure)


def path_of(text: str) -> str:
    """What a target that is a URL asks for, path and query; ``/`` of any other."""
    if "://" not in text:
        return "/"
    parts = urlsplit(text)
    query = f"?{parts.query}" if parts.query else ""
    return quote((parts.path or "/") + query, safe=_LEFT_ALONE)


def _as_dns_has_it(host: str, *, of_url: bool) -> str:
    """In ASCII; the interface of a link-local address as the system wants it, which a URL spells otherwise."""
    if not host.isascii():
        return ascii_name(host) or host
    return host.replace("%25", "%", 1) if of_url else host


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
