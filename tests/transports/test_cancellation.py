"""Cancelled at the n-th await, for every n, in two ways: nothing leaks, and the next request works.

The ways: anyio's scope as the request is about to wait; and, on asyncio, ``Task.cancel`` just as the wait is over, so
that what was waited for (a connection, room in the pool, bytes) comes together with the cancel.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import anyio.lowlevel
import httpx
import pytest
import tenacity

import holdwire
from holdwire.events import ConnectionSetUp
from holdwire.net.resolve import Address
from holdwire.testing import Answer, ChaosServer, Framing
from tests.conftest import open_sockets, running_tasks
from tests.net_helpers import refused_then_silent, unwilling
from tests.seen import Seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator

    Step: TypeAlias = Callable[[httpx.AsyncClient], Awaitable[None]]

BODY: Final = b"x" * 300_000
SCOPE, LATE = "scope", "late"


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    with ChaosServer(tls=request.param == "tls") as server:
        server.answer("/chunked", Answer(body=BODY, framing=Framing.CHUNKED))
        yield server


@pytest.fixture
def ways(anyio_backend_name: str) -> tuple[str, ...]:
    return (SCOPE,) if anyio_backend_name == "trio" else (SCOPE, LATE)


def context_for(server: ChaosServer) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if server.identity is None else server.client_context()


class CancelAt:
    """Runs an awaitable and cancels it at its n-th suspension; ``seen`` is how many there were."""

    def __init__(self, number: int, way: str) -> None:
        self.number = number
        self.way = way
        self.seen = 0
        self.cancelled = False

    async def run(self, awaitable: Awaitable[None]) -> None:
        if self.way == SCOPE:
            with anyio.CancelScope() as scope:
                await _Counted(self, awaitable, lambda _: scope.cancel())
            self.cancelled = True  # or what it waited for came first, and there was no further await
            return

        async def counted() -> None:
            await _Counted(self, awaitable, self._cancel_task)

        task = asyncio.create_task(counted())
        await asyncio.wait([task])
        self.cancelled = task.cancelled()
        if not task.cancelled():
            task.result()

    def _cancel_task(self, waited_for: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        if waited_for is not None:

            def cancel(_: object) -> None:  # runs before the task is woken
                task.cancel()

            waited_for.add_done_callback(cancel)
        else:
            task.cancel()


class _Counted:
    def __init__(self, owner: CancelAt, awaitable: Awaitable[None], cancel: Callable[[Any], object]) -> None:
        self.owner = owner
        self.awaitable = awaitable
        self.cancel = cancel

    def __await__(self) -> Generator[Any, Any, None]:
        inner = self.awaitable.__await__()
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                yielded = inner.send(value) if error is None else inner.throw(error)
            except StopIteration:
                return
            self.owner.seen += 1
            if self.owner.seen == self.owner.number:
                self.cancel(yielded)
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
    assert response.content == b"hello\n"


async def post_with_a_body(client: httpx.AsyncClient) -> None:
    response = await client.post("/post", content=BODY)
    assert response.content == BODY


async def streamed_upload(client: httpx.AsyncClient) -> None:
    async with client.stream("POST", "/post", content=upload()) as response:
        assert await response.aread() == b"x" * 3000


async def chunked_download_closed_early(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/chunked") as response:
        async for _ in response.aiter_raw():
            break


async def keep_alive_sequence(client: httpx.AsyncClient) -> None:
    await plain_get(client)
    async with client.stream("GET", "/chunked") as response:
        assert await response.aread() == BODY
    await plain_get(client)


async def two_at_once_through_one_connection(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/chunked"), anyio.create_task_group() as group:
        group.start_soon(plain_get, client)
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    await plain_get(client)


STEPS: Final = (
    plain_get,
    post_with_a_body,
    streamed_upload,
    chunked_download_closed_early,
    keep_alive_sequence,
    two_at_once_through_one_connection,
)


async def cancel_everywhere(
    server: ChaosServer,
    step: Step,
    ways: tuple[str, ...],
    *,
    warm: bool = False,
    base: str | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> int:
    """Run ``step`` again and again, cancelled one await later each time; returns how many awaits it has.

    One connection is all that the pool allows: a place that is lost shows as a request that waits for ever.
    """
    context = context_for(server)
    await request_by_request(server, context, base or server.url, CancelAt(1 << 30, SCOPE), plain_get, warm=False)
    sockets, tasks = open_sockets(), running_tasks()
    awaits = 0
    for way in ways:
        for number in itertools.count(1):
            prepare()
            cancel_at = CancelAt(number, way)
            await request_by_request(server, context, base or server.url, cancel_at, step, warm=warm)
            with anyio.fail_after(5):
                while len(open_sockets()) > len(sockets) or running_tasks().keys() - tasks:  # noqa: ASYNC110 - no event tells
                    await anyio.sleep(0.001)
            awaits = max(awaits, cancel_at.seen)
            if cancel_at.seen < number:
                break
            assert cancel_at.cancelled, f"the cancel at await {number} was swallowed"
    return awaits


async def request_by_request(
    server: ChaosServer, context: ssl.SSLContext, url: str, cancel_at: CancelAt, step: Step, *, warm: bool
) -> None:
    """A fresh client: ``step``, cancelled somewhere, and a request that has to work after it."""
    transport = holdwire.ResilientTransport(
        verify=context,
        limits=httpx.Limits(max_connections=1),
        retry=holdwire.RetryPolicy(wait=tenacity.wait_fixed(0.01)),
    )
    async with httpx.AsyncClient(transport=transport, base_url=url) as client:
        if warm:
            await plain_get(client)
        await cancel_at.run(step(client))
        for pool in transport._client.pools:
            assert pool.size == len(pool.idle), "a place in the pool is lost"
            assert pool._waiters.oldest is None, "a waiter is left"
        server.clear_scripts()
        with anyio.fail_after(5):
            await plain_get(client)
        (pool,) = transport._client.pools
        assert pool.size == 1
    assert pool.size == 0
    with anyio.fail_after(5):
        await server.until(lambda: server.connections == 0)


@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")  # trio's word on httpx's own generators
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "reused"])
async def test_cancelled_anywhere_the_pool_loses_nothing(
    server: ChaosServer,
    step: Step,
    ways: tuple[str, ...],
    warm: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    assert await cancel_everywhere(server, step, ways, warm=warm) >= 1


@pytest.mark.parametrize("fault", ["handshake stall=0.01", "response:0 stall=0.01"])
async def test_cancelled_while_the_server_is_slow(server: ChaosServer, fault: str, ways: tuple[str, ...]) -> None:
    if fault.startswith("handshake") and server.url.startswith("http:"):
        pytest.skip("no handshake without TLS")
    awaits = await cancel_everywhere(server, plain_get, ways, prepare=lambda: server.script(fault))
    assert awaits >= 2


async def test_cancelled_while_it_is_sent_again(server: ChaosServer, ways: tuple[str, ...]) -> None:
    script = "request:0 rst" if server.url.startswith("http:") else "handshake rst"
    awaits = await cancel_everywhere(server, plain_get, ways, prepare=lambda: server.script(script, script))
    assert awaits >= 3


async def test_cancelled_while_it_waits_for_a_closed_port(server: ChaosServer, ways: tuple[str, ...]) -> None:
    def prepare() -> None:
        server.refuse(0.05)

    assert await cancel_everywhere(server, plain_get, ways, prepare=prepare) >= 2


@pytest.mark.parametrize("others", ["refuse", "are silent"])
async def test_cancelled_while_several_addresses_are_tried(
    server: ChaosServer, others: str, ways: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = others == "are silent"

    async def resolve(*_: object, **__: object) -> list[Address]:
        await anyio.lowlevel.checkpoint()
        return [first, second, Address(socket.AF_INET, *server.address)]

    monkeypatch.setattr("holdwire.net.dial.resolve", resolve)
    monkeypatch.setattr("holdwire.net.dial.STAGGER", 0.01)
    base = server.url.replace("127.0.0.1", "localhost")
    with unwilling("127.0.0.2", deaf=deaf) as first, unwilling("127.0.0.3", deaf=deaf) as second:
        assert await cancel_everywhere(server, plain_get, ways, base=base) >= (3 if deaf else 2)


async def test_what_failed_before_the_request_was_cancelled_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    async with httpx.AsyncClient(transport=holdwire.ResilientTransport(observers=[seen])) as client:
        with anyio.CancelScope() as scope, refused_then_silent(monkeypatch, scope.cancel):
            await client.get("http://localhost/")
    assert [failure.errno_name for failure in seen.failures] == ["ECONNREFUSED"]
    assert [event.final for event in seen.of(ConnectionSetUp)] == [False]


async def test_a_place_that_becomes_free_as_its_waiter_is_cancelled_goes_to_the_next_one(
    server: ChaosServer, ways: tuple[str, ...]
) -> None:
    """The one connection is in use; two requests wait for it; the first is cancelled while it is given back."""

    async def contended(client: httpx.AsyncClient) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(plain_get, client)
            await anyio.lowlevel.checkpoint()
            cancel_at = CancelAt(1, ways[-1])
            group.start_soon(plain_get, client)
            await cancel_at.run(plain_get(client))

    async with httpx.AsyncClient(
        transport=holdwire.ResilientTransport(
            verify=context_for(server),
            limits=httpx.Limits(max_connections=1),
        ),
        base_url=server.url,
    ) as client:
        for _ in range(20):
            with anyio.fail_after(5):
                await contended(client)
    assert server.ledger.count("/get") >= 40
