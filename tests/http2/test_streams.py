"""One stream's trouble stays its own: time-outs, cancellation, early ends, and what the connection does about them."""

from __future__ import annotations

import contextlib
import errno
import gc
import socket
import struct
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.lowlevel
import hpack
import httpx
import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame, Frame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

import holdwire
from holdwire.events import FailureRecorded
from holdwire.http import h2_machine
from holdwire.net.dial import substitute_sockets
from holdwire.policy.kind import Kind
from holdwire.policy.phase import Sent
from holdwire.policy.verdict import RetryAction
from tests.http2.clients import Watch, client_of, connections_of, misbehaving
from tests.http2.server import serve
from tests.http2.test_wiring import tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    import trustme

    from tests.http2.server import Connection, Received, Server


async def say_nothing(connection: Connection, request: Received) -> None:
    """Leave the request without an answer."""


async def test_a_read_time_out_resets_its_stream_and_no_sibling_notices() -> None:
    watch = Watch()
    siblings: list[Received] = []

    async def handle(connection: Connection, request: Received) -> None:
        if request.path != "/slow":
            siblings.append(request)

    async with serve(handle) as server, client_of(watch) as client:
        texts: list[str] = []

        async def get(number: int) -> None:
            texts.append((await client.get(f"{server.url}/{number}")).text)

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(get, number)
            with pytest.raises(httpx.ReadTimeout, match=r"HTTP/2 stream \d+"):
                await client.get(f"{server.url}/slow", timeout=httpx.Timeout(5, read=0.2))
            (connection,) = server.connections
            (reset,) = await connection.heard(RstStreamFrame)
            slow = next(request for request in connection.requests.values() if request.path == "/slow")
            assert (reset.stream_id, reset.error_code) == (slow.stream, ErrorCodes.CANCEL)
            assert len(await connection.heard(PingFrame)) == 1
            for request in siblings:
                await connection.answer(request)
    assert len(texts) == 20
    assert (len(server.connections), watch.kinds) == (1, ["local_timeout"])


async def test_a_cancelled_request_resets_its_stream_and_its_late_answer_harms_nobody() -> None:
    late: list[Received] = []

    async def handle(connection: Connection, request: Received) -> None:
        if request.path == "/cancelled":
            late.append(request)
        else:
            await connection.answer(request)

    async with serve(handle) as server, client_of() as client:
        async with anyio.create_task_group() as group:
            group.start_soon(client.get, f"{server.url}/cancelled")
            while not late:  # noqa: ASYNC110 - until the server has it
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()
        (connection,) = server.connections
        await connection.heard(RstStreamFrame)
        await connection.answer(late[0], b"x" * 10_000)
        assert (await client.get(f"{server.url}/next")).text == "/next"
        (ours,) = connections_of(client)
        assert (ours.active, ours.machine.unread) == (0, 0)
    assert len(server.connections) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # httpx leaves generators of its own
async def test_a_body_that_is_closed_early_resets_its_stream() -> None:
    async def endless(connection: Connection, request: Received) -> None:
        await connection.send(connection.head(request.stream), connection.data(request.stream, b"x" * 1000, end=False))

    async with serve(misbehaving(endless)) as server, client_of() as client:
        async with (
            client.stream("GET", f"{server.url}/x") as response,
            contextlib.aclosing(cast("AsyncGenerator[bytes]", response.aiter_raw())) as pieces,
        ):
            assert await anext(pieces) == b"x" * 1000
        (reset,) = await server.connections[0].heard(RstStreamFrame)
        assert (reset.stream_id, reset.error_code) == (1, ErrorCodes.CANCEL)
        assert (await client.get(f"{server.url}/y")).text == "/y"
    assert len(server.connections) == 1


async def begin(connection: Connection, request: Received) -> None:
    """The head and some of the body, and nothing more."""
    await connection.send(connection.head(request.stream), connection.data(request.stream, b"some", end=False))


