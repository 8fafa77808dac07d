"""What becomes of a request when the server ends its stream or its connection: the answer, and how often it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import h2.events
import httpx
import pytest
import tenacity
from h2.errors import ErrorCodes
from hyperframe.frame import PingFrame

import holdwire
from holdwire.events import CloseReason
from holdwire.http.messages import Origin
from holdwire.policy.phase import Sent
from tests.http2.clients import Watch, client_of, connections_of, misbehaving
from tests.http2.server import serve

if TYPE_CHECKING:
    import ssl

    from tests.http2.server import Connection, Received

EVERY_STREAM = 2**31 - 1
RESETS = [code for code in ErrorCodes if code not in {ErrorCodes.REFUSED_STREAM, ErrorCodes.HTTP_1_1_REQUIRED}]


def reset_with(code: int) -> Any:
    async def handle(connection: Connection, request: Received) -> None:
        await connection.reset_stream(request.stream, code)

    return handle


def goaway_with(last: int, code: int = 0, *, close: bool = False) -> Any:
    async def handle(connection: Connection, request: Received) -> None:
        del request
        await connection.goaway(last, code)
        if close:
            await connection.close()

    return handle


def event_of(error: BaseException) -> Any:
    """Where others look for h2's event: the first argument of the core's exception."""
    assert error.__cause__ is not None
    return error.__cause__.args[0]


async def close(connection: Connection, request: Received) -> None:
    del request
    await connection.close()


async def rst(connection: Connection, request: Received) -> None:
    del request
    await connection.rst()


async def test_a_graceful_goaway_lets_requests_in_progress_finish_and_new_ones_go_elsewhere() -> None:
    watch = Watch()
    waiting: list[tuple[Connection, Received]] = []
    both = anyio.Event()

    async def handle(connection: Connection, request: Received) -> None:
        if request.path == "/later":
            await connection.answer(request)
            return
        waiting.append((connection, request))
        if len(waiting) == 2:
            await connection.goaway(EVERY_STREAM)
            await connection.ping()
            both.set()

    async with serve(handle) as server, client_of(watch) as client:
        texts: list[str] = []

        async def get(path: str) -> None:
            texts.append((await client.get(server.url + path)).text)

        async with anyio.create_task_group() as group:
            group.start_soon(get, "/one")
            group.start_soon(get, "/two")
            with anyio.fail_after(5):
                await both.wait()
            await waiting[0][0].heard(PingFrame)
            assert (await client.get(f"{server.url}/later")).text == "/later"
            for connection, request in waiting:
                await connection.goaway(3)
                await connection.answer(request)
        assert sorted(texts) == ["/one", "/two"]
        assert sorted(server.seen) == ["/later", "/one", "/two"]
    assert (len(server.connections), watch.opened, watch.kinds) == (2, 2, [])
    assert "goaway" in watch.ends


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_goaway_below_the_request_sends_it_again_whatever_its_method(method: str) -> None:
    watch = Watch()
    async with serve(misbehaving(goaway_with(0))) as server, client_of(watch) as client:
        response = await client.request(method, f"{server.url}/x")
    assert (response.status_code, server.seen, server.answered) == (200, ["/x", "/x"], ["/x"])
    assert (len(server.connections), watch.kinds) == (2, ["http2_goaway"])


async def test_goaway_with_an_error_on_the_first_stream_is_told_and_not_tried_again() -> None:
    async with serve(misbehaving(goaway_with(0, ErrorCodes.INTERNAL_ERROR))) as server, client_of() as client:
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await client.get(f"{server.url}/x")
    assert server.seen == ["/x"]
    assert isinstance(event_of(caught.value), h2.events.ConnectionTerminated)


@pytest.mark.parametrize(("method", "copies"), [("GET", 2), ("POST", 1)])
async def test_goaway_that_covers_the_request_and_then_the_end_is_a_lost_connection(method: str, copies: int) -> None:
    watch = Watch()
    async with serve(misbehaving(goaway_with(1, close=True))) as server, client_of(watch) as client:
        if method == "GET":
            assert (await client.get(f"{server.url}/x")).status_code == 200
        else:
            with pytest.raises(httpx.RemoteProtocolError, match="Server disconnected") as caught:
                await client.post(f"{server.url}/x")
            failure = holdwire.failure_of(caught.value)
            assert failure is not None
            assert failure.sent is Sent.ALL
    assert (len(server.seen), len(watch.kinds)) == (copies, 1)


async def test_the_end_after_a_goaway_says_what_the_server_objected_to() -> None:
    objects = goaway_with(1, ErrorCodes.ENHANCE_YOUR_CALM, close=True)
    async with serve(misbehaving(objects)) as server, client_of() as client:
        with pytest.raises(httpx.RemoteProtocolError, match=r"unexpected_eof .*: after GOAWAY with ENHANCE_YOUR_CALM"):
            await client.post(f"{server.url}/x")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_stream_refused_once_is_sent_again_on_the_same_connection(method: str) -> None:
    watch = Watch()
    async with (
        serve(misbehaving(reset_with(ErrorCodes.REFUSED_STREAM))) as server,
        client_of(watch) as client,
    ):
        response = await client.request(method, f"{server.url}/x")
    assert (response.status_code, server.seen, server.answered) == (200, ["/x", "/x"], ["/x"])
    assert (len(server.connections), watch.kinds) == (1, ["http2_stream_reset"])


async def test_a_stream_refused_for_ever_is_given_up_and_not_asked_for_on_a_connection_that_refused_twice() -> None:
    watch = Watch()
    refuse = reset_with(ErrorCodes.REFUSED_STREAM)
    async with serve(refuse) as server, client_of(watch) as client:
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await client.post(f"{server.url}/x")
    assert 2 <= len(server.seen) <= 6
    assert len(watch.kinds) == len(server.seen)
    assert len(server.connections) > 1
    event = event_of(caught.value)
    assert isinstance(event, h2.events.StreamReset)
    assert event.error_code is ErrorCodes.REFUSED_STREAM


@pytest.mark.parametrize("code", [*RESETS, 0x1234])
async def test_a_reset_stream_is_sent_again_only_if_that_is_harmless(code: int) -> None:
    watch = Watch()
    policy = holdwire.RetryPolicy(wait=tenacity.wait_none())
    handler = misbehaving(reset_with(code), reset_with(code))
    async with serve(handler) as server, client_of(watch, retry=policy) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(f"{server.url}/x")
        assert server.seen == ["/x"]
        began = anyio.current_time()
        response = await client.get(f"{server.url}/x")
        if code == ErrorCodes.ENHANCE_YOUR_CALM:
            assert anyio.current_time() - began >= 0.99  # uvloop's clock has milliseconds
    assert (response.status_code, len(server.seen), len(server.connections)) == (200, 3, 1)
    assert watch.kinds == ["http2_stream_reset"] * 2


@pytest.mark.parametrize("end", [close, rst])
@pytest.mark.parametrize(("method", "copies"), [("GET", 2), ("POST", 1)])
async def test_the_end_of_the_connection_before_the_answer(end: Any, method: str, copies: int) -> None:
    watch = Watch()
    async with serve(misbehaving(end)) as server, client_of(watch) as client:
        if copies == 2:
            assert (await client.request(method, f"{server.url}/x")).status_code == 200
        else:
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await client.request(method, f"{server.url}/x")
    assert (len(server.seen), len(server.connections), len(watch.kinds)) == (copies, copies, 1)


async def test_the_end_of_the_connection_inside_bodies_fails_each_of_them() -> None:
    watch = Watch()
    started: list[Connection] = []

    async def handle(connection: Connection, request: Received) -> None:
        await connection.send(connection.head(request.stream), connection.data(request.stream, b"some", end=False))
        started.append(connection)

    async with serve(handle) as server, client_of(watch) as client:
        failed: list[str] = []

        async def get(path: str) -> None:
            async with client.stream("GET", server.url + path) as response:
                pieces = response.aiter_raw()
                assert await anext(pieces) == b"some"
                if len(started) == 2:
                    await started[0].close()
                with pytest.raises(httpx.RemoteProtocolError, match="Server disconnected"):
                    await anext(pieces)
                failed.append(path)

        async with anyio.create_task_group() as group:
            group.start_soon(get, "/one")
            group.start_soon(get, "/two")
    assert sorted(failed) == sorted(server.seen) == ["/one", "/two"]
    assert watch.kinds == ["unexpected_eof"] * 2


async def test_a_body_shorter_than_announced_is_an_error_and_the_connection_lives() -> None:
    async def short(connection: Connection, request: Received) -> None:
        await connection.send(
            connection.head(request.stream, ("content-length", "10")), connection.data(request.stream, b"short")
        )

    async with serve(misbehaving(short)) as server, client_of() as client:
        with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
            await client.get(f"{server.url}/x")
        assert (await client.get(f"{server.url}/y")).text == "/y"
    assert (server.seen, len(server.connections)) == (["/x", "/y"], 1)


@pytest.mark.parametrize("by", ["stream", "connection"])
async def test_http_1_1_required_moves_the_origin_to_http11(by: str, ca: Any, client_context: ssl.SSLContext) -> None:
    from tests.http2.test_wiring import tls

    handler = (
        reset_with(ErrorCodes.HTTP_1_1_REQUIRED) if by == "stream" else goaway_with(0, ErrorCodes.HTTP_1_1_REQUIRED)
    )
    async with (
        serve(handler, context=tls(ca, "h2", "http/1.1")) as server,
        client_of(http1=True, verify=client_context) as client,
    ):
        first = await client.get(f"{server.url}/x")
        second = await client.post(f"{server.url}/y")
    assert [first.text, second.text] == ["by HTTP/1.1"] * 2
    assert [first.http_version, second.http_version] == ["HTTP/1.1"] * 2
    assert server.seen == ["/x"]


async def test_what_was_agreed_upon_is_spoken_where_the_origin_has_asked_for_http11_in_the_middle_of_the_handshake(
    ca: Any, client_context: ssl.SSLContext
) -> None:
    from tests.http2.test_wiring import tls

    async with (
        serve(context=tls(ca, "h2", "http/1.1")) as server,
        client_of(http1=True, verify=client_context) as client,
    ):
        transport: Any = client._transport

        async def learn(step: str, _: object) -> None:
            if step == "connection.start_tls.complete":
                transport._client.settings.http2.memory.require_http11(Origin("https", "localhost", server.port))

        with anyio.fail_after(10):
            answers = [await client.get(f"{server.url}/{n}", extensions={"trace": learn}) for n in range(2)]
    assert {answer.http_version for answer in answers} == {"HTTP/2"}


async def test_a_connection_that_refused_two_requests_gets_no_third() -> None:
    refuse = reset_with(ErrorCodes.REFUSED_STREAM)
    async with serve(misbehaving(refuse, refuse)) as server, client_of() as client:
        async with anyio.create_task_group() as group:
            for path in ("/one", "/two"):
                group.start_soon(client.post, server.url + path)
        assert (await client.get(f"{server.url}/three")).text == "/three"
    first, second = server.connections
    assert sorted(request.path for request in first.requests.values()) == ["/one", "/two"]
    assert sorted(request.path for request in second.requests.values()) == ["/one", "/three", "/two"]


async def test_a_connection_whose_stream_the_user_closed_gets_no_further_request() -> None:
    async with serve() as server, client_of() as client:
        response = await client.get(f"{server.url}/x")
        await response.extensions["network_stream"].aclose()
        await server.connections[0].closed.wait()
        with anyio.fail_after(10):
            assert (await client.get(f"{server.url}/y")).text == "/y"
        assert len(connections_of(client)) == 1
    assert len(server.connections) == 2


async def test_a_connection_that_is_told_to_leave_while_it_is_kept_for_a_request_ends_when_none_comes() -> None:
    async with serve() as server, client_of() as client:
        await client.get(f"{server.url}/x")
        (ours,) = connections_of(client)
        ours.reserve()
        await server.connections[0].goaway(1)
        with anyio.fail_after(10):
            while ours.capacity:  # noqa: ASYNC110 - nothing tells of it
                await anyio.sleep(0.001)
        transport: Any = client._transport
        (pool,) = transport._client.pools
        pool.give_back(ours)
        assert ours.close_reason is CloseReason.GOAWAY
        assert pool.size == 0
