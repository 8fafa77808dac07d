"""What the kernel tells about a connection: ``TcpInfo`` and the bytes in its queues.

None means that it does not tell: another kind of socket, a closed descriptor, another platform, or a sandbox without
the facility (gVisor). Such a lack is found out once and logged once; everything built on it then goes without. Take
these numbers at the first error and before the socket is closed. Linux: tcp(7), and netdevice ioctls in tcp(7) and
unix(7). Not responsible for the layout of the structure or what the numbers prove (``policy``).
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
from typing import TYPE_CHECKING, Final

from ..policy.tcp_info import TcpInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    _Ioctl = Callable[[int, int, bytes], bytes]

try:
    import fcntl
except ImportError:  # Windows
    _ioctl: _Ioctl | None = None
else:
    _ioctl = fcntl.ioctl

__all__ = ["inq", "outq", "send_queue", "tcp_info"]

logger = logging.getLogger("holdwire")

_TCP_INFO: Final = 11
_INFO_SIZE: Final = 512
"""Room for the structure: 280 bytes on Linux 6.18; the kernel returns what it has."""
_SIOCINQ: Final = 0x541B
_SIOCOUTQ: Final = 0x5411
_INT: Final = bytes(4)
_LACKING: Final = frozenset({errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EINVAL})
_INTERNET: Final = frozenset({socket.AF_INET, socket.AF_INET6})


class _Facility:
    """Something that this kernel may lack: asked for until that shows."""

    __slots__ = ("exists", "name", "without")

    def __init__(self, name: str, *, without: str) -> None:
        self.name = name
        self.without = without
        self.exists = sys.platform == "linux"  # elsewhere other numbers and layouts

    def refused(self, exc: OSError) -> None:
        """Note why a call failed: a closed descriptor says nothing, a kernel without the facility says it for good."""
        if exc.errno in _LACKING and self.exists:
            self.exists = False
            logger.info("this kernel has no %s (%s): %s", self.name, exc.strerror, self.without)


_info = _Facility("TCP_INFO", without="failures carry no view of the kernel, dead paths are found by time-outs alone")
_outq = _Facility("SIOCOUTQ", without="what was delivered is unknown, so that doubtful connections are aborted")
_inq = _Facility("SIOCINQ", without="unread input is found by reading it")


def tcp_info(sock: socket.socket) -> TcpInfo | None:
    """The kernel's view of a TCP connection, also of a dead one until it is closed."""
    if not _info.exists or sock.family not in _INTERNET:
        return None
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO_SIZE)
    except OSError as exc:
        _info.refused(exc)
        return None
    return TcpInfo.parse(raw)


def outq(sock: socket.socket) -> int | None:
    """Bytes written and not acknowledged by the peer's kernel, sent or not; our SYN and our FIN count one each.

    It keeps its value on a dead connection. None on a Unix socket, where the number is one of memory, not of bytes.
    """
    return send_queue(sock) if sock.family in _INTERNET else None


def send_queue(sock: socket.socket) -> int | None:
    """The same, and on a Unix socket the memory that the peer's unread bytes take: more than they are, shrinking as
    they are read.
    """
    return _queue(sock, _outq, _SIOCOUTQ)


def inq(sock: socket.socket) -> int | None:
    """Bytes that have arrived and were not read."""
    return _queue(sock, _inq, _SIOCINQ)


def _queue(sock: socket.socket, facility: _Facility, request: int) -> int | None:
    if not facility.exists or _ioctl is None:
        return None
    fd = sock.fileno()
    if fd < 0:
        return None
    try:
        return int.from_bytes(_ioctl(fd, request, _INT), sys.byteorder)
    except OSError as exc:
        facility.refused(exc)
        return None
