"""The failure taxonomy: what an error number, a getaddrinfo code, a TLS reason or an end of file means.

Theory of operation: the tables are data, keyed by name and by where it happened, never by number alone, because the
same errno means different things in different places: ECONNREFUSED from ``connect`` is a refusal, from ``recv`` it
is an ICMP error on a living connection that proves nothing about delivery. The functions look a row up and add what
follows from the phase. Everything takes an ``overrides`` mapping, by name, for what a user knows better.

Invariants:

* What the tables do not list is UNKNOWN and backs off; it is never retried at once.
* EAGAIN and its relatives are NOT_AN_ERROR, and whatever the kernel says after our own close is INTENTIONAL.
* In a set-up phase the phase table has no say: there it means the next address.

Not responsible for the numbers (``codes``), for words (``words``) or for deciding about retries (``retry``): the
action is the most that may be done, not what will be done.
"""

from __future__ import annotations

import enum
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from .codes import ALERTS, alert_of_reason, canonical, errno_name, names_of_number
from .kind import Action, Category, FaultSide, Kind
from .phase import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ALERT_TABLE",
    "EAI_TABLE",
    "ERRNO_TABLE",
    "TLS_TABLE",
    "Classification",
    "Where",
    "errno_name",
    "names_of_number",
    "of_eai",
    "of_eof",
    "of_errno",
    "of_tls",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """What a failure is: ``name`` is the errno's, getaddrinfo's, alert's or OpenSSL's name, None without one."""

    kind: Kind
    category: Category
    action: Action
    fault_side: FaultSide
    name: str | None = None


class Where(enum.Enum):
    """Where an errno came from. A row for a special place wins over the row for everywhere."""

    ANYWHERE = enum.auto()
    CONNECTING = enum.auto()
    UNIX = enum.auto()
    """Connecting to a Unix socket."""
    BOUND = enum.auto()
    """Connecting from a local address that the user gave."""
    CONNECTED = enum.auto()


def _row(
    kind: Kind, category: Category, action: Action = Action.PHASE_TABLE, side: FaultSide = FaultSide.PEER
) -> Classification:
    return Classification(kind=kind, category=category, action=action, fault_side=side)


_LOCAL, _PATH, _UNSURE = FaultSide.LOCAL, FaultSide.PATH, FaultSide.UNKNOWN
_UNKNOWN: Final = _row(Kind.OTHER, Category.UNKNOWN, Action.BACK_OFF, _UNSURE)
_OURS: Final = _row(Kind.CANCELLED, Category.INTENTIONAL, Action.NEVER, _LOCAL)
_END: Final = _row(Kind.UNEXPECTED_EOF, Category.PEER_CLOSED)
_BUG: Final = _row(Kind.OTHER, Category.LOCAL_BUG, Action.NEVER, _LOCAL)
_SETTING: Final = _row(Kind.OTHER, Category.CONFIGURATION, Action.NEVER, _LOCAL)
_BLOCKED: Final = _row(Kind.OTHER, Category.NOT_AN_ERROR, Action.WAIT, _UNSURE)
_REFUSED: Final = _row(Kind.CONNECTION_REFUSED, Category.REFUSED, Action.ADDRESS)
_HOST: Final = _row(Kind.HOST_UNREACHABLE, Category.UNREACHABLE, Action.PHASE_TABLE, _PATH)
_SILENT: Final = _row(Kind.TIMED_OUT, Category.TIMED_OUT, Action.PHASE_TABLE, _PATH)
_PIPE: Final = _row(Kind.BROKEN_PIPE, Category.PEER_CLOSED)
_NO_FILES: Final = _row(Kind.NO_FILE_DESCRIPTORS, Category.LOCAL_RESOURCE, Action.LONG_BACK_OFF, _LOCAL)
_NO_MEMORY: Final = _row(Kind.NO_BUFFER_SPACE_AVAILABLE, Category.LOCAL_RESOURCE, Action.LONG_BACK_OFF, _LOCAL)
_FORBIDDEN: Final = _row(Kind.ACCESS_DENIED, Category.CONFIGURATION, Action.NEVER, _LOCAL)
_NETWORK_DOWN: Final = _row(Kind.NETWORK_DOWN, Category.UNREACHABLE, Action.PHASE_TABLE, _LOCAL)
_NOT_A_SOCKET: Final = _row(Kind.BAD_FILE_DESCRIPTOR, Category.LOCAL_BUG, Action.NEVER, _LOCAL)
_BAD_RECORD: Final = _row(Kind.TLS_PROTOCOL_ERROR, Category.VIOLATION, Action.BACK_OFF, _UNSURE)

