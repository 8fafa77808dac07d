"""``Http1``: HTTP/1.1 on one connection of a simulated server. Not responsible for faults that all protocols share."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from holdwire.testing.faults import END, Action, Fault, Point

from .peer import HttpPeer

if TYPE_CHECKING:
    from holdwire.testing._faulty import Cursor

    from .kernel import SimSocket
    from .origin import Origin
    from .peer import Link

__all__ = ["Http1"]

_INSTEAD: Final = {
    408: b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    413: b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
    421: b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\n\r\n",
    425: b"HTTP/1.1 425 Too Early\r\nContent-Length: 0\r\n\r\n",
    429: b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 3\r\n\r\nno!",
    503: b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno!\r\n0\r\n\r\n",
}
"""Answers that say that the request was not executed."""


class Http1(HttpPeer):
    """HTTP/1.1 on one connection."""

    def __init__(self, origin: Origin, sock: SimSocket, link: Link | None, cursor: Cursor) -> None:
        super().__init__(origin, sock, link, cursor)
        self._exchange = 1
        self._passed = {Point.REQUEST: 0, Point.RESPONSE: 0}
        self._buffer = bytearray()
        self._replying = False
        self._out: list[bytes] = []
        self._name = ""
        self._closes = False

    # --- what comes in ---

    def ended(self, *, reset: bool) -> None:
        if reset or not self._replying:
            super().ended(reset=reset)
            self._out.clear()

    def _listen(self) -> None:
        self._deaf = False
        data = bytes(self._unread)
        self._unread.clear()
        done = 0
        for part in self._cursor.split(Point.REQUEST, self._exchange, self._passed[Point.REQUEST], data):
            if isinstance(part, Fault):
                if self._strike(part):
                    if not self.over:
                        self._unread += data[done:]
                    break
            else:
                self._passed[Point.REQUEST] += len(part)
                done += len(part)
                self._buffer += part
        self.sock.flush()
        self._parse()

    def _parse(self) -> None:
        if self._replying:
            return
        head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not found:
            return
        name = head.split(b" ", 2)[1].decode()
        self._name = name
        ask = self.origin.asks[name]
        instead = self.origin.instead[name]
        if instead and instead[0] == 413:
            instead.pop()
            self._buffer.clear()
            self._reply([_INSTEAD[413]], closes=True)
            return
        body = _whole_body(head, rest)
        if body is None:
            return
        self._buffer.clear()
        self.origin.check_upload(name, body)
        for fault in self._cursor.due(Point.REQUEST, self._exchange):
            if fault.at == END:
                self._cursor.take(fault)
                if self._strike(fault) and self.over:
                    return
        if instead:
            status = instead.pop(0)
            self._reply([_INSTEAD[status]], closes=status == 408)
            return
        self._reply(ask.answer(self.origin.execute(name, body, self.sock)), closes=ask.closes)

    # --- what goes out ---

    def _reply(self, pieces: list[bytes], *, closes: bool) -> None:
        self._replying = True
        self._out = list(pieces)
        self._closes = closes
        self.kernel.after(self.origin.history.service, None, self._speak)

    def _speak(self) -> None:
        self._mute = False
        while self._out and not self._mute and not self.over:
            data = self._out.pop(0)
            done = 0
            for part in self._cursor.split(Point.RESPONSE, self._exchange, self._passed[Point.RESPONSE], data):
                if isinstance(part, Fault):
                    if self._strike(part):
                        if not self.over:
                            self._out.insert(0, data[done:])
                        break
                else:
                    self._passed[Point.RESPONSE] += len(part)
                    done += len(part)
                    if not self._half:
                        self.link.from_peer(part)
        if self._replying and not self._out and not self._mute and not self.over:
            self._replied()

    def _replied(self) -> None:
        self._replying = False
        if not self._half and (one := self.sock.try_of(self._name)) is not None:
            one.end = self.sock.given
        for fault in self._cursor.due(Point.RESPONSE, self._exchange):
            if fault.at == END:
                self._cursor.take(fault)
                self._strike(fault)
        if self._closes:
            self.end(Action.FIN)
            return
        self._exchange += 1
        self._passed = dict.fromkeys(self._passed, 0)
        number = self._exchange
        for fault in self._cursor.due(Point.IDLE, number):
            self.kernel.after(fault.at, None, partial(self._idle, fault, number))

    def _idle(self, fault: Fault, number: int) -> None:
        if not self.over and self._exchange == number and not self._passed[Point.REQUEST]:
            self._cursor.take(fault)
            self._strike(fault)


def _whole_body(head: bytes, rest: bytes) -> bytes | None:
    """The body behind ``head`` once it is complete."""
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = bytearray()
        while True:
            line, found, rest = rest.partition(b"\r\n")
            if not found:
                return None
            size = int(line, 16)
            if len(rest) < size + 2:
                return None
            if not size:
                return bytes(body)
            body += rest[:size]
            rest = rest[size + 2 :]
    start = lower.find(b"content-length: ")
    size = 0 if start < 0 else int(lower[start + 16 :].split(b"\r", 1)[0])
    return rest[:size] if len(rest) >= size else None
