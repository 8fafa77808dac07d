"""Ports for servers that come later, or never.

Below those that the kernel gives out by itself: one of those may be another test's before the server is there, and a
connect to one from that very port connects to itself. Not responsible for keeping a port taken.
"""

from __future__ import annotations

import socket
from pathlib import Path
from random import SystemRandom

__all__ = ["free_port"]

_LOWEST = 10_000
_CHANCE = SystemRandom()  # whatever seed a test or a plugin sets, runs side by side shall not choose the same ones


def free_port(host: str = "127.0.0.1") -> int:
    """A port of ``host`` that nobody has and that nobody gets who does not ask for it."""
    given_out = Path("/proc/sys/net/ipv4/ip_local_port_range")
    limit = int(given_out.read_text().split()[0]) if given_out.exists() else 32_768
    while True:
        port = _CHANCE.randrange(_LOWEST, limit) if limit > _LOWEST else 0
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