ERRNO_TABLE: Final[dict[str, dict[Where, Classification]]] = {
    "EAGAIN": {
        Where.ANYWHERE: _BLOCKED,
        # the listener's backlog is full; TCP would answer with silence
        Where.UNIX: _row(Kind.CONNECTION_REFUSED, Category.LOCAL_RESOURCE, Action.BACK_OFF),
    },
    "EINPROGRESS": {Where.ANYWHERE: _BLOCKED},
    "EALREADY": {Where.ANYWHERE: _BLOCKED},
    "EINTR": {Where.ANYWHERE: _BLOCKED},
    "ECONNREFUSED": {Where.CONNECTING: _REFUSED, Where.CONNECTED: _HOST},
    "ENOENT": {Where.UNIX: replace(_REFUSED, action=Action.BACK_OFF)},
    "ECONNRESET": {Where.ANYWHERE: _row(Kind.CONNECTION_RESET, Category.PEER_CLOSED)},
    "EPIPE": {Where.ANYWHERE: _PIPE},
    "ESHUTDOWN": {Where.ANYWHERE: _PIPE},
    # macOS: a send in a race with a reset; a Unix socket of another type is a wrong path
    "EPROTOTYPE": {Where.ANYWHERE: _PIPE, Where.UNIX: _SETTING},
    "ECONNABORTED": {Where.ANYWHERE: _row(Kind.CONNECTION_ABORTED, Category.PEER_CLOSED, Action.PHASE_TABLE, _UNSURE)},
    "WSAEDISCON": {Where.ANYWHERE: _END},
    "ENOTCONN": {
        # the reset was handed out, or came, before this call
        Where.CONNECTED: _row(Kind.CONNECTION_RESET, Category.PEER_CLOSED),
        Where.CONNECTING: _BUG,
    },
    "ETIMEDOUT": {Where.ANYWHERE: _SILENT},
    "ENETRESET": {Where.ANYWHERE: _SILENT},
    "EHOSTUNREACH": {Where.ANYWHERE: _HOST},
    "EHOSTDOWN": {Where.ANYWHERE: _HOST},
    "ENETUNREACH": {Where.ANYWHERE: _row(Kind.NETWORK_UNREACHABLE, Category.UNREACHABLE, Action.PHASE_TABLE, _PATH)},
    "ENETDOWN": {Where.ANYWHERE: _NETWORK_DOWN},
    "ENONET": {Where.ANYWHERE: _NETWORK_DOWN},
    "ENOPROTOOPT": {Where.CONNECTING: _HOST, Where.CONNECTED: _SETTING},
    "EPROTO": {Where.ANYWHERE: _HOST},
    "EADDRNOTAVAIL": {
        Where.ANYWHERE: _row(Kind.ADDRESS_NOT_AVAILABLE, Category.LOCAL_RESOURCE, Action.BACK_OFF, _LOCAL),
        Where.BOUND: _row(Kind.ADDRESS_NOT_AVAILABLE, Category.CONFIGURATION, Action.NEVER, _LOCAL),
    },
    "EADDRINUSE": {Where.ANYWHERE: _row(Kind.ADDRESS_ALREADY_IN_USE, Category.LOCAL_RESOURCE, Action.NEVER, _LOCAL)},
    "EMFILE": {Where.ANYWHERE: _NO_FILES},
    "ENFILE": {Where.ANYWHERE: _NO_FILES},
    "ENOBUFS": {Where.ANYWHERE: _NO_MEMORY},
    "ENOMEM": {Where.ANYWHERE: _NO_MEMORY},
    "EACCES": {Where.ANYWHERE: _FORBIDDEN},
    # from send() it may be a full connection-tracking table
    "EPERM": {Where.ANYWHERE: _FORBIDDEN, Where.CONNECTED: replace(_FORBIDDEN, action=Action.BACK_OFF)},
    "EAFNOSUPPORT": {Where.ANYWHERE: replace(_SETTING, action=Action.ADDRESS)},
    "EPROTONOSUPPORT": {Where.ANYWHERE: _SETTING},
    "EINVAL": {Where.ANYWHERE: _BUG},
    "EFAULT": {Where.ANYWHERE: _BUG},
    "EDESTADDRREQ": {Where.ANYWHERE: _BUG},
    "EISCONN": {Where.ANYWHERE: _BUG},
    "EOPNOTSUPP": {Where.ANYWHERE: _BUG},
    "EMSGSIZE": {Where.ANYWHERE: _BUG},
    "EBADF": {Where.ANYWHERE: _NOT_A_SOCKET},
    "ENOTSOCK": {Where.ANYWHERE: _NOT_A_SOCKET},
    "ECANCELED": {Where.ANYWHERE: _OURS},
    "WSASYSNOTREADY": {Where.ANYWHERE: _SETTING},
    "WSAVERNOTSUPPORTED": {Where.ANYWHERE: _SETTING},
    "WSANOTINITIALISED": {Where.ANYWHERE: _SETTING},
    # kernel TLS rejected a record
    "EKEYEXPIRED": {Where.CONNECTED: _BAD_RECORD},
    "EKEYREJECTED": {Where.CONNECTED: _BAD_RECORD},
    "EBADMSG": {Where.CONNECTED: _BAD_RECORD},
    "EIO": {Where.CONNECTED: _BAD_RECORD},
}
"""What the errno of a socket call means, by name and place."""


