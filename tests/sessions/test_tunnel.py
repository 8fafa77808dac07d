"""Streams and sessions through a proxy: HTTP, HTTPS and SOCKS5."""

from __future__ import annotations

import ssl
import traceback

import pytest
import tenacity

import holdwire
from holdwire.testing import self_signed
from tests.proxies import StubProxy
from tests.sessions.peers import echo, serve

pytestmark = pytest.mark.usefixtures("clean_runtime", "no_leaks")


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
async def test_a_tls_stream_through_a_proxy(
    kind: str, client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    identity = self_signed("127.0.0.1")
    with StubProxy(
        socks=kind == "socks5",
        context=identity.server_context() if kind == "https" else None,
        credentials=(b"me", b"secret"),
    ) as proxy:
        scheme, _, rest = proxy.url.partition("://")
        tunnel = holdwire.Tunnel(
            f"{scheme}://me:secret@{rest}", tls=identity.client_context() if kind == "https" else None
        )
        async with (
            serve(echo, tls=server_context) as port,
            holdwire.connect(f"tls://localhost:{port}", tls=client_context, proxy=tunnel) as stream,
        ):
            await stream.send(b"hello")
            assert await stream.receive() == b"hello"
            assert stream._wire.facts().get("via") == proxy.name


async def test_a_proxy_that_refuses_is_named_and_one_that_is_busy_is_tried_again() -> None:
    policy = holdwire.ReconnectPolicy(wait=tenacity.wait_fixed(0.01))
    with StubProxy() as proxy:
        tunnel = holdwire.Tunnel(proxy.url)
        async with serve(echo) as port:
            proxy.script.extend(["502 Bad Gateway", "rst"])
            async for session in holdwire.sessions(f"tcp://127.0.0.1:{port}", proxy=tunnel, reconnect=policy):
                async with session:
                    assert session.attempts == 3
                    break
            proxy.script.append("502 Bad Gateway")
            with pytest.raises(holdwire.ProxyError, match="502 Bad Gateway") as raised:
                await holdwire.connect(f"tcp://127.0.0.1:{port}", proxy=tunnel)
    assert raised.value.failure is not None
    assert raised.value.failure.phase is holdwire.Phase.PROXY
    assert raised.value.failure.via == proxy.name
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("kind", ["http", "https"])
async def test_a_server_that_speaks_first_is_heard_although_its_greeting_comes_with_the_proxys_answer(
    kind: str,
) -> None:
    identity = self_signed("127.0.0.1")
    with StubProxy(context=identity.server_context() if kind == "https" else None) as proxy:
        proxy.script.append("200 Connection established")  # with what follows in the same write
        tunnel = holdwire.Tunnel(proxy.url, tls=identity.client_context() if kind == "https" else None)
        async with holdwire.connect("tcp://imap.example:143", proxy=tunnel) as stream:
            assert await stream.receive() == b"nope"


async def test_a_proxy_is_asked_for_a_name_with_umlauts_as_the_internet_spells_it() -> None:
    with StubProxy() as proxy:
        proxy.script.extend(["serve", "502 Bad Gateway"])
        with pytest.raises(holdwire.LocalProtocolError, match="not a valid host name"):
            await holdwire.connect("tcp://b\u00fc..cher:143", proxy=holdwire.Tunnel(proxy.url))
        with pytest.raises(holdwire.ProxyError, match="502 Bad Gateway"):
            await holdwire.connect("tcp://b\u00fccher.example:143", proxy=holdwire.Tunnel(proxy.url))
        assert proxy.heads[0].startswith(b"CONNECT xn--bcher-kva.example:143 HTTP/1.1\r\n")


def test_what_is_no_proxy_is_refused_without_its_password() -> None:
    urls = ["ftp://me:secret@proxy:1", "http://me:secret@", "http://me:secret@proxy:1/path", "secret"]
    urls += [f"http://me:{password}@proxy:1" for password in ("secret#1", "secret?1", "[secret]", "secret\u2100")]
    for url in [*urls, "http://me:secret@proxy:99999"]:
        with pytest.raises(ValueError, match="scheme://host:port") as raised:
            holdwire.Tunnel(url)
        assert "secret" not in "".join(traceback.format_exception(raised.value))
    for url in ("tcp://me:secret/1@host:1", "tcp://me:[secret]@host:1"):
        with pytest.raises(ValueError, match="give tcp://host:port") as refused:
            holdwire.connect(url)
        assert "secret" not in "".join(traceback.format_exception(refused.value))
    with pytest.raises(ValueError, match="https://"):
        holdwire.Tunnel("http://proxy:1", tls=ssl.create_default_context())
    with pytest.raises(ValueError, match="Unix socket"):
        holdwire.connect("unix:///x", proxy=holdwire.Tunnel("http://proxy:1"))
