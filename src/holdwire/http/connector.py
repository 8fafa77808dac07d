"""``Connector``: opens a connection for an attempt: dial, proxy, TLS, and the HTTP version that comes out of it.

The whole of it happens within the attempt's connect time-out. What was tried is told as one ``ConnectionSetUp``; when
no connection came about it travels on the exception, because whether an attempt follows is not decided here. Nothing
follows a cancellation: what had failed by then is told at once.
Not responsible for retries, for the pool, or for what a proxy is asked (``proxy``).
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from ..errors import ConnectFailed, DeadlineExceeded, HoldwireError, UnsupportedProtocol
from ..events import ConnectionSetUp, SetupStep, tell_given_up, tell_setup
from ..net.dial import dial, dial_unix
from ..policy.phase import Phase
from ..tls.stream import TLSStream
from .http11 import Http11Connection
from .trace import Traced

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from ..events import Observers
    from ..net.dial import AddressMemory, Dialled
    from ..net.wire import Wire
    from ..policy.settings import Keepalive, PoolPolicy
    from ..tls.session import SessionCache
    from .connection import Attempt, HttpConnection
    from .h2_settings import Http2Settings
    from .messages import Origin, Request
    from .origin_memory import OriginMemory
    from .proxy import Proxy

__all__ = ["Connector"]

_SCHEMES = frozenset({"http", "https", "ws", "wss"})


class Connector:
    """See the module. The arguments are those of the transport."""

    def __init__(
        self,
        *,
        tls_context: Callable[[], ssl.SSLContext],
        sessions: SessionCache,
        memory: AddressMemory,
        notify: Observers,
        keepalive: Keepalive | None,
        policy: PoolPolicy,
        truncation: str = "error",
        uds: str | None = None,
        local_address: str | None = None,
        socket_options: Sequence[tuple[Any, ...]] = (),
        http1: bool = True,
        http2: Http2Settings | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._tls_context = tls_context
        self._sessions = sessions
        self._memory = memory
        self._notify = notify
        self._keepalive = keepalive
        self._policy = policy
        self._truncation = truncation
        self._uds = uds
        self._local_address = local_address
        self._socket_options = socket_options
        self._http1 = http1
        self._http2 = http2
        self._proxy = proxy
        self.learnt: OriginMemory | None = None
        """The idle limits that were learnt; set by who makes the pool."""

    def sharable(self, origin: Origin) -> bool:
        """Whether a connection to ``origin`` may turn out to be HTTP/2."""
        return self._offers_http2(origin) and (origin.secure or not self._http1)

    def _offers_http2(self, origin: Origin) -> bool:
        http2 = self._http2
        if http2 is None or origin.upgradable or (self._proxy is not None and self._proxy.forwards(origin)):
            return False
        return not (self._http1 and http2.memory.requires_http11(origin))

    def _protocols(self, origin: Origin) -> tuple[str, ...]:
        """What is offered by ALPN, best first."""
        if not self._offers_http2(origin):
            return ("http/1.1",)
        return ("h2", "http/1.1") if self._http1 else ("h2",)

    def _speaks_http2(self, wire: Wire, origin: Origin) -> bool:
        """Whether HTTP/2 was agreed upon, or is spoken without asking."""
        if isinstance(wire, TLSStream) and wire.alpn_protocol == "h2":
            return True  # whatever was learnt of the origin since it was offered
        return not self._http1 and self._offers_http2(origin)

    def _connection(self, wire: Wire, origin: Origin) -> HttpConnection:
        max_age = None if self._policy.max_age is None else self._policy.age_limit(random.random())  # noqa: S311 - jitter
        http2 = self._http2
        if http2 is not None and self._speaks_http2(wire, origin):
            from .http2 import Http2Connection  # noqa: PLC0415 - needs h2, which is an extra

            if self.learnt is not None:
                http2 = http2.below(self.learnt.idle_limit(origin, time.monotonic()))
            return Http2Connection(wire, origin, max_age=max_age, settings=http2, notify=self._notify)
        return Http11Connection(wire, origin, max_age=max_age, truncation=self._truncation)

    async def connect(self, attempt: Attempt) -> HttpConnection:
        """Open a connection for ``attempt``.

        Raises:
            ConnectFailed, DeadlineExceeded: None came about; ``setup`` on the exception is what was tried.
            UnsupportedProtocol: The scheme is unknown.
        """
        request = attempt.request
        origin = request.origin
        if origin.scheme not in _SCHEMES:
            known = "http://, https://, ws:// or wss://"
            raise UnsupportedProtocol(
                f"Request URL has an unsupported protocol '{origin.scheme}://'."
                if origin.scheme
                else f"Request URL is missing an '{known}' protocol."
            )
        began = time.time_ns()
        if attempt.connect_by is None and request.timeouts.connect is not None:
            attempt.connect_by = time.monotonic() + request.timeouts.connect
        deadline = attempt.connect_by
        steps: list[SetupStep] = []
        try:
            wire = await self._open(request, deadline, steps)
        except HoldwireError as exc:
            exc.setup = self._told(request, steps, began, failure=exc)
            raise
        except BaseException:
            tell_given_up(self._told(request, steps, began), self._notify, attempt=attempt.number)
            raise
        connection = self._connection(wire, origin)
        tell_setup(self._told(request, steps, began, connection=connection), self._notify)
        return connection

    async def _open(self, request: Request, deadline: float | None, steps: list[SetupStep]) -> Wire:
        """Dial, go through the proxy, and secure what has to be; once more if it was a TLS session that the peer hated.

        Nothing of the request has left, and what a certificate has to be is the same: so nothing is risked.
        """
        try:
            return await self._reach(request, deadline, steps)
        except ConnectFailed as exc:
            if not exc.session_refused:
                raise
        return await self._reach(request, deadline, steps, resume=False)

    async def _reach(
        self, request: Request, deadline: float | None, steps: list[SetupStep], *, resume: bool = True
    ) -> Wire:
        origin = request.origin
        proxy = self._proxy
        dialled = await self._dial(request, deadline, steps)
        wire: Wire = dialled.stream
        if proxy is not None:
            wire = await self._pass_proxy(proxy, wire, request, deadline, steps, resume=resume)
        if not origin.secure:
            return wire
        try:
            return await self._secure(
                wire,
                request,
                context=self._tls_context(),
                name=origin.server_name or origin.host,
                protocols=self._protocols(origin),
                phase=Phase.TLS_HANDSHAKE,
                prefix="connection" if proxy is None else "socks" if proxy.is_socks else "proxy",
                deadline=deadline,
                steps=steps,
                resume=resume,
            )
        except ConnectFailed as exc:
            exc.address_left = proxy is None and dialled.address_left
            raise

    async def _pass_proxy(
        self,
        proxy: Proxy,
        wire: Wire,
        request: Request,
        deadline: float | None,
        steps: list[SetupStep],
        *,
        resume: bool,
    ) -> Wire:
        """What ``proxy`` makes of the connection to it: TLS with the proxy itself, then a tunnel if one is needed."""
        if proxy.tls_context is not None:
            wire = await self._secure(
                wire,
                request,
                context=proxy.tls_context(),
                name=proxy.host,
                protocols=("http/1.1",),
                phase=Phase.PROXY,
                prefix="connection",
                deadline=deadline,
                steps=steps,
                resume=resume,
            )
        if proxy.forwards(request.origin):
            return wire
        began = time.time_ns()
        try:
            await proxy.open_tunnel(wire, request, deadline)
        except HoldwireError as exc:
            steps.append(_step(Phase.PROXY, began, wire, failure=exc))
            wire.abort()
            raise
        except BaseException:
            wire.abort()
            raise
        steps.append(_step(Phase.PROXY, began, wire))
        return wire

    async def _secure(
        self,
        wire: Wire,
        request: Request,
        *,
        context: ssl.SSLContext,
        name: str,
        protocols: tuple[str, ...],
        phase: Phase,
        prefix: str,
        deadline: float | None,
        steps: list[SetupStep],
        resume: bool,
    ) -> Wire:
        """TLS over ``wire``; ``phase`` says whether it is the origin at its other end, or the proxy."""
        key = self._sessions.key(context, name, proxy=None if self._proxy is None else self._proxy.name)
        session = self._sessions.get(key) if resume else None
        began = time.time_ns()
        info = {"ssl_context": context, "server_hostname": name, "timeout": request.timeouts.connect}
        try:
            async with Traced(request.trace, f"{prefix}.start_tls", info) as step:
                secured = await TLSStream.connect(
                    wire,
                    context=context,
                    server_hostname=name,
                    session=session,
                    timeout=_left(deadline),
                    protocols=protocols,
                )
                step.result = secured
        except HoldwireError as exc:
            if session is not None:
                self._sessions.fail(key, session, exc.failure)
            error = _of_the_proxy(exc) if phase is Phase.PROXY else exc
            if exc.failure is not None and (self._proxy is None or phase is Phase.PROXY):
                self._memory.failed(wire.peer or "", time.monotonic())  # through a tunnel it is not the address's fault
            steps.append(_step(phase, began, wire, failure=error))
            wire.abort()
            if error is exc:
                raise
            raise error from exc
        except BaseException:
            wire.abort()
            raise
        secured.on_session = self._sessions.keeper(key, offered=session, resumed=secured.session_reused)
        steps.append(_step(phase, began, wire))
        return secured

    async def _dial(self, request: Request, deadline: float | None, steps: list[SetupStep]) -> Dialled:
        origin = request.origin
        name, info = self._dial_info(request)
        dialled: Dialled | None = None
        try:
            async with Traced(request.trace, name, info) as step:
                if self._uds is not None:
                    dialled = await dial_unix(
                        self._uds,
                        host=origin.host,
                        port=origin.port,
                        socket_options=self._socket_options,
                        timeout=_left(deadline),
                        steps=steps,
                    )
                else:
                    target = self._proxy or origin
                    dialled = await dial(
                        target.host,
                        target.port,
                        keepalive=self._keepalive,
                        local_address=self._local_address,
                        socket_options=self._socket_options,
                        timeout=_left(deadline),
                        via=None if self._proxy is None else self._proxy.name,
                        memory=self._memory,
                        origin=(origin.host, origin.port),
                        steps=steps,
                    )
                step.result = dialled.stream
        except BaseException:  # out of the trace hook: nobody else knows of the stream
            if dialled is not None:
                dialled.stream.abort()
            raise
        return dialled

    def _dial_info(self, request: Request) -> tuple[str, dict[str, Any]]:
        """How a trace hook is told of the dial: httpcore's name and arguments."""
        timeout = request.timeouts.connect
        options = self._socket_options or None
        if self._uds is not None:
            info: dict[str, Any] = {"path": self._uds, "timeout": timeout, "socket_options": options}
            return "connection.connect_unix_socket", info
        target = self._proxy or request.origin
        info = {"host": target.host, "port": target.port}
        if self._proxy is not None and self._proxy.is_socks:
            return "socks.connect_tcp", info | {"timeout": timeout}
        info |= {"local_address": self._local_address, "timeout": timeout, "socket_options": options}
        return "connection.connect_tcp", info

    def _told(
        self,
        request: Request,
        steps: list[SetupStep],
        began: int,
        *,
        connection: HttpConnection | None = None,
        failure: HoldwireError | None = None,
    ) -> ConnectionSetUp:
        return ConnectionSetUp(
            host=request.origin.host,
            port=request.origin.port,
            connection_id=None if connection is None else connection.wire.id,
            http_version=None if connection is None else connection.http_version,
            began=began,
            ended=time.time_ns(),
            steps=tuple(steps),
            context=request.context,
            failure=None if failure is None else failure.failure,
        )


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)


def _of_the_proxy(exc: HoldwireError) -> HoldwireError:
    """What ``exc``, from the TLS handshake with the proxy itself, is called: nobody shall look for it at the origin."""
    if exc.failure is None:
        return exc
    failure = exc.failure.evolve(phase=Phase.PROXY, detail="in the TLS handshake with the proxy itself")
    if isinstance(exc, DeadlineExceeded):
        return DeadlineExceeded(limit="connect", failure=failure)
    error = ConnectFailed(failure=failure)
    error.session_refused = isinstance(exc, ConnectFailed) and exc.session_refused
    return error


def _step(phase: Phase, began: int, wire: Wire, *, failure: HoldwireError | None = None) -> SetupStep:
    return SetupStep(
        phase=phase,
        began=began,
        ended=time.time_ns(),
        peer=wire.peer,
        peer_port=wire.peer_port,
        failure=None if failure is None else failure.failure,
    )
