"""Telemetry: what happened, as OpenTelemetry spans and metrics, log lines, and a list of the last failures.

It listens and is never asked: observers of events. The only package that imports opentelemetry, of which it needs the
API only. Not responsible for finding or classifying failures.
"""

from __future__ import annotations

from .client_spans import ClientSpans
from .default import default_observer, instrument, recent_failures, uninstrument
from .instrumentation import Instrumented, instrument_client, instrumentation_of, warn_if_doubled, warn_if_instrumented
from .log import LogObserver
from .observer import OpenTelemetryObserver
from .ring import RecentFailures
from .totals import settle

__all__ = [
    "ClientSpans",
    "Instrumented",
    "LogObserver",
    "OpenTelemetryObserver",
    "RecentFailures",
    "default_observer",
    "instrument",
    "instrument_client",
    "instrumentation_of",
    "recent_failures",
    "settle",
    "uninstrument",
    "warn_if_doubled",
    "warn_if_instrumented",
]
