"""Reads capture files, pcap and pcapng, as a stream of packets. Not responsible for what is in a packet (``packets``).

Memory is bounded by one chunk and one packet. Nothing in a file makes it raise: what cannot be read is added to
``problems`` in words, and a file that ends inside a packet (a capture that was killed) ends the stream.

Formats: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html and draft-ietf-opsawg-pcapng-02.html.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["Packet", "read_packets"]

Packet: TypeAlias = tuple[float, int, bytes, int]
"""Unix time in seconds, link type, captured bytes, original length."""

_CHUNK: Final = 1 << 20
_LARGEST: Final = 1 << 24
"""No packet or block is longer than this; a larger length means damage."""
_MAX_INTERFACES: Final = 65536

_PCAP_MAGICS: Final = {
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}
_SECTION: Final = b"\x0a\x0d\x0d\x0a"
_OTHER_MAGICS: Final = {
    b"\x1f\x8b": "compressed with gzip: decompress it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: decompress it first",
    b"\x04\x22\x4d\x18": "compressed with lz4: decompress it first",
    b"\x34\xcd\xb2\xa1": "in the modified pcap format of old Linux kernels: convert it with editcap",
    b"snoop\x00": "a snoop file: convert it with editcap",
}


def read_packets(file: BinaryIO, problems: list[str]) -> Iterator[Packet]:
    """Yield the packets of a capture file, oldest first as far as the file is in order."""
    head = file.read(24)
    magic = head[:4]
    if magic == _SECTION:
        yield from _Pcapng(file, head, problems).packets()
    elif magic in _PCAP_MAGICS:
        if len(head) < 24:
            problems.append("The file ends inside its header: the capture was cut short before the first packet.")
            return
        order, resolution = _PCAP_MAGICS[magic]
        (link,) = struct.unpack_from(order + "I", head, 20)
        yield from _pcap(file, order, resolution, link & 0xFFFF, problems)
    elif not head:
        problems.append("The file is empty.")
    else:
        known = (words for prefix, words in _OTHER_MAGICS.items() if head.startswith(prefix))
        problems.append(f"The file is {next(known, 'neither pcap nor pcapng')}.")


def _pcap(file: BinaryIO, order: str, resolution: float, link: int, problems: list[str]) -> Iterator[Packet]:
    header = struct.Struct(order + "IIII").unpack_from
    buffer, base, count = b"", 24, 0  # base: where in the file the buffer begins
    while True:
        chunk = file.read(_CHUNK)
        buffer += chunk
        at, size = 0, len(buffer)
        while at + 16 <= size:
            seconds, fraction, captured, original = header(buffer, at)
            if captured > _LARGEST:
                problems.append(_damaged(base + at, count, f"a packet of {captured} bytes"))
                return
            end = at + 16 + captured
            if end > size:
                break
            count += 1
            yield seconds + fraction * resolution, link, buffer[at + 16 : end], original
            at = end
        if not chunk:
            if at < size:
                problems.append(_truncated(base + at, count))
            return
        base += at
        buffer = buffer[at:]


def _truncated(at: int, count: int) -> str:
    return (
        f"The file ends inside a packet at byte {at}: the capture was cut short; {count} packets before it were read."
    )


def _damaged(at: int, count: int, what: str) -> str:
    return f"The file is damaged at byte {at} ({what}): {count} packets before it were read, the rest was not."


class _Interface:
    __slots__ = ("link", "offset", "resolution")

    def __init__(self, link: int) -> None:
        self.link = link
        self.resolution = 1e-6
        self.offset = 0


class _Pcapng:
    """One pcapng file: sections, interfaces, packets. Blocks of other types are skipped."""

    def __init__(self, file: BinaryIO, head: bytes, problems: list[str]) -> None:
        self._file = file
        self._buffer = head
        self._problems = problems
        self._order = "<"
        self._interfaces: list[_Interface] = []
        self._count = 0
        self._unknown = 0
        self._dropped = 0

    def packets(self) -> Iterator[Packet]:
        base = 0
        while True:
            chunk = self._file.read(_CHUNK)
            self._buffer += chunk
            at, size = 0, len(self._buffer)
            while at + 12 <= size:
                length, damage = self._block_length(at)
                if not damage and at + length > size:
                    break
                if not damage and self._u32(at + length - 4) != length:
                    damage = "the two lengths of a block differ"
                if damage:
                    self._problems.append(_damaged(base + at, self._count, damage))
                    self._tell()
                    return
                packet = self._block(at, length)
                if packet is not None:
                    self._count += 1
                    yield packet
                at += length
            if not chunk:
                if at < size:
                    self._problems.append(_truncated(base + at, self._count))
                self._tell()
                return
            base += at
            self._buffer = self._buffer[at:]

    def _tell(self) -> None:
        if self._unknown:
            self._problems.append(f"{self._unknown} packets belong to an interface that is not described: skipped.")
        if self._dropped:
            self._problems.append(
                f"The capturing program says that it missed {self._dropped} packets: gaps may be the capture's own."
            )

    def _u32(self, at: int) -> int:
        value: int = struct.unpack_from(self._order + "I", self._buffer, at)[0]
        return value

    def _block_length(self, at: int) -> tuple[int, str]:
        buffer = self._buffer
        if buffer[at : at + 4] == _SECTION:  # a new section: byte order and interfaces start anew
            magic = buffer[at + 8 : at + 12]
            if magic not in {b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"}:
                return 0, "a section without byte-order mark"
            self._order = "<" if magic[0] == 0x4D else ">"
            self._interfaces = []
        length = self._u32(at + 4)
        if length < 12 or length % 4 or length > _LARGEST:
            return 0, f"a block of {length} bytes"
        return length, ""

    def _block(self, at: int, length: int) -> Packet | None:
        kind = self._u32(at)
        body, end = at + 8, at + length - 4
        if kind == 6 and end - body >= 20:  # enhanced packet
            index, high, low, captured, original = struct.unpack_from(self._order + "IIIII", self._buffer, body)
            return self._packet(index, high, low, captured, original, body + 20, end)
        if kind == 1 and end - body >= 8:
            self._describe(body, end)
        elif kind == 2 and end - body >= 20:  # the obsolete packet block
            index, _, high, low, captured, original = struct.unpack_from(self._order + "HHIIII", self._buffer, body)
            return self._packet(index, high, low, captured, original, body + 20, end)
        elif kind == 3 and end - body >= 4:  # simple packet: no time, first interface
            original = self._u32(body)
            return self._packet(0, 0, 0, min(original, end - body - 4), original, body + 4, end)
        elif kind == 5:  # interface statistics
            for code, value in self._options(body + 12, end):
                if code == 5 and len(value) == 8:
                    self._dropped += struct.unpack(self._order + "Q", value)[0]
        return None

    def _packet(
        self, index: int, high: int, low: int, captured: int, original: int, at: int, end: int
    ) -> Packet | None:
        if index >= len(self._interfaces):
            self._unknown += 1
            return None
        interface = self._interfaces[index]
        time = ((high << 32) | low) * interface.resolution + interface.offset
        return time, interface.link, self._buffer[at : min(at + captured, end)], original

    def _describe(self, body: int, end: int) -> None:
        if len(self._interfaces) >= _MAX_INTERFACES:
            return
        interface = _Interface(struct.unpack_from(self._order + "H", self._buffer, body)[0])
        for code, value in self._options(body + 8, end):
            if code == 9 and value:  # if_tsresol
                exponent = value[0] & 127
                interface.resolution = 2.0**-exponent if value[0] & 128 else 10.0**-exponent
            elif code == 14 and len(value) == 8:  # if_tsoffset, seconds
                interface.offset = struct.unpack(self._order + "q", value)[0]
        self._interfaces.append(interface)

    def _options(self, at: int, end: int) -> Iterator[tuple[int, bytes]]:
        while at + 4 <= end:
            code, size = struct.unpack_from(self._order + "HH", self._buffer, at)
            if code == 0 or at + 4 + size > end:
                return
            yield code, self._buffer[at + 4 : at + 4 + size]
            at += 4 + ((size + 3) & ~3)
