"""``Link``: one TCP connection of the kit, with or without TLS, whose endings are exact. Knows nothing of scripts.

TLS runs over memory BIOs, so that every byte on the wire is ours to cut, damage or leave out. The endings (``rst``,
``fin``, ``half_close``, ``black_hole``) are plain functions: they never wait, and may be called while a task of the
same event loop waits in ``receive`` or ``send``; that task then gets ``LinkEnded``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import ssl
import struct
import sys
from typing import TYPE_CHECKING, Self, final

import anyio
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Link", "LinkEnded", "drop_input"]

_CHUNK = 65536
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER, SO_DETACH_FILTER: Linux, asm-generic/socket.h; not in the socket module
_DETACH_FILTER = 27
_BPF_RETURN = 0x06  # BPF_RET | BPF_K; with k = 0: keep 0 bytes, which means drop


class LinkEnded(Exception):
    """The link is over: ended by us, or by the peer in a way that leaves nothing to do."""

    def __init__(self, message: str, *, orderly: bool = False) -> None:
        super().__init__(message)
        self.orderly = orderly
        """Ended by FIN, not by RST."""


def drop_input(sock: socket.socket, *, drop: bool) -> None:
    """Let the kernel drop every segment that arrives for ``sock``, or stop doing so. Needs no privilege.

    The peer sees what it sees of a dead host: no acknowledgement. A listener that drops lets connects run into their
    time-out. What was dropped comes again by TCP's own retransmission.

    Raises:
        OSError: The platform is not Linux.
    """
    if sys.platform != "linux":
        message = "a black hole is made with a Linux socket filter; this platform has none"
        raise OSError(errno.ENOTSUP, message)
    if not drop:
        with contextlib.suppress(FileNotFoundError):  # ENOENT: there was no filter
            sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, b"\0\0\0\0")
        return
    program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0), 8)
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))


@final
class Link:
    """One connected socket, owned."""

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext | None = None,
        *,
        server_side: bool = True,
        server_name: str | None = None,
    ) -> None:
        sock.settimeout(0)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._tls = context.wrap_bio(
                self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
            )
        self.secure = False
        """The TLS handshake is complete."""

    @classmethod
    async def dial(cls, host: str, port: int, context: ssl.SSLContext | None = None) -> Self:
        """Connect to the first address of ``host``, without the handshake.

        Raises:
            LinkEnded: No connection could be had.
        """
        try:
            family, kind, protocol, _, address = (await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
        except OSError as error:
            raise LinkEnded(str(error)) from error
        link = cls(socket.socket(family, kind, protocol), context, server_side=False, server_name=host)
        try:
            if link._sock.connect_ex(address) == errno.EINPROGRESS:
                await link._wait(anyio.wait_writable)
        except BaseException:
            link.rst()
            raise
        if code := link._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            link.rst()
            raise LinkEnded(os.strerror(code))
        return link

    async def handshake(self, send: Callable[[bytes], Awaitable[None]] | None = None) -> None:
        """Do the TLS handshake; nothing without TLS. Our side of it goes out through ``send``.

        Raises:
            LinkEnded: The peer went away or refused.
        """
        if self._tls is None:
            return
        send = send or self.send_raw
        while not self.secure:
            try:
                self._tls.do_handshake()
                self.secure = True
            except ssl.SSLWantReadError:
                await self._flush(send)
                await self._fill()
            except ssl.SSLError as error:
                with contextlib.suppress(LinkEnded):
                    await self._flush(self.send_raw)  # the alert
                raise LinkEnded(str(error)) from error
        await self._flush(send)

    @property
    def protocol(self) -> str | None:
        """What ALPN has agreed on, None without."""
        return None if self._tls is None else self._tls.selected_alpn_protocol()

    async def receive(self, max_bytes: int = _CHUNK) -> bytes:
        """Some bytes of the application; ``b""`` when the peer has closed, with or without close_notify.

        Raises:
            LinkEnded: The connection is gone.
        """
        if self._tls is None:
            return await self._receive_raw(max_bytes)
        while True:
            try:
                return self._tls.read(max_bytes)
            except ssl.SSLWantReadError:
                await self._flush(self.send_raw)
                await self._fill()
            except ssl.SSLEOFError:
                return b""
            except ssl.SSLError as error:
                raise LinkEnded(str(error)) from error

    async def send(self, data: bytes, *, damage: bool = False) -> None:
        """Send bytes of the application; with ``damage`` they, or the TLS record around them, arrive wrong.

        Raises:
            LinkEnded: The connection is gone.
        """
        if self._tls is not None:
            try:
                self._tls.write(data)
            except ssl.SSLError as error:
                raise LinkEnded(str(error)) from error
            data = self._outgoing.read()
            await self.send_raw(data[:-1] + _flip(data[-1:]) if damage else data)
        else:
            await self.send_raw(_flip(data) if damage else data)

    async def send_raw(self, data: bytes) -> None:
        """Send bytes past TLS.

        Raises:
            LinkEnded: The connection is gone.
        """
        rest = memoryview(data)
        await checkpoint()
        while rest:
            self._check()
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                await self._wait(anyio.wait_writable)
            except OSError as error:
                raise LinkEnded(str(error)) from error

    async def _receive_raw(self, max_bytes: int) -> bytes:
        await checkpoint()  # before the call, so that a cancellation loses no byte
        while True:
            self._check()
            try:
                return self._sock.recv(max_bytes)
            except BlockingIOError:
                await self._wait(anyio.wait_readable)
            except OSError as error:
                raise LinkEnded(str(error)) from error

    async def _wait(self, wait: Callable[[socket.socket], Awaitable[None]]) -> None:
        try:
            await wait(self._sock)
        except (anyio.ClosedResourceError, OSError) as error:
            message = "ended while it waited"
            raise LinkEnded(message) from error

    async def _fill(self) -> None:
        data = await self._receive_raw(_CHUNK)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        if data := self._outgoing.read():
            await send(data)

    def _check(self) -> None:
        if self._sock.fileno() < 0:
            message = "already ended"
            raise LinkEnded(message)

    # --- endings ---

    def rst(self) -> None:
        """End with a reset; what is queued is lost."""
        if self._sock.fileno() >= 0:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._close()

    def fin(self, *, close_notify: bool = True) -> None:
        """End as a program that closes: FIN, and a reset to whatever still arrives afterwards."""
        self.half_close(close_notify=close_notify)
        if self._sock.fileno() >= 0:
            with contextlib.suppress(OSError):  # unread input would turn the close into a reset
                while self._sock.recv(_CHUNK):
                    pass
            self._close()

    def half_close(self, *, close_notify: bool = True) -> None:
        """Send FIN and go on reading."""
        if self._sock.fileno() < 0:
            return
        with contextlib.suppress(OSError):  # BlockingIOError too: no room, so no close_notify
            if close_notify and self._tls is not None and self.secure:
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                self._sock.send(self._outgoing.read())
            self._sock.shutdown(socket.SHUT_WR)

    def black_hole(self, *, drop: bool = True) -> None:
        """Be dead to the peer, or (``drop=False``) be back.

        Raises:
            OSError: The platform is not Linux.
        """
        if self._sock.fileno() >= 0:
            drop_input(self._sock, drop=drop)

    def limit_buffers(self, size: int) -> None:
        """Make the kernel's buffers small, so that windows close soon."""
        if self._sock.fileno() >= 0:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def _close(self) -> None:
        anyio.notify_closing(self._sock)
        self._sock.close()


def _flip(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in data)
