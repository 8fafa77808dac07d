"""holdwire for httpx2: ``ResilientTransport``, a drop-in for ``httpx2.AsyncHTTPTransport``, and ``AsyncClient``.

What it does is the same for both families (``_transport``). Not responsible for anything but naming the family.
"""

from __future__ import annotations

import httpcore2
import httpx2

from ._client import ResilientClient
from ._family import Family
from ._transport import Resilient

__all__ = ["AsyncClient", "ResilientTransport"]

_FAMILY = Family(httpx2, httpcore2)


class ResilientTransport(Resilient, httpx2.AsyncHTTPTransport):
    """A drop-in for ``httpx2.AsyncHTTPTransport``; see ``_transport.Resilient`` for its arguments."""

    _family = _FAMILY


class AsyncClient(ResilientClient, httpx2.AsyncClient):
    """``httpx2.AsyncClient`` with resilient transports; see ``_client.ResilientClient`` for its arguments."""

    _family = _FAMILY
    _resilient = ResilientTransport
