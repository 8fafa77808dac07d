"""The names behind the numbers: errno on three platforms, getaddrinfo, TLS alerts, certificate verification.

Everything else compares names, because numbers mean different things in different places: 64 is ENONET on Linux,
EHOSTDOWN on macOS and ERROR_NETNAME_DELETED on Windows. Not responsible for what a name means (``taxonomy``).
"""

from __future__ import annotations

import errno
import sys
from typing import Final, NamedTuple

__all__ = [
    "ALERTS",
    "EAI",
    "ERRNOS",
    "VERIFY_CODES",
    "Numbers",
    "alert_of_reason",
    "canonical",
    "errno_name",
    "names_of_number",
]


class Numbers(NamedTuple):
    """The numbers of one name; None where the platform has none. Windows' is Winsock's."""

    linux: int | None
    darwin: int | None
    win32: int | None


# Linux: read back from CPython; macOS: sys/errno.h, not run there; Windows: CPython's Lib/socket.py
ERRNOS: Final[dict[str, Numbers]] = {
    "EPERM": Numbers(1, 1, None),
    "ENOENT": Numbers(2, 2, None),
    "EINTR": Numbers(4, 4, 10004),
    "EIO": Numbers(5, 5, None),
    "EBADF": Numbers(9, 9, 10009),
    "EAGAIN": Numbers(11, 35, 10035),
    "ENOMEM": Numbers(12, 12, None),
    "EACCES": Numbers(13, 13, 10013),
    "EFAULT": Numbers(14, 14, 10014),
    "EINVAL": Numbers(22, 22, 10022),
    "ENFILE": Numbers(23, 23, None),
    "EMFILE": Numbers(24, 24, 10024),
    "EPIPE": Numbers(32, 32, None),
    "ENONET": Numbers(64, None, None),
    "EPROTO": Numbers(71, 100, None),
    "EBADMSG": Numbers(74, 94, None),
    "ENOTSOCK": Numbers(88, 38, 10038),
    "EDESTADDRREQ": Numbers(89, 39, 10039),
    "EMSGSIZE": Numbers(90, 40, 10040),
    "EPROTOTYPE": Numbers(91, 41, 10041),
    "ENOPROTOOPT": Numbers(92, 42, 10042),
    "EPROTONOSUPPORT": Numbers(93, 43, 10043),
    "EOPNOTSUPP": Numbers(95, 102, 10045),
    "EAFNOSUPPORT": Numbers(97, 47, 10047),
    "EADDRINUSE": Numbers(98, 48, 10048),
    "EADDRNOTAVAIL": Numbers(99, 49, 10049),
    "ENETDOWN": Numbers(100, 50, 10050),
    "ENETUNREACH": Numbers(101, 51, 10051),
    "ENETRESET": Numbers(102, 52, 10052),
    "ECONNABORTED": Numbers(103, 53, 10053),
    "ECONNRESET": Numbers(104, 54, 10054),
    "ENOBUFS": Numbers(105, 55, 10055),
    "EISCONN": Numbers(106, 56, 10056),
    "ENOTCONN": Numbers(107, 57, 10057),
    "ESHUTDOWN": Numbers(108, 58, 10058),
    "ETIMEDOUT": Numbers(110, 60, 10060),
    "ECONNREFUSED": Numbers(111, 61, 10061),
    "EHOSTDOWN": Numbers(112, 64, 10064),
    "EHOSTUNREACH": Numbers(113, 65, 10065),
    "EALREADY": Numbers(114, 37, 10037),
    "EINPROGRESS": Numbers(115, 36, 10036),
    "ECANCELED": Numbers(125, 89, None),
    "EKEYEXPIRED": Numbers(127, None, None),
    "EKEYREJECTED": Numbers(129, None, None),
    "WSASYSNOTREADY": Numbers(None, None, 10091),
    "WSAVERNOTSUPPORTED": Numbers(None, None, 10092),
    "WSANOTINITIALISED": Numbers(None, None, 10093),
    "WSAEDISCON": Numbers(None, None, 10101),
}
"""The names of the taxonomy with their numbers (``errno``, Winsock)."""

EAI: Final[dict[str, Numbers]] = {
    "EAI_BADFLAGS": Numbers(-1, None, None),
    "EAI_NONAME": Numbers(-2, None, 11001),
    "EAI_AGAIN": Numbers(-3, None, 11002),
    "EAI_FAIL": Numbers(-4, None, 11003),
    "EAI_NODATA": Numbers(-5, None, 11004),
    "EAI_FAMILY": Numbers(-6, None, None),
    "EAI_SOCKTYPE": Numbers(-7, None, None),
    "EAI_SERVICE": Numbers(-8, None, None),
    "EAI_ADDRFAMILY": Numbers(-9, None, None),
    "EAI_MEMORY": Numbers(-10, None, None),
    "EAI_SYSTEM": Numbers(-11, None, None),
}
"""What getaddrinfo answers. macOS has positive numbers that collide with errno's: use the names."""

