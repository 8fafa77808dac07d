"""What a person may write for a server."""

from __future__ import annotations

import pytest

from holdwire.doctor.target import Target, parse_target, path_of

GOOD = {
    "example.com": Target("example.com", 443, secure=True),
    "example.com:80": Target("example.com", 80, secure=False),
    "example.com:8443": Target("example.com", 8443, secure=True),
    "example.com:12345": Target("example.com", 12345, secure=None),
    "10.0.0.7:6379": Target("10.0.0.7", 6379, secure=False),
    "::1": Target("::1", 443, secure=True),
    "[2001:db8::1]:8080": Target("2001:db8::1", 8080, secure=False),
    "https://example.com/a?b=c": Target("example.com", 443, secure=True),
    "http://example.com:12345": Target("example.com", 12345, secure=False),
    "WSS://example.com": Target("example.com", 443, secure=True),
    "b\u00fccher.example": Target("xn--bcher-kva.example", 443, secure=True),
    "https://[fe80::1%25eth0]/": Target("fe80::1%eth0", 443, secure=True),
}


@pytest.mark.parametrize("text", GOOD)
def test_a_server_may_be_named_in_many_ways(text: str) -> None:
    assert parse_target(text) == GOOD[text]


def test_what_the_user_says_about_tls_wins() -> None:
    assert parse_target("example.com:80", secure=True).secure
    assert parse_target("https://example.com", secure=False).secure is False


@pytest.mark.parametrize(
    "text", ["", ":443", "https://", "ftp://example.com", "a b", "user:secret@host", "host:99999", "host:0", "h\x1b[0m"]
)
def test_a_wrong_target_is_told_how_to_be_written_and_its_secrets_are_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="write HOST, HOST:PORT") as caught:
        parse_target(text)
    assert "secret" not in str(caught.value)


def test_a_name_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(ValueError, match="not a valid host name"):
        parse_target("b\u00fc..cher")


@pytest.mark.parametrize(
    ("text", "path"),
    {
        "example.com": "/",
        "example.com:8443": "/",
        "https://example.com": "/",
        "https://example.com/health": "/health",
        "https://example.com/a%20b/?c=d#e": "/a%20b/?c=d",
        "https://example.com?c=d": "/?c=d",
        "https://example.com/\u00e9": "/%C3%A9",
    }.items(),
)
def test_a_url_says_what_to_ask_for(text: str, path: str) -> None:
    assert path_of(text) == path


@pytest.mark.parametrize(
    ("text", "host"),
    {
        "https://example.com": "example.com",
        "http://example.com": "example.com",
        "http://example.com:443": "example.com:443",
        "https://[::1]:8443": "[::1]:8443",
        "http://[fe80::1%25eth0]": "[fe80::1]",
    }.items(),
)
def test_the_server_is_told_its_name_as_a_browser_would(text: str, host: str) -> None:
    assert parse_target(text).authority == host


def test_an_ipv6_target_is_shown_in_brackets() -> None:
    assert str(parse_target("::1")) == "[::1]:443"
