"""``traced_exchange``: an exchange on one HTTP/2 stream that is told step by step, by httpcore's names of events.

Not responsible for the exchange itself (``http2``), nor for the body of the response (``trace``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .trace import Traced, tell_closed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..net.runtime import Runtime
    from .h2_stream import Http2Stream
    from .h2_terms import Terms
    from .messages import Trace

__all__ = ["traced_exchange"]


async def traced_exchange(
    stream: Http2Stream,
    hook: Trace,
    send_body: Callable[[Http2Stream], Awaitable[None]],
    terms: Terms,
    runtime: Runtime,
) -> None:
    """Send the body and receive the head of the response; the request's own head is on its way.

    Raises: whatever a step raises, and whatever the hook does.
    """
    request = stream.attempt.request
    info = {"request": request, "stream_id": stream.id}
    first = stream.index == 1
    try:
        if first:
            async with Traced(hook, "http2.send_connection_init", {"request": request}):
                pass
        async with Traced(hook, "http2.send_request_headers", info):
            pass
        async with Traced(hook, "http2.send_request_body", info):
            await send_body(stream)
        async with Traced(hook, "http2.receive_response_headers", info) as step:
            await stream.receive_head(runtime)
            step.result = stream.status, stream.headers
        if first:
            async with Traced(hook, "http2.receive_remote_settings") as step:
                step.result = terms.settings
    except BaseException as exc:
        await tell_closed(hook, exc, protocol="http2", info={"stream_id": stream.id})
        raise
