"""The servers of a simulation: one process behind one address, and the ledger of what it executed.

Not responsible for TCP (``kernel``), for what is said on a connection (``peer`` and its kinds) or for what is drawn
(``histories``).
"""

from __future__ import annotations

import errno
import zlib
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from holdwire.testing._faulty import Cursor
from holdwire.testing.faults import CALLS, Action, Point, Script

from .origin_http1 import Http1
from .origin_http2 import Http2
from .origin_tls import Secured

if TYPE_CHECKING:
    from .histories import Ask, History
    from .kernel import Kernel, SimSocket
    from .peer import Link, Peer

__all__ = ["Origin", "answer_body", "request_body"]


def request_body(name: str, size: int) -> bytes:
    """What the request ``name`` uploads."""
    return (f"{name}up".encode() * (size // (len(name) + 2) + 1))[:size]


def answer_body(name: str, size: int) -> bytes:
    """What the request ``name`` is answered, beside a checksum of what it uploaded."""
    return (f"{name}down".encode() * (size // (len(name) + 4) + 1))[:size]


class Origin:
    """All servers: one process behind one address, which restarts now and then."""

    plain: type[Peer] = Http1
    """How it talks where nothing else was agreed upon."""

    def __init__(self, kernel: Kernel, history: History) -> None:
        self.kernel = kernel
        self.history = history
        self.executed: Counter[str] = Counter()
        self.complaints: list[str] = []
        """What no client may do, and was done."""
        self.asks: dict[str, Ask] = {ask.name: ask for ask in history.asks}
        self.instead = {ask.name: list(ask.instead) for ask in history.asks}
        self.peers: dict[Peer, None] = {}
        self.down_until = 0.0
        self.asked_to_connect = 0
        kernel.accept = self.accept

    def start(self) -> None:
        """Schedule the restarts."""
        for restart in self.history.restarts:
            self.kernel.after(restart.at, None, partial(self._restart, restart.down, restart.how))

    def _restart(self, down: float, how: Action) -> None:
        self.down_until = self.kernel.clock.now + down
        for peer in list(self.peers):
            peer.sock.suffer(f"restart {how}", "restart", how)
            peer.end(how)

    def accept(self, sock: SimSocket) -> int | None:
        script = self.history.script(self.asked_to_connect)
        self.asked_to_connect += 1
        sock.latency = self.history.latency
        sock.plan = [fault for fault in script if fault.point in CALLS]
        faults = [fault for fault in script if fault.point not in CALLS]
        if self.kernel.clock.now < self.down_until:
            sock.suffer("restart refuse", "restart", Action.REFUSE)
            return errno.ECONNREFUSED
        for fault in faults:
            if fault.point is Point.CONNECT and fault.action in {Action.REFUSE, Action.BLACK_HOLE}:
                sock.strike(fault)
                return errno.ECONNREFUSED if fault.action is Action.REFUSE else -1
        cursor = Cursor(Script(tuple(faults)))
        peer: Peer
        if self.history.secure:
            peer = Secured(self, sock, None, cursor)
        else:
            peer = self.talk(sock, sock, cursor, http2=self.history.http2 is not None)
        sock.peer = peer
        peer.connected()
        return None

    def talk(self, sock: SimSocket, link: Link, cursor: Cursor, *, http2: bool) -> Peer:
        """What talks on a connection, TLS aside."""
        return (Http2 if http2 else self.plain)(self, sock, link, cursor)

    def execute(self, name: str, body: bytes, sock: SimSocket, stream: int = 0) -> bytes:
        """Execute a request that is here whole. Returns its answer's body."""
        self.executed[name] += 1
        one = sock.try_of(name, stream)
        assert one is not None
        one.executed = True
        return self.asks[name].expected(zlib.crc32(body))

    def check_upload(self, name: str, body: bytes) -> None:
        """A request is here whole."""
        if body != request_body(name, self.asks[name].upload):
            self.complaints.append(f"the upload of {name} arrived corrupted")
