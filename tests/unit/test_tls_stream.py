"""What a user of a TLS stream sees: two tasks at once, cancellation, ends, closes. Both ends are ours, so that the far
end can misbehave record by record: its engine and its socket are at hand.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio
from anyio import BusyResourceError, ClosedResourceError, EndOfStream
from anyio.lowlevel import checkpoint

from holdwire.errors import ClosedError, ConnectionLost, DeadlineExceeded
from holdwire.net.turn import Turn
from holdwire.net.wire import Look
from holdwire.policy.kind import Kind
from holdwire.testing.certificates import self_signed
from holdwire.testing.streams import faulty_stream_pair
from holdwire.tls.stream import TLSStream
from tests.conftest import BACKENDS
from tests.net_helpers import clean_runtime, end_in_fork, until_blocked
from tests.tls_helpers import VERSIONS, Contexts, secure, socket_streams, together
from tests.tls_peer import can_rekey, renegotiate

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdwire.tls.engine import Truncation

__all__ = ["clean_runtime"]

pytestmark = pytest.mark.usefixtures("clean_runtime")

LARGE = 8 * 2**20
"""More than the kernel's buffers hold."""


@pytest.fixture(params=list(VERSIONS))
def contexts(request: pytest.FixtureRequest) -> Contexts:
    return Contexts.of(self_signed(), request.param)


async def pair(contexts: Contexts, *, truncation: Truncation = "error") -> tuple[TLSStream, TLSStream]:
    return await secure(socket_streams(), contexts, client={"truncation": truncation})


async def pair_with_keys_broken_off() -> tuple[TLSStream, TLSStream]:
    """Whose second, a server, has called for new keys and then said that it ends, both of which the first has read."""
    client, server = await pair(Contexts.of(self_signed(), "TLSv1.2"))
    renegotiate(server.engine.object)
    server.engine.unwrap()
    await server.lower.write(server.engine.take())
    with pytest.raises(EndOfStream), anyio.fail_after(10):
        await client.receive()
    return client, server


async def read_all(stream: TLSStream) -> bytes:
    """Everything up to the end."""
    got = bytearray()
    while data := await stream.read(65536):
        got += data
    return bytes(got)


async def until_full(stream: TLSStream) -> None:
    """Until a part of what is being sent is left over, and the kernel has taken nothing for a while.

    Acknowledgements may come late on a busy machine, and make room again.
    """
    taken = -1
    with anyio.fail_after(10):
        while not stream.unsent or stream.bytes_out != taken:
            taken = stream.bytes_out
            await anyio.sleep(0.05)


def end(*streams: TLSStream) -> None:
    for stream in streams:
        stream.abort()


def ciphertext(stream: TLSStream, data: bytes) -> bytes:
    """``data`` encrypted and not sent."""
    stream.engine.write(data)
    return stream.engine.take()


class TestTwoTasks:
    async def test_a_second_sender_is_refused_and_the_first_one_goes_on(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)

        async def send() -> None:
            await client.send(bytes(LARGE))
            await client.send_eof()

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            await until_blocked()
            for _ in range(2):
                with pytest.raises(BusyResourceError):
                    await client.send(b"x")
            assert await read_all(server) == bytes(LARGE)
        await server.send(b"well")
        assert await client.receive() == b"well"
        end(client, server)

    async def test_a_second_receiver_is_refused_and_the_first_one_goes_on(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await client.receive())

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            await until_blocked()
            with pytest.raises(BusyResourceError):
                await client.receive()
            await server.send(b"first")
        assert got == [b"first"]
        end(client, server)

    async def test_turns_are_given_in_order_and_survive_a_waiter_that_is_cancelled_with_its_turn_in_hand(self) -> None:
        turn = Turn()
        order: list[int] = []
        cancels: list[Callable[[], object]] = []

        async def wait(number: int) -> None:
            with anyio.CancelScope() as scope, suppress(asyncio.CancelledError):
                # asyncio's own cancellation strikes also when the waiter has been woken
                cancels.append(scope.cancel if trio.lowlevel.in_trio_task() else asyncio.current_task().cancel)  # type: ignore[union-attr]
                assert await turn.acquire(None)
                order.append(number)
                turn.release()

        assert await turn.acquire(None)
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(wait, number)
                await until_blocked()
            cancels[1]()
            turn.release()  # to the first
            cancels[0]()  # which does not live to use it
        assert order == ([0, 2, 3] if trio.lowlevel.in_trio_task() else [2, 3])
        assert not turn.held

    async def test_a_turn_that_does_not_come_in_time_is_not_taken(self) -> None:
        turn = Turn()
        assert await turn.acquire(None)
        assert not await turn.acquire(0.01)
        turn.release()
        assert not turn.held


