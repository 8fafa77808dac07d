"""``search``: carries out an ``IdleSearch`` against a server: opens connections, lets them be silent, uses them again.

A connection is used by one request whose answer is read; TCP keepalive is off. While it is silent it reads, so that a
FIN or RST is seen when it comes. After the second request TCP_INFO tells a path that drops it from a server that does
not answer, long before any time-out. Not responsible for which waits are worth making (``idle_search``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from ..errors import ConnectFailed, ConnectionLost, DeadlineExceeded, HoldwireError
from ..http.parser import ResponseReader, Truncated, Violation
from ..net.dial import dial
from ..policy.kind import Kind
from ..policy.phase import Phase
from ..tls.stream import TLSStream
from .idle_search import Ending, Observation

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from ..net.stream import SocketStream
    from .idle_search import IdleSearch
    from .target import Target

__all__ = ["PATIENCE", "CannotProbe", "HttpUse", "RawUse", "Use", "find_security", "search", "speaks_tls"]

_TIMEOUT: Final = 10.0
"""Seconds for a connect, a handshake, or the first answer."""
PATIENCE: Final = 3.0
"""Seconds for the answer to the second request."""
_LOOK: Final = 0.1
_RETRANSMITS: Final = 2
"""Retransmissions without an ACK after which the path drops what we send: about 0.6 s on a fast path."""
_NOT_TLS: Final = frozenset({Kind.TLS_PROTOCOL_ERROR, Kind.UNEXPECTED_EOF, Kind.CONNECTION_RESET, Kind.LOCAL_TIMEOUT})
_RESETS: Final = frozenset({Kind.CONNECTION_RESET, Kind.BROKEN_PIPE})


class CannotProbe(Exception):
    """The server cannot be used for this; the text says why and what to try."""


class Use(Protocol):
    """How a connection is used once."""

    async def __call__(self, wire: SocketStream | TLSStream, timeout: float) -> None:
        """Send a request and read its answer to the end.

        Raises:
            HoldwireError: The connection failed.
            CannotProbe: The server does not want another request on it.
        """
        ...

    @property
    def request(self) -> bytes:
        """What is sent."""
        ...


@dataclass(frozen=True, slots=True)
class HttpUse:
    """One HTTP/1.1 request."""

    request: bytes

    @classmethod
    def to(cls, target: Target, path: str = "/") -> HttpUse:
        """A GET of ``path``."""
        head = f"GET {path} HTTP/1.1\r\nHost: {target.authority}\r\nAccept: */*\r\nUser-Agent: holdwire-doctor\r\n\r\n"
        return cls(head.encode("ascii"))

    async def __call__(self, wire: SocketStream | TLSStream, timeout: float) -> None:
        await wire.write(self.request, timeout)
        reader = ResponseReader()
        until = time.monotonic() + timeout
        try:
            while not reader.complete:
                if time.monotonic() > until:
                    raise CannotProbe(f"the server's answer has no end within {timeout:g} s: give another path")
                data = await wire.read(65_536, timeout)
                reader.body.clear()
                if not data:
                    reader.feed_eof()
                    break
                reader.feed(data)
        except (Truncated, Violation) as exc:
            raise CannotProbe(f"the server's answer is no whole HTTP/1.1 response: {exc}") from None
        if not reader.reusable:
            raise CannotProbe("the server ends each connection after one response: nothing can be silent there")


@dataclass(frozen=True, slots=True)
class RawUse:
    """Bytes of any other protocol; whatever comes back is the answer."""

    request: bytes

    async def __call__(self, wire: SocketStream | TLSStream, timeout: float) -> None:
        await wire.write(self.request, timeout)
        if not await wire.read(65_536, timeout):
            raise CannotProbe("the server closed the connection instead of answering")


async def find_security(target: Target, context: ssl.SSLContext, server_name: str | None = None) -> bool:
    """Whether ``target`` speaks TLS.

    Raises:
        HoldwireError: It cannot be connected to, or TLS fails for another reason.
    """
    return await speaks_tls(_open(target, context, server_name, patience=PATIENCE))


async def speaks_tls(opening: Awaitable[SocketStream | TLSStream]) -> bool:
    """Whether a handshake that is being made shows TLS: a server that waits for more does not speak it.

    Raises:
        HoldwireError: There is no connection, or TLS fails for another reason.
    """
    try:
        wire = await opening
    except (ConnectFailed, DeadlineExceeded) as exc:
        failure = exc.failure
        if failure is not None and failure.phase is Phase.TLS_HANDSHAKE and failure.kind in _NOT_TLS:
            return False
        raise
    wire.abort()
    return True


async def search(
    plan: IdleSearch,
    target: Target,
    use: Use,
    *,
    context: ssl.SSLContext | None,
    server_name: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Make all rounds of ``plan``. ``context`` None: without TLS.

    Raises:
        CannotProbe: The server does not keep connections, or does not answer.
        HoldwireError: No connection came about, or the first use of one failed.
    """
    while waits := plan.waits():
        progress(f"round {plan.round + 1}: {len(waits)} connections, silent for {waits[0]:.3g} to {waits[-1]:.4g} s")
        plan.take(await _Round(plan, target, use, context, server_name, progress).run(waits))


