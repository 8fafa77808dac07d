"""The observers around spans and metrics: the default one, the log, the ring, suppression, slow processors."""

from __future__ import annotations

import contextvars
import importlib.metadata
import logging
import queue
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import metrics as otel_metrics
from opentelemetry import trace as otel_trace

from holdwire.events import (
    CloseReason,
    ConnectionClosed,
    FailureRecorded,
    HeartbeatMissed,
    Observer,
    PoolWaited,
    RequestRetried,
    register_stats,
)
from holdwire.policy.kind import Category, Kind
from holdwire.policy.phase import Phase
from holdwire.policy.retry import Evidence, RetryAction, Verdict
from holdwire.telemetry import (
    LogObserver,
    OpenTelemetryObserver,
    RecentFailures,
    default_observer,
    instrument,
    recent_failures,
    uninstrument,
)
from holdwire.telemetry import default as default_module
from holdwire.telemetry._handover import Handover
from holdwire.telemetry.limiter import BURST
from holdwire.telemetry.metrics import FAILURES, METRICS, Instrument, Metrics
from holdwire.telemetry.spans import SCHEMA_URL
from holdwire.telemetry.totals import Totals
from tests.telemetry_samples import (
    NOW,
    RETRIED,
    SECOND,
    SURFACED,
    Memory,
    failure,
    full_failure,
    recorded,
    set_up,
    step,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdwire.events import Event


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    memory.close()


@pytest.fixture
def default(monkeypatch: pytest.MonkeyPatch) -> Observer:
    """A default observer of this test's own, as a fresh process has it."""
    monkeypatch.setattr(default_module, "_DEFAULT", default_module._Default())
    return default_observer()


# --- the default observer ---


def test_a_transport_that_exists_already_follows_instrument_and_uninstrument(default: Observer, memory: Memory) -> None:
    instrument(tracer_provider=memory.tracers, meter_provider=memory.meters)
    default.on_event(recorded())
    assert len(memory.spans) == 1
    uninstrument()
    default.on_event(recorded())
    assert len(memory.spans) == 1
    assert memory.number("holdwire.connection.failures") == 1


def test_the_default_observer_is_one_for_the_process(default: Observer, memory: Memory) -> None:
    instrument(tracer_provider=memory.tracers, meter_provider=memory.meters)
    assert default_observer() is default
    default.on_event(recorded())
    assert len(memory.spans) == 1


def test_an_observer_that_is_replaced_falls_silent_even_if_somebody_keeps_it(
    default: Observer, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Source:
        def stats(self) -> list[dict[str, Any]]:
            return [{"host": "h", "port": 1, "requests_ok": 1, "idle": 1}]

    monkeypatch.setattr("holdwire.telemetry.totals._TOTALS", Totals())
    source = Source()
    register_stats(source)
    kept = instrument(tracer_provider=memory.tracers, meter_provider=memory.meters)
    assert memory.number("holdwire.requests", server__address="h") == 1
    instrument()
    assert not memory.points("holdwire.requests")
    assert kept.flush()


def test_an_observer_that_is_replaced_goes_away(default: Observer, memory: Memory) -> None:
    first = weakref.ref(instrument(tracer_provider=memory.tracers, meter_provider=memory.meters))
    instrument()
    assert first() is None


def test_options_of_instrument_reach_the_spans(default: Observer, memory: Memory) -> None:
    context, _ = memory.request()
    instrument(tracer_provider=memory.tracers, failure_spans="root+link")
    default.on_event(recorded(context=context))
    assert memory.span("holdwire").parent is None


def test_global_providers_that_are_set_later_are_used(
    default: Observer, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel_trace, "_TRACER_PROVIDER", memory.tracers)
    default.on_event(recorded())
    assert len(memory.spans) == 1


def test_an_observer_used_before_any_transport_makes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = default_module._Default()
    monkeypatch.setattr(default_module, "_DEFAULT", fresh)
    fresh.on_event(recorded())
    assert len(recent_failures()) == 1


def test_with_no_sdk_every_event_is_taken_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    tell = OpenTelemetryObserver(otel_trace.NoOpTracerProvider(), otel_metrics.NoOpMeterProvider())
    refused = failure(Kind.CONNECTION_REFUSED, Phase.CONNECT)
    failed = step(what=refused)
    context = contextvars.copy_context()
    events: list[Event] = [
        set_up(failed, step(), context=context),
        recorded(refused, step=failed, context=context),
        recorded(last_context=context),
        PoolWaited(host="h", port=1, method="GET", began=NOW, ended=NOW, context=context),
        RequestRetried(host="h", port=1, verdict=RETRIED, attempt=1, delay=0.0, context=context),
        HeartbeatMissed(host="h", port=1, connection_id="c", kind="tcp", waited=1.0),
    ]
    for event in events:
        tell.on_event(event)
    assert not caplog.records


# --- suppression ---


def suppressed(key: str) -> contextvars.Context:
    def set_it() -> None:
        otel_context.attach(otel_context.set_value(key, value=True))

    context = contextvars.copy_context()
    context.run(set_it)
    return context


SYNCHRONOUS = {Instrument.COUNTER, Instrument.HISTOGRAM}
SUPPRESSIONS = ["suppress_instrumentation", otel_context._SUPPRESS_INSTRUMENTATION_KEY]


@pytest.mark.parametrize("key", SUPPRESSIONS, ids=["older", "newer"])
def test_an_exporters_own_requests_leave_no_trace(memory: Memory, caplog: pytest.LogCaptureFixture, key: str) -> None:
    caplog.set_level(logging.INFO, "holdwire")
    context = suppressed(key)
    tell = OpenTelemetryObserver(memory.tracers, memory.meters)
    log = LogObserver()
    common: dict[str, Any] = {"host": "api.example", "port": 443, "connection_id": "c1"}
    events: list[Event] = [
        set_up(step(), context=context),
        recorded(context=context, verdict=SURFACED),
        recorded(last_context=context),
        recorded(failure(phase=Phase.IDLE)),
        HeartbeatMissed(kind="tcp", waited=1.0, **common),
        ConnectionClosed(reason=CloseReason.FAILURE, age=1.0, idle=1.0, requests=1, **common),
    ]
    for event in events:
        tell.on_event(event)
        if isinstance(event, FailureRecorded) and (event.context or event.last_context):
            log.on_event(event)
    assert not memory.spans
    assert not any(memory.points(metric.name) for metric in METRICS if metric.instrument in SYNCHRONOUS)
    assert not caplog.records
    tell.on_event(recorded())
    assert len(memory.spans) == 1


def test_a_connection_that_an_exporter_used_last_leaves_no_trace_either(memory: Memory) -> None:
    tell = OpenTelemetryObserver(memory.tracers, memory.meters)
    tell.on_event(recorded(failure(phase=Phase.IDLE), last_context=suppressed("suppress_instrumentation")))
    assert not memory.spans
    assert not memory.points(FAILURES.name)


def test_connections_of_exporters_that_are_remembered_are_bounded(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdwire.telemetry.observer._MAX_MUTED", 2)
    tell = OpenTelemetryObserver(memory.tracers, memory.meters)
    for number in range(3):
        tell.on_event(set_up(step(), connection_id=f"c{number}", context=suppressed("suppress_instrumentation")))
    for number in range(3):
        tell.on_event(recorded(failure(phase=Phase.IDLE, connection_id=f"c{number}")))
    tell.on_event(PoolWaited(host="h", port=1, method="GET", began=NOW, ended=NOW))
    assert [(one.attributes or {}).get("holdwire.connection.id") for one in memory.spans] == ["c0", None]


def test_a_meter_that_raises_does_not_cost_the_span(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr(Metrics, "record", broken)
    tell = OpenTelemetryObserver(memory.tracers, memory.meters)
    with pytest.raises(KeyError):
        tell.on_event(recorded())
    assert len(memory.spans) == 1


def test_a_source_tree_that_is_not_installed_has_version_0(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    OpenTelemetryObserver(memory.tracers, memory.meters).on_event(recorded())
    scope = memory.spans[0].instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version, scope.schema_url) == ("holdwire", "0", SCHEMA_URL)


def test_a_connection_of_the_program_that_an_exporter_shares_is_not_muted_for_the_program(memory: Memory) -> None:
    context, _ = memory.request()
    tell = OpenTelemetryObserver(memory.tracers, memory.meters)
    tell.on_event(set_up(step(), context=suppressed("suppress_instrumentation")))
    tell.on_event(recorded(context=context))
    assert len(memory.spans) == 1


def test_a_context_that_is_entered_at_this_moment_still_gives_the_parent(memory: Memory) -> None:
    context, request = memory.request()
    tell = OpenTelemetryObserver(memory.tracers, memory.meters)
    context.run(tell.on_event, recorded(context=context))
    parent = memory.span("holdwire").parent
    assert parent is not None
    assert parent.span_id == request.get_span_context().span_id


# --- the log ---


def test_a_lost_request_is_one_warning_and_a_recovered_one_is_information(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "holdwire")
    log = LogObserver()
    context = contextvars.copy_context()
    log.on_event(recorded(full_failure(), context=context, verdict=RETRIED))
    log.on_event(recorded(full_failure(), context=context, verdict=SURFACED, attempt=2))
    log.on_event(recorded(failure(phase=Phase.IDLE), deaths=3))
    log.on_event(recorded(failure(phase=Phase.CONNECT), context=context, step=step()))
    log.on_event(recorded(failure(phase=Phase.RESPONSE_BODY), context=context))
    levels = [record.levelname for record in caplog.records]
    assert levels == ["INFO", "WARNING", "INFO", "INFO", "WARNING"]
    first, second, third = (record.getMessage() for record in caplog.records[:3])
    assert first == (
        "recv: ECONNRESET (errno 104) in phase response_wait with api.example:443 (192.0.2.7). Likely cause: The "
        "server closed the connection just before the request arrived. Nothing to do. "
        "[attempt 1 retried: a reused connection ended before any response byte]"
    )
    assert second.endswith("[attempt 2 not retried: the request may have been processed]")
    assert third.endswith("[3 idle connections at once]")
    assert caplog.records[0].failure == full_failure()  # type: ignore[attr-defined]


def test_a_request_that_goes_on_is_said_to_go_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "holdwire")
    verdict = Verdict(action=RetryAction.KEEP_WAITING, evidence=Evidence.NONE, row=32, reason="budget")
    LogObserver().on_event(recorded(verdict=verdict))
    assert caplog.records[0].getMessage().endswith("[attempt 1 goes on: the retry budget of the origin is used up]")
    assert caplog.records[0].levelname == "INFO"


def test_a_log_line_is_one_line_whatever_the_system_says(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "holdwire")
    LogObserver().on_event(recorded(failure(detail="first\nsecond\r\n\tthird")))
    assert "first second third" in caplog.records[0].getMessage()


def test_a_storm_leaves_ten_lines_and_the_next_one_says_how_many_more(caplog: pytest.LogCaptureFixture) -> None:
    log = LogObserver()
    for _ in range(100):
        log.on_event(recorded(verdict=SURFACED))
    assert len(caplog.records) == BURST
    log.on_event(recorded(verdict=SURFACED, at=NOW + SECOND))
    assert caplog.records[-1].getMessage().endswith("[90 more such failures were held back]")


def test_lines_that_nobody_wants_to_see_do_not_use_up_those_of_a_storm(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "holdwire")
    log = LogObserver()
    for _ in range(100):
        log.on_event(recorded(verdict=RETRIED))
    log.on_event(recorded(verdict=SURFACED))
    assert len(caplog.records) == 1


def test_only_failures_are_logged_and_not_what_we_did_ourselves(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "holdwire")
    log = LogObserver()
    log.on_event(set_up(step()))
    log.on_event(recorded(failure(Kind.CANCELLED, category=Category.INTENTIONAL), context=contextvars.copy_context()))
    assert not caplog.records


# --- the ring ---


def test_the_last_failures_are_kept_without_the_callers_contexts() -> None:
    ring = RecentFailures(2)
    context = contextvars.copy_context()
    for attempt in (1, 2, 3):
        ring.on_event(recorded(context=context, last_context=context, attempt=attempt, verdict=SURFACED))
    ring.on_event(set_up(step()))
    ring.on_event(recorded(failure(Kind.CANCELLED, category=Category.INTENTIONAL)))
    kept = ring.failures()
    assert [one.attempt for one in kept] == [2, 3]
    assert all(one.context is None and one.last_context is None and one.verdict is SURFACED for one in kept)
    ring.clear()
    assert ring.failures() == []


def test_a_ring_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="size=0 must be at least 1"):
        RecentFailures(0)


def test_recent_failures_see_what_a_storm_and_the_sampler_hold_back(default: Observer) -> None:
    for _ in range(100):
        default.on_event(recorded())
    assert len(recent_failures()) == 100


# --- slow span processors ---


class Gate:
    """A function that blocks until it is let through, and can be told to raise."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.calls: list[int] = []
        self.threads: list[str] = []

    def __call__(self, number: int) -> None:
        self.open.wait(10)
        self.threads.append(threading.current_thread().name)
        self.calls.append(number)
        if number < 0:
            raise ValueError(number)


@pytest.fixture
def leave() -> Iterator[Callable[[Gate], Handover]]:
    made: list[Gate] = []

    def make(gate: Gate) -> Handover:
        made.append(gate)
        gate.open.set()
        handover = Handover(gate, patience=-1.0)  # any call at all is too slow
        handover(0)
        gate.open.clear()
        return handover

    yield make
    for gate in made:
        gate.open.set()


def test_a_quick_function_is_called_in_place() -> None:
    gate = Gate()
    gate.open.set()
    handover = Handover(gate, patience=60.0)
    handover(1)
    assert gate.calls == [1]
    assert gate.threads == [threading.current_thread().name]
    assert handover.flush()


def test_what_a_quick_function_raises_is_for_the_callers_guard() -> None:
    gate = Gate()
    gate.open.set()
    with pytest.raises(ValueError, match="-1"):
        Handover(gate, patience=60.0)(-1)


def test_after_one_slow_call_the_caller_is_never_held_up_again(
    leave: Callable[[Gate], Handover], caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    handover = leave(gate)
    for number in (1, -2, 3):
        handover(number)
    assert gate.calls == [0]
    assert not handover.flush(0.01)
    gate.open.set()
    assert handover.flush()
    assert gate.calls == [0, 1, -2, 3]
    assert set(gate.threads[1:]) == {"holdwire-telemetry"}
    said = [record.getMessage() for record in caplog.records]
    assert "held up the event loop" in said[0]
    assert said[1:] == ["a span could not be written; said once"]


def test_a_full_queue_drops_and_says_so_once(
    leave: Callable[[Gate], Handover], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdwire.telemetry._handover._QUEUE_SIZE", 2)
    gate = Gate()
    handover = leave(gate)
    for number in range(1, 20):
        handover(number)
    assert handover.dropped >= 16
    assert not handover.flush(0.01)
    assert sum("some are dropped" in record.getMessage() for record in caplog.records) == 1


def test_a_client_that_is_collected_while_a_span_is_handed_over_stops_no_thread(
    leave: Callable[[Gate], Handover],
) -> None:
    gate = Gate()
    handover = leave(gate)
    gate.open.set()

    def collect(*_: object) -> None:
        handover(2)

    def use() -> None:
        sys.setprofile(collect)  # the collector may run at any call, and with it a finalizer
        handover(1)
        sys.setprofile(None)

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert handover.flush()
    assert gate.calls.count(1) == 1
    assert gate.calls.count(2) > 1


def test_a_thread_that_is_gone_after_a_fork_is_started_anew(leave: Callable[[Gate], Handover]) -> None:
    gate = Gate()
    handover = leave(gate)
    gate.open.set()
    gone = threading.Thread(target=int)
    gone.start()
    gone.join()
    handover._thread, handover._queue = gone, queue.SimpleQueue()  # which nobody reads
    assert handover.flush(10), "nothing was handed over here: there is nothing to wait for"
    handover(1)
    assert handover._thread is not gone
    assert handover._thread.is_alive()
    assert handover.flush()
    assert gate.calls == [0, 1]
