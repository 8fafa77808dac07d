"""One transport over several event loops, processes and threads; collected, closed from elsewhere, left running."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

import holdwire
from holdwire.testing import Answer, ChaosServer
from tests.conftest import open_sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    with ChaosServer(tls=request.param == "tls") as server:
        yield server


def transport_to(server: ChaosServer) -> holdwire.ResilientTransport:
    return holdwire.ResilientTransport(verify=True if server.identity is None else server.client_context())


async def get(client: httpx.AsyncClient, url: str, times: int = 2) -> None:
    for _ in range(times):
        response = await client.get(url)
        assert response.status_code == 200


def test_one_client_over_two_runs_of_asyncio(server: ChaosServer) -> None:
    client = httpx.AsyncClient(transport=transport_to(server))
    before = open_sockets()
    for _ in range(3):
        asyncio.run(get(client, server.url))
    assert server.accepted == 3
    assert len(open_sockets() - before) <= 3, "what belongs to a closed loop is dropped, but for the last"
    asyncio.run(client.aclose())
    server.wait_for(lambda: server.connections == 0)


def test_two_threads_with_a_loop_each_do_not_disturb_each_other(server: ChaosServer) -> None:
    client = httpx.AsyncClient(transport=transport_to(server))
    errors: list[BaseException] = []

    def work(backend: str) -> None:
        try:
            anyio.run(get, client, server.url, 50, backend=backend)
        except BaseException as exc:  # noqa: BLE001 - handed to the test
            errors.append(exc)

    backends = ("asyncio", "trio", "asyncio")
    threads = [threading.Thread(target=work, args=(backend,), daemon=True) for backend in backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a loop did not come to its end"
    assert errors == []
    assert server.accepted == 3, "each loop has its own connection and keeps it"
    asyncio.run(client.aclose())
    server.wait_for(lambda: server.connections == 0)


def test_closing_from_another_thread_ends_the_connections_of_a_running_loop(server: ChaosServer) -> None:
    client = httpx.AsyncClient(transport=transport_to(server))
    ready, done = threading.Event(), threading.Event()

    async def work() -> None:
        await get(client, server.url)
        ready.set()
        await anyio.to_thread.run_sync(done.wait, 30)

    thread = threading.Thread(target=anyio.run, args=(work,), daemon=True)
    thread.start()
    assert ready.wait(5)
    asyncio.run(client.aclose())
    server.wait_for(lambda: server.connections == 0)
    done.set()
    thread.join()


async def test_a_transport_that_nobody_closed_closes_its_sockets_when_it_is_collected(server: ChaosServer) -> None:
    client = httpx.AsyncClient(transport=transport_to(server))
    await get(client, server.url)
    assert server.connections == 1
    del client
    gc.collect()
    await server.until(lambda: server.connections == 0)


async def test_a_transport_can_be_used_again_after_its_client_was_left(server: ChaosServer) -> None:
    transport = transport_to(server)
    for _ in range(2):
        async with httpx.AsyncClient(transport=transport) as client:
            await get(client, server.url)
    await server.until(lambda: server.connections == 0)


@pytest.fixture
def program(server: ChaosServer, tmp_path: Path) -> Callable[[str, str], None]:
    """Runs a scenario of ``lifetimes_program`` in an interpreter of its own, in which every warning is an error."""
    server.script(*["response:0 stall"] * 2, path="/slow")
    server.script("response:300 stall", path="/half")
    server.answer("/half", Answer(body=b"x" * 1000))
    certificate = "" if server.identity is None else str(server.identity.write_authority(tmp_path / "ca.pem"))

    def run(runner: str, scenario: str) -> None:
        arguments = [server.url, certificate, runner, scenario]
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-W", "error", "-m", "tests.lifetimes_program", *arguments],
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout + done.stderr == ""
        server.heal()
        server.wait_for(lambda: server.connections == 0)

    return run


RUNNERS = pytest.mark.parametrize(
    ("server", "runner"),
    [
        pytest.param("plain", "asyncio", marks=pytest.mark.slow),
        pytest.param("plain", "uvloop", marks=pytest.mark.slow),
        pytest.param("plain", "trio", marks=pytest.mark.slow),
        ("tls", "asyncio"),
        ("tls", "uvloop"),
        ("tls", "trio"),
    ],
    indirect=["server"],
)


@RUNNERS
def test_one_client_over_several_runs_on_several_backends(
    server: ChaosServer, program: Callable[[str, str], None], runner: str
) -> None:
    program(runner, "runs_after_each_other")
    assert server.accepted == 6
    assert server.ledger.count("/get") == 12


@RUNNERS
@pytest.mark.parametrize("scenario", ["never_closed", "collected", "closed_from_another_thread"])
def test_a_client_whose_end_is_not_the_usual_one_leaks_and_prints_nothing(
    program: Callable[[str, str], None], scenario: str, runner: str
) -> None:
    program(runner, scenario)


@RUNNERS
def test_the_end_of_a_run_with_requests_in_flight_leaks_and_prints_nothing(
    server: ChaosServer, program: Callable[[str, str], None], runner: str
) -> None:
    program(runner, "in_flight")
    assert server.ledger.count("/post") == 0, "half an upload is not executed"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@RUNNERS
def test_forks_that_use_close_or_drop_the_client_leave_the_parents_connection_alone(
    server: ChaosServer, program: Callable[[str, str], None], runner: str
) -> None:
    program(runner, "forked")
    assert server.accepted == 2, "one connection for the parent, which it keeps, and one for the child that asks"
    assert server.ledger.count("/get") == 10
