"""``holdwire chaos``: a proxy from the command line."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import httpx
import pytest

from holdwire.cli import main
from holdwire.testing import ChaosServer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer() as server:
        yield server


@contextmanager
def chaos(*arguments: str) -> Generator[tuple[int, subprocess.Popen[str], IO[str]]]:
    """The port of a running command, the process, and what it prints."""
    command = [sys.executable, "-m", "holdwire", "chaos", *arguments]
    env = {**os.environ, "PYTHONUNBUFFERED": ""}  # as it is for users
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            match = re.match(r"listening on 127\.0\.0\.1:(\d+)", first)
            assert match, first
            yield int(match[1]), process, process.stdout
        finally:
            process.kill()


def to(server: ChaosServer) -> str:
    return "{}:{}".format(*server.address)


def test_connections_break_by_script_one_after_the_other_and_it_says_so(server: ChaosServer) -> None:
    with chaos("--to", to(server), "--script", "", "--script", "request:0 rst") as (port, process, told):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
            assert http.get("/1").status_code == 200
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http, pytest.raises(httpx.TransportError):
            http.get("/2")
        process.send_signal(signal.SIGINT)
        rest = told.read()
        assert process.wait(10) == 0
    assert "fault      request rst" in rest
    assert rest.endswith("connections: 2, faults: 1 (seed 0)\n")
    assert server.ledger.count("/2") == 0


def test_a_share_of_the_connections_breaks_the_same_ones_for_a_seed(server: ChaosServer, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("# of every fifth or so\nrequest:0 rst\n")

    def broken() -> list[int]:
        with chaos("--to", to(server), "--script", f"@{script}", "--share", "0.2", "--seed", "3") as (port, *_):
            failed: list[int] = []
            for number in range(20):
                try:
                    httpx.get(f"http://127.0.0.1:{port}/")
                except httpx.TransportError:
                    failed.append(number)
            return failed

    first = broken()
    assert 0 < len(first) < 20
    assert broken() == first


def test_it_ends_the_clients_tls_with_a_certificate_that_it_writes_down(server: ChaosServer, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    with chaos("--to", to(server), "--tls", "--write-ca", str(authority)) as (port, *_):
        context = ssl.create_default_context(cafile=str(authority))
        assert httpx.get(f"https://localhost:{port}/", verify=context).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--to", "nowhere"], "--to 'nowhere' is no address: write HOST:PORT"),
        (
            ["--to", "a:1", "--listen", "70000"],
            "--listen '70000' is no address: write [HOST:]PORT",
        ),
        (["--to", "a:1", "--listen", "192.0.2.77:80"], "cannot listen on 192.0.2.77:80: Cannot assign"),
        (["--to", "a:1", "--script", "request:0 explode"], "explode"),
        (["--to", "a:1", "--script", "handshake rst"], "needs a proxy that ends TLS"),
        (["--to", "a:1", "--script", "send()#1 short"], "has no point send()"),
        (["--to", "a:1", "--script", "frame:3 rst"], "has no point frame"),
        (["--to", "a:1", "--share", "0.5"], "--share takes one --script"),
        (["--to", "a:1", "--share", "1.5", "--script", "request rst"], "--share: give a number above 0 and up to 1"),
        (["--to", "a:1", "--seconds", "-1"], "--seconds: give a number of seconds above 0, not -1"),
        (["--to", "a:1", "--to-tls", "--to-ca", "/nowhere"], "--to-ca: /nowhere: No such file"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chaos", *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["chaos", "--to", "a:1", "--listen", str(taken.getsockname()[1])]) == 2
        told = capsys.readouterr().err
        assert f"cannot listen on 127.0.0.1:{taken.getsockname()[1]}: Address already in use" in told


def test_it_ends_when_its_time_is_over(server: ChaosServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chaos", "--to", to(server), "--seconds", "0.05"]) == 0
    assert "connections: 0, faults: 0" in capsys.readouterr().out
