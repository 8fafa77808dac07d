"""``SocketStream``: a ``Wire`` on our own non-blocking socket: system call first, waiting only on EAGAIN.

Theory of operation. errno is read here and nowhere else: the kernel hands an error out once, and the next call shows
a false end of file. So the first failure is turned into a ``Failure`` (with phase, TCP_INFO and queue sizes, before
the socket is closed), latched, and raised again by every later use. After a failed write the read side is drained
first, because an answer that arrived before the RST is still readable (kernel: ECONNRESET, the data, ``b""``).

Closing: unregister from the loop, then linger, then close; in another order uvloop's process aborts and the next
socket of that number is deaf. ``close`` refuses to be graceful over bytes that were called unsent.
Not responsible for connecting (``dial``), TLS, or deciding what a failure means (``policy``).
"""

from __future__ import annotations

import secrets
import socket
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from anyio import ClosedResourceError
from anyio.abc import SocketAttribute
from anyio.lowlevel import checkpoint

from ..errors import ClosedError, ConnectionLost, DeadlineExceeded, HeartbeatLost
from ..policy import diagnosis
from ..policy.authority import authority
from ..policy.flight import Mark
from ..policy.kind import Kind
from ..policy.phase import Phase
from .keepalive import arm, lift
from .linger import reset
from .runtime import INTERRUPTED, current, forks
from .tcp_info import outq, tcp_info
from .wire import CLOSED_MESSAGE, FINISHED_MESSAGE, Look, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..policy.failure import Failure
    from ..policy.settings import Keepalive
    from .runtime import Channel

__all__ = ["SocketStream"]

_Name: TypeAlias = "tuple[str, int] | tuple[str, int, int, int] | str | bytes"
"""What ``getsockname`` and ``getpeername`` return: IPv4, IPv6, Unix."""

_LOST = {Kind.HEARTBEAT_LOST: HeartbeatLost}
_DRAIN_LIMIT = 64
"""Receive calls at most when unread input is dropped before a close."""


