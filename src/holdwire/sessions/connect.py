"""``connect``: one connection, as an anyio byte stream; to be awaited, or entered with ``async with``.

Not responsible for what happens on the stream (``stream``) or for coming back after its end (``sessions``).
"""

from __future__ import annotations

from contextvars import copy_context
from types import NoneType
from typing import TYPE_CHECKING

from ..errors import HoldwireError
from ..events import tell_setup
from ..policy.checks import check_seconds, check_type
from ..policy.settings import Heartbeat
from .heartbeat import NO_PROBE
from .opener import Opener
from .stream import Stream
from .target import Target

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator, Iterable, Sequence
    from types import TracebackType

    from ..events import Observer
    from ..net.keepalive import SocketOption
    from ..policy.profiles import Profile
    from ..tls.engine import Truncation
    from .opener import KeepaliveSetting, Passage

__all__ = ["Connecting", "connect"]


class Connecting:
    """What ``connect`` returns: nothing has happened yet."""

    def __init__(self, opener: Opener, heartbeat: Heartbeat | None, timeout: float | None) -> None:
        self.opener = opener
        self.heartbeat = heartbeat
        self.timeout = timeout
        self._stream: Stream | None = None

    def __await__(self) -> Generator[None, None, Stream]:
        return self._open().__await__()

    async def _open(self) -> Stream:
        opener = self.opener
        try:
            wire = await opener.open(self.timeout)
        except HoldwireError as exc:
            if exc.setup is not None:
                tell_setup(exc.setup, opener.notify, final=True)
            raise
        return Stream(
            wire,
            notify=opener.notify,
            keepalive=opener.keepalive,
            heartbeat=self.heartbeat,
            context=copy_context(),
            memory=opener.memory,
        )

    async def __aenter__(self) -> Stream:
        self._stream = await self._open()
        return self._stream

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stream is not None:
            await self._stream.aclose()


def connect(
    url: str | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    tls: ssl.SSLContext | bool | None = None,
    server_hostname: str | None = None,
    alpn: Sequence[str] = (),
    tls_truncation: Truncation = "error",
    resume: bool = True,
    profile: str | Profile = "default",
    keepalive: KeepaliveSetting = "profile",
    heartbeat: Heartbeat | None = None,
    proxy: Passage | None = None,
    connect_timeout: float | None = 20.0,
    local_address: str | None = None,
    socket_options: Iterable[SocketOption] = (),
    observers: Iterable[Observer] = (),
) -> Connecting:
    """Connect to a server: ``await`` it for the stream, or use it with ``async with``.

    Args:
        url: ``tcp://host:port``, ``tls://host:port`` or ``unix:///path``.
        host: With ``port`` instead of a URL.
        port: See ``host``.
        tls: True for TLS with the system's authorities, or a context of your own.
        server_hostname: The name that the certificate must be good for, if it is not the host.
        alpn: The protocols to offer by ALPN, best first.
        tls_truncation: What an end without close_notify is: ``error``, or ``accept`` for an end like any other.
        resume: Whether to resume TLS sessions of earlier connections.
        profile: What is known about the path; sets ``keepalive``.
        keepalive: TCP keepalive; None for the system's defaults.
        heartbeat: Probes that find a dead peer; one of ``holdwire.probes``, or your own ``Heartbeat``.
        proxy: A ``holdwire.Tunnel``: the way goes through an HTTP or SOCKS5 proxy.
        connect_timeout: Seconds for all of name resolution, connecting and TLS; None sets no limit.
        local_address: Our own address.
        socket_options: As httpx's; they win over ``keepalive``.
        observers: Who else is told of events.

    Raises (when awaited or entered):
        ConnectFailed, ProxyError: No connection came about.
        DeadlineExceeded: None within ``connect_timeout``.

    Raises:
        UnsupportedProtocol, ValueError, TypeError: An argument is wrong.
    """
    opener = Opener(
        Target.of(url, host=host, port=port),
        tls=tls,
        server_hostname=server_hostname,
        alpn=alpn,
        tls_truncation=tls_truncation,
        resume=resume,
        profile=profile,
        keepalive=keepalive,
        proxy=proxy,
        local_address=local_address,
        socket_options=socket_options,
        observers=observers,
    )
    check_type("connect", "heartbeat", heartbeat, (Heartbeat, NoneType), give="a holdwire.Heartbeat or None")
    if connect_timeout is not None:
        check_seconds("connect", "connect_timeout", connect_timeout, least=0.001, hint="None sets no limit")
    if heartbeat is not None and heartbeat.probe is None:
        raise ValueError(NO_PROBE)
    return Connecting(opener, heartbeat, connect_timeout)
