"""Every argument of ``AsyncHTTPTransport`` has the meaning that it has in the family."""

from __future__ import annotations

import inspect
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest

import holdwire
from holdwire.testing import ChaosServer, Identity, self_signed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.transports.conftest import Family


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer(tls=True) as server:
        yield server


async def answered(family: Family, url: str, **settings: Any) -> bool:
    """Whether a request gets through; False if the server was not trusted."""
    async with family.client(**settings) as client:
        try:
            response = await client.get(url)
        except family.http.ConnectError:
            return False
    return bool(response.status_code == 200)


def test_the_arguments_are_the_familys_in_the_same_order(family: Family) -> None:
    theirs = inspect.signature(family.http.AsyncHTTPTransport.__init__).parameters
    ours = inspect.signature(family.ours.ResilientTransport.__init__).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        if name not in {"self", "limits"}:  # limits that are given are told from the default
            assert ours[name].default == parameter.default
    rest = list(ours.values())[len(theirs) :]
    assert {parameter.kind for parameter in rest} == {inspect.Parameter.KEYWORD_ONLY}


# --- trust ---


async def test_verify_as_context_as_bool_and_by_default(family: Family, server: ChaosServer) -> None:
    assert await answered(family, server.url, verify=server.client_context())
    assert await answered(family, server.url, verify=False)
    assert not await answered(family, server.url, verify=True)
    assert not await answered(family, server.url, verify=None), "as with httpx: its default, which verifies"
    assert not await answered(family, server.url)


@pytest.mark.parametrize("kind", ["file", "folder"])
async def test_verify_as_a_path(family: Family, server: ChaosServer, tmp_path: Path, kind: str) -> None:
    identity: Any = server.identity
    authority = identity.write_authority(tmp_path / "ca.pem")
    path = authority if kind == "file" else tmp_path
    with pytest.warns(DeprecationWarning, match="verify"):
        transport = family.transport(verify=str(path))
    async with family.http.AsyncClient(transport=transport) as client:
        if kind == "file":
            assert (await client.get(server.url)).status_code == 200
        else:  # a folder that was not rehashed holds nothing that OpenSSL finds
            with pytest.raises(family.http.ConnectError):
                await client.get(server.url)


@pytest.mark.parametrize("trust_env", [True, False])
async def test_ssl_cert_file_counts_where_the_environment_is_trusted(
    family: Family, server: ChaosServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, trust_env: bool
) -> None:
    identity: Any = server.identity
    monkeypatch.setenv("SSL_CERT_FILE", str(identity.write_authority(tmp_path / "ca.pem")))
    assert await answered(family, server.url, trust_env=trust_env) is trust_env


@pytest.mark.parametrize("form", ["path", "pair", "triple"])
async def test_a_client_certificate_in_each_form(family: Family, tmp_path: Path, form: str) -> None:
    identity: Identity = self_signed("127.0.0.1", "localhost")
    (tmp_path / "both.pem").write_bytes(identity.certificate + identity.key)
    (tmp_path / "certificate.pem").write_bytes(identity.certificate)
    (tmp_path / "key.pem").write_bytes(identity.key)
    pair = (str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem"))
    forms: dict[str, Any] = {"path": str(tmp_path / "both.pem"), "pair": pair, "triple": (*pair, "no password")}
    context = identity.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=identity.authority.decode())
    with ChaosServer(tls=context) as server:
        verify = identity.client_context()
        with pytest.warns(DeprecationWarning, match="cert"):
            transport = family.transport(verify=verify, cert=forms[form])
        async with family.http.AsyncClient(transport=transport) as client:
            assert (await client.get(server.url)).status_code == 200
        async with family.client(verify=identity.client_context(), retry=None) as client:
            with pytest.raises(family.http.TransportError):
                await client.get(server.url)


# --- the way there ---


async def test_a_unix_socket_in_place_of_tcp(family: Family, tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as sock:
                while sock.recv(65536):
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        thread = threading.Thread(target=serve)
        thread.start()
        options = iter([(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)])
        async with family.client(uds=path, socket_options=options) as client:
            await client.get("http://whatever.example/x")
            response = await client.get("http://whatever.example/y")
            assert response.text == "ok"
            sock = response.extensions["network_stream"].get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 8192
        thread.join(5)
    async with family.client(uds=str(tmp_path / "missing"), retry=None) as client:
        with pytest.raises(family.http.ConnectError, match="ENOENT"):
            await client.get("http://whatever.example/")


async def test_local_address_chooses_the_source_and_the_address_family(family: Family) -> None:
    with ChaosServer() as server:
        url = server.url.replace("127.0.0.1", "localhost")
        for given, expected in (("127.0.0.3", "127.0.0.3"), ("0.0.0.0", "127.0.0.1")):
            async with family.client(local_address=given) as client:
                stream = (await client.get(url)).extensions["network_stream"]
                assert stream.get_extra_info("client_addr")[0] == expected
        async with family.client(local_address="::", retry=None) as client:
            with pytest.raises(family.http.ConnectError):
                await client.get(url.replace("localhost", "127.0.0.1"))


@pytest.mark.parametrize("retries", [0, 1, 2])
async def test_retries_are_further_rounds_of_connecting(family: Family, retries: int) -> None:
    from tests.transports.test_failures import Seen

    with ChaosServer() as server:
        url = server.url
    seen = Seen()
    holdwire.set_testing(attempts=4)
    try:
        async with family.client(retries=retries, observers=[seen]) as client:
            with pytest.raises(family.http.ConnectError):
                await client.get(url)
    finally:
        holdwire.set_testing(enabled=False)
    assert len(seen.failures) == (retries + 1 if retries else 4), "without a number the policy decides"


async def test_limits_hold_to_the_letter(family: Family) -> None:
    limits = family.http.Limits(max_connections=1, max_keepalive_connections=0, keepalive_expiry=None)
    with ChaosServer() as server:
        async with family.client(limits=limits) as client:
            async with client.stream("GET", server.url):
                with pytest.raises(family.http.PoolTimeout):
                    await client.get(server.url, timeout=family.http.Timeout(5, pool=0.05))
            await client.get(server.url)
            assert server.accepted == 2, "no idle connection is kept"
