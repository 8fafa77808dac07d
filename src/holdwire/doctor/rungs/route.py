"""A TCP traceroute without root: which routers answer on the way to an address (Linux).

Each hop is a connect whose packets live for so many hops; the router that drops one says so by ICMP, and the kernel
keeps that in the socket's error queue (kernel: IP_TTL, IP_RECVERR, MSG_ERRQUEUE). Not responsible for conclusions.
"""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from typing import Final

import anyio

__all__ = ["Hop", "trace"]

_IP_RECVERR: Final = 11
_TCP_SYNCNT: Final = 7
_MSG_ERRQUEUE: Final = 0x2000
_OFFENDER: Final = slice(20, 24)
_WAIT: Final = 1.2


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop: the router that answered, None for silence; ``arrived`` says that the destination itself did."""

    number: int
    router: str | None
    arrived: bool = False


async def trace(address: str, port: int, *, hops: int = 12) -> list[Hop]:
    """The hops to an IPv4 ``address``, side by side; empty where this cannot be done."""
    if sys.platform != "linux" or ":" in address:
        return []
    found: list[Hop] = []

    async def probe(number: int) -> None:
        found.append(await _hop(address, port, number))

    async with anyio.create_task_group() as group:
        for number in range(1, hops + 1):
            group.start_soon(probe, number)
    found.sort(key=lambda hop: hop.number)
    last = next((hop.number for hop in found if hop.arrived), None)
    if last is None:
        last = max((hop.number for hop in found if hop.router), default=0)
    return found[:last]


async def _hop(address: str, port: int, number: int) -> Hop:
    with socket.socket() as sock:
        sock.settimeout(0)
        try:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, number)
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_SYNCNT, 1)
            sock.connect_ex((address, port))
            with anyio.move_on_after(_WAIT) as scope:
                await anyio.wait_writable(sock)
        except OSError:
            return Hop(number, None)
        finally:
            anyio.notify_closing(sock)
        if scope.cancelled_caught:
            return Hop(number, None)
        router = _offender(sock)
        return Hop(number, router, arrived=router is None)


def _offender(sock: socket.socket) -> str | None:
    try:
        ancillary = sock.recvmsg(1, 512, _MSG_ERRQUEUE)[1]
    except OSError:
        return None
    return next((socket.inet_ntoa(data[_OFFENDER]) for _, _, data in ancillary if len(data) >= _OFFENDER.stop), None)
