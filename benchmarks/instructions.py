"""Instructions per request that goes well, counted by valgrind: what timing on a busy machine cannot tell.

Each source tree runs a few and then more requests on one kept-alive connection; the difference, divided, is the cost of
one. The server is a process of its own and is not counted.

    git worktree add /tmp/before REVISION
    python benchmarks/instructions.py /tmp/before/src src
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

FEW: Final = 10
COUNTED: Final = re.compile(rb"Collected : (\d+)")

SERVER: Final = r"""
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b""
    while piece := peer.recv(65536):
        data += piece
        while b"\r\n\r\n" in data:
            data = data.partition(b"\r\n\r\n")[2]
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
"""
CLIENT: Final = r"""
import asyncio, sys
import httpx, holdwire

async def main():
    async with holdwire.ResilientTransport() as transport:
        for _ in range(int(sys.argv[1])):
            response = await transport.handle_async_request(httpx.Request("GET", sys.argv[2]))
            async for _ in response.stream:
                pass
            await response.aclose()

asyncio.run(main())
"""


def instructions(source: Path, requests: int, url: str) -> int:
    """How many instructions a process executes that makes so many requests."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    environment = os.environ | {"PYTHONPATH": str(source), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    client = [sys.executable, "-c", CLIENT, str(requests), url]
    done = subprocess.run([*command, *client], env=environment, capture_output=True, check=True)
    found = COUNTED.search(done.stderr)
    if found is None:
        raise RuntimeError(done.stderr.decode())
    return int(found[1])


def main() -> None:
    """Compare source trees; the first one is 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="+", help="a folder that holds the package holdwire")
    parser.add_argument("--requests", type=int, default=100)
    arguments = parser.parse_args()
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/"
        first: float | None = None
        try:
            for source in arguments.source:
                few = instructions(source, FEW, url)
                each = (instructions(source, FEW + arguments.requests, url) - few) / arguments.requests
                first = first or each
                print(f"{each:>12,.0f}  {each / first:.3f}  {source}", flush=True)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
