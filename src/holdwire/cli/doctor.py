"""``holdwire doctor HOST[:PORT]``: the checks and one conclusion. Not responsible for looking (``doctor``)."""

from __future__ import annotations

import functools
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import anyio

from ..doctor.case import CONNECTIONS, Case
from ..doctor.ladder import examine
from ..doctor.record import Verdict
from ..doctor.rungs.silence import plan
from ..doctor.target import parse_target, path_of
from ..doctor.upkeep import Upkeep
from ..http.proxy import PROXY_SCHEMES, Proxy, basic_credentials
from ..policy.checks import split_url
from ..policy.profiles import profile
from . import values

if TYPE_CHECKING:
    import argparse

    from ..doctor.record import Report
    from .output import Output

__all__ = ["EPILOG", "add_arguments", "run"]

EPILOG: Final = """\
examples:
  holdwire doctor api.example.com
  holdwire doctor --json --strict db.internal:5432
  holdwire doctor --resolve 10.0.0.7 --sni api.example.com api.example.com
  holdwire doctor --repeat 10 api.example.com            a fault that comes and goes
  holdwire doctor --idle 70 --profile aws-nlb api.example.com
                                                         does the client's upkeep hold the idle limit?
  holdwire doctor --proxy http://proxy.internal:3128 api.example.com

The first line is the verdict with the next action, the second says from where it looked; then each check with its
numbers, and the causes with the evidence for each. Progress goes to standard error. It opens at most 40 connections a
run, and asks for one page. How long connections may be silent takes longer to find out (--idle, or holdwire idle);
the client's keepalive, heartbeat and pool are held against what is known of it. If the server runs on this host, its
process is looked at too: its descriptors, CPU time and memory, and the connections that wait to be accepted.

exit codes: 0 healthy (warnings too, unless --strict), 1 a problem found, 2 could not look"""

