"""From a ``Failure`` to the attributes of its span, by tables. What is unknown or zero is left out.

Never a URL, header, credential or payload: only the fields named here are read, and none of them is free text of a
peer or a caller. Private to ``telemetry``.
"""

from __future__ import annotations

import hashlib
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..policy.flight import narrate
from .words import STATES, decision, envoy_flag

if TYPE_CHECKING:
    from ..events import FailureRecorded
    from ..policy.failure import Failure, TlsDetail
    from ..policy.tcp_info import TcpInfo

__all__ = ["FAILURE_ATTRIBUTES", "Attributes", "failure_attributes", "hashed"]

Attributes: TypeAlias = dict[str, str | int | float]


def _reader(table: tuple[tuple[str, str], ...]) -> tuple[tuple[str, ...], attrgetter[tuple[Any, ...]]]:
    """The names of ``table``, and what reads all its fields in one step."""
    return tuple(name for name, _ in table), attrgetter(*[field for _, field in table])


_PLAIN: Final[tuple[tuple[str, str], ...]] = (
    ("holdwire.syscall", "syscall"),
    ("holdwire.errno.number", "errno"),
    ("holdwire.errno.name", "errno_name"),
    ("server.address", "host"),
    ("server.port", "port"),
    ("network.peer.port", "peer_port"),
    ("network.local.port", "local_port"),
    ("holdwire.connection.id", "connection_id"),
    ("holdwire.connection.age", "age"),
    ("holdwire.connection.idle", "idle"),
)
"""Left out if None. An errno of 0 stays: it is an end of file without an errno."""
_ENUMS: Final[tuple[tuple[str, str], ...]] = (
    ("error.type", "kind"),
    ("holdwire.phase", "phase"),
    ("holdwire.fault_side", "fault_side"),
    ("holdwire.cause.confidence", "confidence"),
    ("holdwire.request.sent", "sent"),
    ("holdwire.request.delivery", "delivery"),
)
_NOT_ZERO: Final[tuple[tuple[str, str], ...]] = (
    ("holdwire.cause", "cause"),
    ("holdwire.remedy", "remedy"),
    ("holdwire.connection.requests", "requests"),
    ("holdwire.request.fin_before_write", "fin_before_write"),
    ("holdwire.request.discarded", "discarded"),
    ("holdwire.tcp.outq", "outq"),
)
_TCP: Final[tuple[tuple[str, str], ...]] = (
    ("holdwire.tcp.bytes_acked", "bytes_acked"),
    ("holdwire.tcp.bytes_sent", "bytes_sent"),
    ("holdwire.tcp.unacked", "unacked"),
    ("holdwire.tcp.notsent", "notsent_bytes"),
    ("holdwire.tcp.retransmits", "retransmits"),
    ("holdwire.tcp.total_retrans", "total_retrans"),
    ("holdwire.tcp.total_rto", "total_rto"),
    ("holdwire.tcp.rto", "rto"),
    ("holdwire.tcp.rtt", "rtt"),
    ("holdwire.tcp.min_rtt", "min_rtt"),
    ("holdwire.tcp.total_rto_time", "total_rto_time"),
    ("holdwire.tcp.last_data_recv", "last_data_recv"),
    ("holdwire.tcp.last_ack_recv", "last_ack_recv"),
    ("holdwire.tcp.pmtu", "pmtu"),
    ("holdwire.tcp.snd_mss", "snd_mss"),
)
_TLS: Final[tuple[tuple[str, str], ...]] = (
    ("holdwire.ssl.error", "error"),
    ("holdwire.ssl.reason", "reason"),
    ("holdwire.tls.alert.code", "alert"),
    ("holdwire.tls.alert.name", "alert_name"),
    ("holdwire.tls.alert.direction", "alert_direction"),
    ("holdwire.tls.close_notify", "close_notify"),
)
_COMPUTED: Final = (
    "holdwire.connection.flight",
    "holdwire.envoy_flag",
    "holdwire.idle_deaths",
    "holdwire.retry.decision",
    "holdwire.retry.reason",
    "holdwire.retry.safe",
    "holdwire.silence",
    "holdwire.suppressed",
    "http.request.resend_count",
    "network.connection.state",
    "network.peer.address",
    "network.transport",
    "network.type",
)
FAILURE_ATTRIBUTES: Final = frozenset(
    name for table in (_PLAIN, _ENUMS, _NOT_ZERO, _TCP, _TLS) for name, _ in table
) | frozenset(_COMPUTED)
"""Every attribute that a failure span can have."""
_ENUM_NAMES, _enums = _reader(_ENUMS)
_PLAIN_NAMES, _plain = _reader(_PLAIN)
_NOT_ZERO_NAMES, _not_zero = _reader(_NOT_ZERO)
_TCP_NAMES, _tcp = _reader(_TCP)
_TLS_NAMES, _tls = _reader(_TLS)
_MOMENTS: Final = 8
"""The last moments of a flight that a span shows; the note on the exception has all of them."""
_LEAST_SILENCE: Final = 0.001
"""Below a millisecond of silence there was none, within the precision of the clocks involved."""


