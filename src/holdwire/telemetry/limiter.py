"""``Limiter``: a token bucket for each kind of trouble of each origin, so that a storm stays readable.

What is held back is counted exactly, and the next one that passes says how many there were. The clock is the time of
the events themselves, so that spans and log lines about the same failures are let through alike. ``Origins`` bounds
how many origins are told apart. Not responsible for what is told (``spans``, ``log``).
"""

from __future__ import annotations

import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ..policy.kind import Category

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..events import FailureRecorded

__all__ = ["BURST", "MAX_ORIGINS", "OTHER", "REFILL", "Limiter", "Origins", "is_silent"]

BURST: Final = 10
"""How many of one kind of trouble pass at once."""
REFILL: Final = 1.0
"""How many pass each second after that."""
MAX_ORIGINS: Final = 200
"""How many origins are told apart; all further ones are OTHER."""
OTHER: Final = "_OTHER"

_SILENT: Final = frozenset({Category.INTENTIONAL, Category.NOT_AN_ERROR})
_NOBODY: Final[Mapping[str, str | int]] = MappingProxyType({})


def is_silent(event: FailureRecorded) -> bool:
    """Whether this is no error at all: we closed or cancelled, or the call would merely block."""
    return event.failure.category in _SILENT or (event.step is not None and event.step.quiet)


class Origins:
    """Gives each origin its attributes ``server.address`` and ``server.port``; the 201st and later are ``_OTHER``.

    The mappings are made once for each origin and must not be changed.
    """

    __slots__ = ("_known", "_limit")

    def __init__(self, limit: int = MAX_ORIGINS) -> None:
        self._limit = limit
        self._known: dict[tuple[str, int | None], Mapping[str, str | int]] = {}

    def attributes(self, host: str | None, port: int | None) -> Mapping[str, str | int]:
        """The attributes of an origin; none if there is no host."""
        if host is None:
            return _NOBODY
        found = self._known.get((host, port))
        if found is not None:
            return found
        if len(self._known) >= self._limit:
            return _THE_REST
        values: dict[str, str | int] = {"server.address": host}
        if port is not None:
            values["server.port"] = port
        return self._known.setdefault((host, port), MappingProxyType(values))

    def name(self, host: str | None, port: int | None) -> str:
        """``host:port``, or ``_OTHER``: a key of which there are few."""
        return OTHER if self.attributes(host, port) is _THE_REST else f"{host}:{port}"


_THE_REST: Final[Mapping[str, str | int]] = MappingProxyType({"server.address": OTHER})


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

    __slots__ = ("_buckets", "_burst", "_lock", "_origins", "_refill")

    def __init__(self, *, burst: int = BURST, refill: float = REFILL) -> None:
        self._burst = float(burst)
        self._refill = refill / 1e9
        self._buckets: dict[tuple[str, str, str], _Bucket] = {}
        self._origins = Origins()
        self._lock = threading.Lock()

    def admit(self, host: str | None, port: int | None, kind: str, phase: str, now: int) -> int | None:
        """Whether one more may be told at ``now`` (Unix time in nanoseconds).

        Returns:
            None if it is to be held back; else how many were held back since the last one that passed.
        """
        with self._lock:
            key = (self._origins.name(host, port), kind, phase)
            bucket = self._buckets.get(key)
            if bucket is None:
                bucket = self._buckets[key] = _Bucket(self._burst, now)
            elif now > bucket.touched:
                bucket.tokens = min(bucket.tokens + (now - bucket.touched) * self._refill, self._burst)
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
