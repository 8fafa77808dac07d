"""Deadlines: a time limit for a whole call, out of which each wait takes what is left. Monotonic seconds."""

from __future__ import annotations

import time

__all__ = ["deadline_after", "time_left"]


def deadline_after(timeout: float | None) -> float | None:
    """The moment at which ``timeout`` seconds are over; None for no limit."""
    return None if timeout is None else time.monotonic() + timeout


def time_left(deadline: float | None) -> float | None:
    """Seconds until ``deadline``, at least 0; None for no limit."""
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)
