"""The rungs about this host: ``resources``, ``configuration``, ``surroundings``. Reads /proc and /sys, opens nothing.

Everything is readable without root; what is missing (another system, a sandbox) is told as such. Not responsible for
the server's host: what is short there is guessed from its answers.
"""

from __future__ import annotations

import os
import platform
import socket
import ssl
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..record import Check, Sign, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..case import Case
    from ..record import Rung

__all__ = ["Counters", "look_at_configuration", "look_at_resources", "look_at_surroundings"]

_RESOURCES: Final = Check("resources", 6, action="Look at the same on the server's host.")
_CONFIGURATION: Final = Check("configuration", 7, action="Look through the proxy too: --proxy URL.")
_SURROUNDINGS: Final = Check("surroundings", 9)
_VERSION: Final = version("holdwire")  # read now: there may be no descriptor left later
_SHARE: Final = 0.9
_PRESSURE: Final = 40.0
"""Percent of the last 10 s in which some task waited."""
_SYSCTLS: Final = (
    "net/ipv4/tcp_keepalive_time",
    "net/ipv4/tcp_keepalive_intvl",
    "net/ipv4/tcp_keepalive_probes",
    "net/ipv4/tcp_retries2",
    "net/ipv4/tcp_syn_retries",
    "net/ipv4/tcp_fin_timeout",
    "net/ipv4/tcp_mtu_probing",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/ip_local_port_range",
)
_PROXIES: Final = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
)
_INTERESTING: Final = frozenset(
    {
        "AttemptFails", "EstabResets", "RetransSegs", "OutRsts", "TCPTimeouts", "TCPSynRetrans", "TCPAbortOnData",
        "TCPAbortOnClose", "TCPAbortOnMemory", "TCPAbortOnTimeout", "TCPAbortFailed", "TCPMemoryPressures",
        "ListenOverflows", "ListenDrops", "TCPLostRetransmit", "TCPBacklogDrop", "TCPRcvQDrop", "TCPZeroWindowDrop",
        "TCPReqQFullDrop", "TCPMTUPFail",
    }
)  # fmt: skip


class Counters:
    """The kernel's TCP counters at one moment; ``since`` gives what has changed."""

    def __init__(self) -> None:
        self.values = {**_table("/proc/net/snmp", "Tcp:"), **_table("/proc/net/netstat", "TcpExt:")}

    def since(self, before: Counters) -> dict[str, int]:
        """The counters that have grown since ``before``, of those that mean trouble."""
        return {
            name: value - before.values.get(name, value)
            for name, value in self.values.items()
            if name in _INTERESTING and value > before.values.get(name, value)
        }


def look_at_resources(case: Case, changes: Mapping[str, int], *, dropped: bool, slow: bool) -> Rung:
    """Descriptors, ports, memory, CPU, connection tracking, the counters' ``changes``.

    ``dropped``: the server is on this host and did not answer a SYN, which a full backlog would explain. ``slow``:
    something took long, which a lack of CPU would explain.
    """
    evidence: dict[str, Any] = {"counters": dict(changes)}
    signs: list[Sign] = []
    _descriptors(evidence, signs)
    _ports(evidence, signs)
    _pressure(evidence, signs, slow=slow)
    _conntrack(evidence, signs)
    overflows = changes.get("ListenOverflows", 0)
    if overflows and dropped:
        signs.append(Sign("backlog_full", 0.95, f"ListenOverflows grew by {overflows} while {case.target} was tried"))
    grown = ", ".join(f"{name} +{value}" for name, value in sorted(changes.items()))
    summary = "; ".join(sign.evidence for sign in signs) or "enough of everything"
    verdict = Verdict.WARNING if signs else Verdict.OK if evidence.get("descriptors") else Verdict.SKIPPED
    return _RESOURCES(verdict, summary + (f" (counters: {grown})" if grown else ""), evidence, signs=signs)


def look_at_configuration(case: Case) -> Rung:
    """Kernel settings and proxies from the environment, without credentials."""
    settings = {name.rpartition("/")[2]: " ".join(_read(f"/proc/sys/{name}").split()) for name in _SYSCTLS}
    proxies = sorted(name for name in _PROXIES if os.environ.get(name))
    evidence: dict[str, Any] = {"sysctl": settings, "proxy_variables": proxies, "proxy_used": case.proxy is not None}
    keepalive = settings.get("tcp_keepalive_time") or "?"
    summary = f"the system's TCP keepalive starts after {keepalive} s of silence; holdwire sets its own, 60 s"
    if proxies:
        summary += f"; {', '.join(proxies)} set: other programs may take another way"
    verdict = Verdict.WARNING if proxies and case.proxy is None else Verdict.OK
    return _CONFIGURATION(verdict, summary, evidence)


def look_at_surroundings() -> Rung:
    """Container and NAT signs, versions."""
    container = _container()
    openssl = ssl.OPENSSL_VERSION
    evidence: dict[str, Any] = {
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "openssl": openssl,
        "holdwire": _VERSION,
        "container": container,
        "root": hasattr(os, "geteuid") and os.geteuid() == 0,
    }
    known = sys.version_info[:3] in {(3, 11, 7), (3, 12, 1)}
    summary = f"{evidence['system']}, Python {evidence['python']}, {openssl}, {container or 'no container seen'}"
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
    bounds = _read("/proc/sys/net/ipv4/ip_local_port_range").split()
    if len(bounds) != 2:
        return
    low, high = map(int, bounds)
    used = {
        port
        for name in ("tcp", "tcp6")
        for line in _read(f"/proc/net/{name}").splitlines()[1:]
        if low <= (port := int(line.split()[1].rpartition(":")[2], 16)) <= high
    }
    evidence["ephemeral_ports"] = {"used": len(used), "range": [low, high]}
    if len(used) > (high - low + 1) * _SHARE:
        signs.append(Sign("ports_short", 0.6, f"{len(used)} of {high - low + 1} ephemeral ports are in use"))


def _pressure(evidence: dict[str, Any], signs: list[Sign], *, slow: bool) -> None:
    for kind in ("cpu", "memory"):
        fields = dict(part.split("=") for part in _read(f"/proc/pressure/{kind}").split("\n")[0].split()[1:])
        if "avg10" not in fields:
            continue
        share = float(fields["avg10"])
        evidence[f"{kind}_pressure_percent"] = share
        if slow and share > _PRESSURE:
            signs.append(Sign(f"{kind}_short", 0.3, f"{share:g} % of the last 10 s some task waited for {kind}"))


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
