"""``AsyncClient`` and ``wrap``: resilient whatever proxy the environment names, and on clients that others built."""

from __future__ import annotations

import asyncio
import importlib
import ssl
import sys
from typing import TYPE_CHECKING, Any

import pytest

import holdwire
from holdwire.testing import ChaosServer
from tests.proxies import StubProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.transports.conftest import Family

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer() as server:
        yield server


@pytest.fixture
def tls_server() -> Iterator[ChaosServer]:
    with ChaosServer(tls=True) as server:
        yield server


def transports(client: Any) -> list[Any]:
    return [client._transport, *(mounted for mounted in client._mounts.values() if mounted is not None)]


def wrapped(family: Family, **options: Any) -> Any:
    return holdwire.wrap(family.http.AsyncClient(**options))


def ours(family: Family, **options: Any) -> Any:
    return family.ours.AsyncClient(**options)


@pytest.fixture(params=[ours, wrapped], ids=["AsyncClient", "wrap"])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


# --- the environment's proxies ---


async def test_every_proxy_of_the_environment_is_used_and_everything_is_resilient(
    family: Family, make: Any, server: ChaosServer, tls_server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StubProxy() as one, StubProxy(socks=True) as two:
        monkeypatch.setenv("HTTP_PROXY", one.url)
        monkeypatch.setenv("ALL_PROXY", two.url)
        monkeypatch.setenv("NO_PROXY", "localhost")
        async with make(family, verify=tls_server.client_context()) as client:
            assert {type(transport) for transport in transports(client)} == {family.ours.ResilientTransport}
            for url in (server.url, tls_server.url, server.url.replace("127.0.0.1", "localhost")):
                assert (await client.get(url)).status_code == 200
        assert len(one.heads) == 1
        assert two.asked == [tls_server.address]
        assert server.accepted == 2


async def test_a_request_through_the_environments_proxy_is_retried(
    family: Family, make: Any, tls_server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StubProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        proxy.script.append("rst")
        async with make(family, verify=tls_server.client_context()) as client:
            assert (await client.post(tls_server.url, content=b"1")).status_code == 200
        assert proxy.accepted == 2


async def test_without_trust_in_the_environment_no_proxy_is_used(
    family: Family, make: Any, server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with make(family, trust_env=False) as client:
        assert (await client.get(server.url)).status_code == 200


async def test_a_proxy_that_is_given_gets_everything(family: Family, make: Any, server: ChaosServer) -> None:
    with StubProxy() as proxy:
        async with make(family, proxy=proxy.url.replace("://", "://me:pw@")) as client:
            assert (await client.get(server.url)).status_code == 200
        assert b"Proxy-Authorization: Basic bWU6cHc=\r\n" in proxy.heads[0]


# --- AsyncClient ---


def test_a_client_is_of_its_family_and_of_no_other(family: Family) -> None:
    client = family.ours.AsyncClient()
    assert isinstance(client, family.http.AsyncClient)
    assert {base.__module__.partition(".")[0] for base in type(client).__mro__} == {"holdwire", family.name, "builtins"}


def test_the_settings_reach_every_transport(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    client = family.ours.AsyncClient(
        keepalive=holdwire.Keepalive(idle=33), tls_truncation="accept", local_address="127.0.0.1", retries=2
    )
    found = [transport._client.settings for transport in transports(client)]
    assert len(found) == 2
    for settings in found:
        assert settings.keepalive == holdwire.Keepalive(idle=33)
        assert settings.tls_truncation == "accept"
        assert settings.local_address == "127.0.0.1"
        assert settings.connect_rounds == 3


def test_limits_that_are_given_are_told_from_the_default(family: Family) -> None:
    limits = family.http.Limits(max_connections=100, max_keepalive_connections=20)  # the numbers of the default
    assert transports(family.ours.AsyncClient())[0]._client.settings.limits.idle == 55
    assert transports(family.ours.AsyncClient(limits=limits))[0]._client.settings.limits.idle == 5


def test_a_transport_and_settings_for_another_one_are_refused(family: Family) -> None:
    transport = family.transport()
    assert transports(family.ours.AsyncClient(transport=transport)) == [transport]
    with pytest.raises(TypeError, match="transport= and retries, keepalive do not go together"):
        family.ours.AsyncClient(transport=transport, keepalive=None, retries=1)


def test_the_methods_that_build_transports_are_still_the_clients(family: Family) -> None:
    for name in ("_init_transport", "_init_proxy_transport"):
        assert callable(getattr(family.http.AsyncClient, name))
        assert getattr(family.ours.AsyncClient, name) is not getattr(family.http.AsyncClient, name)


# --- wrap ---


def test_wrap_keeps_what_the_transport_was_told(family: Family) -> None:
    context = ssl.create_default_context()
    stock = family.http.AsyncHTTPTransport(
        verify=context,
        limits=family.http.Limits(max_connections=7, max_keepalive_connections=3, keepalive_expiry=9),
        http1=False,
        http2=True,
        local_address="127.0.0.1",
        retries=2,
        socket_options=[(1, 2, 3)],
    )
    client = family.http.AsyncClient(transport=stock, mounts={"http://a.example": stock, "http://b.example": None})
    assert holdwire.wrap(client, tls_truncation="accept", profile="aws-nlb") is client
    main, mounted = transports(client)
    assert main is mounted
    assert type(main) is family.ours.ResilientTransport
    settings = main._client.settings
    assert settings.tls_context() is context
    assert (settings.limits.max_connections, settings.limits.max_idle, settings.limits.idle) == (7, 3, 9)
    assert (settings.http1, settings.http2 is not None) == (False, True)
    assert (settings.local_address, settings.connect_rounds) == ("127.0.0.1", 3)
    assert settings.socket_options == ((1, 2, 3),)
    assert settings.tls_truncation == "accept"


def test_wrap_keeps_a_unix_socket(family: Family) -> None:
    client = holdwire.wrap(family.http.AsyncClient(transport=family.http.AsyncHTTPTransport(uds="/run/x.sock")))
    assert client._transport._client.settings.uds == "/run/x.sock"


@pytest.mark.parametrize("limits", [None, {"max_connections": None, "max_keepalive_connections": None}])
def test_wrap_takes_the_default_limits_for_none(family: Family, limits: dict[str, Any] | None) -> None:
    options = {} if limits is None else {"limits": family.http.Limits(**limits)}
    settings = holdwire.wrap(family.http.AsyncClient(**options))._transport._client.settings
    if limits is None:
        assert (settings.limits.max_connections, settings.limits.idle) == (100, 55)
    else:
        assert (settings.limits.max_connections, settings.limits.max_idle, settings.limits.idle) == (None, None, 5)


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
def test_wrap_keeps_a_proxy_with_all_that_belongs_to_it(family: Family, scheme: str) -> None:
    context = ssl.create_default_context() if scheme == "https" else None
    headers = None if scheme == "socks5" else {"X-Team": "blue"}
    given = family.http.Proxy(f"{scheme}://me:p%20w@[::1]:8", ssl_context=context, headers=headers)
    before = family.ours.ResilientTransport(proxy=given)._client.settings.proxy
    client = holdwire.wrap(family.http.AsyncClient(proxy=given))
    after = transports(client)[1]._client.settings.proxy
    names = ("scheme", "host", "port", "headers", "credentials")
    assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]
    if context is not None:
        assert after.tls_context() is before.tls_context() is context


def test_wrap_leaves_other_transports_with_a_warning(family: Family, caplog: pytest.LogCaptureFixture) -> None:
    def answer(_: Any) -> Any:
        return family.http.Response(200)

    mock = family.http.MockTransport(answer)
    client = holdwire.wrap(family.http.AsyncClient(mounts={"http://": mock}))
    assert transports(client)[1] is mock
    assert "MockTransport is not the stock AsyncHTTPTransport" in caplog.text


def test_wrap_twice_is_wrap_once(family: Family) -> None:
    client = holdwire.wrap(family.http.AsyncClient())
    before = client._transport
    assert holdwire.wrap(client)._transport is before


def test_wrap_refuses_a_sync_client_and_what_is_no_client(family: Family) -> None:
    for wrong in (family.http.Client(), object()):
        with pytest.raises(TypeError, match="async only"):
            holdwire.wrap(wrong)


async def test_wrap_refuses_a_client_that_has_been_used_or_closed(family: Family, server: ChaosServer) -> None:
    client = family.http.AsyncClient()
    await client.get(server.url)
    with pytest.raises(ValueError, match="before the first request"):
        holdwire.wrap(client)
    await client.aclose()
    with pytest.raises(ValueError, match="before the first request"):
        holdwire.wrap(client)


async def test_wrap_refuses_a_transport_that_another_client_uses(family: Family, server: ChaosServer) -> None:
    shared = family.http.AsyncHTTPTransport()
    async with family.http.AsyncClient(transport=shared) as client:
        await client.get(server.url)
        with pytest.raises(ValueError, match="in use elsewhere"):
            holdwire.wrap(family.http.AsyncClient(transport=shared))


def test_wrap_refuses_an_unknown_setting_and_leaves_the_client_whole(family: Family) -> None:
    client = family.http.AsyncClient()
    before = client._transport
    with pytest.raises(TypeError, match="colour"):
        holdwire.wrap(client, colour="red")
    assert client._transport is before


def test_wrap_refuses_a_client_that_is_instrumented_by_itself(family: Family) -> None:
    pytest.importorskip("opentelemetry.instrumentation.httpx")
    from holdwire.telemetry import instrument_client

    client = family.http.AsyncClient()
    instrument_client(client)
    with pytest.raises(ValueError, match="before instrument_client"):
        holdwire.wrap(client)


def test_the_private_fields_that_wrap_reads_are_there(family: Family) -> None:
    """Against the installed httpx and httpx2: whoever renames one of these breaks ``wrap``, and hears of it here."""
    client = family.http.AsyncClient(proxy="http://127.0.0.1:9")
    assert client._state.name == "UNOPENED"
    assert type(client._transport) is family.http.AsyncHTTPTransport
    (mounted,) = client._mounts.values()
    socks = family.http.AsyncHTTPTransport(proxy="socks5://me:pw@127.0.0.1:9")
    common = {
        "_ssl_context",
        "_max_connections",
        "_max_keepalive_connections",
        "_keepalive_expiry",
        "_http1",
        "_http2",
        "_retries",
        "_local_address",
        "_uds",
        "_socket_options",
    }
    assert common <= vars(client._transport._pool).keys()
    assert common | {"_proxy_url", "_proxy_headers", "_proxy_ssl_context"} <= vars(mounted._pool).keys()
    assert common | {"_proxy_url", "_proxy_auth"} <= vars(socks._pool).keys()
    assert client._transport._pool.connections == []
    unlimited = family.http.AsyncHTTPTransport(limits=family.http.Limits())
    assert unlimited._pool._max_connections == sys.maxsize
    defaults = importlib.import_module(f"{family.name}._config").DEFAULT_LIMITS
    assert family.ours.ResilientTransport._family.default_limits == defaults


def test_holdwire_names_the_client_and_wrap() -> None:
    from holdwire.transports import httpx as ours
    from holdwire.transports.wrap import wrap

    assert holdwire.AsyncClient is ours.AsyncClient
    assert holdwire.wrap is wrap
    asyncio.run(holdwire.wrap(holdwire.AsyncClient()).aclose())
