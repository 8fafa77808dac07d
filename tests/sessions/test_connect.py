"""``holdwire.connect``: what a user of the stream sees."""

from __future__ import annotations

import gc
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.buffered import BufferedByteStream
from anyio.streams.text import TextStream
from anyio.streams.tls import TLSAttribute

import holdwire
from holdwire.events import ConnectionClosed, ConnectionSetUp, FailureRecorded
from holdwire.net.keepalive import effective
from holdwire.sessions.target import Target
from tests.net_helpers import refused_then_silent, reset
from tests.ports import free_port
from tests.seen import Seen
from tests.sessions.peers import echo, serve, silent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import trustme


pytestmark = pytest.mark.usefixtures("clean_runtime", "no_leaks")


async def test_a_tcp_stream_by_url_echoes() -> None:
    async with serve(echo) as port, holdwire.connect(f"tcp://127.0.0.1:{port}") as stream:
        assert isinstance(stream, ByteStream)
        await stream.send(b"hello")
        assert await stream.receive() == b"hello"


@pytest.mark.parametrize("item", [None, "", []])
async def test_what_is_no_message_is_refused_though_it_is_empty(item: Any) -> None:
    async with serve(echo) as port, holdwire.connect(f"tcp://127.0.0.1:{port}") as stream:
        with pytest.raises(TypeError, match="bytes-like object is required"):
            await stream.send(item)
        await stream.send(b"")
        await stream.send(b"hello")
        assert await stream.receive() == b"hello"


async def test_a_stream_can_be_awaited_by_host_and_port() -> None:
    async with serve(echo) as port:
        stream = await holdwire.connect(host="localhost", port=port)
        await stream.send(b"hello")
        assert await stream.receive() == b"hello"
        await stream.aclose()
        with pytest.raises(holdwire.ClosedError):
            await stream.send(b"late")


async def test_a_tls_stream_tells_peer_certificate_and_numbers(
    client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    async with (
        serve(echo, tls=server_context) as port,
        holdwire.connect(f"tls://localhost:{port}", tls=client_context) as stream,
    ):
        await stream.send(b"x" * 100)
        assert await stream.receive() == b"x" * 100
        assert stream.extra(TLSAttribute.tls_version) == "TLSv1.3"
        assert stream.extra(SocketAttribute.remote_port) == port
        assert stream.extra(holdwire.StreamAttribute.peer) == stream.peer == "127.0.0.1"
        assert stream.extra(holdwire.StreamAttribute.failure) is None
        numbers = stream.extra(holdwire.StreamAttribute.statistics)
        assert numbers.bytes_out > 100
        assert numbers.bytes_in > 100
        assert numbers.tcp is not None


async def test_the_second_tls_connection_resumes_the_first_ones_session(
    ca: trustme.CA, server_context: ssl.SSLContext
) -> None:
    client_context = ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())
    reused: list[bool] = []
    async with serve(echo, tls=server_context) as port:
        for resume in (True, True, False):
            async with holdwire.connect(f"tls://localhost:{port}", tls=client_context, resume=resume) as stream:
                await stream.send(b"x")
                await stream.receive()
                tls = stream.extra(TLSAttribute.ssl_object)
                reused.append(bool(tls.session_reused))
    assert reused == [False, True, False]


async def test_a_unix_stream_echoes(tmp_path: Path) -> None:
    async def handle(stream: ByteStream) -> None:
        async with stream:
            await echo(stream)

    path = tmp_path / "socket"
    listener = await anyio.create_unix_listener(path)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        async with holdwire.connect(f"unix://{path}") as stream:
            await stream.send(b"hello")
            assert await stream.receive() == b"hello"
            assert stream.peer == str(path)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()


async def test_keepalive_comes_from_the_profile_and_can_be_overruled() -> None:
    async with serve(silent) as port:
        url = f"tcp://127.0.0.1:{port}"
        for connecting, expected in (
            (holdwire.connect(url), 60),
            (holdwire.connect(url, profile="k8s"), 30),
            (holdwire.connect(url, keepalive=holdwire.Keepalive(idle=7)), 7),
        ):
            async with connecting as stream:
                assert effective(stream.extra(SocketAttribute.raw_socket)).idle == expected


def test_the_interface_of_a_link_local_address_may_be_spelt_as_in_a_url() -> None:
    for url in ("tcp://[fe80::1%25eth0]:80", "tcp://[fe80::1%eth0]:80"):
        assert Target.of(url) == Target(host="fe80::1%eth0", port=80)
        assert str(Target.of(url)) == "[fe80::1%eth0]:80"


