"""``FaultySocket``: a socket whose system calls fail by plan, and ``sweep``: fail the 1st call, then the 2nd, ...

::

    plan = SocketPlan("send()#3 errno=EPIPE; recv() short; recv() eagain=5")
    with plan.installed():  # every socket that holdwire opens
        ...
    sock = plan.open(socket.AF_INET, socket.SOCK_STREAM)  # or by hand, for any program
    assert plan.calls[Point.CALL_SEND] == 7

    for run in sweep(errnos=[errno.ECONNRESET], calls=[Point.CALL_SEND]):
        with run.plan.installed():
            scenario()  # must survive, or fail in the way that you assert

A failing call does not reach the kernel, so that the connection itself stays up and the peer sees nothing. The calls of
all sockets of a plan are counted together. For sockets in non-blocking mode: a short ``send`` or EAGAIN surprises
blocking code such as ``sendall``. Not responsible for name resolution or event loops: a refused call is not waited for.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final, overload

from .faults import CALLS, Action, Fault, Point, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import TypeAlias

    from _typeshed import ReadableBuffer, WriteableBuffer

    Address: TypeAlias = tuple[Any, ...] | str | ReadableBuffer

__all__ = ["FaultySocket", "Run", "SocketPlan", "sweep"]


@final
class SocketPlan:
    """Which calls fail, and how many there were. May be used from several threads.

    Args:
        script: Faults at system calls.

    Raises:
        ValueError: The script has faults at other points.
    """

    def __init__(self, script: Script | Fault | Iterable[Fault] | str = "") -> None:
        self.script = Script.of(script).require(CALLS, "SocketPlan")
        self.calls: Counter[Point] = Counter()
        """The calls so far by kind, failed ones included, those answered by ``eagain`` excluded."""
        self.struck: list[Fault] = []
        """The faults that struck, in order, but for ``short``."""
        self.sent = self.received = 0
        """Bytes that the kernel took and gave, over all sockets."""
        self.on_strike: Callable[[Fault], None] | None = None
        """Told of each fault that strikes, before the call returns."""
        self.blocked: Counter[Point] = Counter()
        """How often a call found nothing to read, or no room to write, by kind: the kernel's doing or the plan's."""
        self._lock = threading.RLock()  # a stream that is collected meanwhile closes its socket in this very thread
        self._refused: Counter[Point] = Counter()

    def open(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,  # noqa: A002 - the name that socket.socket has
        proto: int = 0,
        fileno: int | None = None,
    ) -> FaultySocket:
        """A new socket under this plan; called as ``socket.socket`` is.

        Raises:
            OSError: The kernel gave none, or the plan.
        """
        if fileno is None:
            self.enter(Point.CALL_SOCKET)
        sock = FaultySocket(family, type, proto, fileno)
        sock.plan = self
        return sock

    def adopt(self, sock: socket.socket) -> FaultySocket:
        """Take over an open socket; ``sock`` is not to be used afterwards."""
        timeout = sock.gettimeout()
        adopted = self.open(sock.family, sock.type, sock.proto, sock.detach())
        adopted.settimeout(timeout)
        return adopted

    @contextmanager
    def installed(self) -> Generator[SocketPlan]:
        """Let holdwire open its sockets under this plan."""
        from ..net.dial import substitute_sockets  # noqa: PLC0415 - the kit works without the rest of holdwire

        with substitute_sockets(self.open):
            yield self

    @contextmanager
    def counting(self, point: Point) -> Generator[None]:
        """Count a call at ``point`` that would block."""
        try:
            yield
        except BlockingIOError:
            with self._lock:
                self.blocked[point] += 1
            raise

    def enter(self, point: Point, size: int = 0) -> int:
        """A call begins; how many bytes of ``size`` it may transfer.

        Raises:
            OSError: The call is to fail.
        """
        with self._lock:
            number = self.calls[point] + 1
            due = [fault for fault in self.script if fault.point is point and fault.nth in {None, number}]
            for fault in due:
                if fault.action is Action.EAGAIN and self._refused[point] < (fault.value or 1):
                    self._refused[point] += 1
                    self._strike(fault)
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            self._refused[point] = 0
            self.calls[point] = number
            for fault in due:
                if fault.action is Action.ERRNO:
                    self._strike(fault)
                    code = int(fault.value or 0)
                    raise OSError(code, os.strerror(code))
                if fault.action is Action.EOF:
                    self._strike(fault)
                    return 0
            return min([size, *(int(fault.value or 1) for fault in due if fault.action is Action.SHORT)])

    def _strike(self, fault: Fault) -> None:
        self.struck.append(fault)
        if self.on_strike is not None:
            self.on_strike(fault)


class FaultySocket(socket.socket):
    """A socket under a ``SocketPlan``; made by ``SocketPlan.open``. Without a plan it is an ordinary one."""

    plan = SocketPlan()

    def connect(self, address: Address, /) -> None:
        """As ``socket.connect``."""
        self.plan.enter(Point.CALL_CONNECT)
        super().connect(address)

    def connect_ex(self, address: Address, /) -> int:
        """As ``socket.connect_ex``."""
        try:
            self.plan.enter(Point.CALL_CONNECT)
        except OSError as error:
            return error.errno or 0
        return super().connect_ex(address)

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """As ``socket.send``."""
        view = memoryview(data).cast("B")
        with self.plan.counting(Point.CALL_SEND):
            count = super().send(view[: self.plan.enter(Point.CALL_SEND, len(view))], flags)
        self.plan.sent += count
        return count

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        """As ``socket.sendall``, by way of ``send``."""
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view, flags) :]

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As ``socket.recv``. A look with MSG_PEEK counts too."""
        with self.plan.counting(Point.CALL_RECV):
            data = super().recv(self.plan.enter(Point.CALL_RECV, bufsize), flags)
        if not flags & socket.MSG_PEEK:
            self.plan.received += len(data)
        return data

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """As ``socket.recv_into``."""
        with self.plan.counting(Point.CALL_RECV):
            size = self.plan.enter(Point.CALL_RECV, nbytes or len(memoryview(buffer).cast("B")))
            if not size:  # which would mean all of the buffer
                return 0
            count = super().recv_into(buffer, size, flags)
        self.plan.received += count
        return count

    def shutdown(self, how: int, /) -> None:
        """As ``socket.shutdown``."""
        self.plan.enter(Point.CALL_SHUTDOWN)
        super().shutdown(how)

    @overload
    def getsockopt(self, level: int, optname: int, /) -> int: ...
    @overload
    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...
    def getsockopt(self, level: int, optname: int, buflen: int | None = None, /) -> int | bytes:
        """As ``socket.getsockopt``. For SO_ERROR a planned errno is the answer: it is how a connect fails late."""
        try:
            self.plan.enter(Point.CALL_GETSOCKOPT)
        except OSError as error:
            if (level, optname) == (socket.SOL_SOCKET, socket.SO_ERROR):
                return error.errno or 0
            raise
        if buflen is None:
            return super().getsockopt(level, optname)
        return super().getsockopt(level, optname, buflen)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a sweep."""

    fault: Fault
    """What is to fail; its text form names the run and reproduces it."""
    plan: SocketPlan

    def __str__(self) -> str:
        """The fault's text form."""
        return str(self.fault)


