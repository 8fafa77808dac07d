"""``http2=True`` end to end: which version is spoken, what the response says, what is traced."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import httpx

import holdwire
from tests.http2.server import serve

if TYPE_CHECKING:
    from unittest.mock import Mock  # noqa: F401


def tls(ca: Any, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(list(protocols))
    return context


async def test_http2_is_spoken_where_the_server_agrees(ca: Any, client_context: ssl.SSLContext, no_leaks: None) -> None:
    async with serve(context=tls(ca, "h2")) as server:
        transport = holdwire.ResilientTransport(verify=client_context, http2=True)
        async with httpx.AsyncClient(transport=transport) as client:
            first = await client.get(f"{server.url}/one")
            second = await client.post(f"{server.url}/two", content=b"x" * 100_000)
        assert (first.status_code, first.text, first.http_version) == (200, "/one", "HTTP/2")
        assert (second.text, second.http_version) == ("/two", "HTTP/2")
        assert [first.extensions["stream_id"], second.extensions["stream_id"]] == [1, 3]
        assert len(server.connections) == 1
        assert server.connections[0].requests[3].body == b"x" * 100_000


async def test_prior_knowledge_where_http1_is_switched_off(no_leaks: None) -> None:
    async with serve() as server:
        async with httpx.AsyncClient(transport=holdwire.ResilientTransport(http1=False, http2=True)) as client:
            response = await client.get(f"{server.url}/one")
        assert (response.text, response.http_version) == ("/one", "HTTP/2")
