"""Server-sent events: the format, and streams that come back without losing or repeating an event."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2
import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

import holdwire
from holdwire import ReconnectPolicy
from holdwire.sessions.event_stream import _LINE_END, EventParser, ServerSentEvent
from holdwire.transports.httpx2 import ResilientTransport as ResilientTransport2
from tests.ports import free_port
from tests.sessions.peers import serve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import ByteStream

QUICK = ReconnectPolicy(wait=tenacity.wait_fixed(0.01))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CLIENTS: dict[str, Callable[[], Any]] = {
    "httpx": lambda: httpx.AsyncClient(trust_env=False),
    "httpx-holdwire": lambda: httpx.AsyncClient(transport=holdwire.ResilientTransport()),
    "httpx2-holdwire": lambda: httpx2.AsyncClient(transport=ResilientTransport2()),
}

leaks = pytest.mark.usefixtures("clean_runtime", "no_leaks")


@pytest.fixture(params=list(CLIENTS))
def make_client(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return CLIENTS[request.param]


class Events:
    """A server that gives each connection the next script; keeps the ids that were asked for."""

    def __init__(self, *scripts: Callable[[ByteStream], Awaitable[None]] | bytes) -> None:
        self.scripts = list(scripts)
        self.asked: list[str | None] = []
        self.at: list[float] = []

    async def __call__(self, stream: ByteStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive()
        self.at.append(time.monotonic())
        lines = head.decode().lower().split("\r\n")
        ids = [line.partition(":")[2].strip() for line in lines if line.startswith("last-event-id:")]
        self.asked.append(ids[0] if ids else None)
        script = self.scripts.pop(0) if self.scripts else b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
        if isinstance(script, bytes):
            await stream.send(script)
        else:
            await script(stream)


async def collect(client: Any, url: str, **options: Any) -> list[str]:
    options.setdefault("reconnect", QUICK)
    async with holdwire.sse(client, url, **options) as events:
        return [event.data async for event in events]


@leaks
async def test_a_stream_that_ends_comes_back_after_the_last_event_and_nothing_is_repeated(
    make_client: Callable[[], Any],
) -> None:
    server = Events(
        HEAD + b": hello\nid: 1\ndata: one\n\nid: 2\ndata: two\n\nid: 3\ndata: cut",
        HEAD + b"id: 2\ndata: two\n\nid: 3\ndata: three\n\n",
    )
    async with serve(server) as port, make_client() as client:
        assert await collect(client, f"http://127.0.0.1:{port}/") == ["one", "two", "three"]
    assert server.asked == [None, "2", "3"]


@leaks
async def test_events_that_a_server_gives_the_same_id_on_one_stream_are_different_events(
    make_client: Callable[[], Any],
) -> None:
    delivered = anyio.Event()

    async def one_after_another(stream: ByteStream) -> None:
        await stream.send(HEAD + b"id: 1\ndata: one\n\n")
        await delivered.wait()
        await stream.send(b"id: 1\ndata: two\n\n")

    server = Events(one_after_another, HEAD + b"id: 1\ndata: two\n\nid: 2\ndata: three\n\n")
    got: list[str] = []
    async with (
        serve(server) as port,
        make_client() as client,
        holdwire.sse(client, f"http://127.0.0.1:{port}/", reconnect=QUICK) as events,
    ):
        async for event in events:
            got.append(event.data)
            delivered.set()
    assert got == ["one", "two", "three"]


@leaks
@pytest.mark.parametrize(("given", "asked"), [("\u00e4 1", "\u00e4 1"), ("  x ", "x"), ("\U0001f600", "\U0001f600")])
async def test_an_id_that_is_no_header_as_it_stands_comes_back_to_the_server(
    make_client: Callable[[], Any], given: str, asked: str
) -> None:
    server = Events(HEAD + f"id: {given}\ndata: one\n\n".encode())
    async with serve(server) as port, make_client() as client:
        assert await collect(client, f"http://127.0.0.1:{port}/") == ["one"]
    assert server.asked == [None, asked]


@pytest.mark.parametrize("digits", [16, 400, 5000])
def test_a_retry_that_nobody_could_mean_is_ignored(digits: int) -> None:
    parser = EventParser()
    parser.feed(b"retry: 10\n")
    assert [event.data for event in parser.feed(b"retry: " + b"9" * digits + b"\ndata: a\n\n")] == ["a"]
    assert parser.retry == 0.01


@leaks
async def test_the_servers_retry_is_waited_for_and_204_stops() -> None:
    server = Events(HEAD + b"retry: 400\ndata: a\n\n")
    async with serve(server) as port, httpx.AsyncClient() as client:
        assert await collect(client, f"http://127.0.0.1:{port}/") == ["a"]
    assert 0.35 < server.at[1] - server.at[0] < 10, "milliseconds"


@leaks
async def test_a_silent_stream_is_given_up_and_another_follows(make_client: Callable[[], Any]) -> None:
    async def silent(stream: ByteStream) -> None:
        await stream.send(HEAD + b"id: 7\ndata: a\n\n")
        await anyio.sleep_forever()

    server = Events(silent)
    async with serve(server) as port, make_client() as client:
        with anyio.fail_after(20):
            assert await collect(client, f"http://127.0.0.1:{port}/", idle=1) == ["a"]
    assert server.asked == [None, "7"]
    assert server.at[1] - server.at[0] > 0.95


async def _comments(stream: ByteStream) -> None:
    await stream.send(HEAD)
    while True:
        await stream.send(b": still here\n\n")
        await anyio.sleep(0.05)


@leaks
async def test_comments_are_life_and_no_progress() -> None:
    server = Events(_comments)
    async with serve(server) as port, httpx.AsyncClient() as client:
        with anyio.move_on_after(1.5):
            await collect(client, f"http://127.0.0.1:{port}/", idle=1)
        assert len(server.asked) == 1, "comments keep the stream"
        server.scripts.append(_comments)
        with anyio.fail_after(20):
            await collect(client, f"http://127.0.0.1:{port}/", idle=1, progress=0.4)
        assert len(server.asked) == 3


@leaks
async def test_what_is_no_stream_of_events_is_an_error_and_503_is_tried_again() -> None:
    async with httpx.AsyncClient() as client:
        async with serve(Events(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")) as port:
            with pytest.raises(httpx.HTTPStatusError):
                await collect(client, f"http://127.0.0.1:{port}/")
        html = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        async with serve(Events(html)) as port:
            with pytest.raises(holdwire.RemoteProtocolError, match="text/html"):
                await collect(client, f"http://127.0.0.1:{port}/")
        busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        server = Events(busy, HEAD + b"data: a\n\n")
        async with serve(server) as port:
            assert await collect(client, f"http://127.0.0.1:{port}/") == ["a"]
        with pytest.raises(httpx.UnsupportedProtocol):
            await collect(client, "nothing://127.0.0.1/")


@leaks
async def test_a_server_that_is_away_is_waited_for_until_the_stop_rule_says_so() -> None:
    port = free_port()
    policy = ReconnectPolicy(wait=tenacity.wait_fixed(0.01), stop=tenacity.stop_after_attempt(2))
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError) as raised:
            await collect(client, f"http://127.0.0.1:{port}/", reconnect=policy)
    assert "2 failures in a row" in raised.value.__notes__[-1]


@leaks
async def test_leaving_the_block_closes_the_stream() -> None:
    ended = anyio.Event()

    async def endless(stream: ByteStream) -> None:
        await stream.send(HEAD + b"data: a\n\n")
        try:
            await stream.receive()
        finally:
            ended.set()

    async with serve(Events(endless)) as port, httpx.AsyncClient() as client:
        async with holdwire.sse(client, f"http://127.0.0.1:{port}/") as events:
            assert (await anext(events)).data == "a"
        with anyio.fail_after(5):
            await ended.wait()
        with pytest.raises(StopAsyncIteration):
            await anext(events)


@leaks
async def test_closing_it_from_another_task_ends_the_iteration_at_once(make_client: Callable[[], Any]) -> None:
    received = anyio.Event()

    async def endless(stream: ByteStream) -> None:
        await stream.send(HEAD + b"retry: 60000\ndata: a\n\n")
        await stream.receive()

    async with serve(Events(endless)) as port, make_client() as client:
        events = holdwire.sse(client, f"http://127.0.0.1:{port}/")

        async def iterate() -> None:
            async for _ in events:
                received.set()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(iterate)
                await received.wait()
                await anyio.wait_all_tasks_blocked()
                await events.aclose()


def parse(*chunks: bytes) -> list[ServerSentEvent]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def test_the_examples_of_the_standard() -> None:
    assert [event.data for event in parse(b"data: YHOO\ndata: +2\ndata: 10\n\n")] == ["YHOO\n+2\n10"]
    events = parse(b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n")
    assert [(event.data, event.id) for event in events] == [
        ("first event", "1"),
        ("second event", ""),
        (" third event", ""),
    ]
    assert [event.data for event in parse(b"data\n\ndata\ndata\n\ndata:")] == ["", "\n"]
    assert [event.data for event in parse(b"data:test\n\ndata: test\n\n")] == ["test", "test"]
    assert parse(b'event: add\r\ndata: {"a": 1}\r\n\r\n')[0].json() == {"a": 1}
    assert parse(b"\xef\xbb\xbfdata: bom\n\n")[0].data == "bom"
    assert parse(b"id: a\0b\ndata: x\n\n")[0].id == "", "an id with a null is ignored"


def test_an_event_without_end_is_refused() -> None:
    parser = EventParser(max_size=100)
    for _ in range(8):
        parser.feed(b"data: 0123456789\n")
    with pytest.raises(holdwire.RemoteProtocolError, match="larger than 100"):
        parser.feed(b"data: 0123456789012345678901\ndata: 01234")


def test_an_event_of_empty_lines_without_end_is_refused() -> None:
    parser = EventParser(max_size=100)
    parser.feed(b"data\n" * 100)
    with pytest.raises(holdwire.RemoteProtocolError, match="larger than 100"):
        parser.feed(b"data\n")


def test_a_long_line_in_many_pieces_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_through = 0

    class Counting:
        def split(self, text: str) -> list[str]:
            nonlocal looked_through
            looked_through += len(text)
            return _LINE_END.split(text)

    monkeypatch.setattr("holdwire.sessions.event_stream._LINE_END", Counting())
    (event,) = parse(b"data:", *[b"x" * 100] * 1000, b"\n\n")
    assert len(event.data) == 100_000
    assert looked_through < 100_010


@given(
    st.lists(st.sampled_from(["data: ä", "data:b", "id: 1", "event: e", ": c", "retry: 10", "", "nonsense"])),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.data(),
)
def test_how_the_bytes_are_cut_makes_no_difference(lines: list[str], end: str, data: st.DataObject) -> None:
    text = (end.join(lines) + end * 2).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert parse(*pieces, b": end\n") == parse(text, b": end\n")