def _name(action: Action, category: Category = Category.DNS, side: FaultSide = _UNSURE) -> Classification:
    return _row(Kind.NAME_RESOLUTION_ERROR, category, action, side)


EAI_TABLE: Final[dict[str, Classification]] = {
    "EAI_AGAIN": _name(Action.BACK_OFF),
    # the retry table surfaces these two unless names may appear, or the name has resolved before (``net.resolve``)
    "EAI_NONAME": _name(Action.ADDRESS),
    "EAI_NODATA": _name(Action.ADDRESS),
    "EAI_ADDRFAMILY": _name(Action.ADDRESS),
    "EAI_FAIL": _name(Action.BACK_OFF),
    "EAI_SYSTEM": _name(Action.BACK_OFF),
    "EAI_MEMORY": _name(Action.LONG_BACK_OFF, Category.LOCAL_RESOURCE, _LOCAL),
    "EAI_FAMILY": _name(Action.NEVER, Category.CONFIGURATION, _LOCAL),
    "EAI_SOCKTYPE": _name(Action.NEVER, Category.CONFIGURATION, _LOCAL),
    "EAI_SERVICE": _name(Action.NEVER, Category.CONFIGURATION, _LOCAL),
    "EAI_BADFLAGS": _name(Action.NEVER, Category.CONFIGURATION, _LOCAL),
    "UnicodeError": _name(Action.NEVER, Category.CONFIGURATION, _LOCAL),
}
"""What getaddrinfo's answers mean. UnicodeError is what it raises for a name that IDNA cannot encode."""


def _alert(category: Category, action: Action = Action.NEVER, side: FaultSide = _UNSURE) -> Classification:
    return _row(Kind.TLS_ALERT_RECEIVED, category, action, side)


_NO_AGREEMENT: Final = _alert(Category.CONFIGURATION, Action.ADDRESS)  # a fleet in the middle of a change
_OUR_CERTIFICATE: Final = _alert(Category.CONFIGURATION, Action.NEVER, _LOCAL)
_OUR_BYTES: Final = _alert(Category.VIOLATION, Action.BACK_OFF)
_PEER_TROUBLE: Final = _alert(Category.PEER_CLOSED, Action.BACK_OFF, FaultSide.PEER)

ALERT_TABLE: Final[dict[str, Classification]] = {
    "close_notify": _END,
    "unexpected_message": _OUR_BYTES,
    "bad_record_mac": _OUR_BYTES,
    "decryption_failed": _OUR_BYTES,
    "record_overflow": _OUR_BYTES,
    "decompression_failure": _OUR_BYTES,
    "illegal_parameter": _OUR_BYTES,
    "decode_error": _OUR_BYTES,
    "decrypt_error": _OUR_BYTES,
    "handshake_failure": _NO_AGREEMENT,
    "protocol_version": _NO_AGREEMENT,
    "insufficient_security": _NO_AGREEMENT,
    "inappropriate_fallback": _NO_AGREEMENT,
    "no_application_protocol": _NO_AGREEMENT,
    "no_certificate": _OUR_CERTIFICATE,
    "bad_certificate": _OUR_CERTIFICATE,
    "unsupported_certificate": _OUR_CERTIFICATE,
    "certificate_revoked": _OUR_CERTIFICATE,
    "certificate_expired": _OUR_CERTIFICATE,
    "certificate_unknown": _OUR_CERTIFICATE,
    "certificate_required": _OUR_CERTIFICATE,
    "unknown_ca": _OUR_CERTIFICATE,
    "access_denied": _alert(Category.CONFIGURATION),
    "export_restriction": _alert(Category.CONFIGURATION),
    "no_renegotiation": _alert(Category.CONFIGURATION),
    "missing_extension": _alert(Category.CONFIGURATION),
    "unsupported_extension": _alert(Category.CONFIGURATION),
    "certificate_unobtainable": _OUR_CERTIFICATE,
    "bad_certificate_status_response": _alert(Category.CONFIGURATION),
    "bad_certificate_hash_value": _OUR_CERTIFICATE,
    "unknown_psk_identity": _alert(Category.CONFIGURATION),
    "ech_required": _alert(Category.CONFIGURATION),
    # no backend of that name at this address; another one may have it
    "unrecognized_name": _alert(Category.UNREACHABLE, Action.ADDRESS, FaultSide.PEER),
    "internal_error": _PEER_TROUBLE,
    "user_canceled": _PEER_TROUBLE,
}
"""What an alert of the peer means."""


