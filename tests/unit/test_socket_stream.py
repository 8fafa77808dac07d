"""What a user of a plain socket stream sees: resets, time limits, Unix sockets, what is recorded of a failure."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.abc import SocketAttribute

from holdwire.errors import ClosedError, ConnectionLost, DeadlineExceeded
from holdwire.net.dial import dial_unix
from holdwire.net.stream import SocketStream
from holdwire.net.wire import Look
from holdwire.policy.kind import Kind
from holdwire.policy.phase import Phase
from tests.conformance.checks import assert_yields
from tests.conftest import BACKENDS
from tests.net_helpers import clean_runtime, end_in_fork, reset, stream_pair, until_blocked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["clean_runtime", "stream_pair"]

pytestmark = pytest.mark.usefixtures("clean_runtime", "no_leaks")


class TestFairness:
    async def test_who_only_sends_lets_other_tasks_run_each_time(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]]
    ) -> None:
        stream, _ = stream_pair()
        await assert_yields(stream.send(b"1"))
        await assert_yields(stream.send(b"2"))

    async def test_an_answer_to_what_was_waited_for_leaves_at_once_and_the_next_message_does_not(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]], anyio_backend_name: str
    ) -> None:
        stream, peer = stream_pair()
        async with anyio.create_task_group() as group:
            group.start_soon(stream.receive)
            await until_blocked()
            peer.send(b"ping")
        answer = stream.send(b"pong")
        if anyio_backend_name == "trio":  # whose rule is stricter
            await assert_yields(answer)
        else:
            with pytest.raises(StopIteration):
                answer.send(None)
        assert peer.recv(10) == b"pong"
        await assert_yields(stream.send(b"more"))

    async def test_a_cancelled_answer_is_not_sent(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]]
    ) -> None:
        stream, peer = stream_pair()
        async with anyio.create_task_group() as group:
            group.start_soon(stream.receive)
            await until_blocked()
            peer.send(b"ping")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stream.send(b"pong")
        assert scope.cancelled_caught
        assert not stream.bytes_out


class TestClosing:
    async def test_what_arrives_just_before_a_close_is_no_end_of_file_to_who_was_reading(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream, peer = stream_pair()
        keep = SocketStream._keep

        def keep_and_close(self: SocketStream, view: memoryview) -> None:
            keep(self, view)
            self.close()  # as another task may, before the reader has its turn

        monkeypatch.setattr(SocketStream, "_keep", keep_and_close)
        peer.send(b"too late")
        with pytest.raises(ClosedError):
            await stream.read(100)

    async def test_what_was_read_ahead_is_gone_with_a_close(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]]
    ) -> None:
        stream, peer = stream_pair()
        peer.send(b"one two")
        assert await stream.read(4) == b"one "
        stream.close()
        with pytest.raises(ClosedError):
            await stream.read(4)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
    @pytest.mark.parametrize("how", ["close", "abort", "aclose"])
    async def test_a_forked_child_that_ends_its_copy_leaves_the_parents_connection_alone(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]], how: str
    ) -> None:
        stream, peer = stream_pair()
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await stream.receive())

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(receive)
                await until_blocked()
                end_in_fork(stream, how)
                peer.send(b"question")
            await stream.send(b"answer")
        assert got == [b"question"]
        assert peer.recv(10) == b"answer"


class TestReading:
    async def test_what_a_short_read_has_left_comes_first_in_whatever_way_it_is_read(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]]
    ) -> None:
        stream, peer = stream_pair()
        got = bytearray()
        peer.send(b"abc")
        got += await stream.receive(1)
        peer.send(b"def")
        stream.read_now(got.extend)
        got += await stream.receive(1)
        peer.send(b"ghi")
        await stream.read_into(got.extend)
        got += await stream.receive()
        assert got == b"abcdefghi"

    @pytest.mark.parametrize("anyio_backend", [BACKENDS["asyncio"], BACKENDS["uvloop"]], ids=["asyncio", "uvloop"])
    async def test_a_time_limit_of_asyncio_that_is_over_at_once_loses_nothing_that_has_come(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]]
    ) -> None:
        stream, peer = stream_pair()
        peer.send(b"precious")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await stream.receive()
        with anyio.fail_after(5):
            assert await stream.receive() == b"precious"

    async def test_who_waits_while_a_write_gets_the_reset_gets_it_too_and_no_clean_end(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]]
    ) -> None:
        stream, peer = stream_pair()

        async def receive() -> None:
            with pytest.raises(ConnectionLost, match="send: ECONNRESET"):
                await stream.receive()

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            await until_blocked()
            reset(peer)
            with pytest.raises(ConnectionLost, match="send: ECONNRESET"):
                stream.write_now(b"x")


class TestTimeLimits:
    async def test_a_read_that_gets_nothing_says_from_whom_and_in_which_phase_and_the_stream_goes_on(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]]
    ) -> None:
        stream, peer = stream_pair()
        stream.phase = Phase.RESPONSE_WAIT
        with pytest.raises(
            DeadlineExceeded, match=r"nothing was received from peer.test:443 within 0.01 s \(phase response_wait\)"
        ) as caught:
            await stream.read(10, 0.01)
        assert caught.value.limit == "read"
        assert caught.value.errno is None
        assert stream.failure is None
        peer.send(b"late")
        assert await stream.read(10, 5) == b"late"

    async def test_a_write_that_is_not_taken_says_how_much_is_left_and_the_stream_goes_on(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]]
    ) -> None:
        stream, peer = stream_pair()
        size = 8 * 2**20
        with pytest.raises(DeadlineExceeded, match=rf"\d+ of {size} bytes were not taken by peer.test:443") as caught:
            await stream.write(bytes(size), 0.01)
        assert caught.value.limit == "write"
        assert stream.failure is None
        left = stream.bytes_out
        while left:
            left -= len(peer.recv(min(left, 65536)))
        assert await stream.write(b"more", 5) == 4
        assert peer.recv(10) == b"more"

    async def test_a_limit_holds_for_the_whole_of_a_write_however_often_it_waits(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]]
    ) -> None:
        stream, peer = stream_pair(buffers=4096)

        async def drip() -> None:
            while True:
                await anyio.sleep(0.02)
                peer.recv(4096)

        async with anyio.create_task_group() as group:
            group.start_soon(drip)
            with anyio.fail_after(5), pytest.raises(DeadlineExceeded):
                await stream.write(bytes(8 * 2**20), 0.3)
            group.cancel_scope.cancel()

    async def test_zero_seconds_take_what_is_here_and_wait_for_nothing(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]]
    ) -> None:
        stream, peer = stream_pair()
        peer.send(b"here")
        assert await stream.read(10, 0) == b"here"
        with pytest.raises(DeadlineExceeded):
            await stream.read(10, 0)


class TestUnixSockets:
    async def test_a_connection_is_dialled_used_and_closed(self, tmp_path: Path) -> None:
        path = str(tmp_path / "service")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            dialled = await dial_unix(path, host="service")
            peer, _ = listener.accept()
        with peer:
            stream = dialled.stream
            assert stream.peer == path
            assert stream.extra(SocketAttribute.remote_address) == path
            await stream.send(b"question")
            assert peer.recv(100) == b"question"
            peer.send(b"answer")
            assert await stream.receive() == b"answer"
            await stream.aclose()
            assert peer.recv(1) == b""

    async def test_a_peer_that_closes_over_unread_input_is_a_reset_with_the_path_in_the_record(
        self, tmp_path: Path
    ) -> None:
        path = str(tmp_path / "service")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            dialled = await dial_unix(path, host="service")
            peer, _ = listener.accept()
        stream = dialled.stream
        await stream.send(b"never read")
        peer.close()
        with pytest.raises(ConnectionLost) as caught:
            await stream.receive()
        failure = caught.value.failure
        assert failure is not None
        assert (failure.kind, failure.errno_name, failure.peer) == (Kind.CONNECTION_RESET, "ECONNRESET", path)
        assert failure.network_type == "unix"
        assert failure.tcp is None
        stream.abort()


class TestWhatIsRecorded:
    async def test_the_kernels_view_is_taken_before_the_socket_is_closed(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]]
    ) -> None:
        stream, peer = stream_pair()
        await stream.write(b"12345")
        assert peer.recv(5) == b"12345"
        reset(peer)
        with pytest.raises(ConnectionLost) as caught:
            await stream.read(10, 5)
        stream.close()
        failure = caught.value.failure
        assert failure is not None
        assert failure.tcp is not None
        assert failure.tcp.bytes_acked is not None
        assert failure.tcp.bytes_acked >= 5
        assert failure.outq == 0
        assert (failure.bytes_out, failure.bytes_in) == (5, 0)
        assert failure.local_port is not None
        assert failure.connection_id == stream.id
        assert failure.peer == "127.0.0.1"

    async def test_every_later_use_raises_the_first_failure(
        self, stream_pair: Callable[..., tuple[SocketStream, socket.socket]]
    ) -> None:
        stream, peer = stream_pair()
        reset(peer)
        with pytest.raises(ConnectionLost, match="send: ECONNRESET") as caught:
            await stream.write(b"x")
        for call in (lambda: stream.read(10), lambda: stream.write(b"x"), stream.finish):
            with pytest.raises(ConnectionLost) as again:
                await call()
            assert again.value.failure is caught.value.failure
            assert again.value is not caught.value
        assert stream.look() is Look.FAILED
