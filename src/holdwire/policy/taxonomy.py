"""The failure taxonomy: what each errno, EAI code and TLS reason means, as tables. Pure.

Rules of the file: classify by phase and errno together, never by errno alone (an ICMP answer surfaces as ECONNREFUSED
on an established connection, and proves nothing about delivery); compare names, not numbers (64 is ENONET on Linux,
EHOSTDOWN on macOS, ERROR_NETNAME_DELETED on Windows); test the class of an exception before its number, because
SSLError and gaierror are OSErrors whose errno is none. A code that no table lists is unknown and never retried at once.
Not responsible for reading errors, for words (``words``) or for verdicts (``retry``).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .kind import Action, Category, FaultSide, Kind
from .phase import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ALERTS",
    "EAI",
    "ERRNO",
    "TLS_REASONS",
    "Classification",
    "alert_of_reason",
    "errno_name",
    "names_of_number",
    "of_eai",
    "of_eof",
    "of_errno",
    "of_tls",
]


@dataclass(frozen=True, slots=True)
class Classification:
    """What a code means: kind, sort of trouble, the most that may be done about it, whose fault it most likely is."""

    kind: Kind
    category: Category
    action: Action
    fault_side: FaultSide = FaultSide.UNKNOWN


_C, _K, _A, _S = Category, Kind, Action, FaultSide

_WAIT: Final = Classification(_K.OTHER, _C.NOT_AN_ERROR, _A.WAIT)
_RESET: Final = Classification(_K.CONNECTION_RESET, _C.PEER_CLOSED, _A.PHASE_TABLE, _S.PEER)
_PIPE: Final = Classification(_K.BROKEN_PIPE, _C.PEER_CLOSED, _A.PHASE_TABLE, _S.PEER)
_ABORTED: Final = Classification(_K.CONNECTION_ABORTED, _C.PEER_CLOSED, _A.PHASE_TABLE, _S.LOCAL)
_EOF: Final = Classification(_K.UNEXPECTED_EOF, _C.PEER_CLOSED, _A.PHASE_TABLE, _S.PEER)
_TIMED_OUT: Final = Classification(_K.TIMED_OUT, _C.TIMED_OUT, _A.PHASE_TABLE, _S.PATH)
_HOST: Final = Classification(_K.HOST_UNREACHABLE, _C.UNREACHABLE, _A.PHASE_TABLE, _S.PATH)
_NET: Final = Classification(_K.NETWORK_UNREACHABLE, _C.UNREACHABLE, _A.PHASE_TABLE, _S.PATH)
_DOWN: Final = Classification(_K.NETWORK_DOWN, _C.UNREACHABLE, _A.PHASE_TABLE, _S.LOCAL)
_REFUSED: Final = Classification(_K.CONNECTION_REFUSED, _C.REFUSED, _A.ADDRESS, _S.PEER)
_FILES: Final = Classification(_K.NO_FILE_DESCRIPTORS, _C.LOCAL_RESOURCE, _A.LONG_BACK_OFF, _S.LOCAL)
_MEMORY: Final = Classification(_K.NO_BUFFER_SPACE_AVAILABLE, _C.LOCAL_RESOURCE, _A.LONG_BACK_OFF, _S.LOCAL)
_DENIED: Final = Classification(_K.ACCESS_DENIED, _C.CONFIGURATION, _A.NEVER, _S.LOCAL)
_CONFIGURED: Final = Classification(_K.OTHER, _C.CONFIGURATION, _A.NEVER, _S.LOCAL)
_BUG: Final = Classification(_K.OTHER, _C.LOCAL_BUG, _A.NEVER, _S.LOCAL)
_BAD_FD: Final = Classification(_K.BAD_FILE_DESCRIPTOR, _C.LOCAL_BUG, _A.NEVER, _S.LOCAL)
_OURS: Final = Classification(_K.CANCELLED, _C.INTENTIONAL, _A.NEVER, _S.LOCAL)
_KTLS: Final = Classification(_K.TLS_PROTOCOL_ERROR, _C.VIOLATION, _A.BACK_OFF, _S.PATH)
_UNKNOWN: Final = Classification(_K.OTHER, _C.UNKNOWN, _A.BACK_OFF)

ERRNO: Final[dict[str, Classification]] = {
    **dict.fromkeys(("EAGAIN", "EWOULDBLOCK", "EINPROGRESS", "EALREADY", "EINTR"), _WAIT),
    "ECONNREFUSED": _HOST,
    "ECONNRESET": _RESET,
    **dict.fromkeys(("EPIPE", "ESHUTDOWN", "EPROTOTYPE"), _PIPE),
    "ECONNABORTED": _ABORTED,
    "WSAEDISCON": _EOF,
    "ENOTCONN": _RESET,
    **dict.fromkeys(("ETIMEDOUT", "ENETRESET"), _TIMED_OUT),
    **dict.fromkeys(("EHOSTUNREACH", "EHOSTDOWN", "EPROTO"), _HOST),
    "ENETUNREACH": _NET,
    **dict.fromkeys(("ENETDOWN", "ENONET"), _DOWN),
    "ENOPROTOOPT": _CONFIGURED,
    "EADDRNOTAVAIL": Classification(_K.ADDRESS_NOT_AVAILABLE, _C.LOCAL_RESOURCE, _A.BACK_OFF, _S.LOCAL),
    "EADDRINUSE": Classification(_K.ADDRESS_ALREADY_IN_USE, _C.LOCAL_RESOURCE, _A.NEVER, _S.LOCAL),
    **dict.fromkeys(("EMFILE", "ENFILE"), _FILES),
    **dict.fromkeys(("ENOBUFS", "ENOMEM"), _MEMORY),
    **dict.fromkeys(("EACCES", "EPERM"), _DENIED),
    "EAFNOSUPPORT": Classification(_K.NETWORK_UNREACHABLE, _C.CONFIGURATION, _A.ADDRESS, _S.LOCAL),
    **dict.fromkeys(("EPROTONOSUPPORT", "WSASYSNOTREADY", "WSAVERNOTSUPPORTED", "WSANOTINITIALISED"), _CONFIGURED),
    **dict.fromkeys(("EINVAL", "EFAULT", "EDESTADDRREQ", "EISCONN", "EOPNOTSUPP", "EMSGSIZE", "ENOENT"), _BUG),
    **dict.fromkeys(("EBADF", "ENOTSOCK"), _BAD_FD),
    "ECANCELED": _OURS,
    **dict.fromkeys(("EKEYEXPIRED", "EKEYREJECTED", "EBADMSG", "EIO"), _KTLS),
}
"""On an established connection."""

_CONNECTING: Final[dict[str, Classification]] = {
    "ECONNREFUSED": _REFUSED,
    **{
        name: Classification(found.kind, found.category, _A.ADDRESS, found.fault_side)
        for name, found in ERRNO.items()
        if found.category in {_C.PEER_CLOSED, _C.TIMED_OUT, _C.UNREACHABLE} and name not in {"ECONNREFUSED", "ENOTCONN"}
    },
    "ENOPROTOOPT": Classification(_K.HOST_UNREACHABLE, _C.UNREACHABLE, _A.ADDRESS, _S.PATH),
    "ENOTCONN": _BUG,
}
"""Where connecting differs."""

_UNIX: Final[dict[str, Classification]] = {
    "ENOENT": Classification(_K.CONNECTION_REFUSED, _C.REFUSED, _A.BACK_OFF, _S.PEER),
    "EAGAIN": Classification(_K.NO_BUFFER_SPACE_AVAILABLE, _C.LOCAL_RESOURCE, _A.BACK_OFF, _S.PEER),
}
"""Where connecting a Unix socket differs: the file is missing, or the listener's backlog is full."""

