"""The soak: mixed traffic through misbehaving proxies for as long as one likes; nothing may grow.

``python -m tests.campaign.soak --seconds 3600``. HTTP with and without TLS through httpx, and sessions of a line
protocol; one request in a hundred meets a fault. Memory, descriptors and tasks are counted all the time: what they
come to late is compared with what they came to early.

Memory is counted three times. ``heap`` (what malloc has given out: OpenSSL's, and Python's large objects) and
``objects`` (Python's small ones) hold still to within some hundred kilobytes, so four kilobytes lost at each failed
handshake stand out within a quarter of an hour. ``memory``, what the kernel says, also grows by what lies fragmented
between the living, so it is but a coarse net for all else.
"""
# ruff: noqa: T201 - it is a command: it prints

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import logging
import os
import random
import resource
import statistics
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import httpx

import holdwire
from holdwire.testing import BlockingChaosProxy, ChaosServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio.abc import TaskGroup

__all__ = ["Soak"]

FAULTS: Final = (
    "request:0 rst",
    "request:300 fin",
    "request:700 half_close",
    "response:0 rst",
    "response:200 fin_without_close_notify",
    "response:600 rst",
    "response:100 drip=20000",
    "response:50 stall=0.5",
    "idle:0.01 rst",
    "idle:0.01 expire",
)
_REQUESTS: Final = 10
"""Of a connection: with a fault on one connection in ten, one request in a hundred meets one."""
_SHARE: Final = 0.01
"""Of the connections, for each of ``FAULTS``."""
_WORKERS: Final = 12
_PAUSE: Final = 0.5
_PARTS: Final = 12
_SAMPLES: Final = 480
"""Kept at most, because they grow themselves."""
_KEPT: Final = 256
"""Failures that ``holdwire.recent_failures`` keeps."""
_MEMORY: Final = (
    ("memory", 1e6, "MB", 0.03, 1_500_000),
    ("heap", 1e6, "MB", 0, 800_000),
    ("objects", 1e3, "k", 0, 9_000),
)
"""What is counted, the unit in which it is told, by which share it may differ, and how much more."""


class _MallInfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()  # noqa: SIM905 - as malloc.h has it
    ]


_C: Final = ctypes.CDLL(None)
if hasattr(_C, "mallinfo2"):
    _C.mallinfo2.restype = _MallInfo


@dataclass(frozen=True, slots=True)
class Sample:
    """What was counted at one moment."""

    memory: int
    descriptors: int
    tasks: int
    heap: int = 0
    objects: int = 0


