"""``FaultyFrames``: HTTP/2 frames to the client, and the faults at ``frame``, which strike before the frame they name.

Frames are counted from 0, those of the connection all together, and those of each answer for themselves (``#n``).
Not responsible for what is in a frame (``_http2``), or for faults at bytes (``_faulty``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

import anyio

from ._frames import Frame, goaway, ping, rst_stream
from ._link import LinkEnded
from .faults import Action, Fault, Point

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._faulty import FaultyLink

__all__ = ["Exchange", "FaultyFrames"]

_CANCEL: Final = 8  # RFC 9113, section 7
_FLOOD: Final = 10_000


@final
@dataclass(slots=True)
class Exchange:
    """A request and its answer, as far as they have come."""

    number: int
    """Of the connection's requests, from 1."""
    stream: int
    received: int = 0
    """Bytes of the request's frames."""
    sent: int = 0
    """Bytes of the answer's frames."""
    frames: int = 0
    """Frames of the answer."""
    over: bool = False
    """Reset, by us or by the client: nothing more is sent."""


@final
class FaultyFrames:
    """See the module."""

    def __init__(self, faulty: FaultyLink, send: Callable[[bytes], Awaitable[None]] | None = None) -> None:
        self._send = send or faulty.send_beside
        """For frames that belong to no answer, as far as is known."""
        self.latest = 0
        """The latest stream that the client has opened."""
        self.last: int | None = None
        """After a GOAWAY of ours: the last stream that it lets live."""
        self._faulty = faulty
        self._sent = 0
        self._lock = anyio.Lock()

    async def send(self, frame: Frame, exchange: Exchange | None = None) -> None:
        """Send a frame, of an answer or of the connection.

        Raises:
            LinkEnded: A fault or the peer ended the connection.
        """
        async with self._lock:
            while fault := self._due(exchange):
                await self._strike(fault, frame, exchange)
            if exchange is None:
                await self._send(frame.encode())
            elif not exchange.over:
                data = frame.encode()
                await self._faulty.send_answer(exchange.number, exchange.sent, data)
                exchange.sent += len(data)
                exchange.frames += 1
            self._sent += 1

    def _due(self, exchange: Exchange | None) -> Fault | None:
        number = 0 if exchange is None else exchange.number
        for fault in self._faulty.due(Point.FRAME, number):
            passed = self._sent if fault.nth is None or exchange is None else exchange.frames
            possible = fault.action is not Action.RST_STREAM or (exchange is not None and not exchange.over)
            if fault.at <= passed and possible:
                return fault
        return None

    async def _strike(self, fault: Fault, frame: Frame, exchange: Exchange | None) -> None:
        value = None if fault.value is None else int(fault.value)
        match fault.action:
            case Action.RST_STREAM:
                assert exchange is not None  # noqa: S101 - see _due
                self._faulty.take(fault)
                code = _CANCEL if value is None else value
                await self._faulty.send_beside(rst_stream(exchange.stream, code).encode())
                exchange.over = True
            case Action.GOAWAY:
                self._faulty.take(fault)
                self.last = self.latest
                await self._faulty.send_beside(goaway(self.last, value or 0).encode())
            case Action.FLOOD:
                self._faulty.take(fault)
                await self._faulty.send_beside(ping(b"\0" * 8).encode() * (value or _FLOOD))
            case Action.TRUNCATE:
                self._faulty.take(fault)
                data = frame.encode()
                await self._faulty.send_beside(data[: min(value or len(data) // 2, len(data) - 1)])
                self._faulty.link.fin()
                raise LinkEnded(str(fault), orderly=True)
            case _:
                await self._faulty.strike(fault)
