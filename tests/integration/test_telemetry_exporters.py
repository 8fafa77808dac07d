"""Exporters, processors and tasks as they are in real programs: raising, blocking, many at once."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from holdwire.events import Observers
from holdwire.policy.phase import Phase
from holdwire.telemetry import LogObserver, OpenTelemetryObserver, RecentFailures
from holdwire.telemetry.limiter import BURST
from tests.telemetry_samples import NOW, SECOND, SURFACED, Memory, failure, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    memory.close()


class Raising(SpanExporter):
    """Its collector is broken."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise ConnectionRefusedError(len(spans))


class Blocking(SpanExporter):
    """Its collector is down: the first export takes its time, the next ones take until ``gate`` is set."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.names: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.gate.wait(0.2 if not self.names else 10)
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


class RaisingProcessor(SpanProcessor):
    """A processor of the program's own, with a bug."""

    def on_end(self, span: ReadableSpan) -> None:
        raise KeyError(span.name)


async def test_an_exporter_that_raises_disturbs_nobody_and_the_counts_stay_exact(memory: Memory) -> None:
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(Raising()))
    tell = Observers([OpenTelemetryObserver(tracers, memory.meters)])
    for _ in range(5):
        tell(recorded())
    assert memory.number("holdwire.connection.failures") == 5
    tracers.shutdown()


async def test_a_processor_that_raises_is_said_once_and_the_other_observers_hear_everything(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    tracers = TracerProvider()
    tracers.add_span_processor(RaisingProcessor())
    ring = RecentFailures()
    tell = Observers([OpenTelemetryObserver(tracers, memory.meters), ring])
    for _ in range(5):
        tell(recorded())
    assert memory.number("holdwire.connection.failures") == 5
    assert len(ring.failures()) == 5
    said = [record for record in caplog.records if "OpenTelemetryObserver raised" in record.getMessage()]
    assert len(said) == 1


async def test_an_exporter_that_blocks_holds_up_the_loop_once_and_loses_nothing(
    memory: Memory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdwire.telemetry._handover._PATIENCE", 0.1)
    exporter = Blocking()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    observer = OpenTelemetryObserver(tracers, memory.meters)
    observer.on_event(recorded())
    answered = 0

    async def request() -> None:
        nonlocal answered
        observer.on_event(recorded(failure(phase=Phase.IDLE), context=contextvars.copy_context()))
        await anyio.lowlevel.checkpoint()
        answered += 1

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(request)
    assert answered == 8
    assert len(exporter.names) == 1
    assert not observer.flush(0.01)
    exporter.gate.set()
    assert await anyio.to_thread.run_sync(observer.flush)
    assert len(exporter.names) == 9
    assert memory.number("holdwire.connection.failures") == 9
    assert "BatchSpanProcessor" in caplog.text
    tracers.shutdown()


async def test_concurrent_requests_get_each_its_own_failure(memory: Memory) -> None:
    tracer = memory.tracers.get_tracer("program")
    observer = OpenTelemetryObserver(memory.tracers, memory.meters)
    expected: dict[str, int] = {}

    async def request(number: int) -> None:
        with tracer.start_as_current_span(f"request {number}") as span:
            context = contextvars.copy_context()
            await anyio.lowlevel.checkpoint()
            identity = f"c{number}"
            expected[identity] = span.get_span_context().span_id
            observer.on_event(recorded(failure(connection_id=identity), context=context))

    async with anyio.create_task_group() as group:
        for number in range(BURST):
            group.start_soon(request, number)
    found = {
        str((span.attributes or {})["holdwire.connection.id"]): span.parent.span_id
        for span in memory.spans
        if span.parent is not None
    }
    assert len(found) == BURST
    assert found == expected


async def test_a_failure_while_the_body_is_read_still_belongs_to_the_request_that_has_ended(memory: Memory) -> None:
    tracer = memory.tracers.get_tracer("program")
    observer = OpenTelemetryObserver(memory.tracers, memory.meters)
    with tracer.start_as_current_span("CLIENT") as client:
        context = contextvars.copy_context()
    with tracer.start_as_current_span("something else"):
        observer.on_event(recorded(failure(phase=Phase.RESPONSE_BODY), context=context))
    span = memory.span("holdwire")
    assert span.parent is not None
    assert span.parent.span_id == client.get_span_context().span_id


def test_a_batch_processor_gets_everything_with_times_of_the_events() -> None:
    exporter = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(exporter))
    OpenTelemetryObserver(tracers).on_event(recorded())
    assert tracers.force_flush()
    (span,) = exporter.get_finished_spans()
    assert (span.start_time, span.end_time) == (NOW - 50_000_000, NOW)
    tracers.shutdown()


def test_a_storm_in_several_threads_leaves_few_spans_and_lines_and_exact_counts(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    tell = Observers([OpenTelemetryObserver(memory.tracers, memory.meters), LogObserver()])

    def storm() -> None:
        with trace.use_span(memory.tracers.get_tracer("program").start_span("request")):
            context = contextvars.copy_context()
        for number in range(500):
            tell(recorded(at=NOW + number * SECOND // 250, context=context, verdict=SURFACED))

    threads = [threading.Thread(target=storm) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory.number("holdwire.connection.failures") == 2000
    assert BURST <= len(memory.spans) <= BURST + 2
    assert BURST <= len(caplog.records) <= BURST + 2
    tell(recorded(at=NOW + 100 * SECOND, verdict=SURFACED))
    held = sum(int(str((span.attributes or {}).get("holdwire.suppressed", 0))) for span in memory.spans)
    assert held + len(memory.spans) == 2001
