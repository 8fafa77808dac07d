"""A dead origin under a thousand requests a second, and exporters that misbehave, under a real transport."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import holdwire
from holdwire.telemetry import instrument, uninstrument
from holdwire.telemetry.limiter import BURST
from holdwire.telemetry.totals import Totals
from holdwire.testing import ChaosServer
from tests.garbage import collect_everything
from tests.telemetry_samples import Memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

pytestmark = pytest.mark.anyio

REQUESTS = 1000


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    collect_everything()  # pools of earlier tests too
    monkeypatch.setattr("holdwire.telemetry.totals._TOTALS", Totals())
    memory = Memory()
    yield memory
    uninstrument()
    memory.close()


async def test_a_dead_origin_under_a_thousand_requests_leaves_exact_counts_and_few_spans_and_lines(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holdwire")
    instrument(tracer_provider=memory.tracers, meter_provider=memory.meters)
    lost = 0
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound and not listening: refused
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
        async with httpx.AsyncClient(transport=holdwire.ResilientTransport(retry=None)) as http:
            began = time.monotonic()

            async def some() -> None:
                nonlocal lost
                for _ in range(REQUESTS // 20):
                    try:
                        await http.get(url)
                    except httpx.ConnectError:
                        lost += 1

            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(some)
            took = time.monotonic() - began
    assert lost == REQUESTS
    assert memory.number("holdwire.connection.failures", error__type="connection_refused") == REQUESTS
    assert memory.number("holdwire.requests", holdwire__outcome="failed") == REQUESTS
    allowed = BURST + int(took) + 2
    failures = [span for span in memory.spans if "_failure " in span.name]
    assert 1 <= len(failures) <= allowed
    assert len(memory.spans) <= 4 * allowed  # with the set-up and its steps
    lines = [record for record in caplog.records if "ECONNREFUSED" in record.getMessage()]
    assert 1 <= len(lines) <= allowed
    assert len(holdwire.recent_failures()) <= 256


class Raising(SpanExporter):
    """Its collector is broken."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise ConnectionRefusedError(len(spans))


class Hanging(SpanExporter):
    """Its collector hangs: each export takes half a second, in the loop's own thread at first."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        self.threads.add(threading.get_ident())
        time.sleep(0.5)
        return SpanExportResult.SUCCESS


@pytest.mark.parametrize("exporter", [Raising, Hanging])
async def test_an_exporter_that_raises_or_hangs_costs_no_request(
    memory: Memory, exporter: type[Raising | Hanging], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdwire.telemetry._handover._PATIENCE", 0.1)
    tracers = TracerProvider()
    made = exporter()
    tracers.add_span_processor(SimpleSpanProcessor(made))
    instrument(tracer_provider=tracers, meter_provider=memory.meters)
    with ChaosServer(tls=False) as server:
        async with httpx.AsyncClient(transport=holdwire.ResilientTransport(), base_url=server.url) as http:
            await http.get("/warm-up")
            began = time.monotonic()
            for number in range(5):
                server.script("response:0 rst", path=f"/again/{number}")
                assert (await http.get(f"/again/{number}")).status_code == 200
            took = time.monotonic() - began
    assert memory.number("holdwire.requests", holdwire__outcome="recovered") == 5
    assert took < 4.5  # ten spans of half a second each would have taken five
    if isinstance(made, Hanging):
        assert len(made.threads) == 2
