"""What telemetry costs: a failure with everything known, a new connection, a happy request; and a storm.

Run it with ``nox -s bench -- telemetry``. Prints microseconds of CPU per event, best of several rounds that are
interleaved, and the ratio to one bare span of twelve attributes with the same providers, so that runs on different
machines can be compared. "Later" is what the thread of a metric reader does when it collects. "The span alone" is the
same span without holdwire, its attributes at hand: what the SDK itself takes. Says whether the budgets are kept. With
``--instructions`` it counts instructions under valgrind instead, which no other load can disturb.
"""

from __future__ import annotations

import contextvars
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

sys.path.insert(0, str(Path(__file__).parent.parent))

from holdwire.events import CloseReason, ConnectionClosed
from holdwire.http.messages import Origin, Request
from holdwire.http.pool import OriginStats
from holdwire.policy.flight import SIZE, Flight, Mark, Moment
from holdwire.policy.history import OriginHistory
from holdwire.policy.idle_limit import YOUNG
from holdwire.policy.phase import Phase
from holdwire.telemetry import ClientSpans, LogObserver, OpenTelemetryObserver, RecentFailures
from holdwire.telemetry._attributes import failure_attributes
from tests.telemetry_samples import NOW, RETRIED, SECOND, TCP, full_failure, recorded, set_up, step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

CALLS: Final = 100
WARM_UP: Final = 20
COUNTED: Final = 50
ROUNDS: Final = 45
BUDGET: Final = 80.0
"""Microseconds for a failure with an SDK and a batch processor."""
HAPPY_BUDGET: Final = 1.0
"""The same for a request that goes well: no SDK is called, whatever is installed."""


class Drop(SpanExporter):
    """Takes spans and forgets them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


class Bench:
    """One configuration of providers."""

    def __init__(self, name: str, tracers: trace.TracerProvider, meters: metrics.MeterProvider) -> None:
        self.name = name
        self.tracer = tracers.get_tracer("bench")
        self.observer = OpenTelemetryObserver(tracers, meters)
        self.observer._write._patience = math.inf  # noqa: SLF001 - a busy machine is no exporter that blocks
        with trace.use_span(self.tracer.start_span("GET")):
            self.context = contextvars.copy_context()
        self.request = self.context.run(otel.get_current)
        event = recorded(FAILURE, context=self.context, verdict=RETRIED, attempt=2)
        self.attributes = failure_attributes(event, 0)
        self.second = 0

    def settle(self) -> None:
        """What a metric reader's thread does later."""
        self.observer._metrics.settle()  # noqa: SLF001

    def baseline(self) -> None:
        """One bare span with twelve attributes and a status."""
        span = self.tracer.start_span("baseline", attributes={f"holdwire.attribute.{n}": n for n in range(12)})
        span.set_status(trace.StatusCode.ERROR, "words")
        span.end()

    def the_span_alone(self) -> None:
        """The span of ``failure``, by hand."""
        span = self.tracer.start_span(
            "holdwire syscall_failure recv", self.request, attributes=self.attributes, start_time=NOW
        )
        span.set_status(trace.Status(trace.StatusCode.ERROR, "words"))
        span.end(NOW)

    def failure(self) -> None:
        """A failure of which all is known: a span and a count."""
        self.second += 1
        self.observer.on_event(
            recorded(FAILURE, at=NOW + self.second * SECOND, context=self.context, verdict=RETRIED, attempt=2)
        )

    def typical(self) -> None:
        """A failure with what a reset on a plain connection has to say."""
        self.second += 1
        self.observer.on_event(recorded(TYPICAL, at=NOW + self.second * SECOND, context=self.context, verdict=RETRIED))

    def lost_connection(self) -> None:
        """The same with the end of its connection: three histograms more."""
        self.failure()
        self.observer.on_event(CLOSED)

    def held_back(self) -> None:
        """One more failure of a storm."""
        self.observer.on_event(recorded(FAILURE, at=NOW, context=self.context, verdict=RETRIED))

    def new_connection(self) -> None:
        """A set-up with name resolution, connect and handshake: four spans, four histogram values."""
        self.observer.on_event(set_up(*STEPS, context=self.context))


_OF_EACH: Final = (
    *("baseline", "the_span_alone", "typical", "failure"),
    *("lost_connection", "held_back", "new_connection"),
)
PLAIN_TCP: Final = replace(
    TCP, retransmits=0, total_retrans=0, unacked=0, notsent_bytes=0, total_rto=0, total_rto_time=0
)
FAILURE: Final = full_failure(flight=tuple(Moment(n / 3, Mark.REQUEST, n) for n in range(SIZE)))
TYPICAL: Final = FAILURE.evolve(tls=None, requests=0, outq=None, flight=FAILURE.flight[:4], tcp=PLAIN_TCP)
CLOSED: Final = ConnectionClosed(
    host="api.example",
    port=443,
    connection_id="c1",
    reason=CloseReason.FAILURE,
    age=61.5,
    idle=2.5,
    requests=7,
    failure=FAILURE,
)
STEPS: Final = (step(), step(), step())


def happy() -> Callable[[], None]:
    """What telemetry costs a request that goes well.

    Its counters, the saved context, three moments of its flight, and looking whether CLIENT spans are wanted.
    """
    stats, flight = OriginStats(), Flight()
    sent = Request(b"GET", Origin("http", "api.example", 80), b"/", [])
    idle_before, written, idle_since = 0.5, time.monotonic(), time.monotonic()

    def request() -> None:
        contextvars.copy_context()
        if ClientSpans.in_use or sent.spans is not None or sent.spans is not None or sent.spans is not None:
            raise AssertionError
        stats.reused += 1
        flight.append((written, Mark.REQUEST, 7))
        flight.append((time.monotonic(), Mark.RESPONSE, 200))
        if idle_before >= YOUNG:
            raise AssertionError
        flight.append((idle_since, Mark.IDLE, -1))
        stats.ok += 1

    return request


