"""``Ledger``: numbers that wait until a reader collects, and are told to OpenTelemetry's instruments only then.

One call of an instrument of the SDK takes as long as a whole request may add; here it takes one look-up. So the event
loop writes a number down, equal counts become one, and the thread of the reader, which nobody waits for, does the rest.
Memory is bounded: times beyond the limit go to their instrument at once, and so do counts that no reader asks for.

A client that nobody closed tells of its connections' end when it is collected, which may be in the middle of a count in
the same thread: the lock lets that thread in again, and what it counts then is neither waited for nor overwritten.

Invariants: every number reaches its instrument exactly once. Of a request only the ids of its span are kept, never
its context, which would keep the caller's objects alive. Not responsible for which numbers there are (``metrics``).
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan

from ._context import NOTHING
from ._forks import renew_in_children

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Counter, Histogram
    from opentelemetry.trace import SpanContext

__all__ = ["Ledger"]

_Names: TypeAlias = tuple[str, ...]
_Values: TypeAlias = tuple[str | int | None, ...]

_MAX_TIMES: Final = 512
_MAX_UNASKED: Final = 10_000
"""How many counts may come between two collections; a provider that never collects hears of them then."""


class Ledger:
    """See the module. Safe to use from several threads.

    ``names`` and ``values`` are attributes, one for one; those whose value is None are left out. ``span`` is the
    request's, for exemplars.
    """

    __slots__ = ("__weakref__", "_counts", "_lock", "_times", "_unasked")

    def __init__(self) -> None:
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin anew: in a forked child, whose parent tells what waited."""
        self._lock = threading.RLock()
        self._counts: dict[tuple[Counter, _Names, _Values], tuple[int, SpanContext | None]] = {}
        self._times: deque[tuple[Histogram, _Names, _Values, float, SpanContext | None]] = deque()
        self._unasked = 0

    def count(
        self, counter: Counter, names: _Names, values: _Values, number: int = 1, span: SpanContext | None = None
    ) -> None:
        """Add ``number`` to ``counter``."""
        key = (counter, names, values)
        entry = (number, span)
        with self._lock:
            while True:
                before = self._counts.pop(key, None)
                if before is not None:
                    entry = (entry[0] + before[0], entry[1] or before[1])
                if self._counts.setdefault(key, entry) is entry:  # else a finalizer has counted in between
                    break
            self._unasked += 1
        if self._unasked >= _MAX_UNASKED:
            self.settle()

    def time(
        self, histogram: Histogram, names: _Names, values: _Values, seconds: float, span: SpanContext | None = None
    ) -> None:
        """Record ``seconds`` in ``histogram``."""
        if len(self._times) < _MAX_TIMES:
            self._times.append((histogram, names, values, seconds, span))
        else:
            histogram.record(seconds, _attributes(names, values), _context(span))

    def settle(self) -> None:
        """Tell the instruments everything that waits."""
        with self._lock:
            counts, self._counts, self._unasked = self._counts, {}, 0
        for (counter, names, values), (number, span) in counts.items():
            attributes = _attributes(names, values)
            if span is not None:  # an exemplar is one event, not their sum
                counter.add(1, attributes, _context(span))
            if number > (span is not None):
                counter.add(number - (span is not None), attributes, NOTHING)
        while self._times:
            try:
                histogram, names, values, seconds, span = self._times.popleft()
            except IndexError:  # another reader was quicker
                break
            histogram.record(seconds, _attributes(names, values), _context(span))


def _attributes(names: _Names, values: _Values) -> dict[str, str | int]:
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def _context(span: SpanContext | None) -> Context:
    return NOTHING if span is None else trace.set_span_in_context(NonRecordingSpan(span), NOTHING)
