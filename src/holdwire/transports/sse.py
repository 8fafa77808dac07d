"""``sse``: server-sent events over a client of httpx or httpx2, connected again whenever the stream ends.

Theory of operation. No task of its own: everything happens in ``__anext__``. A stream that ends, breaks or falls silent
is followed by another one with ``Last-Event-ID``, after the pause that the server asked for (``retry:``) or the
reconnect policy gives, whichever is longer. Events whose id was delivered from an earlier stream are dropped; on one
stream the server may well give several events the same.

The client's read time-out does not hold here: two limits of our own do (``policy.stream_limit``), since a client cannot
probe such a stream. Not responsible for the format (``sessions.event_stream``), or for dead paths below: a holdwire
transport finds those.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import httpx

from ..errors import ConnectionLost, RemoteProtocolError, failure_of
from ..policy import diagnosis
from ..policy.checks import check_seconds, check_type
from ..policy.kind import Kind
from ..policy.phase import Phase
from ..policy.stream_limit import StreamLimit
from ..retrying import Reconnector, ReconnectPolicy
from ..sessions.event_stream import EventParser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from ..policy.failure import Failure
    from ..sessions.event_stream import ServerSentEvent

__all__ = ["EventSource", "sse"]

_TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_NO_CONTENT: Final = 204
_END: Final = 1.0
"""Seconds that reading from a closed response may take to fail."""
_REMEMBERED: Final = 1000
"""Ids of delivered events."""


class EventSource:
    """See the module; made by ``sse``. ``async with`` it, and iterate.

    ``last_event_id`` is what the next connection begins after; ``connections`` counts the streams that stood.
    """

    def __init__(
        self,
        client: Any,
        url: str,
        *,
        method: str,
        headers: Mapping[str, str] | None,
        request: Mapping[str, Any],
        last_event_id: str,
        limit: StreamLimit,
        reconnect: ReconnectPolicy,
    ) -> None:
        self._client = client
        self._url = url
        self._method = method
        self._headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", **(headers or {})}
        self._request = request
        self._parser = EventParser(last_event_id=last_event_id)
        self._limit = limit
        self._reconnector = Reconnector(reconnect)
        self._ready: deque[ServerSentEvent] = deque()
        self._delivered: deque[str] = deque(maxlen=_REMEMBERED)
        self._earlier: frozenset[str] = frozenset()
        """What had been delivered when the present stream began."""
        self._response: Any = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._opened_at = 0.0
        self._heard = self._moved = False
        self._over = False
        self.connections = 0

    @property
    def last_event_id(self) -> str:
        """The id of the last event that was received."""
        return self._parser.last_event_id

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the stream; nothing more is delivered."""
        self._over = True
        await self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerSentEvent:
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            try:
                if self._chunks is None:
                    await self._open()
                else:
                    await self._read(self._chunks)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._close()
                raise
        event = self._ready.popleft()
        if event.own_id and event.id:
            self._delivered.append(event.id)
        return event

    # --- connecting ---

    async def _open(self) -> None:
        """One attempt, and the pause after it if it fails; a server that is done ends the iteration."""
        try:
            response = await self._send()
        except _transport_errors() as exc:
            if isinstance(exc, _hopeless_errors()):
                raise
            await self._pause(*self._reconnector.attempt_failed(failure_of(exc), exc), exc)
            return
        self._response = response
        status = response.status_code
        if status == _NO_CONTENT:
            await self.aclose()
        elif status in _TRY_AGAIN:
            failure = diagnosis.local(Kind.OTHER, phase=Phase.RESPONSE_WAIT, facts={}, detail=f"status {status}")
            await self._close()
            error = RemoteProtocolError(f"the server answered {status} instead of events", failure=failure)
            await self._pause(*self._reconnector.attempt_failed(failure, error), error)
        else:
            response.raise_for_status()
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if status != 200 or kind != "text/event-stream":
                raise RemoteProtocolError(f"the server answered {status} with {kind or 'no type'}, not with events")
            self._parser.restart()
            self._earlier = frozenset(self._delivered)
            self._chunks = aiter(response.aiter_bytes())
            self._opened_at = time.monotonic()
            self._limit.begin(self._opened_at)
            self._heard = self._moved = False
            self.connections += 1

    async def _send(self) -> Any:
        headers: dict[str, str | bytes] = dict(self._headers)
        if last := self._parser.last_event_id.strip(" \t"):  # which no header's value could begin or end with
            headers["Last-Event-ID"] = last.encode()
        timeout = self._client.timeout
        timeout = type(timeout)(**{**timeout.as_dict(), "read": None})
        request = self._client.build_request(self._method, self._url, headers=headers, timeout=timeout, **self._request)
        with anyio.move_on_after(self._limit.idle):
            return await self._client.send(request, stream=True)
        failure = diagnosis.local(
            Kind.LOCAL_TIMEOUT, phase=Phase.RESPONSE_WAIT, facts={}, detail=f"no answer within {self._limit.idle:g} s"
        )
        raise httpx.ReadTimeout(str(failure)) from ConnectionLost(failure=failure)

    # --- reading ---

    async def _read(self, chunks: AsyncIterator[bytes]) -> None:
        """Take in one chunk; the end of the stream leads to a pause and a new one."""
        failure: Failure | None = None
        error: BaseException | None = None
        chunk: bytes | None = None
        try:
            with anyio.move_on_after(self._limit.left(time.monotonic())) as scope:
                chunk = await anext(chunks, None)
            if scope.cancelled_caught:
                reason = self._limit.reason
                failure = diagnosis.local(Kind.HEARTBEAT_LOST, phase=Phase.RESPONSE_BODY, facts={}, detail=reason)
                error = ConnectionLost(failure=failure)
        except _transport_errors() as exc:
            failure, error = failure_of(exc), exc
        if chunk is not None:
            self._heard = True
            events = self._parser.feed(chunk)
            self._limit.heard(time.monotonic(), events=bool(events))
            self._moved = self._moved or bool(events)
            self._ready.extend(event for event in events if not (event.own_id and event.id in self._earlier))
            return
        with anyio.CancelScope(shield=True):
            await self._close()
        if self._over:  # closed by another task
            return
        pause, stop = self._reconnector.session_ended(
            failure,
            up_for=time.monotonic() - self._opened_at,
            heard=self._moved,
            silent=not self._heard,
        )
        await self._pause(pause, stop, error or ConnectionLost("the server ended the stream of events"))

    async def _pause(self, seconds: float, stop: str | None, error: BaseException) -> None:
        if stop is not None:
            self._over = True
            error.add_note(f"the events have stopped: {stop}")
            raise error
        await self._reconnector.pause(max(seconds, self._parser.retry or 0.0))

    async def _close(self) -> None:
        response, self._response = self._response, None
        chunks, self._chunks = self._chunks, None
        if response is not None:
            await response.aclose()
        if chunks is not None:  # httpx's generators, one within the other, are to end now and not when collected
            with contextlib.suppress(Exception), anyio.move_on_after(_END):
                await anext(chunks)


