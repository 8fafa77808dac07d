"""The rung ``configuration``: kernel settings, proxies, and what keeps our connections alive against the idle limits.

Limits are learnt from the server's own announcement (Keep-Alive: timeout=), from this host's connection tracking, from
the rung ``idle``, and from what the user says ``holdwire idle`` found. Opens nothing. Not responsible for the judgement
(``upkeep``).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..record import Check, Sign, Verdict
from ..upkeep import Limit, hold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..case import Case
    from ..record import Rung

__all__ = ["limits", "look"]

_CHECK: Final = Check("configuration", 7, action="Look through the proxy too: --proxy URL.")
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
_TRACKED: Final = "net/netfilter/nf_conntrack_count"
_FORGETS: Final = "net/netfilter/nf_conntrack_tcp_timeout_established"
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_TIMEOUT: Final = re.compile(r"timeout\s*=\s*(\d+)", re.IGNORECASE)


def limits(case: Case, rungs: Iterable[Rung]) -> list[Limit]:
    """Every idle limit that is known of the way to the server, but for what the rung ``idle`` measured."""
    found: list[Limit] = []
    if case.idle_limit is not None:
        found.append(Limit(seconds=case.idle_limit, source=f"known limit of {case.idle_limit:g} s", by_path=True))
    told = next((one.evidence.get("keep_alive") for one in rungs if one.rung == "http"), None)
    hint = _TIMEOUT.search(told or "")
    if hint:
        seconds = float(hint[1])
        source = f"the server announces that it closes after {seconds:g} s"
        found.append(Limit(seconds=seconds, source=source, by_path=False, announced=True))
    forgets = _setting(_FORGETS)
    if forgets.isdigit() and _setting(_TRACKED) not in {"", "0"}:
        source = f"connection tracking of this host forgets after {forgets} s"
        found.append(Limit(seconds=float(forgets), source=source, by_path=True))
    return found


def look(case: Case, known: Iterable[Limit]) -> Rung:
    """The rung; ``known`` are the limits to hold ours against."""
    settings = {name.rpartition("/")[2]: _setting(name) for name in _SYSCTLS}
    proxies = sorted(name for one in _PROXIES for name in (one, one.lower()) if os.environ.get(name))
    upkeep = case.upkeep
    held: list[str] = []
    signs: list[Sign] = []
    for limit in known:
        words, sign = hold(limit, upkeep)
        held.append(words)
        signs += [sign] if sign is not None else []
    keepalive = settings["tcp_keepalive_time"]
    evidence: dict[str, Any] = {
        "sysctl": settings,
        "proxy_variables": proxies,
        "proxy_used": case.proxy is not None,
        "profile": upkeep.profile.name,
        "keepalive_s": upkeep.profile.keepalive.idle,
        "heartbeat_s": upkeep.heartbeat,
        "pool_idle_s": upkeep.pool_idle,
        "idle_limits": held,
    }
    ours = ", ".join(f"{name} after {seconds:g} s" for name, seconds in upkeep.beats.items())
    summary = f"sent in silence: {ours}, other programs' keepalive after {keepalive or '?'} s; "
    summary += "; ".join(held) or "no idle limit is known (--idle measures it)"
    strays = bool(proxies) and case.proxy is None
    if proxies:
        summary += f"; {', '.join(proxies)} set: other programs may take another way"
    action = "Set what is told, or take the path's profile: --profile tries one." if signs else None
    return _CHECK(Verdict.WARNING if signs or strays else Verdict.OK, summary, evidence, signs=signs, action=action)


def _setting(name: str) -> str:
    try:
        return " ".join(Path("/proc/sys", name).read_text(encoding="ascii").split())
    except OSError:
        return ""
