"""Samples for the telemetry tests: failures with every field set, events about them, and providers in memory."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from holdwire.events import ConnectionSetUp, FailureRecorded, SetupStep
from holdwire.policy.failure import Failure, TlsDetail
from holdwire.policy.flight import Mark, Moment
from holdwire.policy.kind import Category, Confidence, FaultSide, Kind
from holdwire.policy.phase import Delivery, Phase, Sent
from holdwire.policy.retry import Evidence, RetryAction, Verdict
from holdwire.policy.tcp_info import TcpInfo, TcpState

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

SECOND: Final = 1_000_000_000
NOW: Final = 1_700_000_000 * SECOND

TCP: Final = TcpInfo(
    state=TcpState.CLOSE_WAIT,
    retransmits=3,
    rto=204_000,
    snd_mss=1448,
    unacked=2,
    last_data_recv=1200,
    last_ack_recv=1300,
    pmtu=1500,
    rtt=800,
    total_retrans=4,
    bytes_acked=512,
    bytes_sent=2048,
    notsent_bytes=64,
    min_rtt=500,
    total_rto=2,
    total_rto_time=600,
)
TLS: Final = TlsDetail(
    error="SSL_ERROR_SSL",
    reason="TLSV1_ALERT_INTERNAL_ERROR",
    alert=80,
    alert_name="internal_error",
    alert_direction="received",
    close_notify="none",
)
RETRIED: Final = Verdict(
    action=RetryAction.RETRY_NOW, evidence=Evidence.ASSUMED, row=11, reason="reused_connection_lost", cost=1
)
SURFACED: Final = Verdict(action=RetryAction.SURFACE, evidence=Evidence.NONE, row=12, reason="may_have_been_processed")
CAUSE: Final = "The server closed the connection just before the request arrived."
REMEDY: Final = "Nothing to do."


def failure(kind: Kind = Kind.CONNECTION_RESET, phase: Phase = Phase.RESPONSE_WAIT, **changes: Any) -> Failure:
    """A failure as an established connection to ``api.example:443`` gives it."""
    values: dict[str, Any] = {
        "kind": kind,
        "category": Category.PEER_CLOSED,
        "phase": phase,
        "syscall": "recv",
        "errno": 104,
        "errno_name": "ECONNRESET",
        "host": "api.example",
        "port": 443,
        "peer": "192.0.2.7",
        "peer_port": 443,
        "local_port": 40_001,
        "network_type": "ipv4",
        "connection_id": "c1",
        "at": NOW / 1e9,
    }
    return Failure(**{**values, **changes})


def full_failure(**changes: Any) -> Failure:
    """A failure of which everything is known."""
    values: dict[str, Any] = {
        "cause": CAUSE,
        "confidence": Confidence.LIKELY,
        "flight": (Moment(0.5, Mark.REQUEST, 7),),
        "remedy": REMEDY,
        "tls": TLS,
        "fault_side": FaultSide.PEER,
        "reused": True,
        "requests": 7,
        "age": 61.5,
        "idle": 2.5,
        "tcp": TCP,
        "outq": 33,
        "sent": Sent.ALL,
        "delivery": Delivery.ACKED,
        "fin_before_write": True,
        "discarded": 33,
    }
    return failure(**{**values, **changes})


def recorded(what: Failure | None = None, *, at: int = NOW, **changes: Any) -> FailureRecorded:
    """``what`` as an event that ended at ``at`` and began 50 ms before."""
    values: dict[str, Any] = {"failure": what or failure(), "began": at - 50_000_000, "ended": at}
    return FailureRecorded(**{**values, **changes})


def step(phase: Phase = Phase.CONNECT, what: Failure | None = None, *, at: int = NOW, **changes: Any) -> SetupStep:
    """A step that ended at ``at`` and took 10 ms."""
    values: dict[str, Any] = {"phase": phase, "began": at - 10_000_000, "ended": at, "failure": what}
    return SetupStep(**{**values, **changes})


def set_up(*steps: SetupStep, at: int = NOW, **changes: Any) -> ConnectionSetUp:
    """A set-up of connection ``c1`` that ended at ``at`` and took 40 ms."""
    values: dict[str, Any] = {
        "host": "api.example",
        "port": 443,
        "connection_id": "c1",
        "began": at - 40_000_000,
        "ended": at,
        "steps": steps,
        "context": None,
    }
    return ConnectionSetUp(**{**values, **changes})


class Memory:
    """Providers that keep what they get."""

    def __init__(self, *, sampler: Any = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(sampler=sampler)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans so far, but those that the test itself made."""
        return [
            one
            for one in self.exporter.get_finished_spans()
            if one.instrumentation_scope is None or one.instrumentation_scope.name == "holdwire"
        ]

    def span(self, name: str) -> ReadableSpan:
        """The one span whose name starts with ``name``."""
        found = [one for one in self.spans if one.name.startswith(name)]
        assert len(found) == 1, [one.name for one in self.spans]
        return found[0]

    def request(self) -> tuple[contextvars.Context, Any]:
        """A context as a request's start would save it, and the request's running span."""
        tracer = self.tracers.get_tracer("test")
        span = tracer.start_span("GET")
        from opentelemetry import trace

        with trace.use_span(span):
            return contextvars.copy_context(), span

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """What a reader collects of one metric: attributes, and the number (histograms: the data point)."""
        data = self.reader.get_metrics_data()
        found: list[tuple[dict[str, Any], Any]] = []
        if data is None:
            return found
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        found += [
                            (dict(one.attributes or {}), getattr(one, "value", one)) for one in metric.data.data_points
                        ]
        return found

    def number(self, name: str, **attributes: Any) -> Any:
        """The sum of the points that have ``attributes`` (underscores stand for dots)."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return sum(value for has, value in self.points(name) if wanted.items() <= has.items())

    def close(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()
