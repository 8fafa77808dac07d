"""Every metric of holdwire as data (``METRICS``), and ``Metrics``, which feeds them.

Theory of operation. A request that goes well calls no instrument: pools and sessions count in plain integers, and
observable instruments read those when a reader collects. What is rare (a failure, the set-up and end of a connection, a
heartbeat, a reconnect, a wait for the pool) is written into a ``Ledger``, and reaches the synchronous instruments when
a reader collects, too.

The mapping that ``StatsSource.stats()`` gives for each origin has the keys

* ``host``, ``port``: the origin;
* ``requests_ok``, ``requests_recovered`` (failed at least once, then answered), ``requests_failed``: requests;
* ``opened``: connections; ``reused``: requests that got a connection that stood already;
* ``closed``: a dict from ``CloseReason`` to connections;
* ``idle``, ``active``: connections now; ``http_version``: ``"1.1"`` or ``"2"``.

Attributes never hold a connection id, peer address, local port, path or text. Not responsible for spans.
"""

from __future__ import annotations

import contextlib
import enum
import weakref
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from opentelemetry import metrics as otel
from opentelemetry.metrics import Observation

from ..events import (
    CloseReason,
    ConnectionClosed,
    ConnectionSetUp,
    FailureRecorded,
    HeartbeatAnswered,
    HeartbeatMissed,
    PoolWaited,
    Reconnected,
    RequestRetried,
)
from ..policy.kind import Kind
from ._context import span_context
from .ledger import Ledger
from .limiter import OTHER, Origins, is_silent
from .totals import CLOSED, totals
from .words import METHODS, SUPPRESSED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, MeterProvider
    from opentelemetry.trace import SpanContext

    from ..events import Event, SetupStep
    from ..policy.failure import Failure
    from .totals import OriginTotals

__all__ = ["METRICS", "Instrument", "Metric", "Metrics"]


class Instrument(enum.Enum):
    """The kinds of instruments that holdwire uses."""

    COUNTER = "Counter"
    HISTOGRAM = "Histogram"
    OBSERVABLE_COUNTER = "ObservableCounter"
    OBSERVABLE_UP_DOWN_COUNTER = "ObservableUpDownCounter"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metric:
    """One metric. ``buckets`` are the limits of a histogram, ``attributes`` all that it can carry."""

    name: str
    instrument: Instrument
    unit: str
    says: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...] = ()


_SERVER: Final = ("server.address", "server.port")
_OUTCOME: Final = "holdwire.outcome"
_PHASE: Final = "holdwire.phase"
_REASON: Final = "holdwire.close.reason"
_STATE: Final = "http.connection.state"
_VERSION: Final = "network.protocol.version"
_HEARTBEAT: Final = "holdwire.heartbeat.kind"
_ERROR: Final = "error.type"
_SETUP_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_DURATION_BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_QUEUE_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_RECONNECT_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_BEAT_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_CLOSE_BUCKETS: Final = (
    *(1.0, 5.0, 10.0, 15.0, 30.0, 50.0, 60.0, 75.0, 100.0),
    *(120.0, 180.0, 240.0, 300.0, 350.0, 600.0, 900.0, 1800.0, 3600.0),
)
"""Among them the well-known idle limits, so that each shows as a step of its own."""


def _counter(name: str, unit: str, says: str, *attributes: str) -> Metric:
    return Metric(name=name, instrument=Instrument.COUNTER, unit=unit, says=says, attributes=(*_SERVER, *attributes))


def _histogram(name: str, says: str, buckets: tuple[float, ...], *attributes: str) -> Metric:
    return Metric(
        name=name,
        instrument=Instrument.HISTOGRAM,
        unit="s",
        says=says,
        attributes=(*_SERVER, *attributes),
        buckets=buckets,
    )


def _observable(name: str, unit: str, says: str, *attributes: str) -> Metric:
    return Metric(
        name=name, instrument=Instrument.OBSERVABLE_COUNTER, unit=unit, says=says, attributes=(*_SERVER, *attributes)
    )


