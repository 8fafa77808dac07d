"""``FrameSplitter``: cuts the bytes of an HTTP/2 peer into whole frames, and refuses floods.

Looks at the nine bytes in front of each frame (RFC 9113, section 4.1) and no further, and counts the frames that make
no progress before any work is done for them. Pure: time comes in as an argument.
Not responsible for what frames mean (``h2_machine``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ACK",
    "CONTINUATION",
    "DATA",
    "END_HEADERS",
    "END_STREAM",
    "GOAWAY",
    "HEADERS",
    "MAX_FRAME",
    "PADDED",
    "PING",
    "PRIORITY",
    "PUSH_PROMISE",
    "RST_STREAM",
    "SETTINGS",
    "WINDOW_UPDATE",
    "WITH_PRIORITY",
    "FrameError",
    "FrameSplitter",
    "frame",
]

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

MAX_FRAME: Final = 16_384
"""Bytes of payload in a frame; we never announce more."""
MAX_NOISE: Final = 1_000
"""Frames without progress that are taken within ``NOISE_SECONDS``."""
NOISE_SECONDS: Final = 10.0
_PIECE: Final = 512
"""Bytes that a server may read of a body at a time: some give the windows back after each."""
_HEAD: Final = 9


class FrameError(Exception):
    """What the peer sent is not HTTP/2; ``code`` is what it is told before the connection ends."""

    def __init__(self, message: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame as it goes over the wire."""
    return b"%b%c%c%b%b" % (len(payload).to_bytes(3, "big"), kind, flags, stream.to_bytes(4, "big"), payload)


class FrameSplitter:
    """See the module."""

    __slots__ = ("_buffer", "_first", "_noise", "_noise_since", "_updates")

    def __init__(self) -> None:
        self._buffer = b""
        self._first = True
        self._noise = self._updates = 0
        self._noise_since = 0.0

    def split(self, data: bytes, now: float) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of each frame that is complete now; to be taken to the end.

        Raises:
            FrameError: The first frame is not SETTINGS, one is longer than we allow, or frames without progress came
                faster than anybody needs them.
        """
        buffer = self._buffer + data if self._buffer else data
        size = len(buffer)
        self._buffer = b""
        start = 0
        while size - start >= _HEAD:
            length = int.from_bytes(buffer[start : start + 3], "big")
            kind = buffer[start + 3]
            if self._first:
                if kind != SETTINGS or buffer[start + 4] & ACK:
                    raise FrameError("what the server sent first is no HTTP/2 SETTINGS frame")
                self._first = False
            if length > MAX_FRAME:
                message = f"a frame of {length} bytes is longer than the {MAX_FRAME} that are allowed"
                raise FrameError(message, ErrorCodes.FRAME_SIZE_ERROR)
            body = start + _HEAD
            end = body + length
            if end > size:
                break
            if kind == DATA and length:
                self._noise = 0
            elif kind == WINDOW_UPDATE and self._updates:
                self._updates -= 1
            else:
                self._count(now)
            yield (
                kind,
                buffer[start + 4],
                int.from_bytes(buffer[start + 5 : body], "big") & 0x7FFF_FFFF,
                buffer[body:end],
            )
            start = end
        self._buffer = buffer[start:] if start else buffer

    def progress(self) -> None:
        """Something useful happened: a response began, or we sent data that window updates are for."""
        self._noise = 0

    def sent_data(self, size: int) -> None:
        """We sent DATA: the peer may give back both windows for each frame of it or each piece read, however late."""
        self._noise = 0
        self._updates += 2 + 2 * size // _PIECE

    def _count(self, now: float) -> None:
        if not self._noise:
            self._noise_since = now
        self._noise += 1
        if self._noise > MAX_NOISE:
            if now - self._noise_since < NOISE_SECONDS:
                message = f"more than {MAX_NOISE} frames without progress within {NOISE_SECONDS:g} s"
                raise FrameError(message, ErrorCodes.ENHANCE_YOUR_CALM)
            self._noise = 0
