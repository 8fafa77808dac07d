"""The trio runtime: trio's own readiness for waiting tasks, one nested epoll for everything that is only watched.

Not responsible for what the bytes mean. trio allows one waiter for each descriptor and direction, and an exception in
a system task ends the user's whole run: a watched descriptor is therefore in an epoll of our own that a single
system task waits on (noticing a FIN takes 0.2 ms with 1,000 sockets), and every system task catches everything.
Where there is no epoll, connections are not watched while idle; whoever reuses one looks at it first.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import select
from contextvars import Context
from typing import TYPE_CHECKING, ClassVar

import trio
from anyio import BusyResourceError, ClosedResourceError

from .runtime import INTERRUPTED, Channel, Runtime, Signal, TaskHandle, TimerHandle

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

logger = logging.getLogger("holdwire")


class TrioChannel(Channel):
    """One descriptor in one trio run."""

    __slots__ = ("_buffer", "_fd", "_runtime", "_sock", "_watched", "_watcher", "late", "waits")

    def __init__(self, runtime: TrioRuntime, sock: socket.socket) -> None:
        self._runtime = runtime
        self._buffer = runtime.buffer
        self._sock = sock
        self._fd = sock.fileno()
        self._watcher: Callable[[], None] | None = None
        self._watched = False
        self.waits = 0
        self.late: int | BaseException | None = None
        """Never set: readiness and ``recv`` are one step of the task."""

    async def receive(self, sink: Callable[[memoryview], object], timeout: float | None, *, eager: bool) -> int:
        deadline = None if timeout is None else trio.current_time() + timeout
        while True:
            if self._fd < 0:
                raise ClosedResourceError
            if not eager:
                await self._wait(trio.lowlevel.wait_readable, deadline)
            try:
                count = self._sock.recv_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                eager = False
                continue
            if count:
                sink(self._buffer[:count])
            return count

    async def wait_writable(self, timeout: float | None, *, until_input: bool) -> int:
        if self._fd < 0:
            raise ClosedResourceError
        deadline = None if timeout is None else trio.current_time() + timeout
        if not until_input:
            await self._wait(trio.lowlevel.wait_writable, deadline)
            return 0
        return await self._wait_either(deadline)

    async def _wait(self, wait: Callable[[int], Awaitable[None]], deadline: float | None) -> None:
        self.unwatch()
        self.waits += 1
        try:
            if deadline is None:
                await wait(self._fd)
                self._check_open()
                return
            with trio.CancelScope(deadline=deadline) as scope:
                await wait(self._fd)
        except trio.BusyResourceError:
            raise BusyResourceError("using") from None
        except trio.ClosedResourceError:
            raise ClosedResourceError from None
        if scope.cancelled_caught:
            raise TimeoutError
        self._check_open()

    def _check_open(self) -> None:
        if self._fd < 0:  # detached after the readiness and before this task ran
            raise ClosedResourceError

    async def _wait_either(self, deadline: float | None) -> int:
        outcome: list[int] = []
        failures: list[Exception] = []

        async def wait(function: Callable[[int, float | None], Awaitable[None]], result: int) -> None:
            try:
                await function(result, deadline)
            except BusyResourceError as exc:
                if result == INTERRUPTED:  # a task reads already: input is its business
                    return
                failures.append(exc)
            except (ClosedResourceError, TimeoutError) as exc:
                failures.append(exc)
            else:
                outcome.append(result)
            nursery.cancel_scope.cancel()

        async def ready(result: int, until: float | None) -> None:
            await self._wait(trio.lowlevel.wait_readable if result else trio.lowlevel.wait_writable, until)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, ready, 0)
            nursery.start_soon(wait, ready, INTERRUPTED)
        if outcome:
            return max(outcome)
        if failures:
            raise failures[0]
        await trio.lowlevel.checkpoint()  # the caller's own scope was cancelled
        raise TimeoutError

    def watch(self, callback: Callable[[], None]) -> None:
        self._watcher = callback
        if not self._watched and self._fd >= 0:
            self._watched = self._runtime.watch(self._fd, self._on_readable)

    def unwatch(self) -> None:
        self._watcher = None
        if self._watched:
            self._watched = False
            self._runtime.unwatch(self._fd)

    def detach(self) -> None:
        if self._fd < 0:
            return
        self.unwatch()
        fd, self._fd = self._fd, -1
        if self._runtime.is_current():
            trio.lowlevel.notify_closing(fd)

    def _on_readable(self) -> None:
        if self._watcher is not None:
            self._watcher()


class TrioSignal(Signal):
    """An event of trio's."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, timeout: float | None) -> bool:
        if timeout is None:
            await self._event.wait()
        else:
            with trio.move_on_after(timeout):
                await self._event.wait()
        return self._event.is_set()