# Windows: Win32 codes that mean the same as an errno, and the names of its resolver.
_WIN32: Final[dict[int, tuple[str, str]]] = {
    2: ("ERROR_FILE_NOT_FOUND", "ENOENT"),
    8: ("ERROR_NOT_ENOUGH_MEMORY", "ENOMEM"),
    64: ("ERROR_NETNAME_DELETED", "ECONNRESET"),
    121: ("ERROR_SEM_TIMEOUT", "ETIMEDOUT"),
    995: ("ERROR_OPERATION_ABORTED", "ECANCELED"),
    1225: ("ERROR_CONNECTION_REFUSED", "ECONNREFUSED"),
    1231: ("ERROR_NETWORK_UNREACHABLE", "ENETUNREACH"),
    1232: ("ERROR_HOST_UNREACHABLE", "EHOSTUNREACH"),
    1236: ("ERROR_CONNECTION_ABORTED", "ECONNABORTED"),
    1450: ("ERROR_NO_SYSTEM_RESOURCES", "ENOMEM"),
    11001: ("WSAHOST_NOT_FOUND", "EAI_NONAME"),
    11002: ("WSATRY_AGAIN", "EAI_AGAIN"),
    11003: ("WSANO_RECOVERY", "EAI_FAIL"),
    11004: ("WSANO_DATA", "EAI_NODATA"),
}
_ALIASES: Final[dict[str, str]] = dict(_WIN32.values()) | {
    "EWOULDBLOCK": "EAGAIN",
    "WSAEWOULDBLOCK": "EAGAIN",
    "ENOTSUP": "EOPNOTSUPP",
}


def canonical(name: str) -> str:
    """The name under which the tables know ``name``: EWOULDBLOCK is EAGAIN, WSAECONNRESET is ECONNRESET."""
    name = _ALIASES.get(name, name)
    return name[3:] if name.startswith("WSAE") and name not in ERRNOS else name


def _by_number(platform: str) -> dict[int, str]:
    numbers = {getattr(row, platform): name for name, row in ERRNOS.items()}
    if platform == "win32":
        numbers |= {number: same for number, (_, same) in _WIN32.items() if not same.startswith("EAI")}
    return {number: name for number, name in numbers.items() if number is not None}


_PLATFORMS: Final = Numbers._fields
_NAMES: Final[dict[str, dict[int, str]]] = {platform: _by_number(platform) for platform in _PLATFORMS}
_NAMES[sys.platform] = {number: canonical(name) for number, name in errno.errorcode.items()} | _NAMES.get(
    sys.platform, {}
)


def errno_name(number: int, platform: str = sys.platform) -> str | None:
    """The name of an error number on ``platform`` (as ``sys.platform`` has it), None if it has none there.

    On the running platform every number of the ``errno`` module is known, elsewhere those of the tables. A platform
    without a table (a BSD) is read like macOS.
    """
    return _NAMES.get(platform, _NAMES["darwin"]).get(number)


def names_of_number(number: int) -> list[tuple[str, str]]:
    """What ``number`` may be: ``(platform, name)`` for each platform that has it, in the platform's own words."""
    found = [(platform, name) for platform in _PLATFORMS if (name := _native(number, platform)) is not None]
    return found + [("linux", name) for name, row in EAI.items() if row.linux == number]


def _native(number: int, platform: str) -> str | None:
    if platform != "win32":
        return _NAMES[platform].get(number)
    if number in _WIN32:
        return _WIN32[number][0]
    name = _NAMES[platform].get(number)
    return name if name is None or name.startswith("WSA") else f"WSA{name}"


# IANA, "TLS Alerts" (RFC 8446, section 6, and the RFCs that added to it)
ALERTS: Final[dict[int, str]] = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
    121: "ech_required",
}
"""Alert numbers and their names."""

_ALERT_NUMBERS: Final = {name.upper(): number for number, name in ALERTS.items()} | {"USER_CANCELLED": 90}
_ALERT_PREFIXES: Final = ("SSLV3_ALERT_", "TLSV1_ALERT_", "TLSV13_ALERT_", "SSLV3_", "TLSV1_", "TLSV13_")


def alert_of_reason(reason: str) -> int | None:
    """The number of the peer's alert that OpenSSL reports as ``reason``; None if the reason is none.

    OpenSSL spells them TLSV1_ALERT_UNKNOWN_CA, SSLV3_ALERT_HANDSHAKE_FAILURE, TLSV1_UNRECOGNIZED_NAME and differs
    from version to version. The same stem without a prefix is an error that OpenSSL found itself.
    """
    for prefix in _ALERT_PREFIXES:
        if reason.startswith(prefix):
            return _ALERT_NUMBERS.get(reason.removeprefix(prefix))
    return None


# openssl/x509_vfy.h, without X509_V_ERR_; those that a client with an ordinary context can meet
VERIFY_CODES: Final[dict[int, str]] = {
    2: "UNABLE_TO_GET_ISSUER_CERT",
    3: "UNABLE_TO_GET_CRL",
    7: "CERT_SIGNATURE_FAILURE",
    9: "CERT_NOT_YET_VALID",
    10: "CERT_HAS_EXPIRED",
    12: "CRL_HAS_EXPIRED",
    18: "DEPTH_ZERO_SELF_SIGNED_CERT",
    19: "SELF_SIGNED_CERT_IN_CHAIN",
    20: "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
    21: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    22: "CERT_CHAIN_TOO_LONG",
    23: "CERT_REVOKED",
    24: "NO_ISSUER_PUBLIC_KEY",
    25: "PATH_LENGTH_EXCEEDED",
    26: "INVALID_PURPOSE",
    27: "CERT_UNTRUSTED",
    28: "CERT_REJECTED",
    34: "UNHANDLED_CRITICAL_EXTENSION",
    47: "PERMITTED_VIOLATION",
    48: "EXCLUDED_VIOLATION",
    62: "HOSTNAME_MISMATCH",
    64: "IP_ADDRESS_MISMATCH",
    66: "EE_KEY_TOO_SMALL",
    67: "CA_KEY_TOO_SMALL",
    68: "CA_MD_TOO_WEAK",
    79: "INVALID_CA",
    85: "MISSING_AUTHORITY_KEY_IDENTIFIER",
    86: "MISSING_SUBJECT_KEY_IDENTIFIER",
    92: "CA_CERT_MISSING_KEY_USAGE",
}
"""Codes of certificate verification and their names."""
