"""The head of a request: what is remembered from one request to the next changes no request, and holds no secret."""

from __future__ import annotations

import pytest

from holdwire.errors import LocalProtocolError
from holdwire.http import head
from holdwire.http.messages import Headers, Origin, Request

ORIGIN = Origin("http", "api.example", 80)
PLAIN = [(b"Host", b"api.example"), (b"Accept", b"*/*"), (b"Connection", b"keep-alive")]


def encoded(headers: Headers, body: bytes = b"", target: bytes = b"/") -> Request:
    request = Request(b"POST" if body else b"GET", ORIGIN, target, list(headers), body)
    head.encode_head(request)
    return request


def remembered() -> bytes:
    return b"".join([block for block, _ in head._known_blocks.values()]) + b"".join(head._known_lines.values())


def test_a_second_request_with_the_same_headers_has_the_same_head() -> None:
    lines = b"Host: api.example\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n"
    for target in (b"/", b"/again"):
        assert encoded(PLAIN, target=target).head == b"GET %b HTTP/1.1\r\n%b" % (target, lines)
    assert tuple(PLAIN) in head._known_blocks


def test_a_body_without_its_length_is_refused_whether_or_not_the_headers_are_known() -> None:
    encoded(PLAIN)
    with pytest.raises(LocalProtocolError, match="Too much data for declared Content-Length"):
        encoded(PLAIN, b"body")


@pytest.mark.parametrize(
    "header", [(b"Content-Length", b"4"), (b"Transfer-Encoding", b"chunked"), (b"Connection", b"close")]
)
def test_what_headers_say_about_framing_is_read_each_time(header: tuple[bytes, bytes]) -> None:
    for _ in range(3):
        request = encoded([PLAIN[0], header], b"body" if header[0] == b"Content-Length" else b"")
        assert (request.content_length, request.chunked, request.close) == (
            4 if header[0] == b"Content-Length" else None,
            header[0] == b"Transfer-Encoding",
            header[0] == b"Connection",
        )


def test_a_length_that_is_remembered_is_held_against_each_body() -> None:
    headers = [*PLAIN, (b"Content-Length", b"4")]
    encoded(headers, b"body")
    assert tuple(headers) in head._known_blocks
    assert encoded(headers, b"text").content_length == 4
    with pytest.raises(LocalProtocolError, match="Too much data for declared Content-Length"):
        encoded(headers, b"too long")


def test_a_length_that_the_client_added_beside_chunks_is_left_out() -> None:
    both = [PLAIN[0], (b"Content-Length", b"4"), (b"Transfer-Encoding", b"chunked")]
    for _ in range(2):
        request = encoded(both, b"body")
        assert request.head == b"POST / HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (request.chunked, request.content_length) == (True, None)
    with pytest.raises(LocalProtocolError, match="together are not legal"):
        encoded(both, b"other")


def test_no_credential_is_remembered() -> None:
    for name in (b"Authorization", b"Cookie", b"Proxy-Authorization"):
        encoded([*PLAIN, (name, b"s3cret")])
    encoded(PLAIN, target=b"/?token=s3cret")
    assert b"s3cret" not in remembered()


def test_host_comes_first_wherever_the_caller_has_put_it() -> None:
    for _ in range(2):
        assert encoded([*PLAIN[1:], (b"host", b"other")]).head.startswith(b"GET / HTTP/1.1\r\nhost: other\r\nAccept: ")


def test_an_illegal_header_name_is_said_to_be_one_without_being_repeated() -> None:
    with pytest.raises(LocalProtocolError, match=r"^Illegal header name: illegal characters$"):
        encoded([*PLAIN, (b"x y", b"1")])


def test_hosts_are_counted_beside_known_headers() -> None:
    encoded(PLAIN)
    with pytest.raises(LocalProtocolError, match="Found 2 Host"):
        encoded([*PLAIN, (b"Host", b"other.example")])
    with pytest.raises(LocalProtocolError, match="Missing mandatory Host"):
        encoded(PLAIN[1:])
