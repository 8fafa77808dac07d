"""Whatever a page shows works: Python blocks run and print what the page says, command lines are understood."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from anyio import to_thread

import holdwire
from docs.tools.generate import ROOT, pages
from holdwire.cli.commands import COMMANDS
from holdwire.telemetry import uninstrument
from holdwire.testing import Answer, ChaosServer
from tests.docs.examples import blocks_of, run, run_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from holdwire.testing import Request

LOST = holdwire.ConnectionLost(
    failure=holdwire.Failure(
        kind=holdwire.Kind.CONNECTION_RESET, category=holdwire.Category.PEER_CLOSED, phase=holdwire.Phase.IDLE
    )
)
PAGES = {str(page.relative_to(ROOT)): page for page in pages()}
TUTORIAL = [name for name in PAGES if name.startswith("docs/tutorial/")]
IN_HAND: dict[str, dict[str, Any]] = {"docs/retries.md": {"exc": LOST}}
"""What the reader of a page has in hand."""


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer() as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_but_this_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail whatever would be looked up, and put back what pages switch for a whole process."""
    resolve = socket.getaddrinfo

    def checked(host: Any, *rest: Any, **options: Any) -> Any:
        assert host in {None, "127.0.0.1", "localhost", b"127.0.0.1", "::1"}, f"an example looks up {host}"
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", checked)
    yield
    holdwire.set_testing(False)
    uninstrument()


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if blocks_of(page) and name not in TUTORIAL])
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_examples_of_a_page_run(name: str, server: ChaosServer) -> None:
    names: dict[str, Any] = {"__name__": "example"} | IN_HAND.get(name, {})
    run(PAGES[name], {"https://api.example.com": server.url}, names)


@pytest.mark.parametrize("name", TUTORIAL)
def test_the_steps_of_the_tutorial_work_as_programs(name: str) -> None:
    run_program(PAGES[name], {"port=8471": "port=0", "time.sleep(120)": "time.sleep(0.1)"})


class Enough(Exception):
    """Ends an example that would go on."""


class Broker(socketserver.BaseRequestHandler):
    """Speaks as much of MQTT and Redis as a login and a heartbeat need; the client ``bad`` is refused."""

    def handle(self) -> None:
        while data := self.request.recv(1000):
            if data[:1] == b"\x10":
                self.request.sendall(b"\x20\x02\x00" + bytes([5 * data.endswith(b"bad")]))
            elif data == b"\xc0\x00":
                self.request.sendall(b"\xd0\x00")
            elif b"PING" in data:
                self.request.sendall(b"+PONG\r\n")


@pytest.fixture
def broker() -> Iterator[str]:
    """The address of a broker, as host and port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Broker) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{running.server_address[1]}"
        running.shutdown()


async def examples(name: str, replaced: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the page ``name`` defines."""
    names: dict[str, Any] = {"__name__": "example"}
    await to_thread.run_sync(run, PAGES[name], replaced or {}, names)  # it has a loop of its own
    return names


@pytest.fixture
def anyio_backend() -> str:
    """One loop: the pages show asyncio's."""
    return "asyncio"


async def test_a_download_resumes_where_it_was_cut(server: ChaosServer) -> None:
    whole = bytes(range(256)) * 400
    asked: list[str | None] = []

    def serve(request: Request) -> Answer:
        wanted = request.header("Range")
        asked.append(wanted)
        begin = 0 if wanted is None else int(wanted.removeprefix("bytes=").removesuffix("-"))
        return Answer(status=206 if begin else 200, body=whole[begin:], headers=(("ETag", '"one"'),))

    server.handle("/file", serve)
    server.script("response:5000 fin", path="/file")
    file = io.BytesIO()
    names = await examples("docs/howto/sse-downloads.md")
    async with httpx.AsyncClient(transport=holdwire.ResilientTransport()) as client:
        await names["download"](client, f"{server.url}/file", file)
    assert file.getvalue() == whole
    first, second = asked
    assert first is None
    assert 0 < int((second or "").removeprefix("bytes=").removesuffix("-")) < 5000


async def test_a_proxy_that_refuses_is_told_by_name(server: ChaosServer) -> None:
    server.answer("*", Answer(status=407))
    host, port = server.address
    names = await examples("docs/howto/proxies.md")
    async with httpx.AsyncClient(transport=holdwire.ResilientTransport(proxy=server.url)) as names["client"]:
        told = await names["who_failed"]("https://localhost:1/")
    assert told == f"proxy_refused in phase proxy, by way of {host}:{port}"
    await server.journal.until("answered")
    assert [str(entry.detail) for entry in server.journal.entries("answered")] == ["407"]


