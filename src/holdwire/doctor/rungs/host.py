"""The rungs about this host: ``resources``, ``surroundings``. Reads /proc and /sys, opens nothing.

Everything is readable without root; what is missing (another system, a sandbox) is told as such. Not responsible for
the server's host: what is short there is guessed from its answers.
"""

from __future__ import annotations

import ipaddress
import os
import platform
import socket
import ssl
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...policy.tcp_info import TcpState
from ..record import Check, Sign, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..case import Case
    from ..record import Rung

__all__ = ["NET", "Counters", "look_at_resources", "look_at_surroundings"]

NET: Final = Path("/proc/thread-self/net" if Path("/proc/thread-self").exists() else "/proc/net")
"""Of the thread that looks: it may live in another network namespace than its process began in."""
_RESOURCES: Final = Check("resources", 6, action="Look at the same on the server's host.")
_SURROUNDINGS: Final = Check("surroundings", 9)
_VERSION: Final = version("holdwire")  # read now: there may be no descriptor left later
_SHARE: Final = 0.9
_STATES: Final = {state.value: state.name for state in TcpState}
_PRESSURE: Final = 40.0
"""Percent of the last 10 s in which some task waited."""
_INTERESTING: Final = frozenset(
    {
        "AttemptFails", "EstabResets", "RetransSegs", "OutRsts", "TCPTimeouts", "TCPSynRetrans", "TCPAbortOnData",
        "TCPAbortOnClose", "TCPAbortOnMemory", "TCPAbortOnTimeout", "TCPAbortFailed", "TCPMemoryPressures",
        "ListenOverflows", "ListenDrops", "TCPLostRetransmit", "TCPBacklogDrop", "TCPRcvQDrop", "TCPZeroWindowDrop",
        "TCPReqQFullDrop", "TCPMTUPFail", "TCPRetransFail",
    }
)  # fmt: skip


class Counters:
    """The kernel's TCP counters at one moment; ``since`` gives what has changed."""

    def __init__(self) -> None:
        self.values = {**_table(f"{NET}/snmp", "Tcp:"), **_table(f"{NET}/netstat", "TcpExt:")}

    def since(self, before: Counters) -> dict[str, int]:
        """The counters that have grown since ``before``, of those that mean trouble."""
        return {
            name: value - before.values.get(name, value)
            for name, value in self.values.items()
            if name in _INTERESTING and value > before.values.get(name, value)
        }


def look_at_resources(case: Case, changes: Mapping[str, int], *, local: bool, dropped: bool, slow: bool) -> Rung:
    """Descriptors, sockets, ports, memory, CPU, connection tracking, the counters' ``changes``.

    ``dropped``: a SYN was not answered, which a full backlog would explain where the server is on this host
    (``local``), and a rule of this host where the kernel could not even send. ``slow``: something took long, which a
    lack of CPU would explain.
    """
    evidence: dict[str, Any] = {"counters": dict(changes)}
    signs: list[Sign] = []
    _descriptors(evidence, signs)
    _ports(evidence, signs)
    _memory(evidence)
    _pressure(evidence, signs, slow=slow)
    _conntrack(evidence, signs)
    overflows = changes.get("ListenOverflows", 0)
    unsent = changes.get("TCPRetransFail", 0)
    if unsent and dropped:
        signs.append(
            Sign("blocked_locally", 0.9, f"this host's own rules drop the SYN: TCPRetransFail grew by {unsent}")
        )
    if overflows and dropped and local:
        signs.append(Sign("backlog_full", 0.95, f"ListenOverflows grew by {overflows} while {case.target} was tried"))
    grown = ", ".join(f"{name} +{value}" for name, value in sorted(changes.items()))
    summary = "; ".join(sign.evidence for sign in signs) or "enough of everything"
    verdict = Verdict.WARNING if signs else Verdict.OK if evidence.get("descriptors") else Verdict.SKIPPED
    return _RESOURCES(verdict, summary + (f" (counters: {grown})" if grown else ""), evidence, signs=signs)


def look_at_surroundings(source: str | None, address: str | None) -> Rung:
    """Container and NAT signs, versions. ``source`` is our own address on the way to the server's."""
    container = _container()
    nat = _is_private(source) and not _is_private(address)
    openssl = ssl.OPENSSL_VERSION
    evidence: dict[str, Any] = {
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "openssl": openssl,
        "holdwire": _VERSION,
        "container": container,
        "nat": nat,
        "interface_mtu_bytes": _interface_mtus(),
        "root": hasattr(os, "geteuid") and os.geteuid() == 0,
    }
    known = sys.version_info[:3] in {(3, 11, 7), (3, 12, 1)}
    summary = f"{evidence['system']}, Python {evidence['python']}, {openssl}, {container or 'no container seen'}"
    if nat:
        summary += f"; {source} is private and {address} is not: a NAT is on the way, it forgets silent connections"
    if not evidence["root"]:
        summary += "; without root the kernel's log and other users' processes are not looked at"
    if known:
        summary += "; this Python's own SSL sockets lose errno on a reset (holdwire's do not)"
    return _SURROUNDINGS(Verdict.OK, summary, evidence)


