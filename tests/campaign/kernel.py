"""A TCP in memory, at the level of system calls: what holdwire's own sockets are made of in a simulation.

Modelled after what Linux does, as measured (docs/architecture.md): an error is handed out once and the next call shows
an end of file; a reset leaves readable what had arrived before it; a send after the peer's close succeeds and is
answered by a reset; SIOCOUTQ keeps its value on a dead connection; a path that drops everything is seen as
retransmissions in TCP_INFO and ends by TCP_USER_TIMEOUT. Not responsible for what the peers say (``origin``).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from holdwire.testing.faults import Action, Point

from .wiretap import Wiretap

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from holdwire.testing.faults import Fault

    from .virtual_time import Clock

__all__ = ["Kernel", "Peer", "SimSocket", "Try"]

SEND_BUFFER: Final = 40_000
RECEIVE_BUFFER: Final = 30_000
_TCP_INFO: Final = struct.Struct("=BxBB12xI24xI8xI8xI48xQQ8xI52xQ20xI16x")
"""The fields of ``struct tcp_info`` that anything here looks at."""


class Peer(Protocol):
    """The program at the other end of a connection."""

    def arrived(self, data: bytes) -> None: ...
    def ended(self, *, reset: bool) -> None: ...
    @property
    def room(self) -> int: ...


class Try:
    """One attempt of one request on one connection, as the sockets and the server saw it."""

    def __init__(self, name: str, sock: SimSocket, begin: int, stream: int) -> None:
        self.name = name
        self.sock = sock
        self.begin = begin
        """Where in the bytes that go out it begins."""
        self.stream = stream
        """0 in HTTP/1.1."""
        self.end: int | None = None
        """Where in the bytes that come in its answer ends."""
        self.known: float | None = None
        """When the program had read all of that."""
        self.given_up = False
        """Whether the program has reset its stream."""
        self.refused = False
        """Whether the server has said that it will not look at it."""
        self.executed = False
        self.proven = False
        """Whether the program has taken it for certainly not executed."""

    @property
    def left(self) -> bool:
        """Whether the kernel took anything of it."""
        return self.sock.accepted > self.begin

    @property
    def disclaimed(self) -> bool:
        """Whether the server has said that it was not executed."""
        last = self.sock.last_stream
        return self.refused or (last is not None and self.stream > last)

    @property
    def waits(self) -> bool:
        """Whether it waits for its answer, as far as the program can know."""
        return not self.given_up and (self.end is None or self.end > self.sock.taken)


class SimSocket:
    """One socket, with the methods of ``socket.socket`` that holdwire calls."""

    family = socket.AF_INET
    type = socket.SOCK_STREAM
    proto = 0

    def __init__(self, kernel: Kernel, fd: int) -> None:
        self.kernel = kernel
        self.fd = fd
        self.port = 20_000 + fd
        self.peer: Peer | None = None
        self.latency = 0.0
        self.plan: list[Fault] = []
        self.struck: list[str] = []
        """The faults that struck this connection."""
        self.calls: Counter[Point] = Counter()
        self.refused = 0
        self.error = 0
        self.dead = self.fin = self.shut = self.linger = self.connected = self.connecting = self._fin_sent = False
        self.hole = False
        """Whether the path drops everything, both ways."""
        self.inbox = bytearray()
        self.queue = bytearray()
        """Taken from the program, not yet in the peer's kernel."""
        self.outq = self.under_way = 0
        self.unacked_since: float | None = None
        self.last_ack = kernel.clock.now
        self.user_timeout = 0.0
        self.held: deque[Callable[[], None]] = deque()
        """What the peer sent into a black hole."""
        self.accepted = self._offered = self.taken = self.given = 0
        """Bytes that the kernel took and was offered, that the program read, and that the peer sent."""
        self.tries: list[Try] = []
        """The requests that began here."""
        self._unknown: list[Try] = []
        """Those whose end the program has not read yet."""
        self.last_stream: int | None = None
        """What the peer's GOAWAY said."""
        self.damage: dict[Point, int] = {}
        """What is damaged of the next bytes, by the way they go: so many at the front, 0 for the last one."""
        self._calling = Point.CALL_CONNECT
        self._wiretap = Wiretap(self._begins, self._given_up)
        self.told: list[str] = []
        """Errors and early ends that were handed out to the program before it closed, in order."""

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer, as far as the program can know."""
        return any(one.waits for one in self.tries)

    # --- what the event loop asks ---

    def readable(self) -> bool:
        return bool(self.inbox or self.fin or self.error or self.dead)

    def writable(self) -> bool:
        if self.connecting:
            return False
        return bool(self.error or self.dead or len(self.queue) < SEND_BUFFER)

    # --- system calls ---

    def fileno(self) -> int:
        return self.fd

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - socket's
        pass

    def settimeout(self, value: float | None, /) -> None:
        pass

    def getsockname(self) -> tuple[str, int]:
        if self.fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return ("10.9.9.9", self.port)

    def getpeername(self) -> tuple[str, int]:
        if not self.connected:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self.address

    def setsockopt(self, level: int, option: int, value: Any, /) -> None:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            self.linger = True
        elif (level, option) == (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT):
            self.user_timeout = value / 1e3
            self._arm_user_timeout()

    def getsockopt(self, level: int, option: int, size: int = 0, /) -> Any:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            number, self.error = self.error, 0
            return number
        if (level, option) == (socket.IPPROTO_TCP, 11):
            return self._tcp_info()
        if (level, option) == (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT):
            return int(self.user_timeout * 1e3)
        return b"" if size else 0

    def recvmsg(self, *_: Any) -> Any:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def connect_ex(self, address: tuple[str, int]) -> int:
        self.address = address
        return self.kernel.connect(self)

    def send(self, data: Any, _: int = 0, /) -> int:
        view = memoryview(data).cast("B")
        self._hear(view)
        limit = self._enter(Point.CALL_SEND, len(view))
        if self.error:
            raise self._hand_out()
        if self.dead or self.shut:
            self._tell("EPIPE")
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        count = min(limit, SEND_BUFFER - len(self.queue))
        if count <= 0:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.queue += view[:count]
        self.outq += count
        self.accepted += count
        if self.unacked_since is None:
            self.unacked_since = self.kernel.clock.now
            self._arm_user_timeout()
        self.flush()
        return count

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        peek = bool(flags & socket.MSG_PEEK)
        size = self._enter(Point.CALL_RECV, size)
        if not size:
            return b""
        if self.inbox:
            data = bytes(self.inbox[:size])
            if not peek:
                del self.inbox[:size]
                self.taken += len(data)
                self._note_ends()
            return data
        if self.error:
            raise self._hand_out()
        if self.fin or self.dead:
            if self.busy:
                self._tell("EOF")
            return b""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _note_ends(self) -> None:
        for one in [one for one in self._unknown if one.end is not None and one.end <= self.taken]:
            one.known = self.kernel.clock.now
            self._unknown.remove(one)

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(size or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def shutdown(self, _: int, /) -> None:
        if self.dead or not self.connected:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        if not self.shut:
            self.shut = True
            self.flush()

    def close(self) -> None:
        if self.fd < 0:
            return
        self.kernel.closed(self)
        self.fd = -1
        if not self.connected or self.dead:
            return
        if self.linger or self.inbox:
            self.queue.clear()
            self._to_peer(lambda peer: peer.ended(reset=True))
            self.dead = True
        elif not self.shut:
            self.shut = True
            self.flush()

    # --- the wire ---

    def flush(self) -> None:
        """Move what is queued to the peer, as far as the path and the peer's window allow."""
        if self.hole or self.dead or self.peer is None:
            return
        count = min(len(self.queue), max(self.peer.room - self.under_way, 0))
        if count:
            data = self._damaged(Point.REQUEST, bytes(self.queue[:count]))
            del self.queue[:count]
            self.under_way += count

            def arrive(peer: Peer) -> None:
                self.under_way -= count
                self.acknowledged(count)
                peer.arrived(data)

            self._to_peer(arrive)
        if not self.queue and self.shut and not self._fin_sent:
            self._fin_sent = True
            self._to_peer(lambda peer: peer.ended(reset=False))

    def acknowledged(self, count: int) -> None:
        self.outq -= count
        self.last_ack = self.kernel.clock.now
        self.unacked_since = self.kernel.clock.now if self.outq else None

    def _to_peer(self, act: Callable[[Peer], None]) -> None:
        if self.hole:
            return
        peer = self.peer
        assert peer is not None
        self.kernel.after(self.latency, self, lambda: act(peer))

    def from_peer(self, data: bytes) -> None:
        """Bytes, on their way to us."""
        self.given += len(data)
        data = self._damaged(Point.RESPONSE, data)
        self._from_peer(lambda: self._got(data))

    def _damaged(self, way: Point, data: bytes) -> bytes:
        count = self.damage.pop(way, None)
        if count is None or not data:
            return data
        cut = len(data) - 1 if not count else min(count, len(data))
        front, back = data[:cut], data[cut:]
        return front + _flipped(back) if not count else _flipped(front) + back

    def from_peer_fin(self) -> None:
        def got() -> None:
            self.fin = True

        self._from_peer(got)

    def from_peer_rst(self) -> None:
        self._from_peer(lambda: self.die(errno.ECONNRESET))

    def _from_peer(self, arrive: Callable[[], None]) -> None:
        def unless_lost() -> None:
            if self.hole:
                self.held.append(arrive)
            else:
                arrive()

        self.kernel.after(self.latency, self.inbox, unless_lost)

    def _got(self, data: bytes) -> None:
        self.last_ack = self.kernel.clock.now
        if self.fd < 0:  # closed: the kernel answers with a reset
            if not self.dead:
                self.dead = True
                self._to_peer(lambda peer: peer.ended(reset=True))
        elif not self.dead:
            self.inbox += data

    def die(self, number: int) -> None:
        """The connection is over, with an error for whoever asks next."""
        if not self.dead:
            self.dead = True
            self.error = number
            self.queue.clear()

    def vanish(self, seconds: float | None) -> None:
        """The path drops everything, for so long or for good."""
        self.hole = True
        if self.outq and self.unacked_since is None:
            self.unacked_since = self.kernel.clock.now
        if seconds is not None:
            self.kernel.after(seconds, None, self._return)

    def _return(self) -> None:
        self.hole = False
        while self.held and not self.hole:
            self.held.popleft()()
        self.flush()

    def _arm_user_timeout(self) -> None:
        since = self.unacked_since
        if self.user_timeout and since is not None and self.hole:

            def expire() -> None:
                if self.hole and self.unacked_since == since and self.user_timeout:
                    self.die(errno.ETIMEDOUT)

            self.kernel.after(self.user_timeout, None, expire)

    def _tcp_info(self) -> bytes:
        if self.fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        now = self.kernel.clock.now
        state = 7 if self.dead else 8 if self.fin else 1
        retransmits = 0
        if self.hole and self.unacked_since is not None and not self.dead:
            retransmits = int((now - self.unacked_since) / 0.2 + 1).bit_length() - 1
        window = RECEIVE_BUFFER if self.peer is None else max(self.peer.room, 0)
        return _TCP_INFO.pack(
            state, retransmits, 0, 1460, 0, int((now - self.last_ack) * 1e3), int(self.latency * 2e6), 0, 0,
            0 if self.dead else len(self.queue), 0, window,
        )  # fmt: skip

    # --- faults at the calls, and what was seen ---

    def _enter(self, point: Point, size: int) -> int:
        if self.fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._calling = point
        if not self.plan or self.shut:
            return size
        number = self.calls[point] + 1
        for fault in [fault for fault in self.plan if fault.point is point and fault.nth in {None, number}]:
            if fault.action is Action.EAGAIN:
                if self.refused < (fault.value or 1):
                    if not self.refused:
                        self.strike(fault)
                    self.refused += 1
                    self.kernel.nudge()
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            elif fault.action is Action.SHORT:
                self.strike(fault)
                size = min(size, int(fault.value or 1))
            else:
                self.calls[point] = number
                self.strike(fault)
                self.plan.remove(fault)
                self.error = int(fault.value or 0)
                raise self._hand_out()
        self.refused = 0
        self.calls[point] = number
        return size

    def strike(self, fault: Fault) -> None:
        self.suffer(str(fault), fault.point, fault.action)

    def suffer(self, what: str, point: str, action: str) -> None:
        """``what`` was done to this connection."""
        self.struck.append(what)
        self.kernel.struck[str(point), str(action)] += 1

    def _hear(self, view: memoryview) -> None:
        """Look for requests in what was not offered before: what was refused or cut comes again."""
        start, end = self._offered, self.accepted + len(view)
        if end > start:
            self._offered = end
            self._wiretap.hear(start, bytes(view[start - self.accepted :]))

    def _begins(self, name: str, position: int, stream: int) -> None:
        one = Try(name, self, position, stream)
        self.tries.append(one)
        self._unknown.append(one)
        self.kernel.tries.setdefault(name, []).append(one)

    def _given_up(self, stream: int) -> None:
        for one in self.tries:
            one.given_up |= one.stream == stream

    def try_of(self, name: str, stream: int = 0) -> Try | None:
        """The latest attempt of a request here."""
        return next((one for one in reversed(self.tries) if (one.name, one.stream) == (name, stream)), None)

    def _tell(self, what: str) -> None:
        if not self.shut and (self._calling is not Point.CALL_SEND or self.busy):  # a goodbye may fail unheard
            self.told.append(what)

    def _hand_out(self) -> OSError:
        number, self.error = self.error, 0
        self._tell(errno.errorcode[number])
        return OSError(number, os.strerror(number))


