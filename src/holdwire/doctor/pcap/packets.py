"""Finds the TCP or ICMP message in a captured packet. Not responsible for files (``reader``) or for TCP (``segments``).

Lengths come from the IP header, never from the number of captured bytes: packets may be cut by the snap length, and
short Ethernet frames are padded. An IPv4 total length or IPv6 payload length of 0 means that the network card does the
segmentation; then the captured length is all there is.

Sources: RFC 791, RFC 8200 (section 4), RFC 792, RFC 4443, https://www.tcpdump.org/linktypes.html.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Final, NamedTuple

__all__ = ["ICMP", "ICMP6", "LINK_TYPES", "TCP", "IpPacket", "decode_ip", "endpoint", "find_ip", "icmp_words"]

TCP: Final = 6
ICMP: Final = 1
ICMP6: Final = 58

_ETHERNET: Final = 1
_PROTOCOL_AT: Final = {_ETHERNET: 12, 113: 14, 276: 0}
"""Link types with an EtherType, and where it is."""
_PAYLOAD_AT: Final = {_ETHERNET: 14, 113: 16, 276: 20, 0: 4, 108: 4, 12: 0, 14: 0, 101: 0, 228: 0, 229: 0}
LINK_TYPES: Final = frozenset(_PAYLOAD_AT)
"""Ethernet, Linux cooked v1 and v2, BSD loopback in both byte orders, raw IP."""

_VLAN_TAGS: Final = frozenset({0x8100, 0x88A8, 0x9100})
_PPPOE: Final = 0x8864
_IPV4: Final = struct.Struct(">BxHxxHBB").unpack_from
_IPV6: Final = struct.Struct(">4xHBB").unpack_from
_U16: Final = struct.Struct(">H").unpack_from

_EXTENSIONS: Final = frozenset({0, 43, 44, 51, 60, 135, 139, 140})
_FRAGMENT_HEADER: Final = 44
_AUTHENTICATION_HEADER: Final = 51


class IpPacket(NamedTuple):
    """Where the payload of an IP packet is. ``length`` is the payload's on the wire."""

    protocol: int
    addresses: bytes
    """Source and destination, one after the other: 8 bytes (IPv4) or 32 (IPv6)."""
    at: int
    length: int
    hop_limit: int
    fragment: bool
    first: bool
    """Whether the payload begins here: not a later fragment."""


def find_ip(link: int, data: bytes) -> int:
    """The offset of the IP header in a frame of a known link type; -1 if there is none (ARP, and so on)."""
    at = _PAYLOAD_AT[link]
    protocol_at = _PROTOCOL_AT.get(link)
    if protocol_at is None:
        return at if len(data) > at else -1
    if len(data) < at:
        return -1
    (protocol,) = _U16(data, protocol_at)
    while protocol in _VLAN_TAGS:
        if len(data) < at + 4:
            return -1
        (protocol,) = _U16(data, at + 2)
        at += 4
    if protocol == _PPPOE and len(data) >= at + 8:
        at += 8  # the version nibble tells IP from PPP's own protocols well enough
        protocol = {0x0021: 0x0800, 0x0057: 0x86DD}.get(_U16(data, at - 2)[0], 0)
    return at if protocol in {0x0800, 0x86DD} and len(data) > at else -1


def decode_ip(data: bytes, at: int) -> IpPacket | None:
    """Decode the IP header at ``at``, with IPv6 extension headers; None if it is no whole IP header."""
    version = data[at] >> 4
    if version == 4:
        if len(data) < at + 20:
            return None
        first_byte, total, fragment, hop_limit, protocol = _IPV4(data, at)
        header = (first_byte & 15) * 4
        total = total or len(data) - at
        if header < 20 or total < header:
            return None
        return IpPacket(
            protocol,
            data[at + 12 : at + 20],
            at + header,
            total - header,
            hop_limit,
            fragment & 0x3FFF != 0,  # more fragments, or an offset
            fragment & 0x1FFF == 0,
        )
    if version == 6 and len(data) >= at + 40:
        length, protocol, hop_limit = _IPV6(data, at)
        end = at + 40 + (length or len(data) - at - 40)
        addresses = data[at + 8 : at + 40]
        at += 40
        fragment, first = False, True
        while protocol in _EXTENSIONS:
            if at + 8 > len(data) or at + 8 > end:
                return None
            if protocol == _FRAGMENT_HEADER:
                (offset,) = _U16(data, at + 2)
                fragment = fragment or offset & 0xFFF9 != 0  # an "atomic" fragment is whole (RFC 6946)
                first = first and offset & 0xFFF8 == 0
                size = 8
            elif protocol == _AUTHENTICATION_HEADER:
                size = (data[at + 1] + 2) * 4
            else:
                size = (data[at + 1] + 1) * 8
            protocol = data[at]
            at += size
            if not first:
                break
        return IpPacket(protocol, addresses, at, max(end - at, 0), hop_limit, fragment, first)
    return None


def endpoint(address: bytes, port: int | None = None) -> str:
    """An address, with a port if there is one, as a person would write it."""
    text = str(ip_address(address))
    if port is None:
        return text
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"


_UNREACHABLE: Final = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    9: "network prohibited",
    10: "host prohibited",
    13: "prohibited by a filter",
}
_UNREACHABLE6: Final = {
    0: "no route",
    1: "prohibited by a filter",
    2: "beyond the scope of the source",
    3: "address unreachable",
    4: "port unreachable",
    5: "source address failed a filter",
    6: "route rejected",
}


def icmp_words(version: int, kind: int, code: int) -> str | None:
    """What an ICMP error says; None if the message is no error about a packet."""
    if version == 4:
        if kind == 3:
            return _UNREACHABLE.get(code, f"unreachable (code {code})")
        return "time exceeded" if kind == 11 else None
    if kind == 1:
        return _UNREACHABLE6.get(code, f"unreachable (code {code})")
    return {2: "packet too big", 3: "time exceeded"}.get(kind)
