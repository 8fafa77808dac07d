"""Under the real opentelemetry-instrumentation-httpx: one CLIENT span for a request, the failures inside it."""

from __future__ import annotations

import contextvars
import importlib
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.trace import StatusCode

from holdwire.telemetry import Instrumented, OpenTelemetryObserver, instrument_client, instrumentation_of
from tests.telemetry_samples import RETRIED, Memory, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

instrumentation: Any = pytest.importorskip(
    "opentelemetry.instrumentation.httpx", reason="opentelemetry-instrumentation-httpx is not installed"
)


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    memory.close()


@pytest.fixture(params=["httpx", "httpx2"])
def family(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


@pytest.fixture
def client(family: Any, memory: Memory) -> Any:
    core = importlib.import_module("httpcore" if family.__name__ == "httpx" else "httpcore2")
    observer = OpenTelemetryObserver(memory.tracers, memory.meters)

    class Pool:
        """Fails twice, then answers, as holdwire's adapter does below an inherited ``handle_async_request``."""

        async def handle_async_request(self, request: Any) -> Any:
            del request
            context = contextvars.copy_context()
            for attempt in (1, 2):
                observer.on_event(recorded(context=context, attempt=attempt, verdict=RETRIED))
            return core.Response(200, content=b"")

        async def __aexit__(self, *_: object) -> None:
            return None

        async def aclose(self) -> None:
            return None

    transport = family.AsyncHTTPTransport()
    transport._pool = Pool()
    return family.AsyncClient(transport=transport)


def instrumentor(family: Any) -> Any:
    name = "HTTPXClientInstrumentor" if family.__name__ == "httpx" else "HTTPX2ClientInstrumentor"
    return getattr(instrumentation, name)


def client_spans(memory: Memory) -> list[Any]:
    spans = memory.exporter.get_finished_spans()
    return [span for span in spans if span.instrumentation_scope and span.instrumentation_scope.name != "holdwire"]


async def test_a_client_has_one_client_span_with_both_failures_inside(client: Any, memory: Memory) -> None:
    assert instrument_client(client, tracer_provider=memory.tracers) is Instrumented.NOT
    assert instrument_client(client, tracer_provider=memory.tracers) is Instrumented.PER_CLIENT
    await client.get("http://api.example/")
    (request,) = client_spans(memory)
    assert request.status.status_code is StatusCode.UNSET
    assert [span.parent.span_id for span in memory.spans if span.parent] == [request.context.span_id] * 2


async def test_global_instrumentation_gives_the_same_and_is_not_doubled(
    client: Any, family: Any, memory: Memory
) -> None:
    instrument = instrumentor(family)()
    instrument.instrument(tracer_provider=memory.tracers)
    try:
        assert instrument_client(client) is Instrumented.GLOBALLY
        await client.get("http://api.example/")
        (request,) = client_spans(memory)
        assert [span.parent.span_id for span in memory.spans if span.parent] == [request.context.span_id] * 2
    finally:
        instrument.uninstrument()


@pytest.mark.parametrize("client_first", [False, True])
async def test_both_at_once_is_found_where_it_doubles(
    client: Any,
    family: Any,
    memory: Memory,
    client_first: bool,  # noqa: FBT001
) -> None:
    instrument = instrumentor(family)()
    if client_first:
        instrument_client(client, tracer_provider=memory.tracers)
    instrument.instrument(tracer_provider=memory.tracers)
    try:
        if not client_first:
            instrumentor(family).instrument_client(client, tracer_provider=memory.tracers)
        await client.get("http://api.example/")
        doubled = instrumentation_of(client) == Instrumented.GLOBALLY | Instrumented.PER_CLIENT
        assert len(client_spans(memory)) == 1 + doubled
        assert doubled is not client_first
    finally:
        instrument.uninstrument()


async def test_the_instrumentations_own_suppression_silences_failures_too(client: Any, memory: Memory) -> None:
    utils: Any = importlib.import_module("opentelemetry.instrumentation.utils")
    with utils.suppress_instrumentation():
        await client.get("http://api.example/")
    assert not memory.spans
