"""``ForeignWire``: any anyio byte stream as a ``Wire``, so that TLS runs over streams that are no sockets of ours.

What such a stream cannot do, this cannot either: look without waiting, send without waiting, watch, abort by RST,
or say how much of a cancelled write has left. After a cancelled or timed-out write it is therefore broken.
Not responsible for TLS (``stream``).
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

import anyio
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from anyio.abc import SocketAttribute

from ..errors import ClosedError, ConnectionLost, DeadlineExceeded
from ..net.runtime import current
from ..net.wire import CLOSED_MESSAGE, Look, Wire
from ..policy import diagnosis
from ..policy.kind import Kind
from ..policy.phase import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anyio.abc import ByteStream

    from ..policy.failure import Failure
    from ..policy.settings import Keepalive

__all__ = ["ForeignWire"]

_READ_SIZE = 65_536


class ForeignWire(Wire):
    """``stream`` as a wire. ``host`` and ``port`` are for records and messages."""

    def __init__(self, stream: ByteStream, *, host: str = "", port: int = 0) -> None:
        super().__init__(current())
        self.stream = stream
        self.id = secrets.token_hex(8)
        self.phase = Phase.UPGRADED
        self.failure: Failure | None = None
        self.bytes_in = self.bytes_out = 0
        self.requests = 0
        self.opened_at = self.last_read = self.last_write = time.monotonic()
        address: Any = stream.extra(SocketAttribute.remote_address, None)  # noqa: S610 - anyio's, not Django's
        self.peer: str | None = _host_of(address)
        self.host: str = host or self.peer or "the stream beneath"
        self.port = port
        self._carry = b""
        self._waits = 0
        self._eof = False
        self._closed = False
        self._cause: BaseException | None = None

    # --- reading ---

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self._carry:
            await self.read_into(self._keep, timeout)
        data, self._carry = self._carry[:max_bytes], self._carry[max_bytes:]
        return data

    def _keep(self, view: memoryview) -> None:
        self._carry += bytes(view)

    async def read_into(self, sink: Callable[[memoryview], object], timeout: float | None = None) -> int:
        """As ``net.stream.SocketStream.read_into``."""
        if self._eof:
            return 0
        self._check()
        self._waits += 1
        try:
            with anyio.fail_after(timeout):
                data = await self.stream.receive(_READ_SIZE)
        except EndOfStream:
            self._eof = True
            return 0
        except TimeoutError:
            message = f"nothing was received from {self.host} within {timeout} s (phase {self.phase})"
            raise DeadlineExceeded(message, limit="read") from None
        except BrokenResourceError as exc:
            raise self._fail(exc, "recv") from exc
        except ClosedResourceError:
            raise self._ended() from None
        self.bytes_in += len(data)
        self.last_read = time.monotonic()
        sink(memoryview(data))
        return len(data)

    def read_now(self, sink: Callable[[memoryview], object]) -> int | None:  # noqa: ARG002 - as SocketStream's
        """Nothing can be read without waiting: None, or 0 after the end of file."""
        return 0 if self._eof else None

    # --- writing ---

    async def write(self, data: bytes | memoryview, timeout: float | None = None, *, until_input: bool = False) -> int:  # noqa: ARG002
        self._check()
        self._waits += 1
        try:
            with anyio.fail_after(timeout):
                await self.stream.send(bytes(data))
        except TimeoutError:
            self._interrupted(Kind.LOCAL_TIMEOUT)
            message = f"{len(data)} bytes were not taken by {self.host} within {timeout} s (phase {self.phase})"
            raise DeadlineExceeded(message, limit="write") from None
        except BrokenResourceError as exc:
            raise self._fail(exc, "send") from exc
        except ClosedResourceError:
            raise self._ended() from None
        except BaseException:
            self._interrupted(Kind.CANCELLED)
            raise
        self.bytes_out += len(data)
        self.last_write = time.monotonic()
        return len(data)

    def write_now(self, data: bytes | memoryview) -> int:  # noqa: ARG002 - as SocketStream's
        """Nothing can be sent without waiting: 0."""
        self._check()
        return 0

    async def finish(self) -> None:
        self._check()
        try:
            await self.stream.send_eof()
        except BrokenResourceError as exc:
            raise self._fail(exc, "shutdown") from exc

    # --- looking ---

    def look(self) -> Look:
        if self.failure is not None:
            return Look.FAILED
        if self._carry:
            return Look.INPUT
        return Look.ENDED if self._eof or self._closed else Look.QUIET

    def watch(self, callback: Callable[[], None]) -> None:
        """Nobody can watch such a stream: whoever uses it again finds out."""

    def unwatch(self) -> None:
        """There is nothing to forget."""

    @property
    def wait_count(self) -> int:
        return self._waits

    # --- failures ---

    def facts(self) -> diagnosis.Facts:
        now = time.monotonic()
        facts = diagnosis.Facts(
            host=self.host,
            peer=self.peer,
            connection_id=self.id,
            reused=self.requests > 0,
            requests=self.requests,
            age=now - self.opened_at,
            idle=now - max(self.last_read, self.last_write),
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            flight=self.flight.before(now),
            at=time.time(),
        )
        if self.port:
            facts["port"] = self.port
        return facts

    def latch(self, failure: Failure) -> ConnectionLost:
        if self.failure is None:
            self.failure = failure
        lost = ConnectionLost(failure=self.failure)
        lost.__cause__ = self._cause
        return lost

    def _fail(self, exc: BrokenResourceError, syscall: str) -> ConnectionLost:
        """The record of the stream beneath if it is one of ours, else what its cause says."""
        failure: Failure | None = getattr(exc, "failure", None)
        cause = exc.__cause__
        if failure is None and isinstance(cause, OSError) and cause.errno:
            failure = diagnosis.from_errno(cause.errno, syscall=syscall, phase=self.phase, facts=self.facts())
        if failure is None:
            detail = f"the stream beneath broke ({type(cause or exc).__name__})"
            failure = diagnosis.local(Kind.OTHER, phase=self.phase, facts=self.facts(), detail=detail)
        if self.failure is None:
            self._cause = cause
        return self.latch(failure)

    def _interrupted(self, kind: Kind) -> None:
        detail = "a write was given up midway, and an unknown part of it has left"
        self.latch(diagnosis.local(kind, phase=self.phase, facts=self.facts(), detail=detail))

    def _check(self) -> None:
        if self.failure is not None or self._closed:
            raise self._ended()

    def _ended(self) -> ConnectionLost | ClosedError:
        return ClosedError(CLOSED_MESSAGE) if self.failure is None else self.latch(self.failure)

    # --- ending ---

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def unsent(self) -> int:
        return 0

    def undelivered(self) -> int | None:
        return None

    def close(self) -> None:
        """Have the stream closed by a service task, since closing it may take an await."""
        if not self._closed:
            self._closed = True
            if self.runtime.is_current():
                self.runtime.spawn(self._close_stream, name="holdwire: close a stream")

    def abort(self) -> None:
        self.close()

    def drop(self) -> None:
        self._closed = True

    async def aclose(self) -> None:
        self._disuse()
        self._closed = True
        await self._close_stream()

    async def _close_stream(self) -> None:
        if self.failure is not None:
            await anyio.aclose_forcefully(self.stream)
        else:
            await self.stream.aclose()

    def set_user_timeout(self, keepalive: Keepalive | None) -> None:
        """The socket, if there is one, is not ours."""

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        stream: Any = self.stream  # anyio leaves the keys and values of the mapping open
        attributes: Mapping[Any, Callable[[], Any]] = stream.extra_attributes
        return attributes


def _host_of(address: Any) -> str | None:  # noqa: ANN401 - what anyio's streams tell: a host and a port, or a path
    if isinstance(address, str):
        return address
    return None if address is None else str(address[0])
