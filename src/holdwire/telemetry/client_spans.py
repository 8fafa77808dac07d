"""``ClientSpans``: a CLIENT span for each attempt of a request, for programs without OpenTelemetry's instrumentation.

Off by default. Unlike all other spans these run while the attempt does, so that set-ups and failures become their
children and the server's spans too: the ids of the attempt's span go out as headers, in the way of the program's
propagators. As the conventions say, but for ``url.full``: no URL is ever written here.

Nothing raised by the SDK reaches the request, and an exporter that blocks is left to a thread. Not responsible for
finding out whether a client is instrumented (``instrumentation``), but for a CLIENT span that is there already.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
from typing import TYPE_CHECKING, ClassVar, Final, final

from opentelemetry import context as otel
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from ._context import NOTHING, is_suppressed, request_context
from ._handover import Handover
from .limiter import OTHER
from .words import METHODS, sentence

if TYPE_CHECKING:
    from collections.abc import Generator

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from ..policy.failure import Failure
    from ._attributes import Attributes

__all__ = ["ClientSpan", "ClientSpans"]

logger = logging.getLogger("holdwire")

_ERROR_STATUS: Final = 400
_INSTRUMENTATION: Final = "opentelemetry.instrumentation.httpx"


@final
class ClientSpans:
    """See the module."""

    in_use: ClassVar[bool] = False
    """Whether anybody has ever asked for such spans in this process: what a request that makes none looks at."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._reported = False
        self.end = Handover(_end)
        ClientSpans.in_use = True

    def begin(
        self, method: str, host: str, port: int, number: int, caller: contextvars.Context | None
    ) -> ClientSpan | None:
        """Start the span of attempt ``number``, which counts from 1.

        Returns:
            None if there shall be none: telemetry is suppressed, or the instrumentation's CLIENT span is current.
        """
        made: ClientSpan | None = None
        with self.guard():
            around = request_context(caller)
            if is_suppressed(around) or _is_instrumented(around):
                return None
            known = method if method in METHODS else OTHER
            attributes: Attributes = {"http.request.method": known, "server.address": host, "server.port": port}
            if number > 1:
                attributes["http.request.resend_count"] = number - 1
            name = "HTTP" if known is OTHER else known
            span = self._tracer.start_span(name, around or NOTHING, SpanKind.CLIENT, attributes)
            made = ClientSpan(self, span, around or NOTHING, caller)
        return made  # noqa: RET504 - the guard lets no exception through

    @contextlib.contextmanager
    def guard(self) -> Generator[None]:
        """Let nothing that the SDK raises reach a request; say it once."""
        try:
            yield
        except Exception:
            if not self._reported:
                self._reported = True
                logger.warning("a CLIENT span could not be written; said once", exc_info=True)


@final
class ClientSpan:
    """The span of one attempt, until it is answered, has failed, or was given up."""

    __slots__ = ("_maker", "_span", "context", "headers")

    def __init__(self, maker: ClientSpans, span: Span, around: Context, caller: contextvars.Context | None) -> None:
        self._maker = maker
        self._span = span
        inside = trace.set_span_in_context(span, around)
        self.context = contextvars.Context() if caller is None else caller.copy()
        """The caller's context, with this as the current span."""
        self.context.run(otel.attach, inside)
        carrier: dict[str, str] = {}
        propagate.inject(carrier, inside)
        self.headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in carrier.items()]
        """What the request has to carry."""

    def answered(self, status: int, http_version: str, connection_id: str) -> None:
        """The head of a response is there."""
        attributes: Attributes = {
            "http.response.status_code": status,
            "network.protocol.version": http_version,
            "holdwire.connection.id": connection_id,
        }
        error = Status(StatusCode.ERROR) if status >= _ERROR_STATUS else None
        self._finish(attributes, str(status) if error else None, error)

    def failed(self, failure: Failure | None) -> None:
        """The attempt ended in an exception; None where nothing went over the wire."""
        if failure is None:
            self._finish({}, OTHER, Status(StatusCode.ERROR, "the request could not be sent"))
            return
        attributes: Attributes = {}
        if failure.connection_id is not None:
            attributes["holdwire.connection.id"] = failure.connection_id
        words = sentence(failure.kind, failure.phase)
        self._finish(attributes, failure.kind.value, Status(StatusCode.ERROR, words))

    def end(self, at: int) -> None:
        """It was over then, or the caller has given it up."""
        with self._maker.guard():
            self._maker.end(self._span, at)

    def _finish(self, attributes: Attributes, error_type: str | None, status: Status | None) -> None:
        if error_type is not None:
            attributes["error.type"] = error_type
        with self._maker.guard():
            self._span.set_attributes(attributes)
            if status is not None:
                self._span.set_status(status)


def _end(span: Span, at: int) -> None:
    span.end(at)


def _is_instrumented(around: Context | None) -> bool:
    """Whether the current span is the one that the instrumentation has made for this request."""
    span = trace.get_current_span(around)
    scope = getattr(span, "instrumentation_scope", None)
    return getattr(span, "kind", None) is SpanKind.CLIENT and getattr(scope, "name", "") == _INSTRUMENTATION