async def test_a_request_that_is_given_up_before_its_head_has_left_is_not_called_unsent() -> None:
    async def handle(connection: Connection, request: Received) -> None:
        if request.method == "GET":
            await connection.answer(request)

    async with serve(handle) as server, client_of() as client:
        await client.get(server.url)
        (ours,) = connections_of(client)
        await server.connections[0].ping()
        await server.connections[0].heard(PingFrame)  # nothing else is on its way to us
        ours.batching = True  # as when one read has woken several tasks: what they say leaves when all have run
        with pytest.raises(httpx.TimeoutException) as caught:
            await client.post(server.url, extensions={"holdwire": {"deadline": 0.05}})
        ours.batching = False
        ours.flush()
        await server.connections[0].heard(RstStreamFrame)
        assert len(server.connections[0].frames(HeadersFrame)) == 2
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.sent != "none"
    assert failure.delivery == "sent_unacked"
    assert not failure.safe_to_retry


async def test_who_reads_a_body_that_another_task_closes_is_told_at_once() -> None:
    async with serve(begin) as server, client_of() as client, client.stream("GET", server.url) as response:
        begun = anyio.Event()

        async def read() -> None:
            async for _ in response.aiter_raw():
                begun.set()

        async def see() -> None:
            with pytest.raises(httpx.ReadError, match="was closed while the request was in progress"):
                await read()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(see)
                await begun.wait()
                await anyio.wait_all_tasks_blocked()
                await response.aclose()


async def test_a_body_that_is_left_half_read_needs_no_finalizer() -> None:
    async with serve(begin) as server, client_of() as client:
        request = client.build_request("GET", server.url)
        response = await client._transport.handle_async_request(request)
        async for _ in response.stream:  # type: ignore[union-attr]
            break
        await response.aclose()
        del response
        gc.collect()  # an unfinished generator would be a ResourceWarning of trio's, and so an error


async def test_an_early_answer_ends_the_upload_and_is_delivered() -> None:
    pieces = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal pieces
        while pieces < 10_000:
            pieces += 1
            yield b"x" * 10_000
            await anyio.lowlevel.checkpoint()

    async def refuse(connection: Connection) -> None:
        await connection.settings(streams=100)
        await connection.heard(DataFrame)
        request = connection.requests[1]
        await connection.send(connection.head(1, status=413), connection.data(1, b"too large"))
        assert not request.complete

    async with serve(greet=None) as server, client_of() as client:
        async with anyio.create_task_group() as group:
            original = server.greet

            async def greet(connection: Connection) -> None:
                await original(connection)
                group.start_soon(refuse, connection)

            server.greet = greet
            response = await client.post(f"{server.url}/x", content=body())
            assert (response.status_code, response.text) == (413, "too large")
        await server.connections[0].heard(RstStreamFrame)
        assert (await client.get(f"{server.url}/y")).text == "/y"
    assert pieces < 10_000
    assert len(server.connections) == 1


async def accept_at_once(connection: Connection, request: Received) -> None:
    await connection.send(connection.head(request.stream, status=202, end=True))


@contextlib.asynccontextmanager
async def serve_who_accepts(then: Callable[[Connection], Awaitable[None]], **settings: int) -> AsyncGenerator[Server]:
    """A server that answers 202 when it has the head of a request, and does ``then``."""

    async def greet(connection: Connection) -> None:
        await connection.settings(streams=100, **settings)
        group.start_soon(accept, connection)

    async def accept(connection: Connection) -> None:
        await connection.heard(HeadersFrame)
        await accept_at_once(connection, connection.requests[1])
        await then(connection)

    async with anyio.create_task_group() as group, serve(say_nothing, greet=greet) as server:
        yield server


async def test_an_upload_that_is_accepted_before_it_was_read_is_sent_whole() -> None:
    async def read_all(connection: Connection) -> None:
        pass

    async with serve_who_accepts(read_all) as server, client_of() as client:
        response = await client.put(f"{server.url}/x", content=bytes(1_000_000))
        assert response.status_code == 202
        (connection,) = server.connections
        await connection.until(lambda: connection.requests[1].complete)
    assert len(connection.requests[1].body) == 1_000_000
    assert not connection.frames(RstStreamFrame)


