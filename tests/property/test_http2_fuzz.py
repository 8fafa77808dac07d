"""Whatever bytes a server sends, an HTTP/2 client neither hangs nor crashes nor hoards memory."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import anyio
import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdwire.errors import HoldwireError
from holdwire.events import CloseReason, Observers
from holdwire.http.connection import Attempt
from holdwire.http.h2_frames import MAX_NOISE, FrameError, frame
from holdwire.http.h2_machine import HEADER_LIST, WINDOW, Machine
from holdwire.http.h2_settings import Http2Settings
from holdwire.http.h2_stream import Http2Stream
from holdwire.http.head import encode_head
from holdwire.http.http2 import Http2Connection
from holdwire.http.messages import Origin, Request, Timeouts
from holdwire.net.stream import SocketStream

if TYPE_CHECKING:
    from collections.abc import Callable

ORIGIN = Origin("http", "fuzz.test", 80)
GREETING = frame(4, 0, 0)
STREAMS = 3


def request(body: bytes = b"") -> Request:
    headers = [(b"host", b"fuzz.test")]
    if body:
        headers.append((b"content-length", b"%d" % len(body)))
    made = Request(b"POST" if body else b"GET", ORIGIN, b"/", headers, body, timeouts=Timeouts(read=5, write=5))
    encode_head(made)
    return made


class Recorder:
    """A sink that keeps what a connection would keep."""

    def __init__(self) -> None:
        self.told = 0

    def on_head(self, stream: Http2Stream, fields: list[tuple[bytes, bytes]], *, ended: bool) -> None:
        assert sum(len(name) + len(value) for name, value in fields) <= HEADER_LIST
        stream.status = 200
        stream.ended = ended
        self.told += 1

    def on_data(self, stream: Http2Stream, data: bytes, used: int, *, ended: bool) -> None:
        assert len(data) <= used
        stream.pieces.append((data, used))
        stream.ended = ended
        self.told += 1

    def on_reset(self, stream: Http2Stream, code: int) -> None:
        assert 0 <= code < 2**32
        stream.reset = True
        self.told += 1

    def on_goaway(self, last: int, code: int, text: bytes) -> None:
        assert 0 <= last < 2**31
        assert 0 <= code < 2**32
        assert len(text) < 2**14
        self.told += 1

    def on_settings(self, changed: dict[int, int]) -> None:
        self.told += len(changed)

    def on_ping_answer(self, payload: bytes) -> None:
        assert len(payload) == 8

    def on_room(self) -> None:
        self.told += 1


def machine() -> Machine:
    made = Machine(Recorder())
    for index in range(1, STREAMS + 1):
        made.open(Http2Stream(Attempt(request()), index=index, opened=0.0), [(b":method", b"GET")], ended=True)
    made.take()
    return made


def feed(made: Machine, pieces: list[bytes], every: float = 0.0) -> None:
    for number, piece in enumerate(pieces):
        made.receive(piece, number * every)


def block(fields: list[tuple[bytes, bytes]]) -> bytes:
    encoded: bytes = hpack.Encoder().encode(fields)
    return encoded


def settings_frame(pairs: list[tuple[int, int]]) -> bytes:
    return frame(4, 0, 0, b"".join(code.to_bytes(2, "big") + value.to_bytes(4, "big") for code, value in pairs))


heads = st.sampled_from(
    [
        block([(b":status", b"200")]),
        block([(b":status", b"103")]),
        block([(b":status", b"200"), (b"content-length", b"3")]),
        block([(b":status", b"wrong")]),
        block([(b"no", b"status")]),
        b"\xff\xff\xff\xff\xff\xff",
    ]
)
numbers = st.one_of(st.sampled_from([0, 1, 2, 3, 5, 7, 2**31 - 1]), st.integers(0, 2**31 - 1))
frames = st.one_of(
    st.builds(frame, st.integers(0, 12), st.integers(0, 255), numbers, st.one_of(heads, st.binary(max_size=40))),
    st.builds(frame, st.just(1), st.sampled_from([0, 1, 4, 5]), st.sampled_from([1, 3, 5]), heads),
    st.builds(frame, st.just(0), st.sampled_from([0, 1]), st.sampled_from([1, 3, 5]), st.binary(max_size=40)),
    st.builds(frame, st.just(9), st.sampled_from([0, 4]), st.sampled_from([1, 3, 5]), heads),
    st.builds(
        settings_frame,
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**32 - 1)), max_size=4),
    ),
)
streams_of_bytes = st.one_of(
    st.binary(max_size=400), st.lists(frames, max_size=30).map(lambda many: GREETING + b"".join(many))
)


@given(streams_of_bytes, st.integers(1, 64))
@settings(max_examples=500)
def test_a_machine_raises_nothing_but_frame_errors_and_bounds_what_it_keeps(data: bytes, step: int) -> None:
    made = machine()
    try:
        for start in range(0, len(data), step):
            made.receive(data[start : start + step], 0.0)
            assert 0 <= made.unread <= len(data)
            assert made.pending <= 2 * len(data)
    except FrameError as error:
        assert str(error)  # noqa: PT017 - every one says what is wrong


@given(st.lists(frames, max_size=20), st.data())
@settings(max_examples=200)
def test_how_the_bytes_are_cut_changes_nothing(many: list[bytes], data: st.DataObject) -> None:
    whole = GREETING + b"".join(many)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))

    def run(pieces: list[bytes]) -> tuple[str, list[tuple[object, ...]]]:
        made = machine()
        streams = list(made.streams.values())
        error = ""
        try:
            for piece in pieces:
                made.receive(piece, 0.0)
        except FrameError as exc:
            error = str(exc)
        return error, [(one.status, one.ended, one.reset, one.pieces, one.send_window) for one in streams]

    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert run([whole]) == run(pieces)


FLOODS: dict[str, Callable[[int], bytes]] = {
    "PING": lambda number: frame(6, 0, 0, number.to_bytes(8, "big")),
    "SETTINGS": lambda _: frame(4, 0, 0),
    "RST_STREAM": lambda _: frame(3, 0, 1, b"\0\0\0\x08"),
    "PRIORITY": lambda _: frame(2, 0, 1, b"\0\0\0\0\0"),
    "WINDOW_UPDATE": lambda _: frame(8, 0, 1, b"\0\0\0\x01"),
    "interim HEADERS": lambda _: frame(1, 4, 1, block([(b":status", b"103")])),
    "empty DATA": lambda _: frame(0, 0, 1),
    "unknown": lambda _: frame(77, 0, 0, b"x"),
}


class Silent(Recorder):
    """Interim responses are no responses."""

    def on_head(self, stream: Http2Stream, fields: list[tuple[bytes, bytes]], *, ended: bool) -> None:
        pass


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_frames_without_progress_ends_the_connection(kind: str) -> None:
    made = Machine(Silent())
    made.open(Http2Stream(Attempt(request()), index=1, opened=0.0), [], ended=True)
    make = FLOODS[kind]
    made.receive(GREETING, 0.0)
    with pytest.raises(FrameError, match="without progress"):
        feed(made, [make(number) for number in range(MAX_NOISE + 2)], 0.001)


def test_the_same_frames_at_a_leisurely_pace_are_no_flood() -> None:
    made = machine()
    made.receive(GREETING, 0.0)
    for number in range(3 * MAX_NOISE):
        made.receive(FLOODS["PING"](number), float(number))
        made.take()


def test_endless_continuation_is_cut_off_before_it_is_decoded() -> None:
    made = machine()
    made.receive(GREETING + frame(1, 0, 1, b"\0" * 16_384), 0.0)
    with pytest.raises(FrameError, match="a header block of more than"):
        feed(made, [frame(9, 0, 1, b"\0" * 16_384)] * 1000)


def test_a_head_that_grows_by_decompression_is_refused() -> None:
    made = machine()
    encoder = hpack.Encoder()
    bomb = encoder.encode([(b":status", b"200"), (b"x", b"y" * 3000)])
    bomb += encoder.encode([(b"x", b"y" * 3000)]) * 100
    with pytest.raises(FrameError, match=f"a head of more than {HEADER_LIST} bytes"):
        made.receive(GREETING + frame(1, 4, 1, bomb), 0.0)


@pytest.mark.parametrize("who", ["stream", "connection"])
def test_a_server_that_ignores_our_windows_is_cut_off(who: str) -> None:
    made = machine()
    made.receive(GREETING + frame(1, 4, 1, block([(b":status", b"200")])), 0.0)
    number = 1 if who == "stream" else 3
    if who == "connection":
        made.receive(frame(1, 4, 3, block([(b":status", b"200")])), 0.0)
    chunk = b"x" * 16_384
    with pytest.raises(FrameError, match="window"):
        feed(made, [frame(0, 0, 1, chunk), frame(0, 0, number, chunk)] * (2 * WINDOW // len(chunk)))
    assert made.unread <= 2 * WINDOW


@given(streams_of_bytes, st.sampled_from([b"", b"x" * 100_000]), st.sampled_from(["asyncio", "trio"]))
@settings(max_examples=200)
def test_a_request_to_a_server_that_sends_anything_ends_in_an_answer_or_one_of_our_errors(
    data: bytes, body: bytes, backend: str
) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            wire = SocketStream(ours, host="fuzz.test", port=80)
            connection = Http2Connection(wire, ORIGIN, max_age=None, settings=Http2Settings(), notify=Observers())
            theirs.sendall(data)
            connection.reserve()
            theirs.shutdown(socket.SHUT_WR)
            with anyio.fail_after(4):
                try:
                    response = await connection.exchange(Attempt(request(body)))
                    try:
                        async for _ in response.body:
                            pass
                    finally:
                        await response.body.aclose()
                except HoldwireError as error:
                    assert str(error)  # noqa: PT017 - whatever it is, it is one of ours and says something
            connection.end(CloseReason.ACLOSE)
            assert not connection.active
            assert connection.machine.unread == 0

    anyio.run(main, backend=backend)
