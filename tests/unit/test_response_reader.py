"""The response reader against the sloppy, the broken and the hostile; at every split of the bytes."""

from __future__ import annotations

import pytest

from holdwire.http import parser
from holdwire.http.parser import MAX_HEAD, MAX_INTERIM, MAX_QUIET, ResponseReader, Truncated, Violation


def read(
    raw: bytes, *, method: bytes = b"GET", eof: bool = False, step: int | None = None
) -> tuple[ResponseReader, bytes]:
    reader = ResponseReader()
    reader.begin(method)
    for start in range(0, len(raw), step or len(raw)):
        reader.feed(raw[start : start + (step or len(raw))])
    if eof:
        reader.feed_eof()
    return reader, b"".join(reader.body)


CASES = {
    "content-length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"GET", 200, b"hello", True),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n",
        b"GET",
        200,
        b"abcde",
        True,
    ),
    "bare LF": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", b"GET", 200, b"hi", True),
    "folded header": (b"HTTP/1.1 200 OK\r\nX-Long: a\r\n  b\r\nContent-Length: 1\r\n\r\nz", b"GET", 200, b"z", True),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nz", b"GET", 200, b"z", True),
    "transfer-encoding wins over content-length and closes": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"GET",
        200,
        b"a",
        False,
    ),
    "says close": (
        b"HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 1\r\n\r\nz",
        b"GET",
        200,
        b"z",
        False,
    ),
    "HTTP/1.0 is never reused": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nz",
        b"GET",
        200,
        b"z",
        False,
    ),
    "CR in a body is the body's": (
        b"HTTP/1.1 103 So\r\nX: y\r\n\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\rb",
        b"GET",
        200,
        b"a\rb",
        True,
    ),
    "204 has no body": (b"HTTP/1.1 204 No Content\r\n\r\n", b"GET", 204, b"", True),
    "304 has no body whatever it says": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        b"GET",
        304,
        b"",
        True,
    ),
    "HEAD with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"HEAD", 200, b"", True),
    "HEAD with chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HEAD", 200, b"", True),
    "interim responses are skipped": (
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
            b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
        ),
        b"GET",
        201,
        b"",
        True,
    ),
    "Latin-1 header value": (
        b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9\r\nContent-Length: 0\r\n\r\n",
        b"GET",
        200,
        b"",
        True,
    ),
    "status 999": (b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", b"GET", 999, b"", True),
}


@pytest.mark.parametrize("step", [None, 1, 2, 7])
@pytest.mark.parametrize("case", CASES)
def test_a_response_is_read(case: str, step: int | None) -> None:
    raw, method, status, body, reusable = CASES[case]
    reader, found = read(raw, method=method, step=step)
    assert reader.complete
    assert (reader.status, found, reader.reusable) == (status, body, reusable)
    assert not reader.stray


@pytest.mark.parametrize("step", [None, 1])
def test_a_body_delimited_by_the_end_of_the_connection_ends_there_and_closes(step: int | None) -> None:
    reader, body = read(b"HTTP/1.1 200 OK\r\n\r\nall of it", eof=True, step=step)
    assert reader.complete
    assert body == b"all of it"
    assert reader.until_eof
    assert not reader.reusable


def test_headers_keep_their_case_order_and_repeats_and_those_of_interim_responses_are_dropped() -> None:
    raw = (
        b"HTTP/1.1 103 Early\r\nLink: no\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 0\r\n\r\n"
    )
    reader, _ = read(raw)
    assert reader.headers == [(b"Set-Cookie", b"a"), (b"set-cookie", b"b"), (b"Content-Length", b"0")]


def test_trailers_are_not_added_to_the_headers() -> None:
    reader, _ = read(CASES["chunked"][0])
    assert reader.headers == [(b"Transfer-Encoding", b"chunked")]


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiX",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nX",
    ],
)
def test_stray_bytes_after_a_response_make_the_connection_unusable_and_leave_the_response_alone(
    raw: bytes, step: int | None
) -> None:
    reader, body = read(raw, step=step)
    assert reader.complete
    assert reader.stray
    assert not reader.reusable
    assert body in {b"hi", b""}
    assert len(reader.headers) <= 1


def test_the_answer_to_head_does_not_eat_the_next_response() -> None:
    reader, _ = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", method=b"HEAD")
    reader.begin(b"GET")
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert b"".join(reader.body) == b"hello"


def test_a_header_that_is_not_ascii_is_told_each_time_it_comes_and_no_longer() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Name: %b\r\nContent-Length: 0\r\n\r\n"
    reader = ResponseReader()
    for value, expected in ((b"caf\xe9", False), (b"caf\xe9", False), (b"cafe", True), (b"cafe", True)):
        reader.begin(b"GET")
        reader.feed(head % value)
        assert (reader.complete, reader.reusable) == (True, True)
        assert reader.is_ascii is expected


