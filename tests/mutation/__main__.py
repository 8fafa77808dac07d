# ruff: noqa: T201 - it is a command: it prints
"""Mutation testing of the decisions and the TLS engine; ``python -m tests.mutation --help``.

Each mutant that the tests of its module do not notice must be explained in docs/explanation/mutants.md, or it fails
the run; so does an explanation whose mutant is gone or is noticed by now.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from .explained import explanations
from .mutants import Mutant, members_of, mutants_of
from .targets import TARGETS
from .trial import POLL, ROOT, SOURCES, Result, Trial, begin, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if a mutant survives without a reason."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__, allow_abbrev=False)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as policy/retry.py (default: all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    parser.add_argument("--seconds", type=float, default=120.0, metavar="S", help="a mutant may take at most")
    parser.add_argument("--only", metavar="TEXT", help="only mutants whose line contains it")
    parser.add_argument("--list", action="store_true", help="say what the mutants are, and try none")
    args = parser.parse_args(argv)
    modules = args.modules or list(TARGETS)
    wanted = [one for module in modules for one in mutants_in(module) if args.only is None or args.only in one.becomes]
    if args.list:
        print(*(f"{one.module}:{one.line}: {one.becomes}" for one in wanted), sep="\n")
        return 0
    prepare()
    reasons = explanations()
    counts: Counter[tuple[str, Result]] = Counter()
    unexplained, survived = 0, set[tuple[str, str]]()
    for mutant, result in _try(wanted, args.jobs, args.seconds):
        counts[mutant.module, result] += 1
        if result is not Result.SURVIVED:
            continue
        key = mutant.module, mutant.becomes
        survived.add(key)
        if key not in reasons:
            unexplained += 1
            print(f"{mutant.module}:{mutant.line}: nobody notices: {mutant.becomes}", flush=True)
    stale = [] if args.only else [key for key in reasons if key[0] in modules and key not in survived]
    for module, line in stale:
        print(f"{module}: explained, but noticed or gone: {line}")
    for module in modules:
        print(f"{module}: " + ", ".join(f"{counts[module, result]} {result.value}" for result in Result))
    total = Counter[Result]()
    for (_, result), number in counts.items():
        total[result] += number
    print(f"in all {total.total()}: " + ", ".join(f"{total[result]} {result.value}" for result in Result), end="; ")
    print(f"{unexplained} without a reason, {len(stale)} reasons too many")
    return bool(unexplained or stale)


@functools.cache
def mutants_in(module: str) -> list[Mutant]:
    """Every mutant of a module of holdwire."""
    enums = [path.read_text(encoding="utf-8") for path in [*(SOURCES / "policy").glob("*.py"), SOURCES / module]]
    return mutants_of(module, (SOURCES / module).read_text(encoding="utf-8"), members_of(enums))


def _try(mutants: Sequence[Mutant], jobs: int, seconds: float) -> Iterator[tuple[Mutant, Result]]:
    os.chdir(ROOT)
    for module in dict.fromkeys(mutant.module for mutant in mutants):
        path = SOURCES / module
        if begin(path, path.read_text(encoding="utf-8"), TARGETS[module], seconds=600).wait() is not Result.SURVIVED:
            message = f"the tests of {module} fail without any mutation: pytest {' '.join(TARGETS[module])}"
            raise RuntimeError(message)
    waiting, running = deque(mutants), list[tuple[Mutant, Trial]]()
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.popleft()
            path = SOURCES / mutant.module
            source = mutant.apply(path.read_text(encoding="utf-8"))
            running.append((mutant, begin(path, source, TARGETS[mutant.module], seconds=seconds)))
        time.sleep(POLL)
        for one in list(running):
            if result := one[1].poll():
                running.remove(one)
                yield one[0], result


if __name__ == "__main__":
    sys.exit(main())
