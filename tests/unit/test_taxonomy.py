"""What a failed call, a name that does not resolve, a TLS error and an end of file mean: a case for each row."""

from __future__ import annotations

import errno
from itertools import product
from typing import Final

import pytest

from holdwire.policy.codes import ALERTS, EAI, ERRNOS
from holdwire.policy.kind import Action, Category, FaultSide, Kind
from holdwire.policy.phase import Phase
from holdwire.policy.taxonomy import ALERT_TABLE, EAI_TABLE, TLS_TABLE, Classification, of_eai, of_eof, of_errno, of_tls

CONNECTING, UNIX, BOUND, CONNECTED = "connecting", "connecting to a Unix socket", "bound", "connected"
EVERYWHERE: Final = (CONNECTING, UNIX, BOUND, CONNECTED)
SET_UP: Final = (CONNECTING, UNIX, BOUND)
ON_TCP: Final = (CONNECTING, BOUND, CONNECTED)
# kind, category, action, whose fault; the errnos that mean it; where they do
ROWS: Final = (
    ("_OTHER not_an_error wait unknown", "EINPROGRESS EALREADY EINTR", EVERYWHERE),
    ("_OTHER not_an_error wait unknown", "EAGAIN", ON_TCP),
    ("connection_refused local_resource back_off peer", "EAGAIN", (UNIX,)),
    ("connection_refused refused address peer", "ECONNREFUSED", SET_UP),
    ("host_unreachable unreachable phase_table path", "ECONNREFUSED", (CONNECTED,)),
    ("connection_refused refused back_off peer", "ENOENT", (UNIX,)),
    ("_OTHER unknown back_off unknown", "ENOENT", ON_TCP),
    ("connection_reset peer_closed phase_table peer", "ECONNRESET", EVERYWHERE),
    ("broken_pipe peer_closed phase_table peer", "EPIPE ESHUTDOWN", EVERYWHERE),
    ("broken_pipe peer_closed phase_table peer", "EPROTOTYPE", ON_TCP),
    ("_OTHER configuration never local", "EPROTOTYPE", (UNIX,)),
    ("connection_aborted peer_closed phase_table unknown", "ECONNABORTED", EVERYWHERE),
    ("unexpected_eof peer_closed phase_table peer", "WSAEDISCON", EVERYWHERE),
    ("connection_reset peer_closed phase_table peer", "ENOTCONN", (CONNECTED,)),
    ("_OTHER local_bug never local", "ENOTCONN", SET_UP),
    ("timed_out timed_out phase_table path", "ETIMEDOUT ENETRESET", EVERYWHERE),
    ("host_unreachable unreachable phase_table path", "EHOSTUNREACH EHOSTDOWN EPROTO", EVERYWHERE),
    ("network_unreachable unreachable phase_table path", "ENETUNREACH", EVERYWHERE),
    ("network_down unreachable phase_table local", "ENETDOWN ENONET", EVERYWHERE),
    ("host_unreachable unreachable phase_table path", "ENOPROTOOPT", SET_UP),
    ("_OTHER configuration never local", "ENOPROTOOPT", (CONNECTED,)),
    ("address_not_available local_resource back_off local", "EADDRNOTAVAIL", (CONNECTING, UNIX, CONNECTED)),
    ("address_not_available configuration never local", "EADDRNOTAVAIL", (BOUND,)),
    ("address_already_in_use local_resource never local", "EADDRINUSE", EVERYWHERE),
    ("no_file_descriptors local_resource long_back_off local", "EMFILE ENFILE", EVERYWHERE),
    ("no_buffer_space_available local_resource long_back_off local", "ENOBUFS ENOMEM", EVERYWHERE),
    ("access_denied configuration never local", "EACCES", EVERYWHERE),
    ("access_denied configuration never local", "EPERM", SET_UP),
    ("access_denied configuration back_off local", "EPERM", (CONNECTED,)),
    ("_OTHER configuration address local", "EAFNOSUPPORT", EVERYWHERE),
    ("_OTHER configuration never local", "EPROTONOSUPPORT", EVERYWHERE),
    ("_OTHER configuration never local", "WSASYSNOTREADY WSAVERNOTSUPPORTED WSANOTINITIALISED", EVERYWHERE),
    ("_OTHER local_bug never local", "EINVAL EFAULT EDESTADDRREQ EISCONN EOPNOTSUPP EMSGSIZE", EVERYWHERE),
    ("bad_file_descriptor local_bug never local", "EBADF ENOTSOCK", EVERYWHERE),
    ("cancelled intentional never local", "ECANCELED", EVERYWHERE),
    ("tls_protocol_error violation back_off unknown", "EKEYEXPIRED EKEYREJECTED EBADMSG EIO", (CONNECTED,)),
    ("_OTHER unknown back_off unknown", "EKEYEXPIRED EKEYREJECTED EBADMSG EIO", SET_UP),
)
CASES: Final = [(name, place, means) for means, names, places in ROWS for name in names.split() for place in places]
MINE: Final = Classification(
    kind=Kind.CONNECTION_REFUSED, category=Category.REFUSED, action=Action.NOW, fault_side=FaultSide.PEER
)