def _tls(category: Category, action: Action, side: FaultSide = _UNSURE) -> Classification:
    return _row(Kind.TLS_PROTOCOL_ERROR, category, action, side)


_NO_OVERLAP: Final = _tls(Category.CONFIGURATION, Action.ADDRESS)
_MISUSE: Final = _tls(Category.LOCAL_BUG, Action.NEVER, _LOCAL)
_CERTIFICATE: Final = _row(Kind.CERTIFICATE_INVALID, Category.CONFIGURATION, Action.NEVER)
_PLAINTEXT: Final = _tls(Category.CONFIGURATION, Action.NEVER, FaultSide.PEER)

TLS_TABLE: Final[dict[str, Classification]] = {
    "CERTIFICATE_VERIFY_FAILED": _CERTIFICATE,
    "UNEXPECTED_EOF_WHILE_READING": _END,
    "APPLICATION_DATA_AFTER_CLOSE_NOTIFY": _END,
    "WRONG_VERSION_NUMBER": _PLAINTEXT,
    "HTTP_REQUEST": _PLAINTEXT,
    "HTTPS_PROXY_REQUEST": _PLAINTEXT,
    "RECORD_LAYER_FAILURE": _PLAINTEXT,
    "UNSUPPORTED_PROTOCOL": _NO_OVERLAP,
    "UNKNOWN_PROTOCOL": _NO_OVERLAP,
    "VERSION_TOO_LOW": _NO_OVERLAP,
    "VERSION_TOO_HIGH": _NO_OVERLAP,
    "NO_SHARED_CIPHER": _NO_OVERLAP,
    "NO_SHARED_GROUPS": _NO_OVERLAP,
    "NO_SHARED_SIGNATURE_ALGORITHMS": _NO_OVERLAP,
    "HANDSHAKE_FAILURE": _NO_OVERLAP,
    "INAPPROPRIATE_FALLBACK": _NO_OVERLAP,
    "NO_APPLICATION_PROTOCOL": _NO_OVERLAP,
    "DH_KEY_TOO_SMALL": _NO_OVERLAP,
    "UNSAFE_LEGACY_RENEGOTIATION_DISABLED": _NO_OVERLAP,
    "NO_PROTOCOLS_AVAILABLE": _tls(Category.CONFIGURATION, Action.NEVER, _LOCAL),
    "NO_CIPHERS_AVAILABLE": _tls(Category.CONFIGURATION, Action.NEVER, _LOCAL),
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": _BAD_RECORD,
    "BAD_RECORD_TYPE": _BAD_RECORD,
    "EXCESSIVE_MESSAGE_SIZE": _BAD_RECORD,
    "PACKET_LENGTH_TOO_LONG": _BAD_RECORD,
    "ENCRYPTED_LENGTH_TOO_LONG": _BAD_RECORD,
    "DATA_LENGTH_TOO_LONG": _BAD_RECORD,
    "UNEXPECTED_MESSAGE": _BAD_RECORD,
    "UNEXPECTED_RECORD": _BAD_RECORD,
    "BAD_WRITE_RETRY": _MISUSE,
    "BAD_LENGTH": _MISUSE,
    "UNINITIALIZED": _MISUSE,
    "SHUTDOWN_WHILE_IN_INIT": _MISUSE,
    "PROTOCOL_IS_SHUTDOWN": _OURS,
}
"""What OpenSSL's own reasons mean, by stem; its names for alerts of the peer are looked up as alerts."""

