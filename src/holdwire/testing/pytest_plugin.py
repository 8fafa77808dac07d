"""pytest fixtures of the kit. Put ``pytest_plugins = ["holdwire.testing.pytest_plugin"]`` into your conftest.

``chaos_server`` and ``chaos_tls_server`` are running servers; ``chaos_proxy`` starts proxies. All run in threads of
their own, so that tests may be synchronous or on any event loop. A failing test shows what happened on them.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from .proxy import BlockingChaosProxy
from .server import ChaosServer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ._chaos import Chaos

__all__ = ["StartProxy", "chaos_proxy", "chaos_server", "chaos_tls_server"]


class StartProxy(Protocol):
    """What ``chaos_proxy`` gives."""

    def __call__(self, target: tuple[str, int], **options: Any) -> BlockingChaosProxy:
        """Start a proxy before ``target``; the options are those of ``BlockingChaosProxy``."""
        ...


_WATCHED = pytest.StashKey["list[Chaos]"]()


@pytest.fixture
def chaos_server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    """A running ``ChaosServer`` without TLS."""
    with ChaosServer() as server:
        _watch(request, server)
        yield server


@pytest.fixture
def chaos_tls_server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    """A running ``ChaosServer`` with TLS; ``client_context()`` trusts it."""
    with ChaosServer(tls=True) as server:
        _watch(request, server)
        yield server


@pytest.fixture
def chaos_proxy(request: pytest.FixtureRequest) -> Iterator[StartProxy]:
    """A function that starts a ``BlockingChaosProxy`` and stops it after the test: ``chaos_proxy((host, port))``."""
    with ExitStack() as stack:

        def start(target: tuple[str, int], **options: Any) -> BlockingChaosProxy:
            proxy = stack.enter_context(BlockingChaosProxy(target, **options))
            _watch(request, proxy)
            return proxy

        yield start


def _watch(request: pytest.FixtureRequest, chaos: Chaos) -> None:
    item: pytest.Item = request.node
    item.stash.setdefault(_WATCHED, []).append(chaos)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the journals to the report of a failed test."""
    report = yield
    if report.when == "call" and report.failed:
        none: list[Chaos] = []
        for chaos in item.stash.get(_WATCHED, none):
            report.sections.append((f"what happened on {type(chaos).__name__}", str(chaos.journal)))
    return report