@pytest.mark.parametrize("end", ["silence", "reset", "close"])
async def test_a_whole_answer_is_delivered_though_the_server_takes_no_more_of_the_upload(end: str) -> None:
    async def refuse(connection: Connection) -> None:
        if end == "reset":
            await connection.reset_stream(1, ErrorCodes.NO_ERROR)
        elif end == "close":
            await connection.close()

    write = 0.2 if end == "silence" else 10
    async with serve_who_accepts(refuse, window=0) as server, client_of() as client:
        with anyio.fail_after(5):
            response = await client.put(
                f"{server.url}/x", content=bytes(1_000_000), timeout=httpx.Timeout(10, write=write)
            )
            if end == "silence":
                await server.connections[0].heard(RstStreamFrame)
    assert response.status_code == 202


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_an_upload_that_is_cancelled_midway_closes_the_generator_of_its_body(version: str) -> None:
    begun = anyio.Event()
    closed = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            while True:
                begun.set()
                yield b"x" * 65_536
        finally:
            await anyio.lowlevel.cancel_shielded_checkpoint()
            closed = True

    with socket.create_server(("127.0.0.1", 0)) as deaf:  # the kernel takes the connection, and some of the body
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        async with client_of(http1=version != "2", http2=version == "2") as client:
            async with anyio.create_task_group() as group:
                group.start_soon(partial(client.post, url, content=body()))
                await begun.wait()
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
            assert closed


async def test_interim_responses_and_trailers_are_skipped_and_a_head_request_has_no_body() -> None:
    async def chatty(connection: Connection, request: Received) -> None:
        frames: list[Frame] = [
            connection.head(request.stream, ("link", "</style.css>"), status=103),
            connection.head(request.stream, ("content-length", "4")),
            connection.data(request.stream, b"body", end=False),
        ]
        trailers = connection.head(request.stream, end=True)
        trailers.data = connection.encode([("grpc-status", "0")])
        await connection.send(*frames, trailers)

    async def head(connection: Connection, request: Received) -> None:
        await connection.send(connection.head(request.stream, ("content-length", "1000"), end=True))

    async with serve(misbehaving(chatty, head)) as server, client_of() as client:
        response = await client.get(f"{server.url}/x")
        assert (response.status_code, response.text, response.headers.get("grpc-status")) == (200, "body", None)
        response = await client.head(f"{server.url}/x")
        assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "1000")


async def test_a_window_that_stays_closed_is_a_write_time_out_that_says_so_and_siblings_go_on() -> None:
    async with serve(settings={"window": 0}) as server, client_of() as client:
        assert (await client.get(f"{server.url}/first")).text == "/first"  # the server's SETTINGS are here now
        with pytest.raises(httpx.WriteTimeout, match="its HTTP/2 window stayed closed") as caught:
            await client.post(f"{server.url}/x", content=b"x" * 10, timeout=httpx.Timeout(5, write=0.2))
        failure = holdwire.failure_of(caught.value)
        assert failure is not None
        assert "keeps the request's HTTP/2 window closed" in failure.cause
        assert (await client.get(f"{server.url}/y")).text == "/y"
    assert len(server.connections) == 1


async def test_a_deadline_that_expires_tells_what_the_connection_knew_of_the_request() -> None:
    async with serve(settings={"window": 0}) as server, client_of() as client:
        await client.get(f"{server.url}/first")  # the server's SETTINGS are here now
        with pytest.raises(httpx.TimeoutException, match="the deadline of the request") as caught:
            await client.post(f"{server.url}/x", content=b"x" * 10, extensions={"holdwire": {"deadline": 0.2}})
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert "keeps the request's HTTP/2 window closed" in failure.cause
    assert (failure.peer, failure.sent) == ("127.0.0.1", "part")


