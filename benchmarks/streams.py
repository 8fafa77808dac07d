"""Raw streams beside asyncio's and anyio's: ping-pong on one connection, and receiving through TLS.

``receive`` is anyio's method, with its checkpoint in each call; ``read`` is what holdwire's HTTP calls; ``ssl alone``
is the ssl module on a blocking socket: no event loop can be below it by much. The peer is a process of its own, so
that its CPU does not count. Run by ``compare``, or alone: ``python -m benchmarks.streams --help``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
from anyio.streams.tls import TLSStream as AnyioTLSStream

import holdwire
from benchmarks import report
from holdwire.net.stream import SocketStream
from holdwire.testing.certificates import self_signed
from holdwire.tls.stream import TLSStream

if TYPE_CHECKING:
    import ssl

    from holdwire.testing.certificates import Identity

PING: Final = "ping-pong 64 B"
PING_TLS: Final = "ping-pong 64 B TLS"
RECEIVE: Final = "receive TLS"
LOADS: Final = (PING, PING_TLS, RECEIVE)
MIB: Final = 2**20
_LEAST_ROUNDS: Final = 5

Send = Callable[[bytes], Awaitable[object]]
Receive = Callable[[int], Awaitable[bytes]]

_PEER: Final = r"""
import contextlib, socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
block = bytes(65536)

def serve(sock, secured):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if secured:
        sock = context.wrap_socket(sock, server_side=True)
    with sock, contextlib.suppress(ConnectionResetError):  # which is how the client ends
        while data := sock.recv(65536):
            if data[:1] == b"p":
                sock.sendall(data)
                continue
            size = int.from_bytes(data[1:8], "big")
            while size > 0:
                sock.sendall(block[:size])
                size -= len(block)

def accept(listener, secured):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0], secured), daemon=True).start()

listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*[listener.getsockname()[1] for listener in listeners], flush=True)
threading.Thread(target=accept, args=(listeners[0], False), daemon=True).start()
accept(listeners[1], True)
"""


class Stack(NamedTuple):
    """One way to send and receive."""

    name: str
    send: Send
    receive: Receive


@dataclass(slots=True)
class Found:
    """One stack under one load: microseconds per round trip or MiB, one number for each round."""

    load: str
    unit: str
    client: str
    cpu: list[float]
    wall: list[float]


async def _ping(stack: Stack, count: int) -> int:
    data = b"p" * 64
    for _ in range(count):
        await stack.send(data)
        left = 64
        while left:
            left -= len(await stack.receive(65_536))
    return count


async def _receive(stack: Stack, mib: int) -> int:
    await stack.send(b"r" + (mib * MIB).to_bytes(7, "big"))
    left = mib * MIB
    while left:
        left -= len(await stack.receive(65_536))
    return mib


async def _asyncio_stack(port: int, context: ssl.SSLContext | None, closing: contextlib.AsyncExitStack) -> Stack:
    name = None if context is None else "localhost"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    closing.callback(writer.transport.abort)

    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return Stack("asyncio streams", send, reader.read)


async def _plain(port: int, loop: str, closing: contextlib.AsyncExitStack) -> list[Stack]:
    ours = await closing.enter_async_context(holdwire.connect(f"tcp://127.0.0.1:{port}"))
    theirs = await closing.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
    wire = SocketStream(socket.create_connection(("127.0.0.1", port)), host="localhost", port=port)
    closing.callback(wire.abort)
    stacks = [
        Stack("holdwire", ours.send, ours.receive),
        Stack("holdwire read", wire.write, wire.read),
        Stack("anyio", theirs.send, theirs.receive),
    ]
    if loop != "trio":
        stacks.append(await _asyncio_stack(port, None, closing))
    return stacks


async def _tls(port: int, loop: str, context: ssl.SSLContext, closing: contextlib.AsyncExitStack) -> list[Stack]:
    sock = socket.create_connection(("127.0.0.1", port))
    wire = SocketStream(sock, host="localhost", port=port)
    ours = await TLSStream.connect(wire, context=context, server_hostname="localhost")
    closing.callback(ours.abort)
    lower = await anyio.connect_tcp("127.0.0.1", port)
    closing.push_async_callback(lower.aclose)
    theirs = await AnyioTLSStream.wrap(lower, hostname="localhost", ssl_context=context)
    plain = closing.enter_context(socket.create_connection(("127.0.0.1", port)))
    blocking = closing.enter_context(context.wrap_socket(plain, server_hostname="localhost"))

    async def send(data: bytes) -> None:
        blocking.sendall(data)

    async def receive(max_bytes: int) -> bytes:
        return blocking.recv(max_bytes)

    stacks = [
        Stack("holdwire receive", ours.send, ours.receive),
        Stack("holdwire read", ours.send, ours.read),
        Stack("anyio", theirs.send, theirs.receive),
        Stack("ssl alone", send, receive),
    ]
    if loop != "trio":
        stacks.append(await _asyncio_stack(port, context, closing))
    return stacks


async def _measure(
    plain: int, secured: int, loop: str, context: ssl.SSLContext, rounds: int, until: float, pings: int, mib: int
) -> list[Found]:
    found: list[Found] = []
    began = time.monotonic()
    async with contextlib.AsyncExitStack() as closing:
        tls = await _tls(secured, loop, context, closing)
        for load, unit, stacks, work, count in (
            (PING, "round trip", await _plain(plain, loop, closing), _ping, pings),
            (PING_TLS, "round trip", tls, _ping, pings),
            (RECEIVE, "MiB", tls, _receive, mib),
        ):
            rows = {stack.name: Found(load, unit, stack.name, [], []) for stack in stacks}
            over = began + (until - began) * (LOADS.index(load) + 1) / len(LOADS)
            for number in range(rounds + 1):
                if number > _LEAST_ROUNDS and time.monotonic() > over:
                    break
                for stack in stacks:
                    gc.collect()
                    cpu, wall = time.process_time(), time.perf_counter()
                    units = await work(stack, count)
                    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                    if number:  # the first round warms up
                        rows[stack.name].cpu.append(round(cpu / units * 1e6, 2))
                        rows[stack.name].wall.append(round(wall / units * 1e6, 2))
            found += rows.values()
    return found


def measure(
    loop: str,
    identity: Identity,
    rounds: int,
    until: float = float("inf"),
    quick: bool = False,  # noqa: FBT001, FBT002 - as on the command line
) -> list[tuple[str, str, str, list[float], list[float]]]:
    """Load, unit, stack, CPU and wall microseconds, for all loads on one loop; it is to be over at ``until``."""
    with tempfile.TemporaryDirectory() as folder:
        pem = identity.write_server(Path(folder) / "server.pem")
        command = [sys.executable, "-c", _PEER, str(pem)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as peer:
            try:
                assert peer.stdout is not None
                plain, secured = map(int, peer.stdout.readline().split())
                found = anyio.run(
                    _measure,
                    plain,
                    secured,
                    loop,
                    identity.client_context(),
                    rounds,
                    until,
                    300 if quick else 1000,
                    8 if quick else 32,
                    backend="trio" if loop == "trio" else "asyncio",
                    backend_options={"use_uvloop": True} if loop == "uvloop" else {},
                )
            finally:
                peer.kill()
    return [(row.load, row.unit, row.client, row.cpu, row.wall) for row in found]


def main() -> None:
    """Print a table for each event loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loops", nargs="+", default=["asyncio", "uvloop", "trio"])
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    for loop in options.loops:
        rows = measure(loop, self_signed(), options.rounds, quick=options.quick)
        print(report.text([{"loop": loop, **asdict(Found(*row))} for row in rows]), flush=True)


if __name__ == "__main__":
    main()
