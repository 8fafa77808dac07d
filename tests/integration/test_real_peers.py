"""Real intermediaries: haproxy in front of nginx, tinyproxy and microsocks on the way; bodies of 100 MiB both ways."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

import holdwire
from holdwire.testing import ChaosServer
from tests.nginx import nginx
from tests.peers import haproxy, microsocks, tinyproxy
from tests.ports import free_port
from tests.transports.test_failures import Seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.server]

MIB = 1 << 20
SIZE = 100 * MIB


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    with ChaosServer(tls=request.param == "tls") as server:
        yield server


def client(verify: Any, seen: Seen, **settings: Any) -> httpx.AsyncClient:
    transport = holdwire.ResilientTransport(verify=verify, observers=[seen], **settings)
    return httpx.AsyncClient(transport=transport, timeout=30)


def context_for(server: ChaosServer) -> Any:
    return server.client_context() if server.url.startswith("https") else True


# --- haproxy and nginx ---


async def chunks(block: bytes) -> AsyncIterator[bytes]:
    for _ in range(SIZE // len(block)):
        yield block


@pytest.mark.slow
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_a_hundred_mebibytes_go_up_and_down_through_haproxy_and_nginx(
    tmp_path: Path, seen: Seen, *, http2: bool
) -> None:
    block = bytes(range(256)) * (MIB // 256)
    with nginx(tmp_path) as behind:
        (tmp_path / "files" / "big").write_bytes(block * 100)
        with haproxy(tmp_path, behind.port, behind.identity) as port:
            url = f"https://localhost:{port}"
            async with client(behind.identity.client_context(), seen, http2=http2) as http:
                digest, size = hashlib.sha256(), 0
                async with http.stream("GET", f"{url}/files/big") as response:
                    assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                    async for piece in response.aiter_bytes():
                        digest.update(piece)
                        size += len(piece)
                assert size == SIZE
                assert digest.digest() == hashlib.sha256(block * 100).digest()
                answer = await http.post(f"{url}/", content=chunks(block), headers={"Content-Length": str(SIZE)})
                assert answer.status_code == 200
    assert seen.failures == []


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_posts_beyond_haproxys_keep_alive_limit_all_arrive_and_none_fails(
    tmp_path: Path, seen: Seen, *, http2: bool
) -> None:
    with nginx(tmp_path) as behind, haproxy(tmp_path, behind.port, behind.identity, keep_alive="150ms") as port:
        async with client(behind.identity.client_context(), seen, http2=http2) as http:
            for pause in (0.0, 0.0, 0.4, 0.3, 0.0, 0.5):
                await anyio.sleep(pause)
                answer = await http.post(f"https://localhost:{port}/", content=b"1")
                assert answer.status_code == 200
    crossed = [failure for failure in seen.failures if failure.kind == "http2_goaway" and failure.safe_to_retry]
    assert seen.failures == (crossed if http2 else []), "a GOAWAY may cross a request and proves it unprocessed"


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_posts_that_may_be_repeated_all_arrive_in_the_moment_of_haproxys_limit_too(
    tmp_path: Path, seen: Seen, *, http2: bool
) -> None:
    with nginx(tmp_path) as behind, haproxy(tmp_path, behind.port, behind.identity, keep_alive="150ms") as port:
        async with client(behind.identity.client_context(), seen, http2=http2) as http:
            for pause in (0.0, 0.14, 0.15, 0.151, 0.155, 0.16, 0.149):
                await anyio.sleep(pause)
                mark = {"holdwire": {"idempotent": True}}
                answer = await http.post(f"https://localhost:{port}/", content=b"1", extensions=mark)
                assert answer.status_code == 200


# --- tinyproxy ---


async def test_tinyproxy_forwards_and_tunnels(tmp_path: Path, server: ChaosServer, seen: Seen) -> None:
    # it ends each plain connection after one answer and does not say so: a POST at that moment could not be repeated
    headers = {} if server.url.startswith("https") else {"Connection": "close"}
    with tinyproxy(tmp_path) as port:
        async with client(context_for(server), seen, proxy=f"http://127.0.0.1:{port}") as http:
            for number in range(3):
                answer = await http.post(f"{server.url}/{number}", content=b"x" * MIB, headers=headers)
                assert answer.content == b"x" * MIB
    assert seen.failures == []
    if server.url.startswith("https"):
        assert server.accepted == 1, "a tunnel is kept"


async def test_tinyproxy_wants_credentials(tmp_path: Path, server: ChaosServer, seen: Seen) -> None:
    with tinyproxy(tmp_path, more="BasicAuth me secret") as port:
        async with client(context_for(server), seen, proxy=f"http://me:secret@127.0.0.1:{port}") as http:
            assert (await http.get(server.url)).status_code == 200
        async with client(context_for(server), seen, proxy=f"http://me:wrong@127.0.0.1:{port}") as http:
            if server.url.startswith("http:"):
                assert (await http.get(server.url)).status_code in {401, 407}
            else:
                with pytest.raises(httpx.ProxyError, match=r"^40[17] "):
                    await http.get(server.url)
                assert len(seen.failures) == 1


async def test_tinyproxy_refuses_a_port(tmp_path: Path, seen: Seen) -> None:
    with ChaosServer(tls=True) as server, tinyproxy(tmp_path, more="ConnectPort 443") as port:
        async with client(server.client_context(), seen, proxy=f"http://127.0.0.1:{port}") as http:
            with pytest.raises(httpx.ProxyError, match=r"^403 ") as caught:
                await http.get(server.url)
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.via == f"127.0.0.1:{port}"


async def test_tinyproxy_cannot_reach_the_origin(tmp_path: Path, seen: Seen) -> None:
    holdwire.set_testing()
    try:
        with tinyproxy(tmp_path) as port:
            async with client(True, seen, proxy=f"http://127.0.0.1:{port}") as http:  # noqa: FBT003 - verify=True
                with pytest.raises(httpx.ProxyError, match=r"^50\d "):
                    await http.get(f"https://127.0.0.1:{free_port()}/")
    finally:
        holdwire.set_testing(enabled=False)


# --- microsocks ---


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_microsocks_without_and_with_a_password(server: ChaosServer, seen: Seen, scheme: str) -> None:
    for arguments, user in (((), ""), (("-u", "me", "-P", "secret"), "me:secret@")):
        with microsocks(*arguments) as port:
            async with client(context_for(server), seen, proxy=f"{scheme}://{user}127.0.0.1:{port}") as http:
                for _ in range(2):
                    answer = await http.post(server.url.replace("127.0.0.1", "localhost"), content=b"x" * MIB)
                    assert answer.content == b"x" * MIB
    assert seen.failures == []
    assert server.accepted == 2


async def test_microsocks_refuses_a_wrong_password_and_what_it_cannot_reach(seen: Seen) -> None:
    holdwire.set_testing()
    try:
        with microsocks("-u", "me", "-P", "secret") as port:
            url = f"http://127.0.0.1:{free_port()}/"
            async with client(True, seen, proxy=f"socks5://me:wrong@127.0.0.1:{port}") as http:  # noqa: FBT003
                with pytest.raises(httpx.ProxyError, match="Invalid username/password"):
                    await http.get(url)
            async with client(True, seen, proxy=f"socks5://me:secret@127.0.0.1:{port}") as http:  # noqa: FBT003
                with pytest.raises(httpx.ProxyError, match="Connection refused"):
                    await http.get(url)
    finally:
        holdwire.set_testing(enabled=False)
