"""Marked secrets everywhere a request can hold one, through every way to fail: none in anything that telemetry says."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import traceback
from typing import TYPE_CHECKING, Any, Self

import anyio
import httpx
import pytest

import holdwire
from holdwire.telemetry import instrument, uninstrument
from holdwire.testing import Answer, ChaosServer
from tests.telemetry_samples import Memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdwire.events import Event

pytestmark = pytest.mark.anyio

PLACES = (
    "path",
    "query",
    "header",
    "user",
    "password",
    "body",
    "cookie",
    "proxyuser",
    "proxypass",
    "answer",
    "fragment",
)


def mark(place: str) -> str:
    return f"s3cret-{place}-7f"


class Everything:
    """All that is said about the requests of a test."""

    def __init__(self, memory: Memory, caplog: pytest.LogCaptureFixture) -> None:
        self.memory = memory
        self.caplog = caplog
        self.events: list[Event] = []
        self.said: list[str] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def exception(self, exc: BaseException) -> None:
        """Messages and notes of the whole chain; what a program that logs it would write."""
        self.said += traceback.format_exception_only(exc)
        seen: BaseException | None = exc
        while seen is not None:
            self.said += [repr(seen), str(seen), *getattr(seen, "__notes__", ()), repr(holdwire.failure_of(seen))]
            seen = seen.__cause__ or seen.__context__

    def texts(self) -> str:
        for span in self.memory.spans:
            self.said += [span.name, str(span.attributes), str(span.status.description)]
            self.said += [f"{event.name} {event.attributes}" for event in span.events]
        self.said.append(repr(self.memory.reader.get_metrics_data()))
        for record in self.caplog.records:
            self.said += [record.getMessage(), repr(record.__dict__)]
        self.said += map(repr, self.events)
        self.said += map(repr, holdwire.recent_failures())
        self.said.append(json.dumps(holdwire.snapshot()))
        return "\n".join(self.said)


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> Iterator[Everything]:
    caplog.set_level(logging.DEBUG, "holdwire")
    memory = Memory()
    instrument(tracer_provider=memory.tracers, meter_provider=memory.meters)
    holdwire.set_testing(attempts=5, pauses=False)
    yield Everything(memory, caplog)
    holdwire.set_testing(False)
    uninstrument()
    memory.close()


class Body:
    """A body that comes in pieces; no generator, which would have to be closed where a request is lost."""

    def __init__(self) -> None:
        self._pieces = [mark("body").encode()]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


async def send(
    everything: Everything, url: str, *, stream: bool = False, patience: float = 10, **settings: Any
) -> None:
    """A request with a secret in each of its places, which fails."""
    transport = holdwire.ResilientTransport(observers=[everything], **settings)
    address = httpx.URL(url).copy_with(username=mark("user"), password=mark("password"))
    url = f"{address}{mark('path')}?token={mark('query')}#{mark('fragment')}"
    async with httpx.AsyncClient(
        transport=transport, timeout=httpx.Timeout(10, connect=patience, read=patience)
    ) as client:
        everything.said.append(repr(transport))
        with contextlib.suppress(httpx.HTTPError):
            await client.get(httpx.URL(url).join("/warm-up"))
        try:
            await client.post(
                url,
                content=Body() if stream else mark("body"),
                headers={"Authorization": f"Bearer {mark('header')}", "Cookie": f"session={mark('cookie')}"},
            )
        except httpx.HTTPError as exc:
            everything.exception(exc)


def check(everything: Everything, *, failed: str | None) -> None:
    texts = everything.texts()
    if failed is not None:
        assert failed in texts
    for place in PLACES:
        assert mark(place) not in texts, place


FAULTS = [
    ("response:0 rst", "connection_reset"),
    ("response:0 fin", "unexpected_eof"),
    ("response:10 rst", "connection_reset"),
    ("request:20 rst", "connection_reset"),
    ("request:100 fin", "unexpected_eof"),
    ("response:0 stall", "local_timeout"),
    ("response:20 stall", "local_timeout"),
    ("idle:0 rst", "connection_reset"),
]
MALFORMED = [
    f"HTTP/1.1 {mark('answer')}\r\n\r\n",
    f"{mark('answer')}\r\n\r\n",
    f"HTTP/1.1 200 OK\r\nContent-Length: {mark('answer')}\r\n\r\n",
    f"HTTP/1.1 200 OK\r\n{mark('answer')}\r\n\r\n",
    f"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\nX: {mark('answer')}\r\n\r\n",
    f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {mark('answer')}\r\n\r\n",
    f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{mark('answer')}",
    f"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{mark('answer')}",
]


@pytest.mark.parametrize("stream", [False, True], ids=["bytes", "stream"])
@pytest.mark.parametrize(("fault", "failed"), FAULTS, ids=[fault for fault, _ in FAULTS])
async def test_no_secret_is_told_of_a_request_that_is_lost(
    everything: Everything,
    fault: str,
    failed: str,
    stream: bool,  # noqa: FBT001
) -> None:
    with ChaosServer(tls=False) as server:
        for _ in range(10):
            server.script(fault)
        await send(everything, server.url + "/", stream=stream, patience=0.2 if "stall" in fault else 10)
    check(everything, failed=failed)


@pytest.mark.parametrize("raw", MALFORMED)
async def test_no_word_of_a_malformed_answer_is_told(everything: Everything, raw: str) -> None:
    with ChaosServer(tls=False) as server:
        server.answer(f"/{mark('path')}", *[Answer(raw=raw.encode())] * 5)
        await send(everything, server.url + "/")
    check(everything, failed=None)
    assert everything.memory.spans


REPLIES = ["HTTP/1.1 407 No\r\n\r\n", f"HTTP/1.1 502 {mark('answer')}\r\n\r\n", mark("answer"), ""]


@pytest.mark.parametrize("reply", REPLIES)
async def test_no_credential_of_a_proxy_is_told(everything: Everything, reply: str) -> None:
    """A proxy that refuses, with its own words, or hangs up."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:

        async def refuse(stream: anyio.abc.SocketStream) -> None:
            # the client may go first
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                async with stream:
                    await stream.receive()
                    if reply:
                        await stream.send(reply.encode())

        group.start_soon(listener.serve, refuse)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        proxy = f"http://{mark('proxyuser')}:{mark('proxypass')}@127.0.0.1:{port}"
        await send(everything, "https://origin.test/", proxy=proxy)
        group.cancel_scope.cancel()
    check(everything, failed="origin.test")


async def test_no_secret_is_told_of_a_host_that_cannot_be_reached(everything: Everything) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        await send(everything, f"http://127.0.0.1:{sock.getsockname()[1]}/", retry=None)
    check(everything, failed="connection_refused")


async def test_no_secret_is_told_of_a_port_that_speaks_no_tls(everything: Everything) -> None:
    with ChaosServer(tls=False) as server:
        await send(everything, server.url.replace("http://", "https://") + "/", patience=0.8, retry=None)
    check(everything, failed="tls_handshake")
