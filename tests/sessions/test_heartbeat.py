"""Heartbeats of streams: who is found dead and how fast, and who must not be."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import holdwire
from holdwire import Heartbeat
from holdwire.events import ConnectionClosed, FailureRecorded, HeartbeatAnswered, HeartbeatMissed, Observers
from holdwire.net.runtime import current
from holdwire.net.stream import SocketStream
from holdwire.net.tcp_info import inq
from holdwire.net.ticker import WINDOW, Ticker, current_ticker
from holdwire.sessions.heartbeat import Beat
from tests.conftest import running_tasks
from tests.net_helpers import tcp_pair
from tests.seen import Seen
from tests.sessions.peers import line_server, serve, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anyio.abc import ByteStream

    from holdwire.policy.settings import Sender

pytestmark = pytest.mark.usefixtures("clean_runtime", "no_leaks")


def beat(interval: float = 0.1, timeout: float = 0.2, **more: object) -> Heartbeat:
    return Heartbeat(interval=interval, timeout=timeout, **{"probe": b"PING\n", "jitter": 0.0, **more})  # type: ignore[arg-type]


@pytest.fixture
def peer(listener: socket.socket) -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Starts a peer in a thread of its own, so that it goes on while the event loop stands; gives its URL."""
    threads: list[threading.Thread] = []

    def start(talk: Callable[[socket.socket], None]) -> str:
        def run() -> None:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(10)
                    talk(sock)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def until_closed(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


async def test_a_silent_peer_is_found_within_interval_and_time_out() -> None:
    interval, timeout = 0.6, 0.4
    took: list[float] = []
    async with serve(silent) as port:
        while len(took) < 10:  # where this machine has no time for us, which the guards allow for, once it will
            began = time.monotonic()
            async with holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat(interval, timeout)) as stream:
                with pytest.raises(holdwire.HeartbeatLost, match="a heartbeat was not answered"):
                    await stream.receive()
            took.append(time.monotonic() - began)
            if took[-1] <= (interval + timeout) * 1.1:
                break
    assert min(took) >= interval + timeout - WINDOW - 0.01, "what is due together goes out together; and uvloop's clock"
    assert took[-1] <= (interval + timeout) * 1.1, took


async def test_a_lost_heartbeat_is_one_failure_for_everyone_and_told_once() -> None:
    seen = Seen()
    found: list[BaseException] = []
    async with serve(silent) as port:
        stream = await holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat(), observers=[seen])
        for use in (stream.receive, stream.receive, lambda: stream.send(b"x"), stream.send_eof):
            with pytest.raises(holdwire.HeartbeatLost) as raised:
                await use()
            found.append(raised.value)
        await stream.aclose()
    assert len({id(holdwire.failure_of(exc)) for exc in found}) == 1
    assert stream.failure is not None
    assert stream.failure.kind is holdwire.Kind.HEARTBEAT_LOST
    assert stream.failure.phase is holdwire.Phase.HEARTBEAT
    assert [len(seen.of(kind)) for kind in (HeartbeatMissed, FailureRecorded, ConnectionClosed)] == [1, 1, 1]


async def test_a_living_peer_answers_and_its_round_trips_are_measured() -> None:
    seen = Seen()
    began = time.monotonic()
    async with (
        serve(line_server) as port,
        holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat(0.02, 5), observers=[seen]) as stream,
    ):
        for _ in range(5):
            assert await stream.receive() == b"PONG\n"
        numbers = stream.statistics
    assert numbers.probes >= 5
    assert numbers.answers >= 5
    assert numbers.last_rtt is not None
    assert 0 <= numbers.last_rtt < time.monotonic() - began
    assert len(seen.of(HeartbeatAnswered)) == numbers.answers


async def test_a_peer_that_is_slow_and_answers_in_time_lives() -> None:
    async def slow(stream: ByteStream) -> None:
        async for _ in stream:
            await anyio.sleep(0.15)
            await stream.send(b"PONG\n")

    async with (
        serve(slow) as port,
        holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat(0.05, 2)) as stream,
    ):
        began = time.monotonic()
        for _ in range(5):
            assert await stream.receive() == b"PONG\n"
        assert time.monotonic() - began < 5, "each probe followed the answer to the one before after an interval"
        assert stream.statistics.last_rtt is not None
        assert stream.statistics.last_rtt >= 0.14


async def test_any_byte_is_life_though_it_answers_nothing() -> None:
    sent = asked = 0

    async def chatter(stream: ByteStream) -> None:
        nonlocal sent

        async def listen() -> None:
            nonlocal asked
            async for data in stream:
                asked += data.count(b"PING\n")

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            while sent < 20 or asked <= 5:
                await stream.send(b"news\n")
                sent += 1
                await anyio.sleep(0.04)
            await stream.send_eof()  # and read on: to close over an unread probe is a reset

    def is_reply(data: bytes) -> bool:
        return data == b"PONG\n"

    heartbeat = beat(0.02, 0.4, is_reply=is_reply)
    async with serve(chatter) as port, holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=heartbeat) as stream:
        count = 0
        async for data in stream:
            count += data.count(b"\n")
        assert count == sent
        assert stream.statistics.probes > 5
        assert stream.statistics.answers == 0, "news are no answer, so they time nothing"


