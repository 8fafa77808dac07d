"""``Case``: one target under examination: what the user asked for, how connections to it are opened, how many may be.

Every probe connection goes through ``open``: the same dialling and TLS that holdwire's transports use, with keepalive
left off, counted against a cap that is announced before. Not responsible for what is looked at (``rungs``).
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from ..errors import ConnectionLost, DeadlineExceeded, HoldwireError
from ..http.messages import Origin, Request
from ..http.parser import ResponseReader, Truncated, Violation
from ..net.dial import dial
from ..policy import diagnosis
from ..policy.kind import Kind
from ..policy.phase import Phase
from ..tls.stream import TLSStream
from .idle_probe import PATIENCE, speaks_tls
from .upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..http.proxy import Proxy
    from ..net.stream import SocketStream
    from .target import Target

__all__ = ["CONNECTIONS", "Answer", "Case", "TooMany"]

CONNECTIONS: Final = 40
"""Probe connections that one run may open."""


class TooMany(Exception):
    """The cap of probe connections is reached."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response: times in seconds from the request to the first byte and to the last.

    ``complete`` is whether its end was waited for: a long download, or a stream of events, is not.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    first_byte: float
    whole: float
    size: int
    reusable: bool
    complete: bool = True

    def header(self, name: bytes) -> str | None:
        """The first value of ``name`` (lower case), None if there is none."""
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == name), None)


