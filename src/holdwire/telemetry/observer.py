"""``OpenTelemetryObserver``: turns events into spans and metrics. Needs opentelemetry-api only.

Without an SDK all of it goes nowhere, at next to no cost. Not responsible for which observer a transport has
(``default``), for the spans (``spans``) or the numbers (``metrics``) themselves.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Final, final

from opentelemetry import metrics as otel_metrics
from opentelemetry import trace as otel_trace

from ..events import ConnectionClosed, ConnectionSetUp, FailureRecorded, HeartbeatAnswered, HeartbeatMissed, Reconnected
from ..policy.checks import check_type
from ._context import is_suppressed, request_context
from ._handover import Handover
from .client_spans import ClientSpans
from .metrics import Metrics
from .spans import SCHEMA_URL, FailureSpans, SetupParent, Spans

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from ..events import Event, SpanMaker

__all__ = ["SCOPE", "OpenTelemetryObserver"]

SCOPE: Final = "holdwire"
_FAILURE_SPANS: Final = ("child", "root+link")
_SETUP_PARENTS: Final = ("request", "root")
_MAX_HASH_KEY: Final = 64
_MAX_MUTED: Final = 4096


@final
class OpenTelemetryObserver:
    """See the module.

    Args:
        tracer_provider: Default: the global one, also if it is set later.
        meter_provider: The same for metrics.
        failure_spans: ``"child"``: failures are children of their request's span. ``"root+link"``: they are root
            spans with a link to it, which are sampled even where the request was not.
        setup_parent: ``"request"``: the span of a connection's set-up is a child of the request that caused it.
            ``"root"``: a root span to which the request's span gets a link.
        emit_client_spans: Every attempt of a request is a CLIENT span, and carries its ids to the server. For programs
            without OpenTelemetry's own instrumentation, which makes that span; where it is at work none is made.
        peer_hash_key: If given, 1 to 64 bytes: ``network.peer.address`` is written as a hash with this key.

    Raises:
        ValueError: An argument is not one of the values above.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        failure_spans: FailureSpans = "child",
        setup_parent: SetupParent = "request",
        emit_client_spans: bool = False,
        peer_hash_key: bytes | None = None,
    ) -> None:
        if failure_spans not in _FAILURE_SPANS:
            raise ValueError(f'failure_spans={failure_spans!r}: give "child" or "root+link"')
        if setup_parent not in _SETUP_PARENTS:
            raise ValueError(f'setup_parent={setup_parent!r}: give "request" or "root"')
        if peer_hash_key is not None:
            check_type("instrument", "peer_hash_key", peer_hash_key, bytes, give="bytes")
            if not 0 < len(peer_hash_key) <= _MAX_HASH_KEY:
                raise ValueError(f"peer_hash_key has {len(peer_hash_key)} bytes: give 1 to {_MAX_HASH_KEY}")
        version = _version()
        tracer = otel_trace.get_tracer(SCOPE, version, tracer_provider, SCHEMA_URL)
        self.span_maker: SpanMaker | None = ClientSpans(tracer) if emit_client_spans else None
        self._spans = Spans(
            tracer,
            failure_spans=failure_spans,
            setup_parent=setup_parent,
            peer_hash_key=peer_hash_key,
        )
        self._write = Handover(self._spans.write)
        self._metrics = Metrics(
            otel_metrics.get_meter(SCOPE, version, meter_provider, SCHEMA_URL), provider=meter_provider
        )
        self._muted: dict[str, None] = {}

    def on_event(self, event: Event) -> None:
        request = request_context(getattr(event, "context", None))
        last = request_context(getattr(event, "last_context", None))
        if self._is_muted(event, request, last):
            return
        try:
            self._metrics.record(event, request)
        finally:
            if not isinstance(event, (HeartbeatAnswered, HeartbeatMissed)):
                self._write(event, request, last)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait for spans that were handed to a thread because a span processor blocks; whether all are written."""
        return self._write.flush(timeout)

    def close(self) -> None:
        """Stop the observable instruments, unless another observer of the same meter provider lives."""
        self._metrics.close()

    def _is_muted(self, event: Event, request: Context | None, last: Context | None) -> bool:
        """Whether the event belongs to an exporter's own traffic, or to a connection that was opened for it."""
        if is_suppressed(request) or is_suppressed(last):
            if isinstance(event, ConnectionSetUp) and event.connection_id is not None:
                if len(self._muted) >= _MAX_MUTED:
                    self._muted.pop(next(iter(self._muted)), None)
                self._muted[event.connection_id] = None
            return True
        if not self._muted or request is not None:
            return False
        connection_id = _connection_id(event)
        if connection_id not in self._muted:
            return False
        if isinstance(event, ConnectionClosed):
            self._muted.pop(event.connection_id, None)
        return True


def _connection_id(event: Event) -> str | None:
    match event:
        case FailureRecorded():
            return event.failure.connection_id
        case ConnectionClosed() | HeartbeatAnswered() | HeartbeatMissed() | Reconnected():
            return event.connection_id
        case _:
            return None


def _version() -> str:
    try:
        return importlib.metadata.version("holdwire")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that was not installed
        return "0"
