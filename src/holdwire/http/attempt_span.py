"""``AttemptSpans``: one span for each attempt of a request, where the observers want them.

The request takes the span's context, so that everything told of the attempt belongs to it, and carries the span's ids
in its headers. A span ends with its attempt, whatever is told of that later. Not responsible for the spans themselves
(``telemetry.client_spans``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import HoldwireError
from .head import encode_head

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..events import AttemptSpan, SpanMaker
    from .connection import HttpConnection
    from .messages import Request, Response

__all__ = ["AttemptSpans"]


class AttemptSpans:
    """The attempts of one request; to be sent by ``around``."""

    __slots__ = ("_context", "_ended", "_headers", "_maker", "_request", "_span")

    def __init__(self, maker: SpanMaker, request: Request) -> None:
        self._maker = maker
        self._request = request
        self._headers = request.headers
        self._context = request.context
        self._span: AttemptSpan | None = None
        self._ended: int | None = None

    async def around(self, sending: Awaitable[Response]) -> Response:
        """Wait for the answer, and see that the last span ends, whatever happens."""
        self._headers = self._request.headers  # a proxy's are among them by now
        try:
            return await sending
        except HoldwireError as exc:
            if self._ended is None:  # nothing went over the wire
                self.failed(exc)
            raise
        finally:
            self._end()

    def begin(self, number: int) -> None:
        """Start the span of attempt ``number`` of the request, whose head was encoded."""
        self._end()
        request = self._request
        origin = request.origin
        span = self._maker.begin(request.method.decode("ascii"), origin.host, origin.port, number, self._context)
        if span is not None:
            self._span = span
            request.context = span.context
            self._carry(span.headers)

    def failed(self, error: HoldwireError) -> None:
        """The attempt ended in an exception."""
        self._ended = time.time_ns()
        if self._span is not None:
            self._span.failed(error.failure)

    def answered(self, connection: HttpConnection, response: Response) -> None:
        """The head of a response is there."""
        self._ended = time.time_ns()
        if self._span is not None:
            self._span.answered(response.status, connection.http_version, connection.wire.id)

    def _end(self) -> None:
        if self._span is not None:
            self._span.end(self._ended or time.time_ns())
        self._span = self._ended = None

    def _carry(self, more: list[tuple[bytes, bytes]]) -> None:
        """Send ``more`` too, in place of what the caller has set under these names."""
        request = self._request
        names = {name.lower() for name, _ in more}
        request.headers = [*(header for header in self._headers if header[0].lower() not in names), *more]
        request.chunked, request.close, request.content_length = False, False, None
        encode_head(request)
