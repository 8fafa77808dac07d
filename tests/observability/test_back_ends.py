"""In real back ends: every fault of the demo as one span in Phoenix, and an alert that fires in Prometheus."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import holdwire
from holdwire.events import FailureRecorded
from holdwire.telemetry import instrument, instrument_client, uninstrument
from holdwire.testing import ChaosServer
from holdwire.testing.scenarios import SCENARIOS
from tests.observability.programs import phoenix, prometheus, until
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdwire.events import Event
    from holdwire.testing.scenarios import Scenario
    from tests.observability.programs import Phoenix

exporters: Any = pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http.trace_exporter", reason="the OTLP exporter is not installed"
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

RULES = Path(__file__).parents[2] / "docs" / "observability" / "holdwire.rules.yml"


class Expected(NamedTuple):
    """What the fault of one scenario is told as; ``parent`` is the start of a span's name.

    Where a reset meets a request that is just being sent there can be one failure more: the faults are real.
    """

    span: str
    errno: str | None
    phase: str
    parent: str | None
    times: int = 1


RECV, CONNECT = "holdwire syscall_failure recv", "holdwire syscall_failure connect"
EXPECTED: dict[str, Expected | None] = {
    "resets an idle connection": Expected(RECV, "ECONNRESET", "idle", None),
    "closes an idle connection without close_notify": Expected(RECV, None, "idle", None),
    "refuses the first connects": Expected(CONNECT, "ECONNREFUSED", "connect", "socket connect", 2),
    "resets in the TLS handshake": Expected(RECV, "ECONNRESET", "tls_handshake", "TLS client handshake", 2),
    "resets before it answers a GET": Expected(RECV, "ECONNRESET", "response_wait", "GET"),
    "half-closes, executes a POST, resets": Expected(RECV, None, "response_wait", "POST"),
    "cuts a body with a length": Expected(RECV, None, "response_body", "GET"),
    "cuts a chunked body": Expected(RECV, "ECONNRESET", "response_body", "GET"),
    "cuts a body that ends with the connection": Expected(RECV, None, "response_body", "GET"),
    "answers 413 early and resets": None,  # the answer is delivered: no request failed
}


_CUT_SHORT = ("holdwire syscall_failure send", "request_body")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[Phoenix]:
    with phoenix(folder) as running:
        yield running


class Recorder:
    """The failures of one scenario, as they were told in the process."""

    def __init__(self) -> None:
        self.failures: list[holdwire.Failure] = []

    def on_event(self, event: Event) -> None:
        if isinstance(event, FailureRecorded):
            self.failures.append(event.failure)


async def play(scenario: Scenario, tracers: TracerProvider, recorder: Recorder) -> None:
    with scenario.server() as server:
        transport = holdwire.ResilientTransport(verify=server.client_context(), observers=[recorder])
        async with httpx.AsyncClient(transport=transport, timeout=5, base_url=server.url) as client:
            instrument_client(client, tracer_provider=tracers)
            *before, last = scenario.requests
            for request in before:
                await client.request(request.method, request.path, content=request.body)
            if before and scenario.settle:
                await server.until("fault", count=scenario.settle)
            try:
                await client.request(last.method, last.path, content=last.body)
            except httpx.TransportError:
                assert scenario.status is None


def test_every_fault_of_the_demo_is_one_span_under_the_right_parent_in_phoenix(store: Phoenix) -> None:
    assert set(EXPECTED) == {scenario.name for scenario in SCENARIOS}
    tracers = TracerProvider(resource=Resource.create({"service.name": "demo"}))
    tracers.add_span_processor(BatchSpanProcessor(exporters.OTLPSpanExporter(f"{store.url}/v1/traces")))
    instrument(tracer_provider=tracers)
    recorders = {scenario.name: Recorder() for scenario in SCENARIOS}
    try:
        tracer = tracers.get_tracer("demo")
        for scenario in SCENARIOS:
            with tracer.start_as_current_span(scenario.name):
                anyio.run(play, scenario, tracers, recorders[scenario.name])
        assert tracers.force_flush()
    finally:
        uninstrument()
        tracers.shutdown()
    wanted = sum(len(recorder.failures) for recorder in recorders.values())
    spans = until(lambda: _complete(store.spans(), wanted))
    failures = [span for span in spans if "_failure " in span["name"]]
    assert len(failures) == wanted
    for name, expected in EXPECTED.items():
        _check(spans, name, expected, recorders[name].failures)


def _complete(spans: list[dict[str, Any]], wanted: int) -> list[dict[str, Any]] | None:
    failures = sum("_failure " in span["name"] for span in spans)
    roots = {span["name"] for span in spans} & set(EXPECTED)
    return spans if failures >= wanted and len(roots) == len(EXPECTED) else None


def _check(spans: list[dict[str, Any]], name: str, expected: Expected | None, recorded: list[holdwire.Failure]) -> None:
    (scenario,) = [span for span in spans if span["name"] == name]
    trace = [span for span in spans if span["context"]["trace_id"] == scenario["context"]["trace_id"]]
    by_id = {span["context"]["span_id"]: span for span in trace}
    requests = [span for span in trace if span["parent_id"] == scenario["context"]["span_id"]]
    assert requests, name
    found = [span for span in trace if "_failure " in span["name"]]
    if expected is None:  # but for the send that the reset may have met
        assert {(span["name"], span["attributes"]["holdwire.phase"]) for span in found} <= {_CUT_SHORT}, name
        assert len(found) == len(recorded) <= 1
        return
    if expected.parent is None:  # in the background: a root span of its own, known by its connection
        assert not found, name
        ids = {span["attributes"].get("holdwire.connection.id") for span in trace}
        roots = [span for span in spans if "_failure " in span["name"] and span["parent_id"] is None]
        found = [span for span in roots if span["attributes"]["holdwire.connection.id"] in ids]
    assert sorted((span["attributes"]["holdwire.cause"], span["attributes"]["holdwire.phase"]) for span in found) == (
        sorted((failure.cause, failure.phase.value) for failure in recorded)
    ), name
    as_expected = (expected.span, expected.phase, expected.errno)
    alike = [span for span in found if _told(span) == as_expected]
    assert len(alike) >= expected.times, (name, list(map(_told, found)))
    for span in alike:
        told = span["attributes"]
        assert span["status_code"] == "ERROR"
        assert (told["holdwire.errno.number"] == 0) is (expected.errno is None)
        assert told["holdwire.remedy"], name
        assert told["holdwire.cause.confidence"] in {"certain", "likely", "possible"}
        assert told["server.address"] == "127.0.0.1"
        if expected.parent is not None:
            assert by_id[span["parent_id"]]["name"].startswith(expected.parent), name


def _told(span: dict[str, Any]) -> tuple[str, str, str | None]:
    told = span["attributes"]
    return span["name"], told["holdwire.phase"], told.get("holdwire.errno.name")


def test_prometheus_scrapes_the_numbers_and_a_rule_fires_when_requests_are_lost(folder: Path) -> None:
    client: Any = pytest.importorskip("prometheus_client")
    reader: Any = pytest.importorskip("opentelemetry.exporter.prometheus")
    port = free_port()
    server, thread = client.start_http_server(port, addr="127.0.0.1")
    meters = MeterProvider([reader.PrometheusMetricReader()])
    instrument(meter_provider=meters)
    # the shipped rules with shorter windows: minutes become seconds
    rules = re.sub(r"\b(for: |\[)\d+m", lambda found: f"{found[1]}{10 if found[1] == '[' else 1}s", RULES.read_text())
    try:
        with prometheus(folder, target=port, rules=rules) as scraper, ChaosServer(tls=False) as working:
            until(lambda: scraper.query("up == 1"))

            async def lose(url: str, path: str) -> None:
                transport = holdwire.ResilientTransport(retry=None)
                async with httpx.AsyncClient(transport=transport, base_url=url) as http:
                    for _ in range(3):
                        try:
                            await http.post(path, content=b"1")
                        except httpx.TransportError:
                            continue

            def firing() -> list[dict[str, Any]]:
                working.script(*["response:0 rst"] * 3, path="/lost")
                anyio.run(lose, working.url, "/lost")
                return [alert for alert in scraper.alerts() if alert["state"] == "firing"]

            (alert,) = until(firing)
            assert alert["labels"]["alertname"] == "HoldwireRequestsFailing"
            assert alert["labels"]["severity"] == "page"
            assert alert["labels"]["server_address"] == "127.0.0.1"
            assert "127.0.0.1" in alert["annotations"]["summary"]
            counted = scraper.query('holdwire_connection_failures_total{error_type="connection_reset"}')
            assert counted[0]["metric"]["holdwire_phase"] == "response_wait"
            assert float(counted[0]["value"][1]) >= 3
            assert scraper.query("holdwire:connection_failures:rate5m")
    finally:
        uninstrument()
        meters.shutdown()
        server.shutdown()
        thread.join()
        server.server_close()
