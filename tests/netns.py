"""A lab of three hosts on one machine: client - router - server, as network namespaces with veth pairs and nft.

Needs root. Every lab has names of its own and is taken down with all that is in it. Code runs "on" a host by entering
its namespace with the calling thread; threads that are started meanwhile stay there, and trio keeps them for later
tests: see ``come_home``.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

CLIENT, SERVER = "10.77.1.2", "10.77.2.2"
SERVER6 = "fd00:77:2::2"
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count()


class Lab:
    """See the module. ``nft`` and ``heal`` work on the router."""

    def __init__(self) -> None:
        stem = f"hw{os.getpid() % 100000}x{next(_numbers)}"
        self.client, self.router, self.server = (f"{stem}{host}" for host in "crs")

    def up(self) -> None:
        """Make the hosts and the wires between them."""
        for name in (self.client, self.router, self.server):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        for host, near, far, network in (
            (self.client, "c0", "r0", "10.77.1"),
            (self.server, "s0", "r1", "10.77.2"),
        ):
            run("ip", "link", "add", near, "netns", host, "type", "veth", "peer", "name", far, "netns", self.router)
            run("ip", "-n", host, "addr", "add", f"{network}.2/24", "dev", near)
            run("ip", "-n", self.router, "addr", "add", f"{network}.1/24", "dev", far)
            run("ip", "-n", host, "link", "set", near, "up")
            run("ip", "-n", self.router, "link", "set", far, "up")
            run("ip", "-n", host, "route", "add", "default", "via", f"{network}.1")
        self.sysctl(
            "net.ipv4.ip_forward=1",
            "net.ipv4.icmp_ratelimit=0",
            "net.ipv4.icmp_msgs_per_sec=100000",
            "net.ipv4.icmp_msgs_burst=100000",
        )
        self.nft("add table inet f")
        self.nft("add chain inet f fw { type filter hook forward priority 0 ; }")

    def with_ipv6(self) -> None:
        """Give every wire IPv6 addresses too: the same numbers behind fd00:77."""
        self.sysctl("net.ipv6.conf.all.forwarding=1")
        for host, near, far, network in ((self.client, "c0", "r0", 1), (self.server, "s0", "r1", 2)):
            run("ip", "-n", host, "addr", "add", f"fd00:77:{network}::2/64", "dev", near, "nodad")
            run("ip", "-n", self.router, "addr", "add", f"fd00:77:{network}::1/64", "dev", far, "nodad")
            run("ip", "-n", host, "-6", "route", "add", "default", "via", f"fd00:77:{network}::1")

    def down(self) -> None:
        """Take everything down; a namespace goes when its last process and socket do."""
        for name in (self.client, self.router, self.server):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=60)

    def sysctl(self, *settings: str) -> None:
        """Set kernel settings of the router."""
        run("ip", "netns", "exec", self.router, "sysctl", "-qw", *settings)

    def nft(self, *rules: str) -> None:
        """Run nft commands on the router."""
        for rule in rules:
            run("ip", "netns", "exec", self.router, "nft", rule)

    def drop_port(self, port: int) -> None:
        """Silently drop what comes from or goes to one port of the client: that flow, and no other."""
        self.nft(
            f"add rule inet f fw ip saddr {CLIENT} tcp sport {port} drop",
            f"add rule inet f fw ip daddr {CLIENT} tcp dport {port} drop",
        )

    def drop_all(self) -> None:
        """Silently drop everything."""
        self.nft("add rule inet f fw drop")

    def heal(self) -> None:
        """Forget every rule."""
        self.nft("flush chain inet f fw")

    def slow_down(self, *, rate: str, latency: str) -> None:
        """Let a queue build up in front of a slow link towards the client."""
        run(
            *("ip", "netns", "exec", self.router, "tc", "qdisc", "add", "dev", "r0", "root"),
            *("tbf", "rate", rate, "burst", "4kb", "latency", latency),
        )

    def forget_after(self, seconds: int, *, answer: str) -> None:
        """A stateful firewall that forgets idle flows: ``drop`` or ``reset`` is what they get afterwards."""
        self.sysctl(
            f"net.netfilter.nf_conntrack_tcp_timeout_established={seconds}", "net.netfilter.nf_conntrack_tcp_loose=0"
        )
        self.nft(
            "add rule inet f fw ct state established,related accept",
            "add rule inet f fw tcp flags & (syn|ack) == syn ct state new accept",
            "add rule inet f fw drop"
            if answer == "drop"
            else "add rule inet f fw meta l4proto tcp reject with tcp reset",
        )

    @contextlib.contextmanager
    def on(self, host: str) -> Generator[None]:
        """Let the calling thread live on ``host``."""
        with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{host}").open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())


def come_home() -> None:
    """Let the calling thread live where the main thread does: trio may have taken one that was started in a lab."""
    here, home = Path("/proc/thread-self/ns/net"), Path("/proc/self/ns/net")
    if home.exists() and here.readlink() != home.readlink():
        with home.open() as there:
            _enter(there.fileno())


def _enter(fd: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def run(*command: str) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


@contextlib.contextmanager
def lab() -> Generator[Lab]:
    """A fresh lab; skips the test aloud where there can be none."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "nft", "tc"))):
        pytest.skip("network namespaces need root, iproute2 and nftables: no path was cut in this run")
    made = Lab()
    try:
        made.up()
        yield made
    finally:
        made.down()
