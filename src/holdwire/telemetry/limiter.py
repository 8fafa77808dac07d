"""``Limiter``: a token bucket for each kind of trouble of each origin, so that a storm stays readable.

What is held back is counted exactly, and the next one that passes says how many there were. The clock is the time of
the events themselves, so that spans and log lines about the same failures are let through alike. ``Origins`` bounds
how many origins are told apart. Not responsible for what is told (``spans``, ``log``).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from ..policy.kind import Category
from ._forks import renew_in_children

if TYPE_CHECKING:
    from ..events import FailureRecorded

__all__ = ["BURST", "MAX_ORIGINS", "OTHER", "REFILL", "Limiter", "Origins", "is_silent"]

BURST: Final = 10
"""How many of one kind of trouble pass at once."""
REFILL: Final = 1.0
"""How many pass each second after that."""
MAX_ORIGINS: Final = 200
"""How many origins are told apart; all further ones are OTHER."""
OTHER: Final = "_OTHER"

_DISORDER: Final = 60 * 10**9
"""Events come out of order by less than this; further back, the clock was set."""
_SILENT: Final = frozenset({Category.INTENTIONAL, Category.NOT_AN_ERROR})


def is_silent(event: FailureRecorded) -> bool:
    """Whether this is no error at all: we closed or cancelled, or the call would merely block."""
    return event.failure.category in _SILENT or (event.step is not None and event.step.quiet)


class Origins:
    """Gives each origin its ``server.address`` and ``server.port``; the 201st and later are ``_OTHER``, without."""

    __slots__ = ("_known", "_limit")

    def __init__(self, limit: int = MAX_ORIGINS) -> None:
        self._limit = limit
        self._known: set[tuple[str, int | None]] = set()

    def pair(self, host: str | None, port: int | None) -> tuple[str | None, int | None]:
        """Address and port; a key of which there are few."""
        if host is None:
            return (None, None)
        found = (host, port)
        if found not in self._known:
            if len(self._known) >= self._limit:
                return _THE_REST
            self._known.add(found)
        return found

    def attributes(self, host: str | None, port: int | None) -> dict[str, str | int]:
        """The same as attributes; none if there is no host."""
        address, number = self.pair(host, port)
        values: dict[str, str | int] = {} if address is None else {"server.address": address}
        if number is not None:
            values["server.port"] = number
        return values


_THE_REST: Final[tuple[str | None, int | None]] = (OTHER, None)


class _Bucket:
    __slots__ = ("held", "tokens", "touched")

    def __init__(self, tokens: float, touched: int) -> None:
        self.tokens = tokens
        self.touched = touched
        self.held = 0


class Limiter:
    """See the module. Safe to use from several threads: counts are exact.

    Args:
        burst: How many of one sort pass at once.
        refill: How many pass each second after that.
    """

    __slots__ = ("__weakref__", "_buckets", "_burst", "_lock", "_origins", "_refill")

    def __init__(self, *, burst: int = BURST, refill: float = REFILL) -> None:
        self._burst = float(burst)
        self._refill = refill / 1e9
        self._buckets: dict[tuple[tuple[str | None, int | None], str, str], _Bucket] = {}
        self._origins = Origins()
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Forget who holds the lock: in a forked child, where that thread is not.

        It lets its own thread in again: there a client may be collected meanwhile, and tell of a failure.
        """
        self._lock = threading.RLock()

    def admit(self, host: str | None, port: int | None, kind: str, phase: str, now: int) -> int | None:
        """Whether one more may be told at ``now`` (Unix time in nanoseconds).

        Returns:
            None if it is to be held back; else how many were held back since the last one that passed.
        """
        with self._lock:
            key = (self._origins.pair(host, port), kind, phase)
            bucket = self._buckets.get(key)
            if bucket is None:
                bucket = self._buckets.setdefault(key, _Bucket(self._burst, now))
            elif now > bucket.touched:
                bucket.tokens = min(bucket.tokens + (now - bucket.touched) * self._refill, self._burst)
                bucket.touched = now
            elif now < bucket.touched - _DISORDER:
                bucket.touched = now
            if bucket.tokens < 1.0:
                bucket.held += 1
                return None
            bucket.tokens -= 1.0
            held, bucket.held = bucket.held, 0
            return held

    def admit_failure(self, event: FailureRecorded) -> int | None:
        """``admit`` for a failure."""
        failure = event.failure
        return self.admit(failure.host, failure.port, failure.kind, failure.phase, event.ended)
