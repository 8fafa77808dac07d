"""``holdwire idle`` against real servers and a real firewall: the limit is found to within 2 %."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from holdwire.testing import ChaosServer
from tests.netns import SERVER, lab
from tests.nginx import nginx

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


def idle(*arguments: str, prefix: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
    """Run the command; its exit code and its document."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "holdwire", "idle", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, document


@pytest.mark.server
@pytest.mark.slow
def test_the_keepalive_limit_of_nginx_is_found_over_tls(tmp_path: Path) -> None:
    with nginx(tmp_path, keepalive_timeout="3s") as server:
        code, found = idle(f"localhost:{server.port}", "--insecure", "--longest", "6", "--connections", "8")
    assert code == 0
    assert found["ending"] == "fin_while_idle"
    assert found["limit"] == pytest.approx(3.0, rel=0.02)
    assert found["verdict"] == "warning"


HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout http-keep-alive 3s
frontend f
    bind 127.0.0.1:{port}
    http-request return status 200 content-type text/plain string "hello"
"""


@contextlib.contextmanager
def haproxy(folder: Path) -> Generator[int]:
    program = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("haproxy is not installed (Debian: apt-get install haproxy): nothing was tested against it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port))
    process = subprocess.Popen([program, "-db", "-f", str(folder / "haproxy.cfg")], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, "haproxy ended"
                assert time.monotonic() < deadline, "haproxy did not start"
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.server
@pytest.mark.slow
def test_the_keepalive_limit_of_haproxy_is_found(tmp_path: Path) -> None:
    with haproxy(tmp_path) as port:
        code, found = idle(f"127.0.0.1:{port}", "--plain", "--longest", "6", "--connections", "8")
    assert code == 0
    assert found["ending"] == "fin_while_idle"
    assert found["limit"] == pytest.approx(3.0, rel=0.02)


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("answer", "ending"), [("drop", "silent_drop"), ("reset", "rst_on_send")])
def test_the_limit_of_a_firewall_that_forgets_is_found(answer: str, ending: str) -> None:
    with lab() as net:
        net.forget_after(4, answer=answer)
        with net.on(net.server):
            server = ChaosServer(host=SERVER)
            server.__enter__()
        try:
            code, found = idle(
                server.url,
                *("--plain", "--longest", "7", "--connections", "10", "--rounds", "3"),
                prefix=("ip", "netns", "exec", net.client),
            )
        finally:
            server.__exit__(None, None, None)
    assert code == 1
    assert found["ending"] == ending
    assert found["limit"] == pytest.approx(4.0, rel=0.02)
    assert found["verdict"] == "failed"


def test_a_path_without_a_limit_is_healthy() -> None:
    with ChaosServer() as server:
        code, found = idle(server.url, "--plain", "--longest", "0.5", "--shortest", "0.1")
    assert code == 0
    assert found["verdict"] == "ok"
    assert found["limit"] is None
    assert found["survived"] == pytest.approx(0.5)


def test_a_port_whose_security_nobody_knows_is_asked() -> None:
    with ChaosServer() as server:
        code, found = idle(
            server.url.removeprefix("http://"), "--longest", "0.3", "--shortest", "0.1", "--connections", "2"
        )
    assert (code, found["verdict"]) == (0, "ok")


def test_a_server_that_keeps_no_connection_cannot_be_measured() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # HTTP/1.0: it closes after each answer
        threading.Thread(target=server.handle_request, daemon=True).start()
        code, found = idle(f"127.0.0.1:{server.server_port}", "--plain", "--longest", "0.3", "--shortest", "0.1")
    assert (code, found["verdict"]) == (2, "unknown")
    assert "after one response" in found["reason"]


def test_a_protocol_of_ones_own_is_spoken_with_send() -> None:
    with ChaosServer() as server:
        code, found = idle(
            server.url,
            *("--plain", "--longest", "0.3", "--shortest", "0.1", "--connections", "2"),
            *("--send", "GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"),
        )
    assert (code, found["verdict"]) == (0, "ok")


def test_a_refused_connection_says_that_nothing_could_be_looked_at() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        code, found = idle(f"127.0.0.1:{bound.getsockname()[1]}", "--plain", "--longest", "2")
    assert code == 2
    assert "ECONNREFUSED" in found["reason"]


def test_wrong_arguments_are_told_before_anything_is_opened() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "holdwire", "idle", "localhost", "--shortest", "9", "--longest", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "shortest wait" in done.stderr