class SocketStream(Wire):
    """A connected stream socket (TCP or Unix), owned by the runtime that created the stream.

    Args:
        sock: Connected; made non-blocking here.
        host, port: The logical origin, for records and messages.
        via: The proxy, as ``host:port``, if the connection goes through one.
    """

    def __init__(self, sock: socket.socket, *, host: str, port: int = 0, via: str | None = None) -> None:
        super().__init__(current())
        sock.setblocking(False)  # noqa: FBT003 - the socket module's signature
        self._sock = sock
        self._channel: Channel = self.runtime.channel(sock)
        self._closed = False
        self._eager = True
        self._carry = b""
        self._eof = False
        self._finished = False
        self._write_failed = False
        self._cause: OSError | None = None
        self._forks = forks()
        self._user_timeout: float | None = None
        self.shared = False
        """Set by an owner who duplicated the descriptor; after a fork it counts as shared without that."""
        self.host = host
        self.port = port
        self.via = via
        self.id = secrets.token_hex(8)
        self.phase = Phase.UPGRADED
        self.failure: Failure | None = None
        self.bytes_in = self.bytes_out = 0
        self.requests = 0
        self.opened_at = self.last_read = self.last_write = time.monotonic()
        self.peer, self.peer_port, self._network_type = _address(sock)
        self.flight.append((self.opened_at, Mark.CONNECTED, -1))

    # --- reading ---

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self._carry and not await self.read_into(self._keep, timeout):
            return b""
        data = self._carry
        if not data:  # closed between the arrival and this task's turn
            raise self._ended()
        if len(data) <= max_bytes:
            self._carry = b""
            return data
        self._carry = data[max_bytes:]
        return data[:max_bytes]

    @property
    def holds_input(self) -> bool:
        return bool(self._carry)

    def _keep(self, view: memoryview) -> None:
        self._carry += bytes(view)

    def _foregone(self, sink: Callable[[memoryview], object]) -> int:
        """What comes before anything new: what a read has left, what there is after a failure, the end."""
        if self._carry:
            data, self._carry = self._carry, b""
            sink(memoryview(data))
            return len(data)
        if self.failure is not None:
            return self._drain_after_failure(sink)
        if self._eof:
            return 0
        raise ClosedError(CLOSED_MESSAGE)

    async def read_into(self, sink: Callable[[memoryview], object], timeout: float | None = None) -> int:
        """As ``read``, but hands what came (up to 256 KiB) to ``sink`` in the step in which it leaves the kernel."""
        if self._carry or self._eof or self._closed or self.failure is not None:
            return self._foregone(sink)
        try:
            count = await self._channel.receive(sink, timeout, eager=self._eager)
        except ClosedResourceError:
            raise self._ended() from None
        except TimeoutError as exc:
            if exc.errno is not None:  # the kernel's ETIMEDOUT is a TimeoutError too
                raise self._fail(exc, "recv") from exc
            message = f"nothing was received from {self._name} within {timeout} s (phase {self.phase})"
            raise DeadlineExceeded(message, limit="read") from None
        except OSError as exc:
            raise self._fail(exc, "recv") from exc
        except BaseException:
            self._settle(self._channel.late)
            raise
        self._took(count)
        return count or self._foregone(sink)  # another task's write may have had the error: this end is its echo

    def _settle(self, late: int | BaseException | None) -> None:
        """A read was cancelled after its outcome had come: keep it, for the kernel tells it once."""
        if isinstance(late, int):
            self._took(late)
        elif isinstance(late, OSError) and late.errno is not None:
            self._fail(late, "recv")

    def read_now(self, sink: Callable[[memoryview], object]) -> int | None:
        """One ``recv`` without waiting: None if it would block, 0 at the end of file.

        Raises:
            ConnectionLost: The connection failed.
            ClosedError: The wire was closed by its owner.
        """
        if self._carry or self._eof or self._closed or self.failure is not None:
            return self._foregone(sink)
        buffer = self.runtime.buffer
        try:
            count = self._sock.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as exc:
            raise self._fail(exc, "recv") from exc
        if count:
            sink(buffer[:count])
        self._took(count)
        return count

    def _took(self, count: int) -> None:
        if count:
            self.bytes_in += count
            self.last_read = time.monotonic()
            self._eager = count == len(self.runtime.buffer)  # a full buffer: more is there, do not wait for readiness
        else:
            self._eof = True

    def _drain_after_failure(self, sink: Callable[[memoryview], object]) -> int:
        """What arrived before a failed write is still delivered; then the latched failure is raised."""
        if self._write_failed and not self._closed:
            buffer = self.runtime.buffer
            try:
                count = self._sock.recv_into(buffer)
            except OSError:  # the error was handed out to the write: this one is only its echo
                count = 0
            if count:
                sink(buffer[:count])
                self.bytes_in += count
                return count
            self._write_failed = False
        raise self._lost()

    # --- writing ---

    async def write(self, data: bytes | memoryview, timeout: float | None = None, *, until_input: bool = False) -> int:
        if self.failure is not None:
            raise self._lost()
        if self._closed or self._finished:
            raise ClosedError(CLOSED_MESSAGE if self._closed else FINISHED_MESSAGE)
        try:
            count = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            count = 0
        except OSError as exc:
            raise self._fail(exc, "send") from exc
        self.bytes_out += count
        self.last_write = time.monotonic()
        if count == len(data):
            return count
        return await self._write_rest(memoryview(data), count, timeout, until_input=until_input)

    async def _write_rest(self, data: memoryview, done: int, timeout: float | None, *, until_input: bool) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        size = len(data)
        while done < size:
            left = None if deadline is None else deadline - time.monotonic()
            try:
                if left is not None and left <= 0:  # room that is there again and again must not put it off
                    raise TimeoutError  # noqa: TRY301 - handled as the one of the wait
                outcome = await self._channel.wait_writable(left, until_input=until_input)
            except ClosedResourceError:
                raise self._ended() from None
            except TimeoutError:
                message = (
                    f"{size - done} of {size} bytes were not taken by {self._name} within {timeout} s "
                    f"(phase {self.phase}): it does not read, or the path is dead"
                )
                raise DeadlineExceeded(message, limit="write") from None
            if outcome == INTERRUPTED:
                if self.look() is Look.QUIET:  # asyncio tells in the same turn once more of what was just read
                    continue
                break
            if self.failure is not None or self._closed:
                raise self._ended()
            try:
                count = self._sock.send(data[done:])
            except (BlockingIOError, InterruptedError):
                await checkpoint()  # it was not so: anyio delivers no cancellation to a wait that is over already
                continue
            except OSError as exc:
                raise self._fail(exc, "send") from exc
            done += count
            self.bytes_out += count
            self.last_write = time.monotonic()
        return done

    def write_now(self, data: bytes | memoryview) -> int:
        """One ``send`` without waiting: the number of bytes taken, possibly 0.

        Raises:
            ConnectionLost: The connection failed.
            ClosedError: The wire was closed by its owner.
        """
        if self.failure is not None:
            raise self._lost()
        if self._closed or self._finished:
            raise ClosedError(CLOSED_MESSAGE if self._closed else FINISHED_MESSAGE)
        try:
            count = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            raise self._fail(exc, "send") from exc
        self.bytes_out += count
        self.last_write = time.monotonic()
        return count

    async def finish(self) -> None:
        if self.failure is not None:
            raise self._lost()
        if self._closed:
            raise ClosedError(CLOSED_MESSAGE)
        if self._finished:
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise self._fail(exc, "shutdown") from exc
        self._finished = True

    # --- looking ---

    def look(self) -> Look:
        if self.failure is not None:
            return Look.FAILED
        if self._carry:
            return Look.INPUT
        if self._eof or self._closed:
            return Look.ENDED
        try:
            return Look.INPUT if self._sock.recv(1, socket.MSG_PEEK) else Look.ENDED
        except (BlockingIOError, InterruptedError):
            return Look.QUIET
        except OSError as exc:  # the errno is handed out once: this look has it, so it is the connection's
            self._fail(exc, "recv")
            return Look.FAILED

    def watch(self, callback: Callable[[], None]) -> None:
        self._channel.watch(callback)

    def unwatch(self) -> None:
        self._channel.unwatch()

    @property
    def wait_count(self) -> int:
        return self._channel.waits

    # --- failures ---

    @property
    def _name(self) -> str:
        return authority(self.host, self.port) if self.port else self.host

    def facts(self) -> diagnosis.Facts:
        now = time.monotonic()
        at = time.time()
        idle = now - max(self.last_read, self.last_write)
        facts = diagnosis.Facts(
            host=self.host,
            peer=self.peer,
            peer_port=self.peer_port,
            network_type=self._network_type,
            connection_id=self.id,
            reused=self.requests > 0,
            requests=self.requests,
            age=now - self.opened_at,
            idle=idle,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            began=at - idle,
            flight=self.flight.before(now),
            tcp=None if self._closed else tcp_info(self._sock),
            outq=None if self._closed else outq(self._sock),
            at=at,
        )
        if self.port:
            facts["port"] = self.port
        if self.via is not None:
            facts["via"] = self.via
        local_port = self.local_port
        if local_port is not None:
            facts["local_port"] = local_port
        return facts

    @property
    def local_port(self) -> int | None:
        """Our own port, None on a Unix socket and after the close."""
        try:
            name: _Name = self._sock.getsockname()
        except OSError:
            return None
        return name[1] if isinstance(name, tuple) else None

    def _fail(self, exc: OSError, syscall: str) -> ConnectionLost:
        failure = diagnosis.from_errno(
            exc.errno or 0, syscall=syscall, phase=self.phase, facts=self.facts(), ours=self._closed
        )
        if self.failure is None:
            self._cause = exc.with_traceback(None)
            self._write_failed = syscall == "send"
        return self.latch(failure)

    def latch(self, failure: Failure) -> ConnectionLost:
        if self.failure is None:
            self.failure = failure if self.explain is None else self.explain(failure)
        return self._lost()

    def _lost(self) -> ConnectionLost:
        failure = self.failure
        lost = _LOST.get(failure.kind if failure is not None else Kind.OTHER, ConnectionLost)(failure=failure)
        lost.__cause__ = self._cause
        return lost

    def _ended(self) -> ConnectionLost | ClosedError:
        """Why a wait was cut short: we gave the connection up with a failure, or its owner closed it."""
        return self._lost() if self.failure is not None else ClosedError(CLOSED_MESSAGE)

    # --- ending ---

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def unsent(self) -> int:
        return 0

    def undelivered(self) -> int | None:
        return 0 if self._closed else outq(self._sock)

    def close(self) -> None:
        if self._closed:
            return
        if not self.runtime.same_process:  # the connection, and the loop's epoll, are the parent's
            self.drop()
            return
        self._closed = True
        self._carry = b""
        self._channel.detach()
        # another holder of the descriptor would keep the connection open after our close
        if (self.failure is None and not self._eof) or self._is_shared:
            self._shut_down()
        self._sock.close()

    @property
    def _is_shared(self) -> bool:
        return self.shared or self._forks != forks()

    def _shut_down(self) -> None:
        """FIN, and drop unread input: with input unread (TLS 1.3 tickets) Linux would send RST instead of FIN."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
            for _ in range(_DRAIN_LIMIT):
                if not self._sock.recv_into(self.runtime.buffer):
                    break
        except OSError:  # nothing left to read, or the peer is gone: closing is all that remains
            pass

    def set_user_timeout(self, keepalive: Keepalive | None) -> None:
        if not self._closed:
            if keepalive is None:
                self._user_timeout = lift(self._sock)
            else:
                arm(self._sock, keepalive, before=self._user_timeout)

    def abort(self) -> None:
        if self._closed:
            return
        if not self.runtime.same_process:
            self.drop()
            return
        self._closed = True
        self._carry = b""
        self._channel.detach()
        reset(self._sock, shared=self._is_shared)
        self._sock.close()

    def drop(self) -> None:
        if not self._closed:
            self._closed = True
            self._carry = b""
            self._sock.close()

    # --- attributes ---

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        sock = self._sock
        attributes: dict[Any, Callable[[], Any]] = {
            SocketAttribute.family: lambda: sock.family,
            SocketAttribute.local_address: lambda: _plain(sock.getsockname()),
            SocketAttribute.raw_socket: lambda: sock,
            SocketAttribute.remote_address: lambda: _plain(sock.getpeername()),
        }
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            attributes[SocketAttribute.local_port] = lambda: sock.getsockname()[1]
            attributes[SocketAttribute.remote_port] = lambda: sock.getpeername()[1]
        return attributes


def _plain(name: _Name) -> tuple[str, int] | str:
    """An address as anyio gives it: host and port, and the path of a Unix socket as text."""
    if isinstance(name, tuple):
        return name[0], name[1]
    return name.decode(errors="surrogateescape") if isinstance(name, bytes) else name


def _address(sock: socket.socket) -> tuple[str | None, int | None, str | None]:
    """The peer's address and port, and ``ipv4``, ``ipv6`` or ``unix``."""
    try:
        name: _Name = sock.getpeername()
    except OSError:
        return None, None, None
    if isinstance(name, tuple):
        return name[0], name[1], "ipv6" if sock.family == socket.AF_INET6 else "ipv4"
    return (name.decode(errors="replace") if isinstance(name, bytes) else name) or None, None, "unix"
