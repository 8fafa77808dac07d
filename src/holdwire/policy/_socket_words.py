"""The words about failed system calls, by kind: what the kernel said, and the ends of connections.

Not responsible for names, TLS, proxies, HTTP and limits of our own (``_protocol_words``).
"""

from __future__ import annotations

from typing import Final

from ._conditions import (
    RESTING,
    Words,
    always,
    both,
    during,
    errno_was_eaten,
    has_proxy,
    has_tls,
    is_established,
    is_exchange,
    is_fresh,
    is_ipv6,
    is_reused_exchange,
    is_unacknowledged,
    is_unix,
    named,
    sort,
    window_is_closed,
)
from .kind import Category, Kind
from .phase import Phase

__all__ = ["SOCKET_WORDS"]

_CONNECTING: Final = during(Phase.CONNECT)
_SENDING: Final = during(Phase.REQUEST_HEADERS, Phase.REQUEST_BODY)
_UNUSED: Final = during(*RESTING)

_SHORTER_IDLE: Final = (
    "Let the pool drop idle connections earlier than the peer does (PoolPolicy(idle=...) or a profile)."
)
_ASK_THE_LOG: Final = "Look at that moment in the log of the peer's program and of the balancers before it."
_FILES: Final = "Look for connections and files that are never closed, or raise the limit"

