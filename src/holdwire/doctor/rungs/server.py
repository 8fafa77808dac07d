"""The rung ``server``: the process that listens there, where it can be seen from here: what is it short of?

Found by its listening socket if the target is on this host, or named by the user (``--watch``). Read before and after
the other rungs, so that only what happened meanwhile counts; a process that ends meanwhile is a finding too. The queue
of connections that wait to be accepted is readable by everyone, another user's process by root alone. Linux only.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...policy.phase import Phase
from ..record import Check, Sign, Verdict
from .host import NET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..record import Rung

__all__ = ["Watch"]

_CHECK: Final = Check("server", 6, Phase.RESPONSE_WAIT, "Look at that process: top -H -p, lsof -p, its log.")
_LISTEN: Final = "0A"
_ENDED: Final = frozenset("ZXx")
_SHARE: Final = 0.9
_BUSY: Final = 0.75
"""The share of the time at which a thread has none left."""
_FIELDS: Final = 20
"""So many fields of /proc/PID/stat are read, counted from the one behind the name."""
_MOST: Final = 64
"""Processes that share a listening socket and are looked at."""


@dataclass(frozen=True, slots=True)
class _Process:
    """A process that lives, at one moment."""

    name: str
    started: str
    threads: dict[str, float]
    """Of each thread the seconds in which it ran, or wanted to and waited for a CPU."""
    descriptors: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class _Group:
    """The control groups of a process, which outlive it: where their counters are, and what they were."""

    files: dict[str, str]
    throttled: int
    """How often the CPU limit was used up."""
    killed: int
    """How many processes the kernel killed for lack of memory."""

    @classmethod
    def read(cls, files: dict[str, str]) -> _Group:
        return cls(files, _counter(files.get("cpu"), "nr_throttled"), _counter(files.get("memory"), "oom_kill"))


class Watch:
    """See the module. ``port`` is where the server listens, ``pid`` its process if the user says so."""

    def __init__(self, port: int, pid: int | None = None, *, local: bool) -> None:
        self._port = port
        self._sockets = {inode: uid for inode, uid, _ in _listeners(port)} if local else {}
        pids = [pid] if pid is not None else _owners(set(self._sockets))[:_MOST]
        self._before = {one: (seen, _Group.read(_groups(one))) for one in pids if (seen := _look(one))}
        self._missing = pid if pid is not None and not self._before else None
        self._began = time.monotonic()

    def look(self, *, unwell: bool) -> Rung | None:
        """The rung; ``unwell``: the server did not do what it was asked. None where there is nothing to see."""
        if self._missing is not None:
            return _CHECK(Verdict.UNKNOWN, f"there is no process {self._missing} here, or it is another user's")
        if not self._sockets and not self._before:
            return None
        waiting = sum(queue for inode, _, queue in _listeners(self._port) if inode in self._sockets)
        signs: list[Sign] = []
        if waiting and unwell:
            signs.append(Sign("accept_queue", 0.8, f"{waiting} connections wait to be accepted"))
        elapsed = max(time.monotonic() - self._began, 0.1)
        processes: dict[int, dict[str, Any]] = {}
        for pid, (before, group) in self._before.items():
            who = f"process {pid} ({before.name})"
            after, now = _look(pid), _Group.read(group.files)
            if now.killed > group.killed:
                signs.append(
                    Sign("server_memory_short", 0.97, f"out of memory: the kernel killed in the group of {who}")
                )
            if after is None or after.started != before.started:
                signs.append(Sign("server_crashed", 0.95, f"{who} ended while it was asked"))
                continue
            throttled = now.throttled - group.throttled
            processes[pid] = {"name": before.name, "throttled": throttled, **_usage(before, after, elapsed)}
            signs += _shortages(who, processes[pid], unwell=unwell)
        words = [sign.evidence for sign in signs] or [f"{waiting} connections wait to be accepted"]
        if not self._before:
            users = ", ".join(sorted({str(uid) for uid in self._sockets.values()}))
            words.append(f"its process is this one, or belongs to user {users}: only that user and root see more")
        evidence = {"waiting_to_be_accepted": waiting, "processes": processes}
        return _CHECK(Verdict.WARNING if signs else Verdict.OK, "; ".join(words), evidence, signs=signs)


def _usage(before: _Process, after: _Process, elapsed: float) -> dict[str, Any]:
    spent = [(busy - before.threads.get(one, 0.0)) / elapsed for one, busy in after.threads.items()]
    return {
        "descriptors": after.descriptors,
        "descriptors_limit": after.limit,
        "cores_wanted": round(sum(spent), 2),
        "busiest_thread": round(max(spent, default=0.0), 2),
    }


def _shortages(who: str, usage: dict[str, Any], *, unwell: bool) -> Iterator[Sign]:
    descriptors, limit = usage["descriptors"], usage["descriptors_limit"]
    if limit is not None and descriptors >= limit * _SHARE:
        words = f"{who} uses {descriptors} of {limit} descriptors"
        yield Sign("server_descriptors_short", 0.95 if unwell else 0.4, words)
    if not unwell:
        return
    if usage["busiest_thread"] >= _BUSY:
        yield Sign(
            "server_cpu_short",
            0.85,
            f"a thread of {who} was at work, or waiting for a CPU, {usage['busiest_thread']:.0%} of the time",
        )
    elif usage["cores_wanted"] >= _BUSY:
        yield Sign("server_cpu_short", 0.6, f"{who} used {usage['cores_used']:.1f} cores")
    if usage["throttled"]:
        words = f"the CPU limit of its control group stopped {who} {usage['throttled']} times"
        yield Sign("server_cpu_short", 0.8, words)


def _listeners(port: int) -> list[tuple[str, int, int]]:
    """The listening sockets on ``port``: inode, user, connections that wait to be accepted."""
    found: list[tuple[str, int, int]] = []
    for name in ("tcp", "tcp6"):
        for line in _read(NET / name).splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.append((fields[9], int(fields[7]), int(fields[4].partition(":")[2], 16)))
    return found


def _owners(inodes: set[str]) -> list[int]:
    """The processes, but this one, that have one of these sockets open, as far as we may see."""
    names = {f"socket:[{inode}]" for inode in inodes}
    pids: list[int] = []
    for folder in Path("/proc").iterdir() if names else ():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if any(str(one.readlink()) in names for one in (folder / "fd").iterdir()):
                pids.append(int(folder.name))
        except OSError:  # another user's, or it has just ended
            continue
    return sorted(pids)


def _look(pid: int) -> _Process | None:
    folder = Path(f"/proc/{pid}")
    name, _, rest = _read(folder / "stat").rpartition(")")
    fields = rest.split()
    if len(fields) < _FIELDS or fields[0] in _ENDED:
        return None
    try:
        descriptors = len(os.listdir(folder / "fd"))  # noqa: PTH208 - only their number counts
        stats = {one.name: _read(one / "schedstat").split() for one in (folder / "task").iterdir()}
    except OSError:
        return None
    threads = {one: (int(times[0]) + int(times[1])) / 1e9 for one, times in stats.items() if len(times) == 3}
    limits = [line.split() for line in _read(folder / "limits").splitlines() if line.startswith("Max open files")]
    limit = int(limits[0][3]) if limits and limits[0][3].isdigit() else None
    return _Process(name.partition("(")[2], fields[19], threads, descriptors, limit)


def _groups(pid: int) -> dict[str, str]:
    """The files that tell about the CPU and the memory of the control groups of a process."""
    root = "/sys/fs/cgroup"
    found: dict[str, str] = {}
    for line in _read(Path(f"/proc/{pid}/cgroup")).splitlines():
        _, names, path = line.rstrip("/").split(":", 2)
        for kind, file, old in (("cpu", "cpu.stat", "cpu.stat"), ("memory", "memory.events", "memory.oom_control")):
            if not names:  # version 2; in a container the path may begin above what can be seen
                candidates = [f"{root}{path}/{file}", f"{root}/{file}"]
            elif kind in names.split(","):
                candidates = [f"{root}/{names}{path}/{old}", f"{root}/{kind}{path}/{old}"]
            else:
                continue
            existing = [one for one in candidates if Path(one).exists()]
            found |= {kind: existing[0]} if existing else {}
    return found


def _counter(path: str | None, name: str) -> int:
    rows = (line.split() for line in _read(Path(path)).splitlines()) if path else ()
    return next((int(row[1]) for row in rows if len(row) == 2 and row[0] == name), 0)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
