"""One transport over several event loops, processes and threads; collected, closed from elsewhere, left running."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

import holdwire
from holdwire.testing import ChaosServer
from tests.conftest import open_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer() as server:
        yield server


async def get(client: httpx.AsyncClient, url: str, times: int = 2) -> None:
    for _ in range(times):
        response = await client.get(url)
        assert response.status_code == 200


def test_one_client_over_two_runs_of_asyncio(server: ChaosServer) -> None:
    client = httpx.AsyncClient(transport=holdwire.ResilientTransport())
    before = open_sockets()
    for _ in range(3):
        asyncio.run(get(client, server.url))
    assert server.accepted == 3
    assert len(open_sockets() - before) <= 3, "what belongs to a closed loop is dropped, but for the last"
    asyncio.run(client.aclose())
    server.wait_for(lambda: server.connections == 0)


def test_one_client_on_asyncio_and_then_on_trio(server: ChaosServer) -> None:
    client = httpx.AsyncClient(transport=holdwire.ResilientTransport())
    anyio.run(get, client, server.url, backend="asyncio")
    anyio.run(get, client, server.url, backend="trio")
    anyio.run(get, client, server.url, backend="asyncio")
    anyio.run(client.aclose, backend="trio")
    server.wait_for(lambda: server.connections == 0)


def test_two_threads_with_a_loop_each_do_not_disturb_each_other(server: ChaosServer) -> None:
    client = httpx.AsyncClient(transport=holdwire.ResilientTransport())
    errors: list[BaseException] = []

    def work(backend: str) -> None:
        try:
            anyio.run(get, client, server.url, 50, backend=backend)
        except BaseException as exc:  # noqa: BLE001 - handed to the test
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(backend,)) for backend in ("asyncio", "trio", "asyncio")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert server.accepted == 3, "each loop has its own connection and keeps it"
    asyncio.run(client.aclose())
    server.wait_for(lambda: server.connections == 0)


def test_closing_from_another_thread_ends_the_connections_of_a_running_loop(server: ChaosServer) -> None:
    client = httpx.AsyncClient(transport=holdwire.ResilientTransport())
    ready, done = threading.Event(), threading.Event()

    async def work() -> None:
        await get(client, server.url)
        ready.set()
        await anyio.to_thread.run_sync(done.wait)

    thread = threading.Thread(target=anyio.run, args=(work,))
    thread.start()
    assert ready.wait(5)
    asyncio.run(client.aclose())
    server.wait_for(lambda: server.connections == 0)
    done.set()
    thread.join()


async def test_a_transport_that_nobody_closed_closes_its_sockets_when_it_is_collected(server: ChaosServer) -> None:
    client = httpx.AsyncClient(transport=holdwire.ResilientTransport())
    await get(client, server.url)
    assert server.connections == 1
    del client
    gc.collect()
    await server.until(lambda: server.connections == 0)


async def test_a_transport_can_be_used_again_after_its_client_was_left(server: ChaosServer) -> None:
    transport = holdwire.ResilientTransport()
    for _ in range(2):
        async with httpx.AsyncClient(transport=transport) as client:
            await get(client, server.url)
    await server.until(lambda: server.connections == 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_fork_leaves_the_parents_connections_alone(server: ChaosServer) -> None:
    script = textwrap.dedent(
        """
        import asyncio, os, sys
        import httpx, holdwire

        client = httpx.AsyncClient(transport=holdwire.ResilientTransport())

        async def main():
            for _ in range(2):
                assert (await client.get(sys.argv[1])).status_code == 200

        async def parent():
            await main()
            child = os.fork()
            if child == 0:
                asyncio._set_running_loop(None)
                try:
                    asyncio.new_event_loop().run_until_complete(main())
                    os._exit(0)
                except BaseException as exc:
                    print(repr(exc), flush=True)
                    os._exit(1)
            _, status = os.waitpid(child, 0)
            await main()
            await client.aclose()
            return os.waitstatus_to_exitcode(status)

        sys.exit(asyncio.run(parent()))
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, server.url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert server.accepted == 2, "one connection for the parent, which it keeps, and one for the child"


@pytest.mark.parametrize("runner", ["asyncio.run", "uvloop.run", "trio.run"])
def test_the_end_of_a_run_with_requests_in_flight_leaks_and_prints_nothing(server: ChaosServer, runner: str) -> None:
    server.script("response:0 stall", path="/slow")
    script = textwrap.dedent(
        """
        import asyncio, sys
        import anyio, httpx, holdwire, trio, uvloop

        client = httpx.AsyncClient(transport=holdwire.ResilientTransport())

        async def main():
            await client.get(sys.argv[1])
            if sys.argv[2] == "trio.run":
                with trio.move_on_after(0.05):
                    await client.get(sys.argv[1] + "/slow")
                return
            task = asyncio.ensure_future(client.get(sys.argv[1] + "/slow"))
            await asyncio.sleep(0.05)
            main.task = task

        if sys.argv[2] == "trio.run":
            trio.run(main)
        else:
            {"asyncio.run": asyncio.run, "uvloop.run": uvloop.run}[sys.argv[2]](main())
        """
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script, server.url, runner],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
