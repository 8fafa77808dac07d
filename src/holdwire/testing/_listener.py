"""``Listener``: a listening port that can be closed, opened again and made a black hole without losing its number."""

from __future__ import annotations

import contextlib
import socket
from typing import final

import anyio
from anyio.lowlevel import checkpoint

from ..policy.authority import authority
from ._link import drop_input

__all__ = ["Listener"]

_BACKLOG = 1024


@final
class Listener:
    """A port. It belongs to one event loop.

    A second socket that is bound to the port but never listens keeps the number for us while the port is closed.
    """

    def __init__(self, host: str, port: int) -> None:
        self._guard = _bound(host, port)
        self._sock: socket.socket | None = None
        self._opened = anyio.Event()
        self.black_hole = False
        self.address: tuple[str, int] = self._guard.getsockname()[:2]

    @property
    def listening(self) -> bool:
        """Whether the port is open."""
        return self._sock is not None

    def open(self) -> None:
        """Accept connections, from now on or again.

        Raises:
            OSError: The port was taken by somebody else.
        """
        if self._sock is None:
            sock = _bound(*self.address)
            try:
                sock.listen(_BACKLOG)
                sock.settimeout(0)
            except OSError:
                sock.close()
                raise
            self._sock = sock
            self._opened.set()
        if self.black_hole:
            drop_input(self._sock, drop=False)
        self.black_hole = False

    def refuse(self) -> None:
        """Close the port; the kernel refuses connections."""
        if self._sock is not None:
            anyio.notify_closing(self._sock)
            self._sock.close()
            self._sock = None
            self.black_hole = False
            self._opened = anyio.Event()

    def swallow(self) -> None:
        """Be a black hole: no connect is answered.

        Raises:
            OSError: The platform is not Linux.
        """
        self.open()
        assert self._sock is not None  # noqa: S101 - open() has just said so
        drop_input(self._sock, drop=True)
        self.black_hole = True

    async def accept(self) -> socket.socket:
        """The next connection, however long the port is closed meanwhile."""
        while True:
            await checkpoint()
            if self._sock is None:
                await self._opened.wait()
                continue
            try:
                return self._sock.accept()[0]
            except BlockingIOError:
                with contextlib.suppress(anyio.ClosedResourceError):
                    await anyio.wait_readable(self._sock)
            except ConnectionError:  # the peer was gone before we accepted
                continue

    def close(self) -> None:
        """Give the port back."""
        self.refuse()
        self._guard.close()


def _bound(host: str, port: int) -> socket.socket:
    """A socket at this address.

    Raises:
        OSError: The address cannot be had.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as exc:
        sock.close()
        raise OSError(exc.errno, f"cannot listen on {authority(host, port)}: {exc.strerror}") from exc
    except BaseException:  # no port at all
        sock.close()
        raise
    return sock
