"""``StreamLimit``: how long a stream that only the server speaks on may be silent, and how long without progress.

Pure: times come in. The limit for silence is given, or learnt: three times the median of the pauses that the server
makes, between 15 and 90 s. Pauses below a second are bursts and say nothing. A comment is life, but no progress: a
stream can look alive while the answer never comes. Not responsible for what is done when a limit is reached.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

__all__ = ["StreamLimit"]

_DEFAULT: Final = 90.0
_LEAST: Final = 15.0
_TIMES: Final = 3
_BURST: Final = 1.0
_ENOUGH: Final = 3


class StreamLimit:
    """See the module. Times are monotonic seconds.

    Args:
        idle: The limit for silence; None learns it.
        progress: The limit for a time without an event; None sets none.
    """

    def __init__(self, *, idle: float | None, progress: float | None) -> None:
        self._idle = idle
        self._progress = progress
        self._pauses: deque[float] = deque(maxlen=9)
        self._heard = self._moved = 0.0

    def begin(self, now: float) -> None:
        """A connection stands."""
        self._heard = self._moved = now

    def heard(self, now: float, *, events: bool) -> None:
        """Bytes came; ``events``: and they completed one."""
        pause = now - self._heard
        if pause >= _BURST:
            self._pauses.append(pause)
        self._heard = now
        if events:
            self._moved = now

    @property
    def idle(self) -> float:
        """Seconds of silence that are too much."""
        if self._idle is not None:
            return self._idle
        if len(self._pauses) < _ENOUGH:
            return _DEFAULT
        return min(_DEFAULT, max(_LEAST, _TIMES * median(self._pauses)))

    def left(self, now: float) -> float:
        """Seconds until the nearer of the limits."""
        left = self._heard + self.idle - now
        if self._progress is not None:
            left = min(left, self._moved + self._progress - now)
        return max(left, 0.0)

    @property
    def reason(self) -> str:
        """Which limit is the nearer one, once it was reached."""
        if self._progress is not None and self._moved + self._progress < self._heard + self.idle:
            return f"no event was received for {self._progress:g} s, only comments"
        return f"nothing was received for {self.idle:g} s"
