"""The windows of an HTTP/2 client: given back for what arrives, kept from a response that nobody reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hpack
import pytest
from hyperframe.frame import Frame, WindowUpdateFrame

from holdwire.http.connection import Attempt
from holdwire.http.h2_frames import MAX_NOISE, FrameError, frame
from holdwire.http.h2_machine import UNREAD_LIMIT, WINDOW, Machine
from holdwire.http.h2_stream import Http2Stream
from holdwire.http.messages import Origin, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = b"x" * 16_384
HEAD = hpack.Encoder().encode([(":status", "200")])


class Keeper:
    """A sink that leaves everything unread."""

    def on_head(self, stream: Http2Stream, fields: list[tuple[bytes, bytes]], *, ended: bool) -> None:
        del fields, ended
        stream.status = 200

    def on_data(self, stream: Http2Stream, data: bytes, used: int, *, ended: bool) -> None:
        del ended
        stream.pieces.append((data, used))

    def on_reset(self, stream: Http2Stream, code: int) -> None: ...
    def on_goaway(self, last: int, code: int, text: bytes) -> None: ...
    def on_settings(self, changed: dict[int, int]) -> None: ...
    def on_ping_answer(self, payload: bytes) -> None: ...
    def on_room(self) -> None: ...


def opened(count: int) -> tuple[Machine, list[Http2Stream]]:
    """A machine with so many streams, whose responses have begun."""
    machine = Machine(Keeper())
    streams: list[Http2Stream] = []
    machine.receive(frame(4, 0, 0), 0.0)
    for index in range(1, count + 1):
        request = Request(b"GET", Origin("http", "a.test", 80), b"/", [])
        streams.append(Http2Stream(Attempt(request), index=index, opened=0.0))
        machine.open(streams[-1], [(b":method", b"GET")], ended=True)
        machine.receive(frame(1, 4, streams[-1].id, HEAD), 0.0)
    machine.take()
    return machine, streams


def updates(machine: Machine) -> Iterator[tuple[int, int]]:
    """Stream and increment of each WINDOW_UPDATE that is ready to be sent."""
    data = memoryview(machine.take())
    while data:
        found, length = Frame.parse_frame_header(data[:9])
        found.parse_body(data[9 : 9 + length])
        data = data[9 + length :]
        if isinstance(found, WindowUpdateFrame):
            yield found.stream_id, found.window_increment


def pour(machine: Machine, stream: int, size: int) -> None:
    for _ in range(size // len(CHUNK)):
        machine.receive(frame(0, 0, stream, CHUNK), 0.0)


def test_what_arrives_for_a_stream_that_is_over_takes_nothing_from_its_siblings() -> None:
    machine, (first, second) = opened(2)
    machine.drop(first)
    pour(machine, first.id, WINDOW)
    given_back = sum(size for stream, size in updates(machine) if stream == 0)
    assert given_back >= WINDOW // 2
    pour(machine, second.id, WINDOW)
    assert machine.unread == WINDOW


def test_a_stream_gets_its_window_back_as_it_is_read_and_not_before() -> None:
    machine, (stream,) = opened(1)
    pour(machine, stream.id, WINDOW)
    assert [number for number, _ in updates(machine) if number] == []
    machine.consumed(stream, WINDOW // 2)
    assert (stream.id, WINDOW // 2) in list(updates(machine))
    pour(machine, stream.id, WINDOW // 2)


def test_the_connection_stops_when_very_much_lies_unread() -> None:
    count = UNREAD_LIMIT // WINDOW + 1
    machine, streams = opened(count)
    for stream in streams[:-1]:
        pour(machine, stream.id, WINDOW)
    list(updates(machine))
    pour(machine, streams[-1].id, WINDOW)
    assert list(updates(machine)) == []
    for _, used in streams[0].pieces:
        machine.consumed(streams[0], used)
    assert sum(size for number, size in updates(machine) if number == 0) >= WINDOW // 2


def test_a_server_may_give_back_both_windows_for_each_little_piece_it_reads_of_an_upload() -> None:
    machine, (stream,) = opened(1)
    machine.receive(frame(8, 0, 0, (2**20).to_bytes(4, "big")) + frame(8, 0, stream.id, (2**20).to_bytes(4, "big")), 0)
    for _ in range(50):
        machine.send_data(stream, b"x" * 16_384, ended=False)
    piece = (512).to_bytes(4, "big")
    machine.receive((frame(8, 0, 0, piece) + frame(8, 0, stream.id, piece)) * (50 * 16_384 // 512), 0.5)
    with pytest.raises(FrameError, match="without progress"):
        machine.receive(frame(8, 0, 0, piece) * (MAX_NOISE + 200), 0.6)


def test_a_server_may_give_back_every_window_of_an_upload_at_once_and_no_more() -> None:
    machine, (stream,) = opened(1)
    for _ in range(MAX_NOISE):
        machine.send_data(stream, b"x", ended=False)
    machine.receive((frame(8, 0, 0, b"\0\0\0\1") + frame(8, 0, stream.id, b"\0\0\0\1")) * MAX_NOISE, 0.5)
    with pytest.raises(FrameError, match="without progress"):
        machine.receive(frame(8, 0, 0, b"\0\0\0\1") * (MAX_NOISE + 1), 0.6)


def test_what_is_said_of_a_damaged_header_block_holds_nothing_of_it_and_no_address() -> None:
    machine, _ = opened(1)
    with pytest.raises(FrameError, match=r"^a header block is damaged: [A-Za-z]+$"):
        machine.receive(frame(1, 4, 1, b"\xff" * 6), 0.0)
