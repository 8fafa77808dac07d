"""``Spans``: writes the spans of what happened, after the fact, with the times that the events carry.

Theory of operation. Nothing here runs while a request does: an event tells what began and ended when, and from whose
context; spans are started and ended at once with these times. A failure during set-up becomes a child of the span of
the step that failed, which ``ConnectionSetUp`` made just before; a failure inside a request becomes a child of the
request's span; one outside any request a root span with links to the connection's set-up and to its last request.

Invariants: one failure is one span with status ERROR, and only the outcome of a whole episode (set-up, reconnect)
may be ERROR beside it; a request's own span is never touched, but for links to set-ups: of a connection that failed
under it and that another request had opened, and with ``"root"`` of the one it caused (a link for each request that
goes well would cost ten times what telemetry may cost it); what a sampler decided against costs no attributes; a storm
makes a bounded number of spans. Not responsible for metrics or logs.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from opentelemetry import trace
from opentelemetry.trace import Link, NonRecordingSpan, Status, StatusCode

from ..events import ConnectionClosed, ConnectionSetUp, FailureRecorded, PoolWaited, Reconnected
from ..policy.kind import Kind
from ..policy.phase import Phase
from ._attributes import failure_attributes, hashed
from ._context import NOTHING, is_unsampled, span_context
from .limiter import Limiter, is_silent
from .words import sentence, span_name

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, Tracer

    from ..events import Event, SetupStep
    from ._attributes import Attributes

__all__ = ["SCHEMA_URL", "FailureSpans", "SetupParent", "Spans"]

FailureSpans: TypeAlias = Literal["child", "root+link"]
SetupParent: TypeAlias = Literal["request", "root"]

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
_MAX_CONNECTIONS: Final = 4096
"""Of how many open connections the set-up's span is remembered, for links; the oldest is forgotten first."""
_MAX_ENDED: Final = 256
"""The same of connections that have failed."""
_MAX_ATTEMPTS: Final = 100
"""How many attempts of a long episode of reconnecting are told one by one: the last ones."""

_STEP_NAMES: Final[dict[Phase, str]] = {
    Phase.DNS: "DNS lookup {host}",
    Phase.CONNECT: "socket connect {host}:{port}",
    Phase.PROXY: "proxy CONNECT {host}:{port}",
    Phase.TLS_HANDSHAKE: "TLS client handshake {host}",
}


