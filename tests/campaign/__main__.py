# ruff: noqa: T201 - it is a command: it prints
"""The reliability campaign: random histories until enough requests were made; ``python -m tests.campaign --help``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from .campaign import campaign, replay, shortest
from .histories import draw

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if an invariant does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__, allow_abbrev=False)
    parser.add_argument("--requests", type=int, default=1_000_000, metavar="N", help="at least so many (1,000,000)")
    parser.add_argument("--seconds", type=float, default=3600.0, metavar="S", help="at most so long (3600)")
    parser.add_argument("--seed", type=int, help="of all histories (default: a new one)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    parser.add_argument("--replay", metavar="SEED", help="play one history, and say what happens")
    parser.add_argument("--asks", type=_numbers, metavar="N,...", help="with --replay: only these of its requests")
    parser.add_argument("--faults", type=_numbers, metavar="N,...", help="with --replay: only these of its faults")
    args = parser.parse_args(argv)
    if args.replay is not None:
        print(draw(args.replay).only(args.asks, args.faults))
        found = replay(args.replay, args.asks, args.faults).violations
        print(*(map(str, found) if found else ["no invariant is violated"]), sep="\n")
        return bool(found)
    seed = args.seed if args.seed is not None else int.from_bytes(os.urandom(3), "big")
    print(f"seed {seed}", flush=True)
    report = campaign(seed=seed, requests=args.requests, seconds=args.seconds, jobs=args.jobs)
    print(report)
    for invariant, (name, what) in report.failing.items():
        print(f"{invariant}: {what}\n  {shortest(name, invariant)}")
    return bool(report.failing)


def _numbers(text: str) -> list[int]:
    return [] if text == "none" else [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
