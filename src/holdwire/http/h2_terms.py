"""``Terms``: what the server allows on one HTTP/2 connection, and whether it still takes streams there.

Not responsible for the streams that are open (``http2``) or for what a GOAWAY does to them (``h2_inbound``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes
from h2.events import RemoteSettingsChanged
from h2.settings import ChangedSetting, SettingCodes

from ..events import CloseReason

if TYPE_CHECKING:
    from h2.events import ConnectionTerminated

    from .h2_memory import Http2Memory
    from .messages import Origin

__all__ = ["Terms"]

STREAMS: Final = 100
"""Concurrent streams where the server sets no limit."""
REFUSALS: Final = 2
"""REFUSED_STREAMs after which a connection takes no more streams."""


class Terms:
    """See the module. ``memory`` is what servers have taught this client before, and is taught here."""

    __slots__ = ("_memory", "_origin", "_refusals", "budget", "goaway", "leaving", "limit", "opened", "settings")

    def __init__(self, memory: Http2Memory, origin: Origin) -> None:
        self._memory = memory
        self._origin = origin
        self.limit = STREAMS
        """Streams at a time."""
        self.settings: RemoteSettingsChanged | None = None
        """The server's first SETTINGS, as h2 would tell it; None before."""
        self.opened = 0
        """Streams that were opened so far."""
        self.budget = memory.requests(origin)
        """How many may be opened before the server says GOAWAY, if it is known to do so."""
        self._refusals = 0
        self.leaving: CloseReason | None = None
        """Why no stream is to be opened any more."""
        self.goaway: ConnectionTerminated | None = None

    @property
    def width(self) -> int:
        """Streams at a time; 0 before the server has said, and never afterwards."""
        if self.settings is None:
            return 0
        return max(self.limit if self.budget is None else min(self.limit, self.budget), 1)

    @property
    def is_over(self) -> bool:
        """Whether no stream is to be opened any more."""
        return self.leaving is not None or (self.budget is not None and self.opened >= self.budget)

    def spare(self, taken: int, reserved: int) -> int:
        """How many streams can be opened beside ``taken`` ones and those that are ``reserved``."""
        spare = (1 if self.settings is None else self.limit) - taken - reserved
        if self.budget is not None:
            spare = min(spare, self.budget - self.opened - reserved)
        return spare

    def leave(self, reason: CloseReason) -> None:
        """Open no more streams."""
        if self.leaving is None:
            self.leaving = reason

    def on_settings(self, changed: dict[int, int]) -> None:
        """SETTINGS arrived."""
        self.limit = changed.get(SettingCodes.MAX_CONCURRENT_STREAMS, self.limit)
        if self.settings is None:
            self.settings = event = RemoteSettingsChanged()
            event.changed_settings = {code: ChangedSetting(code, None, value) for code, value in changed.items()}

    def on_answer(self, index: int) -> None:
        """The stream that was opened as number ``index`` is answered: perhaps more are taken than the last time."""
        if self.budget is not None and index >= self.budget and self.goaway is None:
            self.budget = None
            self._memory.forget_requests(self._origin)

    def refused(self) -> None:
        """A stream was refused: the second time something is wrong with the connection."""
        self._refusals += 1
        if self._refusals >= REFUSALS:
            self.leave(CloseReason.LIMITS)

    def wants_http11(self) -> None:
        """HTTP_1_1_REQUIRED: of a stream or of them all."""
        self._memory.require_http11(self._origin)
        self.leave(CloseReason.LIMITS)

    def on_goaway(self, event: ConnectionTerminated, *, rejects: bool) -> None:
        """GOAWAY, ``rejects`` if streams were on their way that the server will not look at."""
        self.goaway = event
        self.leave(CloseReason.GOAWAY)
        if event.error_code == ErrorCodes.HTTP_1_1_REQUIRED:
            self.wants_http11()
        elif rejects and event.error_code == ErrorCodes.NO_ERROR:
            self._memory.learn_requests(self._origin, ((event.last_stream_id or 0) + 1) // 2)
