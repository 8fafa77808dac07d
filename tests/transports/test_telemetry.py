"""What an on-call person sees of a real transport: spans, counts, log lines and notes of requests that went wrong."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
import tenacity
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

import holdwire
from holdwire.events import ConnectionClosed, FailureRecorded
from holdwire.telemetry import instrument, instrument_client, uninstrument
from holdwire.telemetry.totals import Totals
from holdwire.testing import Answer, ChaosServer
from tests.garbage import collect_everything
from tests.ports import free_port
from tests.telemetry_samples import Memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

    from holdwire.events import Event

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer(tls=False) as server:
        yield server


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    collect_everything()  # pools of earlier tests too
    monkeypatch.setattr("holdwire.telemetry.totals._TOTALS", Totals())
    memory = Memory()
    instrument(tracer_provider=memory.tracers, meter_provider=memory.meters)
    yield memory
    uninstrument()
    memory.close()


class Told:
    """An observer to wait with."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._more = anyio.Event()

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        self._more.set()

    async def until(self, kind: type, count: int) -> None:
        """Wait until ``count`` events of ``kind`` were told."""
        with anyio.fail_after(5):
            while sum(isinstance(event, kind) for event in self.events) < count:
                self._more = anyio.Event()
                await self._more.wait()


def client(server: ChaosServer, memory: Memory | None = None, **settings: Any) -> httpx.AsyncClient:
    """A client of ``server``; with a CLIENT span for each request if there is a memory to keep them."""
    made = httpx.AsyncClient(transport=holdwire.ResilientTransport(**settings), base_url=server.url)
    if memory is not None:
        instrument_client(made, tracer_provider=memory.tracers)
    return made


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def client_spans(memory: Memory) -> list[ReadableSpan]:
    scope = "opentelemetry.instrumentation.httpx"
    spans = memory.exporter.get_finished_spans()
    return [span for span in spans if span.instrumentation_scope and span.instrumentation_scope.name == scope]


def failures(memory: Memory) -> list[ReadableSpan]:
    return [span for span in memory.spans if "_failure " in span.name]


# --- the shape of a trace ---


async def test_a_recovered_request_is_one_client_span_with_its_failure_inside_and_no_error(
    server: ChaosServer, memory: Memory
) -> None:
    async with client(server, memory) as http:
        await http.get("/warm-up")
        server.script("response:0 rst", path="/again")
        assert (await http.get("/again")).status_code == 200
    _, request = client_spans(memory)
    (failure,) = failures(memory)
    assert request.status.status_code is StatusCode.UNSET
    assert failure.status.status_code is StatusCode.ERROR
    assert failure.parent is not None
    assert request.context is not None
    assert failure.parent.span_id == request.context.span_id
    told = attributes(failure)
    assert (told["holdwire.errno.name"], told["holdwire.phase"], told["error.type"]) == (
        "ECONNRESET",
        "response_wait",
        "connection_reset",
    )
    assert told["holdwire.retry.decision"] == "retried"
    setups = [span for span in memory.spans if span.name.startswith("HTTP connection_setup")]
    assert [span.status.status_code for span in setups] == [StatusCode.UNSET] * 2
    assert setups[0].context is not None
    assert [link.context.span_id for link in request.links] == [setups[0].context.span_id]  # another request's child
    assert memory.number("holdwire.requests", holdwire__outcome="recovered") == 1


async def test_the_failure_of_a_pooled_connection_starts_inside_its_request(
    server: ChaosServer, memory: Memory
) -> None:
    async with client(server, memory) as http:
        await http.get("/warm-up")
        await anyio.sleep(0.1)
        server.script("response:0 rst", path="/again")
        await http.get("/again")
    _, request = client_spans(memory)
    (failure,) = failures(memory)
    assert request.start_time is not None
    assert failure.start_time is not None
    assert request.end_time is not None
    assert failure.end_time is not None
    assert request.start_time <= failure.start_time <= failure.end_time <= request.end_time


async def test_a_failure_in_a_body_that_flows_starts_where_the_last_bytes_came(
    server: ChaosServer, memory: Memory
) -> None:
    async with client(server, memory) as http:
        server.script("response:300 stall=0.2; response:600 rst", path="/long")
        with pytest.raises(httpx.TransportError):
            await http.post("/long", content=b"x" * 5000)
    (failure,) = failures(memory)
    (request,) = client_spans(memory)
    assert failure.start_time is not None
    assert request.start_time is not None
    assert failure.start_time - request.start_time > 150_000_000


async def test_a_request_that_is_lost_is_an_error_with_a_message_that_helps(
    server: ChaosServer, memory: Memory
) -> None:
    server.script("response:0 rst", path="/order")
    async with client(server, memory) as http:
        with pytest.raises(httpx.ReadError):
            await http.post("/order", content=b"1")
    (request,) = client_spans(memory)
    assert request.status.status_code is StatusCode.ERROR
    assert "ECONNRESET" in (request.status.description or "")
    assert len(failures(memory)) == 1
    assert memory.number("holdwire.requests", holdwire__outcome="failed") == 1


