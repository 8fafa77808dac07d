"""The plain words about a failure: a situation for each row, and for each name that a row knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Unpack

import pytest

from holdwire.policy import diagnosis
from holdwire.policy.codes import ALERTS, ERRNOS, VERIFY_CODES
from holdwire.policy.failure import TlsDetail
from holdwire.policy.kind import Kind
from holdwire.policy.phase import Phase
from holdwire.policy.tcp_info import TcpInfo, TcpState
from holdwire.policy.words import WORDS, words_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdwire.policy.diagnosis import Facts
    from holdwire.policy.failure import Failure

SHUT: Final = TcpInfo(state=TcpState.ESTABLISHED, snd_wnd=0)
OPEN: Final = TcpInfo(state=TcpState.ESTABLISHED, snd_wnd=1)


def call(name: str, *phases: str, bound: bool = False, **facts: Unpack[Facts]) -> Iterator[Failure]:
    platform, number = next((who, one) for who, one in ERRNOS[name]._asdict().items() if one is not None)
    for phase in phases:
        yield diagnosis.from_errno(
            number, syscall="send", phase=Phase(phase), facts=facts, bound=bound, platform=platform
        )


def name(*codes: str) -> Iterator[Failure]:
    yield from (diagnosis.from_eai(code, facts={}) for code in codes)


def alert(*names: str) -> Iterator[Failure]:
    numbers = {known: number for number, known in ALERTS.items()}
    for one in names:
        detail = TlsDetail(alert=numbers[one], alert_direction="received")
        yield diagnosis.from_tls(phase=Phase.TLS_HANDSHAKE, facts={}, tls=detail)


def certificate(*names: str) -> Iterator[Failure]:
    numbers = {known: number for number, known in VERIFY_CODES.items()}
    for one in names:
        detail = TlsDetail(reason="CERTIFICATE_VERIFY_FAILED", verify_code=numbers[one])
        yield diagnosis.from_tls(phase=Phase.TLS_HANDSHAKE, facts={}, tls=detail)


def reason(*reasons: str | None, phase: Phase = Phase.TLS_HANDSHAKE) -> Iterator[Failure]:
    yield from (diagnosis.from_tls(phase=phase, facts={}, tls=TlsDetail(reason=one)) for one in reasons)


def eof(
    *phases: str, tls: TlsDetail | None = None, state: TcpState | None = None, **facts: Unpack[Facts]
) -> Iterator[Failure]:
    if state is not None:
        facts["tcp"] = TcpInfo(state=state)
    yield from (diagnosis.from_eof(phase=Phase(phase), facts=facts, tls=tls) for phase in phases)


def local(kind: str, *phases: str, **facts: Unpack[Facts]) -> Iterator[Failure]:
    yield from (diagnosis.local(Kind(kind), phase=Phase(phase), facts=facts) for phase in phases)


def broken(*phases: str) -> Iterator[Failure]:
    yield from (diagnosis.from_protocol(phase=Phase(phase), facts={}, detail=None) for phase in phases)


EXCHANGE: Final = ("request_headers", "request_body", "response_wait")
QUIET: Final = ("post_handshake", "upgraded", "shutdown", "heartbeat")
# what only one row of the kind says, and what is told so
SITUATIONS: Final[tuple[tuple[str, tuple[Iterator[Failure], ...]], ...]] = (
    ("The socket file does not exist", (call("ENOENT", "connect", network_type="unix"),)),
    ("The queue of the Unix socket is full", (call("EAGAIN", "connect", network_type="unix"),)),
    ("The socket file is left over", (call("ECONNREFUSED", "connect", network_type="unix"),)),
    ("no proxy listens", (call("ECONNREFUSED", "connect", network_type="ipv4", via="proxy:3128"),)),
    ("nothing listens on that port", (call("ECONNREFUSED", "connect", network_type="ipv6"),)),
    ("this is no refused connection", (call("ECONNREFUSED", *EXCHANGE, "idle"),)),
    ("does not take this protocol", (call("ENOPROTOOPT", "connect"), call("EPROTO", "connect", "response_wait"))),
    ("broke while the connection was open", (call("EHOSTUNREACH", *EXCHANGE, "idle"), call("EHOSTDOWN", "idle"))),
    ("did not answer its neighbours", (call("EHOSTUNREACH", "connect", "tls_handshake"),)),
    ("no route for IPv6", (call("ENETUNREACH", "connect", network_type="ipv6"),)),
    ("no route to the peer's network", (call("ENETUNREACH", "connect", network_type="ipv4"),)),
    ("network interface of this host is down", (call("ENETDOWN", "connect", "idle"), call("ENONET", "connect"))),
    ("Nothing answered the connection attempts", (call("ETIMEDOUT", "connect", tcp=SHUT, outq=1),)),
    ("did not read until the kernel gave up", (call("ETIMEDOUT", "response_wait", "idle", tcp=SHUT, outq=1),)),
    ("never acknowledged", (call("ETIMEDOUT", "idle", outq=1), call("ETIMEDOUT", "response_wait", tcp=OPEN, outq=1))),
    ("probes went unanswered while idle", (call("ETIMEDOUT", "idle", "pool", tcp=SHUT, outq=0),)),
    ("kernel stopped answering", (call("ETIMEDOUT", *EXCHANGE, *QUIET), call("ENETRESET", "upgraded"))),
    ("its own error is lost", (call("ENOTCONN", "response_wait", "idle"),)),
    ("reset while it was being opened", (call("ECONNRESET", "connect"),)),
    ("proxy reset the connection before", (call("ECONNRESET", "proxy"),)),
    ("The TLS handshake was reset", (call("ECONNRESET", "tls_handshake"),)),
    ("reset while no request used it", (call("ECONNRESET", "idle", "pool", reused=True),)),
    ("reset the connection in the middle of the request", (call("ECONNRESET", "request_body"),)),
    ("or crashed on the request", (call("ECONNRESET", *EXCHANGE, reused=True),)),
    ("reset the connection instead of answering", (call("ECONNRESET", "response_wait"),)),
    ("in the middle of its response: it crashed, or a box", (call("ECONNRESET", "response_body", reused=True),)),
    ("that forgot the connection, reset it", (call("ECONNRESET", "request_headers", *QUIET),)),
    ("This host gave the connection up", (call("ECONNABORTED", "response_wait", "idle"),)),
    ("before the request was sent", (call("EPIPE", "request_headers", "request_body", reused=True),)),
    ("closed the connection in the middle of the request", (call("EPIPE", "request_body"),)),
    ("written to after the peer had closed it", (call("EPIPE", "request_headers", "response_wait", "upgraded"),)),
    ("written to after the peer had closed it", (call("ESHUTDOWN", "response_wait", "idle", reused=True),)),
    ("this end is its echo", (eof("idle", "pool", state=TcpState.CLOSE),)),
    ("proxy closed the connection before", (eof("proxy"),)),
    ("The peer closed in the TLS handshake", (eof("tls_handshake", tls=TlsDetail()),)),
    ("right after the TLS handshake", (eof("post_handshake", tls=TlsDetail()),)),
    ("closed while no request used", (eof("idle", "pool"), eof("idle", state=TcpState.CLOSE_WAIT, reused=True))),
    ("just as the request was sent: its idle limit", (eof(*EXCHANGE, reused=True, state=TcpState.CLOSE),)),
    ("closed the connection instead of answering", (eof(*EXCHANGE, state=TcpState.CLOSE),)),
    ("ended without close_notify", (eof("response_body", tls=TlsDetail(), reused=True),)),
    ("in the middle of its response: it crashed, or a balancer", (eof("response_body"),)),
    ("without the words with which", (eof("upgraded", "shutdown", "heartbeat", reused=True, tls=TlsDetail()),)),
    ("now belongs to something else", (call("ENOTSOCK", "idle"),)),
    ("closed the socket behind our back", (call("EBADF", "idle", "response_wait"),)),
    ("The system has no file descriptors", (call("ENFILE", "connect"),)),
    ("This process has no file descriptors", (call("EMFILE", "connect"),)),
    ("no memory left for sockets", (call("ENOBUFS", "connect"), call("ENOMEM", "idle"))),
    ("does not exist on this host", (call("EADDRNOTAVAIL", "connect", bound=True),)),
    ("no local port left", (call("EADDRNOTAVAIL", "connect"),)),
    ("to connect from are taken", (call("EADDRINUSE", "connect"),)),
    ("forbids sending", (call("EPERM", *EXCHANGE), call("EACCES", "idle"))),
    ("forbids the connection", (call("EPERM", "connect"), call("EACCES", "connect"))),
    ("or no name server could be reached", (name("EAI_NONAME"),)),
    ("no address of the family", (name("EAI_NODATA", "EAI_ADDRFAMILY"),)),
    ("did not answer for now", (name("EAI_AGAIN"),)),
    ("failed to look the name up", (name("EAI_FAIL"),)),
    ("no memory left to look the name up", (name("EAI_MEMORY"),)),
    ("The host is no valid name", (name("UnicodeError"),)),
    ("does not support what it was asked", (name("EAI_FAMILY", "EAI_SOCKTYPE", "EAI_SERVICE", "EAI_BADFLAGS"),)),
    ("failed in a way that is not known", (name("EAI_SYSTEM", "EAI_SOMETHING_NEW"),)),
    ("wants a client certificate and got none", (alert("certificate_required", "no_certificate"),)),
    ("does not know the authority that issued our", (alert("unknown_ca"),)),
    ("our client certificate has expired", (alert("certificate_expired"), reason("SSLV3_ALERT_CERTIFICATE_EXPIRED"))),
    ("our client certificate was revoked", (alert("certificate_revoked"),)),
    ("does not accept our client certificate", (alert("bad_certificate", "unsupported_certificate"),)),
    ("does not accept our client certificate", (alert("certificate_unknown", "bad_certificate_hash_value"),)),
    ("denies it access", (alert("access_denied"),)),
    ("does not serve the name", (alert("unrecognized_name"),)),
    ("speaks no TLS version that this client allows", (alert("protocol_version", "inappropriate_fallback"),)),
    ("application protocols that we offered", (alert("no_application_protocol"),)),
    ("found no settings of TLS", (alert("handshake_failure", "insufficient_security"),)),
    ("had trouble of its own", (alert("internal_error", "user_canceled"),)),
    ("What we sent reached the server damaged", (alert("bad_record_mac", "decode_error", "unexpected_message"),)),
    ("refused by TLS alert", (alert("no_renegotiation", "ech_required"), reason("TLSV1_ALERT_SOMETHING_NEW"))),
    ("not valid yet", (certificate("CERT_NOT_YET_VALID"),)),
    ("has expired, or the clock", (certificate("CERT_HAS_EXPIRED"),)),
    ("is self-signed", (certificate("DEPTH_ZERO_SELF_SIGNED_CERT"),)),
    ("ends in an authority", (certificate("SELF_SIGNED_CERT_IN_CHAIN"),)),
    ("The issuer is missing", (certificate("UNABLE_TO_GET_ISSUER_CERT", "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"),)),
    ("The issuer is missing", (certificate("UNABLE_TO_VERIFY_LEAF_SIGNATURE", "NO_ISSUER_PUBLIC_KEY"),)),
    ("certificate was revoked", (certificate("CERT_REVOKED"),)),
    ("for other names than the host", (certificate("HOSTNAME_MISMATCH"),)),
    ("does not name the IP address", (certificate("IP_ADDRESS_MISMATCH"),)),
    ("too weak for this client", (certificate("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"),)),
    ("did not pass verification", (certificate("INVALID_PURPOSE", "CRL_HAS_EXPIRED"),)),
    ("answered without TLS", (reason("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST"),)),
    ("answered without TLS", (reason("RECORD_LAYER_FAILURE", "SSL_WRONG_VERSION_NUMBER"),)),
    ("share no TLS version", (reason("UNSUPPORTED_PROTOCOL", "UNKNOWN_PROTOCOL"),)),
    ("share no TLS version", (reason("VERSION_TOO_LOW", "VERSION_TOO_HIGH", "SSL_VERSION_TOO_LOW"),)),
    ("allows no version or no cipher", (reason("NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE"),)),
    ("agree on no settings of TLS", (reason("NO_SHARED_CIPHER", "DH_KEY_TOO_SMALL"),)),
    ("The TLS object was misused", (reason("BAD_WRITE_RETRY"),)),
    ("record arrived damaged", (reason("BAD_RECORD_TYPE"), call("EBADMSG", "response_body"))),
    ("record arrived damaged", (reason("WRONG_VERSION_NUMBER", phase=Phase.RESPONSE_BODY),)),
    ("not in the tables", (reason("SOMETHING_NEW", None),)),
    ("refused to open a tunnel", (local("proxy_refused", "proxy"),)),
    ("closes this HTTP/2 connection", (local("http2_goaway", "response_wait"),)),
    ("gave this request up", (local("http2_stream_reset", "response_wait"),)),
    ("answer of the proxy is not valid HTTP", (broken("proxy"),)),
    ("it is no HTTP, broken HTTP", (broken("response_wait", "response_body"),)),
    ("does not read what waits here", (local("heartbeat_lost", "heartbeat", tcp=SHUT, outq=1),)),
    ("heartbeat was not even acknowledged", (local("heartbeat_lost", "heartbeat", tcp=OPEN, outq=1),)),
    ("did not answer the heartbeat", (local("heartbeat_lost", "heartbeat", "idle", tcp=SHUT, outq=0),)),
    ("All connections of the pool", (local("pool_timeout", "pool"),)),
    ("name was not resolved within", (local("local_timeout", "dns"),)),
    ("connection attempts were not answered within", (local("local_timeout", "connect", tcp=SHUT, outq=1),)),
    ("did not open the tunnel within", (local("local_timeout", "proxy", tcp=SHUT, outq=1),)),
    ("handshake outlasted", (local("local_timeout", "tls_handshake", "post_handshake", tcp=SHUT, outq=1),)),
    ("does not read what waits here", (local("local_timeout", *EXCHANGE, tcp=SHUT, outq=1),)),
    ("could not be sent within", (local("local_timeout", "request_headers", "request_body", tcp=OPEN, outq=1),)),
    ("What we sent was not acknowledged", (local("local_timeout", "response_wait", "upgraded", tcp=OPEN, outq=1),)),
    ("its program did not answer within", (local("local_timeout", "response_wait", outq=0),)),
    ("response stopped in the middle", (local("local_timeout", "response_body"),)),
    ("A time limit of the caller expired.", (local("local_timeout", "upgraded", "shutdown", "heartbeat"),)),
    ("closed on this side", (local("cancelled", "shutdown", "idle"), call("ECANCELED", "idle"))),
    ("The caller gave up", (local("cancelled", *EXCHANGE, "pool", "connect"),)),
    ("would block or was interrupted", (call("EAGAIN", "idle"), call("EINTR", "connect"))),
    ("does not support the address family", (call("EAFNOSUPPORT", "connect"),)),
    ("Winsock cannot be used", (call("WSASYSNOTREADY", "connect"), call("WSAVERNOTSUPPORTED", "connect"))),
    ("Winsock cannot be used", (call("WSANOTINITIALISED", "connect"),)),
    ("The address is not complete", (call("EINVAL", "connect"),)),
    ("does not support what was asked of the socket", (call("EPROTONOSUPPORT", "connect"),)),
    ("The socket was misused", (call("EINVAL", "idle"), call("EFAULT", "connect"))),
    ("nothing said why the connection broke", (local("_OTHER", "idle"),)),
    ("the tables do not hold this error", (call("ENOENT", "idle"),)),
)
CASES: Final = [
    (failure, words) for words, situations in SITUATIONS for situation in situations for failure in situation
]


@pytest.mark.parametrize(("failure", "words"), CASES)
def test_a_situation_is_told_in_the_words_of_its_row(failure: Failure, words: str) -> None:
    assert words in failure.cause
    assert (failure.cause, failure.remedy) == words_for(failure)
    assert [words in row.cause for row in WORDS[failure.kind]].count(True) == 1, "the words are of one row only"


def test_every_row_has_a_situation() -> None:
    told = {(failure.kind, failure.cause) for failure, _ in CASES}
    assert told == {(kind, row.cause) for kind, rows in WORDS.items() for row in rows}
