"""Real programs for the tests: haproxy, tinyproxy, microsocks, on free ports of loopback, ended by their process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from holdwire.testing import Identity

__all__ = ["haproxy", "microsocks", "tinyproxy"]

_HAPROXY = """
global
    maxconn 200
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
    timeout http-keep-alive {keep_alive}
frontend front
    bind 127.0.0.1:{port} ssl crt {folder}/both.pem alpn h2,http/1.1
    default_backend back
backend back
    server nginx 127.0.0.1:{target} ssl verify none
"""
_TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 30
MaxClients 50
Allow 127.0.0.1
LogFile "{folder}/tinyproxy.log"
PidFile "{folder}/tinyproxy.pid"
{more}
"""


@contextlib.contextmanager
def haproxy(folder: Path, target: int, identity: Identity, *, keep_alive: str = "30s") -> Generator[int]:
    """Haproxy with TLS and HTTP/2 in front of a server with TLS; its port."""
    port = free_port()
    (folder / "both.pem").write_bytes(identity.certificate + identity.key)
    configuration = folder / "haproxy.cfg"
    configuration.write_text(_HAPROXY.format(port=port, folder=folder, target=target, keep_alive=keep_alive))
    with _running("haproxy", ["-db", "-f", str(configuration)], port):
        yield port


@contextlib.contextmanager
def tinyproxy(folder: Path, *, more: str = "") -> Generator[int]:
    """Tinyproxy; its port."""
    port = free_port()
    configuration = folder / "tinyproxy.conf"
    configuration.write_text(_TINYPROXY.format(port=port, folder=folder, more=more))
    with _running("tinyproxy", ["-d", "-c", str(configuration)], port):
        yield port


@contextlib.contextmanager
def microsocks(*arguments: str) -> Generator[int]:
    """Microsocks; its port."""
    port = free_port()
    with _running("microsocks", ["-i", "127.0.0.1", "-p", str(port), *arguments], port):
        yield port


@contextlib.contextmanager
def _running(name: str, arguments: list[str], port: int) -> Generator[None]:
    program = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {name}): nothing was tested against it")
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            assert process.poll() is None, f"{name} ended at once with status {process.returncode}"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < deadline, f"{name} did not start to listen within 10 s"
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:  # tinyproxy waits for its clients
            process.kill()
            process.wait()
