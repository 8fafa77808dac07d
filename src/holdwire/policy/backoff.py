"""How long to pause: between the rounds of connecting, and between the reconnects of a session.

Dice come in as numbers from 0 to 1. Not responsible for the pauses between attempts of a request, which the caller's
wait strategy gives (``retrying``), or for sleeping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .checks import check_seconds

__all__ = ["CONNECT_PAUSES", "CONNECT_ROUNDS", "Backoff", "connect_pause"]

CONNECT_ROUNDS: Final = 4
"""How often the addresses of a host are tried at most."""
CONNECT_PAUSES: Final = 3.0
"""The most that the pauses between those rounds come to, in seconds."""
_CONNECT_STEP: Final = 0.2


def connect_pause(rounds: int, *, spent: float, dice: float, of: int = CONNECT_ROUNDS) -> float:
    """The pause after ``rounds`` failed rounds (1 and up) of ``of``, ``spent`` seconds of pauses having passed.

    Equal jitter: steps of 0.2 s doubling, half of a step fixed, half random. What is left of 3 s is shared out among
    the rounds that are left, so that all of them are made and the sum of the pauses stays at most 3 s.
    """
    step = min(_CONNECT_STEP * (1 << min(rounds - 1, 10)), (CONNECT_PAUSES - spent) / max(of - rounds, 1))
    return max(0.0, step / 2 + dice * step / 2)


_AFTER_OVERLOAD: Final = 1.0
_STABLE: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The pauses of a session that reconnects: decorrelated jitter between ``base`` and ``cap`` seconds.

    The next delay is random between min(last, a third of the cap) and min(3 * last, cap). ``spread`` seconds are what
    the first reconnects after a stable time are spread over; 5 suits a fleet.

    Raises:
        TypeError: A value is not a number.
        ValueError: A value is out of range.
    """

    base: float = 1.0
    cap: float = 30.0
    spread: float = 0.25

    def __post_init__(self) -> None:
        check_seconds("Backoff", "base", self.base, least=0.001, hint="1 is the default")
        check_seconds("Backoff", "cap", self.cap, least=self.base, hint="cap is the longest pause, base the first")
        check_seconds("Backoff", "spread", self.spread, least=0, hint="0 reconnects at once")

    def after_stable(self, dice: float) -> float:
        """The pause before the first reconnect after a connection that was stable: none, but for the spread."""
        return self.spread * dice

    def next(self, last: float | None, *, dice: float, overloaded: bool = False) -> float:
        """The pause after ``last`` (None for the first one).

        ``overloaded`` is a peer that said so (ENHANCE_YOUR_CALM, 429, 503, refused right after accept): at least 1 to
        2 s, because those whom it refused together must not come back together.
        """
        if last is None:
            delay = self.base * (0.5 + dice / 2)
        else:
            # a last pause below half the base (the spread after a stable connection) must not make a fast loop
            last = max(last, self.base / 2)
            low, high = min(last, self.cap / 3), min(3 * last, self.cap)
            delay = low + dice * (high - low)
        return max(delay, _AFTER_OVERLOAD * (1 + dice)) if overloaded else delay

    def starts_over(self, up_for: float, *, last: float | None, heard: bool = False) -> bool:
        """Whether a connection that was up for ``up_for`` seconds lets the pauses begin anew.

        A bare handshake does not: only max(10 s, the last pause) of stability, or a valid application message
        (``heard``).
        """
        return heard or up_for >= max(_STABLE, last or 0.0)
