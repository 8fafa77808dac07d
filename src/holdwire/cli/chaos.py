"""``holdwire chaos``: a proxy that misbehaves by script, between any client and any server, for trying things by hand.

Not responsible for faults or connections (``testing.proxy``, ``testing.faults``).
"""

from __future__ import annotations

import ssl
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from ..policy.authority import authority
from ..testing.faults import ACTIONS, CALLS, Action, Point, Script
from ..testing.proxy import ChaosProxy
from . import values

if TYPE_CHECKING:
    import argparse

    from .output import Output

__all__ = ["EPILOG", "add_arguments", "run"]

_POINTS: Final = tuple(point for point in Point if point not in CALLS)
_ACTIONS: Final = tuple(
    action
    for action, rule in ACTIONS.items()
    if rule.points.intersection(_POINTS) and action is not Action.RST_STREAM  # which only a server can
)
_EVERY: Final = 0.1
"""Seconds between two looks at the journal."""

EPILOG: Final = f"""\
examples:
  holdwire chaos --to localhost:6379                       pass everything on, and tell what happens
  holdwire chaos --listen 7000 --to db:5432 --script 'response:1000 rst'
                                                           reset the first connection after 1000 bytes of answers
  holdwire chaos --to api:80 --script '' --script 'idle:5 expire'
                                                           the first connection is healthy, the second is forgotten
  holdwire chaos --to api:80 --share 0.01 --seed 7 --script 'request:0 rst'
                                                           one in a hundred, the same ones each time
  holdwire chaos --to api:443 --to-tls --tls --write-ca ca.pem --script 'handshake corrupt'
                                                           end the client's TLS; it must trust ca.pem
  holdwire chaos --to api:8080 --http2 --script 'frame:5 goaway=ENHANCE_YOUR_CALM'
                                                           tell a client of HTTP/2 to go away before the sixth frame

a script is POINT[:AT] ACTION[=VALUE], several joined by semicolons; AT counts bytes, at idle it counts seconds
at frame, with --http2, the frames that the server says; it begins with frame 0, its SETTINGS
  points   {", ".join(_POINTS)}
  actions  {", ".join(_ACTIONS)}

It runs until it is interrupted (Ctrl-C) or --seconds have passed.

exit codes: 0 it has run, 2 it could not: a script that makes no sense, a port that is taken"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument("--listen", default="0", metavar="[HOST:]PORT", help="where clients connect (127.0.0.1, any)")
    parser.add_argument(
        "--script",
        action="append",
        default=[],
        metavar="TEXT",
        help="faults of the next connection; given again: of the one after it. @FILE reads a script from a file",
    )
    parser.add_argument(
        "--share", type=values.share, metavar="P", help="give the script to this share of all connections"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which connections --share means (default 0)")
    parser.add_argument("--tls", action="store_true", help="end the client's TLS, with a certificate made for it")
    parser.add_argument("--write-ca", metavar="FILE", help="with --tls: write what the client has to trust")
    parser.add_argument("--http2", action="store_true", help="scripts may say frame; with --tls HTTP/2 is offered")
    parser.add_argument("--to-tls", action="store_true", help="speak TLS to the server")
    parser.add_argument(
        "--to-ca", type=values.authorities, metavar="FILE", help="with --to-tls: trust the certificates in this file"
    )
    parser.add_argument(
        "--seconds", type=values.seconds, metavar="S", help="how long to run (default: until interrupted)"
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Run the proxy, and tell what happens on it."""
    counts: Counter[str] = Counter()
    try:
        proxy = _proxy(args)
        if args.write_ca is not None and proxy.identity is not None:
            proxy.identity.write_authority(args.write_ca)
        anyio.run(_serve, proxy, args, output, counts)
    except KeyboardInterrupt:  # the way in which it is meant to end
        pass
    except (ValueError, OSError, ImportError) as exc:
        output.note(f"holdwire chaos: {exc}")
        return 2
    output.line(f"connections: {counts['connected']}, faults: {counts['fault']} (seed {args.seed})")
    return 0


def _proxy(args: argparse.Namespace) -> ChaosProxy:
    """The proxy with its scripts.

    Raises:
        ValueError: An address or a script cannot be read.
        OSError: A file cannot be read.
    """
    host, port = _address("--listen", args.listen, default_host="127.0.0.1")
    context = ssl.create_default_context(cafile=args.to_ca) if args.to_tls else None
    if context is not None and args.http2:
        context.set_alpn_protocols(["h2", "http/1.1"])
    proxy = ChaosProxy(
        _address("--to", args.to),
        tls=args.tls,
        target_tls=context,
        host=host,
        port=port,
        seed=args.seed,
        http2=args.http2,
    )
    scripts = [Script.parse(_text(script)) for script in args.script]
    if args.share is None:
        proxy.script(*scripts)
    elif len(scripts) != 1:
        message = "--share takes one --script"
        raise ValueError(message)
    else:
        proxy.sprinkle(scripts[0], share=args.share)
    return proxy


async def _serve(proxy: ChaosProxy, args: argparse.Namespace, output: Output, counts: Counter[str]) -> None:
    async with proxy:
        host, port = proxy.address
        output.line(f"listening on {authority(host, port)}, passing on to {args.to}; interrupt to end")
        output.flush()  # who waits for this line may read from a pipe
        with anyio.move_on_after(args.seconds):
            while True:
                try:
                    await anyio.sleep(_EVERY)
                finally:
                    for entry in proxy.journal.entries():
                        counts[entry.what] += 1
                        output.line(str(entry))
                    output.flush()
                    proxy.journal.clear()


def _address(option: str, text: str, *, default_host: str | None = None) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or default_host or ""
    if not host or not port.isdecimal() or int(port) > 0xFFFF:
        form = "[HOST:]PORT" if default_host else "HOST:PORT"
        message = f"{option} {text!r} is no address: write {form}, the port up to 65535"
        raise ValueError(message)
    return host, int(port)


def _text(script: str) -> str:
    return Path(script[1:]).read_text("utf-8") if script.startswith("@") else script
