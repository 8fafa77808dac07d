"""Through proxies: requests arrive, connections are kept, a failure says whose it is: the proxy's or the origin's."""

from __future__ import annotations

import base64
import socket
import ssl
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import holdwire
from holdwire.events import ConnectionSetUp
from holdwire.testing import Answer, ChaosServer, Request, self_signed
from tests.http2.server import serve
from tests.net_helpers import clean_runtime
from tests.ports import free_port
from tests.proxies import StubProxy
from tests.transports.test_cancellation import SCOPE, CancelAt
from tests.transports.test_failures import Seen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.transports.conftest import Family

__all__ = ["clean_runtime"]

KINDS = ["http", "https", "socks5"]
one_family = pytest.mark.parametrize("family", ["httpx"], indirect=True)
"""For what lies wholly in the core that both share."""


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    """As many attempts as ever, without waiting between them."""
    holdwire.set_testing(attempts=4)
    yield
    holdwire.set_testing(False)


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    with ChaosServer(tls=request.param == "tls") as server:
        yield server


@pytest.fixture
def tls_server() -> Iterator[ChaosServer]:
    with ChaosServer(tls=True) as server:
        yield server


def make_proxy(kind: str, **settings: Any) -> StubProxy:
    context = self_signed("127.0.0.1").server_context() if kind == "https" else None
    return StubProxy(socks=kind.startswith("socks"), dribble="dribbling" in kind, context=context, **settings)


@pytest.fixture(params=KINDS)
def proxy(request: pytest.FixtureRequest) -> Iterator[StubProxy]:
    with make_proxy(request.param) as proxy:
        yield proxy


def through(family: Family, proxy: StubProxy, server: ChaosServer, *, url: str | None = None, **settings: Any) -> Any:
    """A client of ``family`` whose requests go through ``proxy``."""
    given: Any = url or proxy.url
    if given.startswith("https"):
        given = family.http.Proxy(given, ssl_context=self_signed("127.0.0.1").client_context())
    verify = server.client_context() if server.url.startswith("https") else True
    return family.client(verify=verify, proxy=given, **settings)


async def test_requests_go_through_and_the_connection_is_kept(
    family: Family, server: ChaosServer, proxy: StubProxy, clean_runtime: object, no_leaks: None
) -> None:
    async with through(family, proxy, server) as client:
        for number in range(3):
            response = await client.post(f"{server.url}/{number}?q=1", content=b"x" * 100_000)
            assert response.content == b"x" * 100_000
        assert proxy.accepted == server.accepted == 1
        sessions = client._transport._client._sessions._entries
        assert {key.proxy for key in sessions} <= {proxy.name}
        secure = server.url.startswith("https") + proxy.url.startswith("https")
        assert len(sessions) == secure
    targets = [execution.target for execution in server.ledger.executions()]
    if proxy.socks:
        assert proxy.asked == [server.address]
        assert targets == ["/0?q=1", "/1?q=1", "/2?q=1"]
    else:
        method = b"CONNECT " if server.url.startswith("https") else b"POST http://127.0.0.1:"
        assert [head.startswith(method) for head in proxy.heads] == [True]


async def test_a_name_is_resolved_by_the_socks_proxy(family: Family, server: ChaosServer) -> None:
    with make_proxy("socks5") as proxy:
        async with through(family, proxy, server, url=proxy.url.replace("socks5", "socks5h")) as client:
            await client.get(server.url.replace("127.0.0.1", "localhost"))
        assert proxy.asked == [("localhost", server.address[1])]


@pytest.mark.parametrize("kind", KINDS)
async def test_credentials_in_the_url_reach_the_proxy_and_never_the_origin_behind_a_tunnel(
    family: Family, tls_server: ChaosServer, kind: str
) -> None:
    seen: list[Request] = []

    def handle(request: Request) -> Answer:
        seen.append(request)
        return Answer()

    tls_server.handle("*", handle)
    with make_proxy(kind, credentials=(b"me", b"p:w")) as proxy:
        url = proxy.url.replace("://", "://me:p%3Aw@")
        async with through(family, proxy, tls_server, url=url) as client:
            assert (await client.get(tls_server.url)).status_code == 200
    if not proxy.socks:
        expected = b"Proxy-Authorization: Basic " + base64.b64encode(b"me:p:w")
        assert expected in proxy.heads[0]
    (request,) = seen
    assert request.header("proxy-authorization") is None