OPEN: Final = Metric(
    name="http.client.open_connections",
    instrument=Instrument.OBSERVABLE_UP_DOWN_COUNTER,
    unit="{connection}",
    says="Connections that are open, by state",
    attributes=(*_SERVER, _STATE, _VERSION),
)
REQUESTS: Final = _observable(
    "holdwire.requests", "{request}", "Requests by outcome: ok, recovered (failed at least once) or failed", _OUTCOME
)
OPENED: Final = _observable("holdwire.connection.opened", "{connection}", "Connections opened")
REUSED: Final = _observable("holdwire.connection.reused", "{request}", "Requests that reused a connection")
CLOSED_BY: Final = _observable("holdwire.connection.closed", "{connection}", "Connections closed, by reason", _REASON)
CONNECTION_DURATION: Final = _histogram(
    "http.client.connection.duration", "How long connections stood", _DURATION_BUCKETS, _ERROR
)
TIME_IN_QUEUE: Final = _histogram(
    "http.client.request.time_in_queue",
    "How long requests waited for a connection, of those that waited",
    _QUEUE_BUCKETS,
    "http.request.method",
)
SETUP_DURATION: Final = _histogram(
    "holdwire.connection.setup.duration", "How long each step of setting up took", _SETUP_BUCKETS, _PHASE, _ERROR
)
CLOSE_AGE: Final = _histogram(
    "holdwire.connection.close.age",
    "Age of connections that the peer or a failure ended",
    _CLOSE_BUCKETS,
    _REASON,
    _ERROR,
)
CLOSE_IDLE: Final = _histogram(
    "holdwire.connection.close.idle",
    "Idle time of connections that the peer or a failure ended",
    _CLOSE_BUCKETS,
    _REASON,
    _ERROR,
)
FAILURES: Final = _counter(
    "holdwire.connection.failures", "{failure}", "Failures of connections", _ERROR, _PHASE, "holdwire.syscall"
)
RECONNECT_ATTEMPTS: Final = _counter(
    "holdwire.reconnect.attempts", "{attempt}", "Attempts to reconnect, by outcome", _OUTCOME, _ERROR
)
RECONNECT_DURATION: Final = _histogram(
    "holdwire.reconnect.duration", "How long it took to be connected again", _RECONNECT_BUCKETS, _OUTCOME
)
RETRIES: Final = _counter("holdwire.request.retries", "{request}", "Requests that were sent again", _ERROR)
RETRIES_SUPPRESSED: Final = _counter(
    "holdwire.retry.suppressed", "{request}", "Retries that were not made, by reason", _ERROR, "holdwire.retry.reason"
)
HEARTBEAT_DURATION: Final = _histogram(
    "holdwire.heartbeat.duration", "Round trips of heartbeats", _BEAT_BUCKETS, _HEARTBEAT, _ERROR
)
HEARTBEAT_MISSES: Final = _counter(
    "holdwire.heartbeat.misses", "{heartbeat}", "Heartbeats that were not answered in time", _HEARTBEAT
)

METRICS: Final[tuple[Metric, ...]] = (
    *(OPEN, REQUESTS, OPENED, REUSED, CLOSED_BY),
    *(CONNECTION_DURATION, TIME_IN_QUEUE, SETUP_DURATION, CLOSE_AGE, CLOSE_IDLE, FAILURES),
    *(RECONNECT_ATTEMPTS, RECONNECT_DURATION, RETRIES, RETRIES_SUPPRESSED, HEARTBEAT_DURATION, HEARTBEAT_MISSES),
)
"""All metrics, in the order in which the documentation shows them. An attribute that does not apply is left out."""

_ENDED_BY_OTHERS: Final = frozenset({CloseReason.PEER_IDLE, CloseReason.FAILURE})
_OUTCOMES: Final = (
    ("requests_ok", {_OUTCOME: "ok"}),
    ("requests_recovered", {_OUTCOME: "recovered"}),
    ("requests_failed", {_OUTCOME: "failed"}),
)


class _OfOrigin(Protocol):
    """An event that says its origin."""

    @property
    def host(self) -> str | None: ...
    @property
    def port(self) -> int | None: ...


_living: weakref.WeakSet[Metrics] = weakref.WeakSet()
_left: deque[tuple[MeterProvider | None, Ledger]] = deque(maxlen=64)
"""What instances have left behind that were not closed."""


