"""``Request`` and ``Answer``: HTTP/1.1 as ``ChaosServer`` speaks it. Bytes in, bytes out; no sockets, no faults.

A small parser and writer of its own, on purpose: what is under test must not test itself. It trusts its client.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, final

from ..policy.checks import check_type

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Answer", "BadRequestError", "Framing", "Request"]

_NO_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_CHUNK = 16384


class BadRequestError(Exception):
    """The client sent something that is not HTTP/1.1."""


@final
class Framing(enum.StrEnum):
    """How an answer says where it ends."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"
    """By closing the connection."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it arrived."""

    method: str
    """In the client's spelling."""
    target: str
    """As on the request line: path and query."""
    version: str
    """``HTTP/1.1``, ``HTTP/1.0`` or ``HTTP/2``."""
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in the order in which they came."""
    body: bytes = b""
    """Without its framing."""
    connection: int
    """The number of the connection it came on, from 1."""
    exchange: int
    """Its number on that connection, from 1."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """The last value of the header ``name``, or None."""
        values = [value for key, value in self.headers if key == name.lower()]
        return values[-1] if values else None

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand for the body."""
        return hashlib.sha256(self.body).hexdigest()[:16]

    @property
    def wants_close(self) -> bool:
        """Whether the connection ends after this exchange by the client's wish."""
        tokens = {token.strip().lower() for token in (self.header("connection") or "").split(",")}
        return "close" in tokens or (self.version == "HTTP/1.0" and "keep-alive" not in tokens)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server answers. Over HTTP/2 framing and reason mean nothing, and names of headers become lower case."""

    status: int = 200
    reason: str | None = None
    """The reason phrase; None takes the one of the standard library for the status."""
    headers: tuple[tuple[str, str], ...] = ()
    """Pairs of name and value, in Latin-1; those that say where the body ends are added."""
    body: bytes = b""
    framing: Framing = Framing.LENGTH
    trailers: tuple[tuple[str, str], ...] = ()
    """Only with chunked framing."""
    interim: tuple[int, ...] = ()
    """1xx answers that go out first."""
    early: bool = False
    """Answer when the head of the request has arrived, without reading the body. Does not count as an execution."""
    close: bool = False
    """Say ``Connection: close`` and do so."""
    raw: bytes | None = field(default=None, repr=False)
    """Exactly these bytes (of whatever protocol the connection speaks) instead of all the above; the connection is
    closed afterwards."""

    def __post_init__(self) -> None:
        """Refuse what would fail only when a request comes, in the server's thread.

        Raises:
            TypeError: The message says what to give.
        """
        check_type("Answer", "status", self.status, int, give="a whole number")
        check_type("Answer", "headers", self.headers, (tuple, list), give="pairs, (('Name', 'value'),)")
        check_type("Answer", "body", self.body, bytes, give="bytes")

    def ends_connection(self, request: Request) -> bool:
        """Whether nothing can follow this answer."""
        unread = self.early and request_has_body(request)
        return self.raw is not None or self.close or self.framing is Framing.CLOSE or unread or request.wants_close

    def encode(self, request: Request) -> bytes:
        """The answer's bytes."""
        if self.raw is not None:
            return self.raw
        phrase = _phrase(self.status) if self.reason is None else self.reason
        lines = [f"HTTP/1.1 {status} {_phrase(status)}\r\n\r\n" for status in self.interim]
        lines += [f"HTTP/1.1 {self.status} {phrase}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in self.headers]
        bodiless = self.status in _NO_BODY
        if not bodiless and self.framing is Framing.LENGTH:
            lines += [f"Content-Length: {len(self.body)}\r\n"]
        elif not bodiless and self.framing is Framing.CHUNKED:
            lines += ["Transfer-Encoding: chunked\r\n"]
        if self.ends_connection(request):
            lines += ["Connection: close\r\n"]
        head = "".join([*lines, "\r\n"]).encode("latin-1")
        if bodiless or request.method == "HEAD":
            return head
        return head + (self._chunks() if self.framing is Framing.CHUNKED else self.body)

    def _chunks(self) -> bytes:
        pieces = [self.body[start : start + _CHUNK] for start in range(0, len(self.body), _CHUNK)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        trailers = "".join(f"{name}: {value}\r\n" for name, value in self.trailers)
        return chunks + b"0\r\n" + trailers.encode("latin-1") + b"\r\n"


def request_has_body(request: Request) -> bool:
    """Whether the head announces a body."""
    return request.header("transfer-encoding") is not None or request.header("content-length") not in {None, "0"}


def parse_head(head: bytes, *, connection: int, exchange: int) -> Request:
    """Read a request line and headers, without the empty line that ends them.

    Raises:
        BadRequestError: They are not HTTP/1.1.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, version = first.split(" ")
        headers = tuple(_header(line) for line in lines)
    except ValueError as error:
        message = f"not an HTTP/1.1 head: {head[:80]!r}"
        raise BadRequestError(message) from error
    return Request(
        method=method, target=target, version=version, headers=headers, connection=connection, exchange=exchange
    )


@final
class Reader:
    """Cuts a stream of bytes into heads and bodies; ``more`` fetches bytes and gives ``b""`` at the end."""

    def __init__(self, more: Callable[[], Awaitable[bytes]]) -> None:
        self._more = more
        self.buffer = bytearray()

    async def head(self) -> bytes | None:
        """The next head, or None at the end of the stream.

        Raises:
            BadRequestError: The stream ended inside the head.
        """
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            if not await self._fill():
                if self.buffer:
                    message = "the client closed inside the head of a request"
                    raise BadRequestError(message)
                return None
        return self._cut(end, 4)

    async def body(self, request: Request) -> bytes:
        """The body of ``request``.

        Raises:
            BadRequestError: The stream ended inside the body, or its framing is broken.
        """
        if request.header("transfer-encoding") is None:
            return await self._exactly(_size(request.header("content-length") or "0", 10))
        body = bytearray()
        while size := _size((await self._line()).partition(b";")[0], 16):
            body += await self._exactly(size)
            await self._line()
        while await self._line():  # trailers
            pass
        return bytes(body)

    async def _line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n")) < 0:
            await self._demand()
        return self._cut(end, 2)

    async def _exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            await self._demand()
        return self._cut(count, 0)

    def _cut(self, count: int, separator: int) -> bytes:
        piece = bytes(self.buffer[:count])
        del self.buffer[: count + separator]
        return piece

    async def _demand(self) -> None:
        if not await self._fill():
            message = "the client closed inside the body of a request"
            raise BadRequestError(message)

    async def _fill(self) -> bool:
        data = await self._more()
        self.buffer += data
        return bool(data)


def _header(line: str) -> tuple[str, str]:
    name, separator, value = line.partition(":")
    if not separator or not name:
        raise ValueError(line)
    return name.lower(), value.strip()


def _size(text: str | bytes, base: int) -> int:
    try:
        return int(text, base)
    except ValueError as error:
        message = f"not a length: {text!r}"
        raise BadRequestError(message) from error


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