@dataclass(slots=True)
class Soak:
    """One run. ``check`` says what has grown."""

    seconds: float
    counts: Counter[str] = field(default_factory=Counter[str])
    samples: list[Sample] = field(default_factory=list[Sample])
    before: Sample | None = None
    after: Sample | None = None

    async def run(self) -> None:
        """Make traffic, and count."""
        with ExitStack() as stack:
            servers = [stack.enter_context(ChaosServer(tls=tls)) for tls in (False, True)]
            echo = stack.enter_context(ChaosServer())
            proxies = [
                stack.enter_context(BlockingChaosProxy(server.address, seed=number))
                for number, server in enumerate([*servers, echo])
            ]
            broken = stack.enter_context(BlockingChaosProxy(servers[1].address))
            broken.sprinkle("request:0 rst", share=1)
            for proxy in proxies:
                for fault in FAULTS:
                    proxy.sprinkle(fault, share=_SHARE)
            urls = [f"http://127.0.0.1:{proxies[0].address[1]}", f"https://localhost:{proxies[1].address[1]}"]
            async with httpx.AsyncClient(transport=holdwire.ResilientTransport()) as client:
                await client.get(servers[0].url)  # starts what belongs to the loop, not to a client
            await self._fill_recent_failures(broken.address[1])
            broken.journal.clear()
            self.before = _sample()
            transport = holdwire.ResilientTransport(
                verify=servers[1].client_context(), pool=holdwire.PoolPolicy(max_requests=_REQUESTS)
            )
            async with httpx.AsyncClient(transport=transport, timeout=5) as client, anyio.create_task_group() as group:
                for number in range(_WORKERS):
                    group.start_soon(self._requests, client, urls[number % 2], number)
                for _ in range(2):
                    group.start_soon(self._sessions, proxies[2].address)
                await self._watch([*servers, echo], proxies, group)
            await anyio.sleep(0.2)
            self.after = _sample()

    async def _fill_recent_failures(self, port: int) -> None:
        """What is kept is bounded, but would grow for the first minutes."""
        while len(holdwire.recent_failures()) < min(_KEPT, self.seconds):
            with suppress(holdwire.ConnectFailed):
                await holdwire.connect(f"tls://localhost:{port}")

    async def _watch(self, servers: list[ChaosServer], proxies: list[BlockingChaosProxy], group: TaskGroup) -> None:
        begin = time.monotonic()
        while (now := time.monotonic()) < begin + self.seconds:
            await anyio.sleep(_PAUSE)
            for server in servers:
                server.ledger.clear()
                server.journal.clear()
            for proxy in proxies:
                self.counts["faults"] += len(proxy.journal.entries("fault"))
                self.counts["connections"] += len(proxy.journal.entries("connected"))
                proxy.journal.clear()
            if now - begin >= self.seconds * len(self.samples) / _SAMPLES:
                self.samples.append(_sample())
        group.cancel_scope.cancel()

    async def _requests(self, client: httpx.AsyncClient, url: str, number: int) -> None:
        dice = random.Random(number)
        for count in itertools.count():
            method = dice.choice(["GET", "GET", "POST", "PUT"])
            body = b"" if method == "GET" else dice.randbytes(dice.choice([10, 600, 20_000]))
            try:
                response = await client.request(method, f"{url}/{number}/{count}", content=body)
            except httpx.HTTPError:
                self.counts["failed"] += 1
            else:
                if response.content != (body or b"hello\n"):
                    self.counts["corrupted"] += 1
            self.counts["requests"] += 1
            await anyio.sleep(dice.choice([0, 0, 0.01, 0.03]))

    async def _sessions(self, address: tuple[str, int]) -> None:
        head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        host, port = address
        async for session in holdwire.sessions(f"tcp://{host}:{port}"):
            self.counts["sessions"] += 1
            async with session:
                for _ in range(50):
                    await session.send(head)
                    with anyio.fail_after(5):
                        await session.receive()
                    session.boundary()
                    self.counts["messages"] += 1
                    await anyio.sleep(0.01)

    def check(self) -> list[str]:
        """What has grown or gone wrong; nothing, if all is well."""
        wrong: list[str] = []
        size = len(self.samples) // 4
        early, late = self.samples[size : 2 * size], self.samples[-size:]
        for what, unit, name, share, more in _MEMORY:
            medians = [statistics.median(getattr(sample, what) for sample in part) for part in (early, late)]
            if medians[1] > medians[0] * (1 + share) + more:
                wrong.append(f"{what} grew from {medians[0] / unit:.1f} to {medians[1] / unit:.1f} {name}")
        for what in ("descriptors", "tasks"):
            most = [max(getattr(sample, what) for sample in part) for part in (early, late)]
            if most[1] > most[0] * 1.25 + 8:
                wrong.append(f"{what} grew from {most[0]} to {most[1]}")
        assert self.before is not None
        assert self.after is not None
        if self.after.tasks > self.before.tasks:
            wrong.append(f"{self.after.tasks - self.before.tasks} tasks are left")
        if self.counts["corrupted"]:
            wrong.append(f"{self.counts['corrupted']} answers were wrong")
        return wrong

    def __str__(self) -> str:
        """What was done, and what was counted."""
        size = len(self.samples)
        parts = [self.samples[size * n // _PARTS : size * (n + 1) // _PARTS] for n in range(_PARTS)]
        lines = [
            f"{self.seconds:.0f} s: " + ", ".join(f"{count:,} {what}" for what, count in self.counts.items()),
            "  in each twelfth of the time",
        ]
        for what, unit, name, *_ in _MEMORY:
            medians = [statistics.median(getattr(one, what) for one in part) / unit for part in parts if part]
            lines.append(f"    {what} ({name}): " + " ".join(f"{median:.1f}" for median in medians))
        for what in ("descriptors", "tasks"):
            most = [max(getattr(one, what) for one in part) for part in parts if part]
            lines.append(f"    {what} at most: " + " ".join(map(str, most)))
        return "\n".join(lines)


def _sample() -> Sample:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    heap = _C.mallinfo2() if hasattr(_C, "mallinfo2") else _MallInfo()
    return Sample(
        pages * resource.getpagesize(),
        len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - names are enough
        len(anyio.get_running_tasks()),
        heap.uordblks + heap.hblkhd,
        sys.getallocatedblocks(),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if something has grown."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.soak", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=3600.0, metavar="S", help="how long (3600)")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    soak = Soak(args.seconds)
    anyio.run(soak.run, backend=args.backend)
    print(soak)
    wrong = soak.check()
    print(*(wrong or ["nothing has grown"]), sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