async def test_a_stalled_event_loop_kills_nobody(peer: Callable[[Callable[[socket.socket], None]], str]) -> None:
    def answer(sock: socket.socket) -> None:
        while data := sock.recv(100):
            sock.sendall(b"PONG\n" * data.count(b"PING"))

    async with holdwire.connect(peer(answer), heartbeat=beat(0.1, 0.5)) as stream:
        assert (await stream.receive()).startswith(b"PONG\n")
        for _ in range(2):
            time.sleep(0.8)  # noqa: ASYNC251 - the stall, longer than interval and time-out
            assert (await stream.receive()).startswith(b"PONG\n")
        assert stream.failure is None


async def test_a_stall_right_after_the_probe_asks_again_instead_of_killing(
    peer: Callable[[Callable[[socket.socket], None]], str],
) -> None:
    probed = threading.Event()

    def answer_the_second(sock: socket.socket) -> None:
        sock.recv(100)
        probed.set()
        sock.recv(100)
        sock.sendall(b"PONG\n")
        until_closed(sock)

    async def stall() -> None:
        assert await anyio.to_thread.run_sync(probed.wait, 5)
        time.sleep(1.2)  # noqa: ASYNC251 - the stall, longer than the time-out

    url = peer(answer_the_second)
    async with holdwire.connect(url, heartbeat=beat(0.1, 0.6)) as stream, anyio.create_task_group() as group:
        group.start_soon(stall)
        assert await stream.receive() == b"PONG\n"


async def test_a_host_that_slept_has_every_connection_probed_at_once(clean_runtime: object) -> None:
    slept = 0.0

    class Watched:
        scheduled = float("inf")
        suspected = ticked = 0

        def tick(self, now: float) -> float:
            self.ticked += 1
            return now + 0.05

        def suspect(self, now: float) -> float:  # noqa: ARG002 - the ticker's
            self.suspected += 1
            done.set()
            return float("inf")

    done = anyio.Event()
    runtime = current()
    ticker = Ticker(runtime, boottime=lambda: time.monotonic() + slept)
    often, seldom = Watched(), Watched()
    ticker.add(often, time.monotonic() + 0.05)
    ticker.add(seldom, time.monotonic() + 1000)
    await anyio.sleep(0.1)
    assert (often.suspected, seldom.suspected) == (0, 0)
    slept = 60.0
    with anyio.fail_after(5):
        await done.wait()
    assert (often.suspected, seldom.suspected) == (1, 1)
    assert seldom.ticked == 0


async def test_while_nobody_reads_nothing_is_said_and_reading_goes_on_afterwards() -> None:
    async with (
        serve(line_server) as port,
        holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat(0.05, 0.1)) as stream,
    ):
        await anyio.sleep(0.5)  # the caller is busy with something else
        assert stream.failure is None
        assert (await stream.receive()).startswith(b"PONG\n")


async def test_answers_that_we_do_not_read_are_life() -> None:
    async def flood(stream: ByteStream) -> None:
        await stream.send(b"x" * 1000)
        await silent(stream)

    async with (
        serve(flood) as port,
        holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat(0.1, 0.1, direction="write")) as stream,
    ):
        await anyio.sleep(0.5)
        assert stream.failure is None
        assert stream.statistics.probes > 0
        assert len(await stream.receive()) == 1000


async def test_a_peer_that_does_not_read_is_not_killed_while_its_kernel_answers(
    peer: Callable[[Callable[[socket.socket], None]], str], listener: socket.socket
) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    go = threading.Event()
    received = bytearray()

    def lazy(sock: socket.socket) -> None:
        go.wait(10)
        while data := sock.recv(65536):
            received.extend(data)
            if received.endswith(b"\n"):
                sock.sendall(b"PONG\n")

    message = b"m" * 3_000_000 + b"\n"
    async with holdwire.connect(peer(lazy), heartbeat=beat(0.1, 0.2)) as stream, anyio.create_task_group() as group:
        group.start_soon(stream.send, message)
        with anyio.move_on_after(0.8):
            await stream.receive()
        assert stream.failure is None, "it lives and does not read"
        go.set()
        with anyio.fail_after(10):
            assert (await stream.receive()).startswith(b"PONG\n")
    assert received.startswith(message), "no probe landed inside the message"
    assert not received[len(message) :].replace(b"PING\n", b"")