def test_nothing_of_one_response_is_left_in_the_next() -> None:
    reader = ResponseReader()
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    reader.feed(early + b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nhi")
    assert (reader.complete, reader.keep_alive, reader.body) == (True, 5.0, [b"hi"])
    reader.begin(b"GET")
    assert (reader.started, reader.head_complete, reader.complete, reader.reusable) == (False, False, False, False)
    assert (reader.status, reader.body, reader.received) == (0, [], 0)
    assert (reader.expected, reader.keep_alive) == (None, None)
    reader.feed(early)
    assert (reader.head_complete, reader.complete) == (False, False)
    reader.feed(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (reader.status, reader.complete, reader.reusable) == (204, True, True)


@pytest.mark.parametrize("step", [None, 1])
def test_101_hands_over_what_follows(step: int | None) -> None:
    raw = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    reader, _ = read(raw, step=step)
    assert reader.upgraded
    assert reader.status == 101
    whole, _ = read(raw + b"\x81\x00")
    assert whole.leftover == b"\x81\x00"


@pytest.mark.parametrize("step", [None, 1])
def test_2xx_to_connect_ends_after_the_head_whatever_its_headers_say(step: int | None) -> None:
    reader, body = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", method=b"CONNECT", step=step)
    assert reader.upgraded
    assert body == b""
    whole, _ = read(b"HTTP/1.1 200 OK\r\n\r\nhello", method=b"CONNECT")
    assert whole.leftover == b"hello"


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\n\n", b"HTTP/1.1 200 OK\r\nVia: x\n\r\n"])
def test_an_answer_to_connect_may_end_its_lines_without_cr_as_any_other(head: bytes, step: int | None) -> None:
    reader, _ = read(head, method=b"CONNECT", step=step)
    assert reader.upgraded
    assert read(head + b"hello", method=b"CONNECT")[0].leftover == b"hello"


def test_a_refused_connect_is_a_response_with_a_body() -> None:
    reader, body = read(b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno", method=b"CONNECT")
    assert (reader.status, body, reader.upgraded) == (407, b"no", False)


VIOLATIONS = {
    "white space before the first header": b"HTTP/1.1 200 OK\r\n Content-Length: 2\r\n\r\nhi",
    "white space before the first header of a 1xx": b"HTTP/1.1 100 Go\n X: y\n\nHTTP/1.1 204 No\r\n\r\n",
    "white space before the first header behind a 1xx": (
        b"\r\nHTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 So\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n X: y\r\n\r\n"
    ),
    "CR behind a colon": b"HTTP/1.1 200 OK\r\nX:\r y\r\nContent-Length: 0\r\n\r\n",
    "a header hidden behind CR": b"HTTP/1.1 200 OK\r\nX:\rContent-Length: 3\r\n\r\nabc",
    "the head's end hidden behind CR": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX:\r\r\n\r\nabc",
    "the end of a 1xx hidden behind CR": b"HTTP/1.1 103 So\r\nX:\r\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "not HTTP at all": b"SSH-2.0-OpenSSH_9.2\r\n",
    "space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
    "conflicting lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "the same length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding twice": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"X-Pad: " + b"a" * MAX_HEAD + b"\r\n",
    "interim responses without end": b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM + 1),
    "chunk extensions without end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;" + b"a" * (MAX_QUIET + 9),
    "trailers without end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    + b"A: b\r\n" * (MAX_QUIET // 4),
}


@pytest.mark.parametrize("step", [None, 20, 512])
@pytest.mark.parametrize("case", VIOLATIONS)
def test_a_hostile_response_is_refused(case: str, step: int | None) -> None:
    with pytest.raises(Violation) as caught:
        read(VIOLATIONS[case], step=step)
    assert "aaaa" not in str(caught.value)


TRUNCATED = {
    "nothing": (b"", "Server disconnected without sending a response."),
    "inside the head": (b"HTTP/1.1 200 OK\r\nConte", "Server disconnected without sending a response."),
    "inside a body with a length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        "peer closed connection without sending complete message body (received 5 bytes, expected 9)",
    ),
    "inside a chunked body": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
        "peer closed connection without sending complete message body (incomplete chunked read)",
    ),
    "before the last chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "peer closed connection without sending complete message body (incomplete chunked read)",
    ),
}


@pytest.mark.parametrize("case", TRUNCATED)
def test_an_end_of_input_inside_the_message_is_told_in_the_words_that_users_know(case: str) -> None:
    raw, text = TRUNCATED[case]
    reader = ResponseReader()
    if raw:
        reader.feed(raw)
    with pytest.raises(Truncated) as caught:
        reader.feed_eof()
    assert str(caught.value).startswith(text)


def test_the_servers_keep_alive_hint_is_read() -> None:
    reader, _ = read(b"HTTP/1.1 200 OK\r\nKeep-Alive: max=10, timeout=7\r\nContent-Length: 0\r\n\r\n")
    assert reader.keep_alive == 7.0


def test_headers_that_come_again_are_the_same_and_cookies_are_not_remembered() -> None:
    raw = b"HTTP/1.1 200 OK\r\nX-Same: 1 \r\nSet-Cookie: id=s3cret\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    for _ in range(3):
        reader, body = read(raw)
        assert body == b"ok"
        assert reader.headers[:2] == [(b"X-Same", b"1"), (b"Set-Cookie", b"id=s3cret")]
        assert not reader.reusable
    assert (b"X-Same", b"1") in parser._known_headers
    assert not any(b"s3cret" in value for _, value in parser._known_headers)


def test_a_keep_alive_that_says_nothing_new_is_remembered_and_a_close_is_read_each_time() -> None:
    raw = b"HTTP/1.1 200 OK\r\nConnection: %b\r\nContent-Length: 0\r\n\r\n"
    for said, reusable in ((b"Keep-Alive", True), (b"close", False)) * 2:
        reader, _ = read(raw % said)
        assert reader.reusable is reusable
    assert (b"Connection", b"Keep-Alive") in parser._known_headers
    assert (b"Connection", b"close") not in parser._known_headers
    with pytest.raises(Violation):
        read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: keep-alive\r\n\r\n")
