"""``traced_exchange``: an exchange on one HTTP/2 stream that is told step by step, by httpcore's names of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..net.runtime import Runtime
    from .h2_stream import Http2Stream
    from .h2_terms import Terms

__all__ = ["traced_exchange"]


async def traced_exchange(
    stream: Http2Stream, send_body: Callable[[Http2Stream], Awaitable[None]], terms: Terms, runtime: Runtime
) -> None:
    """Send the body and receive the head of the response; the request's own head is on its way.

    Raises: whatever a step raises.
    """
    request = stream.attempt.request
    trace = request.trace
    assert trace is not None  # noqa: S101 - the caller has looked
    info = {"request": request, "stream_id": stream.id}
    first = stream.index == 1

    async def send_head() -> None:
        """It is on its way: writing does not wait."""

    async def receive_head() -> tuple[int, object]:
        await stream.receive_head(runtime)
        return stream.status, stream.headers

    if first:
        await trace("http2.send_connection_init.started", {"request": request})
        await trace("http2.send_connection_init.complete", {"return_value": None})
    for name, step in (
        ("http2.send_request_headers", send_head),
        ("http2.send_request_body", lambda: send_body(stream)),
        ("http2.receive_response_headers", receive_head),
    ):
        await trace(f"{name}.started", dict(info))
        try:
            result = await step()
        except BaseException as exc:
            await trace(f"{name}.failed", {"exception": exc})
            raise
        await trace(f"{name}.complete", {"return_value": result})
        if first and terms.settings is not None:
            first = False
            await trace("http2.receive_remote_settings.started", {})
            await trace("http2.receive_remote_settings.complete", {"return_value": terms.settings})
