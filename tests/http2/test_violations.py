"""Servers that break HTTP/2: the request fails with what is wrong, the server is told, nothing is hoarded."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame, RstStreamFrame, SettingsFrame

import holdwire
from holdwire.http.h2_frames import frame
from tests.http2.clients import Watch, client_of, misbehaving
from tests.http2.server import serve

if TYPE_CHECKING:
    from tests.http2.server import Connection, Received

VIOLATIONS: dict[str, tuple[bytes, ErrorCodes]] = {
    "a frame that is too long": (b"\x10\x00\x00\x00\x00\x00\x00\x00\x01", ErrorCodes.FRAME_SIZE_ERROR),
    "DATA on a stream that was never opened": (frame(0, 0, 99, b"x"), ErrorCodes.PROTOCOL_ERROR),
    "a header block that is damaged": (frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff"), ErrorCodes.COMPRESSION_ERROR),
    "CONTINUATION out of the blue": (frame(9, 4, 1, b""), ErrorCodes.PROTOCOL_ERROR),
    "a push": (frame(5, 4, 1, b"\0\0\0\x02"), ErrorCodes.PROTOCOL_ERROR),
    "PING of 7 bytes": (frame(6, 0, 0, b"1234567"), ErrorCodes.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE by 0": (frame(8, 0, 0, b"\0\0\0\0"), ErrorCodes.PROTOCOL_ERROR),
    "a window beyond all bounds": (frame(8, 0, 0, b"\x7f\xff\xff\xff"), ErrorCodes.FLOW_CONTROL_ERROR),
    "SETTINGS of 5 bytes": (frame(4, 0, 0, b"12345"), ErrorCodes.FRAME_SIZE_ERROR),
    "SETTINGS with a frame size of 1": (frame(4, 0, 0, b"\0\x05\0\0\0\x01"), ErrorCodes.PROTOCOL_ERROR),
    "GOAWAY for an even stream": (frame(7, 0, 0, b"\0\0\0\x02\0\0\0\0"), ErrorCodes.PROTOCOL_ERROR),
    "more padding than bytes": (frame(1, 12, 1, b"\x09ab"), ErrorCodes.PROTOCOL_ERROR),
    "endless PINGs": (frame(6, 0, 0, b"12345678") * 1100, ErrorCodes.ENHANCE_YOUR_CALM),
}


@pytest.mark.parametrize("what", VIOLATIONS)
async def test_a_violation_ends_the_connection_and_says_why_on_both_sides(what: str) -> None:
    data, code = VIOLATIONS[what]
    watch = Watch()

    async def violate(connection: Connection, request: Received) -> None:
        del request
        await connection.send(data)

    async with serve(misbehaving(violate)) as server, client_of(watch) as client:
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await client.get(f"{server.url}/x")
        (goodbye,) = await server.connections[0].heard(GoAwayFrame)
        assert goodbye.error_code == code
        assert (await client.get(f"{server.url}/y")).text == "/y"
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.detail
    assert (watch.kinds, server.seen, len(server.connections)) == (["http_protocol_error"], ["/x", "/y"], 2)


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", frame(6, 0, 0, b"12345678")]
)
async def test_a_server_that_does_not_speak_http2_at_all(greeting: bytes) -> None:
    async def greet(connection: Connection) -> None:
        await connection.send(greeting)

    async with serve(greet=greet) as server, client_of() as client:
        with pytest.raises(httpx.RemoteProtocolError, match="no HTTP/2 SETTINGS frame"):
            await client.post(f"{server.url}/x")


def bad_head(*fields: tuple[str, str], end: bool = True) -> Any:
    async def handle(connection: Connection, request: Received) -> None:
        bad = connection.head(request.stream, end=end)
        bad.data = connection.encode(list(fields))
        await connection.send(bad)

    return handle


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (bad_head(("server", "x")), "no legal status"),
        (bad_head((":status", "20")), "no legal status"),
        (bad_head((":status", "200"), ("x", "a\r\nset-cookie: b")), "line break"),
        (bad_head((":status", "103")), "interim"),
        (bad_head((":status", "200"), ("content-length", "5")), "complete message body"),
        (bad_head((":status", "200"), ("content-length", "+5")), "content-length"),
    ],
    ids=["none", "short", "line break", "interim", "too short a body", "no number"],
)
async def test_a_malformed_response_fails_its_own_request_only(handler: Any, says: str) -> None:
    async with serve(misbehaving(handler)) as server, client_of() as client:
        with pytest.raises(httpx.RemoteProtocolError, match=says):
            await client.get(f"{server.url}/x")
        (reset,) = await server.connections[0].heard(RstStreamFrame)
        assert reset.error_code == ErrorCodes.PROTOCOL_ERROR
        assert (await client.get(f"{server.url}/y")).text == "/y"
    assert len(server.connections) == 1


async def test_a_head_of_64_kib_is_read_and_a_larger_one_is_refused() -> None:
    async def large(connection: Connection, request: Received) -> None:
        fields = [(":status", "200"), *((f"x-{number}", "y" * 1000) for number in range(60))]
        block = connection.encode(fields)
        pieces = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
        await connection.send(frame(1, 1, request.stream, pieces[0]))
        for piece in pieces[1:]:
            await connection.send(frame(9, 4 if piece is pieces[-1] else 0, request.stream, piece))

    async def larger(connection: Connection, request: Received) -> None:
        fields = [(":status", "200"), *((f"z-{number}", "y" * 1000) for number in range(70))]
        block = connection.encode(fields)
        pieces = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
        await connection.send(frame(1, 1, request.stream, pieces[0]))
        for piece in pieces[1:]:
            await connection.send(frame(9, 4 if piece is pieces[-1] else 0, request.stream, piece))

    async with serve(misbehaving(large, larger)) as server, client_of() as client:
        response = await client.get(f"{server.url}/x")
        assert len(response.headers) == 60
        with pytest.raises(httpx.RemoteProtocolError, match="a head of more than"):
            await client.get(f"{server.url}/y")


async def test_a_request_whose_head_needs_several_frames() -> None:
    async with serve() as server, client_of() as client:
        headers = {f"x-{number}": "y" * 3000 for number in range(10)}
        server.handler = misbehaving()
        response = await client.get(f"{server.url}/x", headers=headers)
        assert response.text == "/x"
        assert dict(server.connections[0].requests[1].headers)["x-9"] == "y" * 3000


async def test_settings_may_come_at_any_time_and_each_is_acknowledged() -> None:
    async def busy(connection: Connection, request: Received) -> None:
        await connection.settings(streams=7, window=1)
        await connection.send(SettingsFrame(0, settings={1: 0}))  # no dynamic header table any more
        await connection.settings(window=2**20)
        await connection.until(lambda: sum("ACK" in one.flags for one in connection.frames(SettingsFrame)) == 4)
        await connection.answer(request)

    async with serve(busy) as server, client_of() as client:
        for number in range(3):
            response = await client.get(f"{server.url}/{number}", headers={"x-same": "every time"})
            assert response.text == f"/{number}"
            server.handler = misbehaving()
    assert len(server.connections) == 1


async def test_a_server_that_asks_for_answers_and_does_not_read_them_is_left() -> None:
    async def nag(connection: Connection, request: Received) -> None:
        connection.stop_reading()
        await connection.send(connection.head(request.stream))
        while not connection.closed.is_set():  # with progress in between, so that it is no flood
            await connection.send(frame(6, 0, 0, b"12345678") * 900, connection.data(request.stream, b"x", end=False))

    small = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)]
    async with serve(nag) as server, client_of(socket_options=small) as client:
        with anyio.fail_after(20), pytest.raises(httpx.RemoteProtocolError, match="does not read"):
            await client.get(f"{server.url}/x")
        server.connections[0].paused.set()
