"""``Http2Settings``: what a client's HTTP/2 connections are told, and the memory that they share.

Not responsible for applying any of it (``http2``, ``h2_heartbeat``), and imports nothing that needs h2.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Self

from ..policy.pings import FLOOR
from ..policy.settings import Heartbeat
from .h2_memory import Http2Memory

__all__ = ["DEAD_AFTER", "Http2Settings"]

DEAD_AFTER: Final = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Settings:
    """Times in seconds.

    ``pings`` False switches the heartbeat off; ``heartbeat`` None is the default schedule. ``floor`` is the shortest
    interval: less than the default gets a client sent away by real servers. ``dead_after`` is the keepalive's, and
    ``max_requests`` the pool's.
    """

    memory: Http2Memory = field(default_factory=Http2Memory)
    pings: bool = True
    heartbeat: Heartbeat | None = None
    floor: float = FLOOR
    dead_after: float = DEAD_AFTER
    max_requests: int | None = None

    def below(self, learnt: float | None) -> Self:
        """With a heartbeat below an idle limit of the path that was learnt, unless one was given or switched off."""
        if learnt is None or self.heartbeat is not None or not self.pings:
            return self
        return replace(self, heartbeat=Heartbeat(interval=max(learnt, self.floor)))