async def test_events_are_followed(server: ChaosServer) -> None:
    events = Answer(body=b"id: 1\ndata: one\n\n", headers=(("Content-Type", "text/event-stream"),))
    server.answer("/events", events)
    names = await examples("docs/howto/sse-downloads.md")

    async def handle(event: holdwire.ServerSentEvent) -> None:
        assert event.data == "one"
        raise Enough

    with pytest.raises(Enough):
        await names["follow"](f"{server.url}/events", handle)


async def test_redis_and_mqtt(broker: str) -> None:
    names = await examples("docs/howto/redis-mqtt.md")
    assert await names["ping"](f"tcp://{broker}") == b"+PONG\r\n"
    async for session in names["telegrams"](f"tcp://{broker}"):
        async with session:
            assert session.number == 1
        break
    names["CONNECT"] = names["CONNECT"][:-3] + b"bad"
    with pytest.raises(holdwire.LoginRefused, match="refused with code 5"):
        await anext(names["telegrams"](f"tcp://{broker}"))
    subscriber = names["subscriber"](*broker.split(":"))
    await subscriber.aclose()


async def test_the_loop_of_the_readme(broker: str, server: ChaosServer) -> None:
    readme = await examples(
        "README.md", {"tls://broker.example:8883": f"tcp://{broker}", "https://api.example.com": server.url}
    )
    login = (await examples("docs/howto/redis-mqtt.md"))["login"]

    def handle(data: bytes) -> None:
        assert data == b"\xd0\x00"
        raise Enough

    with pytest.raises(Enough):
        await readme["listen"](login, handle)


async def test_what_pages_make_of_an_error(server: ChaosServer) -> None:
    names: dict[str, Any] = {}
    for page in ("sdks", "retry-settings", "failure-span"):
        names |= await examples(f"docs/howto/{page}.md")
    server.script("response:0 rst", path="/order")
    async with httpx.AsyncClient(transport=holdwire.ResilientTransport()) as client:
        with pytest.raises(httpx.ReadError) as caught:
            await client.post(f"{server.url}/order")
    assert names["why"](caught.value).startswith("recv: ECONNRESET")
    assert names["why"](ValueError()) == "not a connection's fault"
    assert names["should_try_again"](caught.value) is False
    assert names["tell"](caught.value).startswith("connection_reset in response_wait")
    assert names["tell"](ValueError()) == "no connection failed"


async def test_the_tests_of_the_page_about_tests_pass(server: ChaosServer) -> None:
    names = await examples("docs/howto/testing.md")
    tests = [function for name, function in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        await to_thread.run_sync(test, server)


def shell_lines() -> list[tuple[str, str]]:
    """Every line of a shell block that runs ``holdwire`` or ``pip``."""
    found: list[tuple[str, str]] = []
    for name, page in PAGES.items():
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            found += [(name, line) for line in block.splitlines() if line.startswith(("holdwire ", "pip "))]
    return found


@pytest.mark.parametrize(("name", "line"), shell_lines())
def test_command_lines_are_understood(name: str, line: str) -> None:
    words = shlex.split(re.split(r" [<>|] ", line)[0], comments=True)
    if words[0] == "pip":
        extras = re.findall(r"holdwire\[([\w,]+)\]", line)
        known = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        for extra in ",".join(extras).split(","):
            assert not extra or re.search(rf"^{extra} = \[", known, re.MULTILINE), f"{name}: no extra {extra}"
        return
    import argparse

    command = next(command for command in COMMANDS if command.name == words[1])
    parser = argparse.ArgumentParser(allow_abbrev=False)
    command.load().add_arguments(parser)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            parser.parse_args(words[2:])
        except SystemExit:
            pytest.fail(f"{name}: {line}: {errors.getvalue()}")


def test_blocks_that_do_not_run_say_why() -> None:
    for name, page in PAGES.items():
        for block in blocks_of(page):
            assert block.skip is None or len(block.skip) > 5, name


def test_no_page_shows_an_output_that_nobody_checks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- output -->\n```text\nhello\n```\n")
    with pytest.raises(ValueError, match="behind no block"):
        blocks_of(page)
    page.write_text("```python\nprint('bye')\n```\n\n<!-- output -->\n```text\nhello\n```\n")
    with pytest.raises(AssertionError, match="what came is\nbye"):
        run(page, {}, {})
