"""``EventParser``: bytes of ``text/event-stream`` in, events out (WHATWG, server-sent events). No I/O.

An event that is cut by the end of the stream is dropped, as the standard says. Not responsible for connections, or for
dropping what was delivered before.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from ..errors import RemoteProtocolError

__all__ = ["EventParser", "ServerSentEvent"]

_MAX_SIZE: Final = 16 * 1024 * 1024
_MILLISECONDS: Final = re.compile(r"[0-9]{1,15}").fullmatch
"""More digits are no pause that anybody could mean."""
_LINE_END: Final = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSentEvent:
    """One event. ``id`` is the last id that the server gave; ``own_id`` tells whether it came with this very event."""

    event: str = "message"
    data: str = ""
    id: str = ""
    own_id: bool = False

    def json(self) -> Any:  # noqa: ANN401 - whatever the server sent
        """``data`` as JSON."""
        return json.loads(self.data)


class EventParser:
    """See the module.

    Args:
        last_event_id: The id to begin with.
        max_size: Characters that one event may have at most.
    """

    def __init__(self, *, last_event_id: str = "", max_size: int = _MAX_SIZE) -> None:
        self.last_event_id = last_event_id
        self.retry: float | None = None
        """What the server says to wait before reconnecting, in seconds."""
        self._max_size = max_size
        self.restart()

    def restart(self) -> None:
        """A new connection: forget the event that was cut; the last id stays."""
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._held = ""
        self._begun = io.StringIO()
        """The line that has not ended yet, which is not looked through again."""
        self._event = ""
        self._id = self.last_event_id
        self._own_id = False
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that ``data`` completes.

        Raises:
            RemoteProtocolError: An event is too large.
        """
        text = self._held + self._decode(data)
        self._held = ""
        if text.endswith("\r"):  # a line feed may follow, and is then part of this line's end
            text, self._held = text[:-1], "\r"
        first, *lines = _LINE_END.split(text)
        self._begun.write(first)
        events: list[ServerSentEvent] = []
        if lines:
            *lines, rest = self._begun.getvalue(), *lines
            self._begun = io.StringIO()
            self._begun.write(rest)
            events = [event for line in lines if (event := self._line(line)) is not None]
        if self._size + self._begun.tell() > self._max_size:
            raise RemoteProtocolError(f"a server-sent event is larger than {self._max_size} characters")
        return events

    def _line(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
                self._size += len(value) + 1
            case "id" if "\0" not in value:
                self._id = value
                self._own_id = True
            case "retry" if _MILLISECONDS(value):
                self.retry = int(value) / 1000
            case _:  # a comment, or what the standard says to ignore
                pass
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        self.last_event_id = self._id
        name, data, own_id = self._event, self._data, self._own_id
        self._event, self._data, self._own_id, self._size = "", [], False, 0
        if not data:
            return None
        return ServerSentEvent(event=name or "message", data="\n".join(data), id=self._id, own_id=own_id)
