"""``Wire``: the byte stream that everything above ``net`` and ``tls`` uses, and its face as an anyio ``ByteStream``.

Two levels, one object:

* ``read`` and ``write`` are for holdwire's own protocol code. They take time limits, raise holdwire's errors, and do
  not yield when there is no need: no checkpoint, no cancel scope, no lock on the happy path.
* ``receive``, ``send``, ``send_eof`` and ``aclose`` are anyio's contract: a checkpoint at least once a call, one task
  for each direction (BusyResourceError for the second, without damage), EndOfStream at the end. But on asyncio a send
  that follows a wait on the same stream only looks for a cancellation: who asks and waits starves nobody.

Invariants: the first failure is latched and every later use raises it again (a fresh exception, the same record);
``close`` and ``abort`` never block, and may be called at any time, any number of times.
Not responsible for sockets (``stream``) or TLS (``tls``).
"""

from __future__ import annotations

import abc
import enum
from typing import TYPE_CHECKING, cast

from anyio import BusyResourceError, EndOfStream
from anyio.abc import ByteStream
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

from ..errors import ClosedError, ConnectionLost
from ..policy.flight import Flight

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..policy.diagnosis import Facts
    from ..policy.failure import Failure
    from ..policy.phase import Phase
    from ..policy.settings import Keepalive
    from .runtime import Runtime

__all__ = ["Look", "Wire"]


class Look(enum.Enum):
    """What one non-blocking look at an unused connection showed."""

    QUIET = "quiet"
    """Nothing to read: as far as this host knows the connection is alive."""
    INPUT = "input"
    """Bytes that nobody asked for."""
    ENDED = "ended"
    """The peer has closed (FIN; with TLS close_notify, or a FIN where that is accepted)."""
    FAILED = "failed"
    """A failure is latched now."""


