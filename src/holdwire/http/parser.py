"""``ResponseReader``: reads HTTP/1.1 responses from bytes, one after another. Sans-I/O, on httptools (llhttp).

Theory of operation. llhttp is strict where security asks for it; the leniency switches set here make it as tolerant of
sloppy servers as h11 is (bare LF, folded headers, Content-Length beside Transfer-Encoding, padded chunk sizes) and no
laxer. What llhttp does not know is ours: the head's size limit, responses that have no body whatever their headers say
(HEAD, 2xx to CONNECT), the end of input, transfer codings other than ``chunked``, and bytes after a complete response,
which make the connection unusable.

Invariants: headers are those of the last head begun (1xx are counted and dropped); once ``complete``, nothing that is
fed changes the response. Not responsible for the connection (``http11``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import httptools

if TYPE_CHECKING:
    from .messages import Headers

__all__ = ["MAX_HEAD", "ResponseReader", "Truncated", "Violation"]

MAX_HEAD: Final = 100 * 1024
"""Bytes of a response's head, 1xx included (httpcore's limit)."""
MAX_INTERIM: Final = 64
"""1xx responses before the final one."""
MAX_QUIET: Final = 64 * 1024
"""Bytes in a row that yield neither body nor the end of it: chunk extensions, trailers."""
_ILLEGAL: Final = re.compile(rb"[\x00\n\v\f\r]").search
_ORDINARY, _LENGTH, _CODING, _CONNECTION, _KEEP, _BAD = range(6)
_KINDS: Final = {
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"keep-alive": _KEEP,
}
_KNOWN_LIMIT: Final = 1024
_known_names: dict[bytes, int] = {}
"""What headers seen before are to the framing: servers send the same few names, in the same spelling."""
_known_headers: set[tuple[bytes, bytes]] = set()
"""Short ASCII ones that were checked before, say nothing about the framing and are no secrets."""
_SHORT: Final = 128
_PRIVATE: Final = frozenset({b"set-cookie", b"set-cookie2", b"authentication-info", b"proxy-authentication-info"})
_NAME: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+").fullmatch
_STATUS_LINE: Final = b"HTTP/"
_BARE_CR: Final = re.compile(rb"\r(?!\n)").search
_BLANK_LINE: Final = re.compile(rb"\n\r?\n").search
_START_LINE: Final = re.compile(rb"[\r\n]*[^\n]*\n([ \t]?)").match
_KEEP_ALIVE: Final = re.compile(rb"(?:^|[,;\s])timeout\s*=\s*\"?(\d{1,6})", re.IGNORECASE).search


class Violation(Exception):
    """The peer's bytes are no legal HTTP; the text says why and holds none of them."""


class Truncated(Exception):
    """The input ended inside the message; the text says where, in the words of h11."""


