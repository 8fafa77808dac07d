"""``Body``: a response's body, which is read to its end, closed, or fails; once, whatever comes first.

It is its own iterator and no generator: one that is left half read needs no finalizer of the event loop. Once it is
over it refers to nothing: a response of httpx is a cycle, and what hangs on it waits for the garbage collector. Not
responsible for where the pieces come from, or for what its end means to the connection (``Source``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from ..errors import ClosedError, HoldwireError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["CLOSED_MESSAGE", "Body", "Source"]

CLOSED_MESSAGE: Final = "the response or the client was closed while the request was in progress"


class Source(Protocol):
    """Where a body comes from: a connection, or a stream of one that has many."""

    @property
    def upgraded(self) -> bool:
        """Whether the connection belongs to another protocol until it is closed, though the body has ended."""
        ...

    def take_body(self) -> bytes | None:
        """The next piece, if it can be had without waiting, else ``b""``; None at the end."""
        ...

    def read_body(self) -> Coroutine[Any, Any, bytes | None]:
        """The next piece, which may be empty; None at the end."""
        ...

    def finish(self) -> None:
        """The body was read to its end or closed."""
        ...

    def fail(self, exc: BaseException) -> None:
        """The body could not be read to its end because of ``exc``."""
        ...


class Body:
    """See the module; a ``messages.ResponseBody``."""

    __slots__ = ("_done", "_left", "_source", "on_end")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._done = self._left = False
        self.on_end: Callable[[BaseException | None], None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._done:
            raise self._over()
        source = self._source
        try:
            piece = source.take_body()
            while piece == b"":
                piece = await source.read_body()
        except HoldwireError as exc:
            self._end(exc)
            translated = self.translate(exc)
            if translated is exc:
                raise
            raise translated from exc
        except BaseException as exc:
            self._end(exc)
            raise
        if piece is None:
            if not source.upgraded:
                self._end(None)
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Give the connection back, or end it if the body was not read to its end. May be called again."""
        if not self._done:
            self._left = True
            self._end(None)

    def translate(self, exc: HoldwireError) -> Exception:
        """The exception that the reader sees of ours: ours, or one that a subclass makes of it."""
        return exc

    def _over(self) -> Exception:
        """What is raised to who goes on reading: half a body that somebody else has closed is not its end."""
        if not self._left:
            return StopAsyncIteration()
        return self.translate(ClosedError(CLOSED_MESSAGE))

    def _end(self, exc: BaseException | None) -> None:
        if self._done:
            return
        self._done = True
        if exc is None:
            self._source.finish()
        else:
            self._source.fail(exc)
        told, self.on_end = self.on_end, None
        if told is not None:
            told(exc)
