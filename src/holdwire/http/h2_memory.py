"""``Http2Memory``: what HTTP/2 servers have taught one client, by origin.

Three lessons: PINGs were too many (``policy.pings``), HTTP/1.1 is required, and a connection is ended by GOAWAY after
so many requests. Each is bounded in size. Not responsible for acting on them (``connector``, ``http2``).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeVar

from ..policy.pings import PingMemory

if TYPE_CHECKING:
    from .messages import Origin

__all__ = ["Http2Memory"]

_SIZE: Final = 1024
_Value = TypeVar("_Value")


class Http2Memory:
    """See the module."""

    __slots__ = ("_http11", "_requests", "pings")

    def __init__(self) -> None:
        self.pings = PingMemory(_SIZE)
        self._http11: OrderedDict[Origin, None] = OrderedDict()
        self._requests: OrderedDict[Origin, int] = OrderedDict()

    def require_http11(self, origin: Origin) -> None:
        """``origin`` answered HTTP_1_1_REQUIRED."""
        _remember(self._http11, origin, None)

    def requires_http11(self, origin: Origin) -> bool:
        """Whether ``origin`` is to be spoken to in HTTP/1.1 only."""
        return origin in self._http11

    def learn_requests(self, origin: Origin, count: int) -> None:
        """``origin`` sent a graceful GOAWAY after ``count`` requests, while more were on their way."""
        if count > 0:
            _remember(self._requests, origin, count)

    def forget_requests(self, origin: Origin) -> None:
        """``origin`` has answered more than that."""
        self._requests.pop(origin, None)

    def requests(self, origin: Origin) -> int | None:
        """After how many requests ``origin`` ends a connection; None if nobody knows."""
        return self._requests.get(origin)


def _remember(memory: OrderedDict[Origin, _Value], origin: Origin, value: _Value) -> None:
    memory[origin] = value
    memory.move_to_end(origin)
    if len(memory) > _SIZE:
        memory.popitem(last=False)
