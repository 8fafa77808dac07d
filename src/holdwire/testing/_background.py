"""``Background``: an event loop in a thread of its own, whatever loop (or none) the caller runs."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ._chaos import Chaos

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Background"]


class Background(Chaos):
    """A ``Chaos`` that lives in its own thread between ``with`` and its end."""

    _stack = ExitStack()
    _portal: BlockingPortal | None = None

    def _tell(self, command: Callable[[], object]) -> None:
        """Run ``command`` in the thread and wait until it is done.

        Raises:
            RuntimeError: Not started, or stopped.
        """
        if self._portal is None:
            message = f"{type(self).__name__} is not running: use it in a with statement"
            raise RuntimeError(message)
        self._portal.call(command)

    def __enter__(self) -> Self:
        """Start.

        Raises:
            RuntimeError: It runs already.
        """
        if self._portal is not None:
            message = f"{type(self).__name__} runs already"
            raise RuntimeError(message)
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio", {"use_uvloop": False}))
            stack.enter_context(portal.wrap_async_context_manager(self._live()))
            self._portal = portal
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop: connections that still stand are reset."""
        self._portal = None
        self._stack.close()
