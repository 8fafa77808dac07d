"""The observer that every transport has, and ``instrument``, which says where it sends its telemetry.

Without a call of ``instrument`` it uses OpenTelemetry's global providers, also those set later. It can be replaced
while transports live: they hold the one object of this process, which passes events on. Not responsible for what the
observers do with an event.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, final

from ..events import Observers
from .log import LogObserver
from .observer import OpenTelemetryObserver
from .ring import RecentFailures

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from ..events import Event, FailureRecorded, Observer, SpanMaker
    from .spans import FailureSpans, SetupParent

__all__ = ["default_observer", "instrument", "recent_failures", "uninstrument"]


@final
class _Default:
    """Passes events on to OpenTelemetry, the log and the ring; what each of them raises harms nobody else."""

    def __init__(self) -> None:
        self.ring = RecentFailures()
        self._log = LogObserver()
        self._lock = threading.RLock()  # a client that is collected meanwhile tells of its end in this very thread
        self._telemetry: OpenTelemetryObserver | None = None
        self._tell: Observers | None = None

    @property
    def span_maker(self) -> SpanMaker | None:
        """Of the telemetry in use."""
        return None if self._telemetry is None else self._telemetry.span_maker

    def on_event(self, event: Event) -> None:
        tell = self._tell
        if tell is None:
            self.use(None)
            tell = self._tell
        if tell is not None:
            tell(event)

    def use(self, telemetry: OpenTelemetryObserver | None) -> None:
        """Send spans and metrics there; None: to the global providers, unless something is in use already."""
        with self._lock:
            if telemetry is None:
                if self._telemetry is not None:
                    return
                telemetry = OpenTelemetryObserver()
            if self._telemetry is not None:
                self._telemetry.close()
            self._telemetry = telemetry
            self._tell = Observers((telemetry, self._log, self.ring))

    def reset(self) -> None:
        """Back to the global providers."""
        self.use(OpenTelemetryObserver())


_DEFAULT = _Default()


def default_observer() -> Observer:
    """The observer that every transport gets: one for the process, with the global providers until ``instrument``."""
    _DEFAULT.use(None)
    return _DEFAULT


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    failure_spans: FailureSpans = "child",
    setup_parent: SetupParent = "request",
    emit_client_spans: bool = False,
    peer_hash_key: bytes | None = None,
) -> OpenTelemetryObserver:
    """Send the telemetry of all transports, also of those that exist already, to these providers.

    The arguments are those of ``OpenTelemetryObserver``. Called again, it replaces what was set before.

    Returns:
        The observer in use, for its ``flush``.

    Raises:
        ValueError: An argument has a wrong value.
    """
    telemetry = OpenTelemetryObserver(
        tracer_provider,
        meter_provider,
        failure_spans=failure_spans,
        setup_parent=setup_parent,
        emit_client_spans=emit_client_spans,
        peer_hash_key=peer_hash_key,
    )
    _DEFAULT.use(telemetry)
    return telemetry


def uninstrument() -> None:
    """Take ``instrument`` back: the global providers and the default options count again."""
    _DEFAULT.reset()


def recent_failures() -> list[FailureRecorded]:
    """The last failures of this process, the oldest first: also what was sampled away or held back in a storm."""
    return _DEFAULT.ring.failures()