async def test_nobody_listens_is_one_error_with_its_reason_and_one_failure_told() -> None:
    port = free_port()
    seen = Seen()
    with pytest.raises(holdwire.ConnectFailed, match="ECONNREFUSED") as raised:
        await holdwire.connect(f"tcp://127.0.0.1:{port}", observers=[seen])
    assert raised.value.failure is not None
    assert raised.value.failure.kind is holdwire.Kind.CONNECTION_REFUSED
    (setup,) = seen.of(ConnectionSetUp)
    assert isinstance(setup, ConnectionSetUp)
    assert setup.final
    (told,) = seen.of(FailureRecorded)
    assert isinstance(told, FailureRecorded)
    assert told.failure is raised.value.failure


async def test_a_server_whose_certificate_nobody_trusts_is_refused(server_context: ssl.SSLContext) -> None:
    async with serve(echo, tls=server_context) as port:
        with pytest.raises(holdwire.ConnectFailed) as raised:
            await holdwire.connect(f"tls://localhost:{port}")
    assert holdwire.failure_of(raised.value) is raised.value.failure
    assert raised.value.failure is not None
    assert raised.value.failure.kind is holdwire.Kind.CERTIFICATE_INVALID


async def test_a_server_that_never_shakes_hands_costs_no_more_than_the_time_limit(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with anyio.fail_after(5), pytest.raises(holdwire.DeadlineExceeded, match=r"0\.2|0\.1"):
        await holdwire.connect(f"tls://127.0.0.1:{port}", connect_timeout=0.2)


async def test_cancelling_the_connect_leaves_nothing(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with anyio.move_on_after(0.05) as scope:
        await holdwire.connect(f"tls://127.0.0.1:{port}")
    assert scope.cancelled_caught


async def test_what_failed_before_the_connect_was_cancelled_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    with anyio.CancelScope() as scope, refused_then_silent(monkeypatch, scope.cancel):
        await holdwire.connect("tcp://service.test:9", observers=[seen])
    assert scope.cancelled_caught
    assert [failure.errno_name for failure in seen.failures] == ["ECONNREFUSED"]


async def test_the_end_of_the_peer_is_an_end_of_stream_and_told_once() -> None:
    async def one(stream: ByteStream) -> None:
        await stream.send(b"bye")

    seen = Seen()
    async with serve(one) as port, holdwire.connect(f"tcp://127.0.0.1:{port}", observers=[seen]) as stream:
        assert [data async for data in stream] == [b"bye"]
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
    (closed,) = seen.of(ConnectionClosed)
    assert isinstance(closed, ConnectionClosed)
    assert closed.failure is None
    assert not seen.of(FailureRecorded)


async def test_a_message_that_is_cut_says_what_was_written_and_what_the_peer_acknowledged(
    listener: socket.socket,
) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    seen = Seen()
    options = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)]
    stream = await holdwire.connect(
        f"tcp://127.0.0.1:{listener.getsockname()[1]}", socket_options=options, observers=[seen]
    )
    peer, _ = listener.accept()
    lost: list[holdwire.ConnectionLost] = []

    async def send() -> None:
        with pytest.raises(holdwire.ConnectionLost) as raised:
            await stream.send(b"m" * 4_000_000)
        lost.append(raised.value)

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await anyio.wait_readable(peer)
        await anyio.sleep(0.05)  # until both buffers are full
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
    fate = lost[0].fate
    assert fate is not None
    assert fate.size == 4_000_000
    assert fate.cut
    assert 0 < fate.written < 4_000_000
    assert fate.on_wire == fate.written, "without TLS they are the same bytes"
    assert fate.acknowledged is not None
    assert 0 < fate.acknowledged < fate.written, "what was in our buffer was not acknowledged"
    assert f"{fate.written} of the message's 4000000 bytes were written" in str(lost[0])
    assert len(seen.of(FailureRecorded)) == 1
    with pytest.raises(holdwire.ConnectionLost):
        await stream.receive()
    await stream.aclose()
    assert len(seen.of(FailureRecorded)) == 1


