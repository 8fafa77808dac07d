"""The spans of every event: names, parents, links, times, attributes, statuses, and what a storm leaves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from holdwire.events import (
    CloseReason,
    ConnectionClosed,
    HeartbeatAnswered,
    HeartbeatMissed,
    PoolWaited,
    Reconnected,
    RequestRetried,
)
from holdwire.policy.kind import Category, Kind
from holdwire.policy.phase import Phase
from holdwire.telemetry import OpenTelemetryObserver
from holdwire.telemetry._attributes import FAILURE_ATTRIBUTES
from holdwire.telemetry.limiter import BURST
from holdwire.telemetry.words import sentence
from tests.telemetry_samples import (
    CAUSE,
    NOW,
    REMEDY,
    RETRIED,
    SECOND,
    SURFACED,
    Memory,
    failure,
    full_failure,
    recorded,
    set_up,
    step,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    memory.close()


def observer(memory: Memory, **options: Any) -> OpenTelemetryObserver:
    return OpenTelemetryObserver(memory.tracers, memory.meters, **options)


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    found: int = span.context.span_id
    return found


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


# --- failures ---


def test_a_failure_in_a_request_is_one_error_span_inside_the_requests_span(memory: Memory) -> None:
    context, request = memory.request()
    observer(memory).on_event(recorded(full_failure(), context=context, verdict=RETRIED))
    (span,) = memory.spans
    assert span.name == "holdwire syscall_failure recv"
    assert span.kind is SpanKind.INTERNAL
    assert parent_of(span) == request.get_span_context().span_id
    assert (span.start_time, span.end_time) == (NOW - 50_000_000, NOW)
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "the peer reset the connection while waiting for the response"
    assert not span.events
    assert not span.links
    assert request.status.status_code is StatusCode.UNSET
    assert request.is_recording()


def test_a_failure_of_which_all_is_known_has_every_attribute(memory: Memory) -> None:
    context, _ = memory.request()
    event = recorded(full_failure(), context=context, verdict=RETRIED, attempt=2, deaths=3)
    tell = observer(memory)
    for _ in range(BURST + 4):
        tell.on_event(event)
    later = NOW + SECOND
    tell.on_event(
        recorded(full_failure(at=later / 1e9), at=later, context=context, verdict=RETRIED, attempt=2, deaths=3)
    )
    attributes = attributes_of(memory.spans[-1])
    assert attributes.pop("holdwire.silence") == pytest.approx(2.45)
    assert attributes == {
        "error.type": "connection_reset",
        "holdwire.phase": "response_wait",
        "holdwire.fault_side": "peer",
        "holdwire.request.sent": "all",
        "holdwire.request.delivery": "acked",
        "holdwire.request.fin_before_write": True,
        "holdwire.request.discarded": 33,
        "holdwire.syscall": "recv",
        "holdwire.errno.number": 104,
        "holdwire.errno.name": "ECONNRESET",
        "holdwire.cause": CAUSE,
        "holdwire.remedy": REMEDY,
        "holdwire.envoy_flag": "UC",
        "holdwire.retry.decision": "retried",
        "holdwire.retry.reason": "reused_connection_lost",
        "holdwire.retry.safe": False,
        "http.request.resend_count": 1,
        "holdwire.idle_deaths": 3,
        "holdwire.suppressed": 4,
        "holdwire.cause.confidence": "likely",
        "holdwire.connection.flight": "-0.500 s request 7",
        "server.address": "api.example",
        "server.port": 443,
        "network.peer.address": "192.0.2.7",
        "network.peer.port": 443,
        "network.local.port": 40_001,
        "network.transport": "tcp",
        "network.type": "ipv4",
        "network.connection.state": "close_wait",
        "holdwire.connection.id": "c1",
        "holdwire.connection.age": 61.5,
        "holdwire.connection.idle": 2.5,
        "holdwire.connection.requests": 7,
        "holdwire.tcp.outq": 33,
        "holdwire.tcp.bytes_acked": 512,
        "holdwire.tcp.bytes_sent": 2048,
        "holdwire.tcp.unacked": 2,
        "holdwire.tcp.notsent": 64,
        "holdwire.tcp.retransmits": 3,
        "holdwire.tcp.total_retrans": 4,
        "holdwire.tcp.total_rto": 2,
        "holdwire.tcp.rto": 204_000,
        "holdwire.tcp.rtt": 800,
        "holdwire.tcp.min_rtt": 500,
        "holdwire.tcp.total_rto_time": 600,
        "holdwire.tcp.last_data_recv": 1200,
        "holdwire.tcp.last_ack_recv": 1300,
        "holdwire.tcp.pmtu": 1500,
        "holdwire.tcp.snd_mss": 1448,
        "holdwire.ssl.error": "SSL_ERROR_SSL",
        "holdwire.ssl.reason": "TLSV1_ALERT_INTERNAL_ERROR",
        "holdwire.tls.alert.code": 80,
        "holdwire.tls.alert.name": "internal_error",
        "holdwire.tls.alert.direction": "received",
        "holdwire.tls.close_notify": "none",
    }
    assert set(attributes) | {"holdwire.silence"} == FAILURE_ATTRIBUTES


def test_what_is_unknown_or_zero_is_left_out_but_errno_zero_stays(memory: Memory) -> None:
    what = failure(Kind.UNEXPECTED_EOF, errno=0, errno_name=None, peer=None, peer_port=None, local_port=None)
    observer(memory).on_event(recorded(what))
    assert attributes_of(memory.span("holdwire")) == {
        "error.type": "unexpected_eof",
        "holdwire.phase": "response_wait",
        "holdwire.fault_side": "unknown",
        "holdwire.cause.confidence": "unknown",
        "holdwire.syscall": "recv",
        "holdwire.errno.number": 0,
        "holdwire.envoy_flag": "UC",
        "holdwire.retry.decision": "none",
        "server.address": "api.example",
        "server.port": 443,
        "network.transport": "tcp",
        "network.type": "ipv4",
        "holdwire.connection.id": "c1",
    }


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.CANCELLED])
@pytest.mark.parametrize("syscall", ["recv", None])
def test_every_kind_of_failure_makes_exactly_one_error_span(memory: Memory, kind: Kind, syscall: str | None) -> None:
    what = failure(kind, Phase.HEARTBEAT, syscall=syscall, errno=None, errno_name=None)
    observer(memory).on_event(recorded(what))
    (span,) = memory.spans
    assert span.name == ("holdwire syscall_failure recv" if syscall else "holdwire connection_failure heartbeat")
    assert attributes_of(span)["error.type"] == kind.value
    assert type(attributes_of(span)["error.type"]) is str
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == sentence(kind, Phase.HEARTBEAT)


@pytest.mark.parametrize("category", [Category.INTENTIONAL, Category.NOT_AN_ERROR])
def test_what_we_did_ourselves_makes_no_span_and_no_count(memory: Memory, category: Category) -> None:
    observer(memory).on_event(recorded(failure(Kind.CANCELLED, category=category)))
    assert not memory.spans
    assert not memory.points("holdwire.connection.failures")


def test_a_unix_socket_has_no_network_type(memory: Memory) -> None:
    observer(memory).on_event(recorded(failure(network_type="unix", peer="/run/app.sock", peer_port=None)))
    attributes = attributes_of(memory.span("holdwire"))
    assert attributes["network.transport"] == "unix"
    assert "network.type" not in attributes


def test_addresses_of_peers_can_be_hashed_and_equal_ones_stay_equal(memory: Memory) -> None:
    tell = observer(memory, peer_hash_key=b"key")
    tell.on_event(recorded())
    tell.on_event(set_up(step(peer="192.0.2.7"), step(peer="192.0.2.8")))
    exported = json.dumps([one.to_json() for one in memory.spans])
    assert "192.0.2" not in exported
    seen = [attributes_of(one).get("network.peer.address") for one in memory.spans if "setup" not in one.name]
    assert seen[0] == seen[1] != seen[2]


def test_a_clock_that_was_set_back_makes_no_span_with_a_negative_duration(memory: Memory) -> None:
    observer(memory).on_event(recorded(began=NOW + SECOND))
    span = memory.span("holdwire")
    assert span.start_time == span.end_time == NOW


def test_silence_reaches_back_to_the_last_io_and_the_span_does_not(memory: Memory) -> None:
    what = failure(phase=Phase.IDLE, idle=350.0)
    observer(memory).on_event(recorded(what, began=NOW))
    span = memory.span("holdwire")
    assert span.start_time == NOW
    assert attributes_of(span)["holdwire.silence"] == pytest.approx(350.0)


# --- failures outside a request ---


def test_a_death_in_the_background_is_a_root_span_linked_to_set_up_and_last_request(memory: Memory) -> None:
    context, request = memory.request()
    tell = observer(memory)
    tell.on_event(set_up(step(), context=context))
    tell.on_event(recorded(failure(phase=Phase.IDLE), last_context=context))
    span = memory.span("holdwire syscall_failure")
    assert span.parent is None
    setup = memory.span("HTTP connection_setup")
    assert [link.context.span_id for link in span.links] == [id_of(setup), request.get_span_context().span_id]


def test_a_connection_that_ended_is_forgotten(memory: Memory) -> None:
    tell = observer(memory)
    tell.on_event(set_up(step()))
    tell.on_event(
        ConnectionClosed(
            host="api.example", port=443, connection_id="c1", reason=CloseReason.IDLE, age=1.0, idle=1.0, requests=1
        )
    )
    tell.on_event(recorded(failure(phase=Phase.IDLE)))
    assert not memory.span("holdwire syscall_failure").links


def test_open_connections_that_are_remembered_are_bounded(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdwire.telemetry.spans._MAX_CONNECTIONS", 2)
    tell = observer(memory)
    for number in range(3):
        tell.on_event(set_up(step(), connection_id=f"c{number}"))
    for number in range(3):
        tell.on_event(recorded(failure(phase=Phase.IDLE, connection_id=f"c{number}")))
    links = [len(one.links) for one in memory.spans if one.name.startswith("holdwire")]
    assert links == [0, 1, 1]


# --- setting up ---


def test_a_set_up_shows_its_steps_inside_the_request_that_caused_it(memory: Memory) -> None:
    context, request = memory.request()
    steps = (
        step(Phase.DNS, at=NOW - 30_000_000),
        step(Phase.CONNECT, at=NOW - 20_000_000, peer="192.0.2.7", peer_port=443),
        step(Phase.PROXY, at=NOW - 10_000_000),
        step(Phase.TLS_HANDSHAKE),
    )
    observer(memory).on_event(set_up(*steps, context=context, http_version="2"))
    setup = memory.span("HTTP connection_setup api.example:443")
    assert parent_of(setup) == request.get_span_context().span_id
    assert (setup.start_time, setup.end_time) == (NOW - 40_000_000, NOW)
    assert attributes_of(setup) == {
        "server.address": "api.example",
        "server.port": 443,
        "holdwire.connection.id": "c1",
        "network.protocol.version": "2",
    }
    inside = [one for one in memory.spans if parent_of(one) == id_of(setup)]
    assert [one.name for one in inside] == [
        "DNS lookup api.example",
        "socket connect api.example:443",
        "proxy CONNECT api.example:443",
        "TLS client handshake api.example",
    ]
    assert attributes_of(inside[0])["dns.question.name"] == "api.example"
    assert attributes_of(inside[1])["network.peer.address"] == "192.0.2.7"
    assert (inside[1].start_time, inside[1].end_time) == (NOW - 30_000_000, NOW - 20_000_000)
    assert all(one.status.status_code is StatusCode.UNSET for one in memory.spans)


def test_an_address_that_fails_is_a_failure_span_inside_its_step_and_nothing_else_is_red(memory: Memory) -> None:
    context, _ = memory.request()
    refused = failure(Kind.CONNECTION_REFUSED, Phase.CONNECT, syscall="connect", connection_id=None)
    failed, won = step(what=refused), step()
    tell = observer(memory)
    tell.on_event(set_up(failed, won, context=context))
    tell.on_event(recorded(refused, context=context, step=failed))
    span = memory.span("holdwire syscall_failure connect")
    first, second = (one for one in memory.spans if one.name.startswith("socket connect"))
    assert parent_of(span) == id_of(first)
    assert attributes_of(first)["error.type"] == "connection_refused"
    assert "error.type" not in attributes_of(second)
    red = [one for one in memory.spans if one.status.status_code is StatusCode.ERROR]
    assert red == [span]


def test_a_family_that_this_host_lacks_is_no_failure_while_another_wins(memory: Memory) -> None:
    lacking = failure(Kind.NETWORK_UNREACHABLE, Phase.CONNECT, syscall="connect")
    quiet = step(what=lacking, quiet=True)
    tell = observer(memory)
    tell.on_event(set_up(quiet, step()))
    tell.on_event(recorded(lacking, step=quiet))
    assert not [one for one in memory.spans if one.status.status_code is StatusCode.ERROR or one.name[:8] == "holdwire"]
    assert all("error.type" not in attributes_of(one) for one in memory.spans)


@pytest.mark.parametrize(("final", "status"), [(True, StatusCode.ERROR), (False, StatusCode.UNSET)])
def test_a_set_up_is_red_only_if_no_attempt_follows(memory: Memory, final: bool, status: StatusCode) -> None:  # noqa: FBT001
    refused = failure(Kind.CONNECTION_REFUSED, Phase.CONNECT, syscall="connect")
    observer(memory).on_event(set_up(step(what=refused), connection_id=None, failure=refused, final=final))
    setup = memory.span("HTTP connection_setup")
    assert setup.status.status_code is status
    assert attributes_of(setup)["error.type"] == "connection_refused"


def test_a_set_up_that_failed_names_the_connection_that_its_failure_names(memory: Memory) -> None:
    reset = failure(phase=Phase.TLS_HANDSHAKE, connection_id="c7")
    steps = step(), step(Phase.TLS_HANDSHAKE, reset)
    observer(memory).on_event(set_up(*steps, connection_id=None, failure=reset))
    assert [attributes_of(one)["holdwire.connection.id"] for one in memory.spans] == ["c7"] * 3


def test_set_ups_can_be_roots_to_which_the_request_links(memory: Memory) -> None:
    context, request = memory.request()
    observer(memory, setup_parent="root").on_event(set_up(step(), context=context))
    setup = memory.span("HTTP connection_setup")
    assert setup.parent is None
    assert [link.context.span_id for link in request.links] == [id_of(setup)]


def test_a_connection_opened_in_the_background_is_a_root(memory: Memory) -> None:
    observer(memory).on_event(set_up(step()))
    assert memory.span("HTTP connection_setup").parent is None


def test_a_failed_set_up_in_the_background_is_inside_its_step_and_needs_no_links(memory: Memory) -> None:
    context, _ = memory.request()
    refused = failure(Kind.CONNECTION_REFUSED, Phase.CONNECT, syscall="connect")
    failed = step(what=refused)
    tell = observer(memory)
    tell.on_event(set_up(failed))
    tell.on_event(recorded(refused, step=failed, last_context=context))
    span = memory.span("holdwire syscall_failure")
    assert parent_of(span) == id_of(memory.span("socket connect"))
    assert not span.links


def test_what_is_no_step_of_a_set_up_has_no_span_of_its_own(memory: Memory) -> None:
    observer(memory).on_event(set_up(step(Phase.POOL)))
    assert [one.name for one in memory.spans] == ["HTTP connection_setup api.example:443"]


# --- waiting and coming back ---


def test_a_wait_for_the_pool_is_a_span_of_the_request(memory: Memory) -> None:
    context, request = memory.request()
    tell = observer(memory)
    tell.on_event(PoolWaited(host="h", port=80, method="GET", began=NOW, ended=NOW + 7, context=context))
    span = memory.span("HTTP wait_for_connection h:80")
    assert parent_of(span) == request.get_span_context().span_id
    assert (span.start_time, span.end_time) == (NOW, NOW + 7)
    assert span.status.status_code is StatusCode.UNSET
    assert attributes_of(span) == {"server.address": "h", "server.port": 80}


def test_a_wait_that_timed_out_says_so(memory: Memory) -> None:
    tell = observer(memory)
    for _ in range(BURST * 3):
        tell.on_event(PoolWaited(host="h", port=80, method="GET", began=NOW, ended=NOW + 7, timed_out=True))
    assert len(memory.spans) == BURST
    assert attributes_of(memory.spans[0])["error.type"] == "pool_timeout"


def test_a_reconnect_tells_each_attempt_and_is_green_if_it_came_back(memory: Memory) -> None:
    context, request = memory.request()
    tell = observer(memory)
    tell.on_event(set_up(step()))
    tell.on_event(
        Reconnected(
            host="h",
            port=1883,
            began=NOW,
            ended=NOW + 3 * SECOND,
            attempts=((0.0, "connection_refused"), (1.0, "timed_out"), (9.0, "ok")),
            ok=True,
            last_context=context,
            connection_id="c1",
        )
    )
    span = memory.span("holdwire reconnect h:1883")
    assert span.status.status_code is StatusCode.UNSET
    assert [(event.name, event.timestamp, dict(event.attributes or {})) for event in span.events] == [
        (
            "holdwire.reconnect.attempt",
            NOW,
            {"attempt": 1, "delay": 0.0, "outcome": "failed", "error.type": "connection_refused"},
        ),
        (
            "holdwire.reconnect.attempt",
            NOW + SECOND,
            {"attempt": 2, "delay": 1.0, "outcome": "failed", "error.type": "timed_out"},
        ),
        ("holdwire.reconnect.attempt", NOW + 3 * SECOND, {"attempt": 3, "delay": 9.0, "outcome": "ok"}),
    ]
    assert span.parent is None
    assert [link.context.span_id for link in span.links] == [
        id_of(memory.span("HTTP connection_setup")),
        request.get_span_context().span_id,
    ]


def test_a_reconnect_that_was_given_up_is_red_and_tells_the_last_attempts(memory: Memory) -> None:
    attempts = tuple((0.001, "timed_out") for _ in range(1000))
    event = Reconnected(
        host="h", port=1, began=NOW, ended=NOW + SECOND, attempts=attempts, ok=False, failure=failure(Kind.TIMED_OUT)
    )
    observer(memory).on_event(event)
    span = memory.span("holdwire reconnect")
    assert span.status.status_code is StatusCode.ERROR
    assert len(span.events) == 100
    assert dict(span.events[-1].attributes or {})["attempt"] == 1000
    assert attributes_of(span)["error.type"] == "timed_out"


def test_sessions_that_all_give_up_at_once_make_ten_spans(memory: Memory) -> None:
    tell = observer(memory)
    for _ in range(100):
        tell.on_event(Reconnected(host="h", port=1, began=NOW, ended=NOW, attempts=((0.0, "timed_out"),), ok=False))
    assert len(memory.spans) == BURST
    assert memory.number("holdwire.reconnect.attempts", holdwire__outcome="failed") == 100
    assert memory.spans[0].status.description == "reconnecting was given up: the peer was not reached again"


@pytest.mark.parametrize(
    "event",
    [
        HeartbeatAnswered(host="h", port=1, connection_id="c1", kind="tcp", rtt=0.1),
        HeartbeatMissed(host="h", port=1, connection_id="c1", kind="tcp", waited=20.0),
        RequestRetried(host="h", port=1, verdict=RETRIED, attempt=1, delay=0.0),
        RequestRetried(host="h", port=1, verdict=SURFACED, attempt=1, delay=0.0),
        ConnectionClosed(
            host="h", port=1, connection_id="c1", reason=CloseReason.ACLOSE, age=1.0, idle=0.0, requests=1
        ),
    ],
)
def test_what_is_only_counted_makes_no_span(memory: Memory, event: Any) -> None:
    observer(memory).on_event(event)
    assert not memory.spans


# --- sampling ---


def test_a_failure_in_an_unsampled_request_makes_no_span_but_counts() -> None:
    memory = Memory(sampler=ParentBased(ALWAYS_OFF))
    context, request = memory.request()
    assert not request.get_span_context().trace_flags.sampled
    tell = observer(memory)
    tell.on_event(set_up(step(), context=context))
    tell.on_event(recorded(context=context))
    assert not memory.spans
    assert memory.number("holdwire.connection.failures", error__type="connection_reset") == 1


def test_unsampled_failures_do_not_use_up_the_spans_of_sampled_ones(memory: Memory) -> None:
    unsampled = Memory(sampler=ALWAYS_OFF)
    hidden, _ = unsampled.request()
    shown, _ = memory.request()
    tell = observer(memory)
    for _ in range(50):
        tell.on_event(recorded(context=hidden))
    tell.on_event(recorded(context=shown))
    assert len(memory.spans) == 1


def test_nothing_is_written_into_a_trace_that_was_decided_against_whatever_the_sampler_is_now() -> None:
    hidden, _ = Memory(sampler=ALWAYS_OFF).request()
    memory = Memory(sampler=ALWAYS_ON)
    tell = observer(memory)
    common: dict[str, Any] = {"host": "h", "port": 1, "began": NOW, "ended": NOW, "context": hidden}
    tell.on_event(set_up(step(), context=hidden))
    tell.on_event(recorded(context=hidden))
    tell.on_event(PoolWaited(method="GET", **common))
    tell.on_event(Reconnected(attempts=((0.0, "ok"),), ok=True, **common))
    assert not memory.spans


def test_root_and_link_records_failures_of_unsampled_requests_with_a_link() -> None:
    unsampled = Memory(sampler=ALWAYS_OFF)
    context, request = unsampled.request()
    memory = Memory(sampler=ParentBased(TraceIdRatioBased(1.0)))
    tell = observer(memory, failure_spans="root+link")
    tell.on_event(recorded(context=context))
    span = memory.span("holdwire syscall_failure")
    assert span.parent is None
    assert [link.context.span_id for link in span.links] == [request.get_span_context().span_id]


# --- storms ---


def test_a_storm_leaves_ten_spans_and_an_exact_count(memory: Memory) -> None:
    context, _ = memory.request()
    refused = failure(Kind.CONNECTION_REFUSED, Phase.CONNECT, syscall="connect", connection_id=None)
    tell = observer(memory)
    for _ in range(1000):
        failed = step(what=refused)
        tell.on_event(set_up(failed, connection_id=None, failure=refused, final=True, context=context))
        tell.on_event(recorded(refused, context=context, step=failed))
    names = [one.name.split(" ")[0:2] for one in memory.spans]
    assert names.count(["holdwire", "syscall_failure"]) == BURST
    assert names.count(["HTTP", "connection_setup"]) == BURST
    assert len(names) == 3 * BURST
    assert memory.number("holdwire.connection.failures", error__type="connection_refused") == 1000
    tell.on_event(recorded(refused, at=NOW + SECOND, context=context))
    assert attributes_of(memory.spans[-1])["holdwire.suppressed"] == 990


# --- privacy ---


def test_no_secret_of_a_request_reaches_a_span_or_a_metric(memory: Memory) -> None:
    secret = "s3cr3t-MARK"
    context, _ = memory.request()
    what = full_failure(detail=f"GET /{secret}?token={secret} HTTP/1.1", via=f"user:{secret}@proxy.example:3128")
    noted = step(what=what, note=secret)
    tell = observer(memory)
    tell.on_event(set_up(noted, context=context, failure=what, connection_id=None, final=True))
    tell.on_event(recorded(what, context=context, verdict=SURFACED, step=noted))
    tell.on_event(recorded(what, last_context=context))
    tell.on_event(PoolWaited(host="h", port=80, method=secret, began=NOW, ended=NOW, context=context))
    tell.on_event(
        Reconnected(host="h", port=1, began=NOW, ended=NOW, attempts=((0.0, "timed_out"),), ok=False, failure=what)
    )
    tell.on_event(RequestRetried(host="h", port=1, verdict=SURFACED, attempt=1, delay=0.0, failure=what))
    assert len(memory.spans) == 6
    assert secret not in json.dumps([one.to_json() for one in memory.spans])
    data = memory.reader.get_metrics_data()
    assert data is not None
    assert secret not in data.to_json()


def test_a_current_span_of_the_application_is_never_the_parent(memory: Memory) -> None:
    tracer = memory.tracers.get_tracer("test")
    with trace.use_span(tracer.start_span("application")):
        observer(memory).on_event(recorded())
    assert memory.span("holdwire").parent is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"failure_spans": "none"}, "failure_spans='none'"),
        ({"setup_parent": "span"}, "setup_parent='span'"),
        ({"peer_hash_key": b""}, "peer_hash_key has 0 bytes"),
        ({"peer_hash_key": b"x" * 65}, "peer_hash_key has 65 bytes"),
    ],
)
def test_a_wrong_option_is_told_at_once(memory: Memory, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        observer(memory, **options)


def test_a_hash_key_that_is_text_is_told_at_once_and_not_with_each_failure(memory: Memory) -> None:
    key: Any = "secret"
    with pytest.raises(TypeError, match="peer_hash_key must be bytes, not str"):
        observer(memory, peer_hash_key=key)
