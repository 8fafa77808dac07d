"""Analyses a capture file: finds the connections in it and follows each one, in bounded memory.

Not responsible for reading files (``reader``), for what happens inside a connection (``segments``), or for
conclusions (``report``).

At most ``max_live`` connections are followed at once; when there are more, those that nobody answered, the closed and
the longest silent ones are finished. Of a connection that so far is a single SYN nothing but that packet is kept, for a
scan is made of nothing else: it is followed from its second packet on. At most ``max_kept`` records are kept, half of
them at most for connections in which nothing happened, so that a busy server's healthy connections cannot crowd out a
broken one. What is left out is counted.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from .capture import Capture, Connection, EventKind, IcmpError
from .directions import Budget, Direction
from .packets import ICMP, ICMP6, LINK_TYPES, TCP, decode_ip, endpoint, find_ip, icmp_words
from .reader import read_packets
from .segments import Flow

if TYPE_CHECKING:
    import os

__all__ = ["analyse"]

_WAITING_BYTES: Final = 64 << 20
_MAX_ICMP: Final = 1000
_SYN, _RST, _ACK = 2, 4, 16
_First: TypeAlias = tuple[float, bytes, int, int, int]
"""A SYN that nothing has followed yet: the arguments of ``Flow.segment``."""


def analyse(path: str | os.PathLike[str], *, max_live: int = 8192, max_kept: int = 10_000) -> Capture:
    """Analyse a pcap or pcapng file.

    Whatever the file contains, the result is a ``Capture``; what could not be read is in its ``problems``.

    Args:
        path: The capture file.
        max_live: How many connections are followed at the same time.
        max_kept: How many connections the result may hold.

    Raises:
        OSError: The file could not be opened or read.
    """
    table = _FlowTable(max_live=max_live, max_kept=max_kept)
    problems: list[str] = []
    count = cut = 0
    first = last = None
    with Path(path).open("rb") as file:
        for now, link, data, original in read_packets(file, problems):
            count += 1
            if first is None or last is None:
                first = last = now
            elif now > last:
                last = now
            if len(data) < original:
                cut += 1
            table.packet(now, link, data)
    problems += table.problems()
    if cut:
        problems.append(f"{cut} packets were cut by the capture: record with -s 0 to see all of TLS.")
    return Capture(
        packets=count,
        started=first,
        duration=0.0 if first is None or last is None else last - first,
        connections=table.finish(),
        connections_left_out=table.left_out,
        icmp=tuple(table.icmp_errors),
        icmp_left_out=table.icmp_left_out,
        fragments=table.fragments,
        cut_packets=cut,
        problems=tuple(problems),
    )


class _FlowTable:
    """All connections. Each of the two keys of a connection (addresses and ports, both ways) leads to a direction."""

    def __init__(self, *, max_live: int, max_kept: int) -> None:
        self.icmp_errors: list[IcmpError] = []
        self.icmp_left_out = 0
        self.left_out = 0
        self.fragments = 0
        self._malformed = 0
        self._unknown_links: Counter[int] = Counter()
        self._directions: dict[bytes, Direction] = {}
        self._firsts: dict[bytes, _First] = {}  # oldest first
        self._max_live = max_live
        self._max_kept = max_kept
        self._quiet = 0
        self._kept: list[Connection] = []
        self._budget = Budget(_WAITING_BYTES)

    def packet(self, now: float, link: int, data: bytes) -> None:
        """Take a captured frame."""
        if link not in LINK_TYPES:
            self._unknown_links[link] += 1
            return
        at = find_ip(link, data)
        if at < 0:
            return
        packet = decode_ip(data, at)
        if packet is None:
            self._malformed += 1
            return
        protocol, addresses, at, length, hop_limit, fragment, is_first = packet
        if fragment:
            self.fragments += 1
        if not is_first:
            return
        if protocol == TCP:
            if not self._tcp(now, addresses, data, at, length, hop_limit):
                self._malformed += 1
        elif protocol in {ICMP, ICMP6}:
            self._icmp(now, addresses, data, at)

    def problems(self) -> list[str]:
        """What could not be read, in sentences."""
        found = [
            f"{packets} packets have link type {link}, which is not understood: skipped."
            for link, packets in sorted(self._unknown_links.items())
        ]
        if self._malformed:
            found.append(f"{self._malformed} packets are malformed or cut inside their headers: skipped.")
        if self.fragments:
            found.append(f"{self.fragments} packets are IP fragments: they are not put together again.")
        return found

    def _tcp(self, now: float, addresses: bytes, data: bytes, at: int, length: int, hop_limit: int) -> bool:
        """Take a TCP segment; False if it is malformed."""
        if len(data) < at + 14:
            return False
        key = addresses + data[at : at + 4]
        flags = data[at + 13]
        direction = self._directions.get(key) or self._followed(key)
        if direction is None:
            if (
                flags & (_SYN | _RST | _ACK) == _SYN
                and len(data) >= at + 16
                and 20 <= data[at + 12] >> 4 << 2 <= length
            ):
                if len(self._directions) + 2 * len(self._firsts) >= 2 * self._max_live:
                    self._make_room()
                self._firsts[key] = (now, data, at, length, hop_limit)
                return True
            direction = self._open(key, now, flags)
        elif flags & (_SYN | _ACK) == _SYN:
            isn = int.from_bytes(data[at + 4 : at + 8], "big")
            if direction.isn != isn and direction.max_end >= 0:  # the same pair of ports, a new connection
                self._close(direction.flow)
                direction = self._open(key, now, flags)
        return direction.flow.segment(direction, now, data, at, length, hop_limit)

    def _followed(self, key: bytes) -> Direction | None:
        """The direction ``key`` of a connection that was a single SYN until now; None if there is none."""
        for one in (key, _reverse(key)):
            first = self._firsts.pop(one, None)
            if first is not None:
                sender = self._open(one, first[0], _SYN)
                sender.flow.segment(sender, *first)
                return self._directions[key]
        return None

    def _icmp(self, now: float, addresses: bytes, data: bytes, at: int) -> None:
        """Take an ICMP or ICMPv6 message; only errors about TCP packets matter."""
        version = 4 if len(addresses) == 8 else 6
        if len(data) < at + 8 + 20:
            return
        kind, code = data[at], data[at + 1]
        words = icmp_words(version, kind, code)
        quoted = decode_ip(data, at + 8) if words else None
        if words is None or quoted is None or quoted.protocol != TCP or not quoted.first or len(data) < quoted.at + 4:
            return
        mtu = None
        if words == "fragmentation needed":
            mtu = int.from_bytes(data[at + 6 : at + 8], "big") or None
        elif words == "packet too big":
            mtu = int.from_bytes(data[at + 4 : at + 8], "big")
        sender = endpoint(addresses[: len(addresses) // 2])
        key = quoted.addresses + data[quoted.at : quoted.at + 4]
        direction = self._directions.get(key) or self._followed(key)
        if direction is not None:
            detail = f"{words} from {sender}" + (f", MTU {mtu}" if mtu else "")
            direction.flow.story.note(EventKind.ICMP, None, now, detail)
        if len(self.icmp_errors) >= _MAX_ICMP:
            self.icmp_left_out += 1
            return
        half = len(quoted.addresses) // 2
        ports = data[quoted.at : quoted.at + 4]
        self.icmp_errors.append(
            IcmpError(
                at=now,
                sender=sender,
                type=kind,
                code=code,
                words=words,
                mtu=mtu,
                source=endpoint(quoted.addresses[:half], int.from_bytes(ports[:2], "big")),
                destination=endpoint(quoted.addresses[half:], int.from_bytes(ports[2:], "big")),
            )
        )

    def finish(self) -> tuple[Connection, ...]:
        """End every connection; all records, in the order of their beginnings."""
        self._end_firsts(len(self._firsts))
        for flow in self._flows():
            self._close(flow)
        return tuple(sorted(self._kept, key=lambda connection: connection.started))

    def _open(self, key: bytes, now: float, flags: int) -> Direction:
        if len(self._directions) + 2 * len(self._firsts) >= 2 * self._max_live:
            self._make_room()
        sender, receiver = Direction(key), Direction(_reverse(key))
        # without a SYN the ports have to tell: clients use high ones
        client_sends = not flags & _ACK if flags & _SYN else sender.port >= receiver.port
        client, server = (sender, receiver) if client_sends else (receiver, sender)
        Flow(client, server, now, from_start=bool(flags & _SYN), budget=self._budget)
        self._directions[key] = sender
        self._directions[receiver.key] = receiver
        return sender

    def _flows(self) -> list[Flow]:
        return list(dict.fromkeys(direction.flow for direction in self._directions.values()))

    def _make_room(self) -> None:
        """End what was not answered, the closed connections or, if those are few, the longest silent half."""
        if len(self._firsts) > self._max_live // 4:
            self._end_firsts((len(self._firsts) + 1) // 2)
            return
        flows = self._flows()
        ended = [flow for flow in flows if flow.is_closed]
        if len(ended) < len(flows) // 4:
            flows.sort(key=attrgetter("last"))
            ended = flows[: len(flows) // 2 + 1]
        for flow in ended:
            self._close(flow)

    def _end_firsts(self, count: int) -> None:
        """End the oldest of those that are a single SYN: each is worth a record, as long as there is room for one."""
        for key in list(islice(self._firsts, count)):
            if len(self._kept) >= self._max_kept:
                del self._firsts[key]
                self.left_out += 1
            elif (direction := self._followed(key)) is not None:
                self._close(direction.flow)

    def _close(self, flow: Flow) -> None:
        self._directions.pop(flow.story.client.key, None)
        self._directions.pop(flow.story.server.key, None)
        flow.end()
        quiet = not flow.is_troubled
        if len(self._kept) >= self._max_kept or (quiet and self._quiet >= self._max_kept // 2):
            self.left_out += 1
        else:
            self._quiet += quiet
            self._kept.append(flow.record())
        flow.release()


def _reverse(key: bytes) -> bytes:
    half = (len(key) - 4) // 2
    return key[half : 2 * half] + key[:half] + key[-2:] + key[-4:-2]
