"""The closed sets of words that telemetry uses: status sentences, Envoy's flags, TCP states, retry decisions.

Pure tables, keyed by the enums of ``policy``; a test keeps them complete. Not responsible for ``error.type`` and
``holdwire.phase`` (the enums' own values) or for cause and remedy (the failure's own).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..policy.kind import Kind
from ..policy.phase import Phase
from ..policy.tcp_info import TcpState

if TYPE_CHECKING:
    from ..policy.failure import Failure
    from ..policy.verdict import Verdict

__all__ = [
    "DECISIONS",
    "EXHAUSTED",
    "FLAGS",
    "METHODS",
    "STATES",
    "SUPPRESSED",
    "WHAT",
    "WHEN",
    "decision",
    "envoy_flag",
    "sentence",
    "span_name",
]

WHAT: Final[dict[Kind, str]] = {
    Kind.CONNECTION_REFUSED: "the peer refused the connection",
    Kind.HOST_UNREACHABLE: "no way to the peer's host",
    Kind.NETWORK_UNREACHABLE: "no way to the peer's network",
    Kind.NETWORK_DOWN: "the network of this host is down",
    Kind.TIMED_OUT: "the peer's kernel did not answer in time",
    Kind.CONNECTION_RESET: "the peer reset the connection",
    Kind.CONNECTION_ABORTED: "the connection was aborted on this host",
    Kind.BROKEN_PIPE: "the connection could no longer be written to",
    Kind.UNEXPECTED_EOF: "the peer ended the connection without notice",
    Kind.BAD_FILE_DESCRIPTOR: "something in this process closed the socket",
    Kind.NO_FILE_DESCRIPTORS: "this process has no file descriptors left",
    Kind.NO_BUFFER_SPACE_AVAILABLE: "this host has no memory left for the socket",
    Kind.ADDRESS_NOT_AVAILABLE: "this host has no local address or port left",
    Kind.ADDRESS_ALREADY_IN_USE: "the local address is taken",
    Kind.ACCESS_DENIED: "this host forbids the connection",
    Kind.NAME_RESOLUTION_ERROR: "the name did not resolve",
    Kind.TLS_ALERT_RECEIVED: "the peer refused by TLS alert",
    Kind.CERTIFICATE_INVALID: "the peer's certificate is not accepted",
    Kind.TLS_PROTOCOL_ERROR: "the peer's bytes are not valid TLS",
    Kind.PROXY_REFUSED: "the proxy opened no tunnel",
    Kind.HTTP2_GOAWAY: "the server closed the HTTP/2 connection",
    Kind.HTTP2_STREAM_RESET: "the server reset the HTTP/2 stream",
    Kind.HTTP_PROTOCOL_ERROR: "the response breaks the protocol",
    Kind.HEARTBEAT_LOST: "the peer gave no sign of life",
    Kind.POOL_TIMEOUT: "no connection became free in time",
    Kind.LOCAL_TIMEOUT: "a time limit of the caller expired",
    Kind.CANCELLED: "the caller gave up",
    Kind.OTHER: "an unknown failure",
}
"""What happened, as the first half of a span's status description; never a copy of ``error.type``."""

WHEN: Final[dict[Phase, str]] = {
    Phase.DNS: "while the name was looked up",
    Phase.CONNECT: "while connecting",
    Phase.PROXY: "while asking the proxy",
    Phase.TLS_HANDSHAKE: "in the TLS handshake",
    Phase.POST_HANDSHAKE: "right after the TLS handshake",
    Phase.POOL: "while a connection was chosen",
    Phase.IDLE: "while no request used it",
    Phase.REQUEST_HEADERS: "while the request's head was sent",
    Phase.REQUEST_BODY: "while the request's body was sent",
    Phase.RESPONSE_WAIT: "while waiting for the response",
    Phase.RESPONSE_BODY: "while the response's body was read",
    Phase.UPGRADED: "on the open stream",
    Phase.SHUTDOWN: "while closing",
    Phase.HEARTBEAT: "after a heartbeat",
}
"""When it happened, as the second half."""

