"""``faulty_stream_pair``: two anyio byte streams in memory, joined by a link that misbehaves by script.

For tests of protocol code without sockets; with virtual time (trio's ``MockClock``) they take no time either. The
points are ``request`` (bytes from the first stream to the second) and ``response`` (the other way), counted from the
beginning.
Bytes that arrived before a reset can still be read, as with TCP. Not responsible for what a kernel or TLS adds.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, final

import anyio
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, ResourceGuard
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from ._faulty import Cursor
from .faults import END, Action, Fault, Point, Script

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FaultyStream", "faulty_stream_pair"]

_CAPACITY = 65536
_IMPOSSIBLE = frozenset({Action.REFUSE, Action.FIN_WITHOUT_CLOSE_NOTIFY, Action.EXPIRE})


@final
class _Pipe:
    """One direction."""

    def __init__(self, capacity: int) -> None:
        self.buffer = bytearray()
        self.capacity = capacity
        self.ended = False
        """The sender will send no more."""
        self.broken = False
        """Reset, or the receiver is gone."""
        self.changed = anyio.Event()

    def notify(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


@final
class _Wire:
    """Both directions and the faults between them."""

    def __init__(self, script: Script, capacity: int) -> None:
        self.pipes = {Point.REQUEST: _Pipe(capacity), Point.RESPONSE: _Pipe(capacity)}
        self.struck: list[Fault] = []
        self._cursor = Cursor(script)
        self._passed = dict.fromkeys(self.pipes, 0)
        self._rates: dict[Point, float] = {}
        self._corrupt = dict.fromkeys(self.pipes, 0)
        self._lost = False
        self._healed = anyio.Event()

    async def carry(self, point: Point, data: bytes) -> None:
        """Bring ``data`` to the other end."""
        for part in self._cursor.split(point, 1, self._passed[point], data):
            if isinstance(part, Fault):
                await self.strike(part)
            else:
                await self._pour(point, part)
                self._passed[point] += len(part)

    async def finish(self, point: Point) -> None:
        """The sender of a direction says that it is done."""
        for fault in self._cursor.due(point, 1):
            if fault.at == END:
                self._cursor.take(fault)
                await self.strike(fault)
        self.end(point)

    def end(self, *points: Point) -> None:
        for point in points:
            if not self._lost:
                self.pipes[point].ended = True
            self.pipes[point].notify()

    def reset(self) -> None:
        for pipe in self.pipes.values():
            if not self._lost:
                pipe.broken = True
            pipe.notify()

    def heal(self) -> None:
        self._lost = False
        self._rates.clear()
        self._corrupt = dict.fromkeys(self.pipes, 0)
        self._healed.set()
        self._healed = anyio.Event()

    async def strike(self, fault: Fault) -> None:
        self.struck.append(fault)
        match fault.action:
            case Action.RST:
                self.reset()
            case Action.FIN:
                self.end(Point.RESPONSE)
                self.pipes[Point.REQUEST].broken = True
                self.pipes[Point.REQUEST].notify()
            case Action.HALF_CLOSE:
                self.end(Point.RESPONSE)
            case Action.STALL:
                await self._wait(fault.value)
            case Action.BLACK_HOLE:
                self._lost = True
                if fault.value is not None:
                    await self._wait(fault.value)
                    self._lost = False
            case Action.DRIP:
                self._rates[fault.point] = fault.value or 1
            case Action.CORRUPT:
                self._corrupt[fault.point] = int(fault.value or 1)
            case _:  # heal: faulty_stream_pair refused the others
                self._rates.clear()
                self._corrupt = dict.fromkeys(self.pipes, 0)

    async def _pour(self, point: Point, data: bytes) -> None:
        pipe = self.pipes[point]
        damaged = min(self._corrupt[point], len(data))
        self._corrupt[point] -= damaged
        data = bytes(byte ^ 0xFF for byte in data[:damaged]) + data[damaged:]
        while data and not self._lost:
            rate = self._rates.get(point)
            if pipe.broken or pipe.ended:
                raise _broken(errno.EPIPE)
            room = pipe.capacity - len(pipe.buffer)
            if room <= 0:
                await pipe.changed.wait()
                continue
            count = room if rate is None else 1
            pipe.buffer += data[:count]
            data = data[count:]
            pipe.notify()
            if rate is not None:
                await anyio.sleep(1 / rate)

    async def _wait(self, seconds: float | None) -> None:
        with anyio.move_on_after(seconds):
            await self._healed.wait()


@final
class FaultyStream(ByteStream):
    """One end of a pair; made by ``faulty_stream_pair``."""

    def __init__(self, wire: _Wire, sends: Point, receives: Point) -> None:
        self._wire = wire
        self._sends = sends
        self._receives = receives
        self._sending = ResourceGuard("sending to")
        self._receiving = ResourceGuard("receiving from")
        self._closed = False

    @property
    def struck(self) -> tuple[Fault, ...]:
        """The faults that have struck on the pair so far."""
        return tuple(self._wire.struck)

    def heal(self) -> None:
        """End stalls, black holes, dripping and damage of the pair."""
        self._wire.heal()

    def reset(self) -> None:
        """End the pair as by TCP's RST."""
        self._wire.reset()

    async def send(self, item: bytes) -> None:
        """Send all of ``item``.

        Raises:
            anyio.BrokenResourceError: The other end is gone, or a fault broke the pair.
            anyio.ClosedResourceError, anyio.BusyResourceError: As anyio says.
        """
        with self._sending:
            await checkpoint()
            self._check()
            pipe = self._wire.pipes[self._sends]
            if pipe.broken or pipe.ended:
                raise _broken(errno.EPIPE)
            await self._wire.carry(self._sends, item)
            self._check()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Some bytes, at most ``max_bytes`` and at least one.

        Raises:
            ValueError: ``max_bytes`` is below 1.
            anyio.EndOfStream: The other end has closed.
            anyio.BrokenResourceError: A fault broke the pair.
            anyio.ClosedResourceError, anyio.BusyResourceError: As anyio says.
        """
        if max_bytes < 1:
            message = f"max_bytes must be a positive integer, not {max_bytes!r}"
            raise ValueError(message)
        with self._receiving:
            await checkpoint()
            pipe = self._wire.pipes[self._receives]
            while True:
                self._check()
                if pipe.buffer:
                    data = bytes(pipe.buffer[:max_bytes])
                    del pipe.buffer[:max_bytes]
                    pipe.notify()
                    return data
                if pipe.broken:
                    raise _broken(errno.ECONNRESET)
                if pipe.ended:
                    raise EndOfStream
                await pipe.changed.wait()

    async def send_eof(self) -> None:
        """Send no more; the other end reads to the end of the stream. May be called again.

        Raises:
            anyio.ClosedResourceError, anyio.BusyResourceError: As anyio says.
        """
        with self._sending:
            await checkpoint_if_cancelled()
            self._check()
            if not self._wire.pipes[self._sends].ended:
                await self._wire.finish(self._sends)
            await checkpoint()

    async def aclose(self) -> None:
        """Close; the other end reads to the end of the stream, and breaks when it sends. May be called again."""
        if not self._closed:
            self._closed = True
            self._wire.end(self._sends)
            receiving = self._wire.pipes[self._receives]
            receiving.broken = True
            receiving.notify()
        await checkpoint()

    def _check(self) -> None:
        if self._closed:
            raise ClosedResourceError


def faulty_stream_pair(
    script: Script | Fault | Iterable[Fault] | str = "", *, capacity: int = _CAPACITY
) -> tuple[FaultyStream, FaultyStream]:
    """A connected pair; the first stream is the client's for the purposes of the script.

    ``capacity`` is what fits into each direction before ``send`` waits, in bytes. To be called in an event loop.

    Raises:
        ValueError: The script asks for what streams in memory cannot do, or the capacity is below 1.
    """
    checked = Script.of(script).require({Point.REQUEST, Point.RESPONSE}, "faulty_stream_pair")
    for fault in checked:
        if fault.action in _IMPOSSIBLE or fault.nth is not None:
            message = f"streams in memory cannot do {str(fault)!r}"
            raise ValueError(message)
    if capacity < 1:
        message = f"the capacity must be a positive number of bytes, not {capacity!r}"
        raise ValueError(message)
    wire = _Wire(checked, capacity)
    return FaultyStream(wire, Point.REQUEST, Point.RESPONSE), FaultyStream(wire, Point.RESPONSE, Point.REQUEST)


def _broken(number: int) -> BrokenResourceError:
    error = BrokenResourceError()
    error.__cause__ = OSError(number, os.strerror(number))
    return error
