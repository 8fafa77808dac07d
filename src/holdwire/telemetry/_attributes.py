"""From a ``Failure`` to the attributes of its span, name by name. What is unknown or zero is left out.

Never a URL, header, credential or payload: only the fields named here are read, and none of them is free text of a
peer or a caller. Written out as displays, because a failure has fifty attributes and little time. Private to
``telemetry``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from ..events import FailureRecorded
from ..policy.failure import Failure, TlsDetail
from ..policy.flight import narrate
from ..policy.kind import Category, Kind
from ..policy.phase import Phase
from ..policy.tcp_info import TcpInfo, TcpState
from .words import STATES, decision, envoy_flag

if TYPE_CHECKING:
    import enum

__all__ = ["FAILURE_ATTRIBUTES", "Attributes", "failure_attributes", "hashed"]

Attributes: TypeAlias = dict[str, str | int | float]
_Found: TypeAlias = dict[str, str | int | float | None]

_NOTHING: Final[_Found] = {}
_MOMENTS: Final = 6
"""The last moments of a flight that a span shows: a connection from its start to its second request. The note on the
exception has all of them."""
_LEAST_SILENCE: Final = 0.001
"""Below a millisecond of silence there was none, within the precision of the clocks involved."""


def failure_attributes(event: FailureRecorded, held: int, peer_hash_key: bytes | None = None) -> Attributes:
    """The attributes of a failure's span. ``held``: how many similar ones were held back before it."""
    failure = event.failure
    found: Any = {
        **_of_failure(failure, peer_hash_key),
        **(_NOTHING if failure.tcp is None else _of_tcp(failure.tcp)),
        **(_NOTHING if failure.tls is None else _of_tls(failure.tls)),
        **_of_event(event, held),
    }
    for name in [name for name, value in found.items() if value is None]:  # half the time of a second dictionary
        del found[name]
    return cast("Attributes", found)


def hashed(address: str, key: bytes) -> str:
    """``address`` as a keyed hash: equal addresses stay recognisable, and nothing else does."""
    return hashlib.blake2b(address.encode(), digest_size=8, key=key).hexdigest()


def _plain(value: enum.StrEnum | None) -> str | None:
    """A plain string, as exporters like it, and cheaper than ``.value``."""
    return None if value is None else str.__str__(value)


def _of_failure(failure: Failure, peer_hash_key: bytes | None) -> _Found:
    """An errno of 0 stays: it is an end of file without an errno."""
    peer, network = failure.peer or None, failure.network_type or None
    return {
        "error.type": str.__str__(failure.kind),
        "holdwire.phase": str.__str__(failure.phase),
        "holdwire.syscall": failure.syscall,
        "holdwire.errno.number": failure.errno,
        "holdwire.errno.name": failure.errno_name,
        "holdwire.cause": failure.cause or None,
        "holdwire.cause.confidence": str.__str__(failure.confidence),
        "holdwire.remedy": failure.remedy or None,
        "holdwire.fault_side": str.__str__(failure.fault_side),
        "holdwire.envoy_flag": envoy_flag(failure.kind, failure.phase),
        "holdwire.request.sent": _plain(failure.sent),
        "holdwire.request.delivery": _plain(failure.delivery),
        "holdwire.request.fin_before_write": failure.fin_before_write or None,
        "holdwire.request.discarded": failure.discarded or None,
        "server.address": failure.host,
        "server.port": failure.port,
        "network.peer.address": peer if peer is None or peer_hash_key is None else hashed(peer, peer_hash_key),
        "network.peer.port": failure.peer_port,
        "network.local.port": failure.local_port,
        "network.transport": None if network is None else "unix" if network == "unix" else "tcp",
        "network.type": None if network == "unix" else network,
        "holdwire.connection.id": failure.connection_id,
        "holdwire.connection.age": failure.age,
        "holdwire.connection.idle": failure.idle,
        "holdwire.connection.requests": failure.requests or None,
        "holdwire.connection.flight": narrate(failure.flight[-_MOMENTS:]) or None,
        "holdwire.tcp.outq": failure.outq or None,
    }


def _of_tcp(tcp: TcpInfo) -> _Found:
    return {
        "network.connection.state": STATES[tcp.state],
        "holdwire.tcp.bytes_acked": tcp.bytes_acked or None,
        "holdwire.tcp.bytes_sent": tcp.bytes_sent or None,
        "holdwire.tcp.unacked": tcp.unacked or None,
        "holdwire.tcp.notsent": tcp.notsent_bytes or None,
        "holdwire.tcp.retransmits": tcp.retransmits or None,
        "holdwire.tcp.total_retrans": tcp.total_retrans or None,
        "holdwire.tcp.total_rto": tcp.total_rto or None,
        "holdwire.tcp.rto": tcp.rto or None,
        "holdwire.tcp.rtt": tcp.rtt or None,
        "holdwire.tcp.min_rtt": tcp.min_rtt or None,
        "holdwire.tcp.total_rto_time": tcp.total_rto_time or None,
        "holdwire.tcp.last_data_recv": tcp.last_data_recv or None,
        "holdwire.tcp.last_ack_recv": tcp.last_ack_recv or None,
        "holdwire.tcp.pmtu": tcp.pmtu or None,
        "holdwire.tcp.snd_mss": tcp.snd_mss or None,
    }


def _of_tls(tls: TlsDetail) -> _Found:
    return {
        "holdwire.ssl.error": tls.error,
        "holdwire.ssl.reason": tls.reason,
        "holdwire.tls.alert.code": tls.alert,
        "holdwire.tls.alert.name": tls.alert_name,
        "holdwire.tls.alert.direction": tls.alert_direction,
        "holdwire.tls.close_notify": tls.close_notify,
    }


def _of_event(event: FailureRecorded, held: int) -> _Found:
    failure, verdict = event.failure, event.verdict
    silence = 0.0
    if failure.idle is not None and failure.at:
        silence = event.began / 1e9 - (failure.at - failure.idle)
    return {
        "holdwire.retry.decision": decision(verdict),
        "holdwire.retry.reason": None if verdict is None else verdict.reason,
        "holdwire.retry.safe": None if verdict is None else verdict.safe_to_retry,
        "http.request.resend_count": event.attempt - 1 or None,
        "holdwire.idle_deaths": event.deaths if event.deaths > 1 else None,
        "holdwire.suppressed": held or None,
        # round() takes ten times as long
        "holdwire.silence": int(silence * 1e6) / 1e6 if silence >= _LEAST_SILENCE else None,
    }


_BLANK: Final = Failure(kind=Kind.OTHER, category=Category.UNKNOWN, phase=Phase.CONNECT)
FAILURE_ATTRIBUTES: Final = frozenset(
    {
        *_of_failure(_BLANK, None),
        *_of_tcp(TcpInfo(state=TcpState.UNKNOWN)),
        *_of_tls(TlsDetail()),
        *_of_event(FailureRecorded(failure=_BLANK, began=0, ended=0), 0),
    }
)
"""Every attribute that a failure span can have."""
