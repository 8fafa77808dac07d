"""What ``holdwire explain`` makes of names, numbers, reasons, log lines and tracebacks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdwire.doctor.explain import explain
from holdwire.doctor.phrases import CODES, LINES
from holdwire.policy import codes, taxonomy
from holdwire.policy.kind import Kind

TRACEBACK = """\
Traceback (most recent call last):
  File "httpcore/_backends/anyio.py", line 32, in read
    return await self._stream.receive(max_bytes=max_bytes)
ConnectionResetError: [Errno 104] Connection reset by peer

The above exception was the direct cause of the following exception:
httpx.ReadError
"""

LINES_AND_CODES: list[tuple[str, list[str]]] = [
    ("ECONNRESET", ["ECONNRESET"]),
    ("econnreset", ["ECONNRESET"]),
    ("WSAECONNRESET", ["ECONNRESET"]),
    ("104", ["ECONNRESET"]),
    ("10054", ["ECONNRESET"]),
    ("64", ["ENONET", "EHOSTDOWN", "ECONNRESET"]),
    ("-2", ["EAI_NONAME"]),
    ("EWOULDBLOCK", ["EAGAIN"]),
    ("SSL_ERROR_SYSCALL", ["SSL_ERROR_SYSCALL"]),
    ("UNEXPECTED_EOF_WHILE_READING", ["UNEXPECTED_EOF_WHILE_READING"]),
    ("TLSV1_ALERT_UNKNOWN_CA", ["TLSV1_ALERT_UNKNOWN_CA"]),
    ("tls: received alert number 70 from peer", ["TLSV1_ALERT_PROTOCOL_VERSION"]),
    (TRACEBACK, ["ECONNRESET"]),
    ("OSError: [WinError 121] The semaphore timeout period has expired", ["ETIMEDOUT"]),
    ("socket.gaierror: [Errno -3] Temporary failure in name resolution", ["EAI_AGAIN"]),
    ("Error: read ECONNRESET\n    errno: -104,", ["ECONNRESET"]),
    ("dial tcp 10.0.0.1:443: connect: connection refused", ["ECONNREFUSED"]),
    ("Os { code: 111, kind: ConnectionRefused }: Connection refused (os error 111)", ["ECONNREFUSED"]),
    ("curl: (35) OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to x:443", ["SSL_ERROR_SYSCALL"]),
    ("curl: (56) OpenSSL SSL_read: Connection reset by peer, errno 104", ["ECONNRESET"]),
    ("ssl.SSLWantReadError: The operation did not complete (read) (_ssl.c:2576)", ["WANT_READ"]),
    ("ssl.SSLEOFError: EOF occurred in violation of protocol (_ssl.c:1006)", ["UNEXPECTED_EOF_WHILE_READING"]),
    (
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1006)",
        ["CERTIFICATE_VERIFY_FAILED", "CERT_HAS_EXPIRED"],
    ),
    ("httpx.RemoteProtocolError: Server disconnected without sending a response.", ["SERVER_DISCONNECTED"]),
    ("connect() failed (111: Connection refused) while connecting to upstream", ["ECONNREFUSED"]),
    ("upstream prematurely closed connection while reading response header", ["UPSTREAM_CLOSED"]),
    ("accept4() failed (24: Too many open files)", ["EMFILE"]),
    ("kernel: nf_conntrack: nf_conntrack: table full, dropping packet", ["CONNTRACK_FULL"]),
    ("Out of memory: Killed process 4711 (uvicorn)", ["OOM_KILLER"]),
    ("httpx.PoolTimeout", ["POOL_TIMEOUT"]),
    ("0", ["unexpected_eof"]),
    ("curl: (56) OpenSSL SSL_read: SSL_ERROR_SYSCALL, errno 0", ["SSL_ERROR_SYSCALL", "unexpected_eof"]),
    ("recv: unexpected_eof in phase idle with api.example:443. Possible cause: its idle limit.", ["unexpected_eof"]),
    ("heartbeat_lost in phase heartbeat with broker.example:8883. Likely cause: it hangs.", ["heartbeat_lost"]),
    ("tls_protocol_error (WRONG_VERSION_NUMBER) in phase tls_handshake with a:1", ["WRONG_VERSION_NUMBER"]),
    ('{"error.type": "http2_goaway", "holdwire.phase": "response_wait"}', ["http2_goaway"]),
    ("error_type=connection_reset", ["ECONNRESET"]),
    ("pool_timeout", ["POOL_TIMEOUT"]),
    ('{"error": "access_denied", "error_description": "the user said no"}', []),
    (
        "httpx.RemoteProtocolError: peer closed connection without sending complete message body (incomplete chunked)",
        ["unexpected_eof"],
    ),
    ("<ConnectionTerminated error_code:0, last_stream_id:1999, additional_data:None>", ["http2_goaway"]),
    ("<StreamReset stream_id:1, error_code:2, remote_reset:True>", ["http2_stream_reset"]),
    ("upstream connect error or disconnect/reset before headers. reset reason: overflow", ["UPSTREAM_CLOSED"]),
    ("remote error: tls: bad certificate", ["SSLV3_ALERT_BAD_CERTIFICATE"]),
    (
        "('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))",
        ["SERVER_DISCONNECTED"],
    ),
    ("('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))", ["ECONNRESET"]),
    ("httpx.ReadTimeout", ["LOCAL_TIMEOUT"]),
    ("all is well, 200 OK in 104 ms", []),
    ("EVERYTHING IS FINE", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), LINES_AND_CODES)
def test_codes_are_recognised(text: str, expected: list[str]) -> None:
    assert [one.code for one in explain(text)] == expected


@pytest.mark.parametrize("code", [*codes.ERRNOS, *codes.EAI, *taxonomy.TLS_TABLE, *CODES, *codes.VERIFY_CODES.values()])
def test_every_code_of_the_tables_is_explained_with_cause_check_and_what_holdwire_does(code: str) -> None:
    (explanation,) = (one for one in explain(code) if one.code == code)

    assert explanation.summary
    assert explanation.meanings
    for meaning in explanation.meanings:
        assert meaning.cause
        assert meaning.check
        assert meaning.holdwire


@pytest.mark.parametrize("kind", sorted(set(Kind) - {Kind.CANCELLED, Kind.OTHER}))
def test_every_kind_that_a_span_can_name_is_explained(kind: Kind) -> None:
    (explanation,) = explain(kind)
    assert explanation.found.lower() == kind
    assert explain(f"{kind} in phase response_wait with a:1")[0].meanings


def test_an_end_of_file_means_something_else_in_each_phase() -> None:
    (end,) = explain("unexpected_eof")
    told = {phase: meaning.cause for meaning in end.meanings for phase in meaning.phases}
    assert {"tls_handshake", "idle", "response_wait", "response_body", "proxy", "upgraded"} <= set(told)
    assert "connect" not in told
    assert "idle limit" in told["idle"]
    (cut,) = explain("recv: unexpected_eof in phase response_body with a:1.")
    assert [meaning.cause for meaning in cut.meanings] == [told["response_body"]]
    assert "close_notify" not in told["response_body"]
    (stream,) = explain("recv: unexpected_eof in phase upgraded with a:1.")
    assert ["sessions connects again" in meaning.holdwire for meaning in stream.meanings] == [True]


@pytest.mark.parametrize("code", sorted({code for _, code in LINES}))
def test_every_phrase_leads_to_a_code_that_is_known(code: str) -> None:
    assert code in CODES or code in {one.code for one in explain(code)}


def test_number_of_an_ssl_error_is_not_read_as_an_errno() -> None:
    found = explain("ssl.SSLError: [Errno 1] [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")

    assert [one.code for one in found] == ["WRONG_VERSION_NUMBER"]


def test_reset_means_something_else_in_each_phase() -> None:
    (reset,) = explain("ECONNRESET")

    told = {phase for meaning in reset.meanings for phase in meaning.phases}
    assert {"connect", "tls_handshake", "idle", "response_wait", "response_body"} <= told
    assert len({meaning.cause for meaning in reset.meanings}) >= 5


def test_a_message_of_our_own_is_explained_by_its_phase_whatever_its_remedy_speaks_of() -> None:
    line = (
        "recv: ECONNRESET (errno 104) in phase response_wait with 127.0.0.1:1. Possible cause: The peer closed it just "
        "as the request was sent. Let the pool drop idle connections earlier than the peer does."
    )
    reset = next(one for one in explain(line) if one.code == "ECONNRESET")
    told = {phase for meaning in reset.meanings for phase in meaning.phases}
    assert told == {"response_wait", "response_wait on a reused connection"}
    (headers,) = explain("send: ECONNRESET (errno 104) in phase request_headers with a:1.")
    assert ["in the middle of the request" in meaning.cause for meaning in headers.meanings] == [True]


def test_phase_in_the_text_narrows_the_meanings() -> None:
    (reset,) = explain("recv() failed (104: Connection reset by peer) while reading response header from upstream")

    causes = {meaning.cause for meaning in reset.meanings}
    assert causes
    assert not any("idle limit" in cause or "handshake" in cause for cause in causes)


def test_repeated_code_is_told_once_and_counted() -> None:
    (reset,) = explain("read: connection reset by peer\n" * 7)

    assert reset.seen == 7


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    explain(text)