async def test_a_closed_window_is_a_write_time_out_also_while_others_upload_on_the_connection() -> None:
    async def handle(connection: Connection, request: Received) -> None:
        if request.body:
            await connection.open_window(0, len(request.body))
        await connection.answer(request)

    async with serve(handle, settings={"window": 100}) as server, client_of() as client:
        await client.get(f"{server.url}/first")
        server.connections[0].gives_windows = False

        async def upload_again_and_again() -> None:
            while True:
                await client.post(f"{server.url}/other", content=b"x" * 50)

        async with anyio.create_task_group() as group:
            group.start_soon(upload_again_and_again)
            with anyio.fail_after(5), pytest.raises(httpx.WriteTimeout, match="its HTTP/2 window stayed closed"):
                await client.post(f"{server.url}/x", content=b"x" * 1000, timeout=httpx.Timeout(20, write=0.3))
            group.cancel_scope.cancel()
    assert len(server.connections) == 1


def uploaded(connection: Connection) -> list[int]:
    """How much of each upload has arrived."""
    return [len(request.body) for request in connection.requests.values() if request.method == "POST"]


async def test_uploads_that_share_the_connections_window_have_their_turns() -> None:
    size = 3_000_000
    halfway: list[int] = []

    async with serve(settings={"window": 2**24}) as server, client_of() as client:
        await client.get(f"{server.url}/first")
        (connection,) = server.connections
        connection.gives_windows = False
        async with anyio.create_task_group() as group:
            for number in range(2):
                group.start_soon(partial(client.post, f"{server.url}/{number}", content=b"x" * size))
            given = 0
            while given < 2 * size:
                await connection.until(lambda: sum(uploaded(connection)) > given)  # noqa: B023 - called here and now
                now = sum(uploaded(connection))
                if given < size <= now:
                    halfway = uploaded(connection)
                await connection.open_window(0, now - given)
                given = now
    assert len(halfway) == 2
    assert min(halfway) > 65_535, "nobody waits until the other one is done"


async def test_an_upload_that_waits_for_its_turn_does_not_time_out() -> None:
    window = 65_535
    async with serve(settings={"window": 2**24}) as server, client_of() as client:
        await client.get(f"{server.url}/first")
        (connection,) = server.connections
        connection.gives_windows = False
        async with anyio.create_task_group() as group:
            for number in range(6):
                timeout = httpx.Timeout(20, write=2.0)
                group.start_soon(partial(client.post, f"{server.url}/{number}", content=b"x" * window, timeout=timeout))
            for turn in range(1, 6):
                await connection.until(lambda: sum(uploaded(connection)) == turn * window)  # noqa: B023 - here and now
                await anyio.sleep(0.5)
                await connection.open_window(0, window)
    assert uploaded(connection) == [window] * 6


async def test_an_upload_goes_on_when_the_window_opens_also_by_settings() -> None:
    async def late(connection: Connection) -> None:
        await connection.settings(streams=100, window=0)

    async with serve(greet=late) as server, client_of() as client:
        assert (await client.get(f"{server.url}/first")).text == "/first"
        (connection,) = server.connections
        async with anyio.create_task_group() as group:

            async def post() -> None:
                response = await client.post(f"{server.url}/upload", content=b"u" * 50_000)
                assert response.status_code == 200

            group.start_soon(post)
            await connection.heard(HeadersFrame, stream=3)
            await connection.open_window(3, 1000)
            await connection.heard(DataFrame, stream=3)
            assert len(connection.requests[3].body) == 1000
            await connection.settings(window=100_000)
        assert connection.requests[3].body == b"u" * 50_000


