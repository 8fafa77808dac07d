"""The rung ``logs``: what the files that the user names, and the kernel's own log, say in words that ``explain`` knows.

The kernel's log is root's to read; of it only the last minutes count, and only what concerns connections or memory.
Not responsible for what the words mean (``explain``).
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..explain import explain
from ..record import Check, Sign, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..record import Rung

__all__ = ["look"]

_CHECK: Final = Check("logs", 4, action="Look them up: holdwire explain < FILE.")
_KERNEL: Final = Path("/dev/kmsg")
_TAIL: Final = 1 << 20
"""Bytes of a file's end that are read."""
_RECENT: Final = 600.0
_RECORD: Final = 8192
_MOST: Final = 8
_SIGNS: Final = {"OOM_KILLER": "memory_short", "CONNTRACK_FULL": "conntrack_full", "SYN_FLOODING": "backlog_full"}
"""What the kernel's words are a sign of, if something is wrong."""


def look(files: Sequence[str], *, unwell: bool) -> Rung:
    """The rung; ``unwell``: something went wrong, which the kernel's words may explain."""
    words: list[str] = []
    evidence: dict[str, Any] = {}
    for name in files:
        found = explain(_tail(Path(name)))[:_MOST]
        evidence[name] = {one.code: one.seen for one in found}
        told = ", ".join(f"{one.code} x{one.seen}" for one in found)
        words.append(f"{name}: {told or 'nothing known'}")
    kernel = _kernel()
    signs: list[Sign] = []
    if kernel is None:
        words.append("the kernel's log is for root to read")
    else:
        known = [one for one in explain(kernel) if one.code in _SIGNS]
        evidence["kernel"] = {one.code: one.seen for one in known}
        told = ", ".join(f"{one.code} x{one.seen}" for one in known)
        words.append(f"the kernel in the last {_RECENT / 60:.0f} minutes: {told or 'nothing known'}")
        if unwell:
            signs = [Sign(_SIGNS[one.code], 0.3, f"the kernel's log: {one.found}") for one in known]
    return _CHECK(Verdict.WARNING if signs else Verdict.OK, "; ".join(words), evidence, signs=signs)


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - _TAIL, 0))
        return file.read().decode("utf-8", "replace")


def _kernel() -> str | None:
    """The kernel's messages of the last minutes; None where they cannot be read."""
    try:
        device = os.open(_KERNEL, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    since = (time.clock_gettime(time.CLOCK_MONOTONIC) - _RECENT) * 1e6
    lines: list[str] = []
    try:
        with contextlib.suppress(BlockingIOError):  # that was all
            while True:
                try:
                    head, _, text = os.read(device, _RECORD).decode("utf-8", "replace").partition(";")
                except BrokenPipeError:  # overwritten while we read: the next one is there
                    continue
                stamp = head.split(",")[2:3]
                if not stamp or not stamp[0].isdecimal():  # no kernel's log: /dev/null, a console
                    return None
                if int(stamp[0]) >= since:
                    lines.append(text)
    except OSError:
        return None
    finally:
        os.close(device)
    return "".join(lines)
