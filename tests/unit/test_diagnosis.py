"""From what was seen to a whole ``Failure``, and what it says of itself when it is printed."""

from __future__ import annotations

import errno
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from holdwire.policy import diagnosis
from holdwire.policy.failure import Failure, TlsDetail
from holdwire.policy.kind import Action, Category, Confidence, FaultSide, Kind
from holdwire.policy.phase import Phase
from holdwire.policy.taxonomy import Classification

if TYPE_CHECKING:
    from holdwire.policy.diagnosis import Facts

FACTS: Facts = {"host": "api.example", "port": 443, "peer": "192.0.2.1"}
BARE = Failure(kind=Kind.OTHER, category=Category.UNKNOWN, phase=Phase.IDLE)


def told(failure: Failure) -> tuple[str, ...]:
    return failure.kind, failure.category, failure.action, failure.fault_side


def test_a_failure_that_nobody_told_anything_about_claims_nothing() -> None:
    claimed = {field.name: getattr(BARE, field.name) for field in fields(Failure)}
    for name in ("kind", "category", "phase"):
        del claimed[name]
    assert claimed.pop("action") is Action.PHASE_TABLE
    assert claimed.pop("fault_side") is FaultSide.UNKNOWN
    assert claimed.pop("confidence") is Confidence.UNKNOWN
    assert not any(claimed.values())
    assert TlsDetail().close_notify == "none"


def test_a_copy_has_what_only_a_higher_layer_knows_and_keeps_the_rest() -> None:
    copy = BARE.evolve(safe_to_retry=True, attempts=2)
    assert (copy.safe_to_retry, copy.attempts, copy.kind) == (True, 2, Kind.OTHER)
    assert copy.evolve(safe_to_retry=None, attempts=0) == BARE
    assert BARE.attempts == 0
    with pytest.raises(TypeError, match="a failure has no color; it has kind, category, phase, "):
        BARE.evolve(color="red")


def test_what_happened_on_the_connection_is_not_in_the_repr_which_it_would_drown() -> None:
    assert "flight" not in repr(BARE)


@pytest.mark.parametrize(
    ("facts", "endpoint"),
    [
        ({"host": "a.example", "port": 443, "peer": "192.0.2.1"}, "a.example:443 (192.0.2.1)"),
        ({"host": "192.0.2.1", "port": 443, "peer": "192.0.2.1"}, "192.0.2.1:443"),
        ({"host": "a.example", "port": 443}, "a.example:443"),
        ({"host": "a.example", "port": 0}, "a.example:0"),
        ({"host": "a.example"}, "a.example"),
        ({"host": "2001:db8::1", "port": 443, "peer": "2001:db8::1"}, "[2001:db8::1]:443"),
        (
            {"host": "a.example", "port": 443, "via": "p:3128", "peer": "192.0.2.9"},
            "a.example:443 through the proxy p:3128 (192.0.2.9)",
        ),
        ({"peer": "/run/app.sock"}, "/run/app.sock"),
        ({}, "unknown peer"),
    ],
)
def test_the_peer_is_written_as_a_person_would(facts: Facts, endpoint: str) -> None:
    assert BARE.evolve(**facts).endpoint == endpoint


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "_OTHER in phase idle with unknown peer"),
        ({"syscall": "recv", "errno": 104, "errno_name": "ECONNRESET"}, "recv: ECONNRESET (errno 104) in phase idle"),
        ({"syscall": "recv", "errno": 0, "kind": Kind.UNEXPECTED_EOF}, "recv: unexpected_eof in phase idle"),
        ({"syscall": "getaddrinfo", "errno_name": "EAI_AGAIN"}, "getaddrinfo: EAI_AGAIN in phase idle"),
        ({"tls": TlsDetail(reason="NO_SHARED_CIPHER")}, "_OTHER (NO_SHARED_CIPHER) in phase idle"),
        ({"tls": TlsDetail()}, "_OTHER in phase idle with"),
        ({"syscall": "recv", "tls": TlsDetail(reason="X")}, "recv: _OTHER in phase idle"),
        ({"detail": "half a head"}, "unknown peer: half a head"),
        ({"cause": "It died."}, "unknown peer. It died."),
        ({"cause": "It died.", "confidence": Confidence.LIKELY}, "unknown peer. Likely cause: It died."),
        ({"cause": "It died.", "confidence": Confidence.POSSIBLE}, "unknown peer. Possible cause: It died."),
        ({"cause": "It died.", "confidence": Confidence.CERTAIN, "remedy": "Wait."}, "peer. It died. Wait."),
    ],
)
def test_its_sentence_says_what_happened_where_why_and_what_to_do(changes: dict[str, object], text: str) -> None:
    said = str(BARE.evolve(**changes))
    assert text in said
    assert said.startswith(text) or said.endswith(text)


