"""``TLSStream`` against the same checks: over our socket, over TLS, and over a byte stream that is not ours."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, TypeAlias

import pytest

from holdwire.net.stream import SocketStream
from holdwire.testing.certificates import self_signed
from holdwire.testing.streams import faulty_stream_pair
from tests.conformance import checks
from tests.net_helpers import clean_runtime, tcp_pair
from tests.tls_helpers import VERSIONS, Contexts, secure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import ByteStream

    from holdwire.tls.stream import TLSStream

Sockets: TypeAlias = tuple[socket.socket, socket.socket]
Pairs: TypeAlias = "Callable[[], Awaitable[tuple[Sockets, tuple[TLSStream, TLSStream]]]]"

__all__ = ["clean_runtime"]

pytestmark = pytest.mark.usefixtures("clean_runtime", "no_leaks")


@pytest.fixture(params=list(VERSIONS))
def contexts(request: pytest.FixtureRequest) -> Contexts:
    return Contexts.of(self_signed(), request.param)


@pytest.fixture(params=["over_tcp", "over_tls"])
def pairs(request: pytest.FixtureRequest, contexts: Contexts) -> Pairs:
    """Makes sockets and the streams over them; TLS over TLS on a Unix socket, which TCP's timers do not slow down."""

    async def make() -> tuple[Sockets, tuple[TLSStream, TLSStream]]:
        sockets = tcp_pair() if request.param == "over_tcp" else socket.socketpair()
        lower = (SocketStream(sockets[0], host="localhost"), SocketStream(sockets[1], host="client"))
        pair = await secure(lower, contexts)
        return sockets, pair if request.param == "over_tcp" else await secure(pair, contexts)

    return make


@pytest.fixture
def maker(pairs: Pairs) -> checks.Maker:
    async def pair() -> checks.Pair:
        return (await pairs())[1]

    return pair


@pytest.fixture
def clogged(pairs: Pairs) -> checks.Maker:
    async def pair() -> checks.Pair:
        return checks.clog(*await pairs())

    return pair


class TestTLSStream:
    async def test_it_is_a_two_way_stream_that_can_be_closed_by_half(
        self, maker: checks.Maker, clogged: checks.Maker
    ) -> None:
        await checks.check_two_way(maker, clogged)

    @pytest.mark.parametrize("anyio_backend", [("trio", {})], ids=["trio"])
    async def test_it_passes_trios_own_checks(self, maker: checks.Maker, clogged: checks.Maker) -> None:
        await checks.trio_check_one_way(maker, clogged)
        await checks.trio_check_two_way(maker, clogged)


class TestTLSOverAForeignStream:
    """In memory, with little room and with much; the part about a clogged sender needs a wire that can be cancelled."""

    @pytest.fixture(params=[1000, 65536])
    def maker(self, request: pytest.FixtureRequest, contexts: Contexts) -> checks.Maker:
        async def pair() -> checks.Pair:
            lower: tuple[ByteStream, ByteStream] = faulty_stream_pair(capacity=request.param)
            return await secure(lower, contexts)

        return pair

    async def test_it_is_a_two_way_stream_that_can_be_closed_by_half(self, maker: checks.Maker) -> None:
        await checks.check_two_way(maker)

    @pytest.mark.parametrize("anyio_backend", [("trio", {})], ids=["trio"])
    async def test_it_passes_trios_own_checks(self, maker: checks.Maker) -> None:
        await checks.trio_check_one_way(maker)
        await checks.trio_check_two_way(maker)
