"""From signs to ranked causes, and to one headline. Pure; the advice is data.

Signs of the same name add up: each halves what is left of the doubt by its own confidence. What is only a consequence
is not told beside its cause (``EXPLAINS``). Not responsible for finding signs (``rungs``) or showing causes (``cli``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .cause import Cause
from .record import PROBLEM, Rung, Sign, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ADVICE", "conclude", "headline"]

ADVICE: Final[dict[str, tuple[int, str, str]]] = {
    "name_not_found": (
        2,
        "the name does not exist",
        "Check its spelling, the search domain, and whether the record exists where this host resolves names.",
    ),
    "name_resolution_failed": (
        2,
        "name resolution fails",
        "Check the resolver of this host (/etc/resolv.conf) and whether it can be reached.",
    ),
    "refused": (
        2,
        "nothing listens on that port, or a firewall rejects it",
        "Check that the server process runs and listens on that address and port.",
    ),
    "syn_dropped": (
        2,
        "packets to that port vanish",
        "Check firewalls, security groups and routes on the way; a listener whose backlog is full does the same.",
    ),
    "backlog_full": (
        6,
        "the listener's backlog is full",
        "The server accepts too slowly: look for blocked workers, raise the backlog and net.core.somaxconn.",
    ),
    "unreachable": (
        2,
        "a router or host rejects the packets",
        "Check routes and the firewall rules of the device that is named.",
    ),
    "blocked_locally": (
        7,
        "this host itself does not let the connection out",
        "Check the local firewall, SELinux or seccomp, and the rules of the container.",
    ),
    "address_incomplete": (
        2,
        "the address does not say through which interface",
        "Add it to a link-local IPv6 address, as in fe80::1%eth0.",
    ),
    "some_addresses_fail": (
        2,
        "some of the host's addresses do not work",
        "Take the dead addresses out of DNS, or repair them: every client that picks one waits in vain.",
    ),
    "mtu_black_hole": (
        5,
        "large packets vanish on the way, and nobody says so",
        "Lower the MTU or clamp the MSS at the tunnel, and let ICMP 'fragmentation needed' through.",
    ),
    "not_tls": (
        3,
        "the port does not speak TLS",
        "Check the port, and whether a proxy or a plain-text service answers there; try --plain.",
    ),
    "tls_version_mismatch": (
        3,
        "the two sides share no TLS version or cipher",
        "Compare the TLS settings of both sides; update the older one.",
    ),
    "certificate_expired": (
        3,
        "the certificate has expired",
        "Renew it, restart what serves it, and check the clock of this host.",
    ),
    "certificate_not_yet_valid": (
        3,
        "the certificate is not valid yet",
        "Check the clock of this host first, then the certificate's dates.",
    ),
    "certificate_name_mismatch": (
        3,
        "the certificate is for another name",
        "Use the name that the certificate has, set --sni, or have a certificate issued for this one.",
    ),
    "certificate_untrusted": (
        3,
        "the certificate's issuer is not trusted here",
        "Let the server send its whole chain, or add the authority to the trust store (--ca FILE).",
    ),
    "certificate_expires_soon": (3, "the certificate expires soon", "Renew it before that day."),
    "client_certificate_required": (
        3,
        "the server wants a client certificate",
        "Give the client a certificate that the server accepts.",
    ),
    "server_name_filtered": (
        3,
        "the handshake works only without the server's name",
        "Something on the way or at the server rejects this name in SNI: check its virtual hosts and inspection.",
    ),
    "tls_alert": (3, "the server ends TLS with an alert", "Look the alert up by its name, and in the server's log."),
    "reset_in_handshake": (
        3,
        "the connection is reset in the TLS handshake",
        "Compare with another network and with --sni: inspection on the way, or a server that crashes.",
    ),
    "closed_in_handshake": (
        3,
        "the connection is closed in the TLS handshake",
        "A balancer without a backend, a limit on connections, or a server that crashes: see its log.",
    ),
    "server_not_answering": (
        6,
        "the server's kernel takes what is sent, but the server does not answer",
        "Its process is overloaded, blocked, or out of descriptors or threads: look at its load, limits and log.",
    ),
    "reset_by_server": (
        4,
        "the connection is reset instead of an answer",
        "The server's process crashed, or something on the way resets: see the server's log at that time, and capture.",
    ),
    "middlebox_reset": (
        7,
        "something on the way resets the connection in the server's name",
        "Its RST came over another number of hops than the server's packets: look for a firewall or balancer.",
    ),
    "closed_without_answer": (
        4,
        "the connection is closed instead of an answer",
        "The server gave up without a word: see its log, its limits, and what stands before it.",
    ),
    "answer_cut": (
        4,
        "the answer ends before it is whole",
        "The server's program erred, crashed or mishandled non-blocking sockets: alike from outside, so see its log.",
    ),
    "request_cut": (
        4,
        "only this request is cut, others are answered",
        "An error of the server's program in what serves this path, or a filter on it: see its log.",
    ),
    "server_crashed": (
        4,
        "the server's process ends while it is asked",
        "See its log, the kernel's (segmentation fault, OOM killer) and what restarts it.",
    ),
    "server_memory_short": (
        6,
        "the server runs out of memory and is killed",
        "Raise the memory limit of its control group, or look for what takes the memory.",
    ),
    "server_descriptors_short": (
        6,
        "the server's process is out of descriptors",
        "Raise its limit (ulimit -n, LimitNOFILE=) or look for what leaks descriptors.",
    ),
    "server_cpu_short": (
        6,
        "the server's process has no CPU time left",
        "Profile it, give it more processes or a larger CPU limit: time-outs of clients are only the consequence.",
    ),
    "accept_queue": (
        6,
        "connections wait for the server to accept them",
        "All its workers or threads are busy or blocked: look at what they wait for, and at their number.",
    ),
    "server_error": (4, "the server answers with an error of its own", "See the server's log."),
    "gateway_error": (
        4,
        "a gateway answers that what is behind it fails",
        "Look at the service behind the gateway, and at the gateway's log.",
    ),
    "no_close_notify": (
        3,
        "the server ends TLS without close_notify",
        "Clients see 'EOF occurred in violation of protocol': let the server shut TLS down in an orderly way.",
    ),
    "idle_limit": (
        7,
        "connections end after some seconds of silence",
        "Let pooled connections idle for less, or send a heartbeat at half that time.",
    ),
    "idle_reset": (
        7,
        "something on the way forgets silent connections",
        "Send a heartbeat at half that time, let pooled connections idle for less, or use the path's profile.",
    ),
    "clock_skew": (3, "the clocks of this host and the server differ", "Check NTP on both."),
    "descriptors_short": (
        6,
        "this process may open few further descriptors",
        "Raise the limit (ulimit -n) or look for what leaks descriptors.",
    ),
    "ports_short": (
        6,
        "ephemeral ports run short on this host",
        "Reuse connections; widen net.ipv4.ip_local_port_range.",
    ),
    "memory_short": (6, "this host is short of memory", "Look for the process that takes it, and at the OOM killer."),
    "cpu_short": (6, "this host is short of CPU", "Look for what takes it: late reads look like a slow network."),
    "conntrack_full": (
        6,
        "the connection tracking table of this host is nearly full",
        "Raise net.netfilter.nf_conntrack_max, or shorten its time-outs.",
    ),
    "packet_loss": (
        2,
        "packets are lost on the way",
        "Compare with another network; mtr shows on which hop, a capture in which direction.",
    ),
    "proxy_fails": (7, "the proxy does not let the connection through", "Check its address, credentials and rules."),
    "slow": (6, "the server is slow to answer", "Compare the time-outs of the client with the measured times."),
}
"""For each sign: the step of the guide, the cause in words, and what to do."""

_UNWELL: Final = frozenset(
    {
        "server_not_answering",
        "slow",
        "reset_by_server",
        "closed_without_answer",
        "reset_in_handshake",
        "closed_in_handshake",
    }
)
EXPLAINS: Final[dict[str, frozenset[str]]] = {
    "middlebox_reset": frozenset({"reset_by_server", "reset_in_handshake", "idle_reset"}),
    "backlog_full": frozenset({"syn_dropped", "accept_queue"}),
    "mtu_black_hole": frozenset({"server_not_answering", "packet_loss"}),
    "accept_queue": _UNWELL,
    "server_cpu_short": _UNWELL | {"accept_queue", "cpu_short"},
    "server_descriptors_short": _UNWELL | {"accept_queue", "backlog_full"},
    "server_crashed": _UNWELL | {"answer_cut", "refused", "request_cut", "accept_queue"},
    "server_memory_short": _UNWELL | {"answer_cut", "refused", "request_cut", "accept_queue", "server_crashed"},
    "request_cut": frozenset({"reset_by_server", "closed_without_answer"}),
    "blocked_locally": frozenset({"syn_dropped", "unreachable", "refused"}),
    "server_name_filtered": frozenset({"reset_in_handshake", "closed_in_handshake", "tls_alert"}),
    "clock_skew": frozenset({"certificate_expired", "certificate_not_yet_valid"}),
    "idle_reset": frozenset({"packet_loss"}),
    "refused": frozenset({"packet_loss"}),
    "syn_dropped": frozenset({"packet_loss"}),
}
"""Causes, and what is only their consequence."""
_EVIDENCE: Final = 4


def conclude(signs: Iterable[Sign]) -> tuple[Cause, ...]:
    """The causes behind ``signs``, the most likely one first."""
    by_name: dict[str, list[Sign]] = {}
    for sign in signs:
        by_name.setdefault(sign.name, []).append(sign)
    explained = {name for cause in by_name for name in EXPLAINS.get(cause, ())}
    causes: list[Cause] = []
    for name, found in by_name.items():
        if name in explained:
            continue
        doubt = 1.0
        for sign in found:
            doubt *= 1.0 - sign.confidence
        step, _, advice = ADVICE[name]
        evidence = tuple(dict.fromkeys(sign.evidence for sign in found))[:_EVIDENCE]
        causes.append(
            Cause(name=name, confidence=round(1.0 - doubt, 3), evidence=evidence, advice=advice, guide_step=step)
        )
    return tuple(sorted(causes, key=lambda cause: -cause.confidence))


def headline(causes: Sequence[Cause], rungs: Sequence[Rung], target: str) -> tuple[Verdict, str]:
    """The verdict and the first line: the cause with its evidence, and what to do."""
    if causes:
        first = causes[0]
        verdict = Verdict.FAILED if first.confidence >= PROBLEM else Verdict.WARNING
        return verdict, f"{ADVICE[first.name][1]} (evidence: {first.evidence[0]}). {first.advice}"
    broken = next((rung for rung in rungs if rung.verdict is Verdict.FAILED), None)
    if broken is not None:
        return Verdict.FAILED, f"{broken.rung}: {broken.summary}. {broken.next_action}".rstrip()
    if not any(rung.verdict is Verdict.OK for rung in rungs):
        return Verdict.UNKNOWN, f"nothing could be found out about {target}"
    return Verdict.OK, f"{target} answers, and nothing wrong was found"
