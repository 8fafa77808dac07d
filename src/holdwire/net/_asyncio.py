"""The asyncio (and uvloop) runtime: a reader that stays registered, futures, lazy timers.

Not responsible for what the bytes mean. Facts behind it, all measured:

* Registering the socket object (not its number) makes uvloop defer the close, so that no RST goes out; closing a
  registered descriptor aborts uvloop's process and deafens the next socket of that number: unregister first.
* ``recv`` is called in the reader callback when a task waits: with level-triggered readiness a callback that only
  wakes the task would fire a second time before the task has read.
* libuv stops watching a descriptor whose event shows an error beside the data (RST right behind it). The data is
  read, the error stays in the socket, and uvloop would never tell: such a descriptor is registered anew.
* A time-out costs no timer for each wait: each channel has at most one timer, armed for the earliest deadline that
  it has seen, and armed anew when it fires early.
"""

from __future__ import annotations

import asyncio
import logging
import select
import weakref
from contextvars import Context
from typing import TYPE_CHECKING, ClassVar

from anyio import BusyResourceError, ClosedResourceError

from .runtime import INTERRUPTED, Channel, Runtime, Signal, TaskHandle, TimerHandle

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

logger = logging.getLogger("holdwire")

_EXPIRED = TimeoutError()
_CLOSED = ClosedResourceError()


