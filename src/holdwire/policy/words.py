"""Plain words for a failure: what most likely happened, and what to do. Data, first match wins. Pure.

A closed set of sentences of our own, after the troubleshooting guide: no text of a peer is ever in them. Not
responsible for what the history of an origin adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .kind import Category, Kind
from .phase import Phase, Sent
from .tcp_info import TcpState

if TYPE_CHECKING:
    from collections.abc import Callable

    from .failure import Failure

__all__ = ["words_for"]

LONG_IDLE: Final = 5.0
"""Seconds of idling from which an idle limit is a likely cause."""
_CLOCK: Final = frozenset({9, 10})
_NAMES: Final = frozenset({62, 64})


def _verify(failure: Failure) -> int:
    return failure.tls.verify_code or 0 if failure.tls is not None else 0


def _reason(failure: Failure) -> str:
    return failure.tls.reason or "" if failure.tls is not None else ""


def _was_idle(failure: Failure) -> bool:
    return failure.phase is Phase.IDLE or (failure.reused and (failure.idle or 0.0) >= LONG_IDLE)


def _lost_errno(failure: Failure) -> bool:
    return failure.tcp is not None and failure.tcp.state is TcpState.CLOSE


def _window_closed(failure: Failure) -> bool:
    return failure.tcp is not None and failure.tcp.snd_wnd == 0 and bool(failure.outq)


_ROWS: Final[tuple[tuple[Callable[[Failure], bool], str, str], ...]] = (
    (
        lambda f: f.kind is Kind.NAME_RESOLUTION_ERROR and f.errno_name in {"EAI_NONAME", "EAI_NODATA", "IDNA"},
        "The host name does not exist, as far as this resolver knows.",
        "Check its spelling and the search domains; in a cluster the service may not be up yet.",
    ),
    (
        lambda f: f.kind is Kind.NAME_RESOLUTION_ERROR,
        "The name server did not answer, or answered with a failure.",
        "Check the resolver's configuration and that it can be reached.",
    ),
    (
        lambda f: f.kind is Kind.CONNECTION_REFUSED and f.network_type == "unix",
        "Nothing listens on the Unix socket.",
        "Start the service, or check the path.",
    ),
    (
        lambda f: f.kind is Kind.CONNECTION_REFUSED,
        "The host answered, but nothing listens on that port.",
        "Check that the service is running and the port is right; during a deployment it comes back by itself.",
    ),
    (
        lambda f: f.kind is Kind.HOST_UNREACHABLE and f.errno_name == "ECONNREFUSED",
        "A router or the host said that the port cannot be reached while data was on its way.",
        "Look for a firewall rule or a host that went down; this proves nothing about what was delivered.",
    ),
    (
        lambda f: f.kind is Kind.HOST_UNREACHABLE,
        "A router, a firewall or the local network said that the host cannot be reached.",
        "Check routes and firewall rules on the way, and that the host is up.",
    ),
    (
        lambda f: f.kind is Kind.NETWORK_UNREACHABLE,
        "This host has no route to that network.",
        "Check the default route, the VPN, and whether IPv6 is meant to work here.",
    ),
    (
        lambda f: f.kind is Kind.NETWORK_DOWN,
        "The network interface of this host is down.",
        "Bring the interface up.",
    ),
    (
        lambda f: f.kind is Kind.TIMED_OUT and f.phase is Phase.CONNECT,
        "No answer came to the attempts to connect: a firewall drops them, or the host is down.",
        "Check security groups and firewall rules for the port.",
    ),
    (
        lambda f: f.kind is Kind.TIMED_OUT and _window_closed(f),
        "The peer lives but did not read for longer than the limit for unacknowledged data.",
        "Look at the load of the peer's program; raise Keepalive.dead_after if such pauses are normal.",
    ),
    (
        lambda f: f.kind is Kind.TIMED_OUT and f.phase is Phase.IDLE,
        "The idle connection's keepalive probes were not answered: the path or the peer is gone.",
        "A NAT or firewall may forget idle connections: use the profile of the path, or a heartbeat.",
    ),
    (
        lambda f: f.kind is Kind.TIMED_OUT,
        "What was sent was not acknowledged: the path drops packets, or the peer is gone.",
        "Run the doctor against the host; look for a NAT or firewall that forgot the connection.",
    ),
    (
        lambda f: f.kind is Kind.CONNECTION_RESET and f.phase is Phase.TLS_HANDSHAKE,
        "The connection was reset during the TLS handshake: a filter, a wrong port, or a server without a backend.",
        "Compare with another server name and network; look at the balancer's health checks.",
    ),
    (
        lambda f: f.kind is Kind.CONNECTION_RESET and f.phase is Phase.CONNECT,
        "The connection was reset as soon as it was opened.",
        "Look for a firewall that resets, or a server that is out of resources.",
    ),
    (
        lambda f: f.kind is Kind.CONNECTION_RESET and _was_idle(f),
        "The connection was reset after it had been idle: the path or the server forgot it.",
        "Let connections idle for less than the limit: a profile, PoolPolicy(idle=...), or a heartbeat.",
    ),
    (
        lambda f: f.kind is Kind.CONNECTION_RESET and f.reused and not f.bytes_in,
        "The peer reset a connection that had been used before.",
        "Look at the server's keep-alive limits and restarts.",
    ),
    (
        lambda f: f.kind is Kind.CONNECTION_RESET and f.phase is Phase.RESPONSE_BODY,
        "The peer reset the connection in the middle of the answer: its program crashed, or a box on the path cut it.",
        "Look at the server's and balancer's logs at this time.",
    ),
    (
        lambda f: f.kind is Kind.CONNECTION_RESET and f.phase in {Phase.REQUEST_HEADERS, Phase.REQUEST_BODY},
        "The peer reset the connection while the request was being sent.",
        "It may refuse large bodies, or have just restarted; look at its logs.",
    ),
    (
        lambda f: f.kind is Kind.CONNECTION_RESET,
        "The peer, or a box on the path, reset the connection.",
        "Look at the server's and balancer's logs at this time: a crash, a restart, a limit.",
    ),
    (
        lambda f: f.kind is Kind.CONNECTION_ABORTED,
        "This host's network stack gave the connection up.",
        "Look for security software, an administrator's tool, or an interface that went away.",
    ),
    (
        lambda f: f.kind is Kind.BROKEN_PIPE,
        "The peer had closed the connection before this was written.",
        "Let connections idle for less than the server does; an earlier failure may say more.",
    ),
    (
        lambda f: f.kind is Kind.UNEXPECTED_EOF and f.phase is Phase.TLS_HANDSHAKE,
        "The peer closed during the TLS handshake: a balancer without a backend, or one that drops this server name.",
        "Check the server name and the balancer's health checks.",
    ),
    (
        lambda f: f.kind is Kind.UNEXPECTED_EOF and f.phase is Phase.IDLE,
        "The peer closed the idle connection without saying so in TLS (no close_notify).",
        "Harmless by itself; let connections idle for less than the server does.",
    ),
    (
        lambda f: f.kind is Kind.UNEXPECTED_EOF and f.phase is Phase.RESPONSE_BODY,
        "The peer closed in the middle of the answer: its program crashed, was stopped, or a proxy gave up.",
        "Look at the server's and proxy's logs at this time; compare their time-outs.",
    ),
    (
        lambda f: f.kind is Kind.UNEXPECTED_EOF and _lost_errno(f),
        "The connection ended without an errno although it was reset: an earlier call must have met the error.",
        "Look for an earlier failure of the same connection.",
    ),
    (
        lambda f: f.kind is Kind.UNEXPECTED_EOF and f.reused,
        "The peer closed a connection that had been kept alive just when it was used again.",
        "Let connections idle for less than the server does: PoolPolicy(idle=...) or the server's keep-alive limit.",
    ),
    (
        lambda f: f.kind is Kind.UNEXPECTED_EOF,
        "The peer closed the connection where an answer was due: its program crashed, was stopped, or refused.",
        "Look at the server's logs at this time.",
    ),
    (
        lambda f: f.kind is Kind.BAD_FILE_DESCRIPTOR,
        "The socket was closed by other code of this program, or never was one.",
        "Look for code that closes descriptors it does not own.",
    ),
    (
        lambda f: f.kind is Kind.NO_FILE_DESCRIPTORS,
        "This process or host has no file descriptors left.",
        "Look for a leak; raise the limit (ulimit -n); lower max_connections.",
    ),
    (
        lambda f: f.kind is Kind.NO_BUFFER_SPACE_AVAILABLE and f.network_type == "unix",
        "The listener's backlog is full: the service does not accept fast enough.",
        "Look at the load of the service.",
    ),
    (
        lambda f: f.kind is Kind.NO_BUFFER_SPACE_AVAILABLE,
        "The kernel has no memory left for network buffers.",
        "Look at memory pressure and at the number of connections of this host.",
    ),
    (
        lambda f: f.kind is Kind.ADDRESS_NOT_AVAILABLE and f.category is Category.CONFIGURATION,
        "The local address that was asked for is not an address of this host.",
        "Check local_address.",
    ),
    (
        lambda f: f.kind is Kind.ADDRESS_NOT_AVAILABLE,
        "This host has no local port left for a connection to that address.",
        "Reuse connections; widen net.ipv4.ip_local_port_range.",
    ),
    (
        lambda f: f.kind is Kind.ADDRESS_ALREADY_IN_USE,
        "The local port that was asked for is taken.",
        "Let the system choose the port.",
    ),
    (
        lambda f: f.kind is Kind.ACCESS_DENIED,
        "This host's policy forbids the connection: a local firewall, SELinux or a sandbox.",
        "Look at the local firewall and the container's policy.",
    ),
    (
        lambda f: f.kind is Kind.CERTIFICATE_INVALID and _verify(f) in _CLOCK,
        "The peer's certificate is expired or not yet valid, or this host's clock is wrong.",
        "Check the clock; have the certificate renewed.",
    ),
    (
        lambda f: f.kind is Kind.CERTIFICATE_INVALID and _verify(f) in _NAMES,
        "The peer's certificate is for another name.",
        "Check the host name, and which server answers under it.",
    ),
    (
        lambda f: f.kind is Kind.CERTIFICATE_INVALID,
        "The peer's certificate is not trusted here: an authority or an intermediate is missing.",
        "Have the server send its whole chain; add its authority to the trust store.",
    ),
    (
        lambda f: f.kind is Kind.TLS_ALERT_RECEIVED and "CERTIFICATE" in _reason(f),
        "The peer did not accept our certificate, or wants one.",
        "Give the right client certificate.",
    ),
    (
        lambda f: f.kind is Kind.TLS_ALERT_RECEIVED,
        "The peer refused the TLS handshake or ended the connection with an alert.",
        "Compare TLS versions, ciphers, server name and ALPN with what the server allows.",
    ),
    (
        lambda f: f.kind is Kind.TLS_PROTOCOL_ERROR and f.category is Category.CONFIGURATION,
        "What answered does not speak this TLS: a plain-text port, a proxy, or no common version.",
        "Check scheme and port.",
    ),
    (
        lambda f: f.kind is Kind.TLS_PROTOCOL_ERROR,
        "The bytes that came broke TLS: a box on the path changed them, or two tasks shared one TLS object.",
        "If it repeats, compare with another network path.",
    ),
    (
        lambda f: f.kind is Kind.PROXY_REFUSED,
        "The proxy opened no tunnel.",
        "Check the proxy's credentials, its rules, and whether it can reach the host.",
    ),
    (
        lambda f: f.kind is Kind.HTTP2_GOAWAY,
        "The server is closing the connection.",
        "Usual during deployments and after a number of requests.",
    ),
    (
        lambda f: f.kind is Kind.HTTP2_STREAM_RESET,
        "The server ended this request, not the connection.",
        "Look at the server's logs for the request.",
    ),
    (
        lambda f: f.kind is Kind.HTTP_PROTOCOL_ERROR,
        "What came back is no legal HTTP.",
        "Check scheme and port, and what stands between here and the server.",
    ),
    (
        lambda f: f.kind is Kind.HEARTBEAT_LOST,
        "Nothing came back in time: the peer or the path is dead.",
        "Run the doctor against the host; look for a NAT or firewall that forgot the connection.",
    ),
    (
        lambda f: f.kind is Kind.POOL_TIMEOUT,
        "Every connection of the pool was in use for too long.",
        "Raise max_connections, or close responses sooner.",
    ),
    (
        lambda f: f.kind is Kind.LOCAL_TIMEOUT and f.phase.is_setup,
        "No connection came about within the caller's time limit.",
        "Check that the host can be reached; raise the connect time-out if the path is slow.",
    ),
    (
        lambda f: f.kind is Kind.LOCAL_TIMEOUT and f.sent is not Sent.NONE and bool(f.outq),
        "What was sent had not all been acknowledged when the caller's time limit expired: the path may be dead.",
        "Run the doctor against the host.",
    ),
    (
        lambda f: f.kind is Kind.LOCAL_TIMEOUT,
        "The peer's kernel has everything, but its program did not answer within the caller's time limit.",
        "Raise the read time-out if the server is slow by nature; look at its load.",
    ),
    (
        lambda f: f.kind is Kind.CANCELLED,
        "The caller ended it.",
        "Nothing to do.",
    ),
    (
        lambda f: f.category is Category.LOCAL_BUG,
        "The operating system says that the call makes no sense.",
        "This is a bug of this program or of holdwire: please report it.",
    ),
)

_UNKNOWN: Final = ("The cause is not known.", "Run the doctor against the host, and look at both ends' logs.")


def words_for(failure: Failure) -> tuple[str, str]:
    """The likely cause and the remedy, one sentence each."""
    for matches, cause, remedy in _ROWS:
        if matches(failure):
            return cause, remedy
    return _UNKNOWN