async def test_a_response_that_nobody_reads_stops_itself_and_nobody_else() -> None:
    sent = 0

    async def pour(connection: Connection, request: Received) -> None:
        nonlocal sent
        await connection.send(connection.head(request.stream))
        window = 2**24
        while window:
            size = min(window, 16_384)
            await connection.send(connection.data(request.stream, b"x" * size, end=False))
            window -= size
            sent += size
        await connection.heard(WindowUpdateFrame, stream=request.stream)
        await connection.send(connection.data(request.stream, b"end"))

    async with serve(misbehaving(pour)) as server, client_of() as client:
        async with client.stream("GET", f"{server.url}/x") as response:
            for number in range(3):
                assert (await client.get(f"{server.url}/{number}")).text == f"/{number}"
            received = 0
            async for piece in response.aiter_raw():
                received += len(piece)
        assert received == 2**24 + 3
        (ours,) = connections_of(client)
        assert ours.machine.unread == 0
    assert len(server.connections) == 1


async def test_a_response_that_is_closed_unread_makes_room_for_its_siblings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h2_machine, "UNREAD_LIMIT", 2**20)
    piece, pieces = b"x" * 2**14, h2_machine.WINDOW // 2**15

    async def pour(connection: Connection, request: Received) -> None:
        await connection.send(connection.head(request.stream))
        if request.path == "/large":
            for number in range(1, pieces + 1):
                await connection.send(connection.data(request.stream, piece, end=number == pieces))
        else:
            await connection.heard(WindowUpdateFrame, 2, stream=0)  # the first one came with the preface
            await connection.send(connection.data(request.stream, b"end"))

    async with serve(pour) as server, client_of() as client, client.stream("GET", f"{server.url}/x") as sibling:
        (ours,) = connections_of(client)
        with anyio.fail_after(20):
            async with client.stream("GET", f"{server.url}/large"):
                while ours.machine.unread < pieces * len(piece):  # noqa: ASYNC110 - until all of it has come
                    await anyio.sleep(0.001)
            assert await sibling.aread() == b"end"


async def test_a_peer_that_reads_nothing_is_a_write_time_out_and_the_request_says_how_much_was_sent() -> None:
    async def deaf(connection: Connection) -> None:
        await connection.settings(streams=100, window=2**30)
        await connection.open_window(0, 2**30)
        connection.stop_reading()

    async with serve(greet=deaf) as server, client_of() as client:
        with pytest.raises(httpx.WriteTimeout, match="the kernel took no more bytes"):
            await client.post(f"{server.url}/x", content=b"x" * 2**26, timeout=httpx.Timeout(5, write=0.3))
    assert server.seen == []


async def test_a_large_upload_over_tls_to_a_slow_reader_arrives_whole(
    ca: trustme.CA, client_context: ssl.SSLContext
) -> None:
    async def slow(connection: Connection) -> None:
        await connection.settings(streams=100, window=2**30)
        await connection.open_window(0, 2**30)
        connection.stop_reading()

    body = bytes(range(256)) * 4096 * 2
    async with (
        serve(greet=slow, context=tls(ca, "h2")) as server,
        client_of(http1=True, verify=client_context) as client,
        anyio.create_task_group() as group,
    ):
        texts: list[str] = []

        async def post(number: int) -> None:
            texts.append((await client.post(f"{server.url}/{number}", content=body, timeout=10)).text)

        for number in range(2):
            group.start_soon(post, number)
        with anyio.fail_after(10):
            while not server.connections:  # noqa: ASYNC110 - until the client is there
                await anyio.sleep(0.001)
        await anyio.sleep(0.2)
        server.connections[0].paused.set()
        while len(texts) < 2:  # noqa: ASYNC110 - a task group that ends the server would cut it short
            await anyio.sleep(0.01)
        assert sorted(texts) == ["/0", "/1"]
        assert all(request.body == body for request in server.connections[0].requests.values())
    assert len(server.connections) == 1