_BOUND: Final = {"EADDRNOTAVAIL": Classification(_K.ADDRESS_NOT_AVAILABLE, _C.CONFIGURATION, _A.NEVER, _S.LOCAL)}
"""Where connecting differs when the caller chose the local address: it is none of this host's."""
_CLOSED_BY_US: Final = dict.fromkeys(("EBADF", "ENOTSOCK", "ECANCELED", "EPIPE", "ENOTCONN"), _OURS)

EAI: Final[dict[str, Classification]] = {
    "EAI_AGAIN": Classification(_K.NAME_RESOLUTION_ERROR, _C.DNS, _A.BACK_OFF, _S.PATH),
    "EAI_NONAME": Classification(_K.NAME_RESOLUTION_ERROR, _C.DNS, _A.NEVER, _S.UNKNOWN),
    "EAI_NODATA": Classification(_K.NAME_RESOLUTION_ERROR, _C.DNS, _A.ADDRESS, _S.UNKNOWN),
    "EAI_ADDRFAMILY": Classification(_K.NAME_RESOLUTION_ERROR, _C.DNS, _A.ADDRESS, _S.UNKNOWN),
    "EAI_FAIL": Classification(_K.NAME_RESOLUTION_ERROR, _C.DNS, _A.BACK_OFF, _S.PEER),
    "EAI_SYSTEM": Classification(_K.NAME_RESOLUTION_ERROR, _C.DNS, _A.BACK_OFF, _S.LOCAL),
    "EAI_MEMORY": Classification(_K.NAME_RESOLUTION_ERROR, _C.LOCAL_RESOURCE, _A.LONG_BACK_OFF, _S.LOCAL),
    **dict.fromkeys(
        ("EAI_FAMILY", "EAI_SOCKTYPE", "EAI_SERVICE", "EAI_BADFLAGS"),
        Classification(_K.NAME_RESOLUTION_ERROR, _C.CONFIGURATION, _A.NEVER, _S.LOCAL),
    ),
    "IDNA": Classification(_K.NAME_RESOLUTION_ERROR, _C.CONFIGURATION, _A.NEVER, _S.LOCAL),
}

