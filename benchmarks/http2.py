"""HTTP/2: CPU per small request through one connection, and a large body, beside httpx and httpx2 in one run.

Absolute times drift on any machine; the ratios between clients that ran interleaved hold. The server is a process of
its own that knows just enough HTTP/2 to answer. Run it with ``python -m benchmarks.http2 --help``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx

import holdwire
from holdwire.testing.certificates import self_signed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

_SERVER = r"""
import asyncio, ssl, sys

LARGE = int(sys.argv[1])
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CHUNK = b"x" * 16384

def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

def field(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

HEAD = b"\x88" + field(b"server", b"bench") + field(b"content-type", b"text/plain")

class Answering(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer, self.greeted = transport, b"", False
        self.windows, self.initial, self.waiting = {0: 65535}, 65535, {}
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
                for at in range(0, len(payload), 6):
                    if payload[at:at + 2] == b"\x00\x04":
                        self.initial = int.from_bytes(payload[at + 2:at + 6], "big")
                out.append(frame(4, 1, 0))
            elif kind == 6 and not flags & 1:
                out.append(frame(6, 1, 0, payload))
            elif kind == 8:
                self.windows[stream] = self.windows.get(stream, self.initial) + int.from_bytes(payload, "big")
            if kind in (0, 1) and flags & 1:
                large = kind == 1 and b"large" in payload
                self.windows.setdefault(stream, self.initial)
                out.append(frame(1, 4, stream, HEAD))
                if large or LARGE and stream == 1:
                    self.waiting[stream] = LARGE
                else:
                    out.append(frame(0, 1, stream, b"x" * 13))
                    self.windows.pop(stream, None)
        self.buffer = buffer[start:]
        for stream, left in list(self.waiting.items()):
            while left and (room := min(left, 16384, self.windows[0], self.windows[stream])) > 0:
                left -= room
                self.windows[0] -= room
                self.windows[stream] -= room
                out.append(frame(0, 0 if left else 1, stream, CHUNK[:room]))
            if left:
                self.waiting[stream] = left
            else:
                del self.waiting[stream]
        if out:
            self.transport.write(b"".join(out))

async def main():
    context = None
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2])
        context.set_alpn_protocols(["h2"])
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

try:
    import uvloop
except ImportError:
    asyncio.run(main())
else:
    uvloop.run(main())
"""


@dataclass(slots=True)
class Row:
    """One client under one load: CPU and wall microseconds of each round, per request or per MiB."""

    load: str
    client: str
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def clients(context: ssl.SSLContext | None) -> dict[str, Callable[[], Any]]:
    """The clients that this environment has, by name; without TLS with prior knowledge."""
    options: dict[str, Any] = {"http1": context is not None, "http2": True}
    if context is not None:
        options["verify"] = context
    found: dict[str, Callable[[], Any]] = {
        "holdwire": lambda: httpx.AsyncClient(transport=holdwire.ResilientTransport(**options), timeout=60),
        "httpx": lambda: httpx.AsyncClient(timeout=60, **options),
    }
    try:
        import httpx2  # noqa: PLC0415 - optional
    except ImportError:
        pass
    else:
        found["httpx2"] = lambda: httpx2.AsyncClient(timeout=60, **options)
    return found


async def small(client: Any, url: str, concurrency: int, requests: int) -> tuple[float, float]:  # noqa: ANN401 - of one of several libraries
    """CPU and wall microseconds per request."""
    share = max(requests // concurrency, 1)

    async def worker(count: int) -> None:
        for _ in range(count):
            response = await client.get(url)
            assert response.status_code == 200
            assert response.http_version == "HTTP/2"

    await worker(1)
    cpu, wall = time.process_time(), time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(concurrency):
            group.start_soon(worker, share)
    count = share * concurrency
    return (time.process_time() - cpu) / count * 1e6, (time.perf_counter() - wall) / count * 1e6


async def large(client: Any, url: str, size: int) -> tuple[float, float]:  # noqa: ANN401 - of one of several libraries
    """CPU and wall microseconds per MiB of a body that is read as it arrives."""
    cpu, wall = time.process_time(), time.perf_counter()
    received = 0
    async with client.stream("GET", url) as response:
        async for piece in response.aiter_raw():
            received += len(piece)
    assert received == size
    mib = size / 2**20
    return (time.process_time() - cpu) / mib * 1e6, (time.perf_counter() - wall) / mib * 1e6


async def measure(port: int, context: ssl.SSLContext | None, body: int, arguments: argparse.Namespace) -> list[Row]:
    """All clients under each load, interleaved: a body of so many MiB, or small requests if it is 0."""
    url = f"http{'s' if context else ''}://localhost:{port}/"
    made = clients(context)
    size = body * 2**20
    rows: dict[tuple[str, str], Row] = {}
    for _ in range(arguments.rounds):
        for concurrency in () if size else arguments.concurrency:
            for name, make in made.items():
                load = f"GET x{concurrency}"
                async with make() as client:
                    cpu, wall = await small(client, url, concurrency, arguments.requests)
                row = rows.setdefault((load, name), Row(load, name))
                row.cpu.append(round(cpu, 1))
                row.wall.append(round(wall, 1))
        for name, make in made.items() if size else ():
            load = f"{body} MiB, per MiB"
            async with make() as client:
                cpu, wall = await large(client, url, size)
            row = rows.setdefault((load, name), Row(load, name))
            row.cpu.append(round(cpu, 1))
            row.wall.append(round(wall, 1))
    return list(rows.values())


def table(rows: list[Row]) -> str:
    """A plain table with how many times the CPU of holdwire each client takes."""
    lines = [f"{'load':<20}{'client':<12}{'CPU us min':>11}{'median':>9}{'wall':>9}{'times holdwire':>16}"]
    for load in dict.fromkeys(row.load for row in rows):
        group = [row for row in rows if row.load == load]
        ours = statistics.median(next(row for row in group if row.client == "holdwire").cpu)
        for row in group:
            median = statistics.median(row.cpu)
            lines.append(
                f"{load:<20}{row.client:<12}{min(row.cpu):>11.0f}{median:>9.0f}"
                f"{statistics.median(row.wall):>9.0f}{median / ours:>16.2f}"
            )
    return "\n".join(lines)


def run(body: int, arguments: argparse.Namespace) -> list[Row]:
    """One server, all clients; ``body`` as in ``measure``."""
    command = [sys.executable, "-c", _SERVER, str(body * 2**20)]
    context: ssl.SSLContext | None = None
    with contextlib.ExitStack() as stack:
        if arguments.tls:
            identity = self_signed()
            context = identity.client_context()
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            command.append(str(identity.write_server(Path(folder, "server.pem"))))
        server = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert server.stdout is not None
        port = int(server.stdout.readline())
        backend = "trio" if arguments.backend == "trio" else "asyncio"
        options: dict[str, Any] = {"use_uvloop": True} if arguments.backend == "uvloop" else {}
        try:
            return anyio.run(measure, port, context, body, arguments, backend=backend, backend_options=options)
        finally:
            server.terminate()


def main() -> int:
    """Run the loads and print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="asyncio", choices=["asyncio", "uvloop", "trio"])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--requests", type=int, default=600, help="requests of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--body", type=int, default=64, help="MiB of the large body")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = run(0, arguments) + (run(arguments.body, arguments) if arguments.body else [])
    if arguments.json:
        about = {"python": platform.python_version(), "machine": platform.platform(), "backend": arguments.backend}
        print(json.dumps({"about": about, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        print(f"{arguments.backend}, Python {platform.python_version()}, {platform.platform()}")
        print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
