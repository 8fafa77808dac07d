"""A trace hook that was written for httpcore is told the same story: recorded with httpcore itself, and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import holdwire
from holdwire.testing import Answer, ChaosServer, Framing, self_signed
from tests.http2.server import serve
from tests.ports import free_port
from tests.proxies import StubProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.transports.conftest import Family


class Story:
    """What a hook was told: name, keys and the kinds of what it was shown."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.lines: list[tuple[str, dict[str, str]]] = []

    async def __call__(self, name: str, info: dict[str, Any]) -> None:
        self.lines.append((name, {key: self._shown(key, value) for key, value in info.items()}))

    def _shown(self, key: str, value: Any) -> str:
        core = self.family.core
        if isinstance(value, core.Request):
            return f"request {value.method!r} {value.url.target!r}"
        if isinstance(value, BaseException):  # ours are subclasses with the failure on them
            names = [base.__name__ for base in type(value).__mro__ if vars(core).get(base.__name__) is base]
            name: str = names[0]
            return name
        if callable(getattr(value, "get_extra_info", None)):
            secure = value.get_extra_info("ssl_object") is not None
            return f"a stream {'with' if secure else 'without'} TLS to {value.get_extra_info('server_addr')}"
        if key == "return_value" and type(value) is tuple:
            *line, headers = _parts(value)
            return f"{line} {[name for name, _ in headers]}"
        return key if key == "ssl_context" else repr(value)


def _parts(head: Any) -> list[Any]:
    return list(head)


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    with ChaosServer(tls=request.param == "tls") as server:
        yield server


async def story_of(
    family: Family, kind: type[Any], server: ChaosServer, proxy: str | None, path: str, **request: Any
) -> list[tuple[str, dict[str, str]]]:
    """What is told of a POST to ``path``, and of a GET on the same connection if that went well."""
    settings = {"retry": None} if kind is family.ours.ResilientTransport else {}
    given: Any = proxy
    if proxy is not None and proxy.startswith("https"):
        given = family.http.Proxy(proxy, ssl_context=self_signed("127.0.0.1").client_context())
    verify = server.client_context() if server.url.startswith("https") else True
    story = Story(family)
    async with family.http.AsyncClient(transport=kind(verify=verify, proxy=given, **settings)) as client:
        try:
            await client.post(f"{server.url}{path}", extensions={"trace": story}, **request)
            await client.get(server.url, extensions={"trace": story})
        except family.http.TransportError as exc:
            story.lines.append(("raised", {"class": type(exc).__name__}))
    return story.lines


