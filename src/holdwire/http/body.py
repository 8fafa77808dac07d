"""``Body``: a response's body, which is read to its end, closed, or fails; once, whatever comes first.

It is its own iterator and no generator: one that is left half read needs no finalizer of the event loop. Once it is
over it refers to nothing: a response of httpx is a cycle, and what hangs on it waits for the garbage collector. Not
responsible for where the pieces come from, or for what its end means to the connection (``http11``, ``h2_stream``).
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Final, Self

from ..errors import ClosedError, HoldwireError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["CLOSED_MESSAGE", "Body"]

CLOSED_MESSAGE: Final = "the response or the client was closed while the request was in progress"


class Body(abc.ABC):
    """See the module; a ``messages.ResponseBody``."""

    __slots__ = ("_done", "_left", "on_end", "translate")

    def __init__(self) -> None:
        self._done = self._left = False
        self.on_end: Callable[[BaseException | None], None] | None = None
        self.translate: Callable[[HoldwireError], Exception] | None = None

    def _here(self) -> bytes | None:
        """The next piece, if it can be had without waiting, else ``b""``; None at the end."""
        return b""

    @abc.abstractmethod
    def _read(self) -> Coroutine[None, None, bytes | None]:
        """The next piece, which may be empty; None at the end."""

    @abc.abstractmethod
    def _finish(self) -> None:
        """It was read to its end or closed."""

    @abc.abstractmethod
    def _fail(self, exc: BaseException) -> None:
        """It could not be read to its end because of ``exc``."""

    def _at_end(self) -> None:
        """The last piece was read."""
        self._end(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._done:
            raise self._over()
        try:
            piece = self._here()
            while piece == b"":
                piece = await self._read()
        except HoldwireError as exc:
            self._end(exc)
            if self.translate is None:
                raise
            raise self.translate(exc) from exc
        except BaseException as exc:
            self._end(exc)
            raise
        if piece is None:
            self._at_end()
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Give the connection back, or end it if the body was not read to its end. May be called again."""
        self._left = self._left or not self._done
        self._end(None)

    def _over(self) -> Exception:
        """What is raised to who goes on reading: half a body that somebody else has closed is not its end."""
        if not self._left:
            return StopAsyncIteration()
        closed = ClosedError(CLOSED_MESSAGE)
        return closed if self.translate is None else self.translate(closed)

    def _end(self, exc: BaseException | None) -> None:
        if self._done:
            return
        self._done = True
        if exc is None:
            self._finish()
        else:
            self._fail(exc)
        told, self.on_end = self.on_end, None
        if told is not None:
            told(exc)
