"""Memory: what an idle connection of the pool costs, plain, TLS and HTTP/2, and growth over many requests.

Each number comes from a process of its own: resident memory with so many idle connections less that before them,
beside httpx's own transport. Growth is counted in Python objects and in resident memory between a tenth and the end of
the requests. Run it with ``nox -s bench -- memory``; ``--requests 1000000`` takes ten minutes.
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
from pathlib import Path
from typing import Any, Final

import httpx

import holdwire
from benchmarks.servers import serving
from holdwire.testing.certificates import self_signed

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


async def _growth(name: str, url: str, count: int) -> dict[str, float]:
    async with _client(name, http2=False) as client:
        for _ in range(count // 10):
            await client.get(url)
        resident, objects = _resident(), len(gc.get_objects())
        for _ in range(count - count // 10):
            await client.get(url)
        return {"KiB": (_resident() - resident) / 1024, "objects": len(gc.get_objects()) - objects}


def _apart(*arguments: str) -> str:
    """Run a measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--inside", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _inside(what: str, name: str, url: str, count: str) -> None:
    if what == "growth":
        print(json.dumps(asyncio.run(_growth(name, url, int(count)))))
    else:
        print(asyncio.run(_idle(name, url, int(count), http2=what == "h2")))


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--inside", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        _inside(*options.inside)
        return 0
    identity = self_signed()
    with serving(identity) as urls:
        print(f"{'KiB per idle connection':<28}{'holdwire':>10}{'httpx':>10}")
        for what in ("plain", "tls", "h2"):
            found = [
                float(_apart(what, name, urls[what] + "/", str(options.connections))) for name in ("holdwire", "httpx")
            ]
            print(f"{what:<28}{found[0]:>10.1f}{found[1]:>10.1f}", flush=True)
        grown = json.loads(_apart("growth", "holdwire", urls["plain"] + "/", str(options.requests)))
        print(f"growth over {options.requests * 9 // 10} requests: {grown['KiB']:.0f} KiB, {grown['objects']} objects")
    return 0


if __name__ == "__main__":
    sys.exit(main())
