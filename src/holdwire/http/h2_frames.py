"""``FrameSplitter``: cuts the bytes of an HTTP/2 peer into whole frames, and refuses floods.

Looks at the nine bytes in front of each frame (RFC 9113, section 4.1) and no further. Two things need that: h2 takes a
GOAWAY for the end of everything, while streams below its last id go on, so that one must be handled before h2 sees it;
and frames that make no progress must be counted before work is done for them. Pure: time comes in as an argument.
Not responsible for what frames mean (h2, ``http2``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CONTINUATION", "DATA", "GOAWAY", "HEADERS", "Flood", "FrameError", "FrameSplitter"]

DATA: Final = 0x0
HEADERS: Final = 0x1
SETTINGS: Final = 0x4
GOAWAY: Final = 0x7
CONTINUATION: Final = 0x9

MAX_FRAME: Final = 16_384
"""Bytes of payload in a frame; we never announce more."""
MAX_NOISE: Final = 1_000
"""Frames without progress that are taken within ``NOISE_SECONDS``."""
NOISE_SECONDS: Final = 10.0
_HEAD: Final = 9
_END_HEADERS: Final = 0x4


class FrameError(Exception):
    """The bytes are no HTTP/2 frames."""


class Flood(FrameError):
    """Frames that make no progress, and too many of them."""


class FrameSplitter:
    """See the module."""

    __slots__ = ("_buffer", "_first", "_in_headers", "_noise", "_noise_since")

    def __init__(self) -> None:
        self._buffer = b""
        self._first = True
        self._in_headers = False
        self._noise = 0
        self._noise_since = 0.0

    def split(self, data: bytes, now: float) -> Iterator[tuple[int, bytes]]:
        """The frames that are complete now, each with its type; to be taken to the end.

        A GOAWAY inside a header block is not told as one, because it is none.

        Raises:
            FrameError: The first frame is not SETTINGS, or one is longer than we allow.
            Flood: Frames without progress came faster than anybody needs them.
        """
        buffer = self._buffer + data if self._buffer else data
        size = len(buffer)
        self._buffer = b""
        start = 0
        while size - start >= _HEAD:
            length = int.from_bytes(buffer[start : start + 3], "big")
            kind = buffer[start + 3]
            if self._first:
                if kind != SETTINGS:
                    raise FrameError("what the server sent first is no HTTP/2 SETTINGS frame")
                self._first = False
            if length > MAX_FRAME:
                raise FrameError(f"a frame of {length} bytes is longer than the {MAX_FRAME} that are allowed")
            end = start + _HEAD + length
            if end > size:
                break
            if kind in (HEADERS, CONTINUATION):
                self._in_headers = not buffer[start + 4] & _END_HEADERS
                if self._in_headers or kind == CONTINUATION:
                    self._count(now)
            elif self._in_headers:
                kind = CONTINUATION  # h2 refuses it as it is, which is what it deserves
            elif kind == DATA and length:
                self._noise = 0
            else:
                self._count(now)
            yield kind, buffer[start:end]
            start = end
        self._buffer = buffer[start:]

    def progress(self) -> None:
        """Something useful happened: a response began, or we sent data that window updates are for."""
        self._noise = 0

    def _count(self, now: float) -> None:
        if not self._noise:
            self._noise_since = now
        self._noise += 1
        if self._noise > MAX_NOISE:
            if now - self._noise_since < NOISE_SECONDS:
                raise Flood(f"more than {MAX_NOISE} frames without progress within {NOISE_SECONDS:g} s")
            self._noise = 0
