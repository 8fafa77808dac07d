"""``Promises``: connections that are kept for requests which are about to ask for one.

Invariants: one is kept for a second at most and then given back, so that others get it if its request does not come;
one that has ended meanwhile, or takes no more, is not handed out.
Not responsible for opening them, or for when one is wanted (``path_watch``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..net.runtime import Runtime
    from .connection import HttpConnection
    from .messages import Request

__all__ = ["Promises"]

_KEPT: Final = 1.0
"""Seconds that a connection is kept."""


class Promises(dict["Request", "HttpConnection"]):
    """See the module: a dictionary, so that to see that there are none costs a request no call.

    ``give_back`` takes those whose request has not come; it must not keep the pool alive, for timers know it.
    """

    __slots__ = ("_give_back", "_runtime")

    def __init__(self, runtime: Runtime, give_back: Callable[[HttpConnection], None]) -> None:
        super().__init__()
        self._runtime = runtime
        self._give_back = give_back

    def keep(self, connection: HttpConnection, request: Request) -> None:
        """Keep ``connection`` for ``request``."""
        self[request] = connection
        self._runtime.call_later(_KEPT, partial(self._lapse, request))

    def take(self, request: Request) -> HttpConnection | None:
        """What is kept for ``request``; None if there is nothing, or it takes no more."""
        promised = self.pop(request, None)
        if promised is None or promised.honours_reservation:
            return promised
        promised.release()
        return None

    def _lapse(self, request: Request) -> None:
        connection = self.pop(request, None)
        if connection is not None:
            self._give_back(connection)