@pytest.mark.parametrize("others", [0, 3], ids=["alone", "and_others_that_never_begin"])
@pytest.mark.parametrize("scheme", ["tcp", "tls"])
async def test_a_send_that_is_cancelled_midway_is_sent_whole_before_the_next_message(
    scheme: str, others: int, client_context: ssl.SSLContext, server_context: ssl.SSLContext, listener: socket.socket
) -> None:
    go = threading.Event()
    size = 8_000_000

    def late() -> bytes:
        peer, _ = listener.accept()
        peer.settimeout(10)
        with server_context.wrap_socket(peer, server_side=True) if scheme == "tls" else peer as peer:
            go.wait(10)
            received = bytearray()
            while len(received) <= size and (data := peer.recv(1 << 20)):
                received += data
        return bytes(received)

    received: list[bytes] = []

    async def serve_late() -> None:
        received.append(await anyio.to_thread.run_sync(late))

    async with anyio.create_task_group() as group:
        group.start_soon(serve_late)
        async with holdwire.connect(
            f"{scheme}://localhost:{listener.getsockname()[1]}", tls=client_context if scheme == "tls" else None
        ) as stream:
            with anyio.move_on_after(0.1) as scope:
                await stream.send(b"a" * size)
            assert scope.cancelled_caught
            for _ in range(others):  # the kernel takes nothing more, so that nothing of the first one leaves either
                with anyio.move_on_after(0.05) as scope:
                    await stream.send(b"c")
                assert scope.cancelled_caught
            go.set()
            await stream.send(b"b")
    assert received == [b"a" * size + b"b"]


async def test_a_second_sender_and_a_second_reader_are_busy_and_harm_nobody() -> None:
    async def read(stream: holdwire.Stream) -> None:
        assert await stream.receive() == b"x"

    async with (
        serve(echo) as port,
        holdwire.connect(f"tcp://127.0.0.1:{port}") as stream,
        anyio.create_task_group() as group,
    ):
        group.start_soon(read, stream)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await stream.receive()
        await stream.send(b"x")


async def test_lines_and_text_by_anyios_own_streams() -> None:
    async with serve(echo) as port:
        async with holdwire.connect(f"tcp://127.0.0.1:{port}") as stream:
            lines = BufferedByteStream(stream)
            await lines.send(b"one\ntwo\n\x00\x00\x00\x05three")
            assert await lines.receive_until(b"\n", 100) == b"one"
            assert await lines.receive_until(b"\n", 100) == b"two"
            size = int.from_bytes(await lines.receive_exactly(4), "big")
            assert await lines.receive_exactly(size) == b"three"
        async with holdwire.connect(f"tcp://127.0.0.1:{port}") as stream:
            text = TextStream(stream)
            await text.send("grüß")
            assert await text.receive() == "grüß"


async def test_a_stream_that_is_forgotten_closes_its_socket(listener: socket.socket) -> None:
    stream = await holdwire.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    peer, _ = listener.accept()
    peer.settimeout(5)
    del stream
    gc.collect()
    with peer, pytest.raises(ConnectionResetError):
        peer.recv(1)


async def test_the_kernels_limit_is_lifted_while_a_living_peer_does_not_read_and_armed_again(
    listener: socket.socket,
) -> None:
    """Without that the kernel would end a connection whose peer is only slow."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    keepalive = holdwire.Keepalive(idle=60, interval=15, dead_after=90)
    async with holdwire.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}", keepalive=keepalive) as stream:
        peer, _ = listener.accept()
        sock = stream.extra(SocketAttribute.raw_socket)
        slow = stream._slow_peer
        assert slow is not None

        def limit() -> int:
            found: int = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            return found

        async with anyio.create_task_group() as group:
            group.start_soon(stream.send, b"x" * 3_000_000)
            await anyio.wait_readable(peer)
            assert limit() == 90_000
            assert slow.scheduled < float("inf"), "something is queued: it is looked at"
            with anyio.fail_after(10):
                while limit():  # until both buffers are full and the kernel has been told so
                    assert slow.tick(time.monotonic()) < float("inf")
                    await anyio.sleep(0.05)
            with anyio.fail_after(10):
                total = 0
                while total < 3_000_000:
                    total += len(await anyio.to_thread.run_sync(peer.recv, 1 << 20))
        with anyio.fail_after(5):
            while stream.statistics.unacknowledged:  # noqa: ASYNC110 - the kernel's
                await anyio.sleep(0.01)
        assert slow.tick(time.monotonic()) == float("inf"), "nothing is queued: nobody looks any more"
        assert limit() == 90_000
        peer.close()


async def test_who_waits_when_the_connection_fails_gets_the_failure_though_another_task_closes_first(
    listener: socket.socket,
) -> None:
    stream = await holdwire.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    peer, _ = listener.accept()
    found: list[BaseException] = []

    async def use(call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except holdwire.HoldwireError as exc:
            found.append(exc)
            await stream.aclose()

    async with anyio.create_task_group() as group:
        group.start_soon(use, stream.receive)
        group.start_soon(use, lambda: stream.send(b"x" * 9_000_000))
        await anyio.wait_all_tasks_blocked()
        reset(peer)
    assert [type(exc) for exc in found] == [holdwire.ConnectionLost] * 2
    with pytest.raises(holdwire.ClosedError):
        await stream.send(b"x")