_SYMBOLS: Final = {
    Verdict.OK: "ok",
    Verdict.WARNING: "warning",
    Verdict.FAILED: "failed",
    Verdict.SKIPPED: "skipped",
    Verdict.UNKNOWN: "unknown",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="HOST[:PORT]", help="the server; port 443 by default")
    security = parser.add_mutually_exclusive_group()
    security.add_argument("--tls", dest="secure", action="store_true", default=None, help="speak TLS")
    security.add_argument("--plain", dest="secure", action="store_false", help="speak no TLS")
    parser.add_argument(
        "--resolve",
        type=values.address,
        metavar="ADDRESS",
        help="connect to this address instead of resolving the name",
    )
    parser.add_argument("--sni", metavar="NAME", default="", help="the server name in TLS, if it is not the host")
    parser.add_argument("--ca", type=values.authorities, metavar="FILE", help="trust the certificates in this file")
    parser.add_argument("--proxy", metavar="URL", help="look through this proxy (http, socks5)")
    parser.add_argument("--path", type=values.path, metavar="PATH", help="what to GET (default: as the URL says, or /)")
    parser.add_argument("--timeout", type=values.seconds, default=5.0, metavar="S", help="for each step (default 5)")
    parser.add_argument("--repeat", type=values.count, default=1, metavar="N", help="look N times, a second apart")
    parser.add_argument(
        "--idle",
        type=values.seconds,
        nargs="?",
        const=65.0,
        metavar="S",
        help="measure the idle limit, up to S seconds (65)",
    )
    parser.add_argument(
        "--idle-limit", type=values.seconds, metavar="S", help="the idle limit, if holdwire idle found it before"
    )
    parser.add_argument(
        "--profile",
        default="default",
        metavar="NAME",
        help="the client's profile; several: NAME|NAME (default default)",
    )
    parser.add_argument(
        "--heartbeat", type=values.seconds, metavar="S", help="the client sends a heartbeat after S of silence"
    )
    parser.add_argument("--watch", type=int, metavar="PID", help="the server's process, if it is on this host")
    parser.add_argument(
        "--log", type=values.file, metavar="FILE", action="append", default=[], help="a log to look into; repeatable"
    )
    parser.add_argument(
        "--pcap",
        type=values.file,
        metavar="FILE",
        help="a capture that runs meanwhile: tcpdump -U -s0 -w FILE host HOST",
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 for warnings too")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(args: argparse.Namespace, output: Output) -> int:
    """Look, once or several times; the worst report is told."""
    try:
        reports = _reports(args, output)
    except (ValueError, OSError) as exc:
        output.note(f"holdwire doctor: {exc}")
        return 2
    worst = max(reports, key=lambda report: (report.verdict in _BAD, *_weight(report)))
    if args.json:
        document = asdict(worst)
        if len(reports) > 1:
            document["runs"] = [{"verdict": one.verdict, "headline": one.headline} for one in reports]
        output.document(document)
    else:
        _tell(output, worst)
        if len(reports) > 1:
            output.line()
            output.table(
                [(str(number), one.verdict, one.headline) for number, one in enumerate(reports, 1)], styles=("dim", "=")
            )
    if worst.verdict is Verdict.UNKNOWN:
        return 2
    return int(worst.verdict is Verdict.FAILED or (args.strict and worst.verdict is Verdict.WARNING))


_BAD: Final = frozenset({Verdict.FAILED})


def _weight(report: Report) -> tuple[bool, float]:
    return report.verdict is Verdict.WARNING, report.conclusion[0].confidence if report.conclusion else 0.0


def _reports(args: argparse.Namespace, output: Output) -> list[Report]:
    target = parse_target(args.target, secure=args.secure)
    proxy = _proxy(args.proxy)
    chosen = functools.reduce(lambda one, other: one | other, map(profile, args.profile.split("|")))
    silent = None if args.idle is None else plan(args.idle)
    more = 0 if silent is None else silent.most_connections
    output.note(
        f"at most {CONNECTIONS + more} connections to {target}"
        + (f", {args.repeat} times" if args.repeat > 1 else "")
        + (
            ""
            if silent is None
            else f"; measuring silence takes {silent.duration[0]:.0f} to {silent.duration[1]:.0f} s"
        )
    )
    reports: list[Report] = []
    for number in range(args.repeat):
        if number:
            time.sleep(1.0)
        case = Case(
            target=target,
            server_name=args.sni,
            address=args.resolve,
            proxy=proxy,
            ca_file=args.ca,
            path=args.path or path_of(args.target),
            timeout=args.timeout,
            upkeep=Upkeep(profile=chosen, heartbeat=args.heartbeat),
            idle_limit=args.idle_limit,
            idle=args.idle,
            watch=args.watch,
            logs=tuple(args.log),
            capture=args.pcap,
            more=more,
        )
        reports.append(anyio.run(examine, case, output.progress))
    return reports


def _proxy(url: str | None) -> Proxy | None:
    if url is None:
        return None
    give = "--proxy: give http://host:port or socks5://host:port"
    parts = split_url(url, otherwise=give)
    if parts.scheme not in PROXY_SCHEMES or parts.scheme == "https" or not parts.hostname:
        raise ValueError(give)
    credentials = None
    if parts.username is not None:
        credentials = unquote_to_bytes(parts.username), unquote_to_bytes(parts.password or "")
    socks = parts.scheme.startswith("socks")
    return Proxy(
        scheme=parts.scheme,
        host=parts.hostname,
        port=parts.port or PROXY_SCHEMES[parts.scheme],
        headers=() if credentials is None or socks else (basic_credentials(*credentials),),
        credentials=credentials if socks else None,
    )


def _tell(output: Output, report: Report) -> None:
    output.verdict(report.verdict, report.headline)
    vantage = report.vantage
    source = f", source {vantage['source']}" if vantage["source"] else ""
    proxy = f"through the proxy {vantage['proxy']}" if vantage["proxy"] else "no proxy"
    output.line(f"from host {vantage['host']}{source}, {proxy}", style="dim")
    output.line()
    output.table([(_SYMBOLS[one.verdict], one.rung, one.summary) for one in report.rungs], styles=("=", "title"))
    if report.conclusion:
        output.line()
        output.line("Causes, the most likely first:", style="title")
        for cause in report.conclusion:
            output.line(f"  {cause.confidence:4.0%}  {cause.name} (step {cause.guide_step} of the guide)")
            for evidence in cause.evidence:
                output.fact("because", evidence, indent=8)
            output.fact("do", cause.advice, indent=8)
    actions = [f"{one.rung}: {one.next_action}" for one in report.rungs if one.next_action]
    if actions and report.verdict is not Verdict.OK:
        output.line()
        output.line("Look further:", style="title")
        for action in actions:
            output.line(f"  {action}")
    output.line()
    output.line(f"{report.connections} connections, {report.duration:g} s", style="dim")