def _descriptors(evidence: dict[str, Any], signs: list[Sign]) -> None:
    try:
        import resource  # noqa: PLC0415 - not on Windows

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        used = len(list(Path("/proc/self/fd").iterdir()))
    except (ImportError, OSError):
        return
    evidence["descriptors"] = {"used": used, "limit": limit}
    if used > limit * _SHARE:
        signs.append(Sign("descriptors_short", 0.5, f"{used} of {limit} descriptors are in use"))


def _ports(evidence: dict[str, Any], signs: list[Sign]) -> None:
    """Sockets by state, and the ephemeral ports that they use."""
    sockets = [
        (int(fields[1].rpartition(":")[2], 16), _STATES.get(int(fields[3], 16), fields[3]))
        for name in ("tcp", "tcp6")
        for line in _read(f"{NET}/{name}").splitlines()[1:]
        if len(fields := line.split()) > 3
    ]
    if sockets:
        evidence["sockets_by_state"] = dict(sorted(Counter(state for _, state in sockets).items()))
    bounds = _read("/proc/sys/net/ipv4/ip_local_port_range").split()
    if len(bounds) != 2:
        return
    low, high = map(int, bounds)
    used = {port for port, _ in sockets if low <= port <= high}
    evidence["ephemeral_ports"] = {"used": len(used), "range": [low, high]}
    if len(used) > (high - low + 1) * _SHARE:
        signs.append(Sign("ports_short", 0.6, f"{len(used)} of {high - low + 1} ephemeral ports are in use"))


def _memory(evidence: dict[str, Any]) -> None:
    rows = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines() if ":" in line)
    evidence |= {
        f"memory_{name}_bytes": int(rows[key].split()[0]) * 1024
        for name, key in (("total", "MemTotal"), ("available", "MemAvailable"))
        if key in rows
    }
    if hasattr(os, "getloadavg"):
        evidence["load"] = round(os.getloadavg()[0], 2)


def _pressure(evidence: dict[str, Any], signs: list[Sign], *, slow: bool) -> None:
    for kind, name in (("cpu", "cpu_short"), ("memory", "memory_short")):
        fields = dict(part.split("=") for part in _read(f"/proc/pressure/{kind}").split("\n")[0].split()[1:])
        if "avg10" not in fields:
            continue
        share = float(fields["avg10"])
        evidence[f"{kind}_pressure_percent"] = share
        if slow and share > _PRESSURE:
            signs.append(Sign(name, 0.3, f"{share:g} % of the last 10 s some task waited for {kind}"))


def _conntrack(evidence: dict[str, Any], signs: list[Sign]) -> None:
    count, most = _read("/proc/sys/net/netfilter/nf_conntrack_count"), _read("/proc/sys/net/netfilter/nf_conntrack_max")
    if not count or not most:
        return
    evidence["conntrack"] = {"count": int(count), "max": int(most)}
    if int(count) > int(most) * _SHARE:
        signs.append(Sign("conntrack_full", 0.6, f"{int(count)} of {int(most)} connections are tracked"))


def _container() -> str | None:
    if Path("/.dockerenv").exists():
        return "Docker"
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "Kubernetes"
    group = _read("/proc/1/cgroup")
    return next((name for name in ("docker", "kubepods", "containerd", "lxc") if name in group), None)


def _is_private(address: str | None) -> bool:
    try:
        return address is not None and not ipaddress.ip_address(address).is_global
    except ValueError:
        return True  # a name that was not resolved tells nothing


def _interface_mtus() -> dict[str, int]:
    folder = Path("/sys/class/net")
    names = sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []
    return {name: int(mtu) for name in names if (mtu := _read(f"{folder}/{name}/mtu").strip()).isdigit()}


def _table(path: str, prefix: str) -> dict[str, int]:
    """Two lines that begin with ``prefix``: names, then numbers."""
    rows = [line.split()[1:] for line in _read(path).splitlines() if line.startswith(prefix)]
    if len(rows) < 2:
        return {}
    return {name: int(value) for name, value in zip(rows[0], rows[1], strict=False)}


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
