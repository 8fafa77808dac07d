"""``holdwire pcap FILE...``: tells what capture files show. Not responsible for the analysis (``doctor.pcap``)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from ..doctor.pcap import Who, analyse, conclude
from ..doctor.record import Verdict, verdict_of
from . import values

if TYPE_CHECKING:
    import argparse

    from ..doctor.cause import Cause
    from ..doctor.pcap import Capture, Connection, Side
    from .output import Output

__all__ = ["EPILOG", "add_arguments", "run"]

EPILOG: Final = """\
Record with   tcpdump -i INTERFACE -s 0 -w capture.pcap 'host SERVER and port 443'
and switch segmentation offload off first   (ethtool -K INTERFACE tso off gso off gro off).

Connections in which something went wrong are told in full, the others are counted (--all tells them too).
Keys are not needed: TLS 1.3's close_notify is recognised by the length of its record.

exit codes: 0 nothing wrong (with --strict: no warning either), 1 a problem found, 2 a file cannot be read"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a pcap or pcapng file, whole or cut off")
    parser.add_argument("--all", action="store_true", help="tell healthy connections too")
    parser.add_argument(
        "--limit", type=values.count, default=20, metavar="N", help="tell at most N connections (default 20)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document with everything")
    parser.add_argument("--strict", action="store_true", help="exit 1 for warnings too")


def run(args: argparse.Namespace, output: Output) -> int:
    """Analyse the files and tell."""
    captures: list[tuple[str, Capture]] = []
    unread: list[str] = []
    for name in args.files:
        output.progress(f"reading {name}")
        try:
            captures.append((name, analyse(name)))
        except OSError as exc:
            unread.append(f"{name}: {exc.strerror or exc}")
    conclusion = sorted((cause for _, one in captures for cause in conclude(one)), key=lambda cause: -cause.confidence)
    verdict = verdict_of(conclusion)
    if not conclusion and not any(one.connections for _, one in captures):
        verdict = Verdict.UNKNOWN
    if args.json:
        output.document(
            {
                "verdict": verdict,
                "conclusion": [asdict(cause) for cause in conclusion],
                "files": [{"file": name, **asdict(capture)} for name, capture in captures],
                "unread": unread,
            }
        )
    else:
        _tell(output, captures, conclusion, verdict, args)
    for problem in unread:
        output.note(f"holdwire: cannot read {problem}")
    if unread or verdict is Verdict.UNKNOWN:
        return 2
    return int(verdict is Verdict.FAILED or (args.strict and verdict is Verdict.WARNING))


def _tell(
    output: Output,
    captures: list[tuple[str, Capture]],
    conclusion: list[Cause],
    verdict: Verdict,
    args: argparse.Namespace,
) -> None:
    if conclusion:
        first = conclusion[0]
        output.verdict(verdict, f"{first.name}: {first.advice}")
    elif verdict is Verdict.UNKNOWN:
        packets = any(capture.packets for _, capture in captures)
        output.verdict(verdict, "there is no TCP connection to be seen" if packets else "no packet could be read")
    else:
        output.verdict(verdict, "nothing in the capture explains trouble")
    for name, capture in captures:
        output.line(
            f"{name}: {capture.packets} packets in {capture.duration:.3f} s, {len(capture.connections)} connections"
        )
        for problem in capture.problems:
            output.line(f"  note: {problem}", "dim")
    tell_causes(output, conclusion)
    for _, capture in captures:
        wanted = [one for one in capture.connections if args.all or _troubled(one)]
        for connection in wanted[: args.limit]:
            _tell_connection(output, connection)
        if len(wanted) > args.limit:
            output.line(f"and {len(wanted) - args.limit} more connections (--limit)", "dim")


def tell_causes(output: Output, causes: list[Cause]) -> None:
    """Write ranked causes with their evidence."""
    for number, cause in enumerate(causes, 1):
        output.line()
        output.line(f"{number}. {cause.name} (confidence {cause.confidence:.0%}, step {cause.guide_step})", "title")
        for text in cause.evidence:
            output.line(f"   evidence: {text}")
        output.line(f"   advice:   {cause.advice}")


def _troubled(connection: Connection) -> bool:
    sides = (connection.client, connection.server)
    return (
        not connection.established
        or any(side.rst_at is not None or side.retransmissions or side.zero_windows for side in sides)
        or any(alert.description for side in sides for alert in side.alerts)
    )


def _tell_connection(output: Output, connection: Connection) -> None:
    output.line()
    output.line(connection.name, "title")
    parts = [f"{connection.duration:.3f} s", f"{connection.exchanges} exchanges", f"ended in {connection.ended_in}"]
    if connection.round_trip is not None:
        parts.append(f"round trip {connection.round_trip * 1000:.1f} ms")
    if connection.tls is not None:
        parts.append(connection.tls.version or "TLS not agreed")
        if connection.tls.server_name:
            parts.append(f"for {connection.tls.server_name}")
    output.line("  " + ", ".join(parts))
    for who in (Who.CLIENT, Who.SERVER):
        output.line(f"  {who}: {_side(connection.side(who))}")
    for event in connection.events:
        output.line(f"  {event}")
    if connection.events_left_out:
        output.line(f"  and {connection.events_left_out} more events")


def _side(side: Side) -> str:
    parts = [f"{side.packets} packets, {side.bytes} bytes"]
    for count, word in (
        (side.mss, "MSS"),
        (side.retransmissions, "retransmissions"),
        (side.duplicate_acks, "duplicate ACKs"),
        (side.zero_windows, "zero windows"),
        (side.keepalive_probes, "keepalive probes"),
        (side.unacknowledged, "bytes unacknowledged"),
    ):
        if count:
            parts.append(f"{word} {count}" if word == "MSS" else f"{count} {word}")
    if side.close_notify is not None:
        parts.append(f"close_notify {side.close_notify}")
    return ", ".join(parts)
