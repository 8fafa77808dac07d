"""The servers that the clients are measured against: nginx where it is installed, else an embedded one.

Each is a process of its own and none is the bottleneck. ``serving`` gives their URLs by name: ``plain``, ``tls``,
``full`` (TLS that resumes no session), ``h2``, and ``upload`` and ``upload-tls``, which are always the embedded server:
nginx answers before it has read a body that it does not want. Not responsible for the clients (``peers``).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdwire.testing.certificates import Identity

__all__ = ["LARGE", "PIECES", "PIECE_SIZE", "serving"]

LARGE: Final = 64 * 2**20
"""Bytes of ``/large``."""
PIECES: Final = 512
PIECE_SIZE: Final = 1024
"""``/stream`` is so many chunks of this size, each written by itself; the embedded server has it alone."""

_EMBEDDED: Final = r"""
import asyncio, json, ssl, sys

LARGE, PIECES, PIECE_SIZE, PEM = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Tue, 24 Nov 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\n\r\n"
)
SMALL = HEAD % 13 + b"x" * 13
BLOCK = b"x" * 262144
CHUNKED = HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")
PIECE = b"%x\r\n" % PIECE_SIZE + b"x" * PIECE_SIZE + b"\r\n"

class Http11(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer, self.skip, self.close = transport, b"", 0, False
        self.room = asyncio.Event()
        self.room.set()

    def pause_writing(self):
        self.room.clear()

    def resume_writing(self):
        self.room.set()

    def data_received(self, data):
        if self.skip:
            taken = min(self.skip, len(data))
            self.skip -= taken
            if self.skip:
                return
            data = data[taken:]
            self.answer(b"/")
        self.buffer += data
        while not self.skip and b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            lines = head.lower().split(b"\r\n")
            length = 0
            for line in lines:
                if line.startswith(b"content-length:"):
                    length = int(line[15:])
                elif line.startswith(b"connection:") and b"close" in line:
                    self.close = True
            if length > len(self.buffer):
                self.skip, self.buffer = length - len(self.buffer), b""
            else:
                self.buffer = self.buffer[length:]
                self.answer(lines[0].split()[1])

    def answer(self, path):
        if path == b"/large":
            self.task = asyncio.ensure_future(self.write(HEAD % LARGE, [BLOCK] * (LARGE // len(BLOCK))))
        elif path == b"/stream":
            self.task = asyncio.ensure_future(self.write(CHUNKED, [PIECE] * PIECES + [b"0\r\n\r\n"]))
        else:
            self.transport.write(SMALL)
            if self.close:
                self.transport.close()

    async def write(self, *what):
        self.transport.write(what[0])
        for piece in what[1]:
            await self.room.wait()
            self.transport.write(piece)
            await asyncio.sleep(0)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

def field(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

H2_HEAD = b"\x88" + field(b"server", b"bench") + field(b"content-type", b"text/plain")

class Http2(asyncio.Protocol):
    "Knows just enough to answer small requests."
    def connection_made(self, transport):
        self.transport, self.buffer, self.greeted = transport, b"", False
        transport.write(frame(4, 0, 0, b"\x00\x03" + (1000).to_bytes(4, "big")))

    def data_received(self, data):
        self.buffer += data
        if not self.greeted:
            if len(self.buffer) < len(PREFACE):
                return
            self.buffer, self.greeted = self.buffer[len(PREFACE):], True
        out, start, buffer = [], 0, self.buffer
        while len(buffer) - start >= 9:
            end = start + 9 + int.from_bytes(buffer[start:start + 3], "big")
            if end > len(buffer):
                break
            kind, flags = buffer[start + 3], buffer[start + 4]
            stream = int.from_bytes(buffer[start + 5:start + 9], "big")
            payload = buffer[start + 9:end]
            start = end
            if kind == 4 and not flags & 1:
                out.append(frame(4, 1, 0))
            elif kind == 6 and not flags & 1:
                out.append(frame(6, 1, 0, payload))
            if kind in (0, 1) and flags & 1:
                out.append(frame(1, 4, stream, H2_HEAD) + frame(0, 1, stream, b"x" * 13))
        self.buffer = buffer[start:]
        if out:
            self.transport.write(b"".join(out))

def tls(*protocols, resumes=True):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    if protocols:
        context.set_alpn_protocols(protocols)
    if not resumes:
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context

async def main():
    loop = asyncio.get_running_loop()
    servers, ports = [], {}
    for name, kind, context in (
        ("plain", Http11, None), ("tls", Http11, tls()), ("full", Http11, tls(resumes=False)), ("h2", Http2, tls("h2")),
    ):
        server = await loop.create_server(kind, "0.0.0.0", 0, ssl=context, backlog=4096)
        servers.append(server)
        ports[name] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()

try:
    import uvloop
except ImportError:
    asyncio.run(main())
else:
    uvloop.run(main())
"""

_NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; default_type text/plain;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    ssl_certificate {pem}; ssl_certificate_key {pem}; ssl_protocols TLSv1.3; http2_max_concurrent_streams 1000;
    server {{ listen 0.0.0.0:{plain} backlog=4096; {places} }}
    server {{ listen 0.0.0.0:{tls} ssl backlog=4096; ssl_session_cache shared:one:10m; {places} }}
    server {{ listen 0.0.0.0:{full} ssl backlog=4096; ssl_session_cache off; ssl_session_tickets off; {places} }}
    server {{ listen 0.0.0.0:{h2} ssl http2 backlog=4096; ssl_session_cache shared:two:10m; {places} }}
}}
"""
_PLACES: Final = 'location = / {{ return 200 "Hello, World!"; }} location = /large {{ root {folder}; }}'


@contextmanager
def serving(identity: Identity, *, nginx: bool = True) -> Generator[dict[str, str]]:
    """All servers; gives their URLs without the path, by name, and under ``server`` what answers.

    Without ``nginx`` the embedded one alone, even where nginx is installed.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)  # nginx's worker is another user where the master is root
        pem = identity.write_server(folder / "server.pem")
        command = [sys.executable, "-c", _EMBEDDED, str(LARGE), str(PIECES), str(PIECE_SIZE), str(pem)]
        embedded = _start(stack, command)
        assert embedded.stdout is not None
        own: dict[str, int] = json.loads(embedded.stdout.readline())
        ports = _nginx(stack, folder, pem) if nginx else None
        server = "an embedded server on uvloop" if ports is None else f"nginx {_nginx_version()}"
        urls = {name: _url(name, port) for name, port in (ports or own).items()}
        yield {
            **urls,
            "upload": _url("plain", own["plain"]),
            "upload-tls": _url("tls", own["tls"]),
            "server": server,
        }


def _url(name: str, port: int) -> str:
    return f"{'http' if name == 'plain' else 'https'}://127.0.0.1:{port}"


def _start(stack: contextlib.ExitStack, command: list[str]) -> subprocess.Popen[str]:
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(process.terminate)
    return process


def _nginx(stack: contextlib.ExitStack, folder: Path, pem: Path) -> dict[str, int] | None:
    """Ports of a running nginx; None where there is none."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin")
    if program is None:
        return None
    with contextlib.ExitStack() as held:
        socks = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        ports = dict(zip(("plain", "tls", "full", "h2"), (sock.getsockname()[1] for sock in socks), strict=True))
    with (folder / "large").open("wb") as file:
        file.truncate(LARGE)
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, pem=pem, places=_PLACES.format(folder=folder), **ports))
    process = _start(stack, [program, "-c", str(config), "-p", str(folder), "-e", "stderr"])
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ports["h2"]), 1):
            return ports
        if process.poll() is not None:
            break
        time.sleep(0.05)
    print("nginx did not start: going on with the embedded server", file=sys.stderr)
    return None


def _nginx_version() -> str:
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin")
    assert program is not None
    run = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    return run.stderr.rpartition("/")[2].strip()
