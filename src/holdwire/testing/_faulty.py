"""``FaultyLink``: a link that carries out a script. Not responsible for sockets (``_link``) or for HTTP.

The owner says when an exchange begins (``begin``) and when a request or an answer is complete (``request_over``,
``response_over``); all else follows from the bytes. An ending raises ``LinkEnded``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import anyio

from ._link import Link, LinkEnded
from .faults import END, Action, Fault, Point, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Cursor", "FaultyLink"]


@final
class Cursor:
    """The faults of a script that have not struck yet. Pure."""

    def __init__(self, script: Script) -> None:
        self._pending = list(script)

    def add(self, script: Script) -> None:
        """Add faults."""
        self._pending += script

    def due(self, point: Point, nth: int) -> list[Fault]:
        """The faults at ``point`` that may strike in exchange ``nth``, in the order of their positions."""
        here = (fault for fault in self._pending if fault.point is point and fault.nth in {None, nth})
        return sorted(here, key=lambda fault: fault.at)

    def take(self, fault: Fault) -> None:
        """Forget ``fault``: it has struck."""
        self._pending.remove(fault)

    def split(self, point: Point, nth: int, start: int, data: bytes) -> Iterator[bytes | Fault]:
        """Cut ``data``, which begins at position ``start``, at the faults that strike in it."""
        done = 0
        while data[done:]:
            fault = next(iter(self.due(point, nth)), None)
            if fault is None or fault.at >= start + len(data):
                yield data[done:]
                return
            cut = max(int(fault.at) - start, done)
            if cut > done:
                yield data[done:cut]
                done = cut
            self.take(fault)
            yield fault


@final
class FaultyLink:
    """A link and its script."""

    def __init__(self, link: Link, script: Script, tell: Callable[[Fault], None]) -> None:
        self.link = link
        self.exchange = 0
        """The number of the present exchange, from 1."""
        self._cursor = Cursor(script)
        self._tell = tell
        self._passed = dict.fromkeys(Point, 0)
        self._healed = anyio.Event()
        self._rates: dict[Point, float] = {}
        self._corrupt = 0
        self._expired = False

    def add(self, script: Script) -> None:
        """More faults, for the exchange that has begun."""
        self._cursor.add(script)

    async def catch_up(self) -> None:
        """Strike what would have been due in the bytes of the request that are here. Damage waits for later ones.

        Raises:
            LinkEnded: A fault ended the connection.
        """
        for fault in self._cursor.due(Point.REQUEST, self.exchange):
            if fault.at < self._passed[Point.REQUEST] and fault.action is not Action.CORRUPT:
                await self.strike(fault)

    async def connected(self) -> None:
        """Strike what is due once the connection stands.

        Raises:
            LinkEnded: A fault ended the connection.
        """
        for fault in self._cursor.due(Point.CONNECT, 1):
            self._cursor.take(fault)
            if fault.action is not Action.REFUSE:  # the listener's: it happened before
                await self._strike(fault)

    async def handshake(self) -> None:
        """The TLS handshake, if there is TLS.

        Raises:
            LinkEnded: A fault or the peer ended the connection.
        """

        async def send(data: bytes) -> None:
            for part in self._cursor.split(Point.HANDSHAKE, 1, self._passed[Point.HANDSHAKE], data):
                if isinstance(part, Fault):
                    await self._strike(part)
                else:
                    await self._emit(Point.HANDSHAKE, part)
            self._passed[Point.HANDSHAKE] += len(data)

        await self.link.handshake(send)

    def begin(self) -> None:
        """The next exchange begins."""
        self.exchange += 1
        self._passed[Point.REQUEST] = self._passed[Point.RESPONSE] = 0

    async def wait_idle(self) -> bytes:
        """The first bytes after an exchange; faults at ``idle`` strike while they are awaited.

        Raises:
            LinkEnded: A fault or the peer ended the connection.
        """
        begun = anyio.current_time()
        while fault := self.next_idle():
            with anyio.move_on_after(begun + fault.at - anyio.current_time()):
                return await self.receive_any()
            await self.strike(fault)
        return await self.receive_any()

    def next_idle(self) -> Fault | None:
        """The next fault at ``idle``, for an owner that measures the time itself."""
        return next(iter(self._cursor.due(Point.IDLE, self.exchange)), None)

    def due(self, point: Point, exchange: int) -> list[Fault]:
        """The faults at ``point`` that may strike in ``exchange``, for an owner that counts what they count."""
        return self._cursor.due(point, exchange)

    def take(self, fault: Fault) -> None:
        """Tell that ``fault`` strikes now: the owner carries it out itself."""
        self._cursor.take(fault)
        self._tell(fault)

    async def strike(self, fault: Fault) -> None:
        """Strike ``fault``, one of ``next_idle`` or ``due``.

        Raises:
            LinkEnded: The fault ended the connection.
        """
        self._cursor.take(fault)
        await self._strike(fault)

    async def receive(self) -> bytes:
        """Bytes of a request.

        Raises:
            LinkEnded: A fault or the peer ended the connection.
        """
        return await self.arrived(await self.receive_any())

    async def arrived(self, data: bytes) -> bytes:
        """Strike what is due in ``data``, bytes of a request that have been received.

        Raises:
            LinkEnded: A fault ended the connection.
        """
        arrived = await self.arrived_of(max(self.exchange, 1), self._passed[Point.REQUEST], data)
        self._passed[Point.REQUEST] += len(data)
        return arrived

    async def arrived_of(self, exchange: int, start: int, data: bytes) -> bytes:
        """As ``arrived``, for the request number ``exchange``, of which ``start`` bytes came before.

        Raises:
            LinkEnded: A fault ended the connection.
        """
        whole = bytearray()
        for part in self._cursor.split(Point.REQUEST, exchange, start, data):
            if isinstance(part, Fault):
                await self._strike(part)
            else:
                damaged = min(self._corrupt, len(part))
                self._corrupt -= damaged
                whole += bytes(byte ^ 0xFF for byte in part[:damaged]) + part[damaged:]
        return bytes(whole)

    async def request_over(self, exchange: int | None = None) -> None:
        """The request (the present one, or the given one) has arrived whole.

        Raises:
            LinkEnded: A fault ended the connection.
        """
        await self._at_end(Point.REQUEST, exchange or self.exchange)

    async def send(self, data: bytes) -> None:
        """Send bytes of an answer.

        Raises:
            LinkEnded: A fault or the peer ended the connection.
        """
        await self.send_answer(max(self.exchange, 1), self._passed[Point.RESPONSE], data)
        self._passed[Point.RESPONSE] += len(data)

    async def send_answer(self, exchange: int, start: int, data: bytes) -> None:
        """As ``send``, for the answer to the request number ``exchange``, of which ``start`` bytes are out.

        Raises:
            LinkEnded: A fault or the peer ended the connection.
        """
        for part in self._cursor.split(Point.RESPONSE, exchange, start, data):
            if isinstance(part, Fault):
                await self._strike(part)
            else:
                await self._emit(Point.RESPONSE, part)

    async def send_beside(self, data: bytes) -> None:
        """Send bytes that belong to no answer.

        Raises:
            LinkEnded: The peer ended the connection.
        """
        await self._emit(Point.RESPONSE, data)

    async def response_over(self, exchange: int | None = None) -> None:
        """The answer (to the present request, or the given one) is out whole.

        Raises:
            LinkEnded: A fault ended the connection.
        """
        await self._at_end(Point.RESPONSE, exchange or self.exchange)

    def heal(self) -> None:
        """End what lasts: stalls, black holes, dripping, damage."""
        self._rates.clear()
        self._corrupt = 0
        self._expired = False
        self._healed.set()
        self._healed = anyio.Event()

    async def receive_any(self, max_bytes: int = 65536) -> bytes:
        """Bytes of whatever it is: no fault strikes in them.

        Raises:
            LinkEnded: The connection had expired, or the peer ended it.
        """
        rate = self._rates.get(Point.REQUEST)
        if rate is not None:
            await anyio.sleep(1 / rate)
        data = await self.link.receive(max_bytes if rate is None else 1)
        if data and self._expired:
            self.link.rst()
            message = "used after it had expired"
            raise LinkEnded(message)
        return data

    async def _at_end(self, point: Point, exchange: int) -> None:
        for fault in self._cursor.due(point, exchange):
            if fault.at == END:
                self._cursor.take(fault)
                await self._strike(fault)

    async def _emit(self, point: Point, data: bytes) -> None:
        send = self.link.send_raw if point is Point.HANDSHAKE else self.link.send
        damaged = min(self._corrupt, len(data))
        self._corrupt -= damaged
        if damaged and point is Point.HANDSHAKE:
            data, damaged = bytes(byte ^ 0xFF for byte in data[:damaged]) + data[damaged:], 0
        if damaged:
            await self.link.send(data[:damaged], damage=True)
            data = data[damaged:]
        while data and (rate := self._rates.get(point)) is not None:
            await send(data[:1])
            data = data[1:]
            await anyio.sleep(1 / rate)
        if data:
            await send(data)

    async def _strike(self, fault: Fault) -> None:
        self._tell(fault)
        match fault.action:
            case Action.RST:
                self.link.rst()
                raise LinkEnded(str(fault))
            case Action.FIN | Action.FIN_WITHOUT_CLOSE_NOTIFY:
                self.link.fin(close_notify=fault.action is Action.FIN)
                raise LinkEnded(str(fault), orderly=True)
            case Action.HALF_CLOSE:
                self.link.half_close()
            case Action.STALL:
                await self._until_healed(fault.value)
            case Action.BLACK_HOLE:
                self.link.black_hole()
                await self._until_healed(fault.value)
                self.link.black_hole(drop=False)
            case Action.DRIP:
                self._rates[fault.point] = fault.value or 1
            case Action.CORRUPT:
                self._corrupt = int(fault.value or 1)
            case Action.EXPIRE:
                self._expired = True
            case Action.HEAL:
                self._rates.clear()
                self._corrupt = 0
            case _:
                message = f"{fault} cannot be carried out on a connection"
                raise AssertionError(message)

    async def _until_healed(self, seconds: float | None) -> None:
        with anyio.move_on_after(seconds):
            await self._healed.wait()
