"""holdwire for httpx: ``ResilientTransport``, a drop-in for ``httpx.AsyncHTTPTransport``, and ``AsyncClient``.

What it does is the same for both families (``_transport``). After ``httpx2.alias_httpx()`` the name httpx means
httpx2, here too. Not responsible for anything but naming the family.
"""

from __future__ import annotations

import httpcore
import httpx

from ._client import ResilientClient
from ._family import Family
from ._transport import Resilient

__all__ = ["AsyncClient", "ResilientTransport"]

_FAMILY = Family(httpx, httpcore)


class ResilientTransport(Resilient, httpx.AsyncHTTPTransport):
    """A drop-in for ``httpx.AsyncHTTPTransport``; see ``_transport.Resilient`` for its arguments."""

    _family = _FAMILY


class AsyncClient(ResilientClient, httpx.AsyncClient):
    """``httpx.AsyncClient`` with resilient transports; see ``_client.ResilientClient`` for its arguments."""

    _family = _FAMILY
    _resilient = ResilientTransport