class Uploading:
    """Who is in the middle of a message, so that no probe can leave."""

    is_reading = is_writing = True
    failed = False

    def try_probe(self, item: bytes) -> bool:  # noqa: ARG002 - the beat's
        return False

    async def send_probe(self, item: bytes, /) -> None:
        raise AssertionError(item)

    def on_failure(self) -> None:
        self.failed = True


async def test_a_peer_on_a_unix_socket_that_reads_a_long_message_slowly_is_not_killed_until_it_stops() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        wire, owner = SocketStream(ours, host="localhost"), Uploading()
        while wire.write_now(bytes(65536)):
            pass
        one = Beat(owner, wire, beat(1000, 1000), keepalive=None, notify=Observers())
        now = time.monotonic() + 1001
        one.tick(now)
        for _ in range(3):
            now += 1000
            theirs.recv(4096)
            theirs.recv(65536)
            one.tick(now)
            assert wire.failure is None, "it reads"
        one.tick(now + 600)  # in time: who looks far too late takes it for a pause of its own
        assert wire.failure is not None
        assert owner.failed


@pytest.mark.parametrize("family", ["AF_INET", "AF_UNIX"])
def test_unread_answers_are_counted_on_every_kind_of_socket(family: str) -> None:
    ours, theirs = socket.socketpair() if family == "AF_UNIX" else tcp_pair()
    with ours, theirs:
        theirs.sendall(b"PONG\n")
        assert ours.recv(1) == b"P"
        assert inq(ours) == 4


async def test_a_probe_function_sends_between_messages() -> None:
    received = bytearray()

    async def collect(stream: ByteStream) -> None:
        async for data in stream:
            received.extend(data)
            await stream.send(b"ok")

    async def probe(stream: Sender) -> None:
        await stream.send(b"<")
        await anyio.lowlevel.checkpoint()
        await stream.send(b">")

    async with (
        serve(collect) as port,
        holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat(0.02, probe=probe)) as stream,
    ):
        for _ in range(4):
            await stream.receive()
    assert b"<>" in received


async def test_a_probe_function_that_raises_ends_the_connection_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: Sender) -> None:
        raise RuntimeError("no luck")

    async with (
        serve(silent) as port,
        holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat(0.05, 5, probe=broken)) as stream,
    ):
        with pytest.raises(holdwire.HeartbeatLost, match="probe function raised"):
            await stream.receive()
    assert "no luck" in caplog.text


async def test_a_probe_function_that_hangs_is_a_heartbeat_that_is_lost() -> None:
    async def stuck(_: Sender) -> None:
        await anyio.sleep_forever()

    async with (
        serve(silent) as port,
        holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat(0.05, 0.1, probe=stuck)) as stream,
    ):
        with pytest.raises(holdwire.HeartbeatLost):
            await stream.receive()


async def test_is_reply_that_raises_is_told_once_and_taken_for_cannot_tell(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: bytes) -> bool:
        raise RuntimeError("no luck")

    async with (
        serve(line_server) as port,
        holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat(0.02, is_reply=broken)) as stream,
    ):
        for _ in range(3):
            await stream.receive()
        assert stream.statistics.answers >= 3
    assert caplog.text.count("is_reply raised") == 1


async def test_writing_calls_for_a_probe_where_the_server_wants_to_hear_us() -> None:
    async def chatter(stream: ByteStream) -> None:
        received = bytearray()
        async with anyio.create_task_group() as group:

            async def talk() -> None:
                while True:
                    await stream.send(b".")
                    await anyio.sleep(0.02)

            group.start_soon(talk)
            async for data in stream:
                received.extend(data)
                if received.count(b"PING\n") >= 3:
                    break
            group.cancel_scope.cancel()

    async with (
        serve(chatter) as port,
        holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat(0.1, 1, direction="write")) as stream,
    ):
        with anyio.fail_after(5):
            async for _ in stream:
                pass
        assert stream.statistics.probes >= 3


async def test_hundreds_of_connections_share_one_timer_and_no_task() -> None:
    async with serve(line_server) as port:
        before = len(running_tasks())
        ticks = current_ticker().ticks
        streams = [await holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat(0.5, 5)) for _ in range(100)]
        assert len(running_tasks()) <= before + 100, "the server's"
        async with anyio.create_task_group() as group:
            for stream in streams:
                group.start_soon(stream.receive)
        assert current_ticker().ticks - ticks < 60, "beats that are due together go out together"
        assert all(stream.statistics.answers == 1 for stream in streams)
        for stream in streams:
            await stream.aclose()


async def test_a_beat_ends_with_its_stream() -> None:
    async with serve(line_server) as port:
        stream = await holdwire.connect(f"tcp://127.0.0.1:{port}", heartbeat=beat(0.02))
        await stream.receive()
        sent = stream.statistics.probes
        await stream.aclose()
        await anyio.sleep(0.1)
        assert stream._beat is not None
        assert stream._beat.sent == sent
