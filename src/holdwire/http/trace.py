"""``Traced``: one step of a request told to the caller's trace hook, in httpcore's words.

httpcore names every step ``<prefix>.<event>`` and tells it as ``.started``, then ``.complete`` or ``.failed``, so that
hooks which were written for it tell the same story here. What the hook raises goes into the request. Not responsible
for the objects that the hook is shown: ``transports`` replaces ours by the family's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .messages import Trace

__all__ = ["Traced"]


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