def told(found: Classification) -> str:
    return f"{found.kind} {found.category} {found.action} {found.fault_side}"


def number_of(name: str) -> tuple[int, str]:
    return next((number, platform) for platform, number in ERRNOS[name]._asdict().items() if number is not None)


def means(name: str, place: str) -> Classification:
    number, platform = number_of(name)
    return of_errno(
        number,
        phase=Phase.RESPONSE_WAIT if place == CONNECTED else Phase.CONNECT,
        unix=place == UNIX,
        bound=place == BOUND,
        platform=platform,
    )


def test_every_errno_has_a_case_for_every_place() -> None:
    assert sorted((name, place) for name, place, _ in CASES) == sorted(product(ERRNOS, EVERYWHERE))


@pytest.mark.parametrize(("name", "place", "expected"), CASES)
def test_an_errno_means_what_its_place_makes_of_it(name: str, place: str, expected: str) -> None:
    found = means(name, place)
    if place != CONNECTED:  # nothing was sent: the next address
        expected = expected.replace("phase_table", "address")
    assert (found.name, told(found)) == (name, expected)


@pytest.mark.parametrize("phase", Phase)
def test_there_is_no_connection_while_one_is_being_made_whatever_the_caller_says(phase: Phase) -> None:
    for connected in (True, False):
        found = of_errno(errno.ECONNREFUSED, phase=phase, connected=connected)
        stands = connected and phase not in {Phase.DNS, Phase.CONNECT}
        assert (found.kind is Kind.HOST_UNREACHABLE) == stands
        assert (found.action is Action.PHASE_TABLE) == (stands and not phase.is_setup)


def test_a_socket_is_one_of_tcp_from_any_port_that_stands_unless_the_caller_says_otherwise() -> None:
    assert of_errno(errno.EAGAIN, phase=Phase.CONNECT).category is Category.NOT_AN_ERROR
    assert of_errno(errno.EADDRNOTAVAIL, phase=Phase.CONNECT).category is Category.LOCAL_RESOURCE
    assert of_errno(errno.ECONNREFUSED, phase=Phase.IDLE).kind is Kind.HOST_UNREACHABLE


def test_a_connection_that_stands_is_none_that_is_bound_or_made() -> None:
    standing = of_errno(errno.EAGAIN, phase=Phase.IDLE, unix=True)
    assert standing.category is Category.NOT_AN_ERROR
    sending = of_errno(errno.EADDRNOTAVAIL, phase=Phase.IDLE, bound=True)
    assert sending.category is Category.LOCAL_RESOURCE
    both = of_errno(errno.EAGAIN, phase=Phase.CONNECT, unix=True, bound=True)
    assert both.kind is Kind.CONNECTION_REFUSED


def test_a_number_that_nobody_knows_backs_off() -> None:
    found = of_errno(9999, phase=Phase.CONNECT)
    assert (found.name, told(found)) == (None, "_OTHER unknown back_off unknown")
    unlisted = of_errno(errno.EUCLEAN, phase=Phase.IDLE)
    assert (unlisted.name, told(unlisted)) == ("EUCLEAN", "_OTHER unknown back_off unknown")


