"""The bench of the tests on real paths: a server behind a router, clients on the other side of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import holdwire
from holdwire.testing import ChaosServer
from tests.conftest import BACKENDS
from tests.netns import SERVER, Lab, lab
from tests.seen import Seen

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from holdwire.http.connection import HttpConnection
    from holdwire.http.pool import Pool

__all__ = ["ASYNCIO", "LOOPS", "MARKS", "TRIO", "UVLOOP", "Bench", "bench", "tls_bench"]

LOOPS = pytest.mark.parametrize("anyio_backend", [BACKENDS["asyncio"], BACKENDS["trio"]], ids=["asyncio", "trio"])
"""What takes seconds runs on two loops, or where no loop can make a difference on one."""
ASYNCIO, UVLOOP, TRIO = (
    pytest.mark.parametrize("anyio_backend", [BACKENDS[name]], ids=[name]) for name in ("asyncio", "uvloop", "trio")
)
MARKS = [pytest.mark.netns, pytest.mark.slow]


class Bench:
    """See the module."""

    def __init__(self, net: Lab, server: ChaosServer) -> None:
        self.net = net
        self.server = server
        self.seen = Seen()
        self.url = server.url

    def client(self, **settings: Any) -> httpx.AsyncClient:
        """A client on the other side of the router."""
        transport = holdwire.ResilientTransport(observers=[self.seen], **settings)
        return httpx.AsyncClient(transport=transport, timeout=30)

    @staticmethod
    def pool(client: httpx.AsyncClient) -> Pool:
        transport = client._transport
        assert isinstance(transport, holdwire.ResilientTransport)
        return transport._client.pools[0]

    def connection(self, client: httpx.AsyncClient) -> HttpConnection:
        return self.pool(client).connections[0]

    def cut(self, client: httpx.AsyncClient) -> None:
        """Silently cut the path under the client's present connections; new ones pass."""
        for connection in self.pool(client).connections:
            port = connection.wire.facts().get("local_port")
            assert port is not None
            self.net.drop_port(port)


@contextmanager
def _bench(*, tls: bool) -> Generator[Bench]:
    with lab() as net:
        with net.on(net.server):
            server = ChaosServer(host=SERVER, tls=tls)
            server.__enter__()
        try:
            with net.on(net.client):
                yield Bench(net, server)
        finally:
            server.__exit__(None, None, None)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A fresh lab with a server in it; the calling thread is the client's host."""
    with _bench(tls=False) as made:
        yield made


@pytest.fixture
def tls_bench() -> Iterator[Bench]:
    """The same, with a server whose certificate is for another name."""
    with _bench(tls=True) as made:
        yield made