class Wire(ByteStream):
    """A connected byte stream. See the module for its two levels."""

    id: str
    phase: Phase
    """What the owner is doing; failures are recorded under it."""
    failure: Failure | None
    """The first failure, latched."""
    explain: Callable[[Failure], Failure] | None = None
    """Says better what caused a failure, before it is latched; set by an owner who knows more."""
    bytes_in: int
    bytes_out: int
    """Bytes that the kernel gave and took, TLS included."""
    opened_at: float
    last_read: float
    last_write: float
    """Monotonic times in seconds."""
    peer: str | None
    """The peer's address, or the path of its Unix socket."""
    peer_port: int | None = None
    flight: Flight
    """What happened here last."""
    _carry: bytes
    """What was read and not handed out."""
    requests: int
    """Exchanges completed before the present one; kept by the owner."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._disused = False
        self._waits_before = 0
        """How often a task had waited here when the last send was over."""
        self.flight = Flight()
        self._receiving = self._sending = False
        """Whether a task is inside ``receive``, and inside ``send``."""

    # --- for holdwire's own protocol code ---

    @abc.abstractmethod
    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Up to ``max_bytes`` bytes; ``b""`` at a clean end, again and again.

        After a write has failed this still yields what had arrived before, and then raises the write's failure.
        Cancellation loses no byte.

        Raises:
            ConnectionLost: The connection failed, or the stream was truncated.
            DeadlineExceeded: Nothing came within ``timeout`` seconds. The wire stays usable.
            ClosedError: The wire was closed by its owner.
        """

    @abc.abstractmethod
    async def write(self, data: bytes | memoryview, timeout: float | None = None, *, until_input: bool = False) -> int:
        """Write all of ``data`` and return its length.

        With ``until_input`` it returns early, with the number of bytes accepted so far, when input arrives while
        the kernel has no room: the peer may be answering early.

        Raises: as ``read``. After a time-out or a cancellation an unknown part was written.
        """

    @property
    def holds_input(self) -> bool:
        """Whether ``read`` is certain not to wait, for something to read has left the kernel."""
        return False

    def put_back(self, data: bytes) -> None:
        """Have ``data``, which was read too far, read before anything else."""
        self._carry = data + self._carry

    def write_now(self, data: bytes) -> int:  # noqa: ARG002 - a wire that cannot write without waiting takes nothing
        """Write what can be written without waiting; return how much of ``data`` was accepted, possibly 0.

        Raises: as ``read``, but for the time-out.
        """
        return 0

    @abc.abstractmethod
    def look(self) -> Look:
        """Look, without blocking and without losing a byte, whether the connection is still alive."""

    @abc.abstractmethod
    def watch(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when something arrives while nobody reads. It must ``look``, ``unwatch`` or close."""

    @abc.abstractmethod
    def unwatch(self) -> None:
        """Forget the callback."""

    @property
    @abc.abstractmethod
    def unsent(self) -> int:
        """Bytes accepted by ``write`` that the kernel has not taken yet: ciphertext of ours."""

    @property
    def accepted(self) -> int:
        """Bytes of messages that were handed over for good: to the kernel or, with TLS, encrypted."""
        return self.bytes_out

    @property
    def saw_close_notify(self) -> bool:
        """Whether the end that the peer made was an orderly one; without TLS nobody can tell, so it was."""
        return True

    @abc.abstractmethod
    def undelivered(self) -> int | None:
        """Bytes that may still be delivered after a graceful close: ``unsent`` plus the kernel's send queue.

        None where the kernel does not tell.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End the connection gracefully as far as that is possible without waiting.

        Bytes of ours that the kernel has not taken are discarded, and the connection is then aborted instead:
        what was called unsent must never leave.
        """

    @abc.abstractmethod
    def abort(self) -> None:
        """End the connection at once with RST; nothing that is queued will be delivered."""

    @abc.abstractmethod
    def drop(self) -> None:
        """Give the descriptor back without touching peer or loop: for what belongs to another process or loop."""

    @property
    @abc.abstractmethod
    def closed(self) -> bool:
        """Whether the owner has ended the connection."""

    @abc.abstractmethod
    def facts(self) -> Facts:
        """What a failure record says about this connection, the kernel's view included."""

    @abc.abstractmethod
    def latch(self, failure: Failure) -> ConnectionLost:
        """Keep ``failure`` if it is the first one; return the exception for the one that is kept."""

    @abc.abstractmethod
    async def finish(self) -> None:
        """Tell the peer that nothing more will be sent (SHUT_WR; with TLS close_notify first)."""

    @abc.abstractmethod
    def set_user_timeout(self, keepalive: Keepalive | None) -> None:
        """Arm TCP_USER_TIMEOUT as ``keepalive`` says; None lifts it, while a living peer's window is closed."""

    @property
    @abc.abstractmethod
    def wait_count(self) -> int:
        """How often a task really waited here."""

    # --- anyio's contract ---

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """As ``anyio.abc.ByteReceiveStream.receive``.

        Raises:
            ValueError: ``max_bytes`` is below 1.
            anyio.EndOfStream, anyio.BusyResourceError, ClosedError, ConnectionLost.
        """
        if max_bytes < 1:
            message = f"max_bytes must be a positive integer, not {max_bytes!r}"
            raise ValueError(message)
        if self._receiving:
            raise BusyResourceError("reading from")
        self._receiving = True
        try:
            # with nothing in hand yet the checkpoint need not be shielded, which costs more
            ready = self.holds_input
            await (checkpoint() if ready else checkpoint_if_cancelled())
            self._check_in_use()
            waits = -1 if ready else self.wait_count
            try:
                data = await self.read(max_bytes)
            except ConnectionLost:
                if self.wait_count == waits:
                    await cancel_shielded_checkpoint()
                self._check_in_use()  # a failure that came of our own close is none of the caller's
                raise
            if self.wait_count == waits:  # bytes are in hand: no cancellation may lose them
                try:
                    await cancel_shielded_checkpoint()
                except BaseException:  # asyncio's own ``cancel`` goes through anyio's shields
                    if not self.closed:
                        self._carry = data + self._carry
                    raise
            if not data:
                raise EndOfStream
            return data
        finally:
            self._receiving = False

    async def send(self, item: bytes) -> None:
        """As ``anyio.abc.ByteSendStream.send``.

        Raises:
            anyio.BusyResourceError, ClosedError, ConnectionLost.
        """
        if self._sending:
            raise BusyResourceError("writing to")
        self._sending = True
        try:
            await checkpoint_if_cancelled()
            self._check_in_use()
            waits = self.wait_count
            if item:
                try:
                    await self.write(item)
                except ConnectionLost:
                    self._check_in_use()
                    raise
            elif not isinstance(cast("object", item), bytes | bytearray | memoryview):
                raise TypeError(f"a bytes-like object is required, not {type(item).__name__!r}")
            waited = self.wait_count
            if waited == waits and (waits == self._waits_before or self.runtime.every_call_yields):
                await cancel_shielded_checkpoint()
                waited = self.wait_count
            self._waits_before = waited
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """As ``anyio.abc.ByteStream.send_eof``; may be called again."""
        if self._sending:
            raise BusyResourceError("writing to")
        self._sending = True
        try:
            await checkpoint_if_cancelled()
            self._check_in_use()
            await self.finish()
            await cancel_shielded_checkpoint()
        finally:
            self._sending = False

    async def aclose(self) -> None:
        """Close gracefully; cancelled, it aborts nothing that ``close`` would not. May be called again."""
        self._disuse()
        self.close()
        await checkpoint()

    def _disuse(self) -> None:
        """The user has closed the stream: later calls get ClosedError, whatever failure is latched."""
        self._disused = True

    def _check_in_use(self) -> None:
        if self._disused or (self.closed and self.failure is None):
            raise ClosedError(CLOSED_MESSAGE)


CLOSED_MESSAGE = "the stream was closed by its owner and cannot be used again; open a new one"
FINISHED_MESSAGE = "nothing more can be sent: the sending side of the stream was closed by its owner"