@pytest.mark.parametrize("name", [*ERRNOS, None])
def test_after_our_own_close_nothing_is_an_error(name: str | None) -> None:
    number, platform = (9999, "linux") if name is None else number_of(name)
    found = of_errno(number, phase=Phase.IDLE, ours=True, platform=platform)
    waits = name in {"EAGAIN", "EALREADY", "EINPROGRESS", "EINTR"}
    assert told(found) == ("_OTHER not_an_error wait unknown" if waits else "cancelled intentional never local")
    assert found.name == name


def test_who_knows_better_is_believed_about_a_name() -> None:
    mine = {"ECONNRESET": MINE, "EAI_AGAIN": MINE, "WRONG_VERSION_NUMBER": MINE}
    assert told(of_errno(errno.ECONNRESET, phase=Phase.IDLE, overrides=mine)) == told(MINE)
    assert of_errno(errno.ECONNRESET, phase=Phase.IDLE, overrides=mine).name == "ECONNRESET"
    assert of_errno(errno.EPIPE, phase=Phase.IDLE, overrides=mine).kind is Kind.BROKEN_PIPE
    assert of_errno(9999, phase=Phase.IDLE, overrides=mine).kind is Kind.OTHER
    assert told(of_eai("WSATRY_AGAIN", overrides=mine)) == told(MINE)
    assert of_eai("EAI_FAIL", overrides=mine).category is Category.DNS
    assert told(of_tls("WRONG_VERSION_NUMBER", phase=Phase.TLS_HANDSHAKE, overrides=mine)) == told(MINE)
    assert of_tls("WRONG_VERSION_NUMBER", phase=Phase.TLS_HANDSHAKE, overrides=mine).name == "WRONG_VERSION_NUMBER"
    assert of_tls("NO_SHARED_CIPHER", phase=Phase.TLS_HANDSHAKE, overrides=mine).kind is Kind.TLS_PROTOCOL_ERROR
    assert of_tls(None, phase=Phase.TLS_HANDSHAKE, overrides=mine).kind is Kind.TLS_PROTOCOL_ERROR


def test_the_same_number_means_something_else_to_each_caller() -> None:
    assert of_errno(1, phase=Phase.CONNECT).kind is Kind.ACCESS_DENIED  # EPERM, not SSL_ERROR_SSL
    assert of_errno(54, phase=Phase.IDLE, platform="darwin").name == "ECONNRESET"
    assert of_errno(64, phase=Phase.IDLE, platform="win32").name == "ECONNRESET"
    assert of_errno(64, phase=Phase.IDLE, platform="linux").name == "ENONET"


# --- names ---

NAMES: Final = (
    ("dns back_off unknown", "EAI_AGAIN EAI_FAIL EAI_SYSTEM"),
    ("dns address unknown", "EAI_NONAME EAI_NODATA EAI_ADDRFAMILY"),
    ("local_resource long_back_off local", "EAI_MEMORY"),
    ("configuration never local", "EAI_FAMILY EAI_SOCKTYPE EAI_SERVICE EAI_BADFLAGS UnicodeError"),
    ("unknown back_off unknown", "EAI_SOMETHING_NEW"),
)


def test_every_answer_of_getaddrinfo_has_a_case() -> None:
    assert EAI_TABLE.keys() >= EAI.keys()
    assert {name for _, names in NAMES for name in names.split()} == {*EAI_TABLE, "EAI_SOMETHING_NEW"}


@pytest.mark.parametrize(("name", "expected"), [(name, means) for means, names in NAMES for name in names.split()])
def test_a_name_that_does_not_resolve_says_whether_it_may_later(name: str, expected: str) -> None:
    found = of_eai(name)
    assert (found.name, told(found)) == (name, f"name_resolution_error {expected}")