def test_only_what_a_system_call_met_is_a_failure_of_one() -> None:
    assert diagnosis.from_errno(104, syscall="recv", phase=Phase.IDLE, facts={}).is_syscall
    assert diagnosis.from_eof(phase=Phase.IDLE, facts={}).is_syscall
    assert diagnosis.from_eai("EAI_AGAIN", facts={}).is_syscall
    assert not diagnosis.from_protocol(phase=Phase.RESPONSE_BODY, facts={}, detail=None).is_syscall
    assert not diagnosis.local(Kind.CANCELLED, phase=Phase.IDLE, facts={}).is_syscall


@pytest.mark.parametrize(
    ("kind", "category", "ended"),
    [
        (Kind.TLS_ALERT_RECEIVED, Category.CONFIGURATION, True),
        (Kind.UNEXPECTED_EOF, Category.PEER_CLOSED, True),
        (Kind.CONNECTION_RESET, Category.PEER_CLOSED, True),
        (Kind.CERTIFICATE_INVALID, Category.CONFIGURATION, False),
        (Kind.TIMED_OUT, Category.TIMED_OUT, False),
        (Kind.NAME_RESOLUTION_ERROR, Category.DNS, False),
    ],
)
def test_an_alert_an_end_and_a_reset_are_the_peer_s_doing(*, kind: Kind, category: Category, ended: bool) -> None:
    assert BARE.evolve(kind=kind, category=category).ended_by_peer is ended


def test_a_failed_call_is_told_with_its_number_its_name_and_where_it_was() -> None:
    failure = diagnosis.from_errno(
        errno.ECONNRESET, syscall="send", phase=Phase.REQUEST_BODY, facts=FACTS, detail="half of it"
    )
    assert told(failure) == ("connection_reset", "peer_closed", "phase_table", "peer")
    assert (failure.syscall, failure.errno, failure.errno_name) == ("send", errno.ECONNRESET, "ECONNRESET")
    assert (failure.phase, failure.detail, failure.host, failure.peer) == (
        Phase.REQUEST_BODY,
        "half of it",
        "api.example",
        "192.0.2.1",
    )
    assert failure.cause
    assert failure.remedy
    assert failure.confidence is Confidence.POSSIBLE


def test_an_error_without_a_number_is_no_end_of_file() -> None:
    failure = diagnosis.from_errno(0, syscall="recv", phase=Phase.IDLE, facts={})
    assert (failure.errno, failure.kind) == (None, Kind.OTHER)
    end = diagnosis.from_eof(phase=Phase.IDLE, facts=FACTS, detail="at once", tls=TlsDetail(close_notify="sent"))
    assert (end.errno, end.kind, end.syscall, end.detail) == (0, Kind.UNEXPECTED_EOF, "recv", "at once")
    assert end.tls == TlsDetail(close_notify="sent")
    assert diagnosis.from_eof(phase=Phase.IDLE, facts={}, syscall="receive").syscall == "receive"


def test_what_is_said_of_the_socket_decides_what_its_errno_means() -> None:
    def kind_of(
        number: int, phase: Phase = Phase.CONNECT, *, connected: bool = True, ours: bool = False, bound: bool = False
    ) -> tuple[str, str]:
        made = diagnosis.from_errno(
            number, syscall="connect", phase=phase, facts={}, connected=connected, ours=ours, bound=bound
        )
        return made.kind, made.category

    for kind, expected in (("unix", Kind.CONNECTION_REFUSED), ("ipv4", Kind.OTHER)):
        facts: Facts = {"network_type": kind}
        assert diagnosis.from_errno(errno.EAGAIN, syscall="connect", phase=Phase.CONNECT, facts=facts).kind is expected
    plain = diagnosis.from_errno(errno.ENOTCONN, syscall="recv", phase=Phase.IDLE, facts={})
    assert plain.kind is Kind.CONNECTION_RESET
    plain = diagnosis.from_errno(errno.EADDRNOTAVAIL, syscall="connect", phase=Phase.CONNECT, facts={})
    assert plain.category is Category.LOCAL_RESOURCE
    assert kind_of(errno.EADDRNOTAVAIL) == ("address_not_available", "local_resource")
    assert kind_of(errno.EADDRNOTAVAIL, bound=True) == ("address_not_available", "configuration")
    assert kind_of(errno.ENOTCONN, Phase.IDLE) == ("connection_reset", "peer_closed")
    assert kind_of(errno.ENOTCONN, Phase.IDLE, connected=False) == ("_OTHER", "local_bug")
    assert kind_of(errno.EBADF, Phase.IDLE) == ("bad_file_descriptor", "local_bug")
    assert kind_of(errno.EBADF, Phase.IDLE, ours=True) == ("cancelled", "intentional")


