"""All clients under all loads in one run, interleaved: CPU and wall time per request, and what it says about the goals.

Absolute times drift on any machine; the ratios between clients that took turns hold. Each load keeps its clients open
and lets them take turns round by round, in an order that changes; the medians over the rounds count. CPU is that of
this process, all threads; the server is another one. The loads share ``--minutes``, more of them for those with a
goal, and there are as many rounds as that allows, three at least. ``--docs`` writes docs/performance.md's generated
part, its plot and the raw numbers; ``--quick`` is for a look. See ``python -m benchmarks.compare --help``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import gc
import json
import os
import platform
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio

from benchmarks import report, streams
from benchmarks.peers import PEERS, Peer, available, versions
from benchmarks.servers import LARGE, PIECE_SIZE, PIECES, serving
from holdwire.testing.certificates import self_signed

_SMALL_BODY: Final = b"u" * 10_240
_LARGE_BODY: Final = b"u" * LARGE
_LOOPS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}

_LEAST_ROUNDS: Final = 3
_PATIENCE: Final = 60.0
"""Seconds for one client's round."""
_GOAL_WEIGHT: Final = 3.0
_GOALS: Final = {(goal.loop, goal.load) for goal in report.GOALS}

Once = Callable[[Peer, str], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of work: ``once`` does it, ``per`` units at a time, ``concurrency`` tasks, ``count`` times a round."""

    name: str
    server: str
    once: Once
    count: int
    concurrency: int = 1
    unit: str = "request"
    per: int = 1
    http2: bool = False
    streams: bool = False
    loops: tuple[str, ...] = ("asyncio", "uvloop", "trio")


@dataclass(slots=True)
class Row:
    """One client under one load: CPU and wall microseconds per unit, one number for each round."""

    loop: str
    load: str
    unit: str
    client: str
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


class Clock:
    """Deals out the time: to each load what is due to its weight of what is left, those behind it considered."""

    def __init__(self, minutes: float, weights: float) -> None:
        self._end = time.monotonic() + 60 * minutes
        self._weights = weights

    def until(self, weight: float) -> float:
        """The moment at which the next load, of ``weight``, is to be over."""
        now = time.monotonic()
        share = max(self._end - now, 0.0) * weight / self._weights
        self._weights -= weight
        return now + share


async def _get(peer: Peer, url: str) -> None:
    await peer.get(url + "/")


async def _connect(peer: Peer, url: str) -> None:
    await peer.get(url + "/", close=True)


async def _post(peer: Peer, url: str) -> None:
    await peer.post(url + "/", _SMALL_BODY)


async def _upload(peer: Peer, url: str) -> None:
    await peer.post(url + "/", _LARGE_BODY)


async def _download(peer: Peer, url: str) -> None:
    assert await peer.download(url + "/large") == LARGE


async def _stream(peer: Peer, url: str) -> None:
    assert await peer.download(url + "/stream") == PIECES * PIECE_SIZE


def loads(concurrency: list[int]) -> list[Load]:
    """Everything that is measured over HTTP."""
    found: list[Load] = []
    for server, suffix, http2 in (("plain", "", False), ("tls", " TLS", False), ("h2", " HTTP/2", True)):
        for at in concurrency:
            loops = tuple(loop for loop in _LOOPS if loop == "asyncio" or not (http2 or (loop == "uvloop" and at > 50)))
            found.append(Load(f"GET x{at}{suffix}", server, _get, max(300, at), at, http2=http2, loops=loops))
    asyncio_only = ("asyncio",)
    found += [
        Load("connect", "plain", _connect, 100, loops=asyncio_only),
        Load("connect TLS, full handshake", "full", _connect, 60),
        Load("connect TLS, resumed where the client can", "tls", _connect, 60),
        Load("POST 10 KiB", "upload", _post, 300, streams=False, loops=asyncio_only),
        Load("POST 10 KiB TLS", "upload-tls", _post, 200, loops=asyncio_only),
    ]
    found += [
        _large("64 MiB down", "plain", _download, loops=asyncio_only),
        _large("64 MiB down TLS", "tls", _download),
        _large("64 MiB down HTTP/2", "h2", _download, http2=True, loops=asyncio_only),
        _large("64 MiB up", "upload", _upload, loops=asyncio_only),
        _large("64 MiB up TLS", "upload-tls", _upload, loops=asyncio_only),
        Load("1 KiB pieces", "upload", _stream, 2, unit="piece", per=PIECES, streams=True, loops=asyncio_only),
        Load("1 KiB pieces TLS", "upload-tls", _stream, 2, unit="piece", per=PIECES, streams=True, loops=asyncio_only),
    ]
    return found


def _large(name: str, server: str, once: Once, *, http2: bool = False, loops: tuple[str, ...] = tuple(_LOOPS)) -> Load:
    return Load(name, server, once, 1, unit="MiB", per=LARGE // 2**20, http2=http2, streams=True, loops=loops)


async def _round(load: Load, peer: Peer, url: str, count: int) -> tuple[float, float]:
    """CPU and wall microseconds per unit."""
    share = max(count // load.concurrency, 1)

    async def work() -> None:
        for _ in range(share):
            await load.once(peer, url)

    gc.collect()  # nobody pays for what others left
    cpu, wall = time.process_time(), time.perf_counter()
    if load.concurrency == 1:
        await work()
    else:
        async with anyio.create_task_group() as group:
            for _ in range(load.concurrency):
                group.start_soon(work)
    units = share * load.concurrency * load.per
    return (time.process_time() - cpu) / units * 1e6, (time.perf_counter() - wall) / units * 1e6


async def _measure(
    load: Load,
    loop: str,
    peers: list[type[Peer]],
    url: str,
    authority: Path,
    until: float,
    options: argparse.Namespace,
) -> list[Row]:
    """All clients under one load on one loop, until the moment ``until`` if there is no time for all rounds."""
    made: dict[str, Peer] = {}
    rows: dict[str, Row] = {}
    try:
        for kind in peers:
            made[kind.name] = kind(authority, http2=load.http2)
            rows[kind.name] = Row(loop, load.name, load.unit, kind.name)
        count = load.count if not options.quick else max(load.concurrency, load.count // 2)
        names = list(made)
        for number in range(options.rounds + 1):  # the first one opens the connections
            if number > _LEAST_ROUNDS and time.monotonic() > until:
                break
            turn = number % max(len(names), 1)
            for name in names[turn:] + names[:turn]:
                try:
                    with anyio.fail_after(_PATIENCE):
                        cpu, wall = await _round(load, made[name], url, count if number else load.concurrency)
                except Exception as exc:  # noqa: BLE001 - one client that cannot do it does not end the run
                    print(f"{name}: {load.name} on {loop}: {type(exc).__name__}: {exc}", file=sys.stderr)
                    names.remove(name)
                    del rows[name]
                    continue
                if number:
                    rows[name].cpu.append(round(cpu, 2))
                    rows[name].wall.append(round(wall, 2))
    finally:
        for peer in made.values():
            with contextlib.suppress(Exception):
                await peer.aclose()
    return list(rows.values())


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for: what and where, and the rows."""
    identity = self_signed()
    rows: list[Row] = []
    wanted = [
        (loop, load)
        for loop in options.loops
        for load in loads(options.concurrency)
        if loop in load.loops and any(part in load.name for part in options.load)
    ]
    with_streams = any(part in name for part in options.load for name in streams.LOADS)
    weights = [_GOAL_WEIGHT if (loop, load.name) in _GOALS else 1.0 for loop, load in wanted]
    clock = Clock(options.minutes, sum(weights) + _GOAL_WEIGHT * len(options.loops) * with_streams)
    with tempfile.TemporaryDirectory() as folder, serving(identity) as urls:
        authority = identity.write_authority(Path(folder, "authority.pem"))
        for (loop, load), weight in zip(wanted, weights, strict=True):
            backend, backend_options = _LOOPS[loop]
            found = anyio.run(
                _measure,
                load,
                loop,
                available(loop, http2=load.http2, streams=load.streams, names=options.peers),
                urls[load.server],
                authority,
                clock.until(weight),
                options,
                backend=backend,
                backend_options=backend_options,
            )
            rows += found
            print(report.text([asdict(row) for row in found]), flush=True)
        for loop in options.loops if with_streams else ():
            until = clock.until(_GOAL_WEIGHT)
            found = [Row(loop, *row) for row in streams.measure(loop, identity, options.rounds, until, options.quick)]
            rows += found
            print(report.text([asdict(row) for row in found]), flush=True)
        server = urls["server"]
    return {"about": _about(server, options), "rows": [asdict(row) for row in rows]}


def _about(server: str, options: argparse.Namespace) -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}",
        "load": round(os.getloadavg()[2], 1),
        "python": f"{platform.python_implementation()} {platform.python_version()}, {ssl.OPENSSL_VERSION}",
        "server": server,
        "rounds": options.rounds,
        "versions": versions(),
    }


def main() -> int:
    """Run, and print the table; write the page if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loops", nargs="+", default=list(_LOOPS), choices=list(_LOOPS))
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 50, 500])
    parser.add_argument("--rounds", type=int, default=25, help="at most so many")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all loads together, about")
    parser.add_argument("--peers", nargs="+", choices=[peer.name for peer in PEERS], help="only these, by name")
    parser.add_argument("--load", nargs="+", default=[""], help="only loads whose name has one of these in it")
    parser.add_argument("--quick", action="store_true", help="three rounds on asyncio, fewer requests")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--docs", action="store_true", help="write docs/performance.md; loads not run now stay")
    options = parser.parse_args()
    if options.quick:
        options.loops, options.rounds = options.loops[:1], 3
    results = run(options)
    if not results["rows"]:
        sys.exit("nothing was measured: no such load, or none of the clients is installed and can do it")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    if options.docs:
        docs = Path(__file__).parent.parent / "docs"
        report.write(report.merged(results, docs), docs)
    print(report.goals_text(results["rows"]))
    spread = [max(row["cpu"]) / min(row["cpu"]) for row in results["rows"]]
    print(f"spread of a row, max / min, median: {statistics.median(spread):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
