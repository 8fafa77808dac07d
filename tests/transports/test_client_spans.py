"""``emit_client_spans``: a program without OpenTelemetry's instrumentation sees each attempt as a CLIENT span."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from holdwire import RetryPolicy
from holdwire.telemetry import OpenTelemetryObserver, instrument, instrument_client, uninstrument
from holdwire.telemetry.totals import Totals
from holdwire.testing import Answer, ChaosServer, Request
from tests.garbage import collect_everything
from tests.telemetry_samples import Memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

    from tests.transports.conftest import Family

pytestmark = pytest.mark.anyio


@pytest.fixture
def seen() -> list[Request]:
    """The requests that the server executed."""
    return []


@pytest.fixture
def server(seen: list[Request]) -> Iterator[ChaosServer]:
    def keep(request: Request) -> Answer:
        seen.append(request)
        return Answer(body=b"a" * 3000)

    with ChaosServer(tls=False) as server:
        server.handle("*", keep)
        yield server


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    collect_everything()  # pools of earlier tests too
    monkeypatch.setattr("holdwire.telemetry.totals._TOTALS", Totals())
    memory = Memory()
    instrument(tracer_provider=memory.tracers, meter_provider=memory.meters, emit_client_spans=True)
    yield memory
    uninstrument()
    memory.close()


def attempts(memory: Memory) -> list[ReadableSpan]:
    return [span for span in memory.spans if span.kind is SpanKind.CLIENT]


def inside(memory: Memory, parent: ReadableSpan) -> list[str]:
    """The names of the spans whose parent is ``parent``."""
    assert parent.context is not None
    return [span.name for span in memory.spans if span.parent and span.parent.span_id == parent.context.span_id]


def traceparents(seen: list[Request]) -> list[str]:
    """What the server was told, without the flags."""
    return [value.rpartition("-")[0] for one in seen for name, value in one.headers if name == "traceparent"]


def identity(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}"


async def test_a_request_is_one_client_span_below_the_callers_and_the_server_is_told_its_ids(
    family: Family, server: ChaosServer, seen: list[Request], memory: Memory
) -> None:
    async with family.client() as http:
        with trace.use_span(memory.tracers.get_tracer("test").start_span("work")) as work:
            await http.get(f"{server.url}/a", headers={"traceparent": "00-1-1-01"})
    (span,) = attempts(memory)
    assert span.name == "GET"
    assert span.parent is not None
    assert span.parent.span_id == work.get_span_context().span_id
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    assert attributes.pop("holdwire.connection.id")
    assert attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": server.address[1],
    }
    assert traceparents(seen) == [identity(span)]
    assert inside(memory, span) == [f"HTTP connection_setup 127.0.0.1:{server.address[1]}"]


async def test_a_repeated_request_is_two_client_spans_and_the_failure_belongs_to_the_first(
    family: Family, server: ChaosServer, seen: list[Request], memory: Memory
) -> None:
    server.script("response:0 rst", path="/a")
    async with family.client(retry=RetryPolicy()) as http:
        assert (await http.get(f"{server.url}/a")).status_code == 200
    first, second = attempts(memory)
    assert first.status.status_code is StatusCode.ERROR
    assert first.attributes is not None
    assert first.attributes["error.type"] == "connection_reset"
    assert "connection_reset" not in (first.status.description or "")
    assert "holdwire syscall_failure recv" in inside(memory, first)
    assert second.status.status_code is StatusCode.UNSET
    assert second.attributes is not None
    assert second.attributes["http.request.resend_count"] == 1
    assert "http.request.resend_count" not in first.attributes
    assert not [name for name in inside(memory, second) if "failure" in name]
    assert traceparents(seen) == [identity(first), identity(second)]
    assert first.end_time is not None
    assert second.start_time is not None
    assert first.end_time <= second.start_time


async def test_an_error_status_makes_its_span_an_error_without_words(
    family: Family, server: ChaosServer, memory: Memory
) -> None:
    server.answer("/a", Answer(status=503))
    async with family.client(retry=None) as http:
        assert (await http.get(f"{server.url}/a")).status_code == 503
    (span,) = attempts(memory)
    assert span.attributes is not None
    assert span.attributes["error.type"] == "503"
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None


async def test_a_body_that_is_sent_again_is_framed_as_before(
    family: Family, server: ChaosServer, seen: list[Request], memory: Memory
) -> None:
    class Body:
        async def __aiter__(self) -> Any:
            yield b"12"
            yield b"34"

    server.script("response:0 rst", path="/a")
    async with family.client() as http:
        for content in (b"1234", Body()):
            answer = await http.put(f"{server.url}/a", content=content)
            assert answer.status_code == 200
    assert [request.body for request in seen if request.body][-2:] == [b"1234", b"1234"]
    assert len(attempts(memory)) == 3


async def test_a_failure_while_the_body_is_read_is_inside_the_attempt_that_had_ended(
    family: Family, server: ChaosServer, memory: Memory
) -> None:
    server.script("response:2000 rst", path="/a")
    async with family.client() as http:
        with pytest.raises(family.http.ReadError):
            await http.get(f"{server.url}/a")
    (span,) = attempts(memory)
    assert span.status.status_code is StatusCode.UNSET
    assert "holdwire syscall_failure recv" in inside(memory, span)


async def test_a_request_that_its_caller_gives_up_has_a_span_that_ends_without_a_verdict(
    family: Family, server: ChaosServer, memory: Memory
) -> None:
    server.script("response:0 stall=30", path="/a")
    async with family.client() as http:
        with anyio.move_on_after(0.2):
            await http.get(f"{server.url}/a", timeout=None)
    (span,) = attempts(memory)
    assert span.end_time is not None
    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in (span.attributes or {})


async def test_a_request_that_cannot_be_sent_is_an_error_of_its_own_kind(family: Family, memory: Memory) -> None:
    async with family.client() as http:
        with pytest.raises(family.http.ConnectError):
            await http.get("http://127.0.0.1:1/")
    spans = attempts(memory)
    assert spans
    assert all(span.attributes and span.attributes["error.type"] == "connection_refused" for span in spans)


@pytest.mark.parametrize("way", ["client", "globally", "around"])
async def test_where_the_instrumentation_makes_the_span_holdwire_makes_none_and_says_so(
    family: Family, server: ChaosServer, memory: Memory, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    instrumentation: Any = pytest.importorskip("opentelemetry.instrumentation.httpx")
    suffix = "" if family.name == "httpx" else "2"
    globally = getattr(instrumentation, f"HTTPX{suffix}ClientInstrumentor")()
    wrapper = getattr(instrumentation, f"AsyncOpenTelemetryTransport{'Httpx2' if suffix else ''}")
    if way == "globally":
        globally.instrument(tracer_provider=memory.tracers)
    try:
        if way == "around":
            http = family.http.AsyncClient(transport=wrapper(family.transport(), tracer_provider=memory.tracers))
        else:
            http = family.client()
        if way == "client":
            instrument_client(http, tracer_provider=memory.tracers)
        async with http:
            for _ in range(3):
                await http.get(f"{server.url}/a")
    finally:
        if way == "globally":
            globally.uninstrument()
    assert not attempts(memory)
    told = [record for record in caplog.records if "emit_client_spans" in record.message]
    assert len(told) == (0 if way == "around" else 1)
    spans = memory.exporter.get_finished_spans()
    assert sum(span.kind is SpanKind.CLIENT for span in spans) == 3


async def test_without_the_option_no_attempt_has_a_span_and_no_header_is_added(
    family: Family, server: ChaosServer, seen: list[Request], memory: Memory
) -> None:
    instrument(tracer_provider=memory.tracers, meter_provider=memory.meters)
    async with family.client() as http:
        await http.get(f"{server.url}/a")
    assert not attempts(memory)
    assert not traceparents(seen)


async def test_an_observer_of_one_transport_can_ask_for_them_alone(family: Family, server: ChaosServer) -> None:
    memory = Memory()
    asking = OpenTelemetryObserver(memory.tracers, memory.meters, emit_client_spans=True)
    async with family.client(observers=[asking]) as http, family.client() as other:
        await http.get(f"{server.url}/a")
        await other.get(f"{server.url}/a")
    assert len(attempts(memory)) == 1
    memory.close()


async def test_a_trace_that_is_not_sampled_goes_on_unsampled(
    family: Family, server: ChaosServer, seen: list[Request]
) -> None:
    memory = Memory(sampler=ALWAYS_OFF)
    instrument(tracer_provider=memory.tracers, meter_provider=memory.meters, emit_client_spans=True)
    try:
        async with family.client() as http:
            await http.get(f"{server.url}/a")
    finally:
        uninstrument()
    assert not memory.spans
    (sent,) = [value for name, value in seen[0].headers if name == "traceparent"]
    assert not int(sent[-2:], 16) & 1
    memory.close()


async def test_a_sdk_that_raises_harms_no_request(
    family: Family, server: ChaosServer, memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def __init__(self, tracers: Any) -> None:
            self._tracers = tracers

        def start_span(self, *_: object, **__: object) -> Any:
            raise RuntimeError("broken")

    asking = OpenTelemetryObserver(memory.tracers, memory.meters, emit_client_spans=True)
    assert asking.span_maker is not None
    asking.span_maker._tracer = Broken(memory)  # type: ignore[attr-defined]
    uninstrument()
    async with family.client(observers=[asking]) as http:
        for _ in range(2):
            assert (await http.get(f"{server.url}/a")).status_code == 200
    assert len([record for record in caplog.records if "CLIENT span" in record.message]) == 1


async def test_no_part_of_the_url_and_no_header_is_in_the_span(
    family: Family, server: ChaosServer, memory: Memory
) -> None:
    async with family.client() as http:
        await http.request(
            "SECRET", f"http://SECRET:SECRET@127.0.0.1:{server.address[1]}/SECRET?q=SECRET", headers={"a": "SECRET"}
        )
    (span,) = attempts(memory)
    assert span.name == "HTTP"
    assert span.attributes is not None
    assert span.attributes["http.request.method"] == "_OTHER"
    assert "SECRET" not in span.to_json()
