"""The guard against slowness: what a small GET costs in units of a floor measured in the same run, beside what it did.

Under valgrind the instructions of the client's process are counted, which a busy machine does not change; without it,
CPU times of interleaved rounds are compared with a wider margin. The floor is httpx with an answer from memory plus an
asyncio.Protocol with httptools: what is left of the ratio is ours. benchmarks/guard.json has the ratios that are
agreed on, for each version of Python; ``--update`` writes what was found. Exits with 1 if one has grown too much.
``nox -s guard`` runs it. Not responsible for where the time goes (docs/performance.md).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

import holdwire
from benchmarks.peers import Raw, from_memory
from benchmarks.servers import serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Ask = Callable[[], Awaitable[object]]

_AGREED: Final = Path(__file__).with_suffix(".json")
_MARGINS: Final = {"instructions": 1.15, "cpu": 1.35}
_FLOORS: Final = ("from memory", "raw")
_WARM: Final = 10
_COUNT: Final = 50
_ROUNDS: Final = 15
_LIMIT: Final = 180
"""Seconds for valgrind; a run takes about 25, and on a busy machine counting is worth the wait."""
_INSIDE: Final = (
    "import sys; sys.modules.update(dict.fromkeys(('click', 'h2', 'socksio', 'trio')))\n"  # half of what is imported
    "from benchmarks.guard import inside; inside(*sys.argv[1:])"
)


def _clients(plain: str, tls: str, authority: Path) -> tuple[dict[str, Ask], list[Callable[[], Awaitable[None]]]]:
    """What asks once, by name, and what closes them."""
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # no certificates of the system: reading them takes long
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    memory, raw = from_memory(), Raw(authority, http2=False)
    ours = httpx.AsyncClient(transport=holdwire.ResilientTransport(verify=unverified), timeout=60)
    post = b"u" * 10_240
    asks: dict[str, Ask] = {
        "from memory": lambda: memory.get(plain),
        "raw": lambda: raw.get(plain),
        "GET": lambda: ours.get(plain),
        "GET TLS": lambda: ours.get(tls),
        "POST 10 KiB": lambda: ours.post(plain, content=post),
    }
    return asks, [memory.aclose, raw.aclose, ours.aclose]


async def _count(plain: str, tls: str, authority: Path) -> None:
    """In valgrind's process: each client's requests between two calls of getppid, which valgrind looks out for."""
    asks, closes = _clients(plain, tls, authority)
    for ask in asks.values():
        for _ in range(_WARM):
            await ask()
        gc.collect()
        os.getppid()
        for _ in range(_COUNT):
            await ask()
        os.getppid()
    for close in closes:
        await close()


def inside(plain: str, tls: str, authority: str) -> None:
    """What runs under valgrind."""
    asyncio.run(_count(plain, tls, Path(authority)))


async def _time(plain: str, tls: str, authority: Path) -> dict[str, float]:
    """CPU seconds per request: the least of interleaved rounds."""
    asks, closes = _clients(plain, tls, authority)
    best = dict.fromkeys(asks, float("inf"))
    for _ in range(_ROUNDS):
        for name, ask in asks.items():
            gc.collect()
            cpu = time.process_time()
            for _ in range(_COUNT):
                await ask()
            best[name] = min(best[name], (time.process_time() - cpu) / _COUNT)
    for close in closes:
        await close()
    return best


def _instructions(valgrind: str, urls: dict[str, str], authority: Path, folder: str) -> dict[str, float] | None:
    """Instructions per request; None if valgrind did not get to the end."""
    command = [
        *(valgrind, "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={folder}/out"),
        *(sys.executable, "-c", _INSIDE, urls["plain"], urls["tls"], str(authority)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        print(f"valgrind was not done within {_LIMIT} s", file=sys.stderr)
        return None
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    names = list(_clients(urls["plain"], urls["tls"], authority)[0])
    found: dict[str, float] = {}
    for index, name in enumerate(names):  # dump 1 is the start, 2 the first client's, 3 what was between, ...
        dump = Path(folder, f"out.{2 * index + 2}").read_text(encoding="utf-8")
        summary = re.search(r"^(?:summary|totals): (\d+)", dump, re.MULTILINE)
        assert summary is not None
        found[name] = int(summary[1]) / _COUNT
    return found


def measure(*, cpu_only: bool) -> tuple[str, dict[str, float]]:
    """What was measured, ``instructions`` or ``cpu``, and how much of it each client takes for a request."""
    from holdwire.testing.certificates import self_signed  # noqa: PLC0415 - not wanted under valgrind

    identity = self_signed()
    with tempfile.TemporaryDirectory() as folder, serving(identity, nginx=False) as urls:
        authority = identity.write_authority(Path(folder, "authority.pem"))
        valgrind = None if cpu_only else shutil.which("valgrind")
        if valgrind is not None:
            found = _instructions(valgrind, urls, authority, folder)
            if found is not None:
                return "instructions", found
        return "cpu", asyncio.run(_time(urls["plain"], urls["tls"], authority))


def too_slow(ratios: dict[str, float], agreed: dict[str, float], margin: float) -> list[str]:
    """The names of what takes more than ``margin`` times what was agreed on."""
    return [name for name, ratio in ratios.items() if ratio > agreed[name] * margin]


def main() -> int:
    """Measure, compare, and say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="agree on what is found now")
    parser.add_argument("--cpu", action="store_true", help="no valgrind, even where it is installed")
    options = parser.parse_args()
    agreed: dict[str, dict[str, float]] = json.loads(_AGREED.read_text()) if _AGREED.exists() else {}
    what, found = measure(cpu_only=options.cpu)
    floor = sum(found[name] for name in _FLOORS)
    key = f"{what}, Python {sys.version_info[0]}.{sys.version_info[1]}"
    ratios = {name: round(cost / floor, 3) for name, cost in found.items() if name not in _FLOORS}
    if options.update:
        agreed[key] = ratios
        _AGREED.write_text(json.dumps(agreed, indent=1, sort_keys=True) + "\n")
    expected = agreed.get(key)
    unit, scale = ("thousand instructions", 1e3) if what == "instructions" else ("us of CPU", 1e-6)
    print(f"{key}: the floor is {floor / scale:.0f} {unit} for a request")
    if expected is None:
        print(f"NOT COMPARED: nothing was agreed on for this version; --update agrees on {ratios}")
        return 0
    slow = too_slow(ratios, expected, _MARGINS[what])
    for name, ratio in ratios.items():
        verdict = "TOO SLOW" if name in slow else "well"
        print(f"{name:<12} {found[name] / scale:8.0f} {ratio:7.3f} floors, agreed {expected[name]:.3f}: {verdict}")
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main())
