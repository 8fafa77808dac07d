"""The examples of docs/long-lived.md, run as they stand there."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.streams.buffered import BufferedByteStream

import holdwire
from tests.net_helpers import clean_runtime
from tests.sessions.peers import serve

if TYPE_CHECKING:
    from anyio.abc import ByteStream

__all__ = ["clean_runtime"]

pytestmark = pytest.mark.usefixtures("clean_runtime", "no_leaks")

PAGE = (Path(__file__).parents[2] / "docs" / "long-lived.md").read_text()


def page(**ports: int) -> dict[str, Any]:
    """All that the page defines; ``lines=7`` puts a local port in place of lines.example's."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    for name, port in ports.items():
        code = re.sub(rf"{name}\.example:\d+", f"127.0.0.1:{port}", code)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/long-lived.md", "exec"), names)
    return names


class Enough(Exception):
    """Ends an example that would go on."""


async def lines(stream: ByteStream) -> None:
    reader = BufferedByteStream(stream)
    while True:
        line = await reader.receive_until(b"\n", 100)
        await stream.send(b"PONG\n" if line == b"PING" else b"PONG\n42\n" if line == b"6x7" else line + b"\n")


async def test_one_connection() -> None:
    async with serve(lines) as port:
        assert await page(lines=port)["ask"](b"6x7") == b"42"


async def test_heartbeats() -> None:
    heartbeat = page()["heartbeat"]
    assert isinstance(heartbeat, holdwire.Heartbeat)
    assert heartbeat.is_reply is not None
    assert heartbeat.is_reply(b"\x00\x01!x") is True
    assert heartbeat.is_reply(b"news") is None


async def test_sessions(capsys: pytest.CaptureFixture[str]) -> None:
    connections = 0

    async def news(stream: ByteStream) -> None:
        nonlocal connections
        connections += 1
        reader = BufferedByteStream(stream)
        assert await reader.receive_until(b"\n", 100) == b"LOGIN me"
        await stream.send(b"WELCOME\n")
        assert await reader.receive_until(b"\n", 100) == b"SUBSCRIBE news"
        await stream.send(b"item %d\n" % connections)

    handled: list[bytes] = []

    async def handle(line: bytes) -> None:
        handled.append(line)
        if len(handled) == 3:
            raise Enough

    async with serve(news) as port:
        with pytest.raises(Enough):
            await page(news=port)["listen"](handle)
    assert handled == [b"item 1", b"item 2", b"item 3"]
    assert "the last session ended because of: recv" in capsys.readouterr().out


async def test_a_login_that_is_refused_twice() -> None:
    async def deny(stream: ByteStream) -> None:
        await stream.receive()
        await stream.send(b"DENIED\n")
        await stream.receive()

    async with serve(deny) as port:
        with pytest.raises(holdwire.LoginRefused, match="does not know me"):
            await page(news=port)["listen"](None)


async def test_sending_from_other_tasks() -> None:
    received = anyio.Event()

    async def take(stream: ByteStream) -> None:
        assert await stream.receive() == b"21.5\n"
        received.set()
        with contextlib.suppress(anyio.EndOfStream):
            await stream.receive()

    async with serve(take) as port:
        names = page(news=port)
        sessions = names["sessions"]

        async def loop() -> None:
            async for session in sessions:
                async with session:
                    await session.receive()

        async with anyio.create_task_group() as group:
            group.start_soon(loop)
            assert await names["report"](sessions, b"21.5") == "sent"
            with anyio.fail_after(5):
                await received.wait()
            sessions.close()
        assert await names["report"](sessions, b"22") == "not sent"


async def test_server_sent_events() -> None:
    async def stream_events(stream: ByteStream) -> None:
        await stream.receive()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        await stream.send(head + b"retry: 10\nid: 1\ndata: one\n\nid: 2\ndata: two\n\n")

    handled: list[tuple[str, str]] = []

    async def handle(number: str, data: str) -> None:
        handled.append((number, data))
        if len(handled) == 2:
            raise Enough

    async with serve(stream_events) as port:
        with pytest.raises(Enough):
            await page(events=port)["follow"](handle)
    assert handled == [("1", "one"), ("2", "two")]


async def test_libraries_that_own_their_connections(anyio_backend_name: str) -> None:
    async with serve(lines) as port:
        with_asyncio = page(lines=port)["with_asyncio"]
        if anyio_backend_name == "trio":  # there is no asyncio loop: the page says so in the module's words
            with pytest.raises(RuntimeError, match="no running event loop"):
                await with_asyncio()
        else:
            assert await with_asyncio() == b"hello\n"