async def test_a_request_over_tls_that_the_kernel_takes_only_in_part_at_first_arrives_whole(
    ca: trustme.CA, client_context: ssl.SSLContext
) -> None:
    small = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)]
    async with (
        serve(context=tls(ca, "h2")) as server,
        client_of(http1=True, verify=client_context, socket_options=small) as client,
    ):
        await client.get(f"{server.url}/first")
        (connection,) = server.connections
        await connection.until(lambda: any("ACK" in one.flags for one in connection.frames(SettingsFrame)))
        connection.gives_windows = False  # nothing comes from the server before it has the whole request
        response = await client.post(f"{server.url}/x", content=b"x" * 60_000, timeout=5)
        assert response.text == "/x"
        assert len(connection.requests[3].body) == 60_000


async def test_what_waited_behind_anothers_upload_over_tls_when_writing_failed_is_known_not_to_have_left(
    ca: trustme.CA, client_context: ssl.SSLContext
) -> None:
    """The kernel takes the large one in two parts, and then nothing: of the small one not a byte.

    On trio they may come in the other order, and all goes well.
    """
    large = 60_000
    parts = 0

    class Full(socket.socket):
        def send(self, data: Any, flags: int = 0, /) -> int:
            nonlocal parts
            if len(data) < large and not parts:
                return super().send(data, flags)
            parts += 1
            if parts == 3:
                raise OSError(errno.ENOBUFS, "no buffer space available")
            return super().send(data[: large // 2] if parts == 1 else data, flags)

    async with serve(context=tls(ca, "h2")) as server, client_of(http1=True, verify=client_context) as client:
        with substitute_sockets(Full):
            await client.get(f"{server.url}/first")
        texts: list[str] = []

        async def upload() -> None:
            with contextlib.suppress(httpx.NetworkError):
                await client.post(f"{server.url}/large", content=b"x" * large)

        async def post() -> None:
            texts.append((await client.post(f"{server.url}/small", content=b"x")).text)

        async with anyio.create_task_group() as group:
            group.start_soon(upload)
            group.start_soon(post)
        assert texts == ["/small"]
        assert server.answered.count("/small") == 1


async def test_cancelled_anywhere_a_request_leaves_nothing_behind_and_the_connection_serves_the_next() -> None:
    async def slow(connection: Connection, request: Received) -> None:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        await connection.send(connection.head(request.stream))
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
            await connection.send(connection.data(request.stream, b"x", end=False))
        await connection.send(connection.data(request.stream, b"end"))

    async with serve(slow) as server, client_of() as client:
        for steps in range(0, 60, 2):
            async with anyio.create_task_group() as group:
                group.start_soon(partial(client.post, f"{server.url}/{steps}", content=b"x" * 1000))
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            assert (await client.get(f"{server.url}/next")).text == "xxxend"
            for ours in connections_of(client):
                assert (ours.active, ours.machine.unread, ours.close_reason) == (0, 0, None)
        transport: Any = client._transport
        (pool,) = transport._client.pools
        assert pool.size == len(pool.connections) <= 2


async def test_an_answer_that_came_before_the_reset_is_delivered_after_the_write_failed_and_the_reset_is_told() -> None:
    """The loop is held up until both are here, so that the next write meets the reset first."""
    go, done = threading.Event(), threading.Event()

    def refuse(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        head = HeadersFrame(1, hpack.Encoder().encode([(":status", "413")]), flags=["END_HEADERS"])
        with sock:
            sock.sendall(SettingsFrame(0).serialize())
            go.wait(10)
            sock.sendall(head.serialize() + DataFrame(1, b"too large", flags=["END_STREAM"]).serialize())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        done.set()

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        go.set()
        assert done.wait(10)
        for _ in range(3):
            yield b"x" * 1000

    watch = Watch()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=refuse, args=(listener,), daemon=True)
        server.start()
        async with client_of(watch) as client:
            response = await client.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", content=body())
            assert (response.status_code, response.text) == (413, "too large")
        server.join(10)
    (told,) = [event for event in watch.events if isinstance(event, FailureRecorded)]
    assert (told.failure.kind, told.failure.sent) == (Kind.CONNECTION_RESET, Sent.PART)
    assert told.verdict is not None
    assert told.verdict.action is RetryAction.DELIVER
