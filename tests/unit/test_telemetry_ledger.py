"""What waits for a reader: counted once and exactly, whoever collects, and bounded where nobody does."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)

from holdwire.policy.kind import Kind
from holdwire.telemetry import OpenTelemetryObserver
from holdwire.telemetry.ledger import Ledger
from holdwire.telemetry.limiter import Limiter
from holdwire.telemetry.totals import Totals
from tests.forks import in_child
from tests.garbage import Collecting, in_time
from tests.telemetry_samples import Memory, failure, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("server.address", "server.port", "error.type")
FAILURES = "holdwire.connection.failures"


class Instrument:
    """Counter and histogram in one; keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, dict[str, Any]]] = []

    def add(self, number: float, attributes: dict[str, Any], _: object = None) -> None:
        self.told.append((number, attributes))

    record = add


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    memory.close()


def test_equal_counts_become_one_call_and_no_instrument_is_called_before_a_reader_asks() -> None:
    ledger, counter = Ledger(), Instrument()
    for host in ("a", "b", "a", "a"):
        ledger.count(counter, NAMES, (host, None, "timed_out"))  # type: ignore[arg-type]
    assert not counter.told
    ledger.settle()
    ledger.settle()
    assert counter.told[::-1] == [
        (3, {"server.address": "a", "error.type": "timed_out"}),
        (1, {"server.address": "b", "error.type": "timed_out"}),
    ]


def test_times_beyond_the_limit_reach_their_histogram_at_once() -> None:
    ledger, histogram = Ledger(), Instrument()
    for number in range(600):
        ledger.time(histogram, NAMES, ("a", 80, None), float(number))  # type: ignore[arg-type]
    at_once = [seconds for seconds, _ in histogram.told]
    assert at_once == [float(number) for number in range(512, 600)]
    ledger.settle()
    assert sorted(seconds for seconds, _ in histogram.told) == [float(number) for number in range(600)]
    assert histogram.told[0][1] == {"server.address": "a", "server.port": 80}


def test_a_provider_that_never_collects_hears_of_counts_all_the_same() -> None:
    ledger, counter = Ledger(), Instrument()
    for _ in range(10_000):
        ledger.count(counter, NAMES, ("a", 80, None))  # type: ignore[arg-type]
    assert counter.told == [(10_000, {"server.address": "a", "server.port": 80})]


def test_no_count_is_lost_or_told_twice_while_several_threads_count_and_collect() -> None:
    ledger, counter, histogram = Ledger(), Instrument(), Instrument()

    def count() -> None:
        for _ in range(3000):
            ledger.count(counter, NAMES, ("a", 80, None))  # type: ignore[arg-type]
            ledger.time(histogram, NAMES, ("a", 80, None), 1.0)  # type: ignore[arg-type]

    def collect() -> None:
        for _ in range(300):
            ledger.settle()

    threads = [threading.Thread(target=work) for work in (count, count, collect, collect)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.settle()
    assert sum(number for number, _ in counter.told) == 6000
    assert len(histogram.told) == 6000


def test_a_client_that_is_collected_in_the_middle_of_a_count_is_counted_too_and_nobody_waits() -> None:
    ledger, counter = Ledger(), Instrument()

    def count(host: str) -> None:
        ledger.count(counter, NAMES, (host, None, "timed_out"))  # type: ignore[arg-type]

    count("a")
    assert in_time(lambda: count(Collecting("a", *[lambda: count("a")] * 3)))
    ledger.settle()
    assert counter.told == [(1 + 1 + 3, {"server.address": "a", "error.type": "timed_out"})]


def test_what_waits_at_a_fork_is_told_by_the_parent_alone() -> None:
    ledger, instrument = Ledger(), Instrument()
    ledger.count(instrument, NAMES, ("a", 80, None), 7)  # type: ignore[arg-type]
    ledger.time(instrument, NAMES, ("a", 80, None), 0.5)  # type: ignore[arg-type]

    def child_tells_its_own() -> None:
        ledger.count(instrument, NAMES, ("a", 80, None), 2)  # type: ignore[arg-type]
        ledger.settle()
        assert [number for number, _ in instrument.told] == [2]

    assert in_child(child_tells_its_own) == 0
    ledger.settle()
    assert [number for number, _ in instrument.told] == [7, 0.5]


def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent() -> None:
    ledger, limiter, totals, counter = Ledger(), Limiter(), Totals(), Instrument()

    def use() -> None:
        ledger.count(counter, NAMES, ("a", 80, None))  # type: ignore[arg-type]
        assert limiter.admit("a", 80, "timed_out", "connect", 0) == 0
        assert totals.look([]) == []

    for lock in (ledger._lock, limiter._lock, totals._lock):
        with lock:  # as another thread may at that moment
            assert in_child(use) == 0


def test_what_an_observer_counted_is_exported_although_it_is_gone(memory: Memory) -> None:
    OpenTelemetryObserver(memory.tracers, memory.meters).on_event(recorded())
    gc.collect()
    assert memory.number(FAILURES) == 1
    assert memory.number(FAILURES) == 1


def test_what_an_observer_counted_is_exported_although_it_was_closed(memory: Memory) -> None:
    observer = OpenTelemetryObserver(memory.tracers, memory.meters)
    observer.on_event(recorded())
    observer.close()
    assert memory.number(FAILURES) == 1


def test_two_observers_of_one_provider_and_a_second_provider_get_what_is_theirs(memory: Memory) -> None:
    other = Memory()
    first, second = (OpenTelemetryObserver(memory.tracers, memory.meters) for _ in range(2))
    third = OpenTelemetryObserver(other.tracers, other.meters)
    for observer, times in ((first, 1), (second, 2), (third, 4)):
        for _ in range(times):
            observer.on_event(recorded(failure(Kind.TIMED_OUT)))
    assert memory.number(FAILURES) == 3
    assert other.number(FAILURES) == 4
    other.close()


def test_what_waits_is_exported_when_the_program_ends() -> None:
    exported: list[str] = []

    class Exporter(MetricExporter):
        def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: object) -> MetricExportResult:
            del timeout_millis
            for resource in metrics_data.resource_metrics:
                exported.extend(metric.name for scope in resource.scope_metrics for metric in scope.metrics)
            return MetricExportResult.SUCCESS

        def force_flush(self, timeout_millis: float = 0) -> bool:
            del timeout_millis
            return True

        def shutdown(self, timeout_millis: float = 0, **_: object) -> None:
            del timeout_millis

    meters = MeterProvider([PeriodicExportingMetricReader(Exporter(), export_interval_millis=3_600_000)])
    observer = OpenTelemetryObserver(None, meters)
    observer.on_event(recorded())
    meters.shutdown()
    assert FAILURES in exported


def test_of_a_request_only_the_ids_of_its_span_are_kept(memory: Memory) -> None:
    observer = OpenTelemetryObserver(None, memory.meters)
    context, request = memory.request()
    before = len(gc.get_referrers(request))
    observer.on_event(recorded(context=context))
    assert len(gc.get_referrers(request)) == before
    assert memory.number(FAILURES) == 1