def sse(
    client: Any,
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    last_event_id: str = "",
    idle: float | None = None,
    progress: float | None = None,
    reconnect: ReconnectPolicy | None = None,
    **request: Any,
) -> EventSource:
    """The events of ``url``: ``async with holdwire.sse(client, url) as events: async for event in events: ...``.

    Args:
        client: An ``AsyncClient`` of httpx or httpx2; with a holdwire transport dead connections are found sooner.
        url: As the client takes it.
        method: Of the request.
        headers: Further headers.
        last_event_id: Begin after this event.
        idle: Seconds of silence after which the stream is given up; by default learnt from the server's pauses,
            90 at most.
        progress: Seconds without an event, comments or not, after which it is given up; None sets no limit.
        reconnect: The pauses, and when to give up; the server's ``retry:`` makes them longer, never shorter.
        request: What ``client.build_request`` takes besides (``params``, ``json``, ...).

    Raises:
        TypeError, ValueError: A setting is wrong.

    Raises (while iterating):
        RemoteProtocolError: The answer is no event stream.
        The client's errors: A status that is final (``HTTPStatusError``), or a failure that cannot get better.
    """
    if reconnect is not None:
        check_type("sse", "reconnect", reconnect, ReconnectPolicy, give="a holdwire.ReconnectPolicy or None")
    for name, limit in (("idle", idle), ("progress", progress)):
        if limit is not None:
            check_seconds("sse", name, limit, least=0.001, hint="None is the default")
    check_type("sse", "headers", headers, (Mapping, NoneType), give="a mapping or None")
    check_type("sse", "last_event_id", last_event_id, str, give="a str")
    if "timeout" in request:
        raise TypeError("sse: timeout is that of the client, but how long the stream may be silent is idle=")
    if not hasattr(client, "build_request") or not hasattr(client, "aclose"):
        raise TypeError(f"sse: client must be an AsyncClient of httpx or httpx2, not {type(client).__name__}")
    return EventSource(
        client,
        url,
        method=method,
        headers=headers,
        request=request,
        last_event_id=last_event_id,
        limit=StreamLimit(idle=idle, progress=progress),
        reconnect=reconnect or ReconnectPolicy(),
    )


def _transport_errors() -> tuple[type[Exception], ...]:
    return tuple(family.TransportError for family in _families())


def _hopeless_errors() -> tuple[type[Exception], ...]:
    """What the caller has to put right, or asked for: wrong arguments, and the pool's time-out."""
    names = ("UnsupportedProtocol", "LocalProtocolError", "PoolTimeout")
    return tuple(getattr(family, name) for family in _families() for name in names)


def _families() -> list[Any]:
    loaded = (sys.modules.get(name) for name in ("httpx", "httpx2"))
    return [family for family in loaded if family is not None]