@pytest.mark.parametrize(
    ("name", "number", "kind"),
    [
        ("EAI_SYSTEM", errno.EMFILE, Kind.NO_FILE_DESCRIPTORS),
        ("EAI_SYSTEM", errno.EACCES, Kind.ACCESS_DENIED),
        ("EAI_SYSTEM", errno.ECONNREFUSED, Kind.NAME_RESOLUTION_ERROR),
        ("EAI_SYSTEM", errno.ETIMEDOUT, Kind.NAME_RESOLUTION_ERROR),
        ("EAI_SYSTEM", 0, Kind.NAME_RESOLUTION_ERROR),
        ("EAI_AGAIN", errno.EMFILE, Kind.NAME_RESOLUTION_ERROR),  # left over from another call
    ],
)
def test_a_lookup_that_this_host_could_not_make_is_told_by_its_errno(name: str, number: int, kind: Kind) -> None:
    found = of_eai(name, errno=number)
    assert found.kind is kind
    assert found.name == (name if kind is Kind.NAME_RESOLUTION_ERROR else errno.errorcode[number])


def test_the_errno_of_a_lookup_is_one_of_connecting_and_of_its_platform() -> None:
    assert of_eai("EAI_SYSTEM", errno=errno.EPERM).action is Action.NEVER
    assert of_eai("EAI_SYSTEM", errno=10024, platform="win32").kind is Kind.NO_FILE_DESCRIPTORS
    assert told(of_eai("EAI_SYSTEM", errno=errno.EMFILE, overrides={"EMFILE": MINE})) != told(MINE)
    mine = Classification(
        kind=Kind.OTHER, category=Category.CONFIGURATION, action=Action.NEVER, fault_side=FaultSide.LOCAL
    )
    assert told(of_eai("EAI_SYSTEM", errno=errno.EMFILE, overrides={"EMFILE": mine})) == told(mine)


# --- TLS ---

ALERT_ROWS: Final = (
    (
        "tls_alert_received violation back_off unknown",
        (
            "unexpected_message bad_record_mac decryption_failed record_overflow decompression_failure "
            "illegal_parameter decode_error decrypt_error"
        ),
    ),
    (
        "tls_alert_received configuration address unknown",
        "handshake_failure protocol_version insufficient_security inappropriate_fallback no_application_protocol",
    ),
    (
        "tls_alert_received configuration never local",
        (
            "no_certificate bad_certificate unsupported_certificate certificate_revoked certificate_expired "
            "certificate_unknown certificate_required unknown_ca certificate_unobtainable bad_certificate_hash_value"
        ),
    ),
    (
        "tls_alert_received configuration never unknown",
        (
            "access_denied export_restriction no_renegotiation missing_extension unsupported_extension "
            "bad_certificate_status_response unknown_psk_identity ech_required"
        ),
    ),
    ("tls_alert_received unreachable address peer", "unrecognized_name"),
    ("tls_alert_received peer_closed back_off peer", "internal_error user_canceled"),
    ("unexpected_eof peer_closed address peer", "close_notify"),
)
REASON_ROWS: Final = (
    ("certificate_invalid configuration never peer", "CERTIFICATE_VERIFY_FAILED"),
    ("unexpected_eof peer_closed address peer", "UNEXPECTED_EOF_WHILE_READING APPLICATION_DATA_AFTER_CLOSE_NOTIFY"),
    (
        "tls_protocol_error configuration never peer",
        "WRONG_VERSION_NUMBER HTTP_REQUEST HTTPS_PROXY_REQUEST RECORD_LAYER_FAILURE",
    ),
    (
        "tls_protocol_error configuration address unknown",
        (
            "UNSUPPORTED_PROTOCOL UNKNOWN_PROTOCOL VERSION_TOO_LOW VERSION_TOO_HIGH NO_SHARED_CIPHER NO_SHARED_GROUPS "
            "NO_SHARED_SIGNATURE_ALGORITHMS HANDSHAKE_FAILURE INAPPROPRIATE_FALLBACK NO_APPLICATION_PROTOCOL "
            "DH_KEY_TOO_SMALL UNSAFE_LEGACY_RENEGOTIATION_DISABLED"
        ),
    ),
    ("tls_protocol_error configuration never local", "NO_PROTOCOLS_AVAILABLE NO_CIPHERS_AVAILABLE"),
    (
        "tls_protocol_error violation back_off unknown",
        (
            "DECRYPTION_FAILED_OR_BAD_RECORD_MAC BAD_RECORD_TYPE EXCESSIVE_MESSAGE_SIZE PACKET_LENGTH_TOO_LONG "
            "ENCRYPTED_LENGTH_TOO_LONG DATA_LENGTH_TOO_LONG UNEXPECTED_MESSAGE UNEXPECTED_RECORD"
        ),
    ),
    ("tls_protocol_error local_bug never local", "BAD_WRITE_RETRY BAD_LENGTH UNINITIALIZED SHUTDOWN_WHILE_IN_INIT"),
    ("cancelled intentional never local", "PROTOCOL_IS_SHUTDOWN"),
    ("tls_protocol_error unknown back_off unknown", "SOMETHING_NEW"),
)


