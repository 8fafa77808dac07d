"""``Flight``: the last things that happened on one connection, kept in a small ring until somebody asks why it died.

What goes in is a time, one of ``Mark`` and a number, never text of a peer or a caller. A request that goes well puts
three tuples in and pushes three out; nothing is formatted before a failure. Pure. Not responsible for when what is
noted (the owners of connections are) or where it is shown (notes, spans, the snapshot).
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SIZE", "Flight", "Mark", "Moment", "narrate"]

SIZE: Final = 16
"""Moments that are kept: the last five requests, say."""


class Mark(enum.StrEnum):
    """What can happen on a connection; the number beside it is named where it has a meaning, and -1 elsewhere."""

    CONNECTED = "connected"
    SECURED = "TLS established"
    REQUEST = "request"
    """Its number on this connection, from 1."""
    RESPONSE = "response"
    """Its status."""
    IDLE = "idle"
    PING = "ping"
    PONG = "ping answered (ms)"
    """After how many milliseconds."""
    RESET = "stream reset by the peer, code"
    GOAWAY = "GOAWAY, code"
    CLOSED_WINDOW = "the peer's window is closed"
    DOUBTED = "the path looks dead"


class Moment(NamedTuple):
    """One entry: ``ago`` seconds before the failure."""

    ago: float
    mark: Mark
    number: int


class Flight(deque[tuple[float, Mark, int]]):
    """The ring of one connection: append (monotonic time, mark, number or -1)."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(maxlen=SIZE)

    def before(self, now: float) -> tuple[Moment, ...]:
        """What is in the ring, the oldest first, as seen from ``now``; for any thread, so it is copied at once."""
        return tuple([Moment(now - at, mark, number) for at, mark, number in list(self)])


def narrate(moments: Iterable[Moment]) -> str:
    """The moments in one line."""
    # %-formatting takes the tuple as it is, and half the time of an f-string
    return "; ".join(["-%.3f s %s %d" % one if one[2] >= 0 else "-%.3f s %s" % one[:2] for one in moments])  # noqa: UP031