def sweep(
    *,
    errnos: Iterable[int | str] = (errno.ECONNRESET,),
    calls: Iterable[Point] = (Point.CALL_CONNECT, Point.CALL_SEND, Point.CALL_RECV),
    base: Script | Fault | Iterable[Fault] | str = "",
    limit: int = 10_000,
) -> Iterator[Run]:
    """Runs in which the first call of a kind fails, then the second, and so on until there is no n-th call.

    The body of the loop runs the scenario under ``run.plan``.

    Args:
        errnos: The numbers or names with which the call fails, one after another.
        calls: The kinds of calls, one after another.
        base: Faults that every run has besides.
        limit: How many calls of a kind a scenario may make.

    Raises:
        ValueError: ``base`` has faults at other points than calls, or ``calls`` has other points; an errno has no such
            name.
        RuntimeError: The scenario still made an n-th call when ``n`` was ``limit``: it does not end. Or it made none at
            all, so that nothing was tried.
    """
    common = Script.of(base)
    numbers = tuple(errnos)
    for point in calls:
        for number in numbers:
            for nth in range(1, limit + 1):
                fault = Fault.parse(f"{point}#{nth} {Action.ERRNO}={number}")
                plan = SocketPlan((fault, *common))
                yield Run(fault=fault, plan=plan)
                if not plan.calls:
                    message = "the scenario made no call under run.plan: run it in a `with run.plan.installed():`"
                    raise RuntimeError(message)
                if plan.calls[point] < nth:
                    break
            else:
                message = f"the scenario made more than {limit} calls of {point}: does it ever give up?"
                raise RuntimeError(message)
