"""``StreamedBody``: a family's request stream as a ``BodySource``, with the truth about whether it can be replayed.

Decided by the type of the stream object, never by iterating it a second time: an iterable that silently goes on where
it stopped would send a truncated copy. Not responsible for sending.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["StreamedBody", "body_of"]

_WRAPPER: Final = "AsyncIteratorByteStream"
"""What a family makes of a caller's asynchronous iterable."""


class StreamedBody:
    """See the module."""

    __slots__ = ("_pieces", "_stream", "replayable", "started")

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._pieces: AsyncIterator[bytes] | None = None
        self.replayable = _replayable(stream)
        self.started = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        self.started = True
        self._pieces = aiter(self._stream)
        return self._pieces

    async def aclose(self) -> None:
        """Close the family's generator and the one of the caller that it wraps, which it leaves as it is."""
        given = getattr(self._stream, "_stream", None) if type(self._stream).__name__ == _WRAPPER else None
        for pieces in (self._pieces, given):
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()


def body_of(stream: Any, byte_stream: type[Any]) -> bytes | StreamedBody:
    """The body of a request: bytes where the family holds bytes, else a source."""
    if stream.__class__ is byte_stream:
        return b"".join(stream)
    return StreamedBody(stream)


def _replayable(stream: Any) -> bool:
    """Whether iterating ``stream`` again yields the same bytes: byte streams do, multipart with seekable files too."""
    name = type(stream).__name__
    if name == "MultipartStream":
        return all(_replayable_field(field) for field in getattr(stream, "fields", ()))
    return False


def _replayable_field(field: Any) -> bool:
    """A field of a multipart body: data is; a file is if it can go back to its start and stood there."""
    file = getattr(field, "file", None)
    if file is None or isinstance(file, str | bytes):
        return True
    try:
        return bool(file.seekable()) and file.tell() == 0
    except (AttributeError, OSError, ValueError):
        return False
