"""How a connection is made to end with RST, also where somebody else holds its descriptor.

SO_LINGER (1, 0) makes the last ``close`` send RST. After a fork or a dup our close is not the last one, and nothing is
sent: the peer would wait, and queued bytes of a request would still be delivered. Linux then ends the connection
itself, for every holder, when it is connected to AF_UNSPEC (connect(2), tcp(7)); ``socket.connect`` cannot say that,
so it goes through ctypes. Not responsible for unregistering the descriptor first, or for closing it (``stream``).
"""

from __future__ import annotations

import functools
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["reset"]

_LINGER: Final = struct.pack("ii", 1, 0)
_UNSPECIFIED: Final = struct.pack("=H14x", socket.AF_UNSPEC)
"""A ``struct sockaddr`` of the family AF_UNSPEC."""
_INTERNET: Final = frozenset({socket.AF_INET, socket.AF_INET6})


def reset(sock: socket.socket, *, shared: bool) -> bool:
    """Let the connection of ``sock`` end with RST, at the latest when it is closed; queued bytes are discarded.

    Args:
        sock: Unregistered from the loop, and closed right after this call.
        shared: Whether another process, or a dup, may hold the descriptor.

    Returns:
        False if that cannot be had: a Unix socket, or a shared one where there is no ``connect`` to AF_UNSPEC.
    """
    if sock.family not in _INTERNET:
        return False
    if shared:
        return _disconnect(sock.fileno())
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    except OSError:  # the peer is gone (macOS: EINVAL): nothing is left to end
        return False
    return True


def _disconnect(fd: int) -> bool:
    connect = _libc_connect()
    return connect is not None and connect(fd, _UNSPECIFIED, len(_UNSPECIFIED)) == 0


@functools.cache
def _libc_connect() -> Callable[[int, bytes, int], int] | None:
    if sys.platform != "linux":
        return None
    import ctypes  # noqa: PLC0415 - needed by few programs, and slow to import

    try:
        function: Callable[[int, bytes, int], int] = ctypes.CDLL(None).connect
    except (OSError, AttributeError):  # a static build
        return None
    return function
