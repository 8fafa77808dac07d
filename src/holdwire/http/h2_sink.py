"""``Sink``: what an HTTP/2 machine tells whoever owns it. Not responsible for anything: a protocol class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .h2_stream import Http2Stream

__all__ = ["Sink"]


class Sink(Protocol):
    """What the machine tells. ``ended`` says that the response ends with this."""

    def on_head(self, stream: Http2Stream, fields: list[tuple[bytes, bytes]], *, ended: bool) -> None:
        """HEADERS: of an interim response, the response, or trailers."""
        ...

    def on_data(self, stream: Http2Stream, data: bytes, used: int, *, ended: bool) -> None:
        """DATA, which counts ``used`` in the windows."""
        ...

    def on_reset(self, stream: Http2Stream, code: int) -> None:
        """RST_STREAM."""
        ...

    def on_goaway(self, last: int, code: int, text: bytes) -> None:
        """GOAWAY; the ids are checked."""
        ...

    def on_settings(self, changed: dict[int, int]) -> None:
        """SETTINGS, applied."""
        ...

    def on_ping_answer(self, payload: bytes) -> None:
        """A PING of ours was acknowledged."""
        ...

    def on_room(self) -> None:
        """A window has opened."""
        ...
