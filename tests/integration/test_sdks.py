"""The openai, anthropic and mcp SDKs on holdwire's client for httpx2, against a local server that speaks their API.

Run by the nox session ``sdks``; elsewhere skipped where an SDK is not installed.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

import holdwire
from holdwire.testing import Answer, BlockingChaosProxy, ChaosServer, Framing
from tests.transports.test_failures import Seen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from holdwire.testing import Request

ours: Any = pytest.importorskip("holdwire.transports.httpx2", reason="httpx2 is not installed: no SDK was tried")

# the SDKs leave generators of httpx2 half read, of which trio complains
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

EVENT_STREAM = (("Content-Type", "text/event-stream"),)
JSON = (("Content-Type", "application/json"),)
WORDS = ("Hold ", "the ", "line.")


def completion(request: Request) -> Answer:
    """OpenAI's chat completions."""
    base = {"id": "c1", "created": 1, "model": "m"}
    if not json.loads(request.body).get("stream"):
        message = {"role": "assistant", "content": "".join(WORDS)}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        answer = base | {"object": "chat.completion", "choices": [choice]}
        return Answer(body=json.dumps(answer).encode(), headers=JSON)
    chunk = base | {"object": "chat.completion.chunk"}
    events = [
        f"data: {json.dumps(chunk | {'choices': [{'index': 0, 'delta': {'content': word}}]})}\n\n" for word in WORDS
    ]
    return Answer(body="".join([*events, "data: [DONE]\n\n"]).encode(), framing=Framing.CHUNKED, headers=EVENT_STREAM)


