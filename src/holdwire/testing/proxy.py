"""``ChaosProxy``: sits between any client and any server, passes bytes on, and misbehaves by script.

::

    async with ChaosProxy(("127.0.0.1", 6379)) as proxy:  # in the caller's event loop, asyncio or trio
        proxy.script("response:100 rst")
        await connect(*proxy.address)

    with BlockingChaosProxy(("127.0.0.1", 6379)) as proxy:  # in a thread of its own
        ...

Bytes are passed through as they are, TLS included; with ``tls=`` the proxy ends the client's TLS, and with
``target_tls=`` it speaks TLS to the server. Scripts count the bytes that it sees, from the beginning of the
connection: it knows nothing of exchanges, so that ``#n`` is refused. ``idle:N`` is N seconds without a byte in either
direction after the first one; the commands for idle connections mean those on which the server spoke last. What ends
one side ends the other side in the same manner. With ``http2=True`` scripts may say ``frame``: what the server says to
a client of HTTP/2 is then cut into frames. Not responsible for the meaning of faults (``_faulty``).
"""

from __future__ import annotations

import ssl
from contextlib import AsyncExitStack
from types import NoneType
from typing import TYPE_CHECKING, Self, cast, final

import anyio

from ..policy.checks import check_type
from ._background import Background
from ._chaos import Chaos, Connection
from ._faulty_frames import FaultyFrames
from ._frames import PREFACE, FrameCutter, Kind
from ._link import Link, LinkEnded
from .faults import Action, Point, Script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from ._faulty import FaultyLink
    from .certificates import Identity

__all__ = ["BlockingChaosProxy", "ChaosProxy"]


class _Relay(Chaos):
    """What both proxies do on a connection."""

    def __init__(
        self,
        target: tuple[str, int],
        *,
        tls: bool | Identity | ssl.SSLContext = False,
        target_tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        buffer: int | None = None,
        http2: bool = False,
    ) -> None:
        super().__init__(tls=tls, host=host, port=port, seed=seed, buffer=buffer, http2=http2)
        owner, place = type(self).__name__, cast("object", target)
        parts = cast("tuple[object, ...]", place) if isinstance(place, tuple) else ()
        if len(parts) != 2 or not isinstance(parts[0], str) or not isinstance(parts[1], int):
            raise TypeError(f"{owner}: target must be host and port, ('localhost', 6379), not {target!r:.60}")
        check_type(owner, "target_tls", target_tls, (ssl.SSLContext, NoneType), give="an ssl.SSLContext or None")
        self._target = target
        self._target_tls = target_tls

    def _check(self, script: Script) -> Script:
        for fault in super()._check(script):
            if fault.nth is not None:
                message = f"a proxy knows nothing of exchanges: leave out the #{fault.nth} of {str(fault)!r}"
                raise ValueError(message)
            if fault.point is Point.HANDSHAKE and self._context is None:
                message = f"{str(fault)!r} needs a proxy that ends TLS: give tls=True, or use response:0"
                raise ValueError(message)
            if fault.action is Action.RST_STREAM:
                message = (
                    f"{str(fault)!r} cannot be done by a proxy, which tells no answer from another: use ChaosServer"
                )
                raise ValueError(message)
            if fault.point is Point.IDLE and fault.action is Action.STALL:
                message = f"{str(fault)!r} cannot be done by a proxy: use idle black_hole"
                raise ValueError(message)
        return script

    async def _talk(self, connection: Connection) -> None:
        faulty = connection.faulty
        await faulty.connected()
        upstream: Link | None = None
        try:
            upstream = await Link.dial(*self._target, self._target_tls)
            await upstream.handshake()
            await faulty.handshake()
            faulty.begin()
            await _Pumps(connection, upstream).run()
        except LinkEnded as end:
            if not end.orderly:
                faulty.link.rst()
            if upstream is not None and end.orderly:
                upstream.fin()
            raise
        finally:
            if upstream is not None:
                upstream.rst()