class Spans:
    """See the module.

    Args:
        tracer: Of the scope ``holdwire``.
        failure_spans: ``"child"`` of the request's span, or ``"root+link"``: root spans with a sampling decision of
            their own and a link to the request.
        setup_parent: ``"request"``, or ``"root"``: the spans of set-ups are roots, and the request links to them.
        peer_hash_key: Addresses of peers are written as hashes with this key.
    """

    def __init__(
        self,
        tracer: Tracer,
        *,
        failure_spans: FailureSpans = "child",
        setup_parent: SetupParent = "request",
        peer_hash_key: bytes | None = None,
    ) -> None:
        self._tracer = tracer
        self._roots = failure_spans == "root+link"
        self._setup_roots = setup_parent == "root"
        self._peer_hash_key = peer_hash_key
        self._failures = Limiter()
        self._episodes = Limiter()
        self._setups: dict[str, _SetUp] = {}
        self._ended: dict[str, _SetUp] = {}
        self._steps: weakref.WeakKeyDictionary[SetupStep, SpanContext] = weakref.WeakKeyDictionary()

    def write(self, event: Event, request: Context | None, last: Context | None) -> None:
        """Write the spans of ``event``, if it has any.

        Args:
            event: What happened.
            request: OpenTelemetry's context of the request it belongs to.
            last: The same of the connection's last request, for what happened outside any.
        """
        match event:
            case FailureRecorded():
                self._failure(event, request, last)
            case ConnectionSetUp():
                self._setup(event, request)
            case PoolWaited():
                self._waited(event, request)
            case Reconnected():
                self._reconnected(event, request, last)
            case ConnectionClosed():
                found = self._setups.pop(event.connection_id, None)
                if found is not None and event.failure is not None:  # told of later, when its moment is over
                    _keep(self._ended, event.connection_id, found, _MAX_ENDED)
            case _:
                pass

    # --- failures ---

    def _failure(self, event: FailureRecorded, request: Context | None, last: Context | None) -> None:
        if is_silent(event):
            return
        parent = request if request is not None else NOTHING
        step = None if event.step is None else self._steps.get(event.step)
        if step is not None:
            parent = trace.set_span_in_context(NonRecordingSpan(step), parent)
        links: list[Link] = []
        if request is None and step is None:
            links = self._background_links(event.failure.connection_id, last)
        elif self._roots:
            links = _links(span_context(parent))
        if self._roots:
            parent = NOTHING
        if is_unsampled(parent):
            return
        held = self._failures.admit_failure(event)
        if held is None:
            return
        failure = event.failure
        attributes = failure_attributes(event, held, self._peer_hash_key)
        span = self._start(span_name(failure), parent, attributes, event.began, event.ended, links)
        span.set_status(Status(StatusCode.ERROR, sentence(failure.kind, failure.phase)))
        span.end(event.ended)
        if request is not None and failure.reused and failure.connection_id is not None:
            self._link_request(request, failure.connection_id)

    def _link_request(self, request: Context, connection_id: str) -> None:
        """Have the request's span point to the set-up of the connection that failed, unless that is its own child."""
        caller = trace.get_current_span(request)
        setup = self._setups.get(connection_id) or self._ended.get(connection_id)
        if setup is not None and caller.is_recording() and setup.opener != caller.get_span_context().span_id:
            caller.add_link(setup.span)

    def _background_links(self, connection_id: str | None, last: Context | None) -> list[Link]:
        setup = None
        if connection_id is not None:
            setup = self._setups.get(connection_id) or self._ended.get(connection_id)
        return _links(None if setup is None else setup.span, span_context(last))

    # --- setting up ---

    def _setup(self, event: ConnectionSetUp, request: Context | None) -> None:
        parent = NOTHING if request is None or self._setup_roots else request
        if is_unsampled(parent) or self._is_too_much(event):
            return
        name = f"HTTP connection_setup {event.host}:{event.port}"
        span = self._start(name, parent, _setup_attributes(event), event.began, event.ended)
        found = span.get_span_context()
        if not found.is_valid:  # nobody takes spans
            return
        if event.connection_id is not None:
            opener = span_context(request)
            made = _SetUp(found, None if opener is None else opener.span_id)
            _keep(self._setups, event.connection_id, made, _MAX_CONNECTIONS)
        if self._setup_roots and request is not None:
            caller = trace.get_current_span(request)
            if caller.is_recording():
                caller.add_link(found)
        inside = trace.set_span_in_context(span, parent)
        for step in event.steps:
            self._step(event, step, inside)
        failure = event.failure
        if event.final and failure is not None:
            span.set_status(
                Status(StatusCode.ERROR, f"no connection came about: {sentence(failure.kind, failure.phase)}")
            )
        span.end(event.ended)

    def _is_too_much(self, event: ConnectionSetUp) -> bool:
        """Whether this is one more of a storm of set-ups that fail."""
        failure = event.failure
        if failure is None or event.connection_id is not None:
            return False
        return self._episodes.admit(event.host, event.port, failure.kind, "setup", event.ended) is None

    def _step(self, event: ConnectionSetUp, step: SetupStep, inside: Context) -> None:
        name = _STEP_NAMES.get(step.phase)
        if name is None:
            return
        attributes: Attributes = {"server.address": event.host, "server.port": event.port}
        if (connection_id := _connection_id(event)) is not None:
            attributes["holdwire.connection.id"] = connection_id
        if step.phase is Phase.DNS:
            attributes["dns.question.name"] = event.host
        if step.peer is not None:
            key = self._peer_hash_key
            attributes["network.peer.address"] = step.peer if key is None else hashed(step.peer, key)
        if step.peer_port is not None:
            attributes["network.peer.port"] = step.peer_port
        failed = step.failure is not None and not step.quiet
        if step.failure is not None and failed:
            attributes["error.type"] = step.failure.kind.value
        span = self._start(name.format(host=event.host, port=event.port), inside, attributes, step.began, step.ended)
        if failed:
            self._steps[step] = span.get_span_context()
        span.end(step.ended)

    # --- waiting and coming back ---

    def _waited(self, event: PoolWaited, request: Context | None) -> None:
        parent = request if request is not None else NOTHING
        if is_unsampled(parent):
            return
        attributes: Attributes = {"server.address": event.host, "server.port": event.port}
        if event.connection_id is not None:
            attributes["holdwire.connection.id"] = event.connection_id
        if event.timed_out:
            kind, phase = Kind.POOL_TIMEOUT, Phase.POOL
            if self._episodes.admit(event.host, event.port, kind, phase, event.ended) is None:
                return
            attributes["error.type"] = kind.value
        name = f"HTTP wait_for_connection {event.host}:{event.port}"
        self._start(name, parent, attributes, event.began, event.ended).end(event.ended)

    def _reconnected(self, event: Reconnected, request: Context | None, last: Context | None) -> None:
        parent = request if request is not None else NOTHING
        if is_unsampled(parent):
            return
        failure = event.failure
        kind = Kind.OTHER if failure is None else failure.kind
        if not event.ok and self._episodes.admit(event.host, event.port, kind, "reconnect", event.ended) is None:
            return
        attributes: Attributes = {
            "server.address": event.host,
            "server.port": event.port,
            "holdwire.outcome": "ok" if event.ok else "failed",
        }
        if event.connection_id is not None:
            attributes["holdwire.connection.id"] = event.connection_id
        if not event.ok:
            attributes["error.type"] = kind.value
        links = [] if request is not None else self._background_links(event.connection_id, last)
        name = f"holdwire reconnect {event.host}:{event.port}"
        span = self._start(name, parent, attributes, event.began, event.ended, links)
        if span.is_recording():
            _add_attempts(span, event)
        if not event.ok:
            words = "the peer was not reached again" if failure is None else sentence(failure.kind, failure.phase)
            span.set_status(Status(StatusCode.ERROR, f"reconnecting was given up: {words}"))
        span.end(event.ended)

    def _start(
        self,
        name: str,
        parent: Context,
        attributes: Attributes,
        began: int,
        ended: int,
        links: list[Link] | None = None,
    ) -> Span:
        """A span that began at ``began``; a clock that was set back cannot make it end before that."""
        return self._tracer.start_span(
            name, context=parent, attributes=attributes, links=links, start_time=min(began, ended)
        )


