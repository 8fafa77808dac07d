"""Real servers for the tests: started on a free port, killed, restarted, frozen; each ended by its process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.netns import come_home
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path
    from typing import Self

__all__ = ["Program", "mosquitto", "redis_server", "tls_line_server"]


class Program:
    """A server program that can be misused. ``command`` makes its arguments from the port."""

    def __init__(self, command: Callable[[int], list[str]], *, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = free_port(host)
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it, and wait until it listens. In a worker thread too: it comes to where the main thread lives."""
        come_home()
        self._process = subprocess.Popen(
            self._command(self.port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"the server ended with {self._process.returncode}"
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
                return self
            time.sleep(0.01)
        pytest.fail("the server does not listen")

    def kill(self) -> None:
        """End it without warning; the kernel closes its connections."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Have it end in good order."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop it as a debugger would: its kernel still answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def _end(self, number: int) -> None:
        self._signal(number)
        self._signal(signal.SIGCONT)
        if self._process is not None:
            self._process.wait(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


def _find(name: str, package: str) -> str:
    program = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {package}): nothing was tested against it")
    return program


def redis_server(*, host: str = "127.0.0.1") -> Program:
    """Redis that keeps nothing on disk."""
    program = _find("redis-server", "redis-server")
    options = ["--bind", host, "--save", "", "--appendonly", "no", "--protected-mode", "no"]
    return Program(lambda port: [program, "--port", str(port), *options], host=host)


def mosquitto(folder: Path) -> Program:
    """An MQTT broker that lets everybody in."""
    program = _find("mosquitto", "mosquitto")

    def command(port: int) -> list[str]:
        configuration = folder / "mosquitto.conf"
        configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n")
        return [program, "-c", str(configuration)]

    return Program(command)


_LINES = """
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def serve(sock):
    try:
        with context.wrap_socket(sock, server_side=True) as stream, stream.makefile("rwb") as lines:
            for line in lines:
                lines.write(b"PONG\\n" if line == b"PING\\n" else b"ok " + line)
                lines.flush()
    except OSError:
        pass
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


@contextlib.contextmanager
def tls_line_server(identity: Path) -> Generator[Program]:
    """Our own: answers PING with PONG and any other line with ``ok`` and the line; ``identity`` is key and chain."""
    with Program(lambda port: [sys.executable, "-c", _LINES, str(port), str(identity)]) as program:
        yield program