class AsyncioChannel(Channel):
    """One descriptor on one event loop."""

    __slots__ = (
        "_buffer",
        "_errors",
        "_fd",
        "_loop",
        "_read_deadline",
        "_reader",
        "_registered",
        "_sink",
        "_sock",
        "_timer",
        "_timer_at",
        "_watcher",
        "_write_deadline",
        "_writer",
        "late",
        "waits",
    )

    def __init__(self, runtime: AsyncioRuntime, sock: socket.socket) -> None:
        self._loop = runtime.loop
        self._buffer = runtime.buffer
        self._errors = runtime.errors
        self._sock = sock
        self._fd = sock.fileno()
        self._registered = False
        self._reader: asyncio.Future[int | BaseException] | None = None
        self._writer: asyncio.Future[int | BaseException] | None = None
        self._sink: Callable[[memoryview], object] = bytes
        self._watcher: Callable[[], None] | None = None
        self._read_deadline = self._write_deadline = self._timer_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.waits = 0
        self.late: int | BaseException | None = None

    async def receive(self, sink: Callable[[memoryview], object], timeout: float | None, *, eager: bool) -> int:
        if self._reader is not None:
            raise BusyResourceError("reading from")
        if self._fd < 0:
            raise ClosedResourceError
        if eager:
            count = self._receive_now(sink)
            if count is not None:
                return count
        future: asyncio.Future[int | BaseException] = self._loop.create_future()
        self._reader = future
        self._sink = sink
        if not self._registered:
            self._register()
        self._read_deadline = 0.0 if timeout is None else self._deadline_in(timeout)
        self.waits += 1
        self.late = None
        try:
            outcome = await future
        except BaseException:
            if future.done() and not future.cancelled():  # decided before the cancellation: the kernel says it once
                self.late = future.result()
            raise
        finally:
            self._reader = None
        if isinstance(outcome, int):
            return outcome
        raise _fresh(outcome)

    def _receive_now(self, sink: Callable[[memoryview], object]) -> int | None:
        try:
            count = self._sock.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return None
        if count:
            sink(self._buffer[:count])
        return count

    async def wait_writable(self, timeout: float | None, *, until_input: bool) -> int:
        if self._writer is not None:
            raise BusyResourceError("writing to")
        if self._fd < 0:
            raise ClosedResourceError
        future: asyncio.Future[int | BaseException] = self._loop.create_future()
        self._writer = future
        self._loop.add_writer(self._fd, self._on_writable)
        self._write_deadline = 0.0 if timeout is None else self._deadline_in(timeout)
        if until_input:
            self.watch(self._on_input)
        self.waits += 1
        try:
            outcome = await future
        finally:
            self._writer = None
            if self._fd >= 0:
                self._loop.remove_writer(self._fd)
            if until_input:
                self._watcher = None
        if isinstance(outcome, int):
            return outcome
        raise _fresh(outcome)

    def watch(self, callback: Callable[[], None]) -> None:
        self._watcher = callback
        if not self._registered and self._fd >= 0:
            self._register()

    def unwatch(self) -> None:
        self._watcher = None

    def detach(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        self._watcher = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._loop.is_closed():
            if self._registered:
                self._loop.remove_reader(fd)
            if self._writer is not None:
                self._loop.remove_writer(fd)
            for future in (self._reader, self._writer):
                if future is not None and not future.done():
                    future.set_result(_CLOSED)
        self._registered = False

    def _register(self) -> None:
        self._loop.add_reader(self._fd, self._on_readable)
        self._registered = True

    def _register_anew(self, errors: select.poll) -> None:
        """If an error waits in the socket (asking does not take it), libuv has forgotten the descriptor."""
        errors.register(self._fd, 0)
        found = errors.poll(0)
        errors.unregister(self._fd)
        if found:
            self._loop.remove_reader(self._fd)
            if self._writer is not None:  # what uvloop keeps for either direction would stay forgotten
                self._loop.remove_writer(self._fd)
                self._loop.add_writer(self._fd, self._on_writable)
            self._loop.add_reader(self._fd, self._on_readable)

    def _on_readable(self) -> None:
        if self._errors is not None:
            self._register_anew(self._errors)
        future = self._reader
        if future is None or future.done():
            if self._watcher is not None:
                self._watcher()
            else:  # nobody wants it now: a level-triggered reader would spin
                self._loop.remove_reader(self._fd)
                self._registered = False
            return
        try:
            count = self._sock.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            future.set_result(exc)
            return
        if count:
            self._sink(self._buffer[:count])
        future.set_result(count)

    def _on_writable(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(0)
        elif self._fd >= 0:
            self._loop.remove_writer(self._fd)

    def _on_input(self) -> None:
        self._watcher = None
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(INTERRUPTED)

    def _deadline_in(self, timeout: float) -> float:
        deadline = self._loop.time() + timeout
        if self._timer is None or deadline < self._timer_at:
            self._arm(deadline)
        return deadline

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time()
        following = 0.0
        for future, deadline in ((self._reader, self._read_deadline), (self._writer, self._write_deadline)):
            if future is None or deadline == 0.0 or future.done():
                continue
            if deadline <= now:
                future.set_result(_EXPIRED)
            elif following == 0.0 or deadline < following:
                following = deadline
        if following:
            self._arm(following)


def _fresh(outcome: BaseException) -> BaseException:
    """Never raise a shared instance: each would carry the tracebacks of all."""
    if outcome is _EXPIRED:
        return TimeoutError()
    if outcome is _CLOSED:
        return ClosedResourceError()
    return outcome


class AsyncioSignal(Signal):
    """A future, and a timer only for who waits with a limit."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[bool] = loop.create_future()

    def set(self) -> None:
        self._resolve(value=True)

    def _resolve(self, *, value: bool) -> None:
        if not self._future.done():
            self._future.set_result(value)

    async def wait(self, timeout: float | None) -> bool:
        if timeout is None:
            return await self._future
        timer = self._loop.call_later(timeout, lambda: self._resolve(value=False))
        try:
            return await self._future
        finally:
            timer.cancel()


class AsyncioTask(TaskHandle):
    """A service task on asyncio."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def cancel(self) -> None:
        if not self._task.get_loop().is_closed():
            self._task.cancel()


class AsyncioTimer(TimerHandle):
    """A timer on asyncio."""

    __slots__ = ("_handle",)

    def __init__(self, handle: asyncio.TimerHandle) -> None:
        self._handle = handle

    def cancel(self) -> None:
        self._handle.cancel()


class AsyncioRuntime(Runtime):
    """One asyncio or uvloop event loop."""

    __slots__ = ("_tasks", "errors", "loop")

    backend: ClassVar[str] = "asyncio"
    every_call_yields: ClassVar[bool] = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.errors = select.poll() if type(loop).__module__.startswith("uvloop") else None
        """What asks for errors of sockets where libuv does not tell them."""
        self._tasks: set[asyncio.Task[None]] = set()
        if type(loop).__name__ == "ProactorEventLoop":
            message = (
                "holdwire needs an event loop that can watch descriptors; Windows' Proactor loop cannot. "
                "Use asyncio.SelectorEventLoop, or trio."
            )
            raise RuntimeError(message)

    def is_current(self) -> bool:
        return asyncio._get_running_loop() is self.loop and self.same_process  # noqa: SLF001 - documented in asyncio.events; does not raise

    def is_over(self) -> bool:
        return self.loop.is_closed() or not self.same_process

    def time(self) -> float:
        return self.loop.time()

    def channel(self, sock: socket.socket) -> AsyncioChannel:
        return AsyncioChannel(self, sock)

    def signal(self) -> AsyncioSignal:
        return AsyncioSignal(self.loop)

    def spawn(self, function: Callable[[], Awaitable[None]], *, name: str) -> AsyncioTask:
        async def run() -> None:
            try:
                await function()
            except Exception:
                logger.exception("holdwire's service task %r failed and ends", name)

        task = self.loop.create_task(run(), name=name, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return AsyncioTask(task)

    def call_later(self, delay: float, callback: Callable[[], None]) -> AsyncioTimer:
        return AsyncioTimer(self.loop.call_later(delay, callback, context=Context()))

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> bool:
        try:
            self.loop.call_soon_threadsafe(callback, context=Context())
        except RuntimeError:  # closed meanwhile
            return False
        return True


_runtimes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[AsyncioRuntime]] = (
    weakref.WeakKeyDictionary()
)


def current_runtime() -> AsyncioRuntime:
    """The runtime of the running loop, one for each loop and process."""
    loop = asyncio.get_running_loop()
    reference = _runtimes.get(loop)
    runtime = reference() if reference is not None else None
    if runtime is None or not runtime.same_process:
        runtime = AsyncioRuntime(loop)
        _runtimes[loop] = weakref.ref(runtime)
    return runtime
