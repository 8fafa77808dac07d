"""Receiving through TLS: CPU per GiB beside anyio's TLSStream, slices interleaved in one run; the ratios hold.

``receive`` is anyio's method, with its checkpoint in each call; ``read`` is what holdwire's HTTP calls; ``blocking`` is
the ssl module alone, on a blocking socket: no event loop can be below it by much.

The sender is a process of its own, so that its CPU does not count. For options: ``benchmarks/tls_receive.py --help``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.streams.tls import TLSStream as AnyioTLSStream

from holdwire.net.stream import SocketStream
from holdwire.testing.certificates import self_signed
from holdwire.tls.stream import TLSStream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    Send = Callable[[bytes], Awaitable[object]]
    Receive = Callable[[int], Awaitable[bytes]]


_SENDER = r"""
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
block = bytes(int(sys.argv[2]))

def serve(sock):
    with context.wrap_socket(sock, server_side=True) as tls:
        while size := int.from_bytes(tls.recv(8), "big"):
            while size > 0:
                tls.sendall(block[:size])
                size -= len(block)

while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


async def _ours(port: int, context: ssl.SSLContext) -> TLSStream:
    sock = socket.create_connection(("127.0.0.1", port))
    return await TLSStream.connect(
        SocketStream(sock, host="localhost", port=port), context=context, server_hostname="localhost"
    )


async def _anyio(port: int, context: ssl.SSLContext) -> AnyioTLSStream:
    lower = await anyio.connect_tcp("127.0.0.1", port)
    return await AnyioTLSStream.wrap(lower, hostname="localhost", ssl_context=context)


async def _slice(send: Send, receive: Receive, size: int, chunk: int) -> tuple[float, float]:
    """CPU seconds and wall seconds of this process for ``size`` bytes."""
    cpu, wall = time.process_time(), time.perf_counter()
    await send(size.to_bytes(8, "big"))
    left = size
    while left:
        left -= len(await receive(chunk))
    return time.process_time() - cpu, time.perf_counter() - wall


async def _run(
    port: int, context: ssl.SSLContext, size: int, slices: int, chunk: int
) -> dict[str, list[tuple[float, float]]]:
    theirs, ours = await _anyio(port, context), await _ours(port, context)
    plain = socket.create_connection(("127.0.0.1", port))
    blocking = context.wrap_socket(plain, server_hostname="localhost")

    async def send(data: bytes) -> None:
        blocking.sendall(data)

    async def receive(max_bytes: int) -> bytes:
        return blocking.recv(max_bytes)

    stacks: dict[str, tuple[Send, Receive]] = {
        "anyio": (theirs.send, theirs.receive),
        "receive": (ours.send, ours.receive),
        "read": (ours.send, ours.read),
        "blocking": (send, receive),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in stacks}
    for number in range(slices + 1):
        for name, calls in stacks.items():
            taken = await _slice(*calls, size, chunk)
            if number:  # the first slice warms up
                found[name].append(taken)
    blocking.close()
    for stream in (theirs, ours):
        with contextlib.suppress(Exception):
            await stream.aclose()
    return found


def _measure(loop: str, size: int, slices: int, block: int, chunk: int) -> dict[str, Any]:
    identity = self_signed()
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "server.pem"
        pem.write_bytes(identity.key + identity.certificate)
        command = [sys.executable, "-c", _SENDER, str(pem), str(block)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sender:
            try:
                assert sender.stdout is not None
                port = int(sender.stdout.readline())
                options = {"use_uvloop": True} if loop == "uvloop" else {}
                found = anyio.run(
                    _run,
                    port,
                    identity.client_context(),
                    size,
                    slices,
                    chunk,
                    backend="trio" if loop == "trio" else "asyncio",
                    backend_options=options,
                )
            finally:
                sender.kill()
    gib = size / 2**30
    result: dict[str, Any] = {"loop": loop}
    for name, taken in found.items():
        result[name] = {
            "cpu_s_per_gib": round(statistics.median(cpu for cpu, _ in taken) / gib, 3),
            "mib_per_s": round(size / 2**20 / statistics.median(wall for _, wall in taken)),
        }
    for name in ("receive", "read", "blocking"):
        result[name]["ratio"] = round(result[name]["cpu_s_per_gib"] / result["anyio"]["cpu_s_per_gib"], 2)
    return result


def main() -> None:
    """Print one line of JSON for each event loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loops", default="asyncio,uvloop,trio", help="which event loops (default: %(default)s)")
    parser.add_argument("--mib", type=int, default=32, help="MiB in a slice (default: %(default)s)")
    parser.add_argument("--slices", type=int, default=15, help="slices for each stream (default: %(default)s)")
    parser.add_argument(
        "--block", type=int, default=65_536, help="bytes the sender sends at once (default: %(default)s)"
    )
    parser.add_argument("--chunk", type=int, default=65_536, help="bytes asked for at once (default: %(default)s)")
    arguments = parser.parse_args()
    for loop in arguments.loops.split(","):
        figures = _measure(loop, arguments.mib * 2**20, arguments.slices, arguments.block, arguments.chunk)
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
