"""Phrases by which systems and well-known programs speak of failing connections, as tables for ``explain``.

``LINES`` maps phrases to codes, ``PHASES`` phrases to phases, ``CODES`` describes the codes that are neither errnos
nor OpenSSL reasons nor kinds with words of their own. Sources: glibc's strerror and gai_strerror, CPython, OpenSSL,
httpx, urllib3, curl, Go, Java, nginx, HAProxy, Envoy, the Linux kernel. Not responsible for errnos and reasons
themselves (``policy.taxonomy``).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ..policy.phase import Phase

__all__ = ["CODES", "LINES", "PHASES", "Known"]


class Known(NamedTuple):
    """What is known about a code that is no errno."""

    summary: str
    cause: str
    check: str
    holdwire: str


CODES: Final[dict[str, Known]] = {
    "SSL_ERROR_SYSCALL": Known(
        "OpenSSL says that the system call beneath it failed, or that an end of file came where none was due.",
        "It says nothing about TLS: the connection was cut, reset or timed out, or the peer closed without "
        "close_notify. The true clue is the errno of the call; 0 means an end of file.",
        "Find the errno beside it and explain that; with errno 0 look for a peer that closes without close_notify.",
        "Makes the system calls itself, so that the errno is never lost, and records it with phase and TCP_INFO.",
    ),
    "SSL_ERROR_SSL": Known(
        "OpenSSL says that TLS itself failed; the reason stands in its error queue.",
        "A certificate, an alert, a version, a broken record. OpenSSL 3 also reports an end of file without "
        "close_notify this way, with the reason UNEXPECTED_EOF_WHILE_READING.",
        "Find the reason (the words in capitals) and explain that.",
        "Records reason, alert and verify code with the failure.",
    ),
    "SSL_ERROR_ZERO_RETURN": Known(
        "The peer ended TLS properly, with close_notify.",
        "A proper end: usual for idle connections and after a last answer.",
        "Nothing, unless an answer was due; then look at the peer's log.",
        "Treats it as a clean end, and as truncation only where a message was not complete.",
    ),
    "WANT_READ": Known(
        "TLS wants to read or write first: no error at all (SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE).",
        "In non-blocking mode every TLS operation can ask for it, a write can want to read too. A program that "
        "treats it as a failure, or as SSL_ERROR_SYSCALL, is wrong.",
        "Look for code that does not wait for the socket and then repeat the same operation.",
        "Waits for exactly what is wanted and goes on. Never a failure, never a span.",
    ),
    "LOCAL_TIMEOUT": Known(
        "A time limit of the program itself expired; no errno is involved.",
        "The peer was slow, or nothing of what was sent arrived: only the kernel's counters tell the two apart.",
        "Compare the limit with how long answers take; run 'holdwire doctor' against the host.",
        "Says whether the peer's kernel had acknowledged the request, and does not retry a limit that the user set.",
    ),
    "POOL_TIMEOUT": Known(
        "Every connection of the pool was in use for longer than the pool time-out.",
        "Too few connections for the load, or responses that are never closed.",
        "Close responses (use 'async with'); raise max_connections or the pool time-out.",
        "Raises it; no connection was touched.",
    ),
    "SERVER_DISCONNECTED": Known(
        "The server closed the connection instead of answering, as HTTP clients say it.",
        "On a reused connection mostly a race: the server's keep-alive limit expired just then. On a fresh one the "
        "server refused, crashed or was restarted.",
        "Let connections idle for less than the server does; look at the server's log.",
        "Sees the end of idle connections before it uses them, and repeats what may be repeated.",
    ),
    "UPSTREAM_CLOSED": Known(
        "A proxy says that the server behind it closed the connection before a whole answer had come.",
        "The server behind the proxy crashed, was restarted, or has a shorter keep-alive limit than the proxy.",
        "On each hop the side that opens the connection needs the smaller keep-alive limit; look at the server's log.",
        "Cannot see behind the proxy: it gets a 502 and retries it only where statuses= says so.",
    ),
    "UPSTREAM_TIMED_OUT": Known(
        "A proxy says that the server behind it did not answer in time.",
        "The server is overloaded, its workers are all busy, or the path to it drops packets.",
        "Look at the server's load and queues; compare the proxy's time-outs with the answer times.",
        "Cannot see behind the proxy: it gets a 504 and retries it only where statuses= says so.",
    ),
    "CONNTRACK_FULL": Known(
        "The kernel's connection tracking table is full: new connections are dropped.",
        "More connections than nf_conntrack_max, or entries that live for too long.",
        "Raise net.netfilter.nf_conntrack_max, shorten the time-outs, keep connections alive, open fewer new ones.",
        "Sees SYN packets vanish: it backs off; reusing connections makes it rarer.",
    ),
    "OOM_KILLER": Known(
        "The kernel killed a process because memory ran out.",
        "The process, or its container, used more memory than it may.",
        "Look at its memory limit and its leaks; its connections end with RST or FIN at this moment.",
        "Sees the peer's connections end and reconnects.",
    ),
    "SYN_FLOODING": Known(
        "The listener's queue overflowed: the kernel answers with SYN cookies or drops.",
        "The program accepts too slowly or its backlog is too small for the load.",
        "Raise the backlog (listen) and net.core.somaxconn; look at the load of the program.",
        "Sees connects time out: it backs off.",
    ),
    "WORKERS_EXHAUSTED": Known(
        "The server has no free worker, thread or connection slot left.",
        "More requests than workers, or workers that wait for something slow.",
        "Look at the worker and connection limits, and at what the workers wait for.",
        "Gets no answer: the caller's time-outs hold; it does not repeat into an overload.",
    ),
    "name_resolution_error": Known(
        "A kind of holdwire's (error.type): the name did not resolve.",
        "The name is misspelt or has no address, or the name servers did not answer.",
        "Find getaddrinfo's code beside it (EAI_NONAME, EAI_AGAIN ...) and explain that.",
        "Records the code with the failure; its table says which of them are worth another attempt.",
    ),
    "tls_alert_received": Known(
        "A kind of holdwire's (error.type): the peer refused by TLS alert.",
        "It does not accept our certificate, our settings of TLS or the name that we asked for.",
        "Find the alert beside it (holdwire.tls.alert.name) and explain that, as in 'alert 48'.",
        "Records the alert with the failure; nearly all of them would come again, and are raised at once.",
    ),
    "tls_protocol_error": Known(
        "A kind of holdwire's (error.type): TLS failed by another reason than an alert or a certificate.",
        "The port speaks no TLS, the two sides agree on no settings, or a record arrived damaged.",
        "Find OpenSSL's reason beside it (holdwire.ssl.reason) and explain that.",
        "Records the reason with the failure, and tries again only what can pass by itself.",
    ),
}

_I: Final = re.IGNORECASE
LINES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern, _I), code)
    for pattern, code in (
        (r"connection reset(?: by peer)?|socket hang ?up|forcibly closed by the remote host", "ECONNRESET"),
        (r"broken pipe", "EPIPE"),
        (r"connection refused|actively refused it", "ECONNREFUSED"),
        (r"no route to host", "EHOSTUNREACH"),
        (r"network is unreachable", "ENETUNREACH"),
        (r"software caused connection abort|connection aborted(?!\.',)", "ECONNABORTED"),  # urllib3 says it of all
        (r"\bconnection timed out\b(?! after)", "ETIMEDOUT"),
        (r"too many open files|accept4?\(\) failed \(24", "EMFILE"),
        (r"cannot assign requested address", "EADDRNOTAVAIL"),
        (r"address already in use", "EADDRINUSE"),
        (r"no buffer space available", "ENOBUFS"),
        (r"bad file descriptor", "EBADF"),
        (r"name or service not known|nodename nor servname|no such host|getaddrinfo ENOTFOUND", "EAI_NONAME"),
        (r"temporary failure in name resolution|getaddrinfo EAI_AGAIN", "EAI_AGAIN"),
        (r"no address associated with hostname", "EAI_NODATA"),
        (r"certificate has expired(?! or)", "CERT_HAS_EXPIRED"),
        (r"certificate is not yet valid", "CERT_NOT_YET_VALID"),
        (r"hostname mismatch|x509: certificate is valid for .* not", "HOSTNAME_MISMATCH"),
        (r"ip address mismatch", "IP_ADDRESS_MISMATCH"),
        (r"self[- ]signed certificate in certificate chain", "SELF_SIGNED_CERT_IN_CHAIN"),
        (r"self[- ]signed certificate(?! in)", "DEPTH_ZERO_SELF_SIGNED_CERT"),
        (
            r"unable to get local issuer certificate|x509: certificate signed by unknown authority",
            "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
        ),
        (r"certificate verify failed(?!: )", "CERTIFICATE_VERIFY_FAILED"),
        (r"wrong version number|first record does not look like a tls handshake", "WRONG_VERSION_NUMBER"),
        (r"unexpected eof while reading|EOF occurred in violation of protocol", "UNEXPECTED_EOF_WHILE_READING"),
        (r"tls: bad certificate|alert bad certificate", "SSLV3_ALERT_BAD_CERTIFICATE"),
        (r"tls: handshake failure|alert handshake failure", "SSLV3_ALERT_HANDSHAKE_FAILURE"),
        (r"alert unknown ca", "TLSV1_ALERT_UNKNOWN_CA"),
        (r"alert certificate required", "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
        (r"alert protocol version|unsupported protocol\b", "TLSV1_ALERT_PROTOCOL_VERSION"),
        (r"no shared cipher", "NO_SHARED_CIPHER"),
        (r"bad record mac", "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"),
        (r"unrecognized name", "TLSV1_UNRECOGNIZED_NAME"),
        (
            (
                r"SSL_ERROR_WANT_(?:READ|WRITE)|SSLWant(?:Read|Write)Error"
                r"|The operation did not complete \((?:read|write)\)"
            ),
            "WANT_READ",
        ),
        (r"PoolTimeout", "POOL_TIMEOUT"),
        (
            (
                r"\b(?:Connect|Read|Write)Timeout\b|i/o timeout|read timed out|deadline exceeded"
                r"|operation timed out after|\bTimeoutError$"
            ),
            "LOCAL_TIMEOUT",
        ),
        (
            (
                r"upstream prematurely closed connection|backend closed connection"
                r"|upstream connect error or disconnect/reset before headers"
            ),
            "UPSTREAM_CLOSED",
        ),
        (r"upstream timed out", "UPSTREAM_TIMED_OUT"),
        (
            (
                r"server disconnected(?: without sending a response)?|RemoteDisconnected|empty reply from server"
                r"|remote end closed connection without response"
            ),
            "SERVER_DISCONNECTED",
        ),
        (r"without sending complete message body|IncompleteRead|\berrno[ =:]*0\b", "unexpected_eof"),
        (r"\bGOAWAY\b|\bConnectionTerminated\b", "http2_goaway"),
        (r"\bRST_STREAM\b|\bStreamReset\b|stream error: stream ID", "http2_stream_reset"),
        (r"nf_conntrack: table full", "CONNTRACK_FULL"),
        (r"out of memory: kill|oom-kill(?:er)?|killed process \d+", "OOM_KILLER"),
        (r"possible SYN flooding", "SYN_FLOODING"),
        (r"worker_connections are not enough|reached (?:pm\.)?max_children|MaxRequestWorkers", "WORKERS_EXHAUSTED"),
    )
)

PHASES: Final[tuple[tuple[re.Pattern[str], Phase], ...]] = tuple(
    (re.compile(pattern, _I), phase)
    for pattern, phase in (
        (r"ssl_connect|ssl_accept|do_handshake|handshak", Phase.TLS_HANDSHAKE),
        (r"(?<!ssl_)\bconnect(?:\(\)| failed|Error)|ConnectError|dial tcp|\bphase connect\b", Phase.CONNECT),
        (r"while reading response header|getresponse|waiting for (?:a |the )?response", Phase.RESPONSE_WAIT),
        (
            r"while reading upstream|reading (?:the )?(?:response )?body|IncompleteRead|complete message body",
            Phase.RESPONSE_BODY,
        ),
        (r"while sending (?:the )?request|while sending to", Phase.REQUEST_BODY),
        (r"phase idle|while idle|idle connection", Phase.IDLE),
    )
)