def message(request: Request) -> Answer:
    """Anthropic's messages."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    whole = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None, "usage": usage}
    if not json.loads(request.body).get("stream"):
        text = {"type": "text", "text": "".join(WORDS)}
        answer = whole | {"content": [text], "stop_reason": "end_turn"}
        return Answer(body=json.dumps(answer).encode(), headers=JSON)
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": whole | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in WORDS),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return Answer(body=body.encode(), framing=Framing.CHUNKED, headers=EVENT_STREAM)


class Sdk:
    """One SDK: how to make a client, a call and a streamed call, and what a lost connection is called."""

    path: str
    cut: int
    """Bytes of a streamed answer behind which some words have come, and not all."""
    lost: type[Exception]

    def __init__(self, server: ChaosServer, seen: Seen, retries: int) -> None:
        self.http = ours.AsyncClient(observers=[seen])
        self.client = self.make(server.url, retries)

    def make(self, url: str, retries: int) -> Any:
        raise NotImplementedError

    async def call(self) -> str:
        raise NotImplementedError

    async def stream(self, got: list[str]) -> None:
        raise NotImplementedError


class OpenAI(Sdk):
    path = "/v1/chat/completions"
    cut = 420
    arguments: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "?"}]}  # noqa: RUF012

    def make(self, url: str, retries: int) -> Any:
        openai: Any = pytest.importorskip("openai", reason="openai is not installed: it was not tried")
        self.lost = openai.APIConnectionError
        return openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", http_client=self.http, max_retries=retries)

    async def call(self) -> str:
        answer = await self.client.chat.completions.create(**self.arguments)
        return str(answer.choices[0].message.content)

    async def stream(self, got: list[str]) -> None:
        async for chunk in await self.client.chat.completions.create(stream=True, **self.arguments):
            got.append(chunk.choices[0].delta.content)  # noqa: PERF401 - what came before a failure is wanted too


class Anthropic(Sdk):
    path = "/v1/messages"
    cut = 620
    arguments: dict[str, Any] = OpenAI.arguments | {"max_tokens": 10}

    def make(self, url: str, retries: int) -> Any:
        anthropic: Any = pytest.importorskip("anthropic", reason="anthropic is not installed: it was not tried")
        self.lost = anthropic.APIConnectionError
        return anthropic.AsyncAnthropic(api_key="k", base_url=url, http_client=self.http, max_retries=retries)

    async def call(self) -> str:
        answer = await self.client.messages.create(**self.arguments)
        return str(answer.content[0].text)

    async def stream(self, got: list[str]) -> None:
        async with self.client.messages.stream(**self.arguments) as stream:
            async for text in stream.text_stream:
                got.append(text)  # noqa: PERF401 - as above


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer() as server:
        server.handle(OpenAI.path, completion)
        server.handle(Anthropic.path, message)
        yield server


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture(params=[OpenAI, Anthropic])
def make(request: pytest.FixtureRequest, server: ChaosServer, seen: Seen) -> Callable[..., Sdk]:
    kind: type[Sdk] = request.param

    def make(retries: int = 0) -> Sdk:
        return kind(server, seen, retries)

    return make


async def test_a_call_and_a_streamed_call(make: Callable[..., Sdk], server: ChaosServer, seen: Seen) -> None:
    sdk = make()
    async with sdk.http:
        assert await sdk.call() == "Hold the line."
        got: list[str] = []
        await sdk.stream(got)
        assert got == list(WORDS)
        assert await sdk.call() == "Hold the line."
    assert server.accepted == 1
    assert seen.failures == []


@pytest.mark.parametrize("how", ["reset_idle", "fin_idle"])
async def test_a_connection_that_went_stale_costs_nothing(
    make: Callable[..., Sdk], server: ChaosServer, seen: Seen, how: str
) -> None:
    sdk = make()
    async with sdk.http:
        await sdk.call()
        getattr(server, how)()
        assert await sdk.call() == "Hold the line."
    assert server.ledger.count(sdk.path) == 2
    assert {failure.phase.value for failure in seen.failures} <= {"idle"}


async def test_a_call_that_is_lost_is_explained_below_the_sdks_own_exception(
    make: Callable[..., Sdk], server: ChaosServer, seen: Seen
) -> None:
    sdk = make()
    async with sdk.http:
        await sdk.call()
        server.script("response:0 rst", path=sdk.path)
        with pytest.raises(sdk.lost) as caught:
            await sdk.call()
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert (failure.errno_name, failure.phase.value) == ("ECONNRESET", "response_wait")
    assert [reason for _, reason in seen.verdicts] == ["caller_retries"], "the SDK retries by itself"


async def test_only_one_of_two_layers_retries(make: Callable[..., Sdk], server: ChaosServer, seen: Seen) -> None:
    sdk = make(1)
    async with sdk.http:
        server.script("response:0 rst", path=sdk.path)
        with anyio.fail_after(10):
            assert await sdk.call() == "Hold the line."
    assert server.ledger.count(sdk.path) <= 2
    assert len(seen.failures) == 1


async def test_a_reset_in_mid_stream_is_explained_after_what_had_come(
    make: Callable[..., Sdk], server: ChaosServer, seen: Seen
) -> None:
    sdk = make()
    got: list[str] = []
    async with sdk.http:
        server.script(f"response:{sdk.cut} rst", path=sdk.path)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - its class is the SDK's business, the failure is ours
            await sdk.stream(got)
    assert got in (list(WORDS[:1]), list(WORDS[:2]))
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert (failure.errno_name, failure.phase.value) == ("ECONNRESET", "response_body")
    assert seen.failures == [failure]


# --- mcp: its own server, with a proxy in between that cuts ---

is_cut = threading.Event()


@pytest.fixture(scope="module")
def mcp_server() -> Iterator[tuple[str, int]]:
    """A tool server of the mcp SDK, in a thread."""
    mcpserver: Any = pytest.importorskip("mcp.server.mcpserver", reason="mcp is not installed: it was not tried")
    uvicorn: Any = pytest.importorskip("uvicorn")
    tools = mcpserver.MCPServer("tools")

    async def shout(text: str) -> str:
        """Upper case; ``wait`` is answered when somebody has cut the line."""
        if text == "wait":
            await anyio.to_thread.run_sync(is_cut.wait, 30)
        return text.upper()

    tools.tool()(shout)
    config = uvicorn.Config(tools.streamable_http_app(), host="127.0.0.1", port=0, log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join(10)


async def with_mcp(
    target: tuple[str, int],
    seen: Seen,
    use: Callable[[Any, BlockingChaosProxy], Awaitable[None]],
    on_response: Callable[[Any], Awaitable[None]] | None = None,
) -> None:
    """Have ``use`` talk to the tool server, by way of a proxy that it can make misbehave."""
    mcp: Any = pytest.importorskip("mcp")
    streamable: Any = pytest.importorskip("mcp.client.streamable_http")
    with BlockingChaosProxy(target) as proxy:
        host, port = proxy.address
        hooks = {"response": [] if on_response is None else [on_response]}
        http = ours.AsyncClient(observers=[seen], timeout=30, event_hooks=hooks)
        async with (
            http,
            streamable.streamable_http_client(f"http://{host}:{port}/mcp", http_client=http) as streams,
            mcp.ClientSession(streams[0], streams[1]) as session,
        ):
            await session.initialize()
            await use(session, proxy)


async def shouted(session: Any, text: str) -> str:
    result = await session.call_tool("shout", {"text": text})
    return str(result.content[0].text)


async def test_mcp_calls_tools_and_survives_stale_connections(mcp_server: tuple[str, int], seen: Seen) -> None:
    async def use(session: Any, proxy: BlockingChaosProxy) -> None:
        assert await shouted(session, "hello") == "HELLO"
        proxy.reset_idle()
        assert await shouted(session, "again") == "AGAIN"

    with anyio.fail_after(50):
        await with_mcp(mcp_server, seen, use)


async def test_mcp_is_told_of_a_reset_in_the_middle_of_an_answer(mcp_server: tuple[str, int], seen: Seen) -> None:
    mcp: Any = pytest.importorskip("mcp")
    begun = anyio.Event()
    is_cut.clear()

    async def on_response(response: Any) -> None:
        if b'"wait"' in await response.request.aread():
            begun.set()

    async def use(session: Any, proxy: BlockingChaosProxy) -> None:
        async def cut() -> None:
            await begun.wait()
            proxy.reset_all()
            is_cut.set()

        async with anyio.create_task_group() as group:
            group.start_soon(cut)
            with pytest.raises(mcp.MCPError):
                await shouted(session, "wait")
        assert await shouted(session, "hello") == "HELLO"

    with anyio.fail_after(50):
        await with_mcp(mcp_server, seen, use, on_response)
    assert ("ECONNRESET", "response_body") in [(failure.errno_name, failure.phase.value) for failure in seen.failures]