def explaining() -> Callable[[], None]:
    """What it costs to look for the cause in the history of the origin, when nothing is known and when a limit is."""
    history = OriginHistory()
    for n in range(30):
        history.ended_idle(400.0 * n, idle=350.0, failure=FAILURE)
    reset = FAILURE.evolve(phase=Phase.RESPONSE_WAIT)

    return lambda: history.failed(20_000.0, reset, idle=0.0, answers=1) and None


def other_observers() -> dict[str, Callable[[], None]]:
    """The log, to a handler that throws lines away, and the ring."""
    logger = logging.getLogger("holdwire.bench")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    logger.setLevel(logging.INFO)
    log, ring = LogObserver(logger), RecentFailures()
    second = 0

    def line() -> None:
        nonlocal second
        second += 1
        log.on_event(recorded(FAILURE, at=NOW + second * SECOND, verdict=RETRIED))

    event = recorded(FAILURE, verdict=RETRIED)
    return {"log line": line, "ring": lambda: ring.on_event(event), "making the sample event": make_event}


def make_event() -> None:
    """What of the numbers above is the sample itself."""
    recorded(FAILURE, at=NOW, verdict=RETRIED)


def measure(cases: dict[str, Callable[[], None]], settles: list[Callable[[], None]]) -> dict[str, tuple[float, float]]:
    """Microseconds of CPU of one call each, and of what it leaves to a reader: best of interleaved rounds."""
    best = dict.fromkeys(cases, (math.inf, math.inf))
    for _ in range(ROUNDS):
        for name, case in cases.items():
            began = time.thread_time_ns()
            for _ in range(CALLS):
                case()
            ended = time.thread_time_ns()
            for settle in settles:
                settle()
            found = ((ended - began) / CALLS / 1000, (time.thread_time_ns() - ended) / CALLS / 1000)
            best[name] = (min(best[name][0], found[0]), min(best[name][1], found[1]))
    return best


def count(cases: dict[str, Callable[[], None]]) -> None:
    """Run each case between two calls that valgrind notices; one segment each."""
    for case in cases.values():
        for _ in range(WARM_UP):
            case()
        os.getppid()
        for _ in range(COUNTED):
            case()
        os.getppid()


def instructions(names: list[str]) -> dict[str, float]:
    """Thousands of instructions of one call of each case, counted in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        valgrind = ["valgrind", "--tool=callgrind", "--dump-before=os_getppid", f"--callgrind-out-file={out}"]
        subprocess.run([*valgrind, sys.executable, __file__, "--count"], check=True, capture_output=True)
        # segment 2n + 1 is the n-th case: each was opened and closed by a call
        segments = [Path(f"{out}.{2 * number + 2}").read_text() for number in range(len(names))]
    totals = [int(text.rpartition("totals: ")[2].split()[0]) for text in segments]
    return {name: total / COUNTED / 1000 for name, total in zip(names, totals, strict=True)}


def main() -> int:
    """Measure, print, and say whether the budget is kept."""
    recording = TracerProvider()
    recording.add_span_processor(BatchSpanProcessor(Drop(), max_queue_size=100_000))
    benches = [
        Bench("no SDK", trace.NoOpTracerProvider(), metrics.NoOpMeterProvider()),
        Bench("SDK, sampled out", TracerProvider(sampler=ALWAYS_OFF), MeterProvider([InMemoryMetricReader()])),
        Bench("SDK", TracerProvider(), MeterProvider([InMemoryMetricReader()])),
        Bench("SDK, batch processor", recording, MeterProvider([InMemoryMetricReader()])),
    ]
    cases: dict[str, Callable[[], None]] = {
        "happy request": happy(),
        "finding the cause": explaining(),
        **other_observers(),
    }
    for bench in benches:
        for what in _OF_EACH:
            cases[f"{bench.name}: {what.replace('_', ' ')}"] = getattr(bench, what)
    if "--count" in sys.argv:
        count(cases)
        return 0
    counted = "--instructions" in sys.argv
    later: dict[str, float] = {}
    if counted:
        found = instructions(list(cases))
    else:
        measured = measure(cases, [bench.settle for bench in benches])
        found = {name: cost for name, (cost, _) in measured.items()}
        later = {name: cost for name, (_, cost) in measured.items() if cost >= 1}
    print(f"{'':44}{'1000 ins.' if counted else 'us':>9}{'x baseline':>12}{'later':>9}")
    for name, cost in found.items():
        base = found.get(f"{name.partition(':')[0]}: baseline")
        ratio = "" if base is None else f"{cost / base:.2f}"
        print(f"{name:44}{cost:9.2f}{ratio:>12}" + (f"{later[name]:9.2f}" if name in later else ""))
    if counted:
        return 0
    sample = found["making the sample event"]
    costs = {
        "a failure with all attributes that ends its connection": (
            found["SDK, batch processor: lost connection"] - sample,
            BUDGET,
        ),
        "a failure with all attributes": (found["SDK, batch processor: failure"] - sample, BUDGET),
        "a typical failure": (found["SDK, batch processor: typical"] - sample, BUDGET),
        "a happy request": (found["happy request"], HAPPY_BUDGET),
    }
    for name, (cost, budget) in costs.items():
        print(f"{name}: {cost:.1f} us, budget {budget:.0f} us, {'kept' if cost <= budget else 'NOT kept'}")
    recording.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
