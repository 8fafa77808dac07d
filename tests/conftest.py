"""Fixtures of the whole suite: the event loops, a certificate authority, and a guard against leaks."""

from __future__ import annotations

import functools
import inspect
import os
import signal
import ssl
import traceback
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trustme
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from tests.garbage import collect
from tests.journal import Journal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

# No deadline in either: two busy cores say nothing about an algorithm.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "dev")
if os.environ.get("CI") and hasattr(providers, "_get_local_constants"):
    # else examples also come from the constants of our modules, of as many as other tests have imported so far
    providers._get_local_constants = Constants

# A shell that starts the run in its background has it ignore Ctrl-C, and every program with it that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test trusts the world, and to read all its authorities takes 30 ms for each client that is made.
_authority = NamedTemporaryFile(prefix="holdwire-tests-", suffix=".pem")  # noqa: SIM115 - it lasts as long as the run
_authority.write(trustme.CA().cert_pem.bytes())
_authority.flush()
os.environ["SSL_CERT_FILE"] = _authority.name

BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"debug": False}),
    "uvloop": ("asyncio", {"debug": False, "use_uvloop": True}),
    "trio": ("trio", {}),
}
GRACE = 2.0
"""Seconds that what is being closed may take to be gone."""
PATIENCE = 200.0
"""Seconds for a slow test that awaits; below pytest-timeout's own limit, which would end the whole run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--journal", type=Path, metavar="FILE", help="leave out what it names; note there what ended well")


def pytest_configure(config: pytest.Config) -> None:
    if (path := config.getoption("--journal")) is not None:
        config.pluginmanager.register(Journal(path))


def pytest_collection_finish() -> None:
    """Keep what was imported out of every later collection."""
    collect()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Let a slow test that waits for what never comes fail by itself, and say where it waited."""
    test = pyfuncitem.obj
    if pyfuncitem.get_closest_marker("slow") and inspect.iscoroutinefunction(test) and not hasattr(test, "hypothesis"):
        pyfuncitem.obj = _limited(test)


def _limited(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def run(**arguments: Any) -> None:
        where = ""
        with anyio.move_on_after(PATIENCE) as limit:
            try:
                await test(**arguments)
            except anyio.get_cancelled_exc_class():
                where = traceback.format_exc()
                raise
        if limit.cancelled_caught:
            pytest.fail(f"it was not over within {PATIENCE:.0f} s, and waited here:\n{where}", pytrace=False)

    return run


@pytest.fixture(scope="session", params=tuple(BACKENDS.values()), ids=tuple(BACKENDS))
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The three event loops; anyio's plugin runs every async test on each."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


@pytest.fixture(autouse=True)
def spans_are_written_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a moment in which the machine was busy moves them to a thread, and a test looks before it has run."""
    monkeypatch.setattr("holdwire.telemetry._handover._PATIENCE", 60.0)


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    """A certificate authority that nobody but this run trusts."""
    return trustme.CA()


@pytest.fixture(scope="session")
def server_context(ca: trustme.CA) -> ssl.SSLContext:
    """A server's context for localhost, 127.0.0.1 and ::1, signed by ``ca``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", "127.0.0.1", "::1").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_context(ca: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts ``ca`` and nothing else."""
    return ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())


def open_sockets() -> set[tuple[str, str]]:
    """Descriptor and inode of every socket of this process."""
    found: set[tuple[str, str]] = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        if target.startswith("socket:"):
            found.add((entry.name, target))
    return found


def running_tasks() -> dict[int, str]:
    """Id and name of every task of the running loop, without the one in which anyio's plugin enters the loop."""
    return {
        task.id: task.name or "unnamed"
        for task in anyio.get_running_tasks()
        if not getattr(task.coro, "__qualname__", "").startswith("TestRunner.")
    }


@pytest.fixture
async def no_leaks(anyio_backend: object) -> AsyncIterator[None]:
    """Fail the test that leaves a socket open or a task running on its loop.

    Sockets are counted rather than compared: uvloop makes a new pair for signals each time it is entered.
    """
    collect()  # what earlier tests left is not this test's
    await checkpoint()
    sockets, tasks = open_sockets(), running_tasks()
    yield
    new_sockets: set[tuple[str, str]] = set()
    new_tasks: set[str] = set()
    with anyio.move_on_after(GRACE):
        while True:
            now = open_sockets()
            new_sockets = now - sockets if len(now) > len(sockets) else set()
            new_tasks = {name for key, name in running_tasks().items() if key not in tasks}
            if not new_sockets and not new_tasks:
                return
            await anyio.sleep(0.005)
    pytest.fail(f"the test left sockets {sorted(new_sockets)} and tasks {sorted(new_tasks)}")
