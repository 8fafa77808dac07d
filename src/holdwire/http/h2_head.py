"""The heads of HTTP/2 messages: the fields of a request, and the status and headers of a response.

Pure. The request was checked against the grammar by ``head.encode_head`` before. Not responsible for compression
(hpack) or for sending (``http2``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hpack import NeverIndexedHeaderTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .messages import Headers, Request

__all__ = ["Malformed", "announced_length", "request_fields", "response_head"]

_CONNECTION_SPECIFIC: Final = frozenset(
    {b"connection", b"host", b"http2-settings", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
"""Not part of an HTTP/2 message (RFC 9113, section 8.2.2); Host becomes ``:authority``."""
_SECRET: Final = frozenset({b"authorization", b"proxy-authorization"})
_SHORT_COOKIE: Final = 20
"""A cookie below this length could be guessed through the compression (RFC 7541, section 7.1.3)."""
_BODILESS: Final = frozenset({204, 304})
_LENGTH_LIMIT: Final = 20


class Malformed(Exception):
    """A response is not legal."""


def request_fields(request: Request) -> list[tuple[bytes, bytes]]:
    """The fields of a request in their order on the wire; secrets are marked as never to be indexed."""
    fields: list[tuple[bytes, bytes]] = [
        (b":method", request.method),
        (b":authority", b""),
        (b":scheme", b"https" if request.origin.secure else b"http"),
        (b":path", request.target),
    ]
    for name, value in request.headers:
        lower = name.lower()
        if lower in _CONNECTION_SPECIFIC:
            if lower == b"host":
                fields[1] = (b":authority", value)
        elif lower in _SECRET or (lower == b"cookie" and len(value) < _SHORT_COOKIE):
            fields.append(NeverIndexedHeaderTuple(lower, value))
        elif lower != b"te" or value.lower() == b"trailers":
            fields.append((lower, value))
    return fields


def response_head(fields: Sequence[tuple[bytes, bytes]]) -> tuple[int, Headers]:
    """Status and headers of a response, interim ones included.

    Raises:
        Malformed: There is no status of three digits, or a field holds what none may hold.
    """
    status = 0
    headers: Headers = []
    for name, value in fields:
        if name[:1] != b":":
            headers.append((name, value))
        elif name == b":status" and len(value) == 3 and value.isdigit():
            status = int(value)
    if status < 100:
        raise Malformed("the response has no legal status")
    content = b"".join([part for header in headers for part in header])
    if b"\n" in content or b"\r" in content or b"\0" in content:
        raise Malformed("a header field of the response holds a line break or NUL")
    return status, headers


def announced_length(headers: Headers, *, method: bytes, status: int) -> int | None:
    """The length of the body that a response's head announces, None if it does not.

    Raises:
        Malformed: It is no number, or there are two different ones.
    """
    if method == b"HEAD" or status in _BODILESS:
        return None
    announced: int | None = None
    for name, value in headers:
        if name == b"content-length":
            if not value.isdigit() or len(value) > _LENGTH_LIMIT or announced not in {None, int(value)}:
                raise Malformed("the content-length of the response is not legal")
            announced = int(value)
    return announced
