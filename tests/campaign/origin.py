"""The servers of a simulation: HTTP/1.1 that breaks by script and keeps a ledger of what it executed.

The scripts are those of ``holdwire.testing.faults``. Not responsible for TCP (``kernel``) or for what is drawn
(``histories``).
"""

from __future__ import annotations

import errno
import zlib
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

from holdwire.testing._faulty import Cursor
from holdwire.testing.faults import CALLS, END, Action, Fault, Point, Script

from .kernel import RECEIVE_BUFFER

if TYPE_CHECKING:
    from .histories import Ask, History
    from .kernel import Kernel, SimSocket

__all__ = ["Conversation", "Origin", "answer_body", "request_body"]

_ENDINGS: Final = frozenset({Action.RST, Action.FIN, Action.FIN_WITHOUT_CLOSE_NOTIFY})
_INSTEAD: Final = {
    408: b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    413: b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
    421: b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\n\r\n",
    425: b"HTTP/1.1 425 Too Early\r\nContent-Length: 0\r\n\r\n",
    429: b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 3\r\n\r\nno!",
    503: b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno!\r\n0\r\n\r\n",
}
"""Answers that say that the request was not executed."""


def request_body(name: str, size: int) -> bytes:
    """What the request ``name`` uploads."""
    return (f"{name}up".encode() * (size // (len(name) + 2) + 1))[:size]


def answer_body(name: str, size: int) -> bytes:
    """What the request ``name`` is answered, beside a checksum of what it uploaded."""
    return (f"{name}down".encode() * (size // (len(name) + 4) + 1))[:size]


class Origin:
    """All servers: one process behind one address, which restarts now and then."""

    conversation: type[Conversation]
    """How it talks on a connection."""

    def __init__(self, kernel: Kernel, history: History) -> None:
        self.kernel = kernel
        self.history = history
        self.executed: Counter[str] = Counter()
        self.corrupted: list[str] = []
        self.asks: dict[str, Ask] = {ask.name: ask for ask in history.asks}
        self.instead = {ask.name: list(ask.instead) for ask in history.asks}
        self.peers: dict[Conversation, None] = {}
        self.down_until = 0.0
        self.accepted = 0
        self.asked_to_connect = 0
        kernel.accept = self.accept

    def start(self) -> None:
        """Schedule the restarts."""
        for restart in self.history.restarts:
            self.kernel.after(restart.at, None, partial(self._restart, restart.down, restart.how))

    def _restart(self, down: float, how: Action) -> None:
        self.down_until = self.kernel.clock.now + down
        self.kernel.struck[how] += len(self.peers) or 1
        for peer in list(self.peers):
            peer.sock.struck.append(f"restart {how}")
            peer.end(how)

    def accept(self, sock: SimSocket) -> int | None:
        script = self.history.script(self.asked_to_connect)
        self.asked_to_connect += 1
        sock.latency = self.history.latency
        sock.plan = [fault for fault in script if fault.point in CALLS]
        faults = [fault for fault in script if fault.point not in CALLS]
        if self.kernel.clock.now < self.down_until:
            sock.struck.append("restart refuse")
            self.kernel.struck[Action.REFUSE] += 1
            return errno.ECONNREFUSED
        for fault in faults:
            if fault.point is Point.CONNECT and fault.action in {Action.REFUSE, Action.BLACK_HOLE}:
                sock.strike(fault)
                return errno.ECONNREFUSED if fault.action is Action.REFUSE else -1
        self.accepted += 1
        peer = sock.peer = self.conversation(self, sock, Script(tuple(faults)))
        self.peers[peer] = None
        peer.connected()
        return None


class Conversation:
    """One connection, from the server's side."""

    def __init__(self, origin: Origin, sock: SimSocket, script: Script) -> None:
        self.origin = origin
        self.kernel = origin.kernel
        self.sock = sock
        self._cursor = Cursor(script)
        self._exchange = 1
        self._passed = {Point.REQUEST: 0, Point.RESPONSE: 0}
        self._buffer = bytearray()
        self._unread = bytearray()
        self._deaf = self._over = self._half = self._expired = self._mute = False
        self._replying = False
        self._out: list[bytes] = []
        self._sent = 0
        self._idle_since = 0

    @property
    def room(self) -> int:
        return RECEIVE_BUFFER - len(self._unread)

    # --- faults ---

    def connected(self) -> None:
        for fault in self._cursor.due(Point.CONNECT, 1):
            self._cursor.take(fault)
            self._strike(fault)

    def _strike(self, fault: Fault) -> bool:
        """Carry ``fault`` out; whether what follows on this way is held up."""
        self.sock.strike(fault)
        action = fault.action
        if action in _ENDINGS:
            self.end(action)
            return True
        if action is Action.HALF_CLOSE:
            self._half = True
            self.sock.from_peer_fin()
        elif action is Action.EXPIRE:
            self._expired = True
        elif action is Action.BLACK_HOLE:
            self.sock.vanish(fault.value)
        elif action is Action.STALL:
            reads = fault.point is Point.REQUEST
            if reads:
                self._deaf = True
            else:
                self._mute = True
            if fault.value is not None:
                self.kernel.after(fault.value, None, self._listen if reads else self._speak)
            return True
        return False

    def end(self, how: Action) -> None:
        """End it, as a process that closes or dies."""
        if self._over:
            return
        self._over = True
        self.origin.peers.pop(self, None)
        if how is Action.RST:
            self.sock.from_peer_rst()
        else:
            self.sock.from_peer_fin()

    # --- what comes in ---

    def ended(self, *, reset: bool) -> None:
        if reset or not self._replying:
            if not self._over and not reset:
                self.sock.from_peer_fin()
            self._over = True
            self.origin.peers.pop(self, None)
            self._out.clear()

    def arrived(self, data: bytes) -> None:
        if self._over or self._expired:
            self._over = True
            self.origin.peers.pop(self, None)
            self.sock.from_peer_rst()
            return
        self._unread += data
        if not self._deaf:
            self._listen()

    def _listen(self) -> None:
        self._deaf = False
        data = bytes(self._unread)
        self._unread.clear()
        done = 0
        for part in self._cursor.split(Point.REQUEST, self._exchange, self._passed[Point.REQUEST], data):
            if isinstance(part, Fault):
                if self._strike(part):
                    if not self._over:
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
        if body != request_body(name, ask.upload):
            self.origin.corrupted.append(name)
        for fault in self._cursor.due(Point.REQUEST, self._exchange):
            if fault.at == END:
                self._cursor.take(fault)
                if self._strike(fault) and self._over:
                    return
        if instead:
            status = instead.pop(0)
            self._reply([_INSTEAD[status]], closes=status == 408)
            return
        self.origin.executed[name] += 1
        self._reply(ask.answer(zlib.crc32(body)), closes=ask.closes)

    # --- what goes out ---

    def _reply(self, pieces: list[bytes], *, closes: bool) -> None:
        self._replying = True
        self._out = list(pieces)
        self._closes = closes
        self.kernel.after(self.origin.history.service, None, self._speak)

    _closes = False

    def _speak(self) -> None:
        self._mute = False
        while self._out and not self._mute and not self._over:
            data = self._out.pop(0)
            done = 0
            for part in self._cursor.split(Point.RESPONSE, self._exchange, self._passed[Point.RESPONSE], data):
                if isinstance(part, Fault):
                    if self._strike(part):
                        if not self._over:
                            self._out.insert(0, data[done:])
                        break
                else:
                    self._passed[Point.RESPONSE] += len(part)
                    done += len(part)
                    if not self._half:
                        self._sent += len(part)
                        self.sock.from_peer(part)
        if self._replying and not self._out and not self._mute and not self._over:
            self._replied()

    def _replied(self) -> None:
        self._replying = False
        if not self._half:
            self.sock.ends.append(self._sent)
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
        if not self._over and self._exchange == number and not self._passed[Point.REQUEST]:
            self._cursor.take(fault)
            self._strike(fault)


Origin.conversation = Conversation


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
