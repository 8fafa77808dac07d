"""``Connection``: redis-py's asyncio connection over a stream of holdwire; give it as ``connection_class`` of a pool.

redis-py keeps owning its connections: it pools them and connects them anew. What it gets are streams with keepalive,
errors with their ``Failure``, and a ``heartbeat`` where it has none: while it listens for messages. Needs the package
redis; asyncio only. Not responsible for commands: on a connection for them a heartbeat's answer would be taken for
theirs.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio.connection import Connection as RedisConnection

from ..net.asyncio_view import asyncio_streams
from ..policy.settings import Heartbeat
from .connect import connect

if TYPE_CHECKING:
    from ..policy.settings import Sender
    from .sessions import StreamOptions

__all__ = ["Connection", "heartbeat"]


_MESSAGE: Final = b"redis-py-health-check"
"""What redis-py sends and skips itself, in RESP2 and RESP3."""
_NEVER: Final = 10**9
_LISTENING: Final = frozenset({"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"})


def heartbeat(*, interval: float = 30.0, timeout: float = 20.0) -> Heartbeat:
    """For connections of ``PubSub``: a PING whose answer redis-py's ``PubSub`` skips."""
    return Heartbeat(
        interval=interval,
        timeout=timeout,
        probe=b"*2\r\n$4\r\nPING\r\n$%d\r\n%s\r\n" % (len(_MESSAGE), _MESSAGE),
        is_reply=lambda data: _MESSAGE in data or None,
    )


class Connection(RedisConnection):
    """See the module.

    Args:
        heartbeat: For connections that listen: ``heartbeat()``, or None.
        stream: Further arguments of ``holdwire.connect``, such as ``tls`` or ``profile``.
        options: redis-py's own.
    """

    def __init__(
        self, *, heartbeat: Heartbeat | None = None, stream: StreamOptions | None = None, **options: Any
    ) -> None:
        if heartbeat is not None:  # it makes PubSub skip the answers; redis-py itself is to ask nothing
            options.setdefault("health_check_interval", _NEVER)
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType] - redis-py's types
        self._listens = False
        self._probe = None if heartbeat is None else heartbeat.probe
        self._stream_options: StreamOptions = {
            "connect_timeout": self.socket_connect_timeout,
            **(stream or {}),
            "host": self.host,
            "port": int(self.port),
            "heartbeat": None if heartbeat is None else dataclasses.replace(heartbeat, probe=self._ask),
        }

    async def _ask(self, stream: Sender) -> None:
        """Send the probe, but not before redis-py has greeted and subscribed: there it counts the answers."""
        probe = self._probe
        if probe is None or not self._listens:
            return
        if isinstance(probe, bytes):
            await stream.send(probe)
        else:
            await probe(stream)

    async def send_command(self, *args: Any, **kwargs: Any) -> None:
        await super().send_command(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType] - redis-py's types
        self._listens = self._listens or str(args[0]).upper() in _LISTENING

    async def _connect(self) -> None:
        self._listens = False
        self._reader, self._writer = asyncio_streams(await connect(**self._stream_options))