async def test_under_global_instrumentation_the_trace_is_the_same(server: ChaosServer, memory: Memory) -> None:
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

    HTTPXClientInstrumentor().instrument(tracer_provider=memory.tracers)
    try:
        async with client(server) as http:
            await http.get("/warm-up")
            server.script("response:0 rst", path="/again")
            assert (await http.get("/again")).status_code == 200
    finally:
        HTTPXClientInstrumentor().uninstrument()
    _, request = client_spans(memory)
    (failure,) = failures(memory)
    assert failure.parent is not None
    assert request.context is not None
    assert failure.parent.span_id == request.context.span_id
    assert request.status.status_code is StatusCode.UNSET
    inside = [span.name for span in memory.spans if span.parent and span.parent.span_id == request.context.span_id]
    assert len(inside) == 2  # the failed attempt, and the connection that the retry opened
    assert any(name.startswith("HTTP connection_setup") for name in inside)


INSTRUMENTED_FIRST = """
import asyncio, sys
from opentelemetry.instrumentation.httpx import {instrumentor}
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
memory, tracers = InMemorySpanExporter(), TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(memory))
{instrumentor}().instrument(tracer_provider=tracers)

from holdwire.transports.{family} import AsyncClient

async def main():
    async with AsyncClient() as client:
        await client.get(sys.argv[1])

asyncio.run(main())
print(*(span.name for span in memory.get_finished_spans()))
"""


@pytest.mark.parametrize(
    ("family", "instrumentor"), [("httpx", "HTTPXClientInstrumentor"), ("httpx2", "HTTPX2ClientInstrumentor")]
)
def test_a_program_that_is_instrumented_before_it_imports_anything_has_its_client_spans(
    family: str, instrumentor: str
) -> None:
    program = INSTRUMENTED_FIRST.format(family=family, instrumentor=instrumentor)
    with ChaosServer() as server:
        run = [sys.executable, "-c", program, server.url]
        assert subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout == "GET\n"


@pytest.mark.parametrize("client_first", [False, True])
async def test_instrumented_globally_and_by_itself_is_said_once_by_the_transport(
    server: ChaosServer,
    memory: Memory,
    caplog: pytest.LogCaptureFixture,
    client_first: bool,  # noqa: FBT001
) -> None:
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

    http = client(server)
    if client_first:
        HTTPXClientInstrumentor.instrument_client(http, tracer_provider=memory.tracers)
    HTTPXClientInstrumentor().instrument(tracer_provider=memory.tracers)
    try:
        async with http:
            if not client_first:
                HTTPXClientInstrumentor.instrument_client(http, tracer_provider=memory.tracers)
            await http.get("/x")
            await http.get("/y")
    finally:
        HTTPXClientInstrumentor().uninstrument()
    assert len(client_spans(memory)) == 4
    assert caplog.text.count("each request makes two CLIENT spans") == 1


# --- in the background ---


async def test_idle_connections_that_die_together_are_one_root_span_with_their_number_and_links(
    server: ChaosServer, memory: Memory
) -> None:
    told = Told()
    async with client(server, memory, observers=[told]) as http:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(http.get, "/warm-up")
        opened = server.accepted
        assert opened > 1
        server.reset_idle()
        await told.until(ConnectionClosed, opened)
    (failure,) = failures(memory)
    assert failure.parent is None
    assert attributes(failure)["holdwire.idle_deaths"] == opened
    assert attributes(failure)["holdwire.phase"] == "idle"
    linked = {link.context.span_id for link in failure.links}
    setups = [span for span in memory.spans if span.name.startswith("HTTP connection_setup")]
    known = {span.context.span_id for span in [*client_spans(memory), *setups] if span.context is not None}
    assert len(linked) == 2
    assert linked <= known
    assert memory.number("holdwire.connection.failures") == opened


async def test_an_idle_death_is_told_within_its_second_although_the_client_lives_on(
    server: ChaosServer, memory: Memory
) -> None:
    told = Told()
    async with client(server, observers=[told]) as http:
        await http.get("/warm-up")
        server.reset_idle()
        await told.until(FailureRecorded, 1)
        assert len(failures(memory)) == 1


# --- what a sampler leaves out ---


