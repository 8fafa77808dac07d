"""No way to a server goes around its certificate: whatever broke before, an impostor gets nothing."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
import tenacity
import trustme

import holdwire
from holdwire.policy.kind import Category
from holdwire.testing import Answer, BlockingChaosProxy, ChaosServer
from tests.lab import Bench
from tests.seen import Seen

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from holdwire.testing import Request

pytestmark = pytest.mark.anyio

VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


def context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(made)
    return made


@pytest.fixture(params=["of a stranger", "for another name"])
def impostor(request: pytest.FixtureRequest, ca: trustme.CA) -> Iterator[ChaosServer]:
    """Has a certificate, but not the right one."""
    if request.param == "of a stranger":
        tls = context(trustme.CA(), "localhost", "127.0.0.1")
    else:
        tls = context(ca, "elsewhere.test", "127.0.0.9")
    with ChaosServer(tls=tls) as server:
        yield server


@pytest.fixture
def honest(server_context: ssl.SSLContext) -> Iterator[ChaosServer]:
    with ChaosServer(tls=server_context) as server:
        yield server


@pytest.fixture
def way(honest: ChaosServer) -> Iterator[BlockingChaosProxy]:
    """Leads to the honest server, until it is led elsewhere."""
    with BlockingChaosProxy(honest.address) as proxy:
        yield proxy


def lead(way: BlockingChaosProxy, to: ChaosServer) -> None:
    way._tell(lambda: setattr(way, "_target", to.address))


@contextmanager
def refused(impostor: ChaosServer) -> Generator[None]:
    """The certificate is what the request fails of, and the impostor learns nothing."""
    with pytest.raises(httpx.ConnectError) as caught:
        yield
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.category is Category.CONFIGURATION, failure
    assert impostor.ledger.count() == 0
    assert not impostor.journal.entries("request")


def client(client_context: ssl.SSLContext, way: BlockingChaosProxy, **settings: Any) -> httpx.AsyncClient:
    transport = holdwire.ResilientTransport(verify=client_context, **settings)
    return httpx.AsyncClient(transport=transport, base_url=f"https://localhost:{way.address[1]}", timeout=5)


async def test_at_the_first_connection(
    client_context: ssl.SSLContext, way: BlockingChaosProxy, impostor: ChaosServer
) -> None:
    lead(way, impostor)
    async with client(client_context, way) as http:
        with refused(impostor):
            await http.get("/")


@pytest.mark.parametrize("fault", ["", "response:0 fin", "response:0 rst"], ids=["503", "fin", "rst"])
async def test_at_the_connection_on_which_a_request_is_repeated(
    client_context: ssl.SSLContext, way: BlockingChaosProxy, honest: ChaosServer, impostor: ChaosServer, fault: str
) -> None:
    answers = [Answer(status=503, body=b"later", close=True)]

    def answer(_: Request) -> Answer:
        lead(way, impostor)
        return answers.pop(0)

    honest.handle("*", answer)
    if fault:
        honest.script(fault)
    settings = holdwire.RetryPolicy(statuses=frozenset({503}), wait=tenacity.wait_none())
    async with client(client_context, way, retry=settings) as http:
        with refused(impostor):
            await http.get("/")


@pytest.mark.parametrize("version", VERSIONS)
async def test_at_a_reconnect_that_offers_a_session_to_resume(
    ca: trustme.CA, way: BlockingChaosProxy, impostor: ChaosServer, version: str
) -> None:
    context = ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())
    context.maximum_version = VERSIONS[version]
    async with client(context, way) as http:
        assert (await http.get("/")).status_code == 200
        await way.until(lambda: way.connections == 1)
        way.reset_idle()
        lead(way, impostor)
        with refused(impostor):
            for _ in range(3):
                await http.get("/")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_at_the_second_address_of_a_host_whose_first_refuses(
    client_context: ssl.SSLContext, impostor: ChaosServer, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    port = impostor.address[1]

    async def two_addresses(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.77", "127.0.0.1")]

    monkeypatch.setattr(anyio, "getaddrinfo", two_addresses)
    transport = holdwire.ResilientTransport(verify=client_context)
    async with httpx.AsyncClient(transport=transport, timeout=5) as http:
        with refused(impostor):
            await http.request(method, f"https://localhost:{port}/")


async def test_at_the_replacement_of_a_connection_whose_path_drops_packets(
    client_context: ssl.SSLContext, way: BlockingChaosProxy, honest: ChaosServer, impostor: ChaosServer
) -> None:
    seen, responses = Seen(), list[httpx.Response]()
    async with client(client_context, way, observers=[seen]) as http:

        async def get() -> None:
            responses.append(await http.get("/again", timeout=20))

        assert (await http.get("/")).status_code == 200
        (passage,) = way._connections.values()
        way._tell(passage.faulty.link.black_hole)
        lead(way, impostor)
        (connection,) = Bench.pool(http).connections
        connection.idle_since -= 31  # a path that may have forgotten us is found dead after a second
        async with anyio.create_task_group() as group:
            group.start_soon(get)
            await seen.until(lambda seen: seen.failures)
            assert not responses
            way.heal()
    assert [failure.category for failure in seen.failures] == [Category.CONFIGURATION]
    assert impostor.accepted
    assert not impostor.journal.entries("request")
    assert [response.status_code for response in responses] == [200], "by the connection that could not be replaced"
    assert honest.ledger.count("/again") == 1


async def test_at_the_other_end_of_a_session_that_comes_back(
    client_context: ssl.SSLContext, way: BlockingChaosProxy, impostor: ChaosServer
) -> None:
    url = f"tls://localhost:{way.address[1]}"
    with pytest.raises(holdwire.errors.ConnectFailed) as caught:  # noqa: PT012 - one of the rounds is to fail
        async for session in holdwire.sessions(url, tls=client_context):
            async with session:
                lead(way, impostor)
                way.reset_all()
                await session.receive()  # ends with the connection
    assert caught.value.failure is not None
    assert caught.value.failure.category is Category.CONFIGURATION
    assert not impostor.journal.entries("request")


async def test_two_names_of_one_server_never_share_a_connection(
    ca: trustme.CA, client_context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP/2 would allow it (RFC 9113, section 9.1.1), and a certificate for both would be the only check left."""

    async def here(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.address[1]))]

    with ChaosServer(tls=context(ca, "a.test", "b.test")) as server:
        monkeypatch.setattr(anyio, "getaddrinfo", here)
        transport = holdwire.ResilientTransport(verify=client_context, http2=True)
        async with httpx.AsyncClient(transport=transport) as http:
            for name in ("a.test", "b.test", "a.test"):
                assert (await http.get(f"https://{name}:{server.address[1]}/")).status_code == 200
        assert server.accepted == 2
