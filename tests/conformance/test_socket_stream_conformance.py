"""``SocketStream`` against the checks of ``tests.conformance.checks``, over TCP and over a Unix socket."""

from __future__ import annotations

import socket

import pytest

from holdwire.net.stream import SocketStream
from tests.conformance import checks
from tests.net_helpers import clean_runtime, tcp_pair

__all__ = ["clean_runtime"]


def _unix_pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


@pytest.fixture(params=["tcp", "unix"])
def maker(request: pytest.FixtureRequest) -> checks.Maker:
    make = tcp_pair if request.param == "tcp" else _unix_pair

    async def pair() -> checks.Pair:
        first, second = make()
        return SocketStream(first, host="first"), SocketStream(second, host="second")

    return pair


@pytest.fixture(params=["tcp", "unix"])
def clogged(request: pytest.FixtureRequest) -> checks.Maker:
    make = tcp_pair if request.param == "tcp" else _unix_pair

    async def pair() -> checks.Pair:
        first, second = make()
        first.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sender = SocketStream(first, host="first")
        while sender.write_now(bytes(65536)):
            pass
        return sender, SocketStream(second, host="second")

    return pair


@pytest.mark.usefixtures("clean_runtime", "no_leaks")
class TestSocketStream:
    async def test_it_is_a_one_way_stream(self, maker: checks.Maker) -> None:
        await checks.check_one_way(maker)

    async def test_it_is_a_two_way_stream_that_can_be_closed_by_half(self, maker: checks.Maker) -> None:
        await checks.check_two_way(maker)

    async def test_it_behaves_while_it_is_clogged(self, clogged: checks.Maker) -> None:
        await checks.check_clogged(clogged)

    @pytest.mark.parametrize("anyio_backend", [("trio", {})], ids=["trio"])
    async def test_it_passes_trios_own_checks(self, maker: checks.Maker) -> None:
        await checks.trio_check_one_way(maker)
        await checks.trio_check_two_way(maker)
