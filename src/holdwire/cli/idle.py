"""``holdwire idle``: how long a connection may be silent before something ends it, and what to set then.

Not responsible for the search (``doctor.idle_search``, ``doctor.idle_probe``).
"""

from __future__ import annotations

import ssl
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import anyio

from ..doctor.idle_probe import CannotProbe, HttpUse, RawUse, find_security, search
from ..doctor.idle_search import Ending, IdleSearch
from ..doctor.record import Verdict
from ..doctor.target import parse_target, path_of
from ..errors import HoldwireError
from . import values

if TYPE_CHECKING:
    import argparse

    from ..doctor.idle_search import IdleFinding
    from ..doctor.target import Target
    from .output import Output

__all__ = ["EPILOG", "add_arguments", "run"]

EPILOG: Final = """\
examples:
  holdwire idle api.example.com                     up to 65 s of silence, in TLS
  holdwire idle --longest 400 lb.example.com:8443   cloud balancers: 60, 240, 350 s and more
  holdwire idle --plain 10.0.0.7:8080
  holdwire idle --send 'PING\\r\\n' redis.internal:6379

It measures the smaller of the server's keep-alive limit and the path's. Nothing but a few requests is sent;
the number of connections and the duration are said before it starts.

exit codes: 0 no limit, or one that ends connections in sight; 1 connections end silently or by RST; 2 could not look"""

_ENDS: Final[dict[Ending, str]] = {
    Ending.FIN_WHILE_IDLE: "closes the connection in sight (FIN)",
    Ending.RST_WHILE_IDLE: "resets the connection in sight (RST)",
    Ending.UNSOLICITED_DATA: "sends something unasked for and ends the connection",
    Ending.FIN_ON_SEND: "closes the connection when it is used again",
    Ending.RST_ON_SEND: "resets the connection when it is used again: something on the way has forgotten it",
    Ending.SILENT_DROP: "drops everything without a word: something on the way has forgotten the connection",
    Ending.ACKED_NO_ANSWER: "acknowledges the next request and never answers it",
    Ending.FAILED: "fails when it is used again",
}
_IN_SIGHT: Final = frozenset({Ending.FIN_WHILE_IDLE, Ending.UNSOLICITED_DATA})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="HOST[:PORT]", help="the server; port 443 by default")
    parser.add_argument(
        "--shortest", type=values.seconds, default=1.0, metavar="S", help="shortest silence (default 1)"
    )
    parser.add_argument(
        "--longest", type=values.seconds, default=65.0, metavar="S", help="longest silence (default 65)"
    )
    parser.add_argument(
        "--connections", type=int, default=12, metavar="N", help="in a round, 2 to 15 (12), and one more in later ones"
    )
    parser.add_argument("--rounds", type=values.count, default=3, metavar="N", help="rounds at most (default 3)")
    security = parser.add_mutually_exclusive_group()
    security.add_argument("--tls", dest="secure", action="store_true", default=None, help="speak TLS")
    security.add_argument("--plain", dest="secure", action="store_false", help="speak no TLS")
    parser.add_argument("--path", type=values.path, metavar="PATH", help="what to GET (default: as the URL says, or /)")
    parser.add_argument(
        "--send", metavar="TEXT", help="send this instead of an HTTP request; \\r \\n \\xNN are understood"
    )
    parser.add_argument("--sni", metavar="NAME", help="the server name in TLS, if it is not the host")
    parser.add_argument("--ca", type=values.authorities, metavar="FILE", help="trust the certificates in this file")
    parser.add_argument("--insecure", action="store_true", help="take any certificate: only the silence is looked at")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(args: argparse.Namespace, output: Output) -> int:
    """Search, and tell what was found."""
    try:
        target = parse_target(args.target, secure=args.secure)
        plan = IdleSearch(
            shortest=args.shortest, longest=args.longest, connections=args.connections, rounds=args.rounds
        )
        context = ssl.create_default_context(cafile=args.ca)
        if args.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        use = (
            HttpUse.to(target, args.path or path_of(args.target))
            if args.send is None
            else RawUse(_unescaped(args.send))
        )
    except (ValueError, OSError) as exc:
        output.note(f"holdwire idle: {exc}")
        return 2
    least, most = plan.duration
    output.note(
        f"at most {plan.most_connections} connections to {target}, {args.connections + 1} at a time; "
        f"{least:.0f} s, or up to {most:.0f} s if the limit ends connections silently"
    )

    async def look() -> None:
        secure = target.secure
        if secure is None:
            secure = await find_security(target, context, args.sni)
        await search(
            plan,
            target,
            use,
            context=context if secure else None,
            server_name=args.sni,
            progress=output.progress,
        )

    try:
        anyio.run(look)
    except (CannotProbe, HoldwireError) as exc:
        return _cannot(output, target, str(exc), as_json=args.json)
    except BaseExceptionGroup as group:
        known, rest = group.split((CannotProbe, HoldwireError))
        if known is None or rest is not None:
            raise
        return _cannot(output, target, str(known.exceptions[0]), as_json=args.json)
    return _tell(output, target, plan.finding(), as_json=args.json)


def _cannot(output: Output, target: Target, text: str, *, as_json: bool) -> int:
    if as_json:
        output.document({"target": str(target), "verdict": Verdict.UNKNOWN, "reason": text})
    else:
        output.verdict(Verdict.UNKNOWN, f"the idle limit of {target} cannot be measured: {text}")
    return 2


def _tell(output: Output, target: Target, finding: IdleFinding, *, as_json: bool) -> int:
    limit, ending = finding.limit, finding.ending
    problem = ending is not None and ending not in _IN_SIGHT
    verdict = Verdict.OK if limit is None else Verdict.FAILED if problem else Verdict.WARNING
    if as_json:
        output.document(
            {
                "target": str(target),
                "verdict": verdict,
                "limit": limit,
                "error": finding.error,
                "heartbeat": finding.heartbeat,
                "profiles": [one.name for one in finding.profiles],
                **asdict(finding),
            }
        )
        return int(problem)
    if limit is None or ending is None:
        output.verdict(verdict, f"{target} and the path to it let a connection be silent for {finding.survived:.4g} s")
        output.line(f"No limit was met with {finding.connections} connections; look further with --longest.")
        return 0
    output.verdict(verdict, f"after {limit:.4g} s of silence (+-{finding.error:.2g} s) {target} {_ENDS[ending]}")
    if finding.detail:
        output.fact("seen", finding.detail, indent=2)
    output.fact("survived", f"{finding.survived:.4g} s; {finding.connections} connections were used", indent=2)
    names = [one.name for one in finding.profiles]
    if names:
        output.fact(
            "known as", f"{', '.join(names)}: profile={names[0]!r} sets keepalive, heartbeat and pool", indent=2
        )
    output.fact("set", f"a heartbeat of {finding.heartbeat:.3g} s, or let pooled connections idle for less", indent=2)
    return int(problem)


def _unescaped(text: str) -> bytes:
    """The bytes that ``text`` stands for: Python's backslash escapes, the rest as UTF-8.

    Raises:
        ValueError: An escape is not finished.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
    except UnicodeError as exc:
        raise ValueError(f"--send: {exc}") from None
