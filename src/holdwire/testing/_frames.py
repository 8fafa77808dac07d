"""``Frame``: HTTP/2's frames as bytes (RFC 9113, section 4.1), for the kit. Pure; needs no library.

On purpose not the code of the client: what is under test must not test itself. Not responsible for what frames mean
(``_http2``) or for faults (``_faulty_frames``).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PREFACE", "Flag", "Frame", "FrameCutter", "Kind", "goaway", "ping", "rst_stream"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client of HTTP/2 says first (section 3.4)."""
_HEAD: Final = 9


class Kind:
    """The types of frames (section 6)."""

    DATA: Final = 0
    HEADERS: Final = 1
    RST_STREAM: Final = 3
    SETTINGS: Final = 4
    PING: Final = 6
    GOAWAY: Final = 7
    WINDOW_UPDATE: Final = 8
    CONTINUATION: Final = 9


class Flag:
    """The flags of frames (section 6)."""

    ACK: Final = 0x1
    END_STREAM: Final = 0x1
    END_HEADERS: Final = 0x4
    PADDED: Final = 0x8
    PRIORITY: Final = 0x20


class Frame(NamedTuple):
    """One frame."""

    kind: int
    flags: int
    stream: int
    """0 is the connection."""
    payload: bytes = b""

    def encode(self) -> bytes:
        """Its bytes."""
        return len(self.payload).to_bytes(3, "big") + struct.pack("!BBL", *self[:3]) + self.payload

    def content(self) -> bytes:
        """The payload of HEADERS or DATA without padding and priority (sections 6.1 and 6.2)."""
        start, end = 0, len(self.payload)
        if self.flags & Flag.PADDED:
            start, end = 1, end - self.payload[0]
        if self.kind == Kind.HEADERS and self.flags & Flag.PRIORITY:
            start += 5
        return self.payload[start:end]


class FrameCutter:
    """Cuts bytes into frames; what is left of the last one waits for more."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that ``data`` completes."""
        self._rest += data
        while len(self._rest) >= _HEAD:
            end = _HEAD + int.from_bytes(self._rest[:3], "big")
            if len(self._rest) < end:
                return
            kind, flags, stream = struct.unpack("!BBL", self._rest[3:_HEAD])
            frame = Frame(kind, flags, stream & 0x7FFFFFFF, self._rest[_HEAD:end])
            self._rest = self._rest[end:]
            yield frame


def rst_stream(stream: int, code: int) -> Frame:
    """The end of one stream."""
    return Frame(Kind.RST_STREAM, 0, stream, struct.pack("!L", code))


def goaway(last: int, code: int) -> Frame:
    """No stream beyond ``last`` was or will be processed."""
    return Frame(Kind.GOAWAY, 0, 0, struct.pack("!LL", last, code))


def ping(payload: bytes, *, ack: bool = False) -> Frame:
    """A question whether the peer is there, or the answer to one."""
    return Frame(Kind.PING, Flag.ACK if ack else 0, 0, payload)