SOCKET_WORDS: Final[dict[Kind, tuple[Words, ...]]] = {
    Kind.CONNECTION_REFUSED: (
        Words(
            named("ENOENT"),
            "The socket file does not exist: the service is not up, or the path is misspelt.",
            "Start the service, or correct the path of the socket.",
        ),
        Words(
            named("EAGAIN"),
            "The queue of the Unix socket is full: the service accepts connections too slowly.",
            "Give the service more workers or a longer backlog, or open fewer connections at once.",
        ),
        Words(
            is_unix,
            "The socket file is left over: nobody listens on it any more.",
            "Start the service again.",
        ),
        Words(
            has_proxy,
            "The host of the proxy answered, but no proxy listens on that port.",
            "Check that the proxy runs, and its host and port in the settings or the environment.",
        ),
        Words(
            always,
            "The host answered, but nothing listens on that port: the service is down, restarting or elsewhere.",
            "Check that the service runs and listens on this port; after a restart it comes back by itself.",
        ),
    ),
    Kind.HOST_UNREACHABLE: (
        Words(
            named("ECONNREFUSED"),
            "An ICMP error for this connection arrived while data was unacknowledged; this is no refused connection.",
            "Check firewalls and the peer's host; whether the request was processed is not known.",
        ),
        Words(
            named("ENOPROTOOPT", "EPROTO"),
            "The network reported that the peer's host does not take this protocol.",
            "Check the address, and whether a firewall in between answers for the host.",
        ),
        Words(
            is_established,
            "The path to the peer's host broke while the connection was open.",
            "Check routing and the peer's host; whether the request was processed is not known.",
        ),
        Words(
            always,
            "The peer's host did not answer its neighbours, or a router or firewall rejected the connection.",
            "Check that the host is up and that no firewall rejects this port; holdwire doctor asks who said no.",
        ),
    ),
    Kind.NETWORK_UNREACHABLE: (
        Words(
            is_ipv6,
            "This host has no route for IPv6.",
            "Nothing, as long as the peer also has an IPv4 address; otherwise give this host an IPv6 route.",
        ),
        Words(
            always,
            "This host has no route to the peer's network: no default route, or a VPN is down.",
            "Check the routes and the VPN of this host.",
        ),
    ),
    Kind.NETWORK_DOWN: (
        Words(always, "The network interface of this host is down.", "Bring the interface up, or wait for it."),
    ),
    Kind.TIMED_OUT: (
        Words(
            _CONNECTING,
            "Nothing answered the connection attempts: a firewall drops them, or the host is down.",
            "Check firewall and security group rules for this port, and that the host is up.",
        ),
        Words(
            window_is_closed,
            "The peer's host is alive, but its program did not read until the kernel gave up.",
            "Find out what the peer's program waits for, or raise Keepalive(dead_after=...).",
        ),
        Words(
            is_unacknowledged,
            "What we sent was never acknowledged: the path or the peer's host has died.",
            "Check the network between both hosts; whether the request was processed is not known.",
        ),
        Words(
            _UNUSED,
            "Keepalive probes went unanswered while idle: the peer's host has died, or a firewall or NAT forgot us.",
            "Use a heartbeat or a profile below the idle limit of the path, so that its state stays alive.",
        ),
        Words(
            always,
            "The peer's kernel stopped answering: the path or the peer's host has died.",
            "Check the network between both hosts and the peer's host.",
        ),
    ),
    Kind.CONNECTION_RESET: (
        Words(
            named("ENOTCONN"),
            "The connection was already gone when it was used, and its own error is lost.",
            "Look for the first failure of this connection, or for other code that uses its socket.",
        ),
        Words(
            _CONNECTING,
            "The connection was reset while it was being opened, by the peer's host or a firewall.",
            "Check that the service is healthy and that no firewall resets connections to this port.",
        ),
        Words(
            during(Phase.PROXY),
            "The proxy reset the connection before it had opened a tunnel.",
            "Check the proxy's log, its access rules, and that it is spoken to by the right protocol.",
        ),
        Words(
            during(Phase.TLS_HANDSHAKE),
            "The TLS handshake was reset: a filter looks into it, the port speaks no TLS, or the server is overloaded.",
            "Check that the port speaks TLS, and compare from another network or with another server name.",
        ),
        Words(
            _UNUSED,
            "The connection was reset while no request used it: an idle limit or a restart of the peer.",
            _SHORTER_IDLE,
        ),
        Words(
            both(during(Phase.REQUEST_BODY), is_fresh),
            "The peer reset the connection in the middle of the request: it does not take the rest, or it crashed.",
            "Look for size limits in the peer and in the boxes before it, and for a crash in its log.",
        ),
        Words(
            is_reused_exchange,
            "The peer closed the reused connection just as the request was sent, or crashed on the request.",
            _SHORTER_IDLE,
        ),
        Words(
            during(Phase.RESPONSE_WAIT),
            "The peer reset the connection instead of answering: it crashed, was killed, or a box in between cut it.",
            _ASK_THE_LOG,
        ),
        Words(
            during(Phase.RESPONSE_BODY),
            "The peer reset the connection in the middle of its response: it crashed, or a box in between cut it.",
            "Look at the peer's log and at time limits of the balancers before it; the response is incomplete.",
        ),
        Words(
            always,
            "The peer, or a box in between that forgot the connection, reset it.",
            _ASK_THE_LOG,
        ),
    ),
    Kind.CONNECTION_ABORTED: (
        Words(
            always,
            "This host gave the connection up, or software on it closed it (security software, an administrator).",
            "Check what on this host ends connections; where it is the network, check for packet loss.",
        ),
    ),
    Kind.BROKEN_PIPE: (
        Words(
            both(_SENDING, is_reused_exchange),
            "The peer had closed the reused connection before the request was sent.",
            _SHORTER_IDLE,
        ),
        Words(
            during(Phase.REQUEST_BODY),
            "The peer closed the connection in the middle of the request: it does not take the rest, or it crashed.",
            "Read the response if there is one; look for size limits in the peer and the boxes before it.",
        ),
        Words(
            always,
            "The connection was written to after the peer had closed it.",
            "Look for what closed it first: the peer's log, or an earlier failure of this connection.",
        ),
    ),
    Kind.UNEXPECTED_EOF: (
        Words(
            errno_was_eaten,
            "The connection had been reset or aborted, and an earlier call took the error: this end is its echo.",
            "Look for the first failure of this connection, or for other code that uses its socket.",
        ),
        Words(
            during(Phase.PROXY),
            "The proxy closed the connection before it had opened a tunnel.",
            "Check the proxy's log, its access rules, and that it is spoken to by the right protocol.",
        ),
        Words(
            during(Phase.TLS_HANDSHAKE),
            "The peer closed in the TLS handshake: a balancer without a backend, or one that drops the server name.",
            "Check that the name is served there and has a healthy backend, and that the port speaks TLS.",
        ),
        Words(
            during(Phase.POST_HANDSHAKE),
            "The server closed right after the TLS handshake: it may want a client certificate, or is overloaded.",
            "Check whether the server asks for a client certificate, and its log.",
        ),
        Words(
            _UNUSED,
            "The peer closed while no request used the connection: its idle limit, or a restart.",
            _SHORTER_IDLE,
        ),
        Words(
            is_reused_exchange,
            "The peer closed the reused connection just as the request was sent: its idle limit, or a restart.",
            _SHORTER_IDLE,
        ),
        Words(
            is_exchange,
            "The peer closed the connection instead of answering: it crashed, was killed, or has no worker left.",
            _ASK_THE_LOG,
        ),
        Words(
            both(during(Phase.RESPONSE_BODY), has_tls),
            "The response ended without close_notify: it was cut, or the server never ends TLS properly.",
            'Look at the peer\'s log; if it always ends this way and you trust it, set tls_truncation="accept".',
        ),
        Words(
            during(Phase.RESPONSE_BODY),
            "The peer closed in the middle of its response: it crashed, or a balancer cut it.",
            "Look at the peer's log and at time limits of the balancers before it; the response is incomplete.",
        ),
        Words(
            always,
            "The peer ended the connection without the words with which its protocol ends one.",
            _ASK_THE_LOG,
        ),
    ),
    Kind.BAD_FILE_DESCRIPTOR: (
        Words(
            named("ENOTSOCK"),
            "The descriptor of the connection now belongs to something else: it was closed behind our back and reused.",
            "Find the code in this process that closes a descriptor it does not own.",
        ),
        Words(
            always,
            "Something in this process closed the socket behind our back.",
            "Find the code in this process that closes a descriptor it does not own.",
        ),
    ),
    Kind.NO_FILE_DESCRIPTORS: (
        Words(named("ENFILE"), "The system has no file descriptors left.", f"{_FILES} of the system (fs.file-max)."),
        Words(always, "This process has no file descriptors left.", f"{_FILES} of the process (ulimit -n)."),
    ),
    Kind.NO_BUFFER_SPACE_AVAILABLE: (
        Words(
            always,
            "The kernel of this host has no memory left for sockets.",
            "Check the memory of this host and the limits of its socket buffers; open fewer connections.",
        ),
    ),
    Kind.ADDRESS_NOT_AVAILABLE: (
        Words(
            sort(Category.CONFIGURATION),
            "The local address to connect from does not exist on this host.",
            "Correct local_address.",
        ),
        Words(
            always,
            "This host has no local port left for connections to this peer.",
            "Reuse connections instead of opening new ones, or widen the range of local ports.",
        ),
    ),
    Kind.ADDRESS_ALREADY_IN_USE: (
        Words(
            always,
            "The local address and port to connect from are taken.",
            "Leave the local port to the kernel, or choose another one.",
        ),
    ),
    Kind.ACCESS_DENIED: (
        Words(
            is_established,
            "This host forbids sending: a firewall rule of its own, or its table of connections is full.",
            "Check this host's firewall rules and the fill of its connection tracking table.",
        ),
        Words(
            always,
            "This host forbids the connection: its firewall, SELinux or a sandbox.",
            "Check this host's firewall rules, security modules and sandbox; trying again does not help.",
        ),
    ),
}
