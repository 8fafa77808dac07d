"""The names behind numbers against who gives them out: the ``errno`` and ``socket`` modules, OpenSSL, BSD's numbers."""

from __future__ import annotations

import errno
import socket
import ssl
import sys

import pytest
from cryptography.hazmat.bindings.openssl.binding import Binding

from holdwire.policy.codes import (
    ALERTS,
    EAI,
    ERRNOS,
    VERIFY_CODES,
    alert_of_reason,
    canonical,
    errno_name,
    names_of_number,
)
from holdwire.policy.taxonomy import EAI_TABLE, ERRNO_TABLE

# sys/errno.h of macOS where it is neither Unix's first 34 numbers nor one of those that Winsock took over from BSD
DARWIN = {"EBADMSG": 94, "ECANCELED": 89, "EOPNOTSUPP": 102, "EPROTO": 100}
# winsock2.h beyond BSD's numbers
WINSOCK = {"WSASYSNOTREADY": 10091, "WSAVERNOTSUPPORTED": 10092, "WSANOTINITIALISED": 10093, "WSAEDISCON": 10101}
UNIX, WSABASEERR = 34, 10_000
ONLY_LINUX = {"ENONET", "EKEYEXPIRED", "EKEYREJECTED"}
# what a Windows system calls a Win32 error or one of its resolver, and the name that the same has elsewhere
WINDOWS = [
    (2, "ERROR_FILE_NOT_FOUND", "ENOENT"),
    (8, "ERROR_NOT_ENOUGH_MEMORY", "ENOMEM"),
    (64, "ERROR_NETNAME_DELETED", "ECONNRESET"),
    (121, "ERROR_SEM_TIMEOUT", "ETIMEDOUT"),
    (995, "ERROR_OPERATION_ABORTED", "ECANCELED"),
    (1225, "ERROR_CONNECTION_REFUSED", "ECONNREFUSED"),
    (1231, "ERROR_NETWORK_UNREACHABLE", "ENETUNREACH"),
    (1232, "ERROR_HOST_UNREACHABLE", "EHOSTUNREACH"),
    (1236, "ERROR_CONNECTION_ABORTED", "ECONNABORTED"),
    (1450, "ERROR_NO_SYSTEM_RESOURCES", "ENOMEM"),
]
RESOLVER = [
    (11001, "WSAHOST_NOT_FOUND", "EAI_NONAME"),
    (11002, "WSATRY_AGAIN", "EAI_AGAIN"),
    (11003, "WSANO_RECOVERY", "EAI_FAIL"),
    (11004, "WSANO_DATA", "EAI_NODATA"),
]
# what OpenSSL says about a code of certificate verification
VERIFICATION = {
    "UNABLE_TO_GET_ISSUER_CERT": "unable to get issuer certificate",
    "UNABLE_TO_GET_CRL": "unable to get certificate CRL",
    "CERT_SIGNATURE_FAILURE": "certificate signature failure",
    "CERT_NOT_YET_VALID": "certificate is not yet valid",
    "CERT_HAS_EXPIRED": "certificate has expired",
    "CRL_HAS_EXPIRED": "CRL has expired",
    "DEPTH_ZERO_SELF_SIGNED_CERT": "self-signed certificate",
    "SELF_SIGNED_CERT_IN_CHAIN": "self-signed certificate in certificate chain",
    "UNABLE_TO_GET_ISSUER_CERT_LOCALLY": "unable to get local issuer certificate",
    "UNABLE_TO_VERIFY_LEAF_SIGNATURE": "unable to verify the first certificate",
    "CERT_CHAIN_TOO_LONG": "certificate chain too long",
    "CERT_REVOKED": "certificate revoked",
    "NO_ISSUER_PUBLIC_KEY": "issuer certificate doesn't have a public key",
    "PATH_LENGTH_EXCEEDED": "path length constraint exceeded",
    "INVALID_PURPOSE": "unsuitable certificate purpose",
    "CERT_UNTRUSTED": "certificate not trusted",
    "CERT_REJECTED": "certificate rejected",
    "UNHANDLED_CRITICAL_EXTENSION": "unhandled critical extension",
    "PERMITTED_VIOLATION": "permitted subtree violation",
    "EXCLUDED_VIOLATION": "excluded subtree violation",
    "HOSTNAME_MISMATCH": "hostname mismatch",
    "IP_ADDRESS_MISMATCH": "IP address mismatch",
    "EE_KEY_TOO_SMALL": "EE certificate key too weak",
    "CA_KEY_TOO_SMALL": "CA certificate key too weak",
    "CA_MD_TOO_WEAK": "CA signature digest algorithm too weak",
    "INVALID_CA": "invalid CA certificate",
    "MISSING_AUTHORITY_KEY_IDENTIFIER": "Missing Authority Key Identifier",
    "MISSING_SUBJECT_KEY_IDENTIFIER": "Missing Subject Key Identifier",
    "CA_CERT_MISSING_KEY_USAGE": "CA cert does not include key usage extension",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the errno module has the numbers of the platform that runs")
@pytest.mark.parametrize("name", ERRNOS)
def test_an_errno_has_the_number_of_this_kernel(name: str) -> None:
    assert ERRNOS[name].linux == getattr(errno, name, None)


@pytest.mark.parametrize("name", ERRNOS)
def test_an_errno_has_bsd_s_number_on_macos_and_ten_thousand_more_on_windows(name: str) -> None:
    linux, darwin, win32 = ERRNOS[name]
    if name in ONLY_LINUX | WINSOCK.keys():
        assert darwin is None
    elif linux is not None and linux <= UNIX and name != "EAGAIN":  # Linux and BSD took EAGAIN's place from each other
        assert darwin == linux
    elif win32 is None or name in DARWIN:
        assert darwin == DARWIN[name]
    if name in WINSOCK:
        assert win32 == WINSOCK[name]
    elif name == "EOPNOTSUPP":  # macOS moved it
        assert win32 == WSABASEERR + 45
    elif win32 is not None:
        assert win32 - WSABASEERR == darwin


def test_what_winsock_and_macos_have_is_not_forgotten() -> None:
    without = {name for name, row in ERRNOS.items() if row.win32 is None}
    of_files = {"EPERM", "ENOENT", "EIO", "ENOMEM", "ENFILE", "EPIPE"}
    assert without == ONLY_LINUX | of_files | {"EPROTO", "EBADMSG", "ECANCELED"}
    assert {name for name, row in ERRNOS.items() if row.darwin is None} == ONLY_LINUX | WINSOCK.keys()


def test_every_name_with_a_number_has_a_meaning_and_the_other_way_round() -> None:
    assert ERRNOS.keys() == ERRNO_TABLE.keys()
    assert EAI.keys() | {"UnicodeError"} == EAI_TABLE.keys()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's numbers")
@pytest.mark.parametrize("name", EAI)
def test_a_code_of_getaddrinfo_has_the_number_of_this_libc(name: str) -> None:
    assert EAI[name].linux == getattr(socket, name)
    assert names_of_number(getattr(socket, name)) == [("linux", name)]


@pytest.mark.parametrize(("number", "native", "name"), WINDOWS)
def test_an_error_of_windows_is_the_errno_that_means_the_same(number: int, native: str, name: str) -> None:
    assert errno_name(number, "win32") == name
    assert canonical(native) == name
    assert ("win32", native) in names_of_number(number)


@pytest.mark.parametrize(("number", "native", "name"), RESOLVER)
def test_an_answer_of_windows_resolver_is_the_code_that_means_the_same(number: int, native: str, name: str) -> None:
    assert EAI[name] == (getattr(socket, name), None, number)
    assert errno_name(number, "win32") is None, "it is no errno"
    assert canonical(native) == name
    assert names_of_number(number) == [("win32", native)]


def test_only_the_resolver_of_windows_has_numbers_beside_glibc_s() -> None:
    assert {name for name, row in EAI.items() if row.win32 is not None} == {name for _, _, name in RESOLVER}
    assert {row.darwin for row in EAI.values()} == {None}


@pytest.mark.parametrize(
    ("spelt", "known"),
    [
        ("EWOULDBLOCK", "EAGAIN"),
        ("WSAEWOULDBLOCK", "EAGAIN"),
        ("ENOTSUP", "EOPNOTSUPP"),
        ("WSAECONNRESET", "ECONNRESET"),
        ("WSAEDISCON", "WSAEDISCON"),
        ("ECONNRESET", "ECONNRESET"),
        ("EUCLEAN", "EUCLEAN"),
    ],
)
def test_other_spellings_of_a_name_are_known(spelt: str, known: str) -> None:
    assert canonical(spelt) == known


def test_a_number_is_told_for_every_platform_in_its_own_words() -> None:
    assert names_of_number(64) == [("linux", "ENONET"), ("darwin", "EHOSTDOWN"), ("win32", "ERROR_NETNAME_DELETED")]
    assert names_of_number(10054) == [("win32", "WSAECONNRESET")]
    assert names_of_number(10101) == [("win32", "WSAEDISCON")]
    assert names_of_number(2) == [("linux", "ENOENT"), ("darwin", "ENOENT"), ("win32", "ERROR_FILE_NOT_FOUND")]
    assert names_of_number(99_999) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the errno module has the numbers of the platform that runs")
def test_on_this_platform_every_number_has_a_name_and_elsewhere_those_of_the_tables() -> None:
    assert {number: errno_name(number) for number in errno.errorcode} == {
        number: canonical(name) for number, name in errno.errorcode.items()
    }
    assert errno_name(errno.EUCLEAN, "darwin") is None
    assert errno_name(errno.EUCLEAN, "win32") is None


def test_a_bsd_is_read_like_macos() -> None:
    assert errno_name(54, "freebsd14") == "ECONNRESET"
    assert errno_name(104, "freebsd14") is None


def test_an_alert_has_the_number_that_openssl_gives_it() -> None:
    theirs = {one.value: one.name.removeprefix("ALERT_DESCRIPTION_").lower() for one in ssl.AlertDescription}
    # those that the ssl module does not name, from IANA's registry of TLS alerts
    theirs |= {21: "decryption_failed", 41: "no_certificate", 60: "export_restriction", 86: "inappropriate_fallback"}
    theirs |= {109: "missing_extension", 116: "certificate_required", 120: "no_application_protocol"}
    theirs |= {90: "user_canceled", 121: "ech_required"}  # one l in RFC 8446, two in OpenSSL
    assert theirs == ALERTS


@pytest.mark.parametrize(
    ("reason", "alert"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", 48),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", 116),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", 40),
        ("TLSV1_UNRECOGNIZED_NAME", 112),
        ("SSLV3_BAD_CERTIFICATE", 42),
        ("TLSV13_MISSING_EXTENSION", 109),
        ("TLSV1_ALERT_USER_CANCELLED", 90),
        ("TLSV1_ALERT_SOMETHING_NEW", None),
        ("NO_APPLICATION_PROTOCOL", None),  # ours: no alert of the peer
        ("", None),
    ],
)
def test_an_alert_of_the_peer_is_known_by_openssl_s_reason_and_an_error_of_ours_is_none(
    reason: str, alert: int | None
) -> None:
    assert alert_of_reason(reason) == alert


@pytest.mark.parametrize("number", VERIFY_CODES)
def test_a_code_of_verification_is_what_openssl_says_it_is(number: int) -> None:
    openssl = Binding()
    said = openssl.ffi.string(openssl.lib.X509_verify_cert_error_string(number)).decode()
    assert said.startswith(VERIFICATION[VERIFY_CODES[number]])


def test_every_code_of_verification_is_named() -> None:
    assert sorted(VERIFY_CODES.values()) == sorted(VERIFICATION)