@final
class _Pumps:
    """Both directions of one connection."""

    def __init__(self, connection: Connection, upstream: Link) -> None:
        self._connection = connection
        self._faulty = connection.faulty
        self._upstream = upstream
        self._active = anyio.current_time()
        self._begun = anyio.Event()
        self._end: LinkEnded | None = None
        self._cutter = _Cutter(self._faulty) if self._faulty.due(Point.FRAME, 1) else None

    async def run(self) -> None:
        """Pass bytes on until both sides have closed.

        Raises:
            LinkEnded: A fault, or one of the sides, ended the connection.
        """
        async with anyio.create_task_group() as tasks:

            async def guard(pump: Callable[[], Awaitable[None]]) -> None:
                try:
                    await pump()
                except LinkEnded as end:
                    self._end = self._end or end
                    tasks.cancel_scope.cancel()

            async def both() -> None:
                async with anyio.create_task_group() as pumps:
                    pumps.start_soon(guard, self._requests)
                    pumps.start_soon(guard, self._responses)
                tasks.cancel_scope.cancel()

            tasks.start_soon(guard, self._watch)
            tasks.start_soon(both)
        if self._end is not None:
            raise self._end
        self._upstream.fin()

    async def _requests(self) -> None:
        while data := await self._faulty.receive():
            self._touch(idle=False)
            if self._cutter is not None:
                self._cutter.heard(data)
            await self._upstream.send(data)
        await self._faulty.request_over()
        self._upstream.half_close()

    async def _responses(self) -> None:
        while data := await self._upstream.receive():
            self._touch(idle=False)
            await (self._faulty.send(data) if self._cutter is None else self._cutter.send(data))
            self._touch(idle=True)
        await self._faulty.response_over()
        self._faulty.link.half_close()

    def _touch(self, *, idle: bool) -> None:
        self._active = anyio.current_time()
        self._connection.idle = idle
        self._begun.set()

    async def _watch(self) -> None:
        """Strike idle faults."""
        await self._begun.wait()
        while fault := self._faulty.next_idle():
            while (rest := self._active + fault.at - anyio.current_time()) > 0:  # noqa: ASYNC110 - time is the event
                await anyio.sleep(rest)
            await self._faulty.strike(fault)


@final
class _Cutter:
    """Passes on what an HTTP/2 server says frame by frame; what turns out to be none is passed on as it is."""

    def __init__(self, faulty: FaultyLink) -> None:
        self._faulty = faulty
        self._frames = FaultyFrames(faulty, faulty.send)
        self._requests, self._responses = FrameCutter(), FrameCutter()
        self._greeting: bytes | None = b""
        """What the client has said, until it is known whether that is HTTP/2."""
        self._other = False

    def heard(self, data: bytes) -> None:
        """Take note of what the client says."""
        if self._greeting is not None:
            self._greeting += data
            self._other = not self._greeting.startswith(PREFACE[: len(self._greeting)])
            if len(self._greeting) < len(PREFACE):
                return
            data, self._greeting = self._greeting[len(PREFACE) :], None
        if not self._other:
            streams = (frame.stream for frame in self._requests.feed(data) if frame.kind == Kind.HEADERS)
            self._frames.latest = max(self._frames.latest, *streams, 0)

    async def send(self, data: bytes) -> None:
        """Pass on what the server says.

        Raises:
            LinkEnded: A fault or the client ended the connection.
        """
        if self._other:
            await self._faulty.send(data)
            return
        for frame in self._responses.feed(data):
            await self._frames.send(frame)


@final
class ChaosProxy(_Relay):
    """A proxy in the caller's event loop; see the module.

    Args:
        target: Host and port of the server.
        tls: As for ``ChaosServer``: the proxy ends the client's TLS.
        target_tls: The proxy speaks TLS to the server, with this context.
        host, port: Where to listen; port 0 takes a free one.
        seed: For ``sprinkle``.
        buffer: Size in bytes of the kernel's buffers on the client's side.
        http2: Let scripts say ``frame``, and where ``tls`` ends the client's TLS offer HTTP/2; the server has to speak
            it too, with TLS by the ALPN of ``target_tls``.

    Raises:
        ImportError: ``tls=True`` with neither trustme nor cryptography.
        OSError: At ``async with``: the port is taken.
    """

    _stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._live())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Stop: connections that still stand are reset."""
        return await self._stack.__aexit__(kind, error, traceback)


@final
class BlockingChaosProxy(_Relay, Background):
    """A proxy in a thread of its own, for any client; arguments as for ``ChaosProxy``."""
