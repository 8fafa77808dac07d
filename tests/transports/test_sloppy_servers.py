"""What servers really send: read as plain httpx reads it, refused where it refuses, and never confused with the next.

Every case runs through plain httpx too, so that the table states facts about both; where holdwire is stricter on
purpose, ``plain`` says what plain httpx makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import anyio
import httpx
import pytest

import holdwire
from tests.raw_server import RawServer

HEAD = b"HTTP/1.1 200 OK\r\n"
DECENT = HEAD + b"Content-Length: 5\r\n\r\nhello"
Outcome: TypeAlias = "tuple[int, bytes] | type[Exception]"


@dataclass(frozen=True)
class Case:
    """One answer on the wire; ``reused`` says whether the connection may take another request."""

    raw: bytes
    expected: Outcome
    reused: bool = True
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    close: bool = False
    plain: Outcome | None = None


OK: Outcome = (200, b"ok")
CASES = {
    "bare LF": Case(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", OK),
    "bare LF in a chunked head": Case(b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\r\nok\r\n0\r\n\r\n", OK),
    "folded header": Case(
        HEAD + b"X-Long: one\r\n two\r\n three\r\nContent-Length: 2\r\n\r\nok",
        OK,
        headers=(("x-long", "one two three"),),
    ),
    "no reason phrase": Case(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", OK),
    "not even the space before it": Case(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", OK),
    "a reason phrase in Latin-1": Case(b"HTTP/1.1 200 D\xe9j\xe0 vu\r\nContent-Length: 2\r\n\r\nok", OK),
    "both lengths: chunked wins": Case(
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", OK, reused=False
    ),
    "header without a value": Case(HEAD + b"X-Empty:\r\nContent-Length: 2\r\n\r\nok", OK, headers=(("x-empty", ""),)),
    "spaces around a value": Case(
        HEAD + b"X-Wide:  \t wide \t \r\nContent-Length: 2\r\n\r\nok", OK, headers=(("x-wide", "wide"),)
    ),
    "a value in Latin-1": Case(
        HEAD + b"X-L: caf\xe9\r\nContent-Length: 2\r\n\r\nok", OK, headers=(("x-l", "caf\xe9"),)
    ),
    "names in any case": Case(HEAD + b"cOnTeNt-LeNgTh: 2\r\n\r\nok", OK),
    "chunk extensions and trailers": Case(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;name=value\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", OK
    ),
    "chunks of one byte": Case(HEAD + b"Transfer-Encoding: Chunked\r\n\r\n1\r\no\r\n01\r\nk\r\n000\r\n\r\n", OK),
    "chunk sizes that are padded": Case(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2   \r\nok\r\n0  \r\n\r\n", OK),
    "interim responses first": Case(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        + HEAD
        + b"Content-Length: 2\r\n\r\nok",
        OK,
    ),
    "HTTP/1.0 with a length": Case(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", OK, reused=False),
    "HTTP/1.0 until the end": Case(b"HTTP/1.0 200 OK\r\n\r\nok", OK, reused=False, close=True),
    "HTTP/1.1 until the end": Case(HEAD + b"\r\nok", OK, reused=False, close=True),
    "says close": Case(HEAD + b"Connection: Keep-Alive, Close\r\nContent-Length: 2\r\n\r\nok", OK, reused=False),
    "HEAD with the length of GET": Case(HEAD + b"Content-Length: 1000\r\n\r\n", (200, b""), method="HEAD"),
    "HEAD that would be chunked": Case(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", (200, b""), method="HEAD"),
    "204": Case(b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
    "304 with the length of 200": Case(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", (304, b"")),
    "no body": Case(HEAD + b"Content-Length: 0\r\n\r\n", (200, b"")),
    "an unknown status": Case(b"HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nok", (299, b"ok")),
    "stray bytes behind the response": Case(HEAD + b"Content-Length: 2\r\n\r\nok???", OK, reused=False),
    "a second response nobody asked for": Case(HEAD + b"Content-Length: 2\r\n\r\nok" + DECENT, OK, reused=False),
    "stray bytes behind HEAD": Case(HEAD + b"Content-Length: 2\r\n\r\nok", (200, b""), method="HEAD", reused=False),
    "no HTTP at all": Case(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", httpx.RemoteProtocolError),
    "a space before the colon": Case(HEAD + b"X-A : 1\r\n\r\n", httpx.RemoteProtocolError),
    "a null in a value": Case(HEAD + b"X-A: a\0b\r\nContent-Length: 0\r\n\r\n", httpx.RemoteProtocolError),
    "a name that is no token": Case(HEAD + b"X@{}: 1\r\nContent-Length: 0\r\n\r\n", httpx.RemoteProtocolError),
    "two lengths that differ": Case(
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", httpx.RemoteProtocolError
    ),
    "the same length twice": Case(
        HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", httpx.RemoteProtocolError, plain=OK
    ),
    "a negative length": Case(HEAD + b"Content-Length: -2\r\n\r\nok", httpx.RemoteProtocolError),
    "a length in words": Case(HEAD + b"Content-Length: two\r\n\r\nok", httpx.RemoteProtocolError),
    "an unknown transfer coding": Case(
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", httpx.RemoteProtocolError
    ),
    "a chunk size that is none": Case(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", httpx.RemoteProtocolError),
    "a head that ends early": Case(HEAD + b"Content-Le", httpx.RemoteProtocolError, close=True),
    "a body that ends early": Case(HEAD + b"Content-Length: 9\r\n\r\nok", httpx.RemoteProtocolError, close=True),
    "chunks that end early": Case(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", httpx.RemoteProtocolError, close=True
    ),
    "a head larger than 100 KiB": Case(HEAD + b"X-A: " + b"a" * 200_000 + b"\r\n\r\n", httpx.RemoteProtocolError),
    "a head of many headers": Case(HEAD + b"X-A: 1\r\n" * 30_000 + b"\r\n", httpx.RemoteProtocolError),
}


async def outcome(client: httpx.AsyncClient, url: str, method: str = "GET") -> tuple[Outcome, httpx.Headers]:
    try:
        response = await client.request(method, url)
    except httpx.HTTPError as exc:
        return type(exc), httpx.Headers()
    return (response.status_code, response.content), response.headers


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_holdwire_reads_it_as_it_should_and_never_confuses_the_next_response(case: Case) -> None:
    with RawServer(case.raw, DECENT, close=case.close) as server:
        transport = holdwire.ResilientTransport(verify=False, retry=None)
        async with httpx.AsyncClient(transport=transport, timeout=5) as client:
            found, headers = await outcome(client, server.url, case.method)
            assert found == case.expected
            for name, value in case.headers:
                assert headers[name] == value
            assert (await outcome(client, server.url))[0] == (200, b"hello")
        reused = case.reused and not isinstance(case.expected, type)
        assert server.accepted == (1 if reused else 2)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_plain_httpx_reads_it_alike(case: Case) -> None:
    async def get(url: str) -> tuple[Outcome, httpx.Headers]:
        async with httpx.AsyncClient(verify=False, timeout=5) as client:
            return await outcome(client, url, case.method)

    with RawServer(case.raw, DECENT, close=case.close) as server:
        found, headers = anyio.run(get, server.url)  # its parser is the same on every loop
    assert found == (case.plain or case.expected)
    for name, value in case.headers:
        assert headers[name] == value


async def test_an_error_in_the_head_says_what_is_wrong_and_with_whom() -> None:
    with RawServer(HEAD + b"X-A: " + b"a" * 200_000 + b"\r\n\r\n") as server:
        async with httpx.AsyncClient(transport=holdwire.ResilientTransport(verify=False)) as client:
            with pytest.raises(httpx.RemoteProtocolError, match=r"head.*larger than 100 KiB.*127\.0\.0\.1"):
                await client.get(server.url)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"X-A": "a\r\nX-Evil: 1"}, r"value of 'X-A': it contains b'\\n', b'\\r'"),
        ({"X-A": "a\nb"}, "value of 'X-A'"),
        ({"X-A": "a\0b"}, "value of 'X-A'"),
        ({"X-A\r\nX-Evil": "1"}, "header name"),
        ({"X A": "1"}, "header name"),
        ({"": "1"}, "header name"),
        ({"Host": "a\r\n\r\nGET /evil HTTP/1.1"}, "value of 'Host'"),
        ({"Transfer-Encoding": "gzip"}, "Transfer-Encoding"),
        ({"Content-Length": "7"}, "Content-Length"),
        ({"Content-Length": "-1"}, "Content-Length"),
        ({"Content-Length": "5", "Transfer-Encoding": "chunked"}, "Content-Length and Transfer-Encoding"),
        ([("Content-Length", "0"), ("Content-Length", "9")], "Content-Length"),
        ([("Host", "a"), ("Host", "b")], "Host"),
    ],
)
async def test_no_header_smuggles_another_request(headers: dict[str, str] | list[tuple[str, str]], words: str) -> None:
    with RawServer(DECENT) as server:
        async with httpx.AsyncClient(transport=holdwire.ResilientTransport(verify=False)) as client:
            with pytest.raises(httpx.LocalProtocolError, match=words):
                await client.get(server.url, headers=headers)
        assert server.accepted == 0, "nothing was sent, not even a connect"


@pytest.mark.parametrize(
    ("method", "target"), [("GET /evil HTTP/1.1\r\n\r\nGET", None), ("G T", None), ("GET", b"/ HTTP/1.1\r\nX: 1")]
)
async def test_no_method_or_target_smuggles_another_request(method: str, target: bytes | None) -> None:
    with RawServer(DECENT) as server:
        async with httpx.AsyncClient(transport=holdwire.ResilientTransport(verify=False)) as client:
            with pytest.raises(httpx.LocalProtocolError, match="Illegal"):
                await client.request(method, server.url, extensions={} if target is None else {"target": target})
        assert server.accepted == 0
