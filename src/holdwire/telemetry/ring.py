"""``RecentFailures``: the last failures of this process, kept whatever the sampler says.

Not responsible for spans or logs; it sees every failure, also what a storm's limits hold back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, final

from ..events import FailureRecorded
from .limiter import is_silent

if TYPE_CHECKING:
    from ..events import Event

__all__ = ["RecentFailures"]


@final
class RecentFailures:
    """An observer that keeps the last ``size`` failures, without the contexts of their requests (which would keep
    the caller's objects alive).

    Raises:
        ValueError: ``size`` is below 1.
    """

    def __init__(self, size: int = 256) -> None:
        if size < 1:
            raise ValueError(f"RecentFailures: size={size!r} must be at least 1")
        self._ring: deque[FailureRecorded] = deque(maxlen=size)

    def on_event(self, event: Event) -> None:
        if isinstance(event, FailureRecorded) and not is_silent(event):
            self._ring.append(replace(event, context=None, last_context=None))

    def failures(self) -> list[FailureRecorded]:
        """What is kept, the oldest first."""
        return list(self._ring)

    def clear(self) -> None:
        """Forget everything."""
        self._ring.clear()