@pytest.mark.usefixtures("clean_runtime", "no_leaks")
class TestCancellation:
    async def test_a_cancelled_send_leaves_whole_chunks_that_go_before_the_next_one(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        data = bytes(range(256)) * (LARGE // 256)
        async with anyio.create_task_group() as group:
            group.start_soon(client.send, data)
            await until_full(client)
            group.cancel_scope.cancel()
        assert client.unsent
        accepted = client.accepted
        assert 0 < accepted < LARGE

        async def send_more() -> None:
            await client.send(b"the end")
            await client.send_eof()

        async with anyio.create_task_group() as group:
            group.start_soon(send_more)
            assert await read_all(server) == data[:accepted] + b"the end"
        end(client, server)

    async def test_a_send_that_is_cancelled_before_it_starts_sends_nothing(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await client.send(b"never")
        assert client.accepted == 0
        await client.send(b"this")
        assert await server.receive() == b"this"
        end(client, server)

    async def test_a_send_that_runs_out_of_time_says_how_much_is_left_and_the_stream_goes_on(
        self, contexts: Contexts
    ) -> None:
        client, server = await pair(contexts)
        with pytest.raises(DeadlineExceeded, match=r"localhost:443 did not take 8388608 bytes within 0.05 s") as caught:
            await client.write(bytes(LARGE), 0.05)
        assert caught.value.limit == "write"
        assert client.failure is None
        accepted = client.accepted
        async with anyio.create_task_group() as group:
            group.start_soon(client.finish)
            assert len(await read_all(server)) == accepted
        end(client, server)

    async def test_an_end_that_was_cancelled_midway_is_said_when_it_is_said_again(self, contexts: Contexts) -> None:
        client, server = await secure(socket_streams(buffers=16_384), contexts)  # else they grow and take what is left
        taken = -1
        while client.bytes_out != taken:  # what was acknowledged behind the kernel's last word makes room once more
            taken = client.bytes_out
            async with anyio.create_task_group() as group:
                group.start_soon(client.send, bytes(LARGE))
                await until_full(client)
                group.cancel_scope.cancel()
        async with anyio.create_task_group() as group:
            group.start_soon(client.send_eof)
            await until_blocked()
            group.cancel_scope.cancel()
        assert client.unsent
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(client.send_eof)
                assert len(await read_all(server)) == client.accepted
        assert server.saw_close_notify
        end(client, server)

    @pytest.mark.parametrize("anyio_backend", [BACKENDS["asyncio"], BACKENDS["uvloop"]], ids=["asyncio", "uvloop"])
    async def test_a_time_limit_of_asyncio_that_is_over_at_once_loses_nothing_that_has_come(
        self, contexts: Contexts
    ) -> None:
        client, server = await pair(contexts)
        server.lower.write_now(ciphertext(server, b"first") + ciphertext(server, b"precious"))
        assert await client.receive(5) == b"first"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await client.receive()
        with anyio.fail_after(5):
            assert await client.receive() == b"precious"
        end(client, server)

    async def test_over_a_foreign_stream_a_send_that_is_cancelled_midway_breaks_the_stream(
        self, contexts: Contexts
    ) -> None:
        client, server = await secure(faulty_stream_pair(capacity=4096), contexts)
        async with anyio.create_task_group() as group:
            group.start_soon(client.send, bytes(100_000))
            await until_blocked()
            group.cancel_scope.cancel()
        with pytest.raises(ConnectionLost, match="given up midway"):
            await client.send(b"x")
        assert client.failure is not None
        assert client.failure.kind is Kind.CANCELLED
        await client.aclose()
        await server.aclose()

    async def test_a_receive_that_is_cancelled_anywhere_loses_nothing(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        data = bytes(range(256)) * 2
        got = bytearray()
        for turn in range(256):
            record = ciphertext(server, data[2 * turn : 2 * turn + 2])
            for part in (record[: turn % len(record)], record[turn % len(record) :]):  # a record in two parts

                async def receive() -> None:
                    got.extend(await client.receive(1))

                async with anyio.create_task_group() as group:
                    group.start_soon(receive)
                    for _ in range(turn % 3):
                        await anyio.lowlevel.checkpoint()
                    server.lower.write_now(part)
                    for _ in range(turn % 5):
                        await anyio.lowlevel.checkpoint()
                    group.cancel_scope.cancel()
        with anyio.fail_after(5):
            while len(got) < len(data):
                got += await client.receive(100)
        assert got == data
        end(client, server)

    async def test_a_receive_of_what_is_here_yields_and_loses_nothing_when_cancelled(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        server.lower.write_now(ciphertext(server, b"abcdef"))
        assert await client.receive(1) == b"a"
        assert client.holds_input
        with anyio.move_on_after(5) as scope:
            scope.cancel()
            await client.receive(1)
        assert scope.cancelled_caught
        turns: list[str] = []

        async def other() -> None:
            turns.append("other")

        async with anyio.create_task_group() as group:
            group.start_soon(other)
            assert await client.receive(2) + await client.receive(3) == b"bcdef"
            assert turns == ["other"]  # at the second at the latest: trio runs what is ready in any order
        end(client, server)

    async def test_a_read_that_runs_out_of_time_loses_nothing(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        record = ciphertext(server, b"late")
        server.lower.write_now(record[:10])
        with pytest.raises(DeadlineExceeded, match=r"nothing was received from localhost:443 within 0.02 s") as caught:
            await client.read(100, 0.02)
        assert caught.value.limit == "read"
        server.lower.write_now(record[10:])
        assert await client.read(100, 5) == b"late"
        end(client, server)


class TestTheEnd:
    @pytest.fixture(params=["error", "accept"])
    def truncation(self, request: pytest.FixtureRequest) -> Truncation:
        return "error" if request.param == "error" else "accept"

    async def test_after_a_close_notify_the_other_direction_still_works(
        self, contexts: Contexts, truncation: Truncation
    ) -> None:
        client, server = await pair(contexts, truncation=truncation)
        await server.send(b"last")
        await server.send_eof()
        assert await client.receive() == b"last"
        for _ in range(3):
            with pytest.raises(EndOfStream):
                await client.receive()
        assert client.saw_close_notify
        await client.send(b"answer")
        assert await server.receive() == b"answer"
        with pytest.raises(ClosedError, match="nothing more can be sent"):
            await server.send(b"x")
        await client.send_eof()
        with pytest.raises(EndOfStream):
            await server.receive()
        end(client, server)

    async def test_input_that_was_looked_at_is_kept_beyond_our_end(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        await server.send(b"first")
        while client.look() is not Look.INPUT:
            await checkpoint()
        await server.send(b"second")
        await client.send_eof()
        await server.send_eof()
        assert await read_all(client) == b"firstsecond"
        assert await read_all(server) == b""
        end(client, server)

    @pytest.mark.skipif(not can_rekey(), reason="cannot call OpenSSL on CPython's objects here")
    async def test_our_end_waits_for_new_keys_that_are_being_agreed_on_however_long(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("holdwire.tls.stream._CLOSE_LIMIT", 0.0)  # that is for ``aclose``
        client, server = await pair(Contexts.of(self_signed(), "TLSv1.2"))
        renegotiate(server.engine.object)
        await server.lower.write(server.engine.take())
        before = client.bytes_in
        while client.bytes_in == before:
            assert client.look() is Look.QUIET
            await checkpoint()
        async with anyio.create_task_group() as group:
            group.start_soon(client.send_eof)
            assert await read_all(server) == b""
        assert server.saw_close_notify
        end(client, server)

    @pytest.mark.skipif(not can_rekey(), reason="cannot call OpenSSL on CPython's objects here")
    async def test_our_end_does_not_wait_for_new_keys_that_the_peer_breaks_off_by_its_end(self) -> None:
        client, server = await pair_with_keys_broken_off()
        with anyio.fail_after(10):
            await client.send_eof()
            while await server.lower.read(65536):  # the ClientHello, and then our end
                pass
        end(client, server)

    @pytest.mark.skipif(not can_rekey(), reason="cannot call OpenSSL on CPython's objects here")
    async def test_a_send_after_new_keys_that_the_peer_broke_off_fails_at_once(self) -> None:
        client, server = await pair_with_keys_broken_off()
        with pytest.raises(ConnectionLost) as caught, anyio.fail_after(10):
            await client.send(b"question")
        assert caught.value.failure is not None
        assert caught.value.failure.kind is Kind.UNEXPECTED_EOF
        end(client, server)

    async def test_a_fin_between_records_is_a_failure_unless_it_is_accepted(
        self, contexts: Contexts, truncation: Truncation
    ) -> None:
        client, server = await pair(contexts, truncation=truncation)
        await server.send(b"last")
        await server.lower.finish()
        assert await client.receive() == b"last"
        for _ in range(3):
            if truncation == "accept":
                with pytest.raises(EndOfStream):
                    await client.receive()
                continue
            with pytest.raises(ConnectionLost) as caught:
                await client.receive()
            failure = caught.value.failure
            assert failure is client.failure
            assert failure is not None
            assert (failure.kind, failure.errno, failure.syscall) == (Kind.UNEXPECTED_EOF, 0, "recv")
            assert failure.tls is not None
            assert failure.tls.reason == "UNEXPECTED_EOF_WHILE_READING"
            assert failure.detail is None
        assert not client.saw_close_notify
        end(client, server)

    async def test_who_looks_at_an_idle_stream_sees_what_a_reader_would(
        self, contexts: Contexts, truncation: Truncation
    ) -> None:
        client, server = await pair(contexts, truncation=truncation)
        assert client.look() is Look.QUIET
        await server.send(b"unasked")
        await server.lower.finish()
        with anyio.fail_after(5):
            while client.look() is Look.QUIET:
                await anyio.lowlevel.checkpoint()
        assert client.look() is Look.INPUT
        assert await client.receive() == b"unasked"
        with anyio.fail_after(5):
            while client.look() is Look.QUIET:
                await anyio.lowlevel.checkpoint()
        assert client.look() is (Look.ENDED if truncation == "accept" else Look.FAILED)
        if client.failure is not None:
            assert client.failure.tls is not None
            assert client.failure.tls.reason == "UNEXPECTED_EOF_WHILE_READING"
        end(client, server)

    async def test_a_fin_inside_a_record_is_a_failure_for_everyone(
        self, contexts: Contexts, truncation: Truncation
    ) -> None:
        client, server = await pair(contexts, truncation=truncation)
        server.lower.write_now(ciphertext(server, b"last")[:-1])
        await server.lower.finish()
        for _ in range(3):
            with pytest.raises(ConnectionLost, match="inside a TLS record"):
                await client.receive()
        end(client, server)

    async def test_a_reset_is_a_failure_for_everyone_with_its_errno(
        self, contexts: Contexts, truncation: Truncation
    ) -> None:
        client, server = await pair(contexts, truncation=truncation)
        server.abort()
        for call in (client.receive, lambda: client.send(b"x"), client.receive):
            with pytest.raises(ConnectionLost, match="ECONNRESET"):
                await call()
        end(client)

    async def test_who_waits_while_a_send_gets_the_reset_gets_it_too_and_no_accepted_end(
        self, contexts: Contexts, truncation: Truncation
    ) -> None:
        client, server = await pair(contexts, truncation=truncation)

        async def receive() -> None:
            with pytest.raises(ConnectionLost, match="send: ECONNRESET"):
                await client.receive()

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            await until_blocked()
            server.abort()
            with pytest.raises(ConnectionLost, match="send: ECONNRESET"):
                client.write_now(b"x")
        end(client)

    async def test_the_first_failure_stays_when_the_socket_fails_after_it(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        record = ciphertext(server, b"secret")
        server.lower.write_now(record[:-1] + bytes([record[-1] ^ 1]))
        with pytest.raises(ConnectionLost) as caught:
            await client.receive()
        first = caught.value.failure
        assert first is not None
        assert first.tls is not None
        assert first.tls.reason == "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"
        server.abort()
        for call in (client.receive, lambda: client.send(b"x"), client.send_eof):
            with pytest.raises(ConnectionLost) as again:
                await call()
            assert again.value.failure is first
            assert again.value is not caught.value
        end(client)

    async def test_a_failure_of_tls_is_told_to_the_peer_by_an_alert(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        record = ciphertext(server, b"secret")
        server.lower.write_now(record[:-1] + bytes([record[-1] ^ 1]))
        with pytest.raises(ConnectionLost):
            await client.receive()
        with pytest.raises(ConnectionLost) as caught:
            await server.receive()
        failure = caught.value.failure
        assert failure is not None
        assert failure.kind is Kind.TLS_ALERT_RECEIVED
        assert failure.tls is not None
        assert (failure.tls.alert, failure.tls.alert_direction) == (20, "received")
        end(client, server)

    async def test_an_answer_that_came_before_the_reset_is_read_although_a_send_has_failed(
        self, contexts: Contexts
    ) -> None:
        client, server = await pair(contexts)
        await server.send(b"413")
        server.abort()
        with pytest.raises(ConnectionLost, match="send: ECONNRESET"):
            await client.send(b"more")
        assert await client.receive() == b"413"
        with pytest.raises(ConnectionLost, match="send: ECONNRESET"):
            await client.receive()
        end(client)


@pytest.mark.usefixtures("clean_runtime", "no_leaks")
class TestClosing:
    async def test_it_may_be_closed_any_number_of_times_and_then_says_so(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        await client.aclose()
        await client.aclose()
        for call in (client.receive, lambda: client.send(b"x"), lambda: client.send(b""), client.send_eof):
            with pytest.raises(ClosedResourceError):
                await call()
        with pytest.raises(EndOfStream):
            await server.receive()
        await server.aclose()

    async def test_it_may_be_closed_while_other_tasks_send_and_receive(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        outcomes: list[type[BaseException]] = []

        async def outcome(*call: object) -> None:
            function, *arguments = call
            try:
                await function(*arguments)  # type: ignore[operator]
            except (ClosedResourceError, anyio.BrokenResourceError) as exc:
                outcomes.append(type(exc))

        async with anyio.create_task_group() as group:
            group.start_soon(outcome, client.receive)
            group.start_soon(outcome, client.send, bytes(LARGE))
            await until_full(client)
            await client.aclose()
        assert outcomes == [ClosedError, ClosedError]
        end(server)

    async def test_input_that_nobody_read_is_no_obstacle(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        await server.send(bytes(50_000))
        assert await client.receive(10) == bytes(10)
        await client.aclose()
        end(server)

    async def test_a_peer_that_is_silent_does_not_hold_it_up(
        self, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("holdwire.tls.stream._CLOSE_LIMIT", 20.0)
        client, server = await pair(contexts)
        began = time.monotonic()
        await client.aclose()
        assert time.monotonic() - began < 10
        end(server)

    async def test_a_peer_that_does_not_read_holds_it_up_for_a_second_at_most(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        while client.lower.write_now(bytes(65536)):  # raw bytes: the kernel is full, and our own output is empty
            pass
        began = time.monotonic()
        await client.aclose()
        assert time.monotonic() - began < 10, "a second is the limit; without one it would wait for ever"
        assert client.closed
        end(server)

    async def test_unread_session_tickets_do_not_destroy_our_last_data(self, contexts: Contexts) -> None:
        for _ in range(5):
            client, server = await pair(contexts)  # TLS 1.3: two tickets wait in the client's kernel, unread
            await client.send(b"last words")
            await client.aclose()
            assert await read_all(server) == b"last words"
            assert server.saw_close_notify
            await server.aclose()

    async def test_what_was_not_sent_never_leaves_by_a_close(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        async with anyio.create_task_group() as group:
            group.start_soon(client.send, bytes(LARGE))
            await until_full(client)
            group.cancel_scope.cancel()
        await client.aclose()
        with pytest.raises(ConnectionLost, match="ECONNRESET"):
            await read_all(server)
        end(server)

    async def test_a_close_without_waiting_refuses_to_be_graceful_over_what_was_not_sent(
        self, contexts: Contexts
    ) -> None:
        client, server = await pair(contexts)
        while client.write_now(bytes(65536)):
            pass
        assert client.unsent
        client.close()
        assert client.unsent == 0
        with pytest.raises(ConnectionLost, match="ECONNRESET"):
            await read_all(server)
        end(server)

    async def test_a_connection_of_another_process_is_let_go_without_a_word(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        await server.send(b"x")
        await client.receive()  # and the tickets: with unread input the kernel sends a reset
        before = client.bytes_out
        client.drop()
        with pytest.raises(ConnectionLost) as caught:
            await server.receive()  # a FIN from the last holder, and no close_notify
        assert caught.value.failure is not None
        assert caught.value.failure.kind is Kind.UNEXPECTED_EOF
        assert client.bytes_out == before
        end(server)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
    @pytest.mark.parametrize("how", ["close", "abort", "aclose"])
    async def test_a_forked_child_that_ends_its_copy_leaves_the_parents_connection_alone(
        self, contexts: Contexts, how: str
    ) -> None:
        client, server = await pair(contexts)
        end_in_fork(client, how)
        with anyio.fail_after(5):
            for sender, receiver in ((client, server), (server, client)):
                await sender.send(b"x")
                assert await receiver.receive() == b"x"
        end(client, server)


class TestReceiving:
    async def test_tls_that_begins_right_behind_a_header_is_not_overlooked(self, contexts: Contexts) -> None:
        near, far = socket_streams()
        await near.send(b"PROXY\r\n")

        async def client() -> TLSStream:
            return await TLSStream.connect(near, context=contexts.client, server_hostname="localhost")

        async def server() -> TLSStream:
            while near.bytes_out == 7:  # the handshake has begun, and is read with the header
                await checkpoint()
            assert await far.receive(7) == b"PROXY\r\n"
            return await TLSStream.connect(far, context=contexts.server, server_hostname=None, server_side=True)

        with anyio.fail_after(10):
            end(*await together(client, server))

    @pytest.mark.parametrize("wrong", [0, -1])
    async def test_a_size_below_one_is_refused(self, contexts: Contexts, wrong: int) -> None:
        client, server = await pair(contexts)
        with pytest.raises(ValueError, match="max_bytes"):
            await client.receive(wrong)
        end(client, server)

    async def test_records_that_are_here_come_at_once(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        server.lower.write_now(b"".join(ciphertext(server, bytes([number]) * 10) for number in range(3)))
        assert await client.receive(25) == b"\0" * 10 + b"\1" * 10 + b"\2" * 5
        assert await client.receive(25) == b"\2" * 5
        end(client, server)

    @pytest.mark.parametrize(
        "anyio_backend", [("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
    )
    async def test_the_loop_learns_of_the_descriptor_once_and_not_for_each_exchange(self, contexts: Contexts) -> None:
        client, server = await pair(contexts)
        added: list[int] = []
        lower: Any = client.lower
        channel = lower._channel
        real = channel._loop

        class Loop:
            def __getattr__(self, name: str) -> object:
                return getattr(real, name)

            def add_reader(self, fd: int, callback: object) -> None:
                added.append(fd)
                real.add_reader(fd, callback)

        channel._loop = Loop()
        async with anyio.create_task_group() as group:

            async def echo() -> None:
                for _ in range(100):
                    await server.send(await server.receive())

            group.start_soon(echo)
            for _ in range(100):
                await client.send(b"x")
                assert await client.receive() == b"x"
        assert len(added) <= 1
        assert all(isinstance(fd, int) for fd in added)
        end(client, server)
