"""``TargetMemory``: what the streams and sessions to one target went through, to explain the next failure.

One for each target of the process, whoever connects: a program that calls ``connect`` in a loop of its own is told of
an idle limit as well. Safe to use from several threads, and in the middle of itself, for there a coroutine that nobody
awaits any more may be collected, whose stream ends; the number of targets is bounded. Not responsible for the words
(``policy.cause``) or for the arithmetic of idle ages (``policy.idle_limit``).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from ..policy.history import OriginHistory
from ..policy.idle_limit import YOUNG

if TYPE_CHECKING:
    from ..net.wire import Wire
    from ..policy.failure import Failure
    from ..policy.idle_limit import IdleEstimate

__all__ = ["TargetMemory", "Witness", "memory_of"]

_MAX_TARGETS: Final = 1024


class TargetMemory:
    """See the module."""

    __slots__ = ("_answers", "_history", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._history = OriginHistory()
        self._answers = 0
        """Connections that were ever heard of."""

    def not_connected(self, failure: Failure) -> Failure:
        """Take note of a failure to connect; it, with its likely cause."""
        with self._lock:
            return self._history.failed(time.monotonic(), failure, idle=0.0, answers=self._answers)

    def lost(self, failure: Failure, *, idle: float, used: bool) -> Failure:
        """The same for a connection that stood: see ``OriginHistory.stream_failed``."""
        with self._lock:
            now = time.monotonic()
            return self._history.stream_failed(now, failure, idle=idle, used=used, answers=self._answers)

    def closed(self, *, idle: float) -> None:
        """The peer has ended a connection in good order, ``idle`` seconds after it was last used."""
        with self._lock:
            self._history.ended_idle(time.monotonic(), idle=idle, failure=None)

    def answered(self, at: float) -> None:
        """A connection is over that was heard of ``at`` a monotonic time."""
        with self._lock:
            self._answers += 1
            self._history.answered(at)

    def survived(self, *, idle: float) -> None:
        """A connection was heard of after ``idle`` seconds of silence."""
        with self._lock:
            self._history.survived(time.monotonic(), idle=idle)

    @property
    def estimate(self) -> IdleEstimate | None:
        """The idle limit as far as it is known."""
        with self._lock:
            return self._history.estimate(time.monotonic())


class Witness:
    """What one stream has to tell its target's memory. It knows neither the stream nor its wire."""

    __slots__ = ("_ended", "_memory", "_quiet")

    def __init__(self, memory: TargetMemory) -> None:
        self._memory = memory
        self._quiet = 0.0
        """How long the silence was that we have broken, as long as nothing was heard since."""
        self._ended = False

    def sending(self, wire: Wire) -> None:
        """Something is about to be sent."""
        quiet = time.monotonic() - max(wire.last_read, wire.last_write)
        if quiet >= YOUNG:
            self._quiet = quiet

    def heard(self, quiet: float) -> None:
        """Something came in, for which a reader has waited, ``quiet`` seconds after the last use."""
        quiet = max(quiet, self._quiet)
        self._quiet = 0.0
        if quiet >= YOUNG:
            self._memory.survived(idle=quiet)

    def closed(self, wire: Wire) -> None:
        """The peer has ended its side in good order."""
        if not self._ended:
            self._ended = True
            self._memory.closed(idle=time.monotonic() - max(wire.last_read, wire.last_write))

    def over(self, wire: Wire) -> None:
        """The stream has ended, in whatever way; told once."""
        if wire.bytes_in:
            self._memory.answered(wire.last_read)

    def explain(self, failure: Failure) -> Failure:
        """The failure of the stream, with its likely cause."""
        used = self._quiet > 0.0
        return self._memory.lost(failure, idle=self._quiet if used else failure.idle or 0.0, used=used)


_memories: dict[tuple[str, int, str | None], TargetMemory] = {}
_lock: Final = threading.RLock()


def memory_of(host: str, port: int, via: str | None) -> TargetMemory:
    """The memory of a target, as it is reached through the proxy ``via``."""
    key = (host, port, via)
    with _lock:
        found = _memories.pop(key, None) or TargetMemory()
        if len(_memories) >= _MAX_TARGETS:
            del _memories[next(iter(_memories))]
        _memories[key] = found
        return found