class TrioTask(TaskHandle):
    """A system task with a cancel scope of its own."""

    __slots__ = ("scope",)

    def __init__(self) -> None:
        self.scope = trio.CancelScope()

    def cancel(self) -> None:
        self.scope.cancel()


class TrioTimer(TimerHandle):
    """An entry of the runtime's heap of timers."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class TrioRuntime(Runtime):
    """One trio run."""

    __slots__ = ("_epoll", "_heap", "_order", "_over", "_timer_scope", "_timers", "_watchers", "token")

    backend: ClassVar[str] = "trio"
    every_call_yields: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.token = trio.lowlevel.current_trio_token()
        self._over = False
        self._watchers: dict[int, Callable[[], None]] = {}
        self._epoll: select.epoll | None = None
        self._heap: list[tuple[float, int, TrioTimer]] = []
        self._order = itertools.count()
        self._timers: trio.lowlevel.Task | None = None
        self._timer_scope: trio.CancelScope | None = None
        trio.lowlevel.spawn_system_task(self._until_the_end, name="holdwire: end of run", context=Context())

    def is_current(self) -> bool:
        if self._over or not trio.lowlevel.in_trio_run():
            return False
        return trio.lowlevel.current_trio_token() is self.token and self.same_process

    def is_over(self) -> bool:
        return self._over or not self.same_process

    def time(self) -> float:
        return trio.current_time()

    def channel(self, sock: socket.socket) -> TrioChannel:
        return TrioChannel(self, sock)

    def signal(self) -> TrioSignal:
        return TrioSignal()

    def spawn(self, function: Callable[[], Awaitable[None]], *, name: str) -> TrioTask:
        handle = TrioTask()

        async def run() -> None:
            try:
                with handle.scope:
                    await function()
            except Exception:
                logger.exception("holdwire's service task %r failed and ends", name)

        trio.lowlevel.spawn_system_task(run, name=name, context=Context())
        return handle

    def call_later(self, delay: float, callback: Callable[[], None]) -> TrioTimer:
        timer = TrioTimer(callback)
        due = trio.current_time() + delay
        earliest = not self._heap or due < self._heap[0][0]
        heapq.heappush(self._heap, (due, next(self._order), timer))
        if self._timers is None:
            self._timers = trio.lowlevel.spawn_system_task(self._run_timers, name="holdwire: timers", context=Context())
        elif earliest and self._timer_scope is not None:
            self._timer_scope.cancel()
        return timer

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> bool:
        if self.is_over():
            return False
        try:
            self.token.run_sync_soon(callback)
        except trio.RunFinishedError:
            return False
        return True

    def watch(self, fd: int, callback: Callable[[], None]) -> bool:
        """Have ``callback`` called when ``fd`` becomes readable; False where this platform has no epoll."""
        if not hasattr(select, "epoll") or self._over:
            return False
        if self._epoll is None:
            self._epoll = select.epoll()
            trio.lowlevel.spawn_system_task(self._run_watch, name="holdwire: idle watch", context=Context())
        self._watchers[fd] = callback
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP)
        return True

    def unwatch(self, fd: int) -> None:
        """Forget ``fd``; it must still be open."""
        if self._watchers.pop(fd, None) is not None and self._epoll is not None and not self._epoll.closed:
            self._epoll.unregister(fd)

    async def _run_watch(self) -> None:
        epoll = self._epoll
        if epoll is None:
            return
        try:
            while True:
                await trio.lowlevel.wait_readable(epoll.fileno())
                for fd, _ in epoll.poll(0):
                    callback = self._watchers.get(fd)
                    if callback is None:
                        continue
                    try:
                        callback()
                    except Exception:
                        logger.exception("a watched connection's callback failed; it is watched no longer")
                        self.unwatch(fd)
        finally:
            self._watchers.clear()
            epoll.close()

    async def _run_timers(self) -> None:
        while True:
            due = self._heap[0][0] if self._heap else float("inf")
            with trio.CancelScope(deadline=due) as self._timer_scope:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now:
                callback = heapq.heappop(self._heap)[2].callback
                if callback is None:
                    continue
                try:
                    callback()
                except Exception:
                    logger.exception("a timer of holdwire failed")

    async def _until_the_end(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._over = True


_current: trio.lowlevel.RunVar[TrioRuntime] = trio.lowlevel.RunVar("holdwire runtime")


def current_runtime() -> TrioRuntime:
    """The runtime of the present trio run."""
    try:
        runtime = _current.get()
    except LookupError:
        runtime = TrioRuntime()
        _current.set(runtime)
    return runtime
