"""CPU and wall time per request of several clients against one local server, interleaved in one run.

Absolute times drift on any machine; the ratios between clients that ran interleaved hold. The server runs in a process
of its own and is not the bottleneck. Run it with ``nox -s bench`` or ``python -m benchmarks.per_request --help``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx

import holdwire
from holdwire.testing.certificates import self_signed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator

    from holdwire.testing.certificates import Identity

_SERVER = r"""
import asyncio, ssl, sys

BODY = b"x" * int(sys.argv[1])
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Tue, 24 Nov 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
) + BODY

class Answering(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer, self.skip = transport, b"", 0

    def data_received(self, data):
        if self.skip:
            taken = min(self.skip, len(data))
            self.skip -= taken
            data = data[taken:]
            if not self.skip:
                self.transport.write(ANSWER)
        self.buffer += data
        while not self.skip and b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            length = 0
            for line in head.lower().split(b"\r\n")[1:]:
                if line.startswith(b"content-length:"):
                    length = int(line[15:])
            if length > len(self.buffer):
                self.skip, self.buffer = length - len(self.buffer), b""
            else:
                self.buffer = self.buffer[length:]
                self.transport.write(ANSWER)

async def main():
    context = None
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2])
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, ssl=context, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

try:
    import uvloop
except ImportError:
    asyncio.run(main())
else:
    uvloop.run(main())
"""


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of load: a method, a body in bytes each way, requests at a time, requests in a round."""

    name: str
    concurrency: int
    requests: int
    upload: int = 0
    download: int = 13


@dataclass(frozen=True, slots=True)
class Row:
    """One client under one load: microseconds per request, over the rounds."""

    work: str
    tls: bool
    client: str
    cpu: list[float]
    wall: list[float]


class FromMemory(httpx.AsyncBaseTransport):
    """The floor: what httpx itself costs above any transport."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        del request
        return httpx.Response(200, headers=[(b"content-length", b"13")], stream=httpx.ByteStream(b"x" * 13))


def clients(backend: str, context: ssl.SSLContext | None) -> dict[str, Callable[[], Any]]:
    """The clients that this environment has, by name."""
    verify = context if context is not None else True
    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)
    found: dict[str, Callable[[], Any]] = {
        "floor (from memory)": lambda: httpx.AsyncClient(transport=FromMemory()),
        "holdwire": lambda: httpx.AsyncClient(
            transport=holdwire.ResilientTransport(verify=verify, limits=limits), timeout=60
        ),
        "httpx": lambda: httpx.AsyncClient(verify=verify, limits=limits, timeout=60),
    }
    try:
        import httpx2  # noqa: PLC0415 - optional
    except ImportError:
        pass
    else:
        limits2 = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)
        found["httpx2"] = lambda: httpx2.AsyncClient(verify=verify, limits=limits2, timeout=60)
    if backend == "asyncio":
        try:
            import httpx_aiohttp  # noqa: PLC0415 - optional
        except ImportError:
            pass
        else:
            found["httpx-aiohttp"] = lambda: httpx_aiohttp.HttpxAiohttpClient(verify=verify, limits=limits, timeout=60)
    return found


async def one_round(
    client: Any,  # noqa: ANN401 - of one of several libraries
    url: str,
    work: Work,
) -> tuple[float, float]:
    """CPU and wall microseconds per request."""
    body = b"u" * work.upload
    share = max(work.requests // work.concurrency, 1)

    async def worker(count: int) -> None:
        for _ in range(count):
            response = await (client.post(url, content=body) if body else client.get(url))
            assert response.status_code == 200

    async with anyio.create_task_group() as group:  # open the connections
        for _ in range(work.concurrency):
            group.start_soon(worker, 1)
    cpu, wall = time.process_time(), time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(work.concurrency):
            group.start_soon(worker, share)
    count = share * work.concurrency
    return (time.process_time() - cpu) / count * 1e6, (time.perf_counter() - wall) / count * 1e6


async def measure(work: Work, url: str, context: ssl.SSLContext | None, rounds: int, backend: str) -> list[Row]:
    """All clients under one load, interleaved."""
    made = clients(backend, context)
    rows = {name: Row(work.name, context is not None, name, [], []) for name in made}
    for _ in range(rounds):
        for name, make in made.items():
            async with make() as client:
                cpu, wall = await one_round(client, url, work)
            rows[name].cpu.append(round(cpu, 1))
            rows[name].wall.append(round(wall, 1))
    return list(rows.values())


def table(rows: list[Row]) -> str:
    """A plain table with the ratio of holdwire to each other client."""
    lines = [f"{'load':<22}{'client':<22}{'CPU us min':>11}{'median':>9}{'max':>9}{'wall':>9}{'holdwire/it':>13}"]
    for work in dict.fromkeys((row.work, row.tls) for row in rows):
        group = [row for row in rows if (row.work, row.tls) == work]
        ours = statistics.median(next(row for row in group if row.client == "holdwire").cpu)
        for row in group:
            median = statistics.median(row.cpu)
            lines.append(
                f"{row.work + (' tls' if row.tls else ''):<22}{row.client:<22}{min(row.cpu):>11.0f}{median:>9.0f}"
                f"{max(row.cpu):>9.0f}{statistics.median(row.wall):>9.0f}{ours / median:>13.2f}"
            )
    return "\n".join(lines)


@contextmanager
def serving(download: int, identity: Identity | None) -> Generator[str]:
    """The server, in a process of its own; gives its URL."""
    with tempfile.TemporaryDirectory() as folder:
        pem = [] if identity is None else [str(identity.write_server(Path(folder, "server.pem")))]
        command = [sys.executable, "-c", _SERVER, str(download), *pem]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                yield f"{'http' if identity is None else 'https'}://127.0.0.1:{int(server.stdout.readline())}/"
            finally:
                server.terminate()


def main() -> int:
    """Run the loads and print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="asyncio", choices=["asyncio", "uvloop", "trio"])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--requests", type=int, default=600, help="requests of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--upload", type=int, default=0, help="bytes of each request's body")
    parser.add_argument("--download", type=int, default=13, help="bytes of each response's body")
    parser.add_argument("--only", choices=["plain", "tls"], help="by default both")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for security in ("plain", "tls") if arguments.only is None else (arguments.only,):
        identity = self_signed() if security == "tls" else None
        with serving(arguments.download, identity) as url:
            for concurrency in arguments.concurrency:
                work = Work(
                    f"{'POST' if arguments.upload else 'GET'} x{concurrency}",
                    concurrency,
                    arguments.requests,
                    arguments.upload,
                    arguments.download,
                )
                context = None if identity is None else identity.client_context()
                backend = "trio" if arguments.backend == "trio" else "asyncio"
                options: dict[str, Any] = {"use_uvloop": True} if arguments.backend == "uvloop" else {}
                rows += anyio.run(
                    measure, work, url, context, arguments.rounds, backend, backend=backend, backend_options=options
                )
    if arguments.json:
        about = {"python": platform.python_version(), "machine": platform.platform(), "backend": arguments.backend}
        print(json.dumps({"about": about, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        print(f"{arguments.backend}, Python {platform.python_version()}, {platform.platform()}")
        print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
