"""``Places``: how many connections a pool may have at a time, how many it has, and who waits for there to be none.

A place is taken before a connection is opened in it, and left when that fails or the connection ends. A request that
pauses between two attempts holds none and will want one: as long as there is such a request nothing is over.

Invariants: no more than ``limit`` are taken, but for what ``exceed`` takes, for which its caller answers; who waits for
all of them to be left is woken when that is so, and looks again.
Not responsible for making room, or for who gets a place (``pool``).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..net.runtime import Runtime, Signal

__all__ = ["Places"]


class Places:
    """See the module; a ``limit`` of None is none."""

    __slots__ = ("_pausing", "_runtime", "_watching", "limit", "taken")

    def __init__(self, limit: int | None, runtime: Runtime) -> None:
        self.limit = float("inf") if limit is None else limit
        self.taken = 0
        """Connections that are being opened, in use or idle."""
        self._pausing = 0
        self._runtime = runtime
        self._watching: list[Signal] = []

    def take(self) -> bool:
        """Take one; whether there was one."""
        if self.taken >= self.limit:
            return False
        self.taken += 1
        return True

    def exceed(self) -> None:
        """Take one, whether there is one or not."""
        self.taken += 1

    def leave(self) -> None:
        """One of them is not needed any more."""
        self.taken -= 1
        self._tell()

    @contextlib.contextmanager
    def pausing(self) -> Generator[None]:
        """A request holds none and will want one."""
        self._pausing += 1
        try:
            yield
        finally:
            self._pausing -= 1
            self._tell()

    def _tell(self) -> None:
        if not self.taken and not self._pausing:
            for signal in self._watching:
                signal.set()

    async def all_left(self) -> None:
        """Wait until none is taken, and none will be by a request in progress."""
        while self.taken or self._pausing:
            signal = self._runtime.signal()
            self._watching.append(signal)
            try:
                await signal.wait(None)
                await checkpoint()  # who lost its connection may have to ask for another one
            finally:
                self._watching.remove(signal)
