"""TCP keepalive, TCP_USER_TIMEOUT and TCP_NODELAY: what a ``Keepalive`` means on this platform's sockets.

Set before ``connect``, so that TCP_USER_TIMEOUT bounds the handshake too. One table for each platform; only Linux's is
measured. With TCP_USER_TIMEOUT set Linux ignores TCP_KEEPCNT: an idle connection dies at
max(idle + interval, dead_after rounded up to the next probe).
Not responsible for the numbers (``policy.settings``) or for when a peer's closed window lifts the time-out
(``policy.evidence``).
"""

from __future__ import annotations

import errno
import logging
import math
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..policy.settings import Keepalive

__all__ = ["EffectiveKeepalive", "SocketOption", "apply", "arm", "effective", "lift"]

logger = logging.getLogger("holdwire")

SocketOption: TypeAlias = tuple[Any, ...]
"""The three or four arguments of ``socket.setsockopt``, as in httpx's ``socket_options``."""


@dataclass(frozen=True, slots=True)
class _Option:
    """A TCP option by name and number, and how many of its units make a second (0: it counts)."""

    name: str
    number: int
    scale: int = 1


@dataclass(frozen=True, slots=True)
class _Table:
    """The options of one platform; None where it has none."""

    idle: _Option
    interval: _Option
    count: _Option
    dead_after: _Option | None


_TABLES: Final[dict[str, _Table]] = {
    "linux": _Table(  # tcp(7)
        idle=_Option("TCP_KEEPIDLE", 4),
        interval=_Option("TCP_KEEPINTVL", 5),
        count=_Option("TCP_KEEPCNT", 6, 0),
        dead_after=_Option("TCP_USER_TIMEOUT", 18, 1000),
    ),
    "darwin": _Table(  # netinet/tcp.h
        idle=_Option("TCP_KEEPALIVE", 0x10),
        interval=_Option("TCP_KEEPINTVL", 0x101),
        count=_Option("TCP_KEEPCNT", 0x102, 0),
        dead_after=_Option("TCP_RXT_CONNDROPTIME", 0x80),
    ),
    "win32": _Table(  # ws2ipdef.h, Windows 10 1709
        idle=_Option("TCP_KEEPIDLE", 3),
        interval=_Option("TCP_KEEPINTVL", 17),
        count=_Option("TCP_KEEPCNT", 16, 0),
        dead_after=_Option("TCP_MAXRT", 5),
    ),
    "freebsd": _Table(  # netinet/tcp.h
        idle=_Option("TCP_KEEPIDLE", 256),
        interval=_Option("TCP_KEEPINTVL", 512),
        count=_Option("TCP_KEEPCNT", 1024, 0),
        dead_after=None,
    ),
}
_TABLE: Final = next((table for name, table in _TABLES.items() if sys.platform.startswith(name)), None)
_INTERNET: Final = frozenset({socket.AF_INET, socket.AF_INET6})
_LACKING: Final = frozenset({errno.ENOPROTOOPT, errno.EOPNOTSUPP})
_missing: set[str] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveKeepalive:
    """What the kernel says is set, in seconds; None where it does not tell. ``dead_after`` 0 means: not set."""

    enabled: bool
    nodelay: bool
    idle: float | None = None
    interval: float | None = None
    count: int | None = None
    dead_after: float | None = None


def apply(sock: socket.socket, keepalive: Keepalive | None, *, user_options: Iterable[SocketOption] = ()) -> None:
    """Set the options of a socket that is not connected yet; the user's come last and win.

    An option of ours that this kernel lacks is logged once and left out. On a Unix socket only the user's are set.

    Raises:
        OSError: The kernel refused an option of the user.
    """
    if sock.family in _INTERNET:
        _set(sock, "TCP_NODELAY", socket.TCP_NODELAY, 1)
        if keepalive is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if _TABLE is not None:
                _set_seconds(sock, _TABLE.idle, keepalive.idle)
                _set_seconds(sock, _TABLE.interval, keepalive.interval)
                _set(sock, _TABLE.count.name, _TABLE.count.number, keepalive.count)
                if _TABLE.dead_after is not None and keepalive.dead_after is not None:
                    _set_seconds(sock, _TABLE.dead_after, keepalive.dead_after)
    for option in user_options:
        sock.setsockopt(*option)


def effective(sock: socket.socket) -> EffectiveKeepalive:
    """Read back what is set.

    Raises:
        OSError: The socket is closed.
    """
    if sock.family not in _INTERNET:
        return EffectiveKeepalive(enabled=False, nodelay=False)
    enabled = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
    nodelay = bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    if _TABLE is None:
        return EffectiveKeepalive(enabled=enabled, nodelay=nodelay)
    count = _get(sock, _TABLE.count)
    return EffectiveKeepalive(
        enabled=enabled,
        nodelay=nodelay,
        idle=_get(sock, _TABLE.idle),
        interval=_get(sock, _TABLE.interval),
        count=None if count is None else int(count),
        dead_after=None if _TABLE.dead_after is None else _get(sock, _TABLE.dead_after),
    )


def lift(sock: socket.socket) -> float | None:
    """Let unacknowledged data wait for ever: the peer lives and does not read.

    Returns what was set, in seconds, for ``arm``; None if there is nothing to lift.
    """
    option = None if _TABLE is None else _TABLE.dead_after
    if option is None or sock.family not in _INTERNET:
        return None
    before = _get(sock, option)
    if before:
        _set(sock, option.name, option.number, 0)
    return before or None


def arm(sock: socket.socket, keepalive: Keepalive, *, before: float | None = None) -> None:
    """Limit again how long data may stay unacknowledged.

    ``before`` is what ``lift`` returned: a limit of the user's own comes back as it was.
    """
    option = None if _TABLE is None else _TABLE.dead_after
    seconds = keepalive.dead_after if before is None else before
    if option is not None and seconds is not None and sock.family in _INTERNET:
        _set_seconds(sock, option, seconds)


def _set_seconds(sock: socket.socket, option: _Option, seconds: float) -> None:
    _set(sock, option.name, option.number, max(1, math.ceil(seconds * option.scale)))


def _set(sock: socket.socket, name: str, number: int, value: int) -> None:
    if name in _missing:
        return
    try:
        sock.setsockopt(socket.IPPROTO_TCP, number, value)
    except OSError as exc:
        if exc.errno in _LACKING:
            _missing.add(name)
            logger.info("this kernel has no %s (%s); connections go without", name, exc.strerror)
        # any other errno is the connection's (EINVAL once it is dead): the next call on it tells


def _get(sock: socket.socket, option: _Option) -> float | None:
    if option.name in _missing:
        return None
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, option.number) / (option.scale or 1)
    except OSError:
        return None
