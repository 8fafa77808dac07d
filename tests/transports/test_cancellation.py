"""Cancelled at the n-th await, for every n: nothing leaks, and the next request works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

import holdwire
from holdwire.testing import ChaosServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    with ChaosServer(tls=request.param == "tls") as server:
        yield server


class CancelAt:
    """Runs an awaitable and cancels the scope around it at its n-th suspension."""

    def __init__(self, number: int, scope: anyio.CancelScope) -> None:
        self.number = number
        self.scope = scope
        self.seen = 0

    def run(self, awaitable: Awaitable[Any]) -> _Counted:
        return _Counted(self, awaitable)


class _Counted:
    def __init__(self, owner: CancelAt, awaitable: Awaitable[Any]) -> None:
        self.owner = owner
        self.awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self.awaitable.__await__()
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                yielded = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as stop:
                return stop.value
            self.owner.seen += 1
            if self.owner.seen == self.owner.number:
                self.owner.scope.cancel()
            value, error = None, None
            try:
                value = yield yielded
            except BaseException as exc:  # noqa: BLE001 - handed to the inner one
                error = exc


async def upload() -> AsyncIterator[bytes]:
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
        yield b"x" * 1000


async def plain_get(client: httpx.AsyncClient) -> None:
    response = await client.get("/get")
    assert response.status_code == 200


async def streamed_post(client: httpx.AsyncClient) -> None:
    async with client.stream("POST", "/post", content=upload()) as response:
        async for _ in response.aiter_bytes():
            pass


async def early_close(client: httpx.AsyncClient) -> None:
    async with client.stream("POST", "/post", content=b"x" * 300_000):
        pass


@pytest.mark.timeout(60)
@pytest.mark.parametrize("scenario", [plain_get, streamed_post, early_close])
@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "reused"])
async def test_cancelled_anywhere_the_pool_loses_nothing(
    server: ChaosServer,
    scenario: Callable[[httpx.AsyncClient], Awaitable[None]],
    warm: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    number = 0
    while True:
        number += 1
        verify = server.client_context() if server.url.startswith("https") else True
        transport = holdwire.ResilientTransport(verify=verify, limits=httpx.Limits(max_connections=1))
        async with httpx.AsyncClient(transport=transport, base_url=server.url) as client:
            if warm:
                await plain_get(client)
            with anyio.CancelScope() as scope:
                cancel_at = CancelAt(number, scope)
                await cancel_at.run(scenario(client))
            with anyio.fail_after(5):
                await plain_get(client)
        with anyio.fail_after(5):
            await server.until(lambda: server.connections == 0)
        if cancel_at.seen < number:
            break
    assert number > 1