class ResponseReader:
    """Feed it bytes; look at ``head_complete``, ``body`` and ``complete``.

    Attributes:
        is_ascii: Whether the values of all headers are ASCII.
        body: Pieces of the body that nobody has taken yet; the owner empties it.
        received: Bytes of body so far.
        reusable: Once complete: whether another response may follow on this connection.
        upgraded: The response was 101, or 2xx to CONNECT: what follows is in ``leftover``.
    """

    __slots__ = (
        "_close",
        "_codings",
        "_connect",
        "_fed",
        "_head",
        "_head_method",
        "_interim",
        "_lengths",
        "_parser",
        "_pending",
        "_quiet",
        "_spoiled",
        "body",
        "complete",
        "expected",
        "head_complete",
        "headers",
        "http_version",
        "is_ascii",
        "keep_alive",
        "leftover",
        "reason",
        "received",
        "reusable",
        "status",
        "stray",
        "until_eof",
        "upgraded",
    )

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = None
        self.body: list[bytes] = []
        self.headers: Headers = []
        self.reason = b""
        self._codings = 0
        self._lengths = self._close = False
        self.is_ascii = True
        # what is set below never changes on a connection that another response may follow on
        self._spoiled = ""
        self._pending = self.leftover = b""
        self.http_version = b"HTTP/1.1"
        self.upgraded = self.stray = self.until_eof = False
        self.begin(b"GET")

    def begin(self, method: bytes) -> None:
        """Expect the response to a request with ``method``; the one before, if any, was ``reusable``."""
        self._head_method = method == b"HEAD"
        self._connect = method == b"CONNECT"
        self._fed = self._interim = self._quiet = self.received = self.status = 0
        self._head: bytes | bytearray = b""
        """What came so far of a head that comes in pieces."""
        self.body = []
        self.head_complete = self.complete = self.reusable = False
        self.expected: int | None = None
        self.keep_alive: float | None = None
        """Seconds that the server announced with ``Keep-Alive: timeout=N``."""

    @property
    def started(self) -> bool:
        """Whether any byte of the response has arrived."""
        return self._fed > 0

    def feed(self, data: bytes) -> None:
        """Take ``data``, which is not empty.

        Raises:
            Violation: It is no legal HTTP. After that the reader is of no further use.
        """
        if self.upgraded:  # while the request was still being written
            self.leftover += data
            return
        if self.complete:
            self.stray = True
            self.reusable = False
            return
        if self._connect and not self.head_complete:
            self._feed_connect(data)
            return
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpResponseParser(self)
            parser.set_dangerous_leniencies(
                lenient_headers=True,
                lenient_chunked_length=True,
                lenient_optional_cr_before_lf=True,
                lenient_spaces_after_chunk_size=True,
            )
        before = self.received
        in_head = not self.head_complete
        self._fed += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parser = None
            self.upgraded = True
            self.leftover = bytes(data[upgrade.args[0] :])
            self.reusable = False
        except httptools.HttpParserError as exc:
            self._parser = None
            if not self.complete:
                raise Violation(self._describe(exc)) from None
            self.stray = True
            self.reusable = False
        if in_head:
            self._check_head(data)
        if self.head_complete and not self.complete:
            self._quiet = 0 if self.received != before else self._quiet + len(data)
            if self._quiet > MAX_QUIET:
                raise Violation(f"{MAX_QUIET // 1024} KiB of chunk extensions or trailers without any body")
        if self._spoiled:
            raise Violation(self._spoiled)

    def _check_head(self, data: bytes) -> None:
        if self.head_complete:
            if fault := _read_otherwise(self._head + data if self._head else data, self._interim):
                raise Violation(fault)
        elif self._fed > MAX_HEAD:
            raise Violation(f"the head of the response is larger than {MAX_HEAD // 1024} KiB")
        else:
            self._head = self._head or bytearray()
            self._head += data

    def _feed_connect(self, data: bytes) -> None:
        """Hand over nothing beyond the head: after 2xx to CONNECT the rest belongs to the tunnel."""
        self._pending += data
        blank = _BLANK_LINE(self._pending)
        if blank is None:
            if not _STATUS_LINE.startswith(self._pending[: len(_STATUS_LINE)]):
                raise Violation("it does not begin with a status line")
            if len(self._pending) > MAX_HEAD:
                raise Violation(f"the head of the response is larger than {MAX_HEAD // 1024} KiB")
            return
        head, rest = self._pending[: blank.end()], self._pending[blank.end() :]
        self._pending = b""
        self._feed(head)
        if self.upgraded:
            self.leftover = rest
        elif rest:
            self.feed(rest)

    def feed_eof(self) -> None:
        """The input has ended.

        Raises:
            Truncated: Inside the message.
        """
        if self.complete:
            return
        self.reusable = False
        if self.head_complete and self.until_eof:
            self.complete = True
            return
        if not self.head_complete:
            text = "Server disconnected without sending a response."
            raise Truncated(text if not self._fed else f"{text} It ended inside the head.")
        detail = (
            "incomplete chunked read"
            if self.expected is None
            else f"received {self.received} bytes, expected {self.expected}"
        )
        raise Truncated(f"peer closed connection without sending complete message body ({detail})")

    # --- httptools' callbacks; they must not raise ---

    def on_message_begin(self) -> None:
        if self.complete:
            self.stray = True
            self.reusable = False
            return
        self.headers = []
        self.reason = b""
        self._codings = 0
        self._lengths = self._close = False
        self.is_ascii = True

    def on_status(self, reason: bytes) -> None:
        if not self.complete:
            self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head_complete:  # a trailer, or the head of a stray response
            return
        header = (name, value)
        if header in _known_headers:
            self.headers.append(header)
            return
        kind = _known_names.get(name)
        if kind == _LENGTH and value.isdigit():
            self.headers.append(header)
            self._note(_LENGTH, value)
            return
        value = value.rstrip(b" \t")  # not done by llhttp where it is lenient
        header = (name, value)
        self.headers.append(header)
        if not value.isascii():
            self.is_ascii = False
        if kind is None:
            kind = _learn(name)
        if kind == _BAD or _ILLEGAL(value):  # what llhttp lets pass with lenient_headers, and h11 does not
            self._spoiled = "an illegal header"
        elif kind and not (kind == _CONNECTION and value.lower() == b"keep-alive"):  # says what is so without it
            self._note(kind, value)
        elif len(name) + len(value) <= _SHORT and name.lower() not in _PRIVATE and value.isascii():
            if len(_known_headers) >= _KNOWN_LIMIT:
                _known_headers.clear()
            _known_headers.add(header)

    def _note(self, kind: int, value: bytes) -> None:
        """A header that says something about framing or about the connection."""
        if kind == _LENGTH:
            self._lengths = True
            self.expected = int(value) if value.isdigit() else None
        elif kind == _CODING:
            self._codings += 1
            if self._codings > 1 or value.strip(b" \t").lower() != b"chunked":
                self._spoiled = "a Transfer-Encoding other than a single 'chunked'"
        elif kind == _CONNECTION:
            self._close = self._close or b"close" in [token.strip() for token in value.lower().split(b",")]
        else:
            hint = _KEEP_ALIVE(value)
            self.keep_alive = float(hint[1]) if hint else None

    def on_headers_complete(self) -> None:
        if self.complete or self._parser is None:
            return
        parser = self._parser
        status = parser.get_status_code()
        if status < 200 and status != 101:
            if status >= 100:
                self._interim += 1
                if self._interim > MAX_INTERIM:
                    self._spoiled = f"more than {MAX_INTERIM} interim (1xx) responses"
                return
            self._spoiled = "a status below 100"
        self.status = status
        self.head_complete = True
        version = parser.get_http_version()
        if version == "1.1":
            self.reusable = not self._close and not (self._codings and self._lengths)
        else:
            self.http_version = b"HTTP/" + version.encode("ascii")
        if self._codings:
            self.expected = None
        if self._connect and 200 <= status < 300:
            self.upgraded = self.complete = True
            self._parser = None
        elif self._head_method:
            self.complete = True
            self._parser = None  # llhttp would take the next response for this one's body
        elif not self._lengths and not self._codings and status not in {101, 204, 304}:
            self.until_eof = True
            self.reusable = False

    def on_body(self, data: bytes) -> None:
        if self.complete:
            self.stray = True
            self.reusable = False
            return
        self.received += len(data)
        self.body.append(data)

    def on_message_complete(self) -> None:
        self.complete = self.head_complete  # an interim response ends too, and is none

    def _describe(self, exc: httptools.HttpParserError) -> str:
        where = "the body" if self.head_complete else "the head"
        return f"illegal HTTP in {where} of the response: {exc}"


def _read_otherwise(heads: bytes | bytearray, interim: int) -> str:
    """What others in the path read otherwise than llhttp, in so many 1xx heads and the one behind them (RFC 9112, 2.2).

    Lenient for the sake of folded headers, it takes a first header that begins with white space for one, and ends a
    line at a CR right behind a header's colon, so that what follows is another header or the body.
    """
    bare = heads.count(b"\r") != heads.count(b"\r\n") and "a carriage return without a line feed in the head"
    at = 0
    for left in range(interim, -1, -1):
        start = _START_LINE(heads, at)
        if start is not None and start[1]:
            return "white space before the first header"
        if not (left or bare):
            return ""
        blank = None if start is None else _BLANK_LINE(heads, start.end() - 1)
        if blank is None:  # where llhttp saw the head's end there is none
            return bare or ""
        at = blank.end()
    return bare if bare and _BARE_CR(heads, 0, at) else ""


def _learn(name: bytes) -> int:
    if len(_known_names) >= _KNOWN_LIMIT:
        _known_names.clear()
    kind = _known_names[name] = _KINDS.get(name.lower(), _ORDINARY) if _NAME(name) else _BAD
    return kind