def test_every_alert_and_every_reason_has_a_case() -> None:
    assert ALERT_TABLE.keys() == set(ALERTS.values())
    assert {name for _, names in ALERT_ROWS for name in names.split()} == ALERT_TABLE.keys()
    assert {name for _, names in REASON_ROWS for name in names.split()} == {*TLS_TABLE, "SOMETHING_NEW"}


@pytest.mark.parametrize(("name", "expected"), [(name, means) for means, names in ALERT_ROWS for name in names.split()])
def test_an_alert_of_the_peer_says_whether_another_address_may_help(name: str, expected: str) -> None:
    number = next(number for number, known in ALERTS.items() if known == name)
    found = of_tls("SSLV3_ALERT_SOMETHING", phase=Phase.TLS_HANDSHAKE, alert=number)
    assert (found.name, told(found)) == ("SSLV3_ALERT_SOMETHING", expected)


@pytest.mark.parametrize(
    ("name", "expected"), [(name, means) for means, names in REASON_ROWS for name in names.split()]
)
@pytest.mark.parametrize("prefix", ["", "SSL_"])
def test_a_reason_of_openssl_says_whether_another_address_may_help(prefix: str, name: str, expected: str) -> None:
    found = of_tls(prefix + name, phase=Phase.TLS_HANDSHAKE)
    assert (found.name, told(found)) == (prefix + name, expected)


@pytest.mark.parametrize(
    ("reason", "alert", "expected"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", None, "tls_alert_received configuration never local"),
        ("TLSV1_ALERT_SOMETHING_NEW", None, "tls_alert_received unknown back_off unknown"),
        (None, 255, "tls_alert_received unknown back_off unknown"),
        (None, 48, "tls_alert_received configuration never local"),
        (None, 0, "unexpected_eof peer_closed phase_table peer"),
        (None, None, "tls_protocol_error unknown back_off unknown"),
    ],
)
def test_an_alert_is_known_by_its_number_or_by_openssl_s_reason(
    reason: str | None, alert: int | None, expected: str
) -> None:
    assert told(of_tls(reason, phase=Phase.POST_HANDSHAKE, alert=alert)) == expected


def test_a_certificate_that_did_not_pass_wins_over_all_that_followed() -> None:
    found = of_tls("TLSV1_ALERT_INTERNAL_ERROR", phase=Phase.TLS_HANDSHAKE, verify_code=10, alert=80)
    assert told(found) == "certificate_invalid configuration never peer"
    assert of_tls("TLSV1_ALERT_INTERNAL_ERROR", phase=Phase.TLS_HANDSHAKE, verify_code=0, alert=80).kind is (
        Kind.TLS_ALERT_RECEIVED
    )


@pytest.mark.parametrize("phase", Phase)
def test_bytes_that_are_no_tls_are_a_wrong_port_in_the_handshake_and_damage_later(phase: Phase) -> None:
    found = of_tls("WRONG_VERSION_NUMBER", phase=phase)
    later = "tls_protocol_error violation back_off unknown"
    assert told(found) == ("tls_protocol_error configuration never peer" if phase.is_setup else later)


@pytest.mark.parametrize("phase", Phase)
def test_an_end_of_file_is_the_peer_s_doing(phase: Phase) -> None:
    action = "address" if phase.is_setup else "phase_table"
    assert told(of_eof(phase=phase)) == f"unexpected_eof peer_closed {action} peer"
    assert of_eof(phase=phase).name is None
