"""``Target``: where a stream goes: ``tcp://host:port``, ``tls://host:port``, ``unix:///path``, or host and port.

Not responsible for going there (``opener``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import unquote

from ..errors import UnsupportedProtocol
from ..policy.authority import authority
from ..policy.checks import check_type, split_url

__all__ = ["Target"]

_SCHEMES: Final = "tcp://host:port, tls://host:port or unix:///path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server: ``path`` is that of its Unix socket, or ``host`` and ``port`` say where it is."""

    host: str
    port: int = 0
    path: str | None = None
    secure: bool = False

    @classmethod
    def of(cls, url: str | None = None, *, host: str | None = None, port: int | None = None) -> Self:
        """The target that ``url``, or ``host`` and ``port``, name. ``unix://@name`` is one of Linux's abstract names.

        Raises:
            UnsupportedProtocol: The scheme is missing or unknown.
            ValueError: The URL is incomplete or holds what has no place in it, or both ways were used.
        """
        if url is None:
            if not host or port is None:
                raise ValueError(f"give a URL ({_SCHEMES}), or host= and port=")
            check_type("connect", "host", host, str, give="a str")
            return cls(host=host, port=_checked(port))
        check_type("connect", "url", url, str, give="a str")
        if host is not None or port is not None:
            raise ValueError("give either a URL or host= and port=, not both")
        parts = split_url(url, otherwise=f"this is no URL with a port from 1 to 65535; give {_SCHEMES}")
        if parts.scheme not in {"tcp", "tls", "unix"}:
            raise UnsupportedProtocol(f"the scheme {parts.scheme!r} is unknown; give {_SCHEMES}")
        # what the message must not repeat: the URL may hold a password
        if "@" in parts.netloc and parts.scheme != "unix":
            raise ValueError("the URL holds a user name or password, which nothing here would send: use on_connect")
        if parts.query or parts.fragment:
            raise ValueError("the URL holds a query or a fragment: give settings as arguments")
        if parts.scheme == "unix":
            path = unquote(parts.netloc + parts.path)
            if not path.strip("/@"):
                raise ValueError("the URL has no path; give unix:///path/of/the.socket")
            return cls(host=path, path=path.replace("@", "\0", 1) if path.startswith("@") else path)
        if not parts.hostname or parts.port is None or parts.path not in {"", "/"}:
            raise ValueError(f"the URL needs a host and a port and nothing more: {parts.scheme}://host:port")
        host = parts.hostname.replace("%25", "%", 1)  # as a URL spells the interface of a link-local address
        return cls(host=host, port=_checked(parts.port), secure=parts.scheme == "tls")

    def __str__(self) -> str:
        if self.path is not None:
            return self.host
        return authority(self.host, self.port)


def _checked(port: int) -> int:
    check_type("connect", "port", port, int, give="a whole number")
    if not 0 < port < 65536:
        raise ValueError(f"port={port!r} is out of range, it must be from 1 to 65535")
    return port
