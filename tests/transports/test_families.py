"""httpx and httpx2 from one core: each user gets the classes of their own library, and nothing of the other."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import holdwire
from holdwire.testing import ChaosServer
from holdwire.transports._adapter import Adapter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.transports.conftest import Family


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer() as server:
        yield server


async def test_response_and_exceptions_are_the_familys_own(family: Family, server: ChaosServer) -> None:
    async with family.client(retry=None) as client:
        response = await client.get(server.url)
        assert type(response) is family.http.Response
        server.script("response:0 rst", path="/cut")
        with pytest.raises(family.http.ReadError) as caught:
            await client.post(f"{server.url}/cut", content=b"1")
    assert type(caught.value) is family.http.ReadError
    assert isinstance(caught.value.__cause__, family.core.ReadError)
    assert caught.value.request.url.path == "/cut"
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.errno_name == "ECONNRESET"
    evidence = (caught.value.failure, caught.value.attempts, caught.value.safe_to_retry)
    assert evidence == (failure, 1, False), "what a retry layer above needs is on the exception that it catches"


def test_no_base_of_a_transport_comes_from_the_other_family(family: Family) -> None:
    bases = family.ours.ResilientTransport.__mro__
    packages = {base.__module__.partition(".")[0] for base in bases}
    assert packages == {"holdwire", family.name, "builtins"}
    assert issubclass(family.ours.ResilientTransport, family.http.AsyncHTTPTransport)


@pytest.mark.parametrize("patched", [False, True], ids=["untouched", "patched"])
async def test_a_patch_of_the_familys_transport_is_never_passed_by(
    family: Family, server: ChaosServer, monkeypatch: pytest.MonkeyPatch, *, patched: bool
) -> None:
    stock = family.http.AsyncHTTPTransport.handle_async_request
    seen: list[str] = []

    @functools.wraps(stock)
    async def patch(self: Any, request: Any) -> Any:
        seen.append(request.url.path)
        return await stock(self, request)

    through_the_core: list[str] = []
    by_core = Adapter.handle_async_request

    async def spy(self: Adapter, request: Any) -> Any:
        through_the_core.append(request.url.target.decode())
        return await by_core(self, request)

    monkeypatch.setattr(Adapter, "handle_async_request", spy)
    async with family.client(retry=None) as client:
        if patched:
            monkeypatch.setattr(family.http.AsyncHTTPTransport, "handle_async_request", patch)
        server.script("response:0 rst", path="/cut")
        response = await client.get(f"{server.url}/fine")
        with pytest.raises(family.http.ReadError) as caught:
            await client.post(f"{server.url}/cut", content=b"1")
        with pytest.raises(family.http.UnsupportedProtocol, match="ftp"):
            await client.get("ftp://127.0.0.1/")
    assert seen == (["/fine", "/cut", "/"] if patched else [])
    assert through_the_core == seen, "as long as nobody looks, no core objects are made"
    assert (response.status_code, response.content) == (200, b"hello\n")
    assert set(response.extensions) == {"http_version", "reason_phrase", "network_stream"}
    core: Any = caught.value.__cause__
    chain: list[type] = [type(caught.value), type(core).__mro__[2], type(core.__cause__)]
    assert chain == [family.http.ReadError, family.core.ReadError, holdwire.ConnectionLost]


async def test_a_streamed_body_that_is_cut_raises_the_same_either_way(
    family: Family, server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = family.http.AsyncHTTPTransport.handle_async_request
    told: list[list[str]] = []
    for patch in (stock, functools.partialmethod(stock)):
        monkeypatch.setattr(family.http.AsyncHTTPTransport, "handle_async_request", patch)
        server.script("response:150 fin", path="/cut")
        async with (
            family.client() as client,
            client.stream("POST", f"{server.url}/cut", content=b"x" * 1000) as response,
        ):
            with pytest.raises(family.http.RemoteProtocolError) as caught:
                await response.aread()
        told.append([type(caught.value).__name__, type(caught.value.__cause__).__name__])
        assert holdwire.failure_of(caught.value) is not None
    assert told[0] == told[1]


async def test_both_families_at_once(server: ChaosServer) -> None:
    httpx = pytest.importorskip("httpx")
    httpx2 = pytest.importorskip("httpx2")
    from holdwire.transports.httpx2 import ResilientTransport

    async with (
        httpx.AsyncClient(transport=holdwire.ResilientTransport()) as one,
        httpx2.AsyncClient(transport=ResilientTransport()) as two,
    ):
        for client, family in ((one, httpx), (two, httpx2), (one, httpx)):
            assert type(await client.get(server.url)) is family.Response


def run(program: str) -> str:
    completed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.strip()


def test_one_family_does_not_load_the_other() -> None:
    pytest.importorskip("httpx2")
    loaded = run("""
        import sys, holdwire.transports.httpx2
        print({"httpx", "httpcore"} & sys.modules.keys() or "neither")
    """)
    assert loaded == "neither"
    loaded = run("""
        import sys, holdwire
        holdwire.ResilientTransport()
        print({"httpx2", "httpcore2"} & sys.modules.keys() or "neither")
    """)
    assert loaded == "neither"


def test_where_httpx_is_an_alias_of_httpx2_holdwire_serves_that(server: ChaosServer) -> None:
    pytest.importorskip("httpx2")
    told = run(f"""
        import asyncio, httpx2
        httpx2.alias_httpx()
        import httpx, holdwire

        async def main():
            async with httpx.AsyncClient(transport=holdwire.ResilientTransport()) as client:
                response = await client.get("{server.url}")
            print(type(response).__module__, isinstance(response, httpx2.Response), response.status_code)

        asyncio.run(main())
    """)
    assert told == "httpx2 True 200"


def test_a_sync_client_of_either_family_is_told_to_be_async(family: Family) -> None:
    with pytest.raises(TypeError, match="async only"):
        family.http.Client(transport=family.transport()).get("http://127.0.0.1:1/")


async def test_switched_off_the_stock_pool_answers(
    family: Family, server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDWIRE", "off")
    transport = family.transport()
    assert type(transport._pool) is family.core.AsyncConnectionPool
    async with family.http.AsyncClient(transport=transport) as client:
        assert (await client.get(server.url)).status_code == 200
    assert transport.snapshot() == []
    await transport.drain()