_CERTIFICATE: Final = Classification(_K.CERTIFICATE_INVALID, _C.CONFIGURATION, _A.NEVER, _S.PEER)
_MISMATCH: Final = Classification(_K.TLS_PROTOCOL_ERROR, _C.CONFIGURATION, _A.NEVER, _S.PEER)
_CLIENT_CERTIFICATE: Final = Classification(_K.TLS_ALERT_RECEIVED, _C.CONFIGURATION, _A.NEVER, _S.LOCAL)
_DAMAGED: Final = Classification(_K.TLS_PROTOCOL_ERROR, _C.VIOLATION, _A.NOW, _S.PATH)
_TLS_BUG: Final = Classification(_K.TLS_PROTOCOL_ERROR, _C.LOCAL_BUG, _A.NEVER, _S.LOCAL)

TLS_REASONS: Final[tuple[tuple[str, Classification], ...]] = (
    ("CERTIFICATE_VERIFY_FAILED", _CERTIFICATE),
    ("UNEXPECTED_EOF", _EOF),
    ("WRONG_VERSION_NUMBER", _MISMATCH),
    ("HTTP_REQUEST", _MISMATCH),
    ("HTTPS_PROXY_REQUEST", _MISMATCH),
    ("RECORD_LAYER_FAILURE", _MISMATCH),
    ("UNSUPPORTED_PROTOCOL", _MISMATCH),
    ("ALERT_PROTOCOL_VERSION", Classification(_K.TLS_ALERT_RECEIVED, _C.CONFIGURATION, _A.NEVER, _S.PEER)),
    ("NO_SHARED_CIPHER", _MISMATCH),
    ("HANDSHAKE_FAILURE", Classification(_K.TLS_ALERT_RECEIVED, _C.CONFIGURATION, _A.NEVER, _S.PEER)),
    ("INAPPROPRIATE_FALLBACK", _MISMATCH),
    ("NO_APPLICATION_PROTOCOL", Classification(_K.TLS_ALERT_RECEIVED, _C.CONFIGURATION, _A.NEVER, _S.PEER)),
    ("UNRECOGNIZED_NAME", Classification(_K.TLS_ALERT_RECEIVED, _C.CONFIGURATION, _A.ADDRESS, _S.PEER)),
    ("UNKNOWN_CA", _CLIENT_CERTIFICATE),
    ("BAD_CERTIFICATE", _CLIENT_CERTIFICATE),
    ("CERTIFICATE_EXPIRED", _CLIENT_CERTIFICATE),
    ("CERTIFICATE_REVOKED", _CLIENT_CERTIFICATE),
    ("CERTIFICATE_UNKNOWN", _CLIENT_CERTIFICATE),
    ("CERTIFICATE_REQUIRED", _CLIENT_CERTIFICATE),
    ("UNSUPPORTED_CERTIFICATE", _CLIENT_CERTIFICATE),
    ("ACCESS_DENIED", Classification(_K.TLS_ALERT_RECEIVED, _C.CONFIGURATION, _A.NEVER, _S.PEER)),
    ("ALERT_INTERNAL_ERROR", Classification(_K.TLS_ALERT_RECEIVED, _C.PEER_CLOSED, _A.BACK_OFF, _S.PEER)),
    ("USER_CANCELLED", Classification(_K.TLS_ALERT_RECEIVED, _C.PEER_CLOSED, _A.BACK_OFF, _S.PEER)),
    ("BAD_RECORD_MAC", _DAMAGED),
    ("DECRYPTION_FAILED", _DAMAGED),
    ("BAD_RECORD_TYPE", _DAMAGED),
    ("EXCESSIVE_MESSAGE_SIZE", _DAMAGED),
    ("BAD_WRITE_RETRY", _TLS_BUG),
    ("BAD_LENGTH", _TLS_BUG),
    ("UNINITIALIZED", _TLS_BUG),
    ("PROTOCOL_IS_SHUTDOWN", _OURS),
    ("APPLICATION_DATA_AFTER_CLOSE_NOTIFY", _EOF),
)
"""OpenSSL's reasons by stem, first match wins: it prefixes alert names differently from version to version."""

