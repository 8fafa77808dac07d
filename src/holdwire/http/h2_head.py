"""The heads of HTTP/2 messages: the fields of a request, and the status and headers of a response.

Pure. The request was checked against the grammar by ``head.encode_head`` before. Not responsible for compression
(hpack) or for sending (``http2``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hpack import NeverIndexedHeaderTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .messages import Headers, Request

__all__ = ["Malformed", "request_fields", "response_head"]

_CONNECTION_SPECIFIC: Final = frozenset(
    {b"connection", b"host", b"http2-settings", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
"""Not part of an HTTP/2 message (RFC 9113, section 8.2.2); Host becomes ``:authority``."""
_SECRET: Final = frozenset({b"authorization", b"proxy-authorization"})
_SHORT_COOKIE: Final = 20
"""A cookie below this length could be guessed through the compression (RFC 7541, section 7.1.3)."""
_BODILESS: Final = frozenset({204, 304})


class Malformed(Exception):
    """The head of a response is not legal."""


def request_fields(request: Request) -> list[tuple[bytes, bytes]]:
    """The fields of a request in their order on the wire; secrets are marked as never to be indexed."""
    authority = b""
    fields: list[tuple[bytes, bytes]] = []
    for name, value in request.headers:
        lower = name.lower()
        if lower in _CONNECTION_SPECIFIC:
            if lower == b"host":
                authority = value
            continue
        if lower == b"te" and value.lower() != b"trailers":
            continue
        if lower in _SECRET or (lower == b"cookie" and len(value) < _SHORT_COOKIE):
            fields.append(NeverIndexedHeaderTuple(lower, value))
        else:
            fields.append((lower, value))
    scheme = b"https" if request.origin.secure else b"http"
    return [
        (b":method", request.method),
        (b":authority", authority),
        (b":scheme", scheme),
        (b":path", request.target),
        *fields,
    ]


def response_head(fields: Iterable[tuple[bytes, bytes]], *, method: bytes, ended: bool) -> tuple[int, Headers]:
    """Status and headers of a response.

    Args:
        fields: As they were received.
        method: The request's: HEAD has no body, whatever its headers say.
        ended: Whether the head is the end of the response.

    Raises:
        Malformed: There is no status of three digits, or a body was announced and none follows.
    """
    status = 0
    headers: Headers = []
    for name, value in fields:
        if name[:1] != b":":
            headers.append((name, value))
        elif name == b":status" and len(value) == 3 and value.isdigit():
            status = int(value)
    if not status:
        raise Malformed("the response has no legal status")
    if ended and method != b"HEAD" and status not in _BODILESS:
        for name, value in headers:
            if name == b"content-length" and value.strip(b"0"):
                raise Malformed(
                    f"the response ended after its head, but announced {value[:20].decode('latin-1')} bytes"
                )
    return status, headers