@dataclass(slots=True, kw_only=True)
class Case:
    """See the module.

    ``address`` replaces name resolution, ``server_name`` the name in TLS. ``timeout`` bounds each step, in seconds.
    ``upkeep`` is what the client is set to, ``idle_limit`` the idle limit that is known already, ``idle`` up to how
    much silence it is to be measured, ``watch`` the server's process on this host, ``logs`` files to look into,
    ``capture`` a capture that is being recorded.
    ``opened`` counts the probe connections so far, ``more`` are allowed beyond ``CONNECTIONS``; ``repeated`` counts the
    segments that the kernel had to send again on those that were ``close``d, ``lossy`` the connections with such.
    """

    target: Target
    server_name: str = ""
    address: str | None = None
    proxy: Proxy | None = None
    ca_file: str | None = None
    path: str = "/"
    timeout: float = 5.0
    upkeep: Upkeep = field(default_factory=Upkeep)
    idle_limit: float | None = None
    idle: float | None = None
    watch: int | None = None
    logs: tuple[str, ...] = ()
    capture: str | None = None
    more: int = 0
    opened: int = field(default=0, init=False)
    repeated: int = field(default=0, init=False)
    lossy: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.server_name = self.server_name or self.target.host

    async def learn_security(self) -> None:
        """Find out whether the port speaks TLS, where nobody said so. A failure is for the rungs to tell."""

        async def opening() -> TLSStream:
            return await self.secure(await self.connect(), self.context(verify=False), timeout=PATIENCE)

        try:
            secure = await speaks_tls(opening())
        except HoldwireError as exc:
            secure = exc.failure is not None and exc.failure.phase is Phase.TLS_HANDSHAKE
        self.target = replace(self.target, secure=secure)

    def context(self, *, verify: bool = True, alpn: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
        """A context that trusts what the user says, or nothing in particular.

        Raises:
            OSError: The file of certificates cannot be read.
        """
        context = ssl.create_default_context(cafile=self.ca_file)
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(list(alpn))
        return context

    async def connect(self, address: str | None = None, *, timeout: float | None = None) -> SocketStream:
        """TCP to the target, or to ``address``; through the proxy, if there is one.

        Raises:
            HoldwireError: No connection came about.
            TooMany: The cap is reached.
        """
        if self.opened >= CONNECTIONS + self.more:
            raise TooMany(f"{CONNECTIONS + self.more} probe connections were opened, and no more are")
        self.opened += 1
        host, port = self.target.host, self.target.port
        deadline = time.monotonic() + (timeout or self.timeout)
        if self.proxy is not None:
            dialled = await dial(
                self.proxy.host,
                self.proxy.port,
                keepalive=None,
                timeout=deadline - time.monotonic(),
                via=self.proxy.name,
                origin=(host, port),
            )
            request = Request(b"GET", Origin("tcp", host, port), b"/", [])
            await self.proxy.open_tunnel(dialled.stream, request, deadline)
            return dialled.stream
        there = address or self.address or host
        dialled = await dial(there, port, keepalive=None, timeout=deadline - time.monotonic(), origin=(host, port))
        return dialled.stream

    async def secure(
        self, stream: SocketStream, context: ssl.SSLContext, *, name: str | None = None, timeout: float | None = None
    ) -> TLSStream:
        """TLS over ``stream``; ``name`` empty sends no server name.

        Raises:
            HoldwireError: The handshake failed.
        """
        return await TLSStream.connect(
            stream,
            context=context,
            server_hostname=self.server_name if name is None else name,
            timeout=min(timeout or self.timeout, self.timeout),
        )

    async def open(self, address: str | None = None, *, verify: bool = True) -> SocketStream | TLSStream:
        """A connection that is ready to be spoken on."""
        stream = await self.connect(address)
        return await self.secure(stream, self.context(verify=verify)) if self.target.secure else stream

    def close(self, wire: SocketStream | TLSStream) -> None:
        """Close a connection, and count what was sent again on it and had not arrived before."""
        info = wire.facts().get("tcp")
        lost = 0 if info is None else (info.total_retrans or 0) - (info.dsack_dups or 0)
        if lost > 0:
            self.repeated += lost
            self.lossy += 1
        wire.close()

    def request(self, *, path: str | None = None, close: bool = False, padding: int = 0) -> bytes:
        """A GET of the user's path, or of ``path``, with ``padding`` bytes of a header that means nothing."""
        head = f"GET {path or self.path} HTTP/1.1\r\nHost: {self.target.authority}\r\n"
        head += "Accept: */*\r\nUser-Agent: holdwire-doctor\r\n"
        if close:
            head += "Connection: close\r\n"
        if padding:
            head += f"X-Padding: {'p' * padding}\r\n"
        return (head + "\r\n").encode("ascii")

    async def exchange(self, wire: SocketStream | TLSStream, request: bytes) -> Answer:
        """One request on ``wire`` and its answer: the whole of it, unless that takes longer than a step may.

        Raises:
            HoldwireError: The connection failed, or nothing came in time.
            Violation, Truncated: The answer is no whole HTTP response.
        """
        wire.phase = Phase.REQUEST_HEADERS
        began = time.monotonic()
        await wire.write(request, self.timeout)
        wire.phase = Phase.RESPONSE_WAIT
        reader = ResponseReader()
        first = size = 0.0
        while not reader.complete:
            data = await wire.read(65_536, self.timeout)
            first = first or time.monotonic() - began
            if not data:
                try:
                    reader.feed_eof()
                except Truncated:
                    if not reader.started:
                        failure = diagnosis.from_eof(phase=wire.phase, facts=wire.facts())
                        raise ConnectionLost(failure=failure) from None
                    raise
                break
            reader.feed(data)
            size += sum(map(len, reader.body))
            reader.body.clear()
            if reader.head_complete and time.monotonic() - began > self.timeout:
                break
        wire.phase = Phase.IDLE
        return Answer(
            reader.status,
            tuple(reader.headers),
            first,
            time.monotonic() - began,
            int(size),
            reader.reusable and reader.complete,
            reader.complete,
        )


def is_timeout(exc: HoldwireError) -> bool:
    """Whether our own time limit ended it."""
    return isinstance(exc, DeadlineExceeded) or (exc.failure is not None and exc.failure.kind is Kind.LOCAL_TIMEOUT)


__all__ += ["Truncated", "Violation", "is_timeout"]
