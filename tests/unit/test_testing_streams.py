"""Streams in memory that break by script, on every event loop."""

from __future__ import annotations

import errno

import anyio
import pytest
from anyio import BrokenResourceError, BusyResourceError, ClosedResourceError, EndOfStream

from holdwire.testing.streams import FaultyStream, faulty_stream_pair

pytestmark = pytest.mark.anyio


async def read_all(stream: FaultyStream) -> bytes:
    data = b""
    try:
        while True:
            data += await stream.receive()
    except EndOfStream:
        return data


async def test_bytes_go_both_ways_and_end() -> None:
    client, server = faulty_stream_pair()
    await client.send(b"ping")
    assert await server.receive(2) == b"pi"
    assert await server.receive() == b"ng"
    await server.send(b"pong")
    await client.send_eof()
    await client.send_eof()
    assert await read_all(server) == b""
    await server.aclose()
    await server.aclose()
    assert await read_all(client) == b"pong"
    with pytest.raises(BrokenResourceError):
        await client.send(b"x")
    with pytest.raises(ClosedResourceError):
        await server.receive()
    with pytest.raises(ClosedResourceError):
        await server.send(b"x")


async def test_a_full_stream_waits_for_its_reader() -> None:
    client, server = faulty_stream_pair(capacity=3)
    received = bytearray()

    async def read() -> None:
        while len(received) < 10:
            received.extend(await server.receive())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await client.send(b"0123456789")
    assert received == b"0123456789"


async def test_a_reset_leaves_what_had_arrived_readable() -> None:
    client, server = faulty_stream_pair("response:3 rst")
    with pytest.raises(BrokenResourceError) as caught:
        await server.send(b"abcdef")
    assert isinstance(caught.value.__cause__, BrokenPipeError)
    assert await client.receive() == b"abc"
    with pytest.raises(BrokenResourceError) as caught:
        await client.receive()
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert caught.value.__cause__.errno == errno.ECONNRESET
    with pytest.raises(BrokenResourceError):
        await client.send(b"x")
    assert [str(fault) for fault in client.struck] == ["response:3 rst"]


async def test_a_reset_on_command_wakes_a_waiting_reader() -> None:
    client, server = faulty_stream_pair()
    async with anyio.create_task_group() as tasks:

        async def read() -> None:
            with pytest.raises(BrokenResourceError):
                await client.receive()

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        server.reset()


async def test_a_fin_cuts_the_answer_and_breaks_the_way_back() -> None:
    client, server = faulty_stream_pair("response:3 fin")
    with pytest.raises(BrokenResourceError):
        await server.send(b"abcdef")
    assert await read_all(client) == b"abc"
    with pytest.raises(BrokenResourceError):
        await client.send(b"x")


async def test_a_half_close_keeps_the_way_back() -> None:
    client, server = faulty_stream_pair("request:1 half_close")
    await client.send(b"ab")
    assert await read_all(client) == b""
    assert await server.receive() == b"ab"


async def test_damage_and_dripping_end_by_script() -> None:
    client, server = faulty_stream_pair("request:1 corrupt=2; request:4 drip=10000; request:6 heal")
    data = b""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.send, b"abcdefgh")
        while len(data) < 8:
            data += await server.receive()
    assert data == b"a" + bytes(byte ^ 255 for byte in b"bc") + b"defgh"


async def test_a_stall_ends_when_it_is_healed() -> None:
    client, server = faulty_stream_pair("request:2 stall")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.send, b"abcd")
        assert await server.receive() == b"ab"
        await anyio.wait_all_tasks_blocked()
        client.heal()
        assert await server.receive() == b"cd"


async def test_a_black_hole_swallows_until_it_is_healed() -> None:
    client, server = faulty_stream_pair("request:0 black_hole")
    await client.send(b"lost")
    await server.send(b"lost too")
    client.heal()
    await client.send(b"found")
    assert await server.receive() == b"found"


async def test_a_black_hole_can_heal_by_itself() -> None:
    client, server = faulty_stream_pair("request:1 black_hole=0.001")
    await client.send(b"ab")
    assert await server.receive() == b"ab"


async def test_a_fault_at_the_end_replaces_it() -> None:
    client, server = faulty_stream_pair("request:end rst")
    await client.send(b"ab")
    await client.send_eof()
    assert await server.receive() == b"ab"
    with pytest.raises(BrokenResourceError):
        await server.receive()


async def test_a_second_task_is_refused_without_damage() -> None:
    client, server = faulty_stream_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.receive)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(BusyResourceError):
            await client.receive()
        await server.send(b"x")


async def test_bad_arguments_are_refused() -> None:
    client, _ = faulty_stream_pair()
    with pytest.raises(ValueError, match="max_bytes"):
        await client.receive(0)
    with pytest.raises(ValueError, match="has no point idle"):
        faulty_stream_pair("idle:1 rst")
    with pytest.raises(ValueError, match="cannot do 'request fin_without_close_notify'"):
        faulty_stream_pair("request fin_without_close_notify")
    with pytest.raises(ValueError, match="cannot do"):
        faulty_stream_pair("request#2 rst")
    with pytest.raises(ValueError, match="capacity"):
        faulty_stream_pair(capacity=0)
