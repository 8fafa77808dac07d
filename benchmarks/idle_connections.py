"""What idle TLS connections cost: 10,000 of them in one process, each with a 64-byte heartbeat every 30 s.

Run it with ``nox -s bench -- idle_connections``, or ``python -m benchmarks.idle_connections --loop trio``. A second
process serves. Prints the CPU share of one core over whole intervals, and the resident memory per connection after its
first beat, the task that reads it included. Exits with 1 if the goals (6 % of a core, 45 KB) are missed. Where the
limit of open files allows fewer connections, the most possible are made, and that is said.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import resource
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio

import holdwire
from holdwire.net.ticker import current_ticker
from holdwire.testing import Identity, self_signed

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

CPU_GOAL: Final = 6.0
MEMORY_GOAL: Final = 45.0
_SPARE_FILES: Final = 200
_AT_ONCE: Final = 50
_BEAT: Final = b"." * 63 + b"\n"
_LOOPS: Final[dict[str, dict[str, Any]]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


def serve(context_of: bytes, told: Connection) -> None:
    """The other process: echoes beats."""
    import uvloop  # noqa: PLC0415 - only this process needs it

    certificate, key = context_of.split(b"\0")
    identity = Identity(certificate=certificate, key=key, authority=b"")

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1024):
                writer.write(data)
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.transport.abort()

    async def main() -> None:
        server = await asyncio.start_server(
            echo, "127.0.0.1", 0, ssl=identity.server_context(), backlog=4096, limit=1024, ssl_handshake_timeout=120
        )
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


def resident() -> int:
    """Resident memory of this process in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def read(stream: holdwire.Stream) -> None:
    """What a user's task does: wait for bytes."""
    async for _ in stream:
        pass


async def measure(port: int, context: ssl.SSLContext, options: argparse.Namespace) -> bool:
    """Open the connections, let them beat, and report; whether the goals are met."""
    heartbeat = holdwire.Heartbeat(interval=options.interval, timeout=20, probe=_BEAT)
    streams: list[holdwire.Stream] = []
    limiter = anyio.CapacityLimiter(_AT_ONCE)
    url = f"tls://127.0.0.1:{port}"

    async with anyio.create_task_group() as readers:

        async def open_one() -> None:
            async with limiter:
                stream = await holdwire.connect(url, tls=context, heartbeat=heartbeat, connect_timeout=120)
            streams.append(stream)
            readers.start_soon(read, stream)

        for _ in range(20):  # what the process needs once
            await open_one()
        before, began = resident(), time.monotonic()
        async with anyio.create_task_group() as group:
            for _ in range(options.connections - 20):
                group.start_soon(open_one)
        opened = time.monotonic() - began
        made = len(streams) - 20
        after_handshake = (resident() - before) / made / 1024
        while any(stream._beat.answered == 0 for stream in streams):  # type: ignore[union-attr]  # noqa: ASYNC110, SLF001
            await anyio.sleep(1)
        after_beat = (resident() - before) / made / 1024
        ticks, probes = current_ticker().ticks, sum(stream._beat.sent for stream in streams)  # type: ignore[union-attr]  # noqa: SLF001
        cpu, wall = time.process_time(), time.monotonic()
        await anyio.sleep(options.interval * options.rounds)
        share = (time.process_time() - cpu) / (time.monotonic() - wall) * 100
        sent = sum(stream._beat.sent for stream in streams) - probes  # type: ignore[union-attr]  # noqa: SLF001
        alive = sum(stream.failure is None for stream in streams)
        print(f"{options.loop}: {len(streams)} TLS connections opened in {opened:.0f} s, {alive} alive at the end")
        print(f"  memory per connection: {after_handshake:.1f} KB after the handshake, {after_beat:.1f} after a beat")
        ticks = current_ticker().ticks - ticks
        print(f"  CPU: {share:.2f} % of a core; {sent} beats of {len(_BEAT)} bytes in {ticks} ticks of the timer")
        readers.cancel_scope.cancel()
    for stream in streams:
        stream.abort()
    met = share <= CPU_GOAL and after_beat <= MEMORY_GOAL and alive == len(streams)
    print(f"  goals ({CPU_GOAL:.0f} % and {MEMORY_GOAL:.0f} KB): {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    """Run it for one loop, or for each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", choices=_LOOPS, default="asyncio")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--interval", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.connections > hard - _SPARE_FILES:
        options.connections = hard - _SPARE_FILES
        print(f"the limit of open files is {hard}: making {options.connections} connections")
    identity = self_signed("127.0.0.1")
    here, there = multiprocessing.get_context("spawn").Pipe(duplex=False)
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(identity.certificate + b"\0" + identity.key, there), daemon=True
    )
    server.start()
    try:
        return int(not anyio.run(measure, here.recv(), identity.client_context(), options, **_LOOPS[options.loop]))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    sys.exit(main())