async def test_an_unsampled_request_still_counts_its_failures_and_leaves_them_in_recent_failures(
    server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdwire.telemetry.totals._TOTALS", Totals())
    memory = Memory(sampler=ALWAYS_OFF)
    instrument(tracer_provider=memory.tracers, meter_provider=memory.meters)
    try:
        async with client(server, memory) as http:
            server.script("response:0 rst", path="/order")
            with pytest.raises(httpx.ReadError):
                await http.post("/order", content=b"1")
        assert not memory.exporter.get_finished_spans()
        assert memory.number("holdwire.connection.failures", error__type="connection_reset") == 1
        last = holdwire.recent_failures()[-1]
        assert last.failure.errno_name == "ECONNRESET"
        assert last.verdict is not None
    finally:
        uninstrument()
        memory.close()


# --- counters over the lives of pools ---


def test_what_a_client_counted_in_a_loop_that_is_over_stays_counted(server: ChaosServer, memory: Memory) -> None:
    http = client(server)

    async def one() -> None:
        await http.get("/x")

    asyncio.run(one())
    asyncio.run(one())
    assert memory.number("holdwire.requests", holdwire__outcome="ok") == 2
    assert memory.number("holdwire.connection.opened") == 2


async def test_what_a_closed_and_forgotten_client_counted_stays_counted(server: ChaosServer, memory: Memory) -> None:
    async with client(server) as http:
        await http.get("/x")
    del http
    gc.collect()
    assert memory.number("holdwire.requests", holdwire__outcome="ok") == 1
    assert memory.number("holdwire.connection.closed", holdwire__close__reason="aclose") == 1


async def test_a_response_that_is_thrown_away_to_try_again_is_not_counted_as_a_request(
    server: ChaosServer, memory: Memory
) -> None:
    server.answer("/x", Answer(status=503), Answer(status=503), Answer())
    retry = holdwire.RetryPolicy(statuses=frozenset({503}), wait=tenacity.wait_none())
    async with client(server, retry=retry) as http:
        assert (await http.get("/x")).status_code == 200
    assert memory.number("holdwire.requests", holdwire__outcome="recovered") == 1
    assert memory.number("holdwire.requests", holdwire__outcome="ok") == 0


async def test_a_connection_that_the_response_ends_has_not_been_idle(server: ChaosServer) -> None:
    told = Told()
    server.answer("/x", Answer(headers=(("Connection", "close"),)))
    server.script("response:0 stall=0.3", path="/x")
    async with client(server, observers=[told]) as http:
        await http.get("/x")
    (closed,) = [event for event in told.events if isinstance(event, ConnectionClosed)]
    assert closed.reason == "response"
    assert closed.idle < 0.3


# --- causes ---


async def test_the_exception_and_the_span_say_the_same_cause_in_the_light_of_what_happened_before(
    server: ChaosServer, memory: Memory
) -> None:
    server.script("request:0 fin")
    server.script("request:0 fin")
    server.script("request:0 fin")
    async with client(server, retry=None) as http:
        for _ in range(2):
            with pytest.raises(httpx.RemoteProtocolError):
                await http.post("/x", content=b"1")
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await http.post("/x", content=b"1")
    told = [attributes(span) for span in failures(memory)]
    assert len(told) == 3
    assert "3 times in a row" in told[-1]["holdwire.cause"]
    assert told[-1]["holdwire.cause.confidence"] == "likely"
    assert told[0]["holdwire.cause.confidence"] == "possible"
    known = holdwire.failure_of(caught.value)
    assert known is not None
    assert known.cause == told[-1]["holdwire.cause"]
    assert f"Likely cause: {known.cause} {known.remedy}" in str(caught.value)


async def test_explicit_limits_are_never_touched_by_what_was_learnt() -> None:
    policy = holdwire.PoolPolicy(learn="apply")
    learning = holdwire.ResilientTransport(pool=policy)
    told = holdwire.ResilientTransport(pool=policy, limits=httpx.Limits(keepalive_expiry=30))
    assert learning._client.settings.limits.learn
    assert not told._client.settings.limits.learn


async def test_a_failed_connect_is_told_once_with_its_cause(memory: Memory) -> None:
    async with httpx.AsyncClient(transport=holdwire.ResilientTransport(retry=None)) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(f"http://127.0.0.1:{free_port()}")
    assert len(failures(memory)) == 1
    assert memory.number("holdwire.connection.failures") == 1


# --- what happened before ---


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_failure_tells_what_happened_on_its_connection_before(
    memory: Memory,
    tls: bool,  # noqa: FBT001
) -> None:
    with ChaosServer(tls=tls) as server:
        verify = server.client_context() if tls else True
        async with client(server, retry=None, verify=verify) as http:
            assert (await http.get("/first")).status_code == 200
            server.script("response:0 rst", path="/order")
            with pytest.raises(httpx.ReadError) as caught:
                await http.post("/order", content=b"1")
    flight = attributes(failures(memory)[0])["holdwire.connection.flight"]
    steps = [entry.split(" s ")[1] for entry in flight.split("; ")]
    secured = ["TLS established"] if tls else []
    assert steps == ["connected", *secured, "request 1", "response 200", "idle", "request 2"]
    ages = [float(entry.split(" s ")[0]) for entry in flight.split("; ")]
    assert ages == sorted(ages)
    cause = caught.value.__cause__
    assert cause is not None
    ours = cause.__cause__
    assert ours is not None
    notes = ours.__notes__
    assert len(notes) <= 5
    assert flight in notes[1]
