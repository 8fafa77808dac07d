"""``Runtime``: the event loop or trio run that a connection belongs to, and what holdwire needs of it.

State belongs to one (process, event loop or trio run). A runtime offers readiness of our own descriptors, service
tasks with an owner and an end, timers, and the question "is this still my loop?". Not responsible for sockets'
contents (``stream``) or for who owns which connection.

The backend modules are imported by need: a program on asyncio never imports trio.
"""

from __future__ import annotations

import abc
import os
import sys
import threading
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

__all__ = ["INTERRUPTED", "Channel", "Runtime", "Signal", "TaskHandle", "TimerHandle", "current", "forks"]

BUFFER_SIZE = 262_144
"""Bytes that one ``recv`` may take. One buffer for each thread: it is consumed before the next await."""

INTERRUPTED = -1
"""``Channel.wait_writable``: input arrived before there was room."""

_buffers = threading.local()


def receive_buffer() -> memoryview:
    """The calling thread's receive buffer."""
    view: memoryview | None = getattr(_buffers, "view", None)
    if view is None:
        view = _buffers.view = memoryview(bytearray(BUFFER_SIZE))
    return view


class _Generation:
    """Counts forks: a connection that was made in another process must not be touched."""

    value: ClassVar[int] = 0
    """Forks that lie between this process and the one that loaded this module."""
    forks: ClassVar[int] = 0
    """Those, and the forks that this process has made."""

    @classmethod
    def advance(cls) -> None:
        cls.value += 1
        cls.forks += 1
        _buffers.__dict__.clear()

    @classmethod
    def forked(cls) -> None:
        cls.forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Generation.advance, after_in_parent=_Generation.forked)


def forks() -> int:
    """How often this process was forked or has forked: a descriptor that is older may have another holder.

    Programs started by ``subprocess`` do not count: they inherit no descriptor of ours.
    """
    return _Generation.forks


class TaskHandle(abc.ABC):
    """A service task: started with an empty context, ended by ``cancel`` or by the end of its runtime."""

    __slots__ = ()

    @abc.abstractmethod
    def cancel(self) -> None:
        """End the task at its next await; may be called again, and from the task itself."""


class TimerHandle(abc.ABC):
    """A timer that has not fired yet."""

    __slots__ = ()

    @abc.abstractmethod
    def cancel(self) -> None:
        """Forget the timer; may be called again."""


class Signal(abc.ABC):
    """Set once, waited for by one task: what a queue hands its waiters. Cheaper than an event for many."""

    __slots__ = ()

    @abc.abstractmethod
    def set(self) -> None:
        """Wake the waiter; may be called again, and before anybody waits."""

    @abc.abstractmethod
    async def wait(self, timeout: float | None) -> bool:
        """Wait until it is set; False if that did not happen within ``timeout`` seconds."""


class Channel(abc.ABC):
    """Readiness of one non-blocking socket: at most one task waits to read and one to write."""

    __slots__ = ()

    waits: int
    """How often a task really waited here: tells a caller whether it has yielded to the loop."""
    late: int | BaseException | None
    """What had come already when ``receive`` was cancelled: a number of bytes that ``sink`` has, or the OSError."""

    @abc.abstractmethod
    async def receive(self, sink: Callable[[memoryview], object], timeout: float | None, *, eager: bool) -> int:
        """Hand the next bytes to ``sink`` in the step in which they leave the kernel; return their number.

        0 means end of file. With ``eager`` the system call is tried before waiting. Cancelled: nothing is lost.

        Raises:
            OSError: The system call failed.
            TimeoutError: Nothing came within ``timeout`` seconds; ``errno`` is None.
            anyio.BusyResourceError: Another task waits to read.
            anyio.ClosedResourceError: ``detach`` was called meanwhile.
        """

    @abc.abstractmethod
    async def wait_writable(self, timeout: float | None, *, until_input: bool) -> int:
        """Wait for room in the send buffer; 0, or ``INTERRUPTED`` if ``until_input`` and input came first.

        Raises: as ``receive``.
        """

    @abc.abstractmethod
    def watch(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the descriptor becomes readable while no task waits to read.

        The callback must consume the input, call ``unwatch``, or ``detach``: readiness is level-triggered.
        """

    @abc.abstractmethod
    def unwatch(self) -> None:
        """Forget the callback. A reader that the loop already has may stay registered: that costs nothing."""

    @abc.abstractmethod
    def detach(self) -> None:
        """Unregister from the loop before the socket is closed, and wake whoever waits with ClosedResourceError."""


class Runtime(abc.ABC):
    """One (process, event loop or trio run)."""

    __slots__ = ("__weakref__", "_generation", "buffer")

    backend: ClassVar[str]
    every_call_yields: ClassVar[bool]
    """Whether the rule is that no call ever returns without letting others run: trio's is, asyncio's is not."""

    def __init__(self) -> None:
        self._generation = _Generation.value
        self.buffer = receive_buffer()

    @property
    def same_process(self) -> bool:
        """Whether no fork lies between this runtime and the caller."""
        return self._generation == _Generation.value

    @abc.abstractmethod
    def is_current(self) -> bool:
        """Whether the caller runs in this very process and loop."""

    @abc.abstractmethod
    def is_over(self) -> bool:
        """Whether the loop is closed, the trio run has ended, or a fork lies between."""

    @abc.abstractmethod
    def time(self) -> float:
        """The loop's clock, in seconds."""

    @abc.abstractmethod
    def channel(self, sock: socket.socket) -> Channel:
        """Readiness for ``sock``, which must be non-blocking."""

    @abc.abstractmethod
    def signal(self) -> Signal:
        """A new signal, not set."""

    @abc.abstractmethod
    def spawn(self, function: Callable[[], Awaitable[None]], *, name: str) -> TaskHandle:
        """Run ``function`` as a service task with an empty context.

        It must catch every Exception itself; one that escapes is logged, and ends only the task.
        """

    @abc.abstractmethod
    def call_later(self, delay: float, callback: Callable[[], None]) -> TimerHandle:
        """Call ``callback`` after ``delay`` seconds. It must not raise."""

    @abc.abstractmethod
    def call_soon_threadsafe(self, callback: Callable[[], None]) -> bool:
        """Call ``callback`` in the loop, from any thread; False if the loop is over."""


def current() -> Runtime:
    """The runtime of the caller.

    Raises:
        RuntimeError: There is no running event loop, or it cannot watch descriptors (Windows' Proactor loop).
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        from ._trio import current_runtime  # noqa: PLC0415 - only programs on trio import it

        return current_runtime()
    from ._asyncio import current_runtime as current_asyncio_runtime  # noqa: PLC0415 - see above

    return current_asyncio_runtime()
