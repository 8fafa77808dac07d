"""``SlowPeer``: keeps TCP_USER_TIMEOUT from ending a connection whose peer lives and does not read.

A peer whose window is closed acknowledges every probe, and yet the kernel ends the connection with ETIMEDOUT. So while
bytes are queued, three times in that time-out, the kernel's numbers are looked at, and the limit is lifted while the
window is closed and the ACKs are fresh. It costs an entry in the ticker, and only while something is queued.
Not responsible for what is fresh (``policy.evidence``); without TCP_INFO everything stays as it is.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from ..net.ticker import current_ticker
from ..policy.evidence import window_closed

if TYPE_CHECKING:
    from ..net.stream import SocketStream
    from ..policy.settings import Keepalive
    from ..tls.stream import TLSStream

__all__ = ["SlowPeer"]


class SlowPeer:
    """See the module. Its stream holds it, the ticker does not."""

    __slots__ = ("__weakref__", "_dead_after", "_keepalive", "_lifted", "_wire", "scheduled")

    def __init__(self, wire: SocketStream | TLSStream, keepalive: Keepalive, dead_after: float) -> None:
        self._wire = wire
        self._keepalive = keepalive
        self._dead_after = dead_after
        self._lifted = False
        self.scheduled = math.inf

    def watch(self) -> None:
        """Something is being sent: begin to look, unless that is so already."""
        if self.scheduled == math.inf:
            current_ticker().add(self, time.monotonic() + self._dead_after / 3)

    def tick(self, now: float) -> float:
        wire = self._wire
        if wire.closed or wire.failure is not None:
            return math.inf
        facts = wire.facts()
        info, queued = facts.get("tcp"), facts.get("outq") or 0
        closed = info is not None and bool(window_closed(info, queued=queued, dead_after=self._dead_after))
        if closed is not self._lifted:
            self._lifted = closed
            wire.set_user_timeout(None if closed else self._keepalive)
        return now + self._dead_after / 3 if queued else math.inf

    def suspect(self, now: float) -> float:
        return self.tick(now)
