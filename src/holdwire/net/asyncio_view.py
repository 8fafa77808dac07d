"""An asyncio view of a byte stream, for libraries that own their connections: a ``Transport``, and (reader, writer).

Theory of operation. Two tasks: one receives and hands what came to the protocol, one sends what was written. Failures
reach the protocol as they are (``ConnectionLost`` is a ``ConnectionError``), so that libraries which know asyncio's
errors take them for what they are. Flow control is asyncio's: a full buffer pauses the protocol, a paused transport
does not receive, which also pauses a heartbeat.

Invariants: ``connection_lost`` is called once and last; nothing is delivered while paused or after ``close``; ``abort``
drops what was not sent; both tasks have ended before the stream is closed. asyncio and uvloop only. Not responsible
for the stream's heartbeat or reconnecting.
"""

from __future__ import annotations

import asyncio
from asyncio.trsock import TransportSocket
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anyio.abc import ByteStream

__all__ = ["StreamTransport", "asyncio_streams"]

_LIMIT = 2**16


class StreamTransport(asyncio.Transport):
    """See the module. The stream belongs to the transport; the protocol is told ``connection_made`` at once."""

    def __init__(self, stream: ByteStream, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._protocol = protocol
        self._buffer: deque[bytes] = deque()
        self._size = 0
        self._high, self._low = _LIMIT, _LIMIT // 4
        self._full = self._eof = self._closing = self._aborted = self._lost = False
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._written = asyncio.Event()
        protocol.connection_made(self)
        self._reader = self._loop.create_task(self._receive(), name="holdwire: read for asyncio")
        self._writer = self._loop.create_task(self._send(), name="holdwire: write for asyncio")

    # --- receiving ---

    async def _receive(self) -> None:
        try:
            while True:
                await self._resumed.wait()
                try:
                    data = await self._stream.receive(_LIMIT)
                except anyio.EndOfStream:
                    data = None
                await self._resumed.wait()  # paused meanwhile
                if self._closing:
                    return
                protocol = self._protocol
                if data is None:
                    if not (
                        isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol) and protocol.eof_received()
                    ):
                        self.close()
                    return
                if isinstance(protocol, asyncio.BufferedProtocol):
                    _feed(protocol, data)
                elif isinstance(protocol, asyncio.Protocol):
                    protocol.data_received(data)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as exc:
            self._end(None if isinstance(exc, anyio.ClosedResourceError) else exc)
        except Exception as exc:  # noqa: BLE001 - reported
            self._fail("a protocol raised", exc)

    def pause_reading(self) -> None:
        self._resumed.clear()

    def resume_reading(self) -> None:
        self._resumed.set()

    def is_reading(self) -> bool:
        return self._resumed.is_set() and not self._closing

    # --- sending ---

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self._lost or self._aborted:
            return
        self._buffer.append(bytes(data))
        self._size += len(data)
        self._written.set()
        if self._size > self._high and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self.write(b"".join(list_of_data))

    async def _send(self) -> None:
        try:
            while True:
                await self._written.wait()
                self._written.clear()
                while self._buffer:
                    data = b"".join(self._buffer)
                    self._buffer.clear()
                    await self._stream.send(data)
                    self._size -= len(data)
                    if self._full and self._size <= self._low:
                        self._full = False
                        self._protocol.resume_writing()
                if self._closing:
                    break
                if self._eof:
                    await self._stream.send_eof()  # anyio's contract: again, it does nothing
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as exc:
            self._end(None if isinstance(exc, anyio.ClosedResourceError) else exc)
        except Exception as exc:  # noqa: BLE001 - reported
            self._fail("sending failed", exc)
        else:
            self._end(None)

    def write_eof(self) -> None:
        self._eof = True
        self._written.set()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _LIMIT if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low

    # --- ending ---

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._written.set()

    def abort(self) -> None:
        self._aborted = True
        self._buffer.clear()
        self._end(None)

    def _fail(self, message: str, exc: Exception) -> None:
        """Report what nobody expected; it ends this connection alone."""
        self._loop.call_exception_handler(
            {"message": message, "exception": exc, "transport": self, "protocol": self._protocol}
        )
        self._end(exc)

    def _end(self, exc: BaseException | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._last = self._loop.create_task(self._close(exc), name="holdwire: close for asyncio")

    async def _close(self, exc: BaseException | None) -> None:
        tasks = (self._reader, self._writer)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        try:
            if self._aborted:
                await anyio.aclose_forcefully(self._stream)
            else:
                await self._stream.aclose()
        finally:
            self._protocol.connection_lost(exc if isinstance(exc, Exception) else None)

    # --- looking ---

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's signature
        if name == "socket":
            sock = self._stream.extra(SocketAttribute.raw_socket, None)  # noqa: S610 - anyio's, not Django's
            return default if sock is None else TransportSocket(sock)
        attribute = _ATTRIBUTES.get(name)
        return default if attribute is None else self._stream.extra(attribute, default)  # noqa: S610 - as above


_ATTRIBUTES: dict[str, Any] = {
    "peername": SocketAttribute.remote_address,
    "sockname": SocketAttribute.local_address,
    "ssl_object": TLSAttribute.ssl_object,
    "peercert": TLSAttribute.peer_certificate,
    "cipher": TLSAttribute.cipher,
}


def _feed(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    view = memoryview(data)
    while view:
        buffer = memoryview(protocol.get_buffer(len(view)))
        count = min(len(buffer), len(view))
        buffer[:count] = view[:count]
        protocol.buffer_updated(count)
        view = view[count:]


def asyncio_streams(stream: ByteStream, *, limit: int = _LIMIT) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """What ``asyncio.open_connection`` returns, over ``stream``, which belongs to the writer from now on.

    Args:
        stream: Any anyio byte stream; one of ``holdwire.connect`` keeps its heartbeat and its errors.
        limit: As asyncio's: bytes that the reader buffers before it pauses, and the longest line.

    Raises:
        RuntimeError: There is no asyncio event loop.
    """
    reader = asyncio.StreamReader(limit=limit, loop=asyncio.get_running_loop())
    protocol = asyncio.StreamReaderProtocol(reader, loop=asyncio.get_running_loop())
    transport = StreamTransport(stream, protocol)
    return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