class Metrics:
    """Feeds the instruments of one meter provider. Observable ones speak as long as an instance for it lives.

    Args:
        meter: Of the scope ``holdwire``.
        provider: Where ``meter`` comes from; None for the global provider, whichever that will be.
    """

    def __init__(self, meter: Meter, provider: MeterProvider | None) -> None:
        self._provider = provider
        self._origins = Origins()
        self._ledger = Ledger()
        self._counters: dict[Metric, Counter] = {}
        self._histograms: dict[Metric, Histogram] = {}
        for metric in METRICS:
            self._create(meter, metric)
        _living.add(self)
        weakref.finalize(self, _left.append, (provider, self._ledger)).atexit = False

    @property
    def provider(self) -> MeterProvider:
        """The provider that is meant now: the global one may have been set after this was made."""
        return _meant(self._provider)

    def settle(self) -> None:
        """Tell the instruments what waits for a reader."""
        self._ledger.settle()

    def close(self) -> None:
        """Stop the observable instruments, unless another instance for the same provider lives."""
        _living.discard(self)
        self.settle()

    def _create(self, meter: Meter, metric: Metric) -> None:
        name, unit, says = metric.name, metric.unit, metric.says
        match metric.instrument:
            case Instrument.COUNTER:
                self._counters[metric] = meter.create_counter(name, unit, says)
            case Instrument.HISTOGRAM:
                self._histograms[metric] = meter.create_histogram(
                    name, unit, says, explicit_bucket_boundaries_advisory=metric.buckets
                )
            case Instrument.OBSERVABLE_COUNTER:
                meter.create_observable_counter(name, [partial(_observe, metric, self._provider)], unit, says)
            case Instrument.OBSERVABLE_UP_DOWN_COUNTER:
                meter.create_observable_up_down_counter(name, [partial(_observe, metric, self._provider)], unit, says)

    def record(self, event: Event, request: Context | None) -> None:
        """Count ``event``. ``request`` links the numbers to its trace (exemplars)."""
        match event:
            case FailureRecorded():
                self._failure(event, request)
            case ConnectionSetUp():
                self._setup(event, request)
            case ConnectionClosed():
                self._closed(event)
            case RequestRetried():
                self._retried(event, request)
            case PoolWaited():
                method = event.method if event.method in METHODS else OTHER
                self._time(TIME_IN_QUEUE, event, _seconds(event), method)
            case HeartbeatAnswered():
                self._time(HEARTBEAT_DURATION, event, event.rtt, event.kind, None)
            case HeartbeatMissed():
                self._count(HEARTBEAT_MISSES, event, 1, None, event.kind)
                self._time(HEARTBEAT_DURATION, event, event.waited, event.kind, Kind.HEARTBEAT_LOST.value)
            case Reconnected():
                self._reconnected(event)

    def _failure(self, event: FailureRecorded, request: Context | None) -> None:
        if is_silent(event):
            return
        failure = event.failure
        self._count(FAILURES, failure, event.deaths, request, _error(failure), failure.phase.value, failure.syscall)

    def _setup(self, event: ConnectionSetUp, request: Context | None) -> None:
        span = span_context(request)
        for step in event.steps:
            if not step.quiet:
                self._time(SETUP_DURATION, event, _seconds(step), step.phase.value, _error(step.failure), span=span)
        error = _error(event.failure) if event.connection_id is None else None
        self._time(SETUP_DURATION, event, _seconds(event), "total", error, span=span)

    def _closed(self, event: ConnectionClosed) -> None:
        error = _error(event.failure)
        self._time(CONNECTION_DURATION, event, event.age, error)
        if event.reason in _ENDED_BY_OTHERS:
            self._time(CLOSE_AGE, event, event.age, event.reason.value, error)
            self._time(CLOSE_IDLE, event, event.idle, event.reason.value, error)

    def _retried(self, event: RequestRetried, request: Context | None) -> None:
        verdict = event.verdict
        error = _error(event.failure) or (OTHER if event.status is None else str(event.status))
        if verdict.retries:
            self._count(RETRIES, event, 1, request, error)
        elif verdict.reason in SUPPRESSED:
            self._count(RETRIES_SUPPRESSED, event, 1, request, error, verdict.reason)

    def _reconnected(self, event: Reconnected) -> None:
        for _, outcome in event.attempts:
            more = ("ok", None) if outcome == "ok" else ("failed", outcome)
            self._count(RECONNECT_ATTEMPTS, event, 1, None, *more)
        self._time(RECONNECT_DURATION, event, _seconds(event), "ok" if event.ok else "failed")

    def _count(self, metric: Metric, of: _OfOrigin, number: int, request: Context | None, *values: str | None) -> None:
        """Write down a count; ``values`` are the metric's attributes after the origin."""
        key = (*self._origins.pair(of.host, of.port), *values)
        self._ledger.count(self._counters[metric], metric.attributes, key, number, span_context(request))

    def _time(
        self, metric: Metric, of: _OfOrigin, seconds: float, *values: str | None, span: SpanContext | None = None
    ) -> None:
        """The same for a time."""
        key = (*self._origins.pair(of.host, of.port), *values)
        self._ledger.time(self._histograms[metric], metric.attributes, key, seconds, span)


def _error(failure: Failure | None) -> str | None:
    return None if failure is None else failure.kind.value


def _seconds(of: ConnectionSetUp | PoolWaited | Reconnected | SetupStep) -> float:
    return max(of.ended - of.began, 0) / 1e9


def _meant(provider: MeterProvider | None) -> MeterProvider:
    return otel.get_meter_provider() if provider is None else provider


def _observe(metric: Metric, provider: MeterProvider | None, _options: CallbackOptions) -> Iterable[Observation]:
    """What a reader collects. A provider keeps the first callback of a metric for good, hence no instance here."""
    wanted = _meant(provider)
    for one in list(_left):
        if _meant(one[0]) is wanted:
            with contextlib.suppress(ValueError):  # another reader was quicker
                _left.remove(one)
            one[1].settle()
    living = [instance for instance in list(_living) if instance.provider is wanted]
    for instance in living:
        instance.settle()
    if not living:
        return
    for total in totals():
        for value, more in _numbers(metric, total):
            yield Observation(value, {**total.attributes, **more})


def _numbers(metric: Metric, total: OriginTotals) -> Iterable[tuple[int, dict[str, str]]]:
    """The values of one observable metric for one origin."""
    counts = total.counts
    if metric is OPEN:
        for (state, version), number in total.open.items():
            yield number, {_STATE: state, _VERSION: version}
    elif metric is REQUESTS:
        for key, more in _OUTCOMES:
            yield counts.get(key, 0), more
    elif metric is CLOSED_BY:
        for key, number in counts.items():
            if key.startswith(f"{CLOSED}."):
                yield number, {_REASON: key.removeprefix(f"{CLOSED}.")}
    else:
        yield counts.get("opened" if metric is OPENED else "reused", 0), {}
