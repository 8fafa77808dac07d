"""The same requests to the same servers through httpx's transport and through ours give the same result.

Three hundred combinations, drawn by hypothesis: methods, bodies, headers, framings, redirects, auth, cookies,
streaming, and servers that misbehave. Compared are status, headers, body, history, cookies, the class of the exception,
and what the server executed.
"""

from __future__ import annotations

import dataclasses
import itertools
import ssl
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import holdwire
from holdwire.testing import Answer, ChaosServer, Framing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"]


@dataclasses.dataclass(frozen=True)
class Asked:
    """One request, as a user writes it."""

    method: str
    body: str
    size: int
    headers: tuple[tuple[str, str], ...]
    auth: str
    cookies: bool
    follow: bool
    streamed: bool


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """What the server does with it: a whole answer, or one that is cut or damaged."""

    status: int
    framing: Framing
    size: int
    headers: tuple[tuple[str, str], ...]
    interim: tuple[int, ...]
    close: bool
    fault: str


TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
HEADERS = st.lists(st.tuples(st.sampled_from(["X-One", "x-two", "Accept", "X-One", "User-Agent"]), TEXT), max_size=4)

REQUESTS = st.builds(
    Asked,
    method=st.sampled_from(METHODS),
    body=st.sampled_from(["none", "bytes", "iterator", "json", "form", "multipart", "empty", "short"]),
    size=st.sampled_from([1, 100, 70_000]),
    headers=HEADERS.map(tuple),
    auth=st.sampled_from(["none", "basic", "digest"]),
    cookies=st.booleans(),
    follow=st.booleans(),
    streamed=st.booleans(),
)
BEHAVIOURS = st.builds(
    Behaviour,
    status=st.sampled_from([200, 200, 200, 201, 204, 206, 301, 302, 303, 307, 304, 400, 401, 404, 418, 500, 503, 999]),
    framing=st.sampled_from(list(Framing)),
    size=st.sampled_from([0, 1, 1000, 200_000]),
    headers=st.lists(
        st.sampled_from(
            [
                ("Set-Cookie", "a=1; Path=/"),
                ("Set-Cookie", "b=2"),
                ("X-Odd", ""),
                ("x-lower", "  padded  "),
                ("Content-Type", "text/plain; charset=latin-1"),
                ("X-Latin", "caf\xe9"),
            ]
        ),
        max_size=4,
    ).map(tuple),
    interim=st.sampled_from([(), (), (103,), (100, 102)]),
    close=st.booleans(),
    fault=st.sampled_from(["", "", "", "", "", "fin in the head", "fin in the body", "rst", "garbage", "silence"]),
)


numbers = itertools.count()


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


def content(asked: Asked) -> dict[str, Any]:
    """The arguments that carry the body."""
    body = b"x" * asked.size
    boundary = {"Content-Type": "multipart/form-data; boundary=b"}
    declared = {"Content-Length": str(asked.size + 5)}
    made: dict[str, dict[str, Any]] = {
        "none": {},
        "bytes": {"content": body},
        "iterator": {"content": pieces(body)},
        "json": {"json": {"a": [asked.size, None]}},
        "form": {"data": {"a": "1", "b": ["2", "3"]}},
        "multipart": {"files": {"file": ("name.txt", body)}, "data": {"a": "1"}, "headers": boundary},
        "empty": {"content": b""},
        "short": {"content": pieces(body), "headers": declared},
    }
    return made[asked.body]


def answers(behaviour: Behaviour) -> tuple[Answer, str | None]:
    """The server's answer, and the script of its fault."""
    headers = behaviour.headers
    if 300 < behaviour.status < 309 and behaviour.status != 304:
        headers = (*headers, ("Location", "/final"))
    if behaviour.status == 401:
        headers = (*headers, ("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'))
    answer = Answer(
        status=behaviour.status,
        headers=headers,
        body=b"y" * behaviour.size,
        framing=behaviour.framing,
        interim=behaviour.interim,
        close=behaviour.close,
    )
    if behaviour.fault == "garbage":
        answer = Answer(raw=b"HTTP/1.1 two hundred\r\n\r\n", close=True)
    faults = {"fin in the head": "response:12 fin", "fin in the body": "response:300 fin"}
    faults |= {"rst": "response:0 rst", "silence": "response:0 stall"}
    return answer, faults.get(behaviour.fault)


async def result(transport: Any, server: ChaosServer, asked: Asked, behaviour: Behaviour) -> dict[str, Any]:
    """What the user gets."""
    answer, script = answers(behaviour)
    path = f"/{next(numbers)}"  # its own: a request that was given up may still reach the server, and take a script
    server.answer(path, answer)
    if script is not None:
        server.script(script, path=path)
    auth = {"none": None, "basic": httpx.BasicAuth("me", "pw"), "digest": httpx.DigestAuth("me", "pw")}[asked.auth]
    arguments = content(asked)
    headers = [*asked.headers, *arguments.pop("headers", {}).items()]
    cookies = {"c": "3"} if asked.cookies else None
    got: dict[str, Any] = {}
    timeout = httpx.Timeout(10, read=0.4 if behaviour.fault == "silence" else 10)
    async with httpx.AsyncClient(transport=transport, timeout=timeout, cookies=cookies) as client:
        request = client.build_request(asked.method, f"{server.url}{path}?q=%20a", headers=headers, **arguments)
        try:
            response = await client.send(request, auth=auth, follow_redirects=asked.follow, stream=True)
            got["head"] = (response.status_code, response.reason_phrase, response.http_version)
            got["headers"] = response.headers.raw
            got["history"] = [(old.status_code, old.headers.raw) for old in response.history]
            if asked.streamed:
                got["body"] = b"".join([piece async for piece in response.aiter_raw()])
            else:
                got["body"] = await response.aread()
            await response.aclose()
        except Exception as exc:  # noqa: BLE001 - httpx lets h11's own LocalProtocolError out
            got["raised"] = getattr(httpx, type(exc).__name__)
        got["cookies"] = sorted(client.cookies.items())
    executed = server.ledger.executions(path)
    got["asked"] = [(one.method, one.target.removeprefix(path), one.digest) for one in executed]
    return got


@pytest.fixture(scope="module", params=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    with ChaosServer(tls=request.param == "tls") as server:
        server.answer("/final", Answer(body=b"the end"))
        yield server


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_every_request_gets_what_it_gets_from_httpx(server: ChaosServer, backend: str) -> None:
    verify = server.client_context() if server.url.startswith("https") else ssl.create_default_context()
    seen: list[Asked] = []

    @settings(max_examples=75, deadline=None, derandomize=True, database=None)
    @given(asked=REQUESTS, behaviour=BEHAVIOURS)
    def compare(asked: Asked, behaviour: Behaviour) -> None:
        seen.append(asked)

        async def both() -> None:
            stock = httpx.AsyncHTTPTransport(verify=verify)
            theirs = await result(stock, server, asked, behaviour)
            ours = await result(holdwire.ResilientTransport(verify=verify, retry=None), server, asked, behaviour)
            assert ours == theirs

        anyio.run(both, backend=backend)

    compare()
    assert len(seen) >= 75