def _flipped(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in data)


def _next(queue: deque[Callable[[], None]]) -> None:
    queue.popleft()()


class Kernel:
    """All sockets of a history, and the way to the servers."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.loop: asyncio.AbstractEventLoop
        self.sockets: dict[int, SimSocket] = {}
        self.made: list[SimSocket] = []
        self.tries: dict[str, list[Try]] = {}
        self.struck: Counter[tuple[str, str]] = Counter()
        """Faults by point and kind."""
        self.accept: Callable[[SimSocket], int | None]
        """Set by the servers: an errno, None for a connection that stands, -1 for no answer at all."""
        self._due: dict[int, float] = {}
        self._lanes: dict[int, deque[Callable[[], None]]] = {}

    def socket(self, *_: int) -> Any:
        sock = SimSocket(self, 1_000_000 + len(self.made))
        self.sockets[sock.fd] = sock
        self.made.append(sock)
        return sock

    def connect(self, sock: SimSocket) -> int:
        """Begin to connect; decided a millisecond later."""
        sock.connecting = True

        def decide() -> None:
            if sock.fd < 0:
                return
            outcome = self.accept(sock)
            if outcome == -1:
                return
            sock.connecting = False
            if outcome is None:
                sock.connected = True
            else:
                sock.error = outcome

        self.loop.call_later(0.001, decide)
        return errno.EINPROGRESS

    def after(self, delay: float, lane: object, act: Callable[[], None]) -> None:
        """Do ``act`` later; what is on the same lane keeps its order."""
        if lane is None:
            self.loop.call_later(delay, act)
            return
        queue: deque[Callable[[], None]] = self._lanes.setdefault(id(lane), deque())
        queue.append(act)
        when = max(self.clock.now + delay, self._due.get(id(lane), 0.0))
        self._due[id(lane)] = when
        self.loop.call_at(when, _next, queue)

    def nudge(self) -> None:
        """Time passes although something is ready."""
        self.clock.now += 1e-5

    def closed(self, sock: SimSocket) -> None:
        self.sockets.pop(sock.fd, None)

    def ioctl(self, fd: int, *_: object) -> bytes:
        """SIOCOUTQ."""
        sock = self.sockets.get(fd)
        if sock is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return max(sock.outq, 0).to_bytes(4, "little")
