"""Whatever a page shows works: Python blocks run and print what the page says, command lines are understood."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import socket
from typing import TYPE_CHECKING, Any

import pytest

import holdwire
from docs.tools.generate import ROOT, pages
from holdwire.cli.commands import COMMANDS
from holdwire.telemetry import uninstrument
from holdwire.testing import Answer, ChaosServer, Framing
from tests.docs.examples import blocks_of, run, run_program

if TYPE_CHECKING:
    from collections.abc import Iterator
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
    follow_up = FOLLOW_UPS.get(name)
    if follow_up is not None:
        follow_up(names, server)


@pytest.mark.parametrize("name", TUTORIAL)
def test_the_steps_of_the_tutorial_work_as_programs(name: str) -> None:
    run_program(PAGES[name], {"port=8471": "port=0", "time.sleep(120)": "time.sleep(0.1)"})


def download_that_is_cut(names: dict[str, Any], server: ChaosServer) -> None:
    """The page's download resumes where it was cut, once; a file that has changed is begun anew."""
    import anyio
    import httpx

    whole = bytes(range(256)) * 400
    asked: list[str | None] = []

    def serve(request: Request) -> Answer:
        wanted = request.header("Range")
        asked.append(wanted)
        tag = ("ETag", '"one"')
        if wanted is None:
            return Answer(body=whole, framing=Framing.LENGTH, headers=(tag,))
        begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        return Answer(status=206, body=whole[begin:], framing=Framing.LENGTH, headers=(tag,))

    server.handle("/file", serve)
    server.script("response:5000 fin", path="/file")
    file = io.BytesIO()

    async def main() -> None:
        async with httpx.AsyncClient(transport=holdwire.ResilientTransport()) as client:
            await names["download"](client, f"{server.url}/file", file)

    anyio.run(main)
    assert file.getvalue() == whole
    assert asked[0] is None
    assert len(asked) == 2
    assert asked[1] is not None


def proxy_that_refuses(names: dict[str, Any], server: ChaosServer) -> None:
    """The page's words about a proxy's failure name the proxy."""
    import anyio
    import httpx

    host, port = server.address
    server.answer("*", Answer(status=407))

    async def main() -> None:
        transport = holdwire.ResilientTransport(proxy=server.url)
        async with httpx.AsyncClient(transport=transport) as names["client"]:
            told = await names["who_failed"]("https://localhost:1/")
            assert told == f"proxy_refused in phase proxy, by way of {host}:{port}"

    anyio.run(main)


def order_is_baked_once(names: dict[str, Any], server: ChaosServer) -> None:
    names["test_an_order_is_baked_once"](server)


FOLLOW_UPS = {
    "docs/howto/sse-downloads.md": download_that_is_cut,
    "docs/howto/proxies.md": proxy_that_refuses,
    "docs/howto/testing.md": order_is_baked_once,
}


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
