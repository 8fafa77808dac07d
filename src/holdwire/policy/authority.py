"""``authority``: a host and its port in one word, as a URL has them."""

from __future__ import annotations

__all__ = ["authority"]


def authority(host: str, port: int | None) -> str:
    """``host:port``, an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
