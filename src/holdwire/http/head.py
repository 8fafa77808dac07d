"""The head of an HTTP/1.1 request: checked against the grammar, then encoded, once for all attempts.

Pure. A request that is not legal raises LocalProtocolError before anything is sent, so that no header can smuggle
another one (RFC 9110, section 5.5; RFC 9112, sections 3 and 6). Not responsible for sending (``http11``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..errors import LocalProtocolError

if TYPE_CHECKING:
    from .messages import Request

__all__ = ["encode_head"]

_TOKEN: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+").fullmatch
_VALUE: Final = re.compile(rb"(?:[^\x00\s]+(?:[ \t]+[^\x00\s]+)*)?").fullmatch
_TARGET: Final = re.compile(rb"[\x21-\x7e]+").fullmatch
_DIGITS: Final = re.compile(rb"[0-9]{1,20}").fullmatch
_FRAMING: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})
_PRIVATE: Final = frozenset({b"authorization", b"proxy-authorization", b"cookie"})
_KNOWN_LIMIT: Final = 1024
_SHORT: Final = 128
_SHORT_BLOCK: Final = 1024

_known_lines: dict[tuple[bytes, bytes], bytes] = {}
"""Short headers that were checked before, say nothing about framing and are no secrets: the same few come each time."""

_known_blocks: dict[tuple[tuple[bytes, bytes], ...], tuple[bytes, int | None]] = {}
"""The same for all headers of a request together, where they are such lines, a Host and perhaps a Content-Length, which
stands beside them."""


def encode_head(request: Request) -> None:
    """Check the request's head and put its bytes and framing on the request.

    Raises:
        LocalProtocolError: Method, target, a header or the framing is not legal. The message names what.
    """
    if not _TOKEN(request.method):
        raise LocalProtocolError(f"Illegal method characters: {request.method!r}")
    if not _TARGET(request.target):
        raise LocalProtocolError("Illegal target characters: a target is printable ASCII without spaces")
    headers = tuple(request.headers)
    known = _known_blocks.get(headers)
    if known is None:
        block = _encode_block(request, headers)
    else:
        block, request.content_length = known
    if request.chunked:
        if request.content_length is not None:
            _leave_out_length(request)
            return
    elif isinstance(request.body, bytes) and len(request.body) != (request.content_length or 0):
        raise LocalProtocolError(length_message(len(request.body), request.content_length or 0))
    request.head = b"%b %b HTTP/1.1\r\n%b" % (request.method, request.target, block)


def _leave_out_length(request: Request) -> None:
    """Encode the head without its Content-Length, which clients add where the caller has set Transfer-Encoding alone.

    Both together are not legal (RFC 9112, section 6.2).

    Raises:
        LocalProtocolError: It is not the length of this body.
    """
    if not isinstance(request.body, bytes) or len(request.body) != request.content_length:
        raise LocalProtocolError("Content-Length and Transfer-Encoding together are not legal; give one of them")
    request.headers = [header for header in request.headers if header[0].lower() != b"content-length"]
    request.chunked, request.content_length = False, None
    encode_head(request)


def _encode_block(request: Request, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Everything behind the request line, checked; remembered where it may be."""
    hosts = unknown = 0
    lines: list[bytes] = []
    for header in headers:
        line = _known_lines.get(header)
        if line is None:
            line = _encode(request, header)
            if header not in _known_lines:
                unknown += 1
                if line[:5].lower() == b"host:":  # comes first wherever the caller has put it: some servers insist
                    hosts += 1
                    lines.insert(0, line)
                    continue
        lines.append(line)
    if hosts != 1:
        raise LocalProtocolError(
            "Missing mandatory Host: header" if not hosts else f"Found {hosts} Host: headers; exactly one is legal"
        )
    lines.append(b"\r\n")
    block = b"".join(lines)
    length = request.content_length
    # beside what is known they are the Host and a length: nothing else about the framing, and no secret
    if unknown == 1 + (length is not None) and len(block) <= _SHORT_BLOCK:
        if len(_known_blocks) >= _KNOWN_LIMIT:
            _known_blocks.clear()
        _known_blocks[headers] = block, length
    return block


def length_message(sent: int, declared: int) -> str:
    """What is wrong with a body of ``sent`` bytes where ``declared`` were announced."""
    if sent > declared:
        return f"Too much data for declared Content-Length ({sent} bytes or more, {declared} declared)"
    return f"Too little data for declared Content-Length ({sent} bytes, {declared} declared)"


def _note_framing(request: Request, name: bytes, value: bytes) -> None:
    """Take note of a header that decides about framing or the connection."""
    if name == b"content-length":
        if not _DIGITS(value):
            raise LocalProtocolError(f"Illegal Content-Length: {_shown(value)}")
        length = int(value)
        if request.content_length is not None and request.content_length != length:
            raise LocalProtocolError("Conflicting Content-Length headers")
        request.content_length = length
    elif name == b"transfer-encoding":
        if value.strip().lower() != b"chunked" or request.chunked:
            raise LocalProtocolError("Transfer-Encoding other than one 'chunked' is not supported in requests")
        request.chunked = True
    elif name == b"connection":
        request.close = request.close or b"close" in [token.strip() for token in value.lower().split(b",")]


def _encode(request: Request, header: tuple[bytes, bytes]) -> bytes:
    """The line of ``header``, checked; remembered where it may be."""
    name, value = header
    if not _TOKEN(name):
        raise LocalProtocolError(f"Illegal header name: {_shown(name)}")
    if not _VALUE(value):
        raise LocalProtocolError(f"Illegal header value of {name.decode('ascii')!r}: {_shown(value)}")
    line = b"%b: %b\r\n" % (name, value)
    lower = name.lower()
    if lower in _FRAMING and not (lower == b"connection" and b"close" not in value.lower()):
        _note_framing(request, lower, value)
    elif len(line) <= _SHORT and lower not in _PRIVATE:
        if len(_known_lines) >= _KNOWN_LIMIT:
            _known_lines.clear()
        _known_lines[header] = line
    return line


def _shown(raw: bytes) -> str:
    """Only what is wrong, never the value: it may be a credential."""
    bad = sorted({bytes([byte]) for byte in raw if byte in b"\x00\r\n\x0b\x0c"})
    if bad:
        return "it contains " + ", ".join(repr(byte) for byte in bad)
    return "it is empty, or starts or ends with white space" if raw.strip() != raw or not raw else "illegal characters"
