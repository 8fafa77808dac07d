"""``Attempt``: one address and the socket that connects to it: begun, waited for, handed over or closed.

The errno of a failed connect is handed out once and becomes the attempt's ``Failure`` here. An ICMP answer to the SYN
is in the socket's error queue, with the address of the router that sent it: the failure's ``detail`` names it. Linux
may report such an answer while the attempt goes on; it counts as the end of that attempt.
Not responsible for which address is tried when (``dial``).
"""

from __future__ import annotations

import errno
import socket
import sys
import time
from typing import TYPE_CHECKING, Final, TypeAlias

from ..events import SetupStep
from ..policy import diagnosis
from ..policy.phase import Phase
from . import keepalive as options
from .stream import SocketStream
from .tcp_info import tcp_info

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..policy.failure import Failure
    from ..policy.settings import Keepalive
    from .keepalive import SocketOption
    from .runtime import Channel, Runtime

__all__ = ["Attempt", "SocketFactory"]

SocketFactory: TypeAlias = "Callable[[int, int, int], socket.socket]"
"""What makes a socket from family, type and protocol, as ``socket.socket`` does."""

_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK, errno.EINTR})
_INTERNET: Final = frozenset({socket.AF_INET, socket.AF_INET6})
_NETWORK_TYPES: Final[dict[int, str]] = {
    socket.AF_INET: "ipv4",
    socket.AF_INET6: "ipv6",
    getattr(socket, "AF_UNIX", -1): "unix",
}
_MSG_ERRQUEUE: Final = 0x2000
_RECORD_SIZE: Final = 16
"""Of ``struct sock_extended_err`` (linux/errqueue.h); the sender's sockaddr follows it."""
_OFFENDER: Final[dict[int, tuple[int, int]]] = {
    socket.AF_INET: (_RECORD_SIZE + 4, 4),
    socket.AF_INET6: (_RECORD_SIZE + 8, 16),
}
"""Where the address is in the record, and its length."""


class Attempt:
    """One address: a socket that is connecting, from ``begin`` until it is handed over or closed."""

    def __init__(
        self,
        runtime: Runtime,
        family: int,
        peer: str,
        peer_port: int | None,
        *,
        origin: tuple[str, int],
        via: str | None,
    ) -> None:
        self._runtime = runtime
        self.family = family
        self.peer = peer
        self._peer_port = peer_port
        self._origin = origin
        self._via = via
        self._sock: socket.socket | None = None
        self._channel: Channel | None = None
        self.failure: Failure | None = None
        self.instant = True
        """Whether the outcome was known without waiting."""
        self.note: str | None = None
        self.started = time.monotonic()
        self._began = time.time_ns()
        self._ended: int | None = None

    def begin(
        self,
        factory: SocketFactory,
        target: str | tuple[str, int] | tuple[str, int, int, int],
        *,
        keepalive: Keepalive | None = None,
        local_host: str | None = None,
        user_options: Sequence[SocketOption] = (),
    ) -> bool:
        """Start to connect; True if it already stands. False: it is under way, or ``failure`` says why not."""
        bound = local_host is not None
        call = "socket"
        try:
            sock = self._sock = factory(self.family, socket.SOCK_STREAM, 0)
            sock.settimeout(0)
            call = "setsockopt"
            options.apply(sock, keepalive, user_options=user_options)
            if bound:
                call = "bind"
                sock.bind((local_host, 0))
            call = "connect"
            number = sock.connect_ex(target)  # raises for a path that is too long
        except OSError as exc:
            self.fail(exc.errno or (errno.ENAMETOOLONG if call == "connect" else errno.EINVAL), call, bound=bound)
            return False
        if number in _UNDER_WAY and self.family in _INTERNET:
            return False
        if number:
            self.fail(number, "connect", bound=bound)
            return False
        self._ended = time.time_ns()
        return True

    async def wait(self, timeout: float | None) -> bool:
        """Wait until it is decided; False if ``timeout`` seconds passed first."""
        sock = self._sock
        if sock is None:
            return True
        self.instant = False
        if self._channel is None:
            self._channel = self._runtime.channel(sock)
        try:
            await self._channel.wait_writable(timeout, until_input=False)
        except TimeoutError:
            return False
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # once: reading it clears it
        if not number:
            try:
                sock.getpeername()
            except OSError as exc:  # readiness without an error and without a peer: the error went elsewhere
                number = exc.errno or errno.ENOTCONN
        if number:
            router = _router(sock)
            self.fail(number, "connect", detail=None if router is None else f"said by {router}")
        self._ended = time.time_ns()
        return True

    def fail(self, number: int, syscall: str, *, bound: bool = False, detail: str | None = None) -> None:
        """Record why it did not come about, and close the socket."""
        self.failure = diagnosis.from_errno(
            number,
            syscall=syscall,
            phase=Phase.CONNECT,
            facts=self.facts(),
            connected=False,
            bound=bound,
            detail=detail,
        )
        self._ended = time.time_ns()
        self.close()

    def facts(self) -> diagnosis.Facts:
        """What a failure record says about this attempt."""
        host, port = self._origin
        facts = diagnosis.Facts(
            host=host,
            peer=self.peer,
            peer_port=self._peer_port,
            network_type=_NETWORK_TYPES.get(self.family),
            began=self._began / 1e9,
            at=time.time(),
        )
        if port:
            facts["port"] = port
        if self._via is not None:
            facts["via"] = self._via
        sock = self._sock
        if sock is not None and not self.instant:
            facts["tcp"] = tcp_info(sock)
            facts["local_port"] = sock.getsockname()[1]
        return facts

    def step(self, *, quiet: bool = False) -> SetupStep:
        """What is to be told about it."""
        return SetupStep(
            phase=Phase.CONNECT,
            began=self._began,
            ended=self._ended or time.time_ns(),
            peer=self.peer,
            peer_port=self._peer_port,
            failure=self.failure,
            quiet=quiet,
            note=self.note,
        )

    def hand_over(self) -> SocketStream:
        """The stream on the connected socket, which is its own from now on."""
        sock = self._sock
        assert sock is not None  # noqa: S101 - only called on an attempt that has connected, and once
        if self._channel is not None:
            self._channel.detach()
        host, port = self._origin
        stream = SocketStream(sock, host=host, port=port, via=self._via)
        self._sock = None
        return stream

    def close(self) -> None:
        """Unregister and close what was not handed over; may be called again."""
        sock, self._sock = self._sock, None
        if sock is not None:
            if self._channel is not None:
                self._channel.detach()
            sock.close()


def _router(sock: socket.socket) -> str | None:
    """Who sent the ICMP message that ended an attempt; None if there was none, or where the kernel does not tell."""
    if sys.platform != "linux":
        return None
    try:
        ancillary = sock.recvmsg(1, 512, _MSG_ERRQUEUE)[1]
    except OSError:  # EAGAIN: nothing queued
        return None
    for _, _, data in ancillary:
        family = int.from_bytes(data[_RECORD_SIZE : _RECORD_SIZE + 2], sys.byteorder)
        start, size = _OFFENDER.get(family, (0, 0))
        if size and len(data) >= start + size:
            return socket.inet_ntop(family, data[start : start + size])
    return None
