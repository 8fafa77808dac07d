"""``Handover``: calls a function in place as long as it is quick; once it was slow, in a thread of its own.

A span processor that exports at once (``SimpleSpanProcessor``) can block for seconds when its collector is down. That
may hold up the event loop once, never twice. Not responsible for what a function raises in place: the caller's guard
is. Private to ``telemetry``.
"""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Handover"]

logger = logging.getLogger("holdwire")

_PATIENCE: Final = 0.1
_QUEUE_SIZE: Final = 1000
_AT_EXIT: Final = 1.0


class Handover:
    """See the module.

    Args:
        function: What is called, with whatever the handover is called with.
        patience: How long one call may take, in seconds.
    """

    def __init__(self, function: Callable[..., None], *, patience: float | None = None) -> None:
        self._function = function
        self._patience = _PATIENCE if patience is None else patience
        self._queue: queue.SimpleQueue[tuple[Any, ...] | threading.Event] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # a finalizer may come here in the middle of a start
        self.dropped = 0
        """How many calls found the queue full and were not made."""

    def __call__(self, *args: Any) -> None:
        if self._thread is not None:
            self._put(args)
            return
        began = time.perf_counter()
        try:
            self._function(*args)
        finally:
            took = time.perf_counter() - began
            if took > self._patience:
                self._leave(took)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything that was handed over has been done; whether it was within ``timeout`` seconds."""
        if self._thread is None or not self._thread.is_alive():  # in a forked child nothing was handed over yet
            return True
        done = threading.Event()
        deadline = time.monotonic() + timeout
        self._queue.put(done)
        return done.wait(max(deadline - time.monotonic(), 0.0))

    def _leave(self, took: float) -> None:
        with self._lock:
            if self._thread is not None:
                return
            self._start()
        atexit.register(self.flush, _AT_EXIT)
        logger.warning(
            "a span processor held up the event loop for %.2f s; from now on spans are written in a thread. "
            "Use BatchSpanProcessor instead of SimpleSpanProcessor",
            took,
        )

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, args=(self._queue,), name="holdwire-telemetry", daemon=True)
        thread.start()
        self._thread = thread  # only now: a finalizer that comes in between must not take it for a dead one

    def _put(self, args: tuple[Any, ...]) -> None:
        if self._thread is None or not self._thread.is_alive():  # a forked child has no threads of its parent
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._queue = queue.SimpleQueue()
                    self._start()
        if self._queue.qsize() < _QUEUE_SIZE:  # SimpleQueue: a finalizer may come here in the middle of a put
            self._queue.put(args)
        else:
            self.dropped += 1
            if self.dropped == 1:
                logger.warning("spans are written too slowly and some are dropped; said once. Counters stay exact")

    def _work(self, jobs: queue.SimpleQueue[tuple[Any, ...] | threading.Event]) -> None:
        reported = False
        while True:
            job = jobs.get()
            if isinstance(job, threading.Event):
                job.set()
                continue
            try:
                self._function(*job)
            except Exception:  # the outermost frame of a service thread
                if not reported:
                    reported = True
                    logger.warning("a span could not be written; said once", exc_info=True)