def test_a_number_is_read_on_its_platform_and_by_who_knows_better() -> None:
    mac = diagnosis.from_errno(54, syscall="recv", phase=Phase.IDLE, facts={}, platform="darwin")
    assert (mac.errno, mac.errno_name) == (54, "ECONNRESET")
    mine = Classification(
        kind=Kind.OTHER, category=Category.CONFIGURATION, action=Action.NEVER, fault_side=FaultSide.PATH
    )
    for made in (
        diagnosis.from_errno(104, syscall="recv", phase=Phase.IDLE, facts={}, overrides={"ECONNRESET": mine}),
        diagnosis.from_eai("EAI_AGAIN", facts={}, overrides={"EAI_AGAIN": mine}),
        diagnosis.from_tls(
            phase=Phase.TLS_HANDSHAKE, facts={}, tls=TlsDetail(reason="BAD_LENGTH"), overrides={"BAD_LENGTH": mine}
        ),
    ):
        assert told(made) == ("_OTHER", "configuration", "never", "path")


def test_a_name_that_does_not_resolve_is_told_by_getaddrinfo_s_name_and_by_an_errno_if_there_is_one() -> None:
    failure = diagnosis.from_eai("EAI_SYSTEM", facts=FACTS, errno=errno.EMFILE, detail="looked up twice")
    assert (failure.kind, failure.errno, failure.errno_name) == (Kind.NO_FILE_DESCRIPTORS, errno.EMFILE, "EMFILE")
    assert (failure.phase, failure.syscall, failure.detail) == (Phase.DNS, "getaddrinfo", "looked up twice")
    again = diagnosis.from_eai("EAI_AGAIN", facts=FACTS, errno=0)
    assert (again.kind, again.errno, again.errno_name) == (Kind.NAME_RESOLUTION_ERROR, None, "EAI_AGAIN")


def test_an_alert_that_only_openssl_s_reason_tells_is_filled_in() -> None:
    failure = diagnosis.from_tls(
        phase=Phase.POST_HANDSHAKE, facts={}, tls=TlsDetail(reason="TLSV13_ALERT_CERTIFICATE_REQUIRED"), detail="late"
    )
    assert failure.tls is not None
    assert (failure.tls.alert, failure.tls.alert_name) == (116, "certificate_required")
    assert (failure.tls.alert_direction, failure.detail) == ("received", "late")
    assert failure.kind is Kind.TLS_ALERT_RECEIVED


@pytest.mark.parametrize(
    ("detail", "kind"),
    [
        (TlsDetail(alert=48, alert_direction="received"), Kind.TLS_ALERT_RECEIVED),
        (TlsDetail(alert=48, alert_direction="sent", reason="BAD_RECORD_TYPE"), Kind.TLS_PROTOCOL_ERROR),
        (TlsDetail(alert=48, reason="TLSV1_ALERT_INTERNAL_ERROR"), Kind.TLS_ALERT_RECEIVED),
        (TlsDetail(reason="CERTIFICATE_VERIFY_FAILED", verify_code=10), Kind.CERTIFICATE_INVALID),
        (TlsDetail(), Kind.TLS_PROTOCOL_ERROR),
    ],
)
def test_an_alert_of_our_own_is_no_verdict_of_the_peer(detail: TlsDetail, kind: Kind) -> None:
    failure = diagnosis.from_tls(phase=Phase.TLS_HANDSHAKE, facts={}, tls=detail)
    assert (failure.kind, failure.tls) == (kind, detail)


def test_bytes_that_break_the_protocol_are_the_peer_s_and_come_again() -> None:
    failure = diagnosis.from_protocol(phase=Phase.RESPONSE_BODY, facts=FACTS, detail="two lengths")
    assert told(failure) == ("http_protocol_error", "violation", "never", "peer")
    assert (failure.phase, failure.detail, failure.host) == (Phase.RESPONSE_BODY, "two lengths", "api.example")


@pytest.mark.parametrize(
    "expected",
    [
        ("local_timeout", "timed_out", "phase_table", "unknown"),
        ("pool_timeout", "local_resource", "phase_table", "local"),
        ("heartbeat_lost", "timed_out", "phase_table", "unknown"),
        ("proxy_refused", "refused", "address", "unknown"),
        ("http2_goaway", "peer_closed", "phase_table", "peer"),
        ("http2_stream_reset", "peer_closed", "phase_table", "peer"),
        ("_OTHER", "unknown", "back_off", "unknown"),
        ("cancelled", "intentional", "never", "local"),
    ],
)
def test_what_no_system_call_reports_means_what_its_kind_says(expected: tuple[str, ...]) -> None:
    assert told(diagnosis.local(Kind(expected[0]), phase=Phase.IDLE, facts={}, detail="why")) == expected


def test_a_kind_that_has_a_constructor_of_its_own_is_refused() -> None:
    assert len(diagnosis.LOCAL_TABLE) == 8
    with pytest.raises(ValueError, match=r"local\(connection_reset\): this kind comes from a system call"):
        diagnosis.local(Kind.CONNECTION_RESET, phase=Phase.IDLE, facts={})