_UNKNOWN_TLS: Final = _tls(Category.UNKNOWN, Action.BACK_OFF)
_BEFORE: Final = frozenset({Phase.DNS, Phase.CONNECT})
_BY_ERRNO: Final = frozenset({Category.LOCAL_RESOURCE, Category.CONFIGURATION})


def of_errno(
    number: int,
    *,
    phase: Phase,
    connected: bool = True,
    ours: bool = False,
    unix: bool = False,
    bound: bool = False,
    platform: str = sys.platform,
    overrides: Mapping[str, Classification] | None = None,
) -> Classification:
    """What the errno of a socket call means.

    Args:
        number: The errno; on Windows ``winerror`` where there is one.
        phase: Where the connection was. In ``dns`` and ``connect`` there is no connection, whatever ``connected`` is.
        connected: Whether the connection stood.
        ours: Whether we had closed the socket.
        unix: Whether it is a Unix socket.
        bound: Whether the user gave a local address.
        platform: Whose numbers they are, as ``sys.platform`` has it.
        overrides: What the user knows better, by name.
    """
    name = errno_name(number, platform)
    known = None if overrides is None or name is None else overrides.get(name)
    if known is None:
        rows = ERRNO_TABLE.get(name or "", {})
        connecting = phase in _BEFORE or not connected
        if not connecting:
            known = rows.get(Where.CONNECTED)
        else:
            known = (rows.get(Where.UNIX) if unix else None) or (rows.get(Where.BOUND) if bound else None)
            known = known or rows.get(Where.CONNECTING)
        known = known or rows.get(Where.ANYWHERE, _UNKNOWN)
    if ours and known.category is not Category.NOT_AN_ERROR:
        known = _OURS
    return _in_phase(known, name, phase)


def of_eai(
    name: str,
    *,
    errno: int | None = None,
    platform: str = sys.platform,
    overrides: Mapping[str, Classification] | None = None,
) -> Classification:
    """What an answer of getaddrinfo means; ``errno`` is the one that comes with EAI_SYSTEM.

    The kind is always that of a failed name resolution, save where this host has run out of something or forbids it:
    then the errno says more.
    """
    name = canonical(name)
    if errno and name == "EAI_SYSTEM":
        known = of_errno(errno, phase=Phase.DNS, platform=platform, overrides=overrides)
        if known.category in _BY_ERRNO:
            return known
    known = (overrides or {}).get(name) or EAI_TABLE.get(name, _name(Action.BACK_OFF, Category.UNKNOWN))
    return replace(known, name=name)


def of_tls(
    reason: str | None,
    *,
    phase: Phase,
    verify_code: int | None = None,
    alert: int | None = None,
    overrides: Mapping[str, Classification] | None = None,
) -> Classification:
    """What an error of OpenSSL means.

    Args:
        reason: Its reason, as ``SSLError.reason`` has it.
        phase: Where the connection was: bytes that are no TLS mean a plaintext port in the handshake and a damaged
            stream later.
        verify_code: That of a certificate that did not pass.
        alert: The number of an alert that the peer sent.
        overrides: What the user knows better, by OpenSSL's reason.
    """
    if overrides is not None and reason is not None and reason in overrides:
        return _in_phase(overrides[reason], reason, phase)
    if verify_code:
        known = _CERTIFICATE
    elif alert is not None or (alert := alert_of_reason(reason or "")) is not None:
        known = ALERT_TABLE.get(ALERTS.get(alert, ""), _alert(Category.UNKNOWN, Action.BACK_OFF))
    elif reason is not None and "_ALERT_" in reason:
        known = _alert(Category.UNKNOWN, Action.BACK_OFF)
    else:
        known = TLS_TABLE.get((reason or "").removeprefix("SSL_"), _UNKNOWN_TLS)
        if known is _PLAINTEXT and not phase.is_setup:
            known = _BAD_RECORD
    return _in_phase(known, reason, phase)


def of_eof(*, phase: Phase) -> Classification:
    """What an end of file means where the connection should not have ended."""
    return _in_phase(_END, None, phase)


def _in_phase(known: Classification, name: str | None, phase: Phase) -> Classification:
    action = Action.ADDRESS if known.action is Action.PHASE_TABLE and phase.is_setup else known.action
    return Classification(
        kind=known.kind, category=known.category, action=action, fault_side=known.fault_side, name=name
    )
