"""What an HTTP/2 client holds when nobody holds it any more, and when its event loop is over."""

from __future__ import annotations

import gc
from typing import Any

import anyio
import httpx
import pytest

import holdwire
from tests.conftest import open_sockets
from tests.http2.server import serve


async def get(client: httpx.AsyncClient) -> int:
    """One request; the number of pools that the client has afterwards."""
    async with serve() as server:
        assert (await client.get(f"{server.url}/x")).text == "/x"
    transport: Any = client._transport
    return len(transport._client.pools)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_client_that_is_used_by_one_loop_after_another_and_then_collected_holds_no_socket(backend: str) -> None:
    gc.collect()
    before = len(open_sockets())
    client = httpx.AsyncClient(transport=holdwire.ResilientTransport(http1=False, http2=True, verify=False))
    assert [anyio.run(get, client, backend=backend), anyio.run(get, client, backend=backend)] == [1, 1]
    del client
    gc.collect()
    assert len(open_sockets()) <= before
