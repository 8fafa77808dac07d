"""``SocketStream`` against the checks of ``tests.conformance.checks``, over TCP and over a Unix socket."""

from __future__ import annotations

import socket

import pytest

from holdwire.net.stream import SocketStream
from tests.conformance import checks
from tests.net_helpers import clean_runtime, tcp_pair

__all__ = ["clean_runtime"]


@pytest.fixture(params=["tcp", "unix"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def maker(family: str) -> checks.Maker:
    async def pair() -> checks.Pair:
        first, second = tcp_pair() if family == "tcp" else socket.socketpair()
        return SocketStream(first, host="first"), SocketStream(second, host="second")

    return pair


@pytest.fixture
def clogged(family: str) -> checks.Maker:
    async def pair() -> checks.Pair:
        first, second = tcp_pair() if family == "tcp" else socket.socketpair()
        return checks.clog((first, second), (SocketStream(first, host="first"), SocketStream(second, host="second")))

    return pair


@pytest.mark.usefixtures("clean_runtime", "no_leaks")
class TestSocketStream:
    async def test_it_is_a_two_way_stream_that_can_be_closed_by_half(
        self, maker: checks.Maker, clogged: checks.Maker
    ) -> None:
        await checks.check_two_way(maker, clogged)

    @pytest.mark.parametrize("anyio_backend", [("trio", {})], ids=["trio"])
    async def test_it_passes_trios_own_checks(self, maker: checks.Maker, clogged: checks.Maker) -> None:
        await checks.trio_check_one_way(maker, clogged)
        await checks.trio_check_two_way(maker, clogged)
