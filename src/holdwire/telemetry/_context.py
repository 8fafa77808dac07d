"""From a request's saved ``contextvars.Context`` to OpenTelemetry's context, and whether telemetry is wanted there.

Not responsible for saving it: events carry it. Private to ``telemetry``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context

if TYPE_CHECKING:
    from contextvars import Context as SavedContext

    from opentelemetry.trace import SpanContext

__all__ = ["NOTHING", "is_suppressed", "is_unsampled", "request_context", "span_context"]

NOTHING: Final = Context()
"""The context of what belongs to no request."""

_PLAIN_KEY: Final = "suppress_instrumentation"
"""What older instrumentations set."""
_KEY: Final[str] = getattr(otel, "_SUPPRESS_INSTRUMENTATION_KEY", _PLAIN_KEY)
"""What exporters set around their own requests."""


def request_context(saved: SavedContext | None) -> Context | None:
    """OpenTelemetry's context as it was when ``saved`` was taken; None if there is none.

    A copy is entered, because ``saved`` itself may be entered by somebody else at this moment.
    """
    return None if saved is None else saved.copy().run(otel.get_current)


def is_suppressed(context: Context | None) -> bool:
    """Whether nothing may be emitted: a transport that an exporter uses must not trace itself."""
    return context is not None and bool(context.get(_KEY) or context.get(_PLAIN_KEY))


def span_context(context: Context | None) -> SpanContext | None:
    """The span that is current in ``context``; None if there is none."""
    if context is None:
        return None
    found = trace.get_current_span(context).get_span_context()
    return found if found.is_valid else None


def is_unsampled(context: Context) -> bool:
    """Whether the sampler has already decided against the trace of ``context``."""
    found = span_context(context)
    return found is not None and not found.trace_flags.sampled