@one_family
async def test_headers_for_the_proxy_come_with_connect_and_with_what_is_forwarded(
    family: Family, server: ChaosServer
) -> None:
    with make_proxy("http") as proxy:
        given = family.http.Proxy(proxy.url, headers={"X-Team": "blue"})
        verify = server.client_context() if server.url.startswith("https") else True
        async with family.client(verify=verify, proxy=given) as client:
            await client.get(server.url)
        assert b"X-Team: blue\r\n" in proxy.heads[0]


# --- whose failure is it? ---


@one_family
@pytest.mark.parametrize(
    ("kind", "word", "text", "attempts"),
    [
        ("http", "407 Proxy Authentication Required", "^407 Proxy Authentication Required", 1),
        ("http", "403 Forbidden", "^403 Forbidden", 1),
        ("http", "502 Bad Gateway", "^502 Bad Gateway", 4),
        ("http", "rst", "ECONNRESET", 4),
        ("http", "fin", "opened no tunnel", 4),
        ("http", "garbage", "does not speak its protocol", 1),
        ("https", "rst", "ECONNRESET|UNEXPECTED|unexpected", 4),
        ("https", "502 Bad Gateway", "^502 Bad Gateway", 4),
        ("socks5", "reply 5", r"^Proxy Server could not connect: Connection refused\.", 4),
        ("socks5", "reply 2", r"^Proxy Server could not connect: Connection not allowed by ruleset\.", 1),
        ("socks5", "rst", "ECONNRESET", 4),
        ("socks5", "fin", "opened no tunnel", 4),
        ("socks5", "garbage", "does not speak its protocol", 1),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_named_and_nothing_was_sent(
    family: Family,
    tls_server: ChaosServer,
    clean_runtime: object,
    no_leaks: None,
    *,
    kind: str,
    word: str,
    text: str,
    attempts: int,
) -> None:
    seen = Seen()
    with make_proxy(kind) as proxy:
        proxy.script.extend([word] * 8)
        async with through(family, proxy, tls_server, observers=[seen]) as client:
            with pytest.raises(family.http.ProxyError, match=text) as caught:
                await client.post(tls_server.url, content=b"1", timeout=10)
        failure = holdwire.failure_of(caught.value)
        assert failure is not None
        assert (failure.phase, failure.via) == ("proxy", proxy.name)
        assert (failure.host, failure.port) == tls_server.address
        assert proxy.name in str(caught.value)
        assert proxy.accepted == attempts
    assert len(seen.failures) == attempts
    assert tls_server.accepted == 0
    ours = caught.value.__cause__.__cause__
    assert isinstance(ours, holdwire.ProxyError)
    assert ours.safe_to_retry


@one_family
async def test_a_socks_proxy_that_answers_byte_by_byte_with_a_name_is_understood(
    family: Family, tls_server: ChaosServer
) -> None:
    with make_proxy("socks5 dribbling", credentials=(b"me", b"pw")) as proxy:
        url = proxy.url.replace("://", "://me:pw@")
        async with through(family, proxy, tls_server, url=url) as client:
            assert (await client.get(tls_server.url)).status_code == 200


@one_family
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", ["rst", "fin"])
async def test_a_tunnel_that_fails_once_is_opened_again(
    family: Family, tls_server: ChaosServer, kind: str, word: str
) -> None:
    with make_proxy(kind) as proxy:
        proxy.script.append(word)
        async with through(family, proxy, tls_server) as client:
            assert (await client.post(tls_server.url, content=b"1")).status_code == 200
    assert tls_server.ledger.count("/") == 1


@one_family
async def test_bytes_in_a_tunnel_before_its_tls_began_are_refused(family: Family, tls_server: ChaosServer) -> None:
    with make_proxy("http") as proxy:
        proxy.script.append("200 Connection established")  # with what follows in the same write
        async with through(family, proxy, tls_server) as client:
            with pytest.raises(family.http.ProxyError, match="before anybody asked"):
                await client.get(tls_server.url)
    assert tls_server.ledger.count("/") == 0


@one_family
@pytest.mark.parametrize("kind", KINDS)
async def test_a_proxy_that_never_answers_is_a_connect_time_out(
    family: Family, tls_server: ChaosServer, kind: str
) -> None:
    with make_proxy(kind) as proxy:
        proxy.script.append("stall")
        async with through(family, proxy, tls_server) as client:
            timeout = family.http.Timeout(10, connect=0.8)
            with pytest.raises(family.http.ConnectTimeout, match=proxy.name) as caught:
                await client.get(tls_server.url, timeout=timeout)
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert (failure.phase, failure.via, failure.kind) == ("proxy", proxy.name, "local_timeout")


@one_family
async def test_where_no_proxy_listens_the_message_says_that_it_is_the_proxy(
    family: Family, server: ChaosServer
) -> None:
    name = f"127.0.0.1:{free_port()}"
    verify = server.client_context() if server.url.startswith("https") else True
    async with family.client(verify=verify, proxy=f"http://{name}", retry=None) as client:
        with pytest.raises(family.http.ConnectError, match=f"ECONNREFUSED.*through the proxy {name}") as caught:
            await client.get(server.url)
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.via == name
    assert "no proxy listens" in failure.cause


@one_family
async def test_a_certificate_of_the_proxy_that_is_not_trusted_is_the_proxys_failure(
    family: Family, server: ChaosServer
) -> None:
    with make_proxy("https") as proxy:
        verify = server.client_context() if server.url.startswith("https") else True
        given = family.http.Proxy(proxy.url, ssl_context=ssl.create_default_context())
        async with family.client(verify=verify, proxy=given) as client:
            with pytest.raises(family.http.ConnectError, match="proxy itself") as caught:
                await client.get(server.url)
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert (failure.phase, failure.via) == ("proxy", proxy.name)


@one_family
@pytest.mark.parametrize("kind", KINDS)
async def test_a_certificate_of_the_origin_that_is_not_trusted_is_the_origins_failure(
    family: Family, tls_server: ChaosServer, kind: str
) -> None:
    with make_proxy(kind) as proxy:
        given: Any = proxy.url
        if kind == "https":
            given = family.http.Proxy(given, ssl_context=self_signed("127.0.0.1").client_context())
        async with family.client(proxy=given) as client:
            with pytest.raises(family.http.ConnectError) as caught:
                await client.get(tls_server.url)
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert (failure.phase, failure.via) == ("tls_handshake", proxy.name)


@one_family
async def test_a_reset_by_the_origin_is_retried_through_the_proxy_as_without_it(
    family: Family, server: ChaosServer, proxy: StubProxy
) -> None:
    seen = Seen()
    async with through(family, proxy, server, observers=[seen]) as client:
        await client.get(server.url)
        forwarded = not proxy.socks and server.url.startswith("http:")
        server.script("response:0 rst", path=f"{server.url}/again" if forwarded else "/again")
        assert (await client.get(f"{server.url}/again")).status_code == 200
    (failure,) = seen.failures
    assert (failure.phase, failure.via) == ("response_wait", proxy.name)
    assert proxy.accepted == 2


@one_family
async def test_the_steps_of_a_set_up_tell_the_proxys_from_the_origins(
    family: Family, tls_server: ChaosServer, proxy: StubProxy
) -> None:
    seen = Seen()
    async with through(family, proxy, tls_server, observers=[seen]) as client:
        await client.get(tls_server.url)
    (told,) = (event for event in seen.events if isinstance(event, ConnectionSetUp))
    secured = ["proxy"] if proxy.url.startswith("https") else []
    assert [step.phase.value for step in told.steps] == ["connect", *secured, "proxy", "tls_handshake"]
    assert (told.host, told.port) == tls_server.address


@one_family
async def test_http2_is_spoken_through_a_tunnel_and_never_to_the_proxy_itself(family: Family, proxy: StubProxy) -> None:
    context = self_signed("127.0.0.1").server_context(alpn=("h2",))
    verify = self_signed("127.0.0.1").client_context()
    given: Any = proxy.url
    if given.startswith("https"):
        given = family.http.Proxy(given, ssl_context=verify)
    async with serve(context=context) as server, family.client(verify=verify, proxy=given, http2=True) as client:
        for _ in range(2):
            response = await client.get(server.url.replace("localhost", "127.0.0.1"))
            assert (response.status_code, response.http_version) == (200, "HTTP/2")
        assert len(server.connections) == proxy.accepted == 1
    if not proxy.socks:
        with ChaosServer() as plain:
            async with family.client(proxy=given, http2=True, http1=False) as client:
                assert (await client.get(plain.url)).http_version == "HTTP/1.1"


@one_family
async def test_socket_options_and_local_address_hold_on_the_way_to_the_proxy(
    family: Family, server: ChaosServer, proxy: StubProxy
) -> None:
    options = [(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)]
    async with through(family, proxy, server, socket_options=options, local_address="127.0.0.2") as client:
        response = await client.get(server.url)
        sock = response.extensions["network_stream"].get_extra_info("socket")
        assert sock.getsockname()[0] == "127.0.0.2"
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_a_websocket_url_goes_through_a_tunnel_although_it_has_no_tls(family: Family) -> None:
    with ChaosServer() as server, make_proxy("http") as proxy:
        async with family.client(proxy=proxy.url) as client:
            response = await client.get(server.url.replace("http", "ws"))
            assert response.status_code == 200
        assert proxy.heads[0].startswith(b"CONNECT ")


@one_family
async def test_the_connect_request_names_an_ipv6_host_in_brackets(family: Family) -> None:
    with ChaosServer(tls=True, host="::1") as server, make_proxy("http") as proxy:
        async with through(family, proxy, server) as client:
            await client.get(server.url)
        assert proxy.heads[0].startswith(b"CONNECT [::1]:%d HTTP/1.1\r\nHost: [::1]:" % server.address[1])


@one_family
async def test_cancelled_anywhere_on_the_way_through_a_proxy_nothing_is_lost(
    family: Family, tls_server: ChaosServer, proxy: StubProxy
) -> None:
    number = 0
    seen = number
    while seen >= number:
        number += 1
        limits = family.http.Limits(max_connections=1)
        async with through(family, proxy, tls_server, limits=limits) as client:

            async def get(client: Any = client) -> None:
                assert (await client.get(tls_server.url)).status_code == 200

            cancel_at = CancelAt(number, SCOPE)
            await cancel_at.run(get())
            with anyio.fail_after(5):
                await get()
        seen = cancel_at.seen
        with anyio.fail_after(5):
            await tls_server.until(lambda: tls_server.connections == 0)
    assert number > 3


# --- wrong combinations ---


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"proxy": "ftp://127.0.0.1"}, ValueError, "scheme"),
        ({"proxy": "http://127.0.0.1:1", "uds": "/run/x"}, ValueError, "uds and proxy"),
        ({"proxy": f"socks5://{'u' * 256}:p@127.0.0.1:1"}, ValueError, "1 to 255 bytes"),
        ({"verify": "/etc/ssl/x.pem", "cert": "/etc/ssl/y.pem"}, TypeError, "do not go together"),
        ({"uds": "/run/x", "local_address": "127.0.0.1"}, ValueError, "uds and local_address"),
        ({"retries": -1}, ValueError, "retries"),
        ({"retries": "3"}, ValueError, "retries"),
    ],
)
def test_a_wrong_combination_gets_a_clear_error(
    family: Family, settings: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        family.transport(**settings)


def test_a_context_for_a_proxy_without_tls_is_refused(family: Family) -> None:
    proxy = family.http.Proxy("http://127.0.0.1:1", ssl_context=ssl.create_default_context())
    with pytest.raises(ValueError, match="https:// proxy"):
        family.transport(proxy=proxy)


def test_headers_for_a_socks_proxy_are_refused(family: Family) -> None:
    with pytest.raises(ValueError, match="headers are for HTTP proxies"):
        family.transport(proxy=family.http.Proxy("socks5://127.0.0.1:1", headers={"A": "b"}))


def test_socks_without_its_library_says_what_to_install(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdwire.transports._proxy.find_spec", _not_found)
    with pytest.raises(ImportError, match=r"holdwire\[socks\]"):
        family.transport(proxy="socks5://127.0.0.1:1")


def _not_found(_: str) -> None:
    return None


def test_no_password_in_what_a_proxy_shows_of_itself(family: Family) -> None:
    transport = family.transport(proxy="http://me:hunter2@127.0.0.1:1")
    assert "hunter2" not in repr(transport._client.settings)
    assert base64.b64encode(b"me:hunter2").decode() not in repr(transport._client.settings)
