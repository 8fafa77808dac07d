"""``Totals``: what every pool and session has ever counted, summed by origin, so that counters never go down.

Sources count in plain integers and may end; a sum over those that live would shrink and look like a restart. So the
growth of each source since the last look is added up here. A source that is about to end calls ``settle`` so that
its last counts are not lost. Not responsible for counting (``http.pool``) or exporting (``metrics``).
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..events import stats_sources
from ._forks import renew_in_children
from .limiter import Origins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..events import StatsSource

__all__ = ["CLOSED", "COUNTERS", "OriginTotals", "Totals", "settle", "totals"]

COUNTERS: Final = ("requests_ok", "requests_recovered", "requests_failed", "opened", "reused")
CLOSED: Final = "closed"
"""Counts by reason."""

_Counts: TypeAlias = dict[str, int]
_Name: TypeAlias = tuple[str | None, int | None]


@dataclass(slots=True, kw_only=True)
class OriginTotals:
    """One origin: ``counts`` only grow (keys: COUNTERS, and ``closed.REASON``), ``open`` is what is open now.

    ``open`` is keyed by (``http.connection.state``, HTTP version).
    """

    attributes: Mapping[str, str | int]
    counts: _Counts = field(default_factory=dict[str, int])
    open: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])


class Totals:
    """See the module. Safe to use from several threads: metric readers have their own."""

    def __init__(self) -> None:
        self.renew()
        renew_in_children(self)
        self._ending: deque[StatsSource] = deque()
        self._origins = Origins()
        self._by_name: dict[_Name, OriginTotals] = {}
        self._seen: weakref.WeakKeyDictionary[StatsSource, dict[_Name, _Counts]] = weakref.WeakKeyDictionary()

    def renew(self) -> None:
        """Forget who holds the lock: in a forked child, where that thread is not."""
        self._lock = threading.Lock()

    def look(self, sources: list[StatsSource]) -> list[OriginTotals]:
        """Take the growth of ``sources`` in and give the totals of every origin ever seen."""
        with self._lock:
            self._take_ending()
            for total in self._by_name.values():
                total.open = {}
            for source in sources:
                self._take(source, count_open=True)
            return list(self._by_name.values())

    def settle(self, source: StatsSource) -> None:
        """Take the growth of ``source`` in, which is about to end: now, or with the next look.

        Never waits: a finalizer may call this in the very thread that holds the lock.
        """
        self._ending.append(source)
        if self._lock.acquire(blocking=False):
            try:
                self._take_ending()
            finally:
                self._lock.release()

    def _take_ending(self) -> None:
        with contextlib.suppress(IndexError):  # that was all
            while True:
                self._take(self._ending.popleft(), count_open=False)

    def _take(self, source: StatsSource, *, count_open: bool) -> None:
        entries = _read(source)
        if entries is None:
            return
        now: dict[_Name, _Counts] = {}
        for entry in entries:
            host, port = entry["host"], entry["port"]
            name = self._origins.pair(host, port)
            total = self._by_name.get(name)
            if total is None:
                attributes = self._origins.attributes(host, port)
                total = self._by_name[name] = OriginTotals(attributes=attributes)
            _add(now.setdefault(name, {}), _counts(entry))
            if count_open:
                version = str(entry.get("http_version") or "1.1")
                for state in ("active", "idle"):
                    key = (state, version)
                    total.open[key] = total.open.get(key, 0) + max(entry.get(state, 0), 0)
        before = self._seen.get(source, {})
        for name, counts in now.items():
            known = before.get(name, {})
            # what a source has forgotten was counted already: growth only
            _add(self._by_name[name].counts, {key: max(n - known.get(key, 0), 0) for key, n in counts.items()})
        self._seen[source] = now


def _read(source: StatsSource) -> list[dict[str, Any]] | None:
    """The counts of ``source``; None if its own thread changes them at this moment, time after time."""
    for _ in range(3):
        try:
            return source.stats()
        except RuntimeError:  # a dictionary changed its size during iteration
            continue
    return None


def _counts(entry: dict[str, Any]) -> _Counts:
    counts: _Counts = {key: entry.get(key, 0) for key in COUNTERS}
    closed: dict[str, int] = entry.get(CLOSED) or {}
    for reason, number in closed.items():
        counts[f"{CLOSED}.{reason!s}"] = number
    return counts


def _add(to: _Counts, more: _Counts) -> None:
    for key, number in more.items():
        to[key] = to.get(key, 0) + number


_TOTALS: Final = Totals()


def totals() -> list[OriginTotals]:
    """The totals of this process, by origin."""
    return _TOTALS.look(stats_sources())


def settle(source: StatsSource) -> None:
    """Keep the counts of ``source``, which is about to end: call it when a pool has been closed."""
    _TOTALS.settle(source)
