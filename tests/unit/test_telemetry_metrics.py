"""Every metric: which events feed it, with which attributes; and totals that never shrink."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest

from holdwire.events import (
    CloseReason,
    ConnectionClosed,
    HeartbeatAnswered,
    HeartbeatMissed,
    PoolWaited,
    Reconnected,
    RequestRetried,
    register_stats,
)
from holdwire.policy.kind import Kind
from holdwire.policy.phase import Phase
from holdwire.policy.retry import Evidence, RetryAction, Verdict
from holdwire.telemetry import OpenTelemetryObserver, settle
from holdwire.telemetry.limiter import MAX_ORIGINS
from holdwire.telemetry.metrics import METRICS, Instrument
from holdwire.telemetry.totals import Totals
from tests.garbage import collect_everything
from tests.telemetry_samples import NOW, RETRIED, SECOND, SURFACED, Memory, failure, recorded, set_up, step

if TYPE_CHECKING:
    from collections.abc import Iterator

ORIGIN = {"server.address": "api.example", "server.port": 443}


class Source:
    """Counts as a pool does."""

    def __init__(self, host: str = "api.example", **counts: Any) -> None:
        self.entries = [entry(host, **counts)]

    def stats(self) -> list[dict[str, Any]]:
        return self.entries


def entry(host: str = "api.example", **counts: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "host": host,
        "port": 443,
        "requests_ok": 0,
        "requests_recovered": 0,
        "requests_failed": 0,
        "opened": 0,
        "reused": 0,
        "closed": {},
        "idle": 0,
        "active": 0,
        "http_version": "1.1",
    }
    return {**empty, **counts}


@pytest.fixture(scope="module", autouse=True)
def no_other_pools() -> None:
    """Their counts would be told too."""
    collect_everything()


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    monkeypatch.setattr("holdwire.telemetry.totals._TOTALS", Totals())
    memory = Memory()
    yield memory
    memory.close()


@pytest.fixture
def tell(memory: Memory) -> OpenTelemetryObserver:
    return OpenTelemetryObserver(memory.tracers, memory.meters)


def closed(reason: CloseReason, **changes: Any) -> ConnectionClosed:
    values: dict[str, Any] = {
        "host": "api.example",
        "port": 443,
        "connection_id": "c1",
        "reason": reason,
        "age": 400.0,
        "idle": 351.0,
        "requests": 3,
    }
    return ConnectionClosed(**{**values, **changes})


def test_every_metric_has_a_name_of_its_own_and_every_histogram_its_limits() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS) == 17
    for metric in METRICS:
        assert metric.says
        assert bool(metric.buckets) is (metric.instrument is Instrument.HISTOGRAM)
        assert list(metric.buckets) == sorted(metric.buckets)
        if metric.instrument is Instrument.HISTOGRAM:
            assert metric.unit == "s"


def test_failures_are_counted_with_their_sort_and_no_identity(memory: Memory, tell: OpenTelemetryObserver) -> None:
    tell.on_event(recorded(failure()))
    tell.on_event(recorded(failure(phase=Phase.IDLE), deaths=5))
    tell.on_event(recorded(failure(Kind.CERTIFICATE_INVALID, Phase.TLS_HANDSHAKE, syscall=None)))
    sort = {"error.type": "connection_reset", "holdwire.syscall": "recv"}
    assert memory.points("holdwire.connection.failures") == [
        ({**ORIGIN, **sort, "holdwire.phase": "response_wait"}, 1),
        ({**ORIGIN, **sort, "holdwire.phase": "idle"}, 5),
        ({**ORIGIN, "error.type": "certificate_invalid", "holdwire.phase": "tls_handshake"}, 1),
    ]


def test_a_failure_count_carries_its_trace_as_exemplar(memory: Memory, tell: OpenTelemetryObserver) -> None:
    context, request = memory.request()
    tell.on_event(recorded(context=context))
    data = memory.reader.get_metrics_data()
    assert data is not None
    (point,) = [
        point
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "holdwire.connection.failures"
        for point in metric.data.data_points
    ]
    assert [exemplar.trace_id for exemplar in point.exemplars] == [request.get_span_context().trace_id]


def test_set_ups_are_timed_step_by_step(memory: Memory, tell: OpenTelemetryObserver) -> None:
    refused = failure(Kind.CONNECTION_REFUSED, Phase.CONNECT)
    lacking = step(what=failure(Kind.NETWORK_UNREACHABLE, Phase.CONNECT), quiet=True)
    tell.on_event(set_up(step(Phase.DNS), lacking, step(what=refused), step(), step(Phase.TLS_HANDSHAKE)))
    tell.on_event(set_up(step(what=refused), connection_id=None, failure=refused))
    points = memory.points("holdwire.connection.setup.duration")
    assert [(has, point.count, point.sum) for has, point in points] == [
        ({**ORIGIN, "holdwire.phase": "dns"}, 1, pytest.approx(0.01)),
        ({**ORIGIN, "holdwire.phase": "connect", "error.type": "connection_refused"}, 2, pytest.approx(0.02)),
        ({**ORIGIN, "holdwire.phase": "connect"}, 1, pytest.approx(0.01)),
        ({**ORIGIN, "holdwire.phase": "tls_handshake"}, 1, pytest.approx(0.01)),
        ({**ORIGIN, "holdwire.phase": "total"}, 1, pytest.approx(0.04)),
        ({**ORIGIN, "holdwire.phase": "total", "error.type": "connection_refused"}, 1, pytest.approx(0.04)),
    ]


@pytest.mark.parametrize("reason", CloseReason)
def test_the_end_of_a_connection_is_timed_and_idle_limits_show(
    memory: Memory, tell: OpenTelemetryObserver, reason: CloseReason
) -> None:
    what = failure(phase=Phase.IDLE) if reason is CloseReason.FAILURE else None
    tell.on_event(closed(reason, failure=what))
    error = {"error.type": "connection_reset"} if what else {}
    ((has, point),) = memory.points("http.client.connection.duration")
    assert (has, point.sum) == ({**ORIGIN, **error}, 400.0)
    ends = memory.points("holdwire.connection.close.idle")
    if reason not in {CloseReason.PEER_IDLE, CloseReason.FAILURE}:
        assert not ends
        assert not memory.points("holdwire.connection.close.age")
        return
    ((has, point),) = ends
    assert has == {**ORIGIN, "holdwire.close.reason": reason.value, **error}
    limits = list(point.explicit_bounds)
    assert point.bucket_counts[limits.index(350.0)] == 0
    assert point.bucket_counts[limits.index(600.0)] == 1
    ((has, point),) = memory.points("holdwire.connection.close.age")
    assert point.sum == 400.0


def test_retries_and_those_not_made_are_counted_by_reason(memory: Memory, tell: OpenTelemetryObserver) -> None:
    common: dict[str, Any] = {"host": "api.example", "port": 443, "attempt": 1, "delay": 0.0}
    tell.on_event(RequestRetried(verdict=RETRIED, failure=failure(), **common))
    tell.on_event(RequestRetried(verdict=RETRIED, status=503, **common))
    tell.on_event(RequestRetried(verdict=SURFACED, failure=failure(), **common))
    delivered = Verdict(action=RetryAction.DELIVER, evidence=Evidence.NONE, row=27, reason="not_listed")
    tell.on_event(RequestRetried(verdict=delivered, status=503, **common))
    assert memory.points("holdwire.request.retries") == [
        ({**ORIGIN, "error.type": "connection_reset"}, 1),
        ({**ORIGIN, "error.type": "503"}, 1),
    ]
    assert memory.points("holdwire.retry.suppressed") == [
        ({**ORIGIN, "error.type": "connection_reset", "holdwire.retry.reason": "may_have_been_processed"}, 1)
    ]


def test_waits_are_timed_by_method_and_unknown_methods_are_other(memory: Memory, tell: OpenTelemetryObserver) -> None:
    for method in ("GET", "SECRET"):
        tell.on_event(PoolWaited(host="api.example", port=443, method=method, began=NOW, ended=NOW + SECOND))
    points = memory.points("http.client.request.time_in_queue")
    assert [(has["http.request.method"], point.sum) for has, point in points] == [("GET", 1.0), ("_OTHER", 1.0)]


def test_heartbeats_are_timed_and_misses_counted(memory: Memory, tell: OpenTelemetryObserver) -> None:
    common: dict[str, Any] = {"host": "api.example", "port": 443, "connection_id": "c1", "kind": "http2_ping"}
    tell.on_event(HeartbeatAnswered(rtt=0.02, **common))
    tell.on_event(HeartbeatMissed(waited=20.0, **common))
    kind = {**ORIGIN, "holdwire.heartbeat.kind": "http2_ping"}
    points = memory.points("holdwire.heartbeat.duration")
    assert [(has, point.sum) for has, point in points] == [(kind, 0.02), ({**kind, "error.type": "heartbeat_lost"}, 20)]
    assert memory.points("holdwire.heartbeat.misses") == [(kind, 1)]


def test_reconnects_are_counted_by_attempt_and_timed_by_episode(memory: Memory, tell: OpenTelemetryObserver) -> None:
    attempts = ((0.0, "timed_out"), (1.0, "timed_out"), (2.0, "ok"))
    tell.on_event(
        Reconnected(host="api.example", port=443, began=NOW, ended=NOW + 3 * SECOND, attempts=attempts, ok=True)
    )
    assert memory.points("holdwire.reconnect.attempts") == [
        ({**ORIGIN, "holdwire.outcome": "failed", "error.type": "timed_out"}, 2),
        ({**ORIGIN, "holdwire.outcome": "ok"}, 1),
    ]
    ((has, point),) = memory.points("holdwire.reconnect.duration")
    assert (has, point.sum) == ({**ORIGIN, "holdwire.outcome": "ok"}, 3.0)


def test_metrics_tell_at_most_200_origins_apart(memory: Memory, tell: OpenTelemetryObserver) -> None:
    for number in range(MAX_ORIGINS + 50):
        tell.on_event(recorded(failure(host=f"h{number}")))
    points = memory.points("holdwire.connection.failures")
    assert len(points) == MAX_ORIGINS + 1
    assert memory.number("holdwire.connection.failures", server__address="_OTHER") == 50


def test_every_attribute_of_every_point_is_in_the_catalogue(memory: Memory, tell: OpenTelemetryObserver) -> None:
    source = Source(requests_ok=1, opened=1, reused=1, closed={CloseReason.IDLE: 1}, idle=1)
    register_stats(source)
    common: dict[str, Any] = {"host": "api.example", "port": 443}
    beat: dict[str, Any] = {**common, "connection_id": "c1", "kind": "tcp"}
    for event in (
        recorded(),
        set_up(step(), step(what=failure())),
        closed(CloseReason.FAILURE, failure=failure()),
        RequestRetried(verdict=RETRIED, attempt=1, delay=0.0, failure=failure(), **common),
        RequestRetried(verdict=SURFACED, attempt=1, delay=0.0, failure=failure(), **common),
        PoolWaited(method="GET", began=NOW, ended=NOW, **common),
        HeartbeatAnswered(rtt=0.1, **beat),
        HeartbeatMissed(waited=0.1, **beat),
        Reconnected(began=NOW, ended=NOW, attempts=((0.0, "timed_out"),), ok=False, **common),
    ):
        tell.on_event(event)
    data = memory.reader.get_metrics_data()
    assert data is not None
    exported = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert set(exported) == {metric.name for metric in METRICS}
    for metric in METRICS:
        assert exported[metric.name].unit == metric.unit
        assert exported[metric.name].description == metric.says
        for point in exported[metric.name].data.data_points:
            assert set(point.attributes or {}) <= set(metric.attributes), metric.name
            if metric.buckets:
                assert list(getattr(point, "explicit_bounds", ())) == list(metric.buckets)


# --- what is read when a reader collects ---


def test_a_pools_counts_are_read_when_a_reader_collects(memory: Memory, tell: OpenTelemetryObserver) -> None:
    source = Source(
        requests_ok=7,
        requests_recovered=2,
        requests_failed=1,
        opened=3,
        reused=6,
        closed={CloseReason.PEER_IDLE: 1, CloseReason.MAX_AGE: 2},
        idle=1,
        active=2,
        http_version="2",
    )
    register_stats(source)
    assert {has["holdwire.outcome"]: value for has, value in memory.points("holdwire.requests")} == {
        "ok": 7,
        "recovered": 2,
        "failed": 1,
    }
    assert memory.points("holdwire.connection.opened") == [(ORIGIN, 3)]
    assert memory.points("holdwire.connection.reused") == [(ORIGIN, 6)]
    assert {has["holdwire.close.reason"]: value for has, value in memory.points("holdwire.connection.closed")} == {
        "peer_idle": 1,
        "max_age": 2,
    }
    version = {"network.protocol.version": "2"}
    assert memory.points("http.client.open_connections") == [
        ({**ORIGIN, "http.connection.state": "active", **version}, 2),
        ({**ORIGIN, "http.connection.state": "idle", **version}, 1),
    ]


def test_two_pools_of_one_origin_are_one_series(memory: Memory, tell: OpenTelemetryObserver) -> None:
    first, second = Source(requests_ok=7, idle=1), Source(requests_ok=5, idle=1)
    register_stats(first)
    register_stats(second)
    assert memory.number("holdwire.requests", holdwire__outcome="ok") == 12
    assert memory.number("http.client.open_connections", http__connection__state="idle") == 2


def test_a_counter_does_not_shrink_when_a_pool_is_collected(memory: Memory, tell: OpenTelemetryObserver) -> None:
    first, second = Source(requests_ok=7, idle=1), Source(requests_ok=5)
    register_stats(first)
    register_stats(second)
    assert memory.number("holdwire.requests", holdwire__outcome="ok") == 12
    del first
    gc.collect()
    second.entries = [entry(requests_ok=6)]
    assert memory.number("holdwire.requests", holdwire__outcome="ok") == 13
    assert memory.number("http.client.open_connections") == 0


def test_a_pool_that_ends_between_two_collections_is_counted_if_it_settles(
    memory: Memory, tell: OpenTelemetryObserver
) -> None:
    source = Source(requests_ok=7)
    register_stats(source)
    settle(source)
    source.entries[0]["requests_ok"] = 9
    settle(source)
    del source
    gc.collect()
    assert memory.number("holdwire.requests", holdwire__outcome="ok") == 9


def test_a_client_that_is_collected_while_its_numbers_are_read_stops_no_thread_and_is_counted() -> None:
    totals, ends, met = Totals(), Source(requests_ok=7), Source(requests_ok=1)

    class Collects(Source):
        """Where it is read the collector runs, and the finalizer of a client whose pool is ``ends``."""

        def stats(self) -> list[dict[str, Any]]:
            totals.settle(ends)
            return super().stats()

    def use() -> None:
        totals.look([Collects()])
        ends.entries = [entry(requests_ok=9)]
        totals.settle(Collects())
        totals.settle(met)

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    (total,) = totals.look([])
    assert total.counts["requests_ok"] == 10


def test_what_a_source_forgets_is_not_taken_back() -> None:
    totals = Totals()
    source = Source()
    source.entries = [entry(requests_ok=100), entry(requests_ok=50)]
    totals.look([source])
    source.entries = [entry(requests_ok=50)]
    totals.look([source])
    source.entries = [entry(requests_ok=53)]
    (total,) = totals.look([source])
    assert total.counts["requests_ok"] == 153


def test_a_source_that_changes_while_it_is_read_is_read_again_or_left_for_the_next_time() -> None:
    class Busy(Source):
        failures = 2

        def stats(self) -> list[dict[str, Any]]:
            if self.failures:
                self.failures -= 1
                raise RuntimeError("dictionary changed size during iteration")
            return super().stats()

    totals = Totals()
    busy = Busy(requests_ok=1)
    (total,) = totals.look([busy])
    assert total.counts["requests_ok"] == 1
    busy.failures = 3
    busy.entries[0]["requests_ok"] = 5
    (total,) = totals.look([busy])
    assert total.counts["requests_ok"] == 1
    (total,) = totals.look([busy])
    assert total.counts["requests_ok"] == 5


def test_totals_tell_at_most_200_origins_apart() -> None:
    totals = Totals()
    source = Source()
    source.entries = [entry(f"h{number}", requests_ok=1, idle=1) for number in range(MAX_ORIGINS + 50)]
    found = totals.look([source])
    assert len(found) == MAX_ORIGINS + 1
    assert found[-1].attributes == {"server.address": "_OTHER"}
    assert found[-1].counts["requests_ok"] == 50
    assert found[-1].open == {("active", "1.1"): 0, ("idle", "1.1"): 50}


def test_two_readers_at_once_count_nothing_twice() -> None:
    totals = Totals()
    source = Source(requests_ok=1)
    threads = [threading.Thread(target=lambda: [totals.look([source]) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (total,) = totals.look([source])
    assert total.counts["requests_ok"] == 1


def test_a_second_observer_of_a_provider_counts_nothing_twice_and_can_take_over(memory: Memory) -> None:
    source = Source(requests_ok=4)
    register_stats(source)
    first = OpenTelemetryObserver(memory.tracers, memory.meters)
    second = OpenTelemetryObserver(memory.tracers, memory.meters)
    assert memory.number("holdwire.requests", holdwire__outcome="ok") == 4
    first.close()
    del first
    gc.collect()
    assert memory.number("holdwire.requests", holdwire__outcome="ok") == 4
    second.close()
    assert not memory.points("holdwire.requests")


def test_a_provider_without_a_living_observer_hears_nothing_though_another_has_one(memory: Memory) -> None:
    source = Source(requests_ok=4)
    register_stats(source)
    other = Memory()
    first = OpenTelemetryObserver(memory.tracers, memory.meters)
    second = OpenTelemetryObserver(other.tracers, other.meters)
    assert memory.number("holdwire.requests", holdwire__outcome="ok") == 4
    first.close()
    assert not memory.points("holdwire.requests")
    assert other.number("holdwire.requests", holdwire__outcome="ok") == 4
    second.close()
    other.close()
