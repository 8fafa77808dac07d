"""Servers for the tests of long-lived connections: in the test's own loop, and as programs that can be frozen."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio
from anyio.streams.buffered import BufferedByteStream
from anyio.streams.tls import TLSListener

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from anyio.abc import ByteStream, SocketStream

    Handler = Callable[[ByteStream], Awaitable[None]]

__all__ = ["echo", "line_server", "serve", "silent"]


@contextlib.asynccontextmanager
async def serve(handler: Handler, *, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncGenerator[int]:
    """A server on 127.0.0.1; yields its port. What breaks a connection ends its handler, and nothing else."""

    async def handle(stream: ByteStream) -> None:
        with contextlib.suppress(
            anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, anyio.IncompleteRead, OSError
        ):
            async with stream:
                await handler(stream)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port, reuse_port=bool(port))
    number = listener.extra(anyio.abc.SocketAttribute.local_port)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon((listener if tls is None else _quiet_tls(listener, tls)).serve, handle)
            yield number
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await listener.aclose()


def _quiet_tls(listener: anyio.abc.Listener[SocketStream], context: ssl.SSLContext) -> TLSListener:
    class Quiet(TLSListener):
        @staticmethod
        async def handle_handshake_error(
            exc: BaseException,  # noqa: ARG004 - a client that hangs up is no news
            stream: anyio.abc.AnyByteStream,
        ) -> None:
            await anyio.aclose_forcefully(stream)

    return Quiet(listener, context, standard_compatible=False)


async def echo(stream: ByteStream) -> None:
    """Send everything back."""
    async for data in stream:
        await stream.send(data)


async def silent(stream: ByteStream) -> None:
    """Read everything, say nothing."""
    async for _ in stream:
        pass


async def line_server(stream: ByteStream) -> None:
    """Answer PING with PONG, line by line."""
    lines = BufferedByteStream(stream)
    while await lines.receive_until(b"\n", 1000) == b"PING":
        await stream.send(b"PONG\n")
