"""``Outbox``: the bytes of one HTTP/2 connection on their way to the kernel, in order.

Theory of operation. Whoever has frames to send puts them here, synchronously: they go straight to the kernel, and
only when it has no room are they kept, and a service task writes them in order until nothing is left. A request that
is cancelled can so never tear a frame apart. Positions count the bytes of the connection; what certainly and what
possibly reached the kernel are two of them, and from these follows how much of a request was sent.
Not responsible for frames (``http2``) or for what to do when writing fails: ``on_failure`` is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClosedError, HoldwireError
from ..policy.phase import Sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..net.runtime import Runtime
    from ..net.wire import Wire

__all__ = ["Outbox"]

_CHUNK: Final = 65_536
"""Bytes of one write: the progress that who waits for room is told of."""


class Outbox:
    """See the module. ``on_room`` is told whenever the kernel took something that had waited."""

    __slots__ = (
        "_mark",
        "_on_failure",
        "_on_room",
        "_runtime",
        "_waiting",
        "_wire",
        "_writing",
        "busy",
        "put_in",
        "taken",
    )

    def __init__(
        self, wire: Wire, runtime: Runtime, *, on_room: Callable[[], None], on_failure: Callable[[], None]
    ) -> None:
        self._wire = wire
        self._runtime = runtime
        self._on_room = on_room
        self._on_failure = on_failure
        self._waiting = bytearray()
        self._writing = 0
        self._mark = 0
        self.busy = False
        """Whether there is something that the kernel had no room for."""
        self.put_in = 0
        """Bytes that were put in."""
        self.taken = 0
        """Bytes that the wire certainly took."""

    @property
    def backlog(self) -> int:
        """Bytes that the wire did not certainly take."""
        return self.put_in - self.taken

    def put(self, data: bytes) -> None:
        """Send ``data`` behind everything that was put in before. Never raises, never waits."""
        self.put_in += len(data)
        if self.busy:
            self._waiting += data
            return
        wire = self._wire
        try:
            accepted = wire.write_now(data)
        except ClosedError:
            return
        except HoldwireError:
            self._on_failure()
            return
        self.taken += accepted
        if accepted == len(data) and not wire.unsent:
            return
        self._waiting += data[accepted:]
        self.busy = True
        self._runtime.spawn(self._drain, name="holdwire: HTTP/2 writer")

    async def _drain(self) -> None:
        """Write what TLS holds of what was taken before, alone so that it counts for nothing else, and what waits."""
        wire = self._wire
        try:
            while self._waiting or wire.unsent:
                chunk = b"" if wire.unsent else bytes(self._waiting[:_CHUNK])
                del self._waiting[: len(chunk)]
                self._mark = wire.bytes_out
                self._writing = len(chunk)
                await wire.write(chunk)
                self._writing = 0
                self.taken += len(chunk)
                self._on_room()
        except ClosedError:
            return
        except HoldwireError:
            self._on_failure()
            return
        self.busy = False
        self._on_room()

    def sent(self, begin: int, end: int | None, *, ended: bool) -> Sent:
        """How much of what lies between two positions the kernel took.

        ``end`` None says that the end was not put in. With ``ended`` the connection is over, so that what waits here
        will never leave; without it that may still happen.
        """
        touched = self.taken
        if self._writing and self._wire.bytes_out != self._mark:
            touched += self._writing
        if ended and begin >= touched:
            return Sent.NONE
        if end is not None and end <= self.taken and not self._wire.unsent:
            return Sent.ALL
        return Sent.PART
