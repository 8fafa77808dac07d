"""A program of its own for ``test_lifetimes``: a client, a loop, and an end that is not the usual one.

python -m tests.lifetimes_program URL CERTIFICATE RUNNER SCENARIO
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx

import holdwire
from tests.forks import in_child

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

URL, CERTIFICATE, RUNNER, SCENARIO = sys.argv[1:]


def new_client() -> httpx.AsyncClient:
    context = ssl.create_default_context(cafile=CERTIFICATE) if CERTIFICATE else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.AsyncClient(transport=holdwire.ResilientTransport(verify=context), base_url=URL)


def run(function: Callable[..., Awaitable[Any]], *arguments: Any, runner: str = RUNNER) -> Any:
    backend = "trio" if runner == "trio" else "asyncio"
    options = {} if runner == "trio" else {"use_uvloop": runner == "uvloop"}
    return anyio.run(function, *arguments, backend=backend, backend_options=options)


async def get(client: httpx.AsyncClient, times: int = 2) -> None:
    for _ in range(times):
        response = await client.get("/get")
        assert response.status_code == 200
        assert response.content == b"hello\n"


async def refused(client: httpx.AsyncClient, path: str) -> None:
    """The request ends with the word that the client was closed."""
    message = "nothing was raised"
    try:
        await client.get(path)
    except (RuntimeError, httpx.ReadError) as exc:
        message = str(exc)
    if "closed" not in message:
        raise AssertionError(message)


def in_child_without_loop(function: Callable[[], object]) -> int:
    """Run ``function`` in a fork, in a thread of its own, which has no loop and no trio run; its exit code."""

    def alone() -> None:
        asyncio._set_running_loop(None)
        with ThreadPoolExecutor(1) as threads:
            threads.submit(function).result()
        gc.collect()

    return in_child(alone)


def runs_after_each_other() -> None:
    """One client over several runs, on other backends too."""
    client = new_client()
    for runner in (RUNNER, RUNNER, "asyncio", "trio", "uvloop", RUNNER):
        run(get, client, runner=runner)
    run(client.aclose)


def never_closed() -> None:
    """The program ends with a live client."""
    client = new_client()
    run(get, client)
    globals()["kept"] = client


def collected() -> None:
    """A client that nobody closed is collected inside its run, and another one after it."""

    async def inside() -> None:
        client = new_client()
        await get(client)
        del client
        gc.collect()
        await anyio.sleep(0.01)

    run(inside)
    client = new_client()
    run(get, client)
    del client
    gc.collect()


def in_flight() -> None:
    """The run ends while requests wait for a head and for a body, and while one is being sent."""

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await anyio.sleep_forever()

    async def read(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", "/half") as response:
            async for _ in response.aiter_bytes():
                pass

    async def main() -> None:
        client = new_client()
        await get(client)
        if RUNNER == "trio":
            async with anyio.create_task_group() as group:
                group.start_soon(client.get, "/slow")
                group.start_soon(read, client)
                group.start_soon(lambda: client.post("/post", content=body()))
                await anyio.sleep(0.05)
                group.cancel_scope.cancel()
            return
        tasks = [
            asyncio.ensure_future(client.get("/slow")),
            asyncio.ensure_future(read(client)),
            asyncio.ensure_future(client.post("/post", content=body())),
        ]
        await asyncio.sleep(0.05)
        globals()["kept"] = tasks

    run(main)


def forked() -> None:
    """A fork that uses the parent's client, one that closes it, one that drops it: the parent goes on as before."""
    client = new_client()

    async def parent() -> None:
        await get(client)
        transport = client._transport
        assert isinstance(transport, holdwire.ResilientTransport)
        kept = transport._client.pools[0].connections
        assert len(kept) == 1
        children: tuple[Callable[[], object], ...] = (
            lambda: run(get, client),
            lambda: run(client.aclose),
            gc.collect,
        )
        for child in children:
            assert in_child_without_loop(child) == 0
            await get(client)
            assert client._transport._client.pools[0].connections == kept  # type: ignore[attr-defined]
        await client.aclose()

    run(parent)


def closed_from_another_thread() -> None:
    """``aclose`` from another thread and loop, while the first one idles, and while it waits for an answer."""

    async def main() -> None:
        client = new_client()
        await get(client)
        await anyio.to_thread.run_sync(lambda: run(client.aclose, runner="asyncio"))
        await refused(client, "/get")
        client = new_client()
        async with anyio.create_task_group() as group:
            group.start_soon(refused, client, "/slow")
            await anyio.sleep(0.05)
            transport = client._transport
            await anyio.to_thread.run_sync(lambda: run(transport.aclose, runner="trio"))

    run(main)


if __name__ == "__main__":
    {
        function.__name__: function
        for function in (
            runs_after_each_other,
            never_closed,
            collected,
            in_flight,
            forked,
            closed_from_another_thread,
        )
    }[SCENARIO]()