FLAGS: Final[dict[Kind, tuple[str | None, str | None]]] = {
    Kind.CONNECTION_REFUSED: ("UF", "UF"),
    Kind.HOST_UNREACHABLE: ("UF", "UC"),
    Kind.NETWORK_UNREACHABLE: ("UF", "UC"),
    Kind.NETWORK_DOWN: ("UF", "UF"),
    Kind.TIMED_OUT: ("UF", "UC"),
    Kind.CONNECTION_RESET: ("UF", "UC"),
    Kind.CONNECTION_ABORTED: ("UC", "UC"),
    Kind.BROKEN_PIPE: ("UC", "UC"),
    Kind.UNEXPECTED_EOF: ("UF", "UC"),
    Kind.BAD_FILE_DESCRIPTOR: (None, None),
    Kind.NO_FILE_DESCRIPTORS: (None, None),
    Kind.NO_BUFFER_SPACE_AVAILABLE: (None, None),
    Kind.ADDRESS_NOT_AVAILABLE: ("UF", "UF"),
    Kind.ADDRESS_ALREADY_IN_USE: ("UF", "UF"),
    Kind.ACCESS_DENIED: ("UF", "UF"),
    Kind.NAME_RESOLUTION_ERROR: ("DF", "DF"),
    Kind.TLS_ALERT_RECEIVED: ("UF", "UF"),
    Kind.CERTIFICATE_INVALID: ("UF", "UF"),
    Kind.TLS_PROTOCOL_ERROR: ("UF", "UPE"),
    Kind.PROXY_REFUSED: ("UF", "UF"),
    Kind.HTTP2_GOAWAY: ("UR", "UR"),
    Kind.HTTP2_STREAM_RESET: ("UR", "UR"),
    Kind.HTTP_PROTOCOL_ERROR: ("UPE", "UPE"),
    Kind.HEARTBEAT_LOST: ("LR", "LR"),
    Kind.POOL_TIMEOUT: ("UO", "UO"),
    Kind.LOCAL_TIMEOUT: ("UT", "UT"),
    Kind.CANCELLED: ("DC", "DC"),
    Kind.OTHER: (None, None),
}
"""Envoy's response flag of a failure during set-up, and of one on an established connection."""

STATES: Final[dict[TcpState, str | None]] = {
    TcpState.UNKNOWN: None,
    TcpState.ESTABLISHED: "established",
    TcpState.SYN_SENT: "syn_sent",
    TcpState.SYN_RECV: "syn_received",
    TcpState.FIN_WAIT1: "fin_wait_1",
    TcpState.FIN_WAIT2: "fin_wait_2",
    TcpState.TIME_WAIT: "time_wait",
    TcpState.CLOSE: "closed",
    TcpState.CLOSE_WAIT: "close_wait",
    TcpState.LAST_ACK: "last_ack",
    TcpState.LISTEN: "listen",
    TcpState.CLOSING: "closing",
    TcpState.NEW_SYN_RECV: "syn_received",
}
"""The states of a TCP connection as ``network.connection.state`` spells them."""

METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
"""The methods that are told by name; any other is ``_OTHER``."""

EXHAUSTED: Final = "budget_exhausted"
DECISIONS: Final[dict[str, str]] = {
    "may_have_been_processed": "not_idempotent",
    "body_not_replayable": "not_idempotent",
    "not_retryable": "fatal",
    "name_not_found": "fatal",
    "goaway_error": "fatal",
    "response_started": "fatal",
    "event_stream_cut": "fatal",
    "upgraded": "fatal",
    "retry_after_too_long": "fatal",
    "cancelled": "none",
    "kind_excluded": "none",
    "timeout": "none",
    "caller_retries": "none",
    "not_listed": "none",
    "switched_off": "none",
    "goaway_covers": "none",
    "early_response": "none",
}
"""``holdwire.retry.decision`` of a verdict that is no retry, by its reason. Under any other reason a retry is made as
long as the limits allow it, so that no retry means EXHAUSTED."""

SUPPRESSED: Final = frozenset(
    {
        "may_have_been_processed",
        "body_not_replayable",
        "caller_retries",
        "switched_off",
        "timeout",
        "retry_after_too_long",
        "attempts",
        "budget",
        "deadline",
    }
)
"""The reasons for which a retry that would have been possible was not made."""


def span_name(failure: Failure) -> str:
    """The name of a failure's span."""
    if failure.is_syscall:
        return f"holdwire syscall_failure {failure.syscall}"
    return f"holdwire connection_failure {failure.phase}"


def sentence(kind: Kind, phase: Phase) -> str:
    """The description of a failure span's status, for example "the peer reset the connection while connecting"."""
    return f"{WHAT[kind]} {WHEN[phase]}"


def envoy_flag(kind: Kind, phase: Phase) -> str | None:
    """The response flag by which Envoy reports such a failure, for people who know them."""
    return FLAGS[kind][not phase.is_setup]


def decision(verdict: Verdict | None) -> str:
    """The value of ``holdwire.retry.decision``."""
    if verdict is None:
        return "none"
    if verdict.retries:
        return "retried"
    return DECISIONS.get(verdict.reason, EXHAUSTED)
