"""The words about what is no failed socket call, by kind: names, TLS, proxies, HTTP, and limits of our own.

Not responsible for failed socket calls and ends of connections (``_socket_words``).
"""

from __future__ import annotations

from typing import Final

from ._conditions import (
    Words,
    alert,
    always,
    both,
    during,
    has_no_number,
    is_setup,
    is_unacknowledged,
    named,
    reason,
    sort,
    verify,
    window_is_closed,
)
from .kind import Category, Kind
from .phase import Phase

__all__ = ["PROTOCOL_WORDS"]

_PEER_READS_NOT: Final = "The peer's host is alive, but its program does not read what waits here for it."
_SERVER_LOG: Final = "Look at the server's log; a new connection usually works."
_NO_TLS: Final = reason("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "RECORD_LAYER_FAILURE")

PROTOCOL_WORDS: Final[dict[Kind, tuple[Words, ...]]] = {
    Kind.NAME_RESOLUTION_ERROR: (
        Words(
            named("EAI_NONAME"),
            "The name does not exist, or no name server could be reached.",
            "Check the spelling of the host, and that this host can resolve names.",
        ),
        Words(
            named("EAI_NODATA", "EAI_ADDRFAMILY"),
            "The name exists, but has no address of the family that was asked for.",
            "Check the name's A and AAAA records.",
        ),
        Words(
            named("EAI_AGAIN"),
            "The name servers did not answer for now.",
            "Check the name servers of this host; this often passes by itself.",
        ),
        Words(
            named("EAI_FAIL"),
            "The name server failed to look the name up.",
            "Check the name servers of the domain and those of this host.",
        ),
        Words(
            named("EAI_MEMORY"),
            "This host had no memory left to look the name up.",
            "Check the memory of this host.",
        ),
        Words(
            named("UnicodeError"),
            "The host is no valid name: a label is empty, longer than 63 bytes or not allowed by IDNA.",
            "Correct the host.",
        ),
        Words(
            sort(Category.CONFIGURATION),
            "The resolver does not support what it was asked: a family, service or flag.",
            "Check the port or service name and the address family.",
        ),
        Words(
            always,
            "The resolver of this host failed in a way that is not known.",
            "Look up the name with another tool on this host, and check its resolver's settings.",
        ),
    ),
    Kind.TLS_ALERT_RECEIVED: (
        Words(
            alert("certificate_required", "no_certificate"),
            "The server wants a client certificate and got none.",
            "Give the TLS context a client certificate (load_cert_chain).",
        ),
        Words(
            alert("unknown_ca"),
            "The server does not know the authority that issued our client certificate.",
            "Use a client certificate of an authority that the server trusts, with its whole chain.",
        ),
        Words(
            alert("certificate_expired"),
            "The server says that our client certificate has expired.",
            "Renew the client certificate.",
        ),
        Words(
            alert("certificate_revoked"),
            "The server says that our client certificate was revoked.",
            "Get a new client certificate.",
        ),
        Words(
            alert("bad_certificate", "unsupported_certificate", "certificate_unknown", "bad_certificate_hash_value"),
            "The server does not accept our client certificate.",
            "Check that it is made for client authentication and issued by an authority that the server trusts.",
        ),
        Words(
            alert("access_denied"),
            "The server knows our client certificate and denies it access.",
            "Ask for access on the server's side, or use another client certificate.",
        ),
        Words(
            alert("unrecognized_name"),
            "The server does not serve the name that we asked for (SNI).",
            "Check the host of the URL, and which names the server at this address serves.",
        ),
        Words(
            alert("protocol_version", "inappropriate_fallback"),
            "The server speaks no TLS version that this client allows.",
            "Let both sides allow TLS 1.2 or 1.3.",
        ),
        Words(
            alert("no_application_protocol"),
            "The server speaks none of the application protocols that we offered (ALPN).",
            "Offer what the server speaks: http1=True and http2=True offer both.",
        ),
        Words(
            alert("handshake_failure", "insufficient_security"),
            "The server found no settings of TLS that both sides allow; it may also want a client certificate.",
            "Compare the ciphers, groups and versions of both sides, and check whether a client certificate is wanted.",
        ),
        Words(
            alert("internal_error", "user_canceled"),
            "The server had trouble of its own and gave the handshake or connection up.",
            _SERVER_LOG,
        ),
        Words(
            sort(Category.VIOLATION),
            "What we sent reached the server damaged, or it does not understand our TLS.",
            "Look for boxes in between that change traffic, and for two tasks that use one TLS object.",
        ),
        Words(always, "The server refused by TLS alert.", "Look at the server's log for the reason."),
    ),
    Kind.CERTIFICATE_INVALID: (
        Words(
            verify(9),
            "The certificate is not valid yet, or the clock of this host is slow.",
            "Check the clock of this host, then the server's certificate.",
        ),
        Words(
            verify(10),
            "A certificate of the server has expired, or the clock of this host is fast.",
            "Renew the server's certificate; check the clock of this host.",
        ),
        Words(
            verify(18),
            "The server's certificate is self-signed, and this client does not trust it.",
            "Add that certificate to the trust store of this client, or use one of a known authority.",
        ),
        Words(
            verify(19),
            "The chain ends in an authority that this client does not trust: its own, or that of a box that reads TLS.",
            "Add that authority to the trust store of this client if it is yours.",
        ),
        Words(
            verify(2, 20, 21, 24),
            "The issuer is missing: the server does not send its whole chain, or the trust store lacks the authority.",
            "Let the server send its intermediate certificates, or add the authority to the trust store.",
        ),
        Words(
            verify(23),
            "The server's certificate was revoked.",
            "Replace the server's certificate; do not trust this one.",
        ),
        Words(
            verify(62),
            "The certificate is for other names than the host that we asked for.",
            "Use a host that the certificate names, or get a certificate for this one.",
        ),
        Words(
            verify(64),
            "The certificate does not name the IP address that we asked for.",
            "Use the host's name instead of its address, or get a certificate for the address.",
        ),
        Words(
            verify(66, 67, 68),
            "The certificate uses keys or signatures that are too weak for this client.",
            "Replace the certificate by one with stronger keys and signatures.",
        ),
        Words(
            always,
            "The server's certificate did not pass verification.",
            "Check the server's certificate and its chain; trying again does not help.",
        ),
    ),
    Kind.TLS_PROTOCOL_ERROR: (
        Words(
            both(is_setup, _NO_TLS),
            "The port answered without TLS: it is a plaintext port, or a proxy or portal answered in its place.",
            "Check the port and the scheme (http instead of https), and what stands in between.",
        ),
        Words(
            reason("UNSUPPORTED_PROTOCOL", "UNKNOWN_PROTOCOL", "VERSION_TOO_LOW", "VERSION_TOO_HIGH"),
            "The two sides share no TLS version.",
            "Let both sides allow TLS 1.2 or 1.3.",
        ),
        Words(
            reason("NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE"),
            "The TLS context of this client allows no version or no cipher at all.",
            "Correct minimum_version, maximum_version and the ciphers of the TLS context.",
        ),
        Words(
            sort(Category.CONFIGURATION),
            "The two sides agree on no settings of TLS: ciphers, groups, key sizes or protocols.",
            "Compare the TLS settings of both sides.",
        ),
        Words(
            sort(Category.LOCAL_BUG),
            "The TLS object was misused by code in this process.",
            "Report it, with the traceback; do not use one TLS object from two threads.",
        ),
        Words(
            sort(Category.VIOLATION),
            "A TLS record arrived damaged: a box in between changes traffic, or two tasks used one TLS object.",
            "If it repeats, look for what inspects or changes traffic on the way.",
        ),
        Words(
            always,
            "TLS failed for a reason that is not in the tables.",
            "Look the reason up in OpenSSL's documentation.",
        ),
    ),
    Kind.PROXY_REFUSED: (
        Words(
            always,
            "The proxy was reached and refused to open a tunnel to the peer.",
            "Check the proxy's credentials and access rules, and that it can reach the peer.",
        ),
    ),
    Kind.HTTP2_GOAWAY: (
        Words(
            always,
            "The server closes this HTTP/2 connection: a restart, an age limit, or it objects to our traffic.",
            _SERVER_LOG,
        ),
    ),
    Kind.HTTP2_STREAM_RESET: (
        Words(
            always,
            "The server gave this request up and kept the connection.",
            "Look at the server's log for this request.",
        ),
    ),
    Kind.HTTP_PROTOCOL_ERROR: (
        Words(
            during(Phase.PROXY),
            "The answer of the proxy is not valid HTTP: it may be no HTTP proxy, or want TLS.",
            "Check the port and the scheme of the proxy.",
        ),
        Words(
            always,
            "What the peer sent breaks the protocol: it is no HTTP, broken HTTP, or out of step.",
            "Check that the port speaks HTTP and not something else, and report it to the server's owner.",
        ),
    ),
    Kind.HEARTBEAT_LOST: (
        Words(
            window_is_closed,
            _PEER_READS_NOT,
            "Find out what the peer's program waits for.",
        ),
        Words(
            is_unacknowledged,
            "The heartbeat was not even acknowledged: the path or the peer's host has died.",
            "Check the network between both hosts; an idle limit on the path needs a shorter heartbeat interval.",
        ),
        Words(
            always,
            "The peer's program did not answer the heartbeat in time: it hangs, or the path is dead.",
            "Check the peer's program; if it is only slow, raise Heartbeat(timeout=...).",
        ),
    ),
    Kind.POOL_TIMEOUT: (
        Words(
            always,
            "All connections of the pool were in use for as long as the pool time-out allows.",
            "Close responses sooner, or raise max_connections or the pool time-out.",
        ),
    ),
    Kind.LOCAL_TIMEOUT: (
        Words(
            during(Phase.DNS),
            "The name was not resolved within the caller's time limit.",
            "Check the name servers of this host, or raise the connect time-out.",
        ),
        Words(
            during(Phase.CONNECT),
            "The connection attempts were not answered within the caller's time limit: dropped packets or a far host.",
            "Check firewall and security group rules for this port, or raise the connect time-out.",
        ),
        Words(
            during(Phase.PROXY),
            "The proxy did not open the tunnel within the caller's time limit.",
            "Check the proxy and the peer behind it, or raise the connect time-out.",
        ),
        Words(
            during(Phase.TLS_HANDSHAKE, Phase.POST_HANDSHAKE),
            "The TLS handshake outlasted the caller's time limit: the server is busy, or large packets vanish.",
            "Check the server's load and the path's MTU, or raise the connect time-out.",
        ),
        Words(window_is_closed, _PEER_READS_NOT, "Find out what the peer waits for, or raise the write time-out."),
        Words(
            during(Phase.REQUEST_HEADERS, Phase.REQUEST_BODY),
            "The request could not be sent within the caller's time limit.",
            "Check the network between both hosts, or raise the write time-out.",
        ),
        Words(
            is_unacknowledged,
            "What we sent was not acknowledged within the caller's time limit: the path may be dead.",
            "Check the network between both hosts.",
        ),
        Words(
            during(Phase.RESPONSE_WAIT),
            "The peer's host has the request, but its program did not answer within the caller's time limit.",
            "Raise the read time-out if the request may take that long; otherwise look at the server's load.",
        ),
        Words(
            during(Phase.RESPONSE_BODY),
            "The response stopped in the middle for longer than the caller's time limit.",
            "Raise the read time-out if the server pauses that long; otherwise look at its log.",
        ),
        Words(
            always,
            "A time limit of the caller expired.",
            "Raise the limit if the peer may take that long.",
        ),
    ),
    Kind.CANCELLED: (
        Words(
            during(Phase.SHUTDOWN, Phase.IDLE),
            "The connection was closed on this side.",
            "Nothing: this is no error.",
        ),
        Words(always, "The caller gave up: it cancelled, or closed the connection.", "Nothing: this is no error."),
    ),
    Kind.OTHER: (
        Words(
            sort(Category.NOT_AN_ERROR),
            "The call would block or was interrupted: this is no failure.",
            "Wait until the socket is ready and repeat the call.",
        ),
        Words(
            named("EAFNOSUPPORT"),
            "This host does not support the address family, most likely because IPv6 is switched off.",
            "Nothing, as long as the peer has an address of another family; otherwise switch it on.",
        ),
        Words(
            named("WSASYSNOTREADY", "WSAVERNOTSUPPORTED", "WSANOTINITIALISED"),
            "Winsock cannot be used on this host.",
            "Repair the network installation of this host.",
        ),
        Words(
            both(named("EINVAL"), during(Phase.CONNECT)),
            "The address is not complete: a link-local IPv6 address needs its interface.",
            "Add the interface to the address (fe80::1%eth0).",
        ),
        Words(
            sort(Category.CONFIGURATION),
            "This host does not support what was asked of the socket.",
            "Check socket_options and the kind of socket.",
        ),
        Words(
            sort(Category.LOCAL_BUG),
            "The socket was misused by code in this process.",
            "Check socket_options and what else uses this socket; otherwise report it.",
        ),
        Words(
            has_no_number,
            "Unknown: nothing said why the connection broke.",
            "Look at what lies beneath: the exception that caused this one, and the peer's log.",
        ),
        Words(
            always,
            "Unknown: the tables do not hold this error.",
            "Look the number up in the system's manual (holdwire explain).",
        ),
    ),
}