ALERTS: Final[dict[int, str]] = {
    0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed", 22: "record_overflow",
    30: "decompression_failure", 40: "handshake_failure", 41: "no_certificate", 42: "bad_certificate",
    43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired", 46: "certificate_unknown",
    47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error", 51: "decrypt_error",
    60: "export_restriction", 70: "protocol_version", 71: "insufficient_security", 80: "internal_error",
    86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation", 109: "missing_extension",
    110: "unsupported_extension", 111: "certificate_unobtainable", 112: "unrecognized_name",
    113: "bad_certificate_status_response", 114: "bad_certificate_hash_value", 115: "unknown_psk_identity",
    116: "certificate_required", 120: "no_application_protocol",
}  # fmt: skip
"""The alerts of TLS (RFC 8446, section 6, and its predecessors)."""

_PLATFORMS: Final[dict[str, tuple[int | None, int | None, tuple[int, ...]]]] = {
    "EAGAIN": (11, 35, (10035,)), "EINPROGRESS": (115, 36, (10036,)), "EALREADY": (114, 37, (10037,)),
    "EINTR": (4, 4, (10004,)), "ECONNREFUSED": (111, 61, (10061, 1225)), "ENOENT": (2, 2, (2,)),
    "ECONNRESET": (104, 54, (10054, 64)), "EPIPE": (32, 32, ()), "ESHUTDOWN": (108, 58, (10058,)),
    "EPROTOTYPE": (91, 41, (10041,)), "ECONNABORTED": (103, 53, (10053, 1236)), "WSAEDISCON": (None, None, (10101,)),
    "ENOTCONN": (107, 57, (10057,)), "ETIMEDOUT": (110, 60, (10060, 121)), "ENETRESET": (102, 52, (10052,)),
    "EHOSTUNREACH": (113, 65, (10065, 1232)), "EHOSTDOWN": (112, 64, (10064,)),
    "ENETUNREACH": (101, 51, (10051, 1231)), "ENETDOWN": (100, 50, (10050,)), "ENONET": (64, None, ()),
    "ENOPROTOOPT": (92, 42, (10042,)), "EPROTO": (71, 100, ()), "EADDRNOTAVAIL": (99, 49, (10049,)),
    "EADDRINUSE": (98, 48, (10048,)), "EMFILE": (24, 24, (10024,)), "ENFILE": (23, 23, ()),
    "ENOBUFS": (105, 55, (10055,)), "ENOMEM": (12, 12, (8, 1450)), "EACCES": (13, 13, (10013,)), "EPERM": (1, 1, ()),
    "EAFNOSUPPORT": (97, 47, (10047,)), "EINVAL": (22, 22, (10022,)), "EFAULT": (14, 14, (10014,)),
    "EDESTADDRREQ": (89, 39, (10039,)), "EISCONN": (106, 56, (10056,)), "EOPNOTSUPP": (95, 102, (10045,)),
    "EPROTONOSUPPORT": (93, 43, (10043,)), "EMSGSIZE": (90, 40, (10040,)), "EBADF": (9, 9, (10009,)),
    "ENOTSOCK": (88, 38, (10038,)), "ECANCELED": (125, 89, (995,)), "WSASYSNOTREADY": (None, None, (10091,)),
    "WSAVERNOTSUPPORTED": (None, None, (10092,)), "WSANOTINITIALISED": (None, None, (10093,)),
    "EKEYEXPIRED": (127, None, ()), "EKEYREJECTED": (129, None, ()), "EBADMSG": (74, None, ()), "EIO": (5, 5, ()),
    "EAI_AGAIN": (-3, None, (11002,)), "EAI_NONAME": (-2, None, (11001,)), "EAI_NODATA": (-5, None, (11004,)),
    "EAI_ADDRFAMILY": (-9, None, ()), "EAI_FAIL": (-4, None, (11003,)), "EAI_SYSTEM": (-11, None, ()),
    "EAI_MEMORY": (-10, None, ()), "EAI_FAMILY": (-6, None, ()), "EAI_SOCKTYPE": (-7, None, ()),
    "EAI_SERVICE": (-8, None, ()), "EAI_BADFLAGS": (-1, None, ()),
}  # fmt: skip
"""Numbers on Linux, macOS and Windows (Winsock, then Win32). Those of macOS and Windows are from documentation."""


