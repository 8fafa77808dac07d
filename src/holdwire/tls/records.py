"""``RecordTracker``: follows the record headers of a TLS byte stream, to tell an end inside a record from one between.

OpenSSL reports both the same way, but only one of them can be forgiven: an end inside a record is always truncation.
Pure. Not responsible for what is in the records.
"""

from __future__ import annotations

from typing import Final

__all__ = ["RecordTracker"]

_HEADER: Final = 5
"""Type (1 byte), version (2), length of what follows (2): RFC 8446, section 5.1."""


class RecordTracker:
    """Fed with every byte that was received, in any pieces."""

    __slots__ = ("_header", "_missing")

    def __init__(self) -> None:
        self._header = b""
        """The first bytes of a header that has not arrived as a whole."""
        self._missing = 0
        """Bytes of the present record that have not arrived."""

    @property
    def inside(self) -> bool:
        """Whether the bytes so far end inside a record."""
        return bool(self._missing or self._header)

    def feed(self, data: bytes | memoryview) -> None:
        """Follow ``data``; costs one step for each record in it."""
        size = len(data)
        if self._header:
            start = _HEADER - len(self._header)
            header = self._header + bytes(data[:start])
            if len(header) < _HEADER:
                self._header = header
                return
            self._header = b""
            position = start + _length(header)
        else:
            position = self._missing
        while position + _HEADER <= size:
            position += _HEADER + (data[position + 3] << 8 | data[position + 4])
        if position < size:
            self._header = bytes(data[position:])
            position = size
        self._missing = position - size


def _length(header: bytes) -> int:
    return header[3] << 8 | header[4]
