"""``connect_websocket``: a client connection of the package websockets over a stream of holdwire.

The connection pings by itself (20 s and 20 s), so give the stream no heartbeat of its own. Needs the package
websockets, 15 or later; asyncio only. Not responsible for connecting again: use ``holdwire.sessions`` around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from ..net.asyncio_view import StreamTransport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import ByteStream

__all__ = ["connect_websocket"]


async def connect_websocket(
    stream: ByteStream, uri: str, *, headers: Mapping[str, str] | None = None, **options: Any
) -> ClientConnection:
    """Shake hands over ``stream``, which belongs to the connection from now on.

    Args:
        stream: Connected to the host of ``uri``, with TLS for ``wss://``.
        uri: The address of the WebSocket.
        headers: Further headers of the handshake.
        options: Those of ``websockets.asyncio.client.ClientConnection`` (``ping_interval``, ``ping_timeout``, ...).

    Raises:
        websockets.exceptions.InvalidHandshake: The server refused.
        ConnectionLost: The stream broke.
    """
    connection = ClientConnection(ClientProtocol(parse_uri(uri)), **options)
    transport = StreamTransport(stream, connection)
    try:
        await connection.handshake(additional_headers=headers)
    except BaseException:
        transport.abort()
        raise
    connection.start_keepalive()
    return connection
