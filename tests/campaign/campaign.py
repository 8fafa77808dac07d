"""Campaigns: many histories in several processes, one of them again, and the shortest command that shows a failure.

Not responsible for a single history (``histories``, ``player``) or for the command line (``__main__``).
"""

from __future__ import annotations

import gc
import itertools
import logging
import multiprocessing
import time
from typing import TYPE_CHECKING, Final

from .histories import draw
from .player import play
from .report import Report
from .session_player import play_session
from .shrink import smallest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .histories import History
    from .player import Result

__all__ = ["campaign", "replay", "shortest"]

_SLICE: Final = 20
"""Histories between two looks at the clock."""


def replay(seed: str, asks: list[int] | None = None, faults: list[int] | None = None) -> Result:
    """Play one history, or a part of it."""
    return played(draw(seed).only(asks, faults))


def played(history: History) -> Result:
    """Play ``history``: one in eight is one of sessions, by its number."""
    number = int(history.seed.rpartition(":")[2])
    return play_session(history) if number % 8 == 7 else play(history)


def command(seed: str, asks: list[int] | None = None, faults: list[int] | None = None) -> str:
    """How to play it again."""
    parts = [f"python -m tests.campaign --replay {seed}"]
    for name, numbers in (("asks", asks), ("faults", faults)):
        if numbers is not None:
            parts.append(f"--{name} {','.join(map(str, numbers)) or 'none'}")
    return " ".join(parts)


def shortest(seed: str, invariant: str) -> str:
    """The shortest command that shows how the history of ``seed`` violates ``invariant``."""
    history = draw(seed)

    def fails(asks: list[int], faults: list[int]) -> bool:
        found = played(history.only(asks, faults)).violations
        return any(violation.invariant == invariant for violation in found)

    asks, faults = list(range(len(history.asks))), list(range(history.faults))
    if not fails(asks, faults):
        return command(seed)
    asks = smallest(asks, lambda some: fails(some, faults))
    faults = smallest(faults, lambda some: fails(asks, some))
    asks = smallest(asks, lambda some: fails(some, faults))
    return command(seed, asks, faults)


def seeds(seed: int, first: int, step: int) -> Iterator[str]:
    """Every ``step``-th history of a campaign."""
    return (f"{seed}:{number}" for number in itertools.count(first, step))


def work(seed: int, first: int, step: int, requests: int, end: float) -> Report:
    """One process's share of a campaign."""
    logging.disable(logging.WARNING)
    report = Report()
    for number, name in enumerate(seeds(seed, first, step)):
        report.add(name, replay(name))
        if number % _SLICE == _SLICE - 1:
            gc.collect()
        if report.numbers["requests"] >= requests or time.time() >= end:
            return report
    raise AssertionError


def campaign(*, seed: int, requests: int, seconds: float, jobs: int) -> Report:
    """Histories until there were so many requests, or so many seconds have passed."""
    began = time.time()
    whole = Report()
    shares = [(seed, first, jobs, -(-requests // jobs), began + seconds) for first in range(jobs)]
    if jobs == 1:
        whole.merge(work(*shares[0]))
    else:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            for report in pool.starmap(work, shares, chunksize=1):
                whole.merge(report)
    whole.seconds = time.time() - began
    return whole
