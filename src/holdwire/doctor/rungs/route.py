"""A TCP traceroute without root: which routers answer on the way to an address (Linux).

Each hop is a connect whose packets live for so many hops; the router that drops one says so by ICMP, and the kernel
keeps that in the socket's error queue (kernel: IP_TTL, IP_RECVERR, MSG_ERRQUEUE, and their like for IPv6). Not
responsible for conclusions.
"""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from typing import Final

import anyio

__all__ = ["Hop", "trace"]

_TCP_SYNCNT: Final = 7
_MSG_ERRQUEUE: Final = 0x2000
_WAIT: Final = 1.2


@dataclass(frozen=True, slots=True)
class _Family:
    """Numbers of the kernel; ``offender`` is where a router's address stands behind its error (linux/errqueue.h)."""

    number: int
    level: int
    receive_errors: int
    hops: int
    offender: slice


_IPV4: Final = _Family(socket.AF_INET, socket.IPPROTO_IP, 11, socket.IP_TTL, slice(20, 24))
_IPV6: Final = _Family(socket.AF_INET6, socket.IPPROTO_IPV6, 25, socket.IPV6_UNICAST_HOPS, slice(24, 40))


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop: the router that answered, None for silence; ``arrived`` says that the destination itself did."""

    number: int
    router: str | None
    arrived: bool = False


async def trace(address: str, port: int, *, hops: int = 12) -> list[Hop]:
    """The hops to ``address``, side by side; empty where this cannot be done."""
    if sys.platform != "linux":
        return []
    family = _IPV6 if ":" in address else _IPV4
    found: list[Hop] = []

    async def probe(number: int) -> None:
        found.append(await _hop(family, address, port, number))

    async with anyio.create_task_group() as group:
        for number in range(1, hops + 1):
            group.start_soon(probe, number)
    found.sort(key=lambda hop: hop.number)
    last = next((hop.number for hop in found if hop.arrived), None)
    if last is None:
        last = max((hop.number for hop in found if hop.router), default=0)
    return found[:last]


async def _hop(family: _Family, address: str, port: int, number: int) -> Hop:
    with socket.socket(family.number) as sock:
        sock.settimeout(0)
        try:
            sock.setsockopt(family.level, family.receive_errors, 1)
            sock.setsockopt(family.level, family.hops, number)
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
        router = _offender(family, sock)
        return Hop(number, router, arrived=router is None)


def _offender(family: _Family, sock: socket.socket) -> str | None:
    try:
        ancillary = sock.recvmsg(1, 512, _MSG_ERRQUEUE)[1]
    except OSError:
        return None
    found = (data[family.offender] for _, _, data in ancillary if len(data) >= family.offender.stop)
    return next((socket.inet_ntop(family.number, address) for address in found), None)
