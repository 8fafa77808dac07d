"""Writes captures for tests: packets in several disguises, pcap and pcapng files, and whole conversations."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypedDict, Unpack

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
ETHERNET, RAW, COOKED, COOKED2, LOOPBACK = 1, 101, 113, 276, 0

CLIENT, SERVER = "192.0.2.1", "192.0.2.2"
CLIENT6, SERVER6 = "2001:db8::1", "2001:db8::2"
START = 1_700_000_000.0


def tcp(
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    payload: bytes = b"",
    *,
    window: int = 1000,
    options: bytes = b"",
) -> bytes:
    options += b"\0" * (-len(options) % 4)
    offset = (20 + len(options)) // 4 << 4
    return (
        struct.pack(">HHIIBBHHH", sport, dport, seq % 2**32, ack % 2**32, offset, flags, window, 0, 0)
        + options
        + payload
    )


def ip(
    source: str,
    destination: str,
    payload: bytes,
    *,
    protocol: int = 6,
    ttl: int = 64,
    fragment: int = 0,
    extensions: bytes = b"",
) -> bytes:
    """An IP packet. ``extensions`` are IPv6 headers whose last "next header" is right; the first must be type 0."""
    a, b = ip_address(source), ip_address(destination)
    if a.version == 4:
        return (
            struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, fragment, ttl, protocol, 0)
            + a.packed
            + b.packed
            + payload
        )
    first = 0 if extensions else protocol
    return (
        struct.pack(">IHBB", 6 << 28, len(extensions) + len(payload), first, ttl)
        + a.packed
        + b.packed
        + extensions
        + payload
    )


def icmp_too_big(sender: str, quoted: bytes, mtu: int) -> bytes:
    """An ICMP "fragmentation needed", or ICMPv6 "packet too big", from ``sender`` about an IP packet, to its source."""
    if quoted[0] >> 4 == 4:
        message = struct.pack(">BBHHH", 3, 4, 0, 0, mtu) + quoted[:28]
        return ip(sender, str(ip_address(quoted[12:16])), message, protocol=1)
    message = struct.pack(">BBHI", 2, 0, 0, mtu) + quoted[:1232]
    return ip(sender, str(ip_address(quoted[8:24])), message, protocol=58)


def frame(packet: bytes, link: int = ETHERNET, *, vlans: Iterable[int] = ()) -> bytes:
    """Wrap an IP packet for a link type; ``vlans`` are the EtherTypes of VLAN tags, outermost first."""
    ethertype = struct.pack(">H", 0x0800 if packet[0] >> 4 == 4 else 0x86DD)
    if link == ETHERNET:
        tags = b"".join(struct.pack(">HH", tag, 42) for tag in vlans)
        return b"\x02" * 12 + tags + ethertype + packet
    if link == COOKED:
        return b"\0\0\0\1\0\6" + b"\2" * 8 + ethertype + packet
    if link == COOKED2:
        return ethertype + b"\0" * 18 + packet
    if link == LOOPBACK:
        return struct.pack("<I", 2 if packet[0] >> 4 == 4 else 24) + packet
    return packet


@dataclass
class Captured:
    time: float
    data: bytes
    length: int | None = None  # on the wire, if the capture was cut


def pcap(packets: Iterable[Captured], *, link: int = ETHERNET, order: str = "<", nanoseconds: bool = False) -> bytes:
    magic, unit = (0xA1B23C4D, 1e9) if nanoseconds else (0xA1B2C3D4, 1e6)
    out = bytearray(struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link))
    for packet in packets:
        seconds = int(packet.time)
        fraction = min(round((packet.time - seconds) * unit), int(unit) - 1)
        length = len(packet.data) if packet.length is None else packet.length
        out += struct.pack(order + "IIII", seconds, fraction, len(packet.data), length) + packet.data
    return bytes(out)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += b"\0" * (-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link: int = ETHERNET, order: str = "<", *, tsresol: int | None = None) -> bytes:
    options = b"" if tsresol is None else struct.pack(order + "HHB3xHH", 9, 1, tsresol, 0, 0)
    return block(1, struct.pack(order + "HHI", link, 0, 0) + options, order)


def enhanced(packet: Captured, order: str = "<", *, index: int = 0, per_second: float = 1e6) -> bytes:
    ticks = round(packet.time * per_second)
    length = len(packet.data) if packet.length is None else packet.length
    header = struct.pack(order + "IIIII", index, ticks >> 32, ticks & 0xFFFFFFFF, len(packet.data), length)
    return block(6, header + packet.data, order)


def pcapng(packets: Iterable[Captured], *, link: int = ETHERNET, order: str = "<", tsresol: int | None = None) -> bytes:
    per_second = 1e6
    if tsresol is not None:
        per_second = 2.0 ** (tsresol & 127) if tsresol & 128 else 10.0**tsresol
    body = b"".join(enhanced(packet, order, per_second=per_second) for packet in packets)
    return section(order) + interface(link, order, tsresol=tsresol) + body


def record(kind: int, body: bytes, version: int = 0x0303) -> bytes:
    return struct.pack(">BHH", kind, version, len(body)) + body


def application_data(size: int) -> bytes:
    """A TLS record whose encrypted body has this size."""
    return record(23, b"\x5a" * size)


def alert(level: int, description: int) -> bytes:
    return record(21, bytes([level, description]))


def _extension(kind: int, body: bytes) -> bytes:
    return struct.pack(">HH", kind, len(body)) + body


def client_hello(*versions: int, server_name: str = "example.test", padding: int = 0) -> bytes:
    name = server_name.encode()
    extensions = _extension(0, struct.pack(">HBH", len(name) + 3, 0, len(name)) + name)
    extensions += _extension(16, b"\0\x0c\x02h2\x08http/1.1")
    if versions:
        numbers = b"".join(struct.pack(">H", v) for v in (0x1A1A, *versions))
        extensions += _extension(43, bytes([len(numbers)]) + numbers)
    if padding:
        extensions += _extension(21, bytes(padding))
    body = b"\x03\x03" + b"\x11" * 32 + b"\x20" + b"\x22" * 32 + b"\0\2\x13\1" + b"\1\0"
    body += struct.pack(">H", len(extensions)) + extensions
    return record(22, b"\1" + len(body).to_bytes(3, "big") + body, 0x0301)


def server_hello(version: int = 0x0304, *, cipher: int = 0x1301, retry: bool = False) -> bytes:
    random = (
        bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c") if retry else b"\x33" * 32
    )
    extensions = _extension(43, struct.pack(">H", version)) if version == 0x0304 else b""
    body = b"\x03\x03" + random + b"\x20" + b"\x22" * 32 + struct.pack(">HB", cipher, 0)
    body += struct.pack(">H", len(extensions)) + extensions
    return record(22, b"\2" + len(body).to_bytes(3, "big") + body)


CHANGE_CIPHER_SPEC = record(20, b"\1")


class Headers(TypedDict, total=False):
    """What may differ from the usual: ``back`` and ``ahead`` shift the sequence number."""

    back: int
    ahead: int
    ack: int
    ttl: int
    window: int
    options: bytes


@dataclass
class Conversation:
    """A TCP conversation: each call sends one segment, with the right numbers, ``gap`` seconds after the last one."""

    client: str = CLIENT
    server: str = SERVER
    client_port: int = 40000
    server_port: int = 443
    link: int = ETHERNET
    vlans: tuple[int, ...] = ()
    isn: tuple[int, int] = (1000, 5000)
    now: float = START
    gap: float = 0.001
    packets: list[Captured] = field(default_factory=list[Captured])

    def __post_init__(self) -> None:
        self.seq = list(self.isn)
        self.mss = b"\2\4" + struct.pack(">H", 1460)

    def packet(self, side: int, flags: int, payload: bytes = b"", **headers: Unpack[Headers]) -> bytes:
        """The IP packet that a side would send now."""
        ports, ends = (self.client_port, self.server_port), (self.client, self.server)
        acknowledged = headers.get("ack", self.seq[1 - side]) if flags & ACK else 0
        segment = tcp(
            ports[side],
            ports[1 - side],
            self.seq[side] - headers.get("back", 0) + headers.get("ahead", 0),
            acknowledged,
            flags,
            payload,
            window=headers.get("window", 1000),
            options=headers.get("options", b""),
        )
        return ip(ends[side], ends[1 - side], segment, ttl=headers.get("ttl", 64))

    def put(self, packet: bytes) -> None:
        """Add an IP packet to the capture."""
        self.packets.append(Captured(self.now, frame(packet, self.link, vlans=self.vlans)))
        self.now += self.gap

    def send(self, side: int, payload: bytes = b"", flags: int = ACK, **headers: Unpack[Headers]) -> None:
        """One segment that counts: the side's sequence number advances."""
        self.put(self.packet(side, flags, payload, **headers))
        self.seq[side] += len(payload) + (flags & SYN > 0) + (flags & FIN)

    def again(self, side: int, payload: bytes = b"", flags: int = ACK, **headers: Unpack[Headers]) -> None:
        """The last ``len(payload)`` bytes once more."""
        headers["back"] = len(payload) + (flags & FIN)
        self.put(self.packet(side, flags, payload, **headers))

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def open(self) -> None:
        self.send(0, flags=SYN, options=self.mss)
        self.send(1, flags=SYN | ACK, options=self.mss)
        self.send(0)

    def handshake(self, *, tls12: bool = False) -> None:
        self.open()
        self.send(0, client_hello(0x0303) if tls12 else client_hello(0x0304, 0x0303))
        if tls12:
            self.send(1, server_hello(0x0303, cipher=0xC02F) + record(22, b"\x0b" * 900))
            self.send(0, record(22, b"\x10" * 70) + CHANGE_CIPHER_SPEC + record(22, b"\x99" * 40))
            self.send(1, CHANGE_CIPHER_SPEC + record(22, b"\x99" * 40))
        else:
            self.send(1, server_hello() + CHANGE_CIPHER_SPEC + application_data(1200))
            self.send(0, CHANGE_CIPHER_SPEC + application_data(53))
            self.send(1, application_data(240), ack=self.seq[0])  # session tickets

    def exchange(self, *, request: int = 200, answer: int = 600) -> None:
        self.send(0, application_data(request))
        self.send(1)
        self.send(1, application_data(answer))
        self.send(0)

    def close(self) -> None:
        self.send(0, application_data(19))
        self.send(0, flags=FIN | ACK)
        self.send(1, application_data(19))
        self.send(1, flags=FIN | ACK)
        self.send(0)

    def write(self, path: Path) -> Path:
        path.write_bytes(pcap(self.packets, link=self.link))
        return path
