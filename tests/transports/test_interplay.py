"""Beside what else hooks into httpx: OpenTelemetry's instrumentation, pytest-httpx, respx, transports around ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from opentelemetry.trace import SpanKind

import holdwire
from holdwire.telemetry import OpenTelemetryObserver, instrument_client
from holdwire.testing import ChaosServer
from tests.telemetry_samples import Memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.transports.conftest import Family


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer() as server:
        yield server


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    memory.close()


# --- OpenTelemetry's instrumentation ---


@pytest.fixture(params=["globally", "per client", "per client, AsyncClient", "per client, wrap", "around"])
def instrumented(request: pytest.FixtureRequest, family: Family, memory: Memory) -> Iterator[Any]:
    """A client of ours in each of the ways in which that instrumentation is used."""
    instrumentation: Any = pytest.importorskip("opentelemetry.instrumentation.httpx")
    observers = [OpenTelemetryObserver(memory.tracers, memory.meters)]
    number = "2" if family.name == "httpx2" else ""
    if request.param == "globally":
        instrumentor = getattr(instrumentation, f"HTTPX{number}ClientInstrumentor")()
        instrumentor.instrument(tracer_provider=memory.tracers)
        yield family.client(observers=observers)
        instrumentor.uninstrument()
        return
    if request.param == "around":
        kind = getattr(instrumentation, f"AsyncOpenTelemetryTransport{'Httpx2' if number else ''}")
        transport = kind(family.transport(observers=observers), tracer_provider=memory.tracers)
        yield family.http.AsyncClient(transport=transport)
        return
    if "AsyncClient" in request.param:
        client = family.ours.AsyncClient(observers=observers)
    elif "wrap" in request.param:
        client = holdwire.wrap(family.http.AsyncClient(), observers=observers)
    else:
        client = family.client(observers=observers)
    instrument_client(client, tracer_provider=memory.tracers)
    yield client


def client_spans(memory: Memory) -> list[Any]:
    spans: list[Any] = list(memory.exporter.get_finished_spans())
    return [
        span
        for span in spans
        if span.kind is SpanKind.CLIENT and "instrumentation.httpx" in span.instrumentation_scope.name
    ]


async def test_a_request_that_is_retried_has_one_client_span_with_the_failure_inside(
    instrumented: Any, server: ChaosServer, memory: Memory
) -> None:
    async with instrumented as client:
        await client.get(server.url)
        memory.exporter.clear()
        server.script("response:0 rst", path="/again")
        assert (await client.get(f"{server.url}/again")).status_code == 200
    (request,) = client_spans(memory)
    failures = [span for span in memory.spans if "ECONNRESET" in str(span.attributes)]
    assert len(failures) == 1
    assert {span.parent.span_id for span in failures if span.parent} == {request.context.span_id}


async def test_a_request_that_fails_has_one_client_span_with_our_words_on_it(
    instrumented: Any, family: Family, server: ChaosServer, memory: Memory
) -> None:
    async with instrumented as client:
        server.script("response:0 rst", path="/order")
        with pytest.raises(family.http.ReadError):
            await client.post(f"{server.url}/order?token=SECRET", content=b"1")
    (request,) = client_spans(memory)
    assert "ECONNRESET" in request.status.description
    assert "SECRET" not in request.status.description


# --- mocks ---


async def test_pytest_httpx_answers_in_place_of_our_transport(httpx_mock: Any) -> None:
    httpx_mock.add_response(url="http://api.example/x", json={"mocked": True})
    for client in (httpx.AsyncClient(transport=holdwire.ResilientTransport()), holdwire.AsyncClient()):
        async with client:
            assert (await client.get("http://api.example/x")).json() == {"mocked": True}
        httpx_mock.add_response(url="http://api.example/x", json={"mocked": True}, is_optional=True)


async def test_respx_answers_when_it_is_told_to_look_at_httpx() -> None:
    respx = pytest.importorskip("respx")
    with respx.mock(using="httpx") as router:
        router.get("http://api.example/x").respond(json={"mocked": True})
        for client in (httpx.AsyncClient(transport=holdwire.ResilientTransport()), holdwire.AsyncClient()):
            async with client:
                assert (await client.get("http://api.example/x")).json() == {"mocked": True}


async def test_respx_by_default_looks_at_httpcore_and_does_not_see_us(server: ChaosServer) -> None:
    """Its default mode replaces methods of httpcore's pool. A limit that is documented; ``HOLDWIRE=off`` lifts it."""
    respx = pytest.importorskip("respx")
    with respx.mock(assert_all_called=False) as router:
        router.get(server.url).respond(json={"mocked": True})
        async with holdwire.AsyncClient() as client:
            assert (await client.get(server.url)).content == b"hello\n"


async def test_switched_off_respx_sees_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    respx = pytest.importorskip("respx")
    monkeypatch.setenv("HOLDWIRE", "off")
    with respx.mock() as router:
        router.get("http://api.example/x").respond(json={"mocked": True})
        async with holdwire.AsyncClient() as client:
            assert (await client.get("http://api.example/x")).json() == {"mocked": True}


async def test_a_mock_transport_that_is_given_is_left_alone(family: Family) -> None:
    def answer(_: Any) -> Any:
        return family.http.Response(204)

    mock = family.http.MockTransport(answer)
    async with family.ours.AsyncClient(transport=mock) as client:
        assert (await client.get("http://api.example/")).status_code == 204


# --- transports around ours ---


async def test_a_transport_of_ones_own_can_be_put_around_ours(family: Family, server: ChaosServer) -> None:
    inner = family.transport()

    class Outer(family.http.AsyncBaseTransport):  # type: ignore[misc,name-defined]
        seen = 0

        async def handle_async_request(self, request: Any) -> Any:
            Outer.seen += 1
            return await inner.handle_async_request(request)

        async def aclose(self) -> None:
            await inner.aclose()

    async with family.http.AsyncClient(transport=Outer()) as client:
        assert (await client.get(server.url)).status_code == 200
    assert Outer.seen == 1
    await server.until(lambda: server.connections == 0)