def errno_name(number: int) -> str | None:
    """The name of an errno on this platform; None if it has none (0, and numbers nobody knows)."""
    name = errno.errorcode.get(number)
    if name is None and (names := [found for platform, found in names_of_number(number) if platform == "windows"]):
        return names[0]
    return {"EWOULDBLOCK": "EAGAIN", "ENOTSUP": "EOPNOTSUPP"}.get(name, name) if name else None


def names_of_number(number: int) -> list[tuple[str, str]]:
    """What a number means, by platform: ``[("linux", "ECONNRESET"), ...]``."""
    found: list[tuple[str, str]] = []
    for name, (linux, macos, windows) in _PLATFORMS.items():
        found += [("linux", name)] * (linux == number)
        found += [("macos", name)] * (macos == number)
        found += [("windows", name)] * (number in windows)
    return found


def of_errno(
    name: str | None,
    *,
    phase: Phase,
    connected: bool | None = None,
    ours: bool = False,
    unix: bool = False,
    bound: bool = False,
    overrides: Mapping[str, Classification] | None = None,
) -> Classification:
    """What an errno means.

    Args:
        name: Its name; None for one that nobody knows.
        phase: Where it happened.
        connected: Whether the connection was established; by default as the phase says.
        ours: Whether we had already closed the socket ourselves.
        unix: Whether it is a Unix socket.
        bound: Whether the caller chose the local address.
        overrides: The user's own opinion, by name.
    """
    if connected is None:
        connected = phase is not Phase.CONNECT
    tables: list[Mapping[str, Classification]] = [overrides or {}]
    if ours:
        tables.append(_CLOSED_BY_US)
    if not connected:
        tables += [_UNIX] * unix + [_BOUND] * bound + [_CONNECTING]
    for table in (*tables, ERRNO):
        if name in table:
            return table[name]
    return _UNKNOWN


def of_eai(name: str) -> Classification:
    """What an EAI code means, by name (``IDNA`` for a name that cannot be encoded)."""
    return EAI.get(name, Classification(_K.NAME_RESOLUTION_ERROR, _C.DNS, _A.BACK_OFF))


def of_tls(reason: str | None, *, verify_code: int | None = None, alert: int | None = None) -> Classification:
    """What a TLS failure means, by OpenSSL's reason."""
    if verify_code:
        return _CERTIFICATE
    for stem, found in TLS_REASONS:
        if reason and stem in reason:
            return found
    if alert is not None or (reason and "ALERT" in reason):
        return Classification(_K.TLS_ALERT_RECEIVED, _C.PEER_CLOSED, _A.BACK_OFF, _S.PEER)
    return Classification(_K.TLS_PROTOCOL_ERROR, _C.VIOLATION, _A.BACK_OFF)


def of_eof(phase: Phase) -> Classification:
    """What an end of file means where none was due."""
    return Classification(_K.UNEXPECTED_EOF, _C.PEER_CLOSED, _A.ADDRESS, _S.PEER) if phase.is_setup else _EOF


def alert_of_reason(reason: str | None) -> tuple[int, str] | None:
    """The alert that an OpenSSL reason such as ``TLSV1_ALERT_UNKNOWN_CA`` speaks of: its number and name."""
    if reason is None:
        return None
    text = reason.lower()
    if "alert" not in text and not text.startswith(("tlsv1", "sslv3", "tlsv13")):
        return None
    for number, name in ALERTS.items():
        if name in text or name.replace("canceled", "cancelled") in text:
            return number, name
    return None
