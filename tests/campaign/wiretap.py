"""``Wiretap``: which requests a program puts on a connection, and where in its bytes each begins, whatever it speaks.

HTTP/1.1 and HTTP/2, found out from the first bytes; through TLS by way of ``TappedTls``, which a context makes instead
of plain ``SSLObject``s and which notes where in the ciphertext each plaintext begins. Not responsible for what becomes
of the requests (``kernel``) or for what is answered (``origin``).
"""

from __future__ import annotations

import ssl
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, cast

import hpack

from holdwire.testing._frames import PREFACE, Flag, FrameCutter, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TappedTls", "Wiretap"]

_METHODS: Final = (b"GET ", b"PUT ", b"POST ", b"DELETE ")
_FRAME_HEAD: Final = 9
_HANDSHAKE: Final = b"\x16"
_RANDOM: Final = slice(11, 43)
"""Where in the record of a ClientHello its random is: by it the socket finds the TLS that made its first bytes."""


class TappedTls(ssl.SSLObject):
    """The client's TLS, which tells what it has encrypted."""

    unclaimed: ClassVar[dict[bytes, TappedTls]] = {}
    written: deque[tuple[int, bytes]]
    """Plaintexts, each with where in the ciphertext it begins."""
    _outgoing: ssl.MemoryBIO
    _produced: int

    @classmethod
    def _create(cls, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any) -> Self:
        made: Any = super()._create(incoming, outgoing, *args, **kwargs)  # type: ignore[misc]
        self = cast("Self", made)
        self.written = deque()
        self._outgoing = outgoing
        self._produced = 0
        return self

    @classmethod
    def claim(cls, hello: bytes) -> TappedTls | None:
        """The TLS that made ``hello``, the first bytes of a connection; None if it was none."""
        return cls.unclaimed.pop(hello[_RANDOM], None) if hello[:1] == _HANDSHAKE else None

    def _counted(self, call: Callable[..., Any], *args: Any) -> Any:
        before = self._outgoing.pending
        try:
            return call(*args)
        finally:
            self._produced += self._outgoing.pending - before

    def do_handshake(self) -> None:
        begins = not self._produced
        try:
            self._counted(super().do_handshake)
        finally:
            if begins:
                hello = self._outgoing.read()
                self._outgoing.write(hello)
                self.unclaimed[hello[_RANDOM]] = self

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - ssl's
        return self._counted(super().read, len, buffer)

    def write(self, data: Any) -> int:
        begin = self._produced
        count: int = self._counted(super().write, data)
        self.written.append((begin, bytes(data)))
        return count

    def unwrap(self) -> None:
        self._counted(super().unwrap)


class Wiretap:
    """One connection.

    ``begins`` is called with the name, the place and the stream (0 in HTTP/1.1) of a request, ``given_up`` with a
    stream that the program resets.
    """

    def __init__(self, begins: Callable[[str, int, int], None], given_up: Callable[[int], None]) -> None:
        self._begins = begins
        self._given_up = given_up
        self._tls: TappedTls | None = None
        self._cutter: FrameCutter | None = None
        self._decoder = hpack.Decoder()
        self._last = 0

    def hear(self, position: int, data: bytes) -> None:
        """Bytes that the program wants to send, for the first time."""
        if not position:
            self._tls = TappedTls.claim(data)
        if self._tls is None:
            self._plain(position, data)
            return
        written = self._tls.written
        while written and written[0][0] < position + len(data):
            self._plain(*written.popleft())

    def _plain(self, position: int, data: bytes) -> None:
        if self._cutter is None and data.startswith(PREFACE):
            self._cutter = FrameCutter()
            position, data = position + len(PREFACE), data[len(PREFACE) :]
        if self._cutter is not None:
            self._frames(self._cutter, position, data)
        elif data.startswith(_METHODS):
            self._begins(data[:40].split(b" ", 2)[1].decode(), position, 0)

    def _frames(self, cutter: FrameCutter, position: int, data: bytes) -> None:
        for frame in cutter.feed(data):
            if frame.kind == Kind.HEADERS:
                assert frame.flags & Flag.END_HEADERS
                fields = dict(self._decoder.decode(frame.content(), raw=True))
                if frame.stream > self._last:
                    self._last = frame.stream
                    self._begins(fields[b":path"].decode(), position, frame.stream)
            elif frame.kind == Kind.RST_STREAM:
                self._given_up(frame.stream)
            if self._tls is None:  # in TLS all of one write leave together
                position += _FRAME_HEAD + len(frame.payload)
