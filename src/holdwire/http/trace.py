"""``Traced``: one step of a request told to the caller's trace hook, in httpcore's words.

httpcore names every step ``<prefix>.<event>`` and tells it as ``.started``, then ``.complete`` or ``.failed``, so that
hooks which were written for it tell the same story here. What the hook raises goes into the request. Not responsible
for the objects that the hook is shown: ``transports`` replaces ours by the family's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from .messages import Request, ResponseBody, Trace

__all__ = ["Traced", "TracedBody", "tell_closed"]


class Traced:
    """``async with Traced(hook, name, info) as step``; ``step.result`` is what ``.complete`` tells.

    Nothing happens, and nothing is awaited, where the hook is None.
    """

    __slots__ = ("_hook", "_info", "_name", "result")

    def __init__(self, hook: Trace | None, name: str, info: dict[str, Any] | None = None) -> None:
        self._hook = hook
        self._name = name
        self._info = info or {}
        self.result: Any = None

    async def __aenter__(self) -> Self:
        if self._hook is not None:
            await self._hook(f"{self._name}.started", self._info)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._hook is None:
            return
        if exc is None:
            await self._hook(f"{self._name}.complete", {"return_value": self.result})
        else:
            await self._hook(f"{self._name}.failed", {"exception": exc})


async def tell_closed(
    hook: Trace, exc: BaseException | None = None, *, protocol: str = "http11", info: dict[str, Any] | None = None
) -> None:
    """Tell that the response is done with; after ``exc``, which may be a cancellation, nothing may cut that short."""
    with anyio.CancelScope(shield=exc is not None):
        async with Traced(hook, f"{protocol}.response_closed", info):
            pass


class TracedBody:
    """A body whose reading and end are told; in everything else it is ``body``.

    On HTTP/2 a ``stream_id`` is told with it.
    """

    __slots__ = ("_body", "_closed", "_hook", "_over", "_pieces", "_protocol", "_request", "_step", "_stream")

    def __init__(
        self,
        body: ResponseBody,
        request: Request,
        hook: Trace,
        *,
        protocol: str = "http11",
        stream_id: int | None = None,
    ) -> None:
        self._body = body
        self._pieces = aiter(body)
        self._step: Traced | None = None
        self._over = False
        self._hook = hook
        self._request = request
        self._protocol = protocol
        self._stream = {} if stream_id is None else {"stream_id": stream_id}
        self._closed = False

    @property
    def on_end(self) -> Callable[[BaseException | None], None] | None:
        """See ``ResponseBody``."""
        return self._body.on_end

    @on_end.setter
    def on_end(self, told: Callable[[BaseException | None], None] | None) -> None:
        self._body.on_end = told

    def __aiter__(self) -> TracedBody:
        return self

    async def __anext__(self) -> bytes:
        step = self._step
        if step is None:
            info = {"request": self._request, **self._stream}
            step = self._step = Traced(self._hook, f"{self._protocol}.receive_response_body", info)
            await step.__aenter__()
        if self._over:
            raise StopAsyncIteration
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            self._over = True
            await step.__aexit__(None, None, None)
            raise
        except BaseException as exc:
            self._over = True
            with anyio.CancelScope(shield=True):
                await step.__aexit__(type(exc), exc, None)
            await self._close(exc)
            raise

    async def aclose(self) -> None:
        """Close the body, and tell so once."""
        await self._body.aclose()
        await self._close()

    async def _close(self, exc: BaseException | None = None) -> None:
        if not self._closed:
            self._closed = True
            await tell_closed(self._hook, exc, protocol=self._protocol, info=self._stream)
