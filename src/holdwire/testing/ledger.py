"""``Ledger``: what a server really executed, and ``Journal``: what happened, in order. For assertions, across threads.

An *execution* is a request that arrived whole and was handed to its handler, as in a server that acts on it: the
client may or may not have got the answer. Not responsible for serving.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from .messages import Request

__all__ = ["Entry", "Execution", "Journal", "Ledger"]

_IDENTITY = "x-request-id"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution of one request."""

    method: str
    target: str
    """Path and query."""
    path: str
    """The target without its query."""
    digest: str
    """Stands for the body: the first sixteen hexadecimal digits of its SHA-256."""
    size: int
    """Bytes of the body."""
    identity: str
    """The header ``x-request-id``, or else method, target and digest: equal for copies of one request."""
    connection: int
    """The number of the connection, from 1."""
    exchange: int
    """The number of the request on that connection, from 1."""


@final
class Ledger:
    """The executions, in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executions: list[Execution] = []

    def record(self, request: Request) -> Execution:
        """Note that ``request`` is executed now."""
        execution = Execution(
            method=request.method,
            target=request.target,
            path=request.path,
            digest=request.digest,
            size=len(request.body),
            identity=request.header(_IDENTITY) or f"{request.method} {request.target} {request.digest}",
            connection=request.connection,
            exchange=request.exchange,
        )
        with self._lock:
            self._executions.append(execution)
        return execution

    def executions(self, path: str | None = None, *, method: str | None = None) -> list[Execution]:
        """The executions so far; of one path, of one method, if given. A path with a query is compared whole."""
        with self._lock:
            copy = list(self._executions)
        return [
            execution
            for execution in copy
            if path in {None, execution.path, execution.target} and method in {None, execution.method}
        ]

    def count(self, path: str | None = None, *, method: str | None = None) -> int:
        """How many executions; as ``executions``."""
        return len(self.executions(path, method=method))

    def duplicates(self) -> dict[str, int]:
        """What was executed more than once, by identity. Requests that are meant to differ must differ in it."""
        counts = Counter(execution.identity for execution in self.executions())
        return {identity: count for identity, count in counts.items() if count > 1}

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._executions.clear()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened."""

    what: str
    """Of a listener: ``listener``. Of a connection: ``connected``, ``secured`` (TLS), ``fault``, ``closed``. Of an
    exchange: ``request`` (its head has arrived), ``executed``, ``answered``, ``idle`` (the next one may come),
    ``rejected``."""
    connection: int
    """The number of the connection, from 1; 0 for the listener."""
    detail: str = ""

    def __str__(self) -> str:
        """For people."""
        return f"{self.connection:>4}  {self.what:<10} {self.detail}".rstrip()


@final
class Journal:
    """What happened, in order; one can wait for things."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: list[Entry] = []
        self._counts: Counter[str] = Counter()

    def note(self, what: str, connection: int = 0, detail: str = "") -> None:
        """Add an entry and wake those who wait."""
        with self._changed:
            self._entries.append(Entry(what=what, connection=connection, detail=detail))
            self._counts[what] += 1
            self._changed.notify_all()

    def entries(self, what: str | None = None) -> list[Entry]:
        """The entries so far, of one sort if given."""
        with self._changed:
            return [entry for entry in self._entries if what in {None, entry.what}]

    def clear(self) -> None:
        """Forget everything."""
        with self._changed:
            self._entries.clear()
            self._counts.clear()

    def wait_for(self, what: str | Callable[[], bool], *, count: int = 1, timeout: float = 5.0) -> None:
        """Block this thread until ``count`` entries ``what`` are there, or until ``what()`` is true.

        The function is called after each entry.

        Raises:
            TimeoutError: Not within ``timeout`` seconds; the message holds the end of the journal.
        """
        end = time.monotonic() + timeout
        with self._changed:
            while not self._holds(what, count):
                if not self._changed.wait(end - time.monotonic()):
                    wanted = what if isinstance(what, str) else getattr(what, "__qualname__", repr(what))
                    story = "\n".join(map(str, self._entries[-50:])) or "nothing at all"
                    message = f"{wanted!r} (x{count}) did not happen within {timeout:g} s; what happened:\n{story}"
                    raise TimeoutError(message)

    async def until(
        self,
        what: str | Callable[[], bool],
        *,
        count: int = 1,
        timeout: float = 5.0,
    ) -> None:
        """As ``wait_for``, but only this task waits, on any event loop.

        Raises:
            TimeoutError: As ``wait_for``.
        """
        await to_thread.run_sync(lambda: self.wait_for(what, count=count, timeout=timeout), abandon_on_cancel=True)

    def _holds(self, what: str | Callable[[], bool], count: int) -> bool:
        if isinstance(what, str):
            return self._counts[what] >= count
        return what()

    def __str__(self) -> str:
        """The whole story, for people."""
        return "\n".join(map(str, self.entries()))
