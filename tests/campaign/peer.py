"""``Peer``: one connection of a simulated server, as far as every protocol breaks in the same way.

Not responsible for what is said (``origin_http1``, ``origin_http2``, ``origin_tls``).
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Final, Protocol, cast

from holdwire.testing.faults import Action, Point

from .kernel import RECEIVE_BUFFER

if TYPE_CHECKING:
    from holdwire.testing._faulty import Cursor
    from holdwire.testing.faults import Fault

    from .kernel import SimSocket
    from .origin import Origin

__all__ = ["HttpPeer", "Link", "Peer"]

_ENDINGS: Final = frozenset({Action.RST, Action.FIN, Action.FIN_WITHOUT_CLOSE_NOTIFY})


class Link(Protocol):
    """The way back to the client: a socket, or TLS on one."""

    def from_peer(self, data: bytes) -> None: ...
    def from_peer_fin(self) -> None: ...
    def from_peer_rst(self) -> None: ...


class Peer(abc.ABC):
    """One connection, from the server's side, as far as every protocol breaks in the same way."""

    def __init__(self, origin: Origin, sock: SimSocket, link: Link | None, cursor: Cursor) -> None:
        self.origin = origin
        self.kernel = origin.kernel
        self.sock = sock
        self.link = link or cast("Link", self)
        self._cursor = cursor
        self._half = self._expired = False
        self.over = False
        origin.peers[self] = None

    @property
    @abc.abstractmethod
    def room(self) -> int: ...

    @abc.abstractmethod
    def arrived(self, data: bytes) -> None: ...

    @abc.abstractmethod
    def _stall(self, fault: Fault) -> None:
        """Stop reading or writing, as ``fault`` says."""

    def connected(self) -> None:
        """Strike what is due before anything is said."""
        for fault in self._cursor.due(Point.CONNECT, 1):
            self._cursor.take(fault)
            self._strike(fault)

    def _strike(self, fault: Fault) -> bool:
        """Carry ``fault`` out; whether what follows on this way is held up."""
        self.sock.strike(fault)
        action = fault.action
        if action in _ENDINGS:
            self.end(action)
        elif action is Action.HALF_CLOSE:
            self._half = True
            self.link.from_peer_fin()
        elif action is Action.EXPIRE:
            self._expired = True
        elif action is Action.BLACK_HOLE:
            self.sock.vanish(fault.value)
        elif action is Action.CORRUPT:
            way = Point.REQUEST if fault.point is Point.REQUEST else Point.RESPONSE
            self.sock.damage[way] = int(fault.value or 0)
        elif action is Action.STALL:
            self._stall(fault)
        return action in _ENDINGS or action is Action.STALL

    def end(self, how: Action) -> None:
        """End it, as a process that closes or dies."""
        if self.over:
            return
        self.leave()
        if how is Action.RST:
            self.link.from_peer_rst()
        elif how is Action.FIN_WITHOUT_CLOSE_NOTIFY:
            self.sock.from_peer_fin()
        elif not self._half:
            self.link.from_peer_fin()

    def leave(self) -> None:
        """It is over, or another one's."""
        self.over = True
        self.origin.peers.pop(self, None)

    def ended(self, *, reset: bool) -> None:
        """The client has closed."""
        if reset:
            self.leave()
        else:
            self.end(Action.FIN)


class HttpPeer(Peer):
    """One that reads requests and writes responses, and may stop either for a while."""

    def __init__(self, origin: Origin, sock: SimSocket, link: Link | None, cursor: Cursor) -> None:
        super().__init__(origin, sock, link, cursor)
        self._unread = bytearray()
        self._deaf = self._mute = False

    @property
    def room(self) -> int:
        return RECEIVE_BUFFER - len(self._unread)

    @abc.abstractmethod
    def _listen(self) -> None:
        """Read what came in, and go on reading."""

    @abc.abstractmethod
    def _speak(self) -> None:
        """Write what waits, and go on writing."""

    def arrived(self, data: bytes) -> None:
        """Bytes came in; one that has forgotten the connection resets it."""
        if self.over or self._expired:
            self.leave()
            self.link.from_peer_rst()
            return
        self._unread += data
        if not self._deaf:
            self._listen()

    def _stall(self, fault: Fault) -> None:
        reads = fault.point is Point.REQUEST
        if reads:
            self._deaf = True
        else:
            self._mute = True
        if fault.value is not None:
            self.kernel.after(fault.value, None, self._listen if reads else self._speak)