BEHAVIOURS: dict[str, tuple[str | None, Answer | None, dict[str, Any]]] = {
    "a body": (None, None, {"content": b"x" * 100}),
    "no body": (None, None, {}),
    "chunked answer": (None, Answer(body=b"x" * 100_000, framing=Framing.CHUNKED), {}),
    "status 404": (None, Answer(status=404, reason="Nope", body=b"no"), {}),
    "closed without an answer": ("response:0 fin", None, {}),
    "cut body": ("response:130 fin", Answer(body=b"x" * 1000), {}),
    "reset": ("response:0 rst", None, {}),
    "read time-out": ("response:0 stall", None, {"timeout": 0.3}),
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_a_hook_is_told_what_httpcore_tells(family: Family, behaviour: str) -> None:
    with ChaosServer(tls=behaviour in {"a body", "cut body"}) as server:
        await compare(family, server, behaviour)


async def compare(family: Family, server: ChaosServer, behaviour: str) -> None:
    script, answer, request = BEHAVIOURS[behaviour]
    path = "/" + behaviour.replace(" ", "-")
    if answer is not None:
        server.answer(path, answer)
    stories: list[list[tuple[str, dict[str, str]]]] = []
    for kind in (family.http.AsyncHTTPTransport, family.ours.ResilientTransport):
        if script is not None:
            server.script(script, path=path)
        stories.append(await story_of(family, kind, server, None, path, **request))
    theirs, ours = stories
    assert ours == theirs
    assert len(ours) > 8


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
async def test_a_hook_is_told_of_a_proxy_what_httpcore_tells(family: Family, server: ChaosServer, kind: str) -> None:
    context = self_signed("127.0.0.1").server_context() if kind == "https" else None
    with StubProxy(socks=kind == "socks5", context=context) as proxy:
        theirs = await story_of(family, family.http.AsyncHTTPTransport, server, proxy.url, "/x", content=b"1")
        ours = await story_of(family, family.ours.ResilientTransport, server, proxy.url, "/x", content=b"1")
    if kind != "socks5" and server.url.startswith("https"):
        # the response to CONNECT is not closed: the connection goes on as the tunnel
        assert [name for name, _ in ours].count("http11.send_request_headers.started") == 3
    if family.name == "httpx":  # httpcore2 tells the time-outs of SOCKS, httpcore has none there
        for _, info in ours:
            info.pop("timeouts", None)
    assert ours == theirs


async def test_a_hook_is_told_of_http2_what_httpcore_tells(family: Family) -> None:
    stories: list[list[tuple[str, dict[str, str]]]] = []
    for kind in (family.http.AsyncHTTPTransport, family.ours.ResilientTransport):
        context = self_signed("127.0.0.1").server_context(alpn=("h2",))
        verify = self_signed("127.0.0.1").client_context()
        story = Story(family)
        async with (
            serve(context=context) as server,
            family.http.AsyncClient(transport=kind(verify=verify, http2=True)) as client,
        ):
            for content in (b"x" * 100, b""):
                url = f"{server.url.replace('localhost', '127.0.0.1')}/x"
                await client.post(url, content=content, extensions={"trace": story})
        # the ports differ, and h2's event of the server's settings has no equal
        stories.append([(name, list(info)) for name, info in story.lines])  # type: ignore[misc]
    theirs, ours = stories
    settled = [name for name, _ in theirs if "remote_settings" in name]
    assert [name for name, _ in ours if "remote_settings" in name] == settled
    assert [line for line in ours if "remote_settings" not in line[0]] == [
        line for line in theirs if "remote_settings" not in line[0]
    ]


async def test_a_hook_is_told_that_connecting_is_tried_again(family: Family) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    story = Story(family)
    holdwire.set_testing(attempts=2)
    try:
        async with family.client() as client:
            with pytest.raises(family.http.ConnectError):
                await client.get(url, extensions={"trace": story})
    finally:
        holdwire.set_testing(enabled=False)
    assert [name for name, _ in story.lines] == [
        "connection.connect_tcp.started",
        "connection.connect_tcp.failed",
        "connection.retry.started",
        "connection.retry.complete",
        "connection.connect_tcp.started",
        "connection.connect_tcp.failed",
    ]


async def test_what_a_hook_raises_goes_into_the_request_and_the_connection_is_not_lost(
    family: Family, server: ChaosServer
) -> None:
    async def hook(name: str, _: dict[str, Any]) -> None:
        if name == "http11.receive_response_headers.complete":
            raise LookupError(name)

    verify = server.client_context() if server.url.startswith("https") else True
    limits = family.http.Limits(max_connections=1)
    async with family.client(verify=verify, limits=limits) as client:
        with pytest.raises(LookupError):
            await client.get(server.url, extensions={"trace": hook})
        assert (await client.get(server.url)).status_code == 200


async def test_a_hook_that_raises_once_the_socket_is_connected_leaves_none_open(
    family: Family, server: ChaosServer
) -> None:
    async def hook(name: str, _: dict[str, Any]) -> None:
        if name == "connection.connect_tcp.complete":
            raise LookupError(name)

    async with family.client() as client:
        with pytest.raises(LookupError) as caught:
            await client.get(server.url, extensions={"trace": hook})
        await server.until(lambda: server.accepted == 1 and server.connections == 0)
    assert caught.value.args  # held until here, and the frames with it: nothing was left to the collector


async def test_a_hook_that_is_not_async_is_refused(family: Family, server: ChaosServer) -> None:
    def hook(_name: str, _info: dict[str, Any]) -> None:
        """What a sync client takes."""

    verify = server.client_context() if server.url.startswith("https") else True
    async with family.client(verify=verify) as client:
        with pytest.raises(TypeError):
            await client.get(server.url, extensions={"trace": hook})
