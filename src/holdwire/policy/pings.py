"""When HTTP/2 PINGs may be sent: the schedule, the ledger that keeps servers calm, the memory of those that were not.

Theory of operation: gRPC's servers count a strike for each PING that comes less than 5 minutes after the one before
(2 hours while no stream is open), end the connection at the third, and forget all of it when they send HEADERS or
DATA (grpc/proposal, A8; grpc-go, ``http2_server.go``, ``handlePing``). The first PING after that is free. The ledger
counts like such a server, with 10 s to spare because the network may bring two PINGs closer together, and lets at
most two strikes pass. Data that arrives before the answer of the last PING may have been sent before the server saw
that PING: then the strikes are forgotten but the time of the PING is not.

The steps 30, 60, 120, 310, 310 ... s of silence are one free PING, two strikes, and valid ones for ever. An interval
that the user set is the user's wish and goes past the ledger; PINGs for other reasons never do.

Not responsible for sending, for time-outs (``liveness``) or for who shares a memory (``http.http2``). Times are
seconds of a monotonic clock; dice are numbers from 0 to 1.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["FLOOR", "PingMemory", "Pings"]

FLOOR: Final = 10.0
"""The shortest interval that a user can set (grpc/proposal, A8)."""
_STEPS: Final = (30.0, 60.0, 120.0, 310.0)
_FIRST_USE: Final = 30.0
_JITTER: Final = 0.15
_STRIKES: Final = 2
_SPARE: Final = 10.0
_APART: Final = 300.0 + _SPARE
_APART_IDLE: Final = 7200.0 + _SPARE


class Pings:
    """The PINGs of one connection.

    Args:
        now: The time the connection came up.
        interval: A fixed interval in place of the schedule; raised to ``FLOOR`` where it is below.
        scale: What ``PingMemory`` says about the origin: the interval, or every step, is so many times longer.
        while_idle: Whether to go on while no stream is open.
        jitter: The share by which intervals vary; on steps of 60 s and more only upward.
        dice: For the first interval.
        floor: The shortest interval, lower only in tests of a living connection.
    """

    __slots__ = (
        "_floor",
        "_interval",
        "_jitter",
        "_last_ping",
        "_last_read",
        "_scale",
        "_silence",
        "_step",
        "_strikes",
        "_unanswered",
        "_while_idle",
        "outstanding",
    )

    def __init__(
        self,
        now: float,
        *,
        interval: float | None = None,
        scale: float = 1.0,
        while_idle: bool = False,
        jitter: float = _JITTER,
        dice: float = 0.5,
        floor: float = FLOOR,
    ) -> None:
        self._interval = interval
        self._floor = floor
        self._scale = scale
        self._while_idle = while_idle
        self._jitter = jitter
        self._last_read = now
        self._last_ping = -math.inf
        self._strikes = 0
        self._step = 0
        self._unanswered = False
        self.outstanding = False
        """Whether a PING was sent and nothing at all was received since."""
        self._silence = self._length(dice)

    def received(self, now: float, *, data: bool, ack: bool = False, dice: float = 0.5) -> None:
        """A frame arrived. ``data`` is HEADERS or DATA, which start the schedule over; ``ack`` answers our PING."""
        self._last_read = now
        self.outstanding = False
        if ack:
            self._unanswered = False
        if data:
            self._strikes = 0
            if not self._unanswered:
                self._last_ping = -math.inf
            if self._step:
                self._step = 0
                self._silence = self._length(dice)

    def due(self, *, streams: int) -> float:
        """When the next PING by the schedule is due if nothing arrives; infinity while none is."""
        if self.outstanding or not (streams or self._while_idle):
            return math.inf
        silent = self._last_read + self._silence
        if self._interval is not None or self._strikes < _STRIKES:
            return silent
        return max(silent, self._last_ping + self._apart(streams))

    def wants(self, now: float, *, streams: int) -> bool:
        """Whether the schedule asks for a PING now (also before the HEADERS of a new stream, in the same write)."""
        return now >= self.due(streams=streams) and (self._interval is not None or self.allows(now, streams=streams))

    def wants_first_use(self, now: float, *, streams: int) -> bool:
        """Whether to send a PING before the HEADERS of a stream, because nothing was received for long."""
        if self.outstanding:
            return False
        silent = now - self._last_read
        if self._interval is not None:
            return silent >= self._silence
        return silent > _FIRST_USE * self._scale and self.allows(now, streams=streams)

    def wants_after_reset(self, now: float, *, streams: int) -> bool:
        """Whether to send a PING with an RST_STREAM, to learn if the connection is to blame."""
        return not self.outstanding and self.allows(now, streams=streams)

    def allows(self, now: float, *, streams: int) -> bool:
        """Whether the ledger lets a PING pass. ``streams`` are those that the server has open when it comes.

        So the stream that is opened after the PING, or was reset before it, is not among them.
        """
        return self._strikes < _STRIKES or not self._is_strike(now, streams)

    def sent(self, now: float, *, streams: int, scheduled: bool = True, dice: float = 0.5) -> None:
        """A PING was sent; ``scheduled`` if because ``wants`` asked for it."""
        if self._is_strike(now, streams):
            self._strikes += 1
        self._last_ping = now
        self._unanswered = True
        self.outstanding = True
        if scheduled:
            self._step = min(self._step + 1, len(_STEPS) - 1)
            self._silence = self._length(dice)

    def _is_strike(self, now: float, streams: int) -> bool:
        return now < self._last_ping + self._apart(streams)

    def _apart(self, streams: int) -> float:
        return (_APART if streams else _APART_IDLE) * self._scale

    def _length(self, dice: float) -> float:
        """The silence before the next PING by the schedule."""
        if self._interval is not None:
            return max(self._interval * (1 + self._jitter * (2 * dice - 1)), self._floor) * self._scale
        step = _STEPS[self._step]
        spread = self._jitter * (2 * dice - 1 if not self._step else dice)
        return step * self._scale * (1 + spread)


class PingMemory:
    """The origins that sent GOAWAY with ``too_many_pings``: each time their intervals double, for the life of this.

    Keeps the ``size`` origins that were asked for last.
    """

    __slots__ = ("_scales", "_size")

    def __init__(self, size: int = 1024) -> None:
        self._scales: OrderedDict[Hashable, float] = OrderedDict()
        self._size = size

    def learn(self, origin: Hashable) -> float:
        """``origin`` had too many PINGs; returns the new scale."""
        scale = self.scale(origin) * 2
        self._scales[origin] = scale
        if len(self._scales) > self._size:
            self._scales.popitem(last=False)
        return scale

    def scale(self, origin: Hashable) -> float:
        """How many times longer the intervals of ``origin`` are to be."""
        scale = self._scales.get(origin)
        if scale is None:
            return 1.0
        self._scales.move_to_end(origin)
        return scale
