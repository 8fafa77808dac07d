"""What the tests of HTTP/2 share: a client that is watched, and handlers that misbehave a number of times."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import httpx

import holdwire
from holdwire.events import ConnectionSetUp, HeartbeatAnswered, HeartbeatMissed
from holdwire.http.http2 import Http2Connection
from tests.seen import Seen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.http2.server import Connection, Handler, Received

__all__ = ["Watch", "client_of", "connections_of", "misbehaving"]


class Watch(Seen):
    """Everything that was told, sorted."""

    @property
    def kinds(self) -> list[str]:
        return [str(failure.kind) for failure in self.failures]

    @property
    def opened(self) -> int:
        return sum(isinstance(event, ConnectionSetUp) and event.connection_id is not None for event in self.events)

    @property
    def ends(self) -> list[str]:
        return [str(event.reason) for event in self.closed]

    @property
    def beats(self) -> list[HeartbeatAnswered | HeartbeatMissed]:
        return [event for event in self.events if isinstance(event, HeartbeatAnswered | HeartbeatMissed)]


@contextlib.asynccontextmanager
async def client_of(watch: Watch | None = None, **options: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """A client that speaks HTTP/2 with prior knowledge unless ``options`` say otherwise."""
    timeout = options.pop("timeout", 20)
    given: dict[str, Any] = {"http1": False, "http2": True, "verify": False} | options
    transport = holdwire.ResilientTransport(**given, observers=[] if watch is None else [watch])
    async with httpx.AsyncClient(transport=transport, timeout=timeout) as client:
        yield client


def connections_of(client: httpx.AsyncClient) -> list[Http2Connection]:
    """The HTTP/2 connections of a client, for a look inside."""
    transport: Any = client._transport
    return [
        connection
        for pool in transport._client.pools
        for connection in pool.connections
        if isinstance(connection, Http2Connection)
    ]


def misbehaving(*handlers: Handler) -> Handler:
    """One handler for each of the first requests; the rest are answered."""
    left = list(handlers)

    async def handle(connection: Connection, request: Received) -> None:
        if left:
            await left.pop(0)(connection, request)
        else:
            await connection.answer(request)

    return handle