def failure_attributes(event: FailureRecorded, held: int, peer_hash_key: bytes | None = None) -> Attributes:
    """The attributes of a failure's span. ``held``: how many similar ones were held back before it."""
    failure = event.failure
    values: Attributes = {}
    for name, value in zip(_ENUM_NAMES, _enums(failure), strict=True):
        if value is not None:
            values[name] = str.__str__(value)  # a plain string, and cheaper than .value
    for name, value in zip(_PLAIN_NAMES, _plain(failure), strict=True):
        if value is not None:
            values[name] = value
    for name, value in zip(_NOT_ZERO_NAMES, _not_zero(failure), strict=True):
        if value:
            values[name] = value
    _add_network(values, failure, peer_hash_key)
    if failure.tcp is not None:
        _add_tcp(values, failure.tcp)
    if failure.tls is not None:
        _add_tls(values, failure.tls)
    if failure.flight:
        values["holdwire.connection.flight"] = narrate(failure.flight[-_MOMENTS:])
    _add_event(values, event, held)
    return values


def hashed(address: str, key: bytes) -> str:
    """``address`` as a keyed hash: equal addresses stay recognisable, and nothing else does."""
    return hashlib.blake2b(address.encode(), digest_size=8, key=key).hexdigest()


def _add_network(values: Attributes, failure: Failure, peer_hash_key: bytes | None) -> None:
    if failure.peer:
        values["network.peer.address"] = failure.peer if peer_hash_key is None else hashed(failure.peer, peer_hash_key)
    if failure.network_type == "unix":
        values["network.transport"] = "unix"
    elif failure.network_type:
        values["network.transport"] = "tcp"
        values["network.type"] = failure.network_type


def _add_tcp(values: Attributes, tcp: TcpInfo) -> None:
    state = STATES[tcp.state]
    if state is not None:
        values["network.connection.state"] = state
    for name, value in zip(_TCP_NAMES, _tcp(tcp), strict=True):
        if value:
            values[name] = value


def _add_tls(values: Attributes, tls: TlsDetail) -> None:
    for name, value in zip(_TLS_NAMES, _tls(tls), strict=True):
        if value is not None:
            values[name] = value


def _add_event(values: Attributes, event: FailureRecorded, held: int) -> None:
    failure = event.failure
    flag = envoy_flag(failure.kind, failure.phase)
    if flag is not None:
        values["holdwire.envoy_flag"] = flag
    values["holdwire.retry.decision"] = decision(event.verdict)
    if event.verdict is not None:
        values["holdwire.retry.reason"] = event.verdict.reason
        values["holdwire.retry.safe"] = event.verdict.safe_to_retry
    if event.attempt > 1:
        values["http.request.resend_count"] = event.attempt - 1
    if event.deaths > 1:
        values["holdwire.idle_deaths"] = event.deaths
    if held:
        values["holdwire.suppressed"] = held
    if failure.idle is not None and failure.at:
        silence = event.began / 1e9 - (failure.at - failure.idle)
        if silence >= _LEAST_SILENCE:
            values["holdwire.silence"] = int(silence * 1e6) / 1e6  # round() takes ten times as long
