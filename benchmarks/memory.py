"""Memory: what an idle connection of the pool costs, plain, TLS and HTTP/2, and growth over many requests.

Each number comes from a process of its own: resident memory with so many idle connections less that before them,
beside httpx's own transport. Growth is counted in Python objects and in resident memory at each tenth of the requests:
what grew up to the first is warming up, what grows from there on is a leak. ``--minutes`` bounds it; how many requests
there were is said. Run it with ``nox -s bench -- memory``; ``--requests 1000000`` takes six minutes or so.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import httpx

import holdwire
from benchmarks.servers import serving
from holdwire.testing.certificates import self_signed

_PARTS: Final = 10
_TASKS: Final = 10
_LIMITS: Final = httpx.Limits(max_connections=5000, max_keepalive_connections=5000, keepalive_expiry=600)


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _client(name: str, *, http2: bool) -> httpx.AsyncClient:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    options: dict[str, Any] = {"verify": context, "http2": http2, "limits": _LIMITS}
    transport = holdwire.ResilientTransport(**options) if name == "holdwire" else httpx.AsyncHTTPTransport(**options)
    return httpx.AsyncClient(transport=transport, timeout=60)


async def _idle(name: str, url: str, count: int, *, http2: bool) -> float:
    """KiB per idle connection, each to an address of its own: on HTTP/2 one address needs one connection only."""
    async with _client(name, http2=http2) as client:

        async def get(number: int) -> None:
            host = f"127.1.{number // 250}.{number % 250 + 1}"
            assert (await client.get(url.replace("127.0.0.1", host))).status_code == 200

        for number in range(20):
            await get(number)
        before = _resident()
        for number in range(20, count + 20):
            await get(number)
        return (_resident() - before) / count / 1024


async def _growth(name: str, url: str, count: int, seconds: float) -> list[tuple[int, int, int]]:
    """Requests so far, KiB resident and objects, at every tenth of ``count``, as far as ``seconds`` allow."""
    end = time.monotonic() + seconds
    found: list[tuple[int, int, int]] = []
    async with _client(name, http2=False) as client:

        async def work(share: int) -> None:
            for _ in range(share):
                assert (await client.get(url)).status_code == 200

        while len(found) < _PARTS and time.monotonic() < end:
            async with asyncio.TaskGroup() as group:
                for _ in range(_TASKS):
                    group.create_task(work(count // _PARTS // _TASKS))
            found.append(((len(found) + 1) * (count // _PARTS), _resident() // 1024, len(gc.get_objects())))
    return found


def _apart(*arguments: str) -> str:
    """Run a measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--inside", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _inside(what: str, name: str, url: str, count: str, seconds: str) -> None:
    if what == "growth":
        print(json.dumps(asyncio.run(_growth(name, url, int(count), float(seconds)))))
    else:
        print(asyncio.run(_idle(name, url, int(count), http2=what == "h2")))


def _print_idle(urls: dict[str, str], connections: int) -> None:
    print(f"{'KiB per idle connection':<28}{'holdwire':>10}{'httpx':>10}")
    for what in ("plain", "tls", "h2"):
        found = [float(_apart(what, name, urls[what] + "/", str(connections), "0")) for name in ("holdwire", "httpx")]
        print(f"{what:<28}{found[0]:>10.1f}{found[1]:>10.1f}", flush=True)


def _print_growth(url: str, count: int, minutes: float) -> None:
    found = json.loads(_apart("growth", "holdwire", url, str(count), str(60 * minutes)))
    print(f"{'requests':<28}{'KiB resident':>14}{'objects':>10}")
    for requests, kib, objects in found:
        print(f"{requests:<28}{kib:>14}{objects:>10}")
    first, last = found[0], found[-1]
    print(f"growth over {last[0] - first[0]} requests: {last[1] - first[1]} KiB, {last[2] - first[2]} objects")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=1000, help="0 leaves them out")
    parser.add_argument("--requests", type=int, default=100_000, help="0 leaves them out")
    parser.add_argument("--minutes", type=float, default=10.0, help="for the requests, at most about so many")
    parser.add_argument("--inside", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        _inside(*options.inside)
        return 0
    with serving(self_signed()) as urls:
        if options.connections:
            _print_idle(urls, options.connections)
        if options.requests:
            _print_growth(urls["plain"] + "/", options.requests, options.minutes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
