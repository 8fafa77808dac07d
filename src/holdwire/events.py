"""What happened, as frozen records, and the protocol of those who want to know.

Observers are told and never asked: one that raises is reported once and cannot disturb I/O. A request that goes
well makes no event at all; what happens often is counted in plain integers (``StatsSource``) that telemetry reads
when it is asked to. Not responsible for spans, metrics or logs (``telemetry``).
"""

from __future__ import annotations

import enum
import logging
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextvars import Context

    from .policy.failure import Failure
    from .policy.phase import Phase
    from .policy.retry import Verdict

__all__ = [
    "AttemptSpan",
    "CloseReason",
    "ConnectionClosed",
    "ConnectionSetUp",
    "Event",
    "FailureRecorded",
    "HeartbeatAnswered",
    "HeartbeatMissed",
    "Observer",
    "Observers",
    "PoolWaited",
    "Reconnected",
    "RequestRetried",
    "SetupStep",
    "SnapshotSource",
    "SpanMaker",
    "StatsSource",
    "register_snapshots",
    "register_stats",
    "snapshot",
    "stats_sources",
    "tell_given_up",
    "tell_setup",
]

logger = logging.getLogger("holdwire")


class CloseReason(enum.StrEnum):
    """Why a connection ended. The values are those of ``holdwire.close.reason``."""

    PEER_IDLE = "peer_idle"
    """The peer ended it cleanly while it was idle."""
    GOAWAY = "goaway"
    RESPONSE = "response"
    """The answer said close, or its framing left no other way."""
    IDLE = "idle"
    MAX_AGE = "max_age"
    MAX_REQUESTS = "max_requests"
    LIMITS = "limits"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    FOREIGN = "foreign"
    """Found to belong to another process or event loop."""
    ACLOSE = "aclose"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class SetupStep:
    """One step of setting a connection up: ``began`` and ``ended`` are Unix times in nanoseconds.

    ``quiet`` marks a failure that is none: an address family that this host does not have, while another won.
    """

    phase: Phase
    began: int
    ended: int
    peer: str | None = None
    peer_port: int | None = None
    failure: Failure | None = None
    quiet: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConnectionSetUp:
    """An attempt to set a connection up has ended; ``connection_id`` is None if none came about.

    ``context`` is the caller's context at the start of its request; None for a connection opened in the background.
    """

    host: str
    port: int
    connection_id: str | None
    began: int
    ended: int
    steps: tuple[SetupStep, ...]
    context: Context | None
    failure: Failure | None = None
    final: bool = False
    """Whether no connection came about and no attempt follows."""
    http_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FailureRecorded:
    """One failure, told exactly once, after the verdict on it.

    ``began`` and ``ended`` are Unix times in nanoseconds: the later of attempt start and last successful I/O, and
    the failure. ``attempt`` counts from 1. ``step`` is the setup step that failed. ``context`` is None for a failure
    outside any request; ``last_context`` is then that of the connection's last request.
    """

    failure: Failure
    began: int
    ended: int
    context: Context | None = None
    last_context: Context | None = None
    verdict: Verdict | None = None
    attempt: int = 1
    step: SetupStep | None = None
    deaths: int = 1
    """How many idle connections of the origin this record stands for."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestRetried:
    """A verdict was reached on an attempt (also one that ended with a response that is not taken for an answer)."""

    host: str
    port: int
    verdict: Verdict
    attempt: int
    delay: float
    context: Context | None = None
    failure: Failure | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolWaited:
    """A request had to wait for a connection; times are Unix nanoseconds.

    ``connection_id`` is the connection that it was given; None if it has to open one, or got none.
    """

    host: str
    port: int
    method: str
    began: int
    ended: int
    context: Context | None = None
    timed_out: bool = False
    connection_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConnectionClosed:
    """An established connection has ended; ``age`` and ``idle`` in seconds at its end."""

    host: str
    port: int
    connection_id: str
    reason: CloseReason
    age: float
    idle: float
    requests: int
    failure: Failure | None = None
    http_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeartbeatAnswered:
    """A heartbeat was answered after ``rtt`` seconds; ``kind`` is http2_ping, ws_ping, options, tcp or
    stream.
    """

    host: str
    port: int
    connection_id: str
    kind: str
    rtt: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeartbeatMissed:
    """A heartbeat was not answered within ``waited`` seconds."""

    host: str
    port: int
    connection_id: str
    kind: str
    waited: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reconnected:
    """One episode of reconnecting has ended. ``attempts``: (seconds waited before, outcome's kind or "ok") each."""

    host: str
    port: int
    began: int
    ended: int
    attempts: tuple[tuple[float, str], ...]
    ok: bool
    context: Context | None = None
    last_context: Context | None = None
    failure: Failure | None = None
    connection_id: str | None = None


Event: TypeAlias = (
    ConnectionSetUp
    | FailureRecorded
    | RequestRetried
    | PoolWaited
    | ConnectionClosed
    | HeartbeatAnswered
    | HeartbeatMissed
    | Reconnected
)


@runtime_checkable
class Observer(Protocol):
    """Wants to be told. Must be quick and must not block: it runs in the event loop, on the failure path only."""

    def on_event(self, event: Event) -> None:
        """Take note of ``event``. What this raises is logged once and dropped."""


class AttemptSpan(Protocol):
    """The span of an attempt that is being made; ``context`` has it as the current one. Nothing here raises."""

    @property
    def context(self) -> Context: ...
    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What the request has to carry."""
        ...

    def answered(self, status: int, http_version: str, connection_id: str) -> None:
        """The head of a response is there."""

    def failed(self, failure: Failure | None) -> None:
        """The attempt ended in an exception."""

    def end(self, at: int) -> None:
        """It was over then: Unix time in nanoseconds."""


class SpanMaker(Protocol):
    """Makes a span for each attempt of a request; an observer that wants them has one as ``span_maker``."""

    def begin(self, method: str, host: str, port: int, number: int, caller: Context | None) -> AttemptSpan | None:
        """Start the span of attempt ``number``; None if there shall be none."""
        ...


_Source = TypeVar("_Source")


class Observers:
    """Tells every observer, in order, behind a guard: none can disturb I/O or the others."""

    __slots__ = ("_members", "_reported")

    def __init__(self, members: Iterable[Observer] = ()) -> None:
        self._members: tuple[Observer, ...] = tuple(members)
        for member in self._members:
            if not callable(getattr(member, "on_event", None)):
                message = f"an observer needs a method on_event(event); {type(member).__name__} has none"
                raise TypeError(message)
        self._reported: set[type[Observer]] = set()

    @property
    def span_maker(self) -> SpanMaker | None:
        """Of the first observer that has one."""
        for member in self._members:
            found: SpanMaker | None = getattr(member, "span_maker", None)
            if found is not None:
                return found
        return None

    def __call__(self, event: Event) -> None:
        for member in self._members:
            try:
                member.on_event(event)
            except Exception:
                if type(member) not in self._reported:
                    self._reported.add(type(member))
                    logger.warning(
                        "observer %s raised and is ignored for this event; said once",
                        type(member).__name__,
                        exc_info=True,
                    )


def tell_setup(setup: ConnectionSetUp, notify: Observers, *, attempt: int = 1, final: bool = False) -> None:
    """Tell how a connection was set up, or not, and of each step that failed on the way.

    ``final``: no connection came about, and no attempt follows.
    """
    notify(replace(setup, final=final))
    for step in setup.steps:
        if step.failure is not None and not step.quiet:
            notify(
                FailureRecorded(
                    failure=step.failure,
                    began=step.began,
                    ended=step.ended,
                    context=setup.context,
                    attempt=attempt,
                    step=step,
                )
            )


def tell_given_up(setup: ConnectionSetUp, notify: Observers, *, attempt: int = 1) -> None:
    """Tell of a set-up that was cancelled, if anything had failed by then: an errno is handed out once."""
    failures = [step.failure for step in setup.steps if step.failure is not None and not step.quiet]
    if failures:
        tell_setup(replace(setup, failure=failures[-1]), notify, attempt=attempt)


class SnapshotSource(Protocol):
    """Something alive that can show what it is doing: a transport."""

    def snapshot(self) -> list[dict[str, Any]]:
        """One mapping for each origin, of plain values."""
        ...


_shown: weakref.WeakSet[SnapshotSource] = weakref.WeakSet()


def register_snapshots(source: SnapshotSource) -> None:
    """Make ``source`` visible to ``snapshot`` for as long as it lives."""
    _shown.add(source)


def snapshot() -> list[dict[str, Any]]:
    """What every transport of this process is doing now: one mapping for each origin of each, its connections in it.

    Of plain values that JSON can hold, without URLs, headers or payloads; may be called from any thread.
    """
    return [entry for source in _members(_shown) for entry in source.snapshot()]


class StatsSource(Protocol):
    """Something alive that counts in plain integers: a pool, a session."""

    def stats(self) -> list[dict[str, Any]]:
        """One mapping for each origin; the keys are documented in ``telemetry.metrics``."""
        ...


_sources: weakref.WeakSet[StatsSource] = weakref.WeakSet()


def register_stats(source: StatsSource) -> None:
    """Make ``source`` visible to metrics for as long as it lives."""
    _sources.add(source)


def stats_sources() -> list[StatsSource]:
    """Every source that is still alive."""
    return _members(_sources)


def _members(of: weakref.WeakSet[_Source]) -> list[_Source]:
    """Those that live; other threads add some meanwhile, which a WeakSet does not bear."""
    while True:
        try:
            return list(of)
        except RuntimeError:
            continue
