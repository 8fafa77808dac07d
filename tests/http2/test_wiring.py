"""``http2=True`` end to end: which version is spoken, what the response says, what is traced."""

from __future__ import annotations

import ssl
from typing import Any

import httpx
import pytest

import holdwire
from holdwire.testing import ChaosServer
from tests.http2.clients import client_of
from tests.http2.server import serve


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


async def test_http11_where_the_server_does_not_agree(ca: Any, client_context: ssl.SSLContext) -> None:
    async with serve(context=tls(ca, "http/1.1")) as server, client_of(http1=True, verify=client_context) as client:
        first, second = await client.get(f"{server.url}/one"), await client.get(f"{server.url}/two")
    assert [first.text, second.text] == ["by HTTP/1.1"] * 2
    assert first.http_version == "HTTP/1.1"
    assert "stream_id" not in first.extensions


async def test_http11_where_http2_is_not_asked_for(ca: Any, client_context: ssl.SSLContext) -> None:
    async with (
        serve(context=tls(ca, "h2", "http/1.1")) as server,
        client_of(http1=True, http2=False, verify=client_context) as client,
    ):
        assert (await client.get(f"{server.url}/one")).http_version == "HTTP/1.1"


async def test_plain_http_is_http11_unless_that_is_switched_off() -> None:
    with ChaosServer() as server:
        async with client_of(http1=True) as client:
            assert (await client.get(f"{server.url}/x")).http_version == "HTTP/1.1"


def test_a_clear_error_where_h2_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(_: str) -> None:
        """As where h2 is not installed."""

    monkeypatch.setattr("holdwire.transports._settings.find_spec", find_nothing)
    with pytest.raises(ImportError, match=r"pip install 'holdwire\[http2\]'"):
        holdwire.ResilientTransport(http2=True)


def test_a_clear_error_where_no_version_is_left() -> None:
    with pytest.raises(ValueError, match="leave no version of HTTP"):
        holdwire.ResilientTransport(http1=False)


async def test_the_trace_hook_hears_what_httpcore_would_tell() -> None:
    told: list[str] = []
    infos: dict[str, Any] = {}

    async def trace(name: str, info: dict[str, Any]) -> None:
        told.append(name)
        infos[name] = info

    async with serve() as server, client_of() as client:
        await client.post(f"{server.url}/x", content=b"x", extensions={"trace": trace})
    steps = ["send_request_headers", "send_request_body", "receive_response_headers", "receive_response_body"]
    for step in [*steps, "response_closed", "send_connection_init", "receive_remote_settings"]:
        assert told.index(f"http2.{step}.started") < told.index(f"http2.{step}.complete"), step
    assert [name for name in told if name.removesuffix(".started")[6:] in steps] == [
        f"http2.{step}.started" for step in steps
    ]
    assert infos["http2.send_request_body.started"]["stream_id"] == 1
    assert infos["http2.receive_response_headers.complete"]["return_value"][0] == 200
    assert infos["http2.receive_remote_settings.complete"]["return_value"].changed_settings


async def test_hosts_of_their_own_never_share_a_connection(ca: Any) -> None:
    async with serve() as server, client_of() as client:
        await client.get(f"{server.url}/x")
        await client.get(f"http://127.0.0.1:{server.port}/y")
    assert len(server.connections) == 2