def _connection_id(event: ConnectionSetUp) -> str | None:
    """That of the connection, or of the one that had come as far as it did."""
    return event.connection_id or (None if event.failure is None else event.failure.connection_id)


def _setup_attributes(event: ConnectionSetUp) -> Attributes:
    attributes: Attributes = {"server.address": event.host, "server.port": event.port}
    if (connection_id := _connection_id(event)) is not None:
        attributes["holdwire.connection.id"] = connection_id
    if event.http_version is not None:
        attributes["network.protocol.version"] = event.http_version
    if event.failure is not None:
        attributes["error.type"] = event.failure.kind.value
    return attributes


class _SetUp(NamedTuple):
    """The span of a connection's set-up, and the id of the span of the request that caused it."""

    span: SpanContext
    opener: int | None


def _keep(among: dict[str, _SetUp], connection_id: str, found: _SetUp, limit: int) -> None:
    if len(among) >= limit:
        among.pop(next(iter(among)), None)
    among[connection_id] = found


def _links(*found: SpanContext | None) -> list[Link]:
    return [Link(one) for one in found if one is not None]


def _add_attempts(span: Span, event: Reconnected) -> None:
    """One event for each attempt. Its time is the earliest at which it can have begun: the pauses before it."""
    at = event.began
    number = 0
    skipped = len(event.attempts) - _MAX_ATTEMPTS
    for delay, outcome in event.attempts:
        at += int(delay * 1e9)
        number += 1
        if number <= skipped:
            continue
        attributes: Attributes = {"attempt": number, "delay": delay, "outcome": "ok" if outcome == "ok" else "failed"}
        if outcome != "ok":
            attributes["error.type"] = outcome
        span.add_event("holdwire.reconnect.attempt", attributes, min(at, event.ended))
