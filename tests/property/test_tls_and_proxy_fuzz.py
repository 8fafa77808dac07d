"""Whatever a TLS peer or a proxy sends: the end is an answer or one of our errors, soon, and nothing is hoarded."""

from __future__ import annotations

import socket
from typing import Final

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdwire.errors import HoldwireError
from holdwire.http.messages import Origin, Request, Timeouts
from holdwire.http.proxy import Proxy
from holdwire.net.stream import SocketStream
from holdwire.testing.certificates import self_signed
from holdwire.tls.engine import Engine, Step, TlsFailure

IDENTITY: Final = self_signed()
CLIENT: Final = IDENTITY.client_context()
SERVER: Final = IDENTITY.server_context()
backends: Final = st.sampled_from(["asyncio", "trio"])


def shaken() -> tuple[Engine, Engine]:
    """A client and a server that have shaken hands."""
    client, server = Engine(CLIENT, server_hostname="localhost"), Engine(SERVER, server_side=True)
    while client.handshake() is not Step.DONE or server.handshake() is not Step.DONE:
        server.feed(client.take())
        server.handshake()
        client.feed(server.take())
    server.feed(client.take())
    return client, server


@settings(max_examples=300)
@given(st.lists(st.binary(min_size=1, max_size=200), max_size=8))
def test_a_handshake_with_anything_fails_in_one_way(data: list[bytes]) -> None:
    client = Engine(CLIENT, server_hostname="localhost")
    client.handshake()
    client.take()
    failed = 0
    for piece in data:
        client.feed(piece)
        try:
            assert client.handshake() is not Step.DONE
        except TlsFailure:
            failed += 1
        assert client.pending < 1000
    client.feed_eof()
    with pytest.raises(TlsFailure):
        client.handshake()


mutations: Final = st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), max_size=3)


@settings(max_examples=300)
@given(mutations, st.integers(0, 2000), st.booleans(), st.binary(max_size=60))
def test_damaged_records_yield_the_bytes_before_the_damage_and_then_a_failure(
    flips: list[tuple[int, int]],
    cut: int,
    whole: bool,  # noqa: FBT001 - drawn
    extra: bytes,
) -> None:
    client, server = shaken()
    said = [b"a" * 300, b"b" * 700]
    records = bytearray()
    for part in said:
        server.write(part)
        records += server.take()
    untouched = bytes(records)
    for at, mask in flips:
        records[at % len(records)] ^= mask
    data = bytes(records if whole else records[:cut]) + extra
    client.feed(data)
    got = b""
    try:
        while isinstance(piece := client.read(65536), bytes) and piece:
            got += piece
        client.feed_eof()
        while isinstance(piece := client.read(65536), bytes) and piece:
            got += piece
    except TlsFailure:
        pass
    else:
        pytest.fail("the stream ended without close_notify and nobody was told")
    assert b"".join(said).startswith(got)
    if data == untouched:
        assert got == b"".join(said)


REPLIES: Final = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.sampled_from(
            [
                b"\x05\x00",
                b"\x05\x02",
                b"\x05\xff",
                b"\x01\x00",
                b"\x01\x01",
                b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00",
                b"\x05\x00\x00\x03\xff",
                b"\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00",
                b"\x04",
                b"\x05\x00\x00\t",
                b"HTTP/1.1 200 OK\r\n\r\n",
                b"HTTP/1.1 407 No\r\nContent-Length: 3\r\n\r\n",
                b"HTTP/1.1 100 C\r\n\r\n",
                b"HTTP/1.1 ",
                b"X: y\r\n",
                b"\r\n\r\n",
                b"SSH-2.0-x\r\n",
            ]
        ),
        max_size=5,
    ).map(b"".join),
)


@settings(max_examples=300)
@given(REPLIES, st.sampled_from(["http", "socks5"]), st.booleans(), backends)
def test_a_proxy_that_says_anything_opens_a_tunnel_or_is_refused(
    replies: bytes,
    scheme: str,
    known: bool,  # noqa: FBT001 - drawn
    backend: str,
) -> None:
    proxy = Proxy(scheme=scheme, host="proxy.test", port=1, credentials=(b"me", b"secret") if known else None)
    request = Request(b"GET", Origin("https", "fuzz.test", 443), b"/", [], timeouts=Timeouts(connect=5))

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            wire = SocketStream(ours, host="fuzz.test", port=443, via=proxy.name)
            theirs.sendall(replies)
            theirs.shutdown(socket.SHUT_WR)
            with anyio.fail_after(4):
                try:
                    await proxy.open_tunnel(wire, request, None)
                except HoldwireError as error:
                    assert "secret" not in repr(error) + str(error)  # noqa: PT017 - whichever it is
                    assert error.failure is not None  # noqa: PT017
            wire.abort()

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_never_stops_talking_is_cut_off(scheme: str) -> None:
    proxy = Proxy(scheme=scheme, host="proxy.test", port=1)
    request = Request(b"GET", Origin("https", "fuzz.test", 443), b"/", [], timeouts=Timeouts(connect=5))
    ours, theirs = socket.socketpair()
    wire = SocketStream(ours, host="fuzz.test", port=443)
    with theirs:
        theirs.setblocking(False)  # noqa: FBT003 - the socket module's signature
        endless = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 if scheme == "http" else b"\x05" * 60_000

        async def talk() -> None:
            data = endless
            while data:
                try:
                    data = data[theirs.send(data) :] or b"X: y\r\n" * 1000
                except BlockingIOError:
                    await anyio.sleep(0.001)
                except OSError:
                    return

        async with anyio.create_task_group() as group:
            group.start_soon(talk)
            with anyio.fail_after(4), pytest.raises(HoldwireError):
                await proxy.open_tunnel(wire, request, None)
            wire.abort()
        assert wire.bytes_in < 2_000_000