class _Round:
    """The connections of one round, side by side."""

    def __init__(
        self,
        plan: IdleSearch,
        target: Target,
        use: Use,
        context: ssl.SSLContext | None,
        server_name: str | None,
        progress: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._target = target
        self._use = use
        self._context = context
        self._server_name = server_name
        self._progress = progress
        self._ended: list[Observation] = []
        self._waiting: dict[float, anyio.CancelScope] = {}

    async def run(self, waits: list[float]) -> list[Observation]:
        wires: list[SocketStream | TLSStream] = []
        try:
            while len(wires) < len(waits):
                wires.append(await self._begin())
            async with anyio.create_task_group() as group:
                for wait, wire in zip(waits, wires, strict=True):
                    group.start_soon(self._watch, wait, wire)
        finally:
            for wire in wires:
                wire.abort()
        return self._ended

    async def _begin(self) -> SocketStream | TLSStream:
        wire = await _open(self._target, self._context, self._server_name)
        try:
            await self._use(wire, _TIMEOUT)
        except BaseException as exc:
            wire.abort()
            if isinstance(exc, DeadlineExceeded):
                raise CannotProbe(
                    f"{self._target} did not answer the first request within {_TIMEOUT:g} s: for a protocol other than "
                    "HTTP/1.1 say what to send (--send)"
                ) from None
            raise
        return wire

    async def _watch(self, wait: float, wire: SocketStream | TLSStream) -> None:
        observation = Observation(wait, Ending.CANCELLED)
        with anyio.CancelScope() as scope:
            self._waiting[wait] = scope
            observation = await self._silence(wait, wire) or await self._second_use(wire)
        del self._waiting[wait]
        self._ended.append(observation)
        if observation.ending is not Ending.CANCELLED:
            self._progress(f"after {observation.idle:.4g} s of silence: {observation.ending}")
        for other, waiting in self._waiting.items():
            if self._plan.is_pointless(other, self._ended, len(self._waiting)):
                waiting.cancel()

    async def _silence(self, wait: float, wire: SocketStream | TLSStream) -> Observation | None:
        """Be silent until ``wait`` seconds after the first answer; what ended the connection meanwhile, or None."""
        began = wire.last_read
        try:
            data = await wire.read(65_536, max(began + wait - time.monotonic(), 0.0))
        except DeadlineExceeded:
            return None
        except ConnectionLost as lost:
            ending = Ending.FIN_WHILE_IDLE if _is_end(lost) else Ending.RST_WHILE_IDLE
            return Observation(time.monotonic() - began, ending, str(lost.failure or lost))
        ending = Ending.UNSOLICITED_DATA if data else Ending.FIN_WHILE_IDLE
        return Observation(time.monotonic() - began, ending)

    async def _second_use(self, wire: SocketStream | TLSStream) -> Observation:
        idle = time.monotonic() - wire.last_read  # as it was: a busy machine wakes us late
        deadline = time.monotonic() + PATIENCE
        try:
            await wire.write(self._use.request, PATIENCE)
            while True:
                left = deadline - time.monotonic()
                try:
                    data = await wire.read(65_536, max(min(_LOOK, left), 0.001))
                except DeadlineExceeded:
                    dropped = _is_dropped(wire, patient=left <= 0)
                    if dropped:
                        return Observation(idle, Ending.SILENT_DROP, dropped)
                    if left <= 0:
                        return Observation(idle, Ending.ACKED_NO_ANSWER)
                else:
                    return Observation(idle, Ending.ALIVE if data else Ending.FIN_ON_SEND)
        except ConnectionLost as lost:
            kind = None if lost.failure is None else lost.failure.kind
            ending = Ending.RST_ON_SEND if kind in _RESETS else Ending.FIN_ON_SEND if _is_end(lost) else Ending.FAILED
            return Observation(idle, ending, str(lost.failure or lost))
        except HoldwireError as exc:
            return Observation(idle, Ending.FAILED, str(exc))


def _is_end(lost: ConnectionLost) -> bool:
    return lost.failure is not None and lost.failure.kind is Kind.UNEXPECTED_EOF


def _is_dropped(wire: SocketStream | TLSStream, *, patient: bool) -> str:
    """What says that the path drops what we send; empty if nothing does."""
    info = wire.facts().get("tcp")
    if info is None or not info.unacked:
        return ""
    retransmits = info.retransmits or 0
    if retransmits >= _RETRANSMITS or patient:
        return f"{retransmits} retransmissions, {info.unacked} segments unacknowledged"
    return ""


async def _open(
    target: Target, context: ssl.SSLContext | None, server_name: str | None, *, patience: float = _TIMEOUT
) -> SocketStream | TLSStream:
    stream = (await dial(target.host, target.port, keepalive=None, timeout=patience)).stream
    if context is None:
        return stream
    return await TLSStream.connect(
        stream, context=context, server_hostname=server_name or target.host, timeout=patience, truncation="accept"
    )
