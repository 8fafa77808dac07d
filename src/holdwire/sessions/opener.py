"""``Opener``: opens connections to one target, each time anew: name, addresses, TLS, in one time limit.

What was tried is one ``ConnectionSetUp`` on the exception, for whoever knows whether another attempt follows.
Not responsible for trying again (``sessions``) or for what is spoken on the connection.
"""

from __future__ import annotations

import functools
import ssl
import time
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import replace
from types import NoneType
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, cast

from ..errors import ConnectFailed, DeadlineExceeded, HoldwireError
from ..events import ConnectionSetUp, Observers, SetupStep, tell_given_up, tell_setup
from ..net.dial import AddressMemory, dial, dial_unix
from ..policy.checks import check_flag, check_observers, check_type, socket_options_of
from ..policy.phase import Phase
from ..policy.profiles import Profile
from ..policy.profiles import profile as named_profile
from ..policy.settings import Keepalive
from ..telemetry import default_observer
from ..tls.context import offer_protocols, prepare
from ..tls.session import SessionCache
from ..tls.stream import TLSStream
from .memory import memory_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextvars import Context

    from ..events import Observer
    from ..net.dial import Dialled
    from ..net.keepalive import SocketOption
    from ..net.stream import SocketStream
    from ..net.wire import Wire
    from ..tls.engine import Truncation
    from .target import Target

__all__ = ["KeepaliveSetting", "Opener", "Passage"]

KeepaliveSetting: TypeAlias = "Keepalive | Literal['profile'] | None"
"""``"profile"``: what the profile says; None: the system's defaults."""

_tls_sessions: Final = SessionCache()
"""Of the whole process: a key holds the context, so nothing is shared that must not be."""


class Passage(Protocol):
    """A proxy: where it is, and that it opens a way (``holdwire.Tunnel`` is one)."""

    @property
    def host(self) -> str:
        """Where to connect to."""
        ...

    @property
    def port(self) -> int:
        """See ``host``."""
        ...

    @property
    def name(self) -> str:
        """As records have it in ``via``."""
        ...

    tls: ssl.SSLContext | None
    """For TLS with the proxy itself; None where that is not spoken."""

    async def open(self, wire: Wire, host: str, port: int, deadline: float | None) -> None:
        """Have ``wire``, which is connected to the proxy, connected to ``host``."""
        ...


class Opener:
    """See the module. The arguments are those of ``connect``.

    Raises:
        ValueError, TypeError: An argument is wrong, or does not go with another one.
    """

    def __init__(
        self,
        target: Target,
        *,
        tls: ssl.SSLContext | bool | None,
        server_hostname: str | None,
        alpn: Sequence[str],
        tls_truncation: Truncation,
        resume: bool,
        profile: str | Profile,
        keepalive: KeepaliveSetting,
        proxy: Passage | None,
        local_address: str | None,
        socket_options: Iterable[SocketOption],
        observers: Iterable[Observer],
    ) -> None:
        _check_types(tls=tls, profile=profile, keepalive=keepalive, resume=resume, proxy=proxy)
        _check_names(server_hostname=server_hostname, alpn=alpn, local_address=local_address)
        check_observers(observers)
        if tls_truncation not in ("error", "accept"):
            raise ValueError(f'tls_truncation={tls_truncation!r}: give "error" or "accept"')
        if target.secure and tls is False:
            raise ValueError("tls=False does not go with tls://; give tcp:// for a stream without TLS")
        self.target = replace(target, secure=True) if tls else target
        if not self.target.secure and (server_hostname is not None or alpn):
            raise ValueError("server_hostname and alpn are for TLS: give tls://, or tls=True")
        if self.target.secure and target.path is not None and server_hostname is None:
            raise ValueError("TLS over a Unix socket needs server_hostname: the path is no name for a certificate")
        if proxy is not None and target.path is not None:
            raise ValueError("a proxy does not go with a Unix socket")
        self._proxy = proxy
        self._context: ssl.SSLContext | None = None
        if isinstance(tls, ssl.SSLContext):
            if alpn:
                raise ValueError("alpn does not go with a context of your own: call its set_alpn_protocols")
            self._context = tls
        elif self.target.secure:
            self._context = _default_context(tuple(alpn))
        chosen = profile if isinstance(profile, Profile) else named_profile(profile)
        self.keepalive = chosen.keepalive if keepalive == "profile" else keepalive
        self.names_may_appear = chosen.names_may_appear
        self.notify = Observers((default_observer(), *observers))
        self._name = server_hostname or self.target.host
        self._truncation: Truncation = tls_truncation
        self._resume = resume
        self._local_address = local_address
        self._socket_options = socket_options_of(socket_options)
        self._memory = AddressMemory()
        self.memory = memory_of(self.target.host, self.target.port, None if proxy is None else proxy.name)

    async def open(self, timeout: float | None) -> SocketStream | TLSStream:
        """A connected stream, in TLS if the target wants it.

        Raises:
            ConnectFailed, ProxyError, DeadlineExceeded: None came about; ``setup`` is what was tried, not yet told.
        """
        began = time.time_ns()
        deadline = None if timeout is None else time.monotonic() + timeout
        context = copy_context()
        steps: list[SetupStep] = []
        try:
            try:
                wire = await self._connect(deadline, steps, timeout, resume=self._resume)
            except ConnectFailed as exc:
                if not exc.session_refused:
                    raise
                wire = await self._connect(deadline, steps, timeout, resume=False)
        except HoldwireError as exc:
            exc.setup = self._told(began, steps, context, failure=exc)
            if exc.failure is not None:
                before, better = exc.failure, self.memory.not_connected(exc.failure)
                exc.retell(lambda one: better if one is before else one)
            raise
        except BaseException:
            tell_given_up(self._told(began, steps, context), self.notify)
            raise
        tell_setup(self._told(began, steps, context, connection_id=wire.id), self.notify)
        return wire

    async def _connect(
        self, deadline: float | None, steps: list[SetupStep], timeout: float | None, *, resume: bool
    ) -> SocketStream | TLSStream:
        try:
            dialled = await self._dial(deadline, steps)
        except DeadlineExceeded as exc:
            message = f"no connection to {self.target} within {timeout} s: {exc}"
            raise DeadlineExceeded(message, limit="connect", failure=exc.failure) from exc
        wire: SocketStream | TLSStream = dialled.stream
        if self._proxy is not None:
            wire = await self._pass(self._proxy, wire, deadline, steps, resume=resume)
        if self._context is not None:
            phase = Phase.TLS_HANDSHAKE
            wire = await self._secure(wire, self._context, self._name, phase, deadline, steps, resume=resume)
        return wire

    async def _dial(self, deadline: float | None, steps: list[SetupStep]) -> Dialled:
        target, proxy = self.target, self._proxy
        if target.path is not None:
            return await dial_unix(target.path, host=target.host, socket_options=self._socket_options, steps=steps)
        return await dial(
            target.host if proxy is None else proxy.host,
            target.port if proxy is None else proxy.port,
            keepalive=self.keepalive,
            local_address=self._local_address,
            socket_options=self._socket_options,
            timeout=_left(deadline),
            memory=self._memory,
            via=None if proxy is None else proxy.name,
            origin=(target.host, target.port),
            steps=steps,
        )

    async def _pass(
        self,
        proxy: Passage,
        wire: SocketStream | TLSStream,
        deadline: float | None,
        steps: list[SetupStep],
        *,
        resume: bool,
    ) -> SocketStream | TLSStream:
        """Through the proxy at the other end of ``wire``."""
        if proxy.tls is not None:
            wire = await self._secure(wire, proxy.tls, proxy.host, Phase.PROXY, deadline, steps, resume=resume)
        try:
            with _Step(wire, Phase.PROXY, steps):
                await proxy.open(wire, self.target.host, self.target.port, deadline)
        except BaseException:
            wire.abort()
            raise
        wire.phase = Phase.UPGRADED
        return wire

    async def _secure(
        self,
        wire: SocketStream | TLSStream,
        context: ssl.SSLContext,
        name: str,
        phase: Phase,
        deadline: float | None,
        steps: list[SetupStep],
        *,
        resume: bool,
    ) -> TLSStream:
        """TLS over ``wire``; ``phase`` says whether the proxy is at its other end, or the server."""
        key = _tls_sessions.key(context, name, proxy=None if self._proxy is None else self._proxy.name)
        session = _tls_sessions.get(key) if resume else None
        try:
            with _Step(wire, phase, steps):
                secured = await TLSStream.connect(
                    wire,
                    context=context,
                    server_hostname=name,
                    session=session,
                    timeout=_left(deadline),
                    truncation=self._truncation,
                )
        except HoldwireError as exc:
            if session is not None:
                _tls_sessions.fail(key, session, exc.failure)
            if exc.failure is not None and wire.peer is not None:
                self._memory.failed(wire.peer, time.monotonic())
            raise
        if self._resume:
            secured.on_session = _tls_sessions.keeper(key, offered=session, resumed=secured.session_reused)
        return secured

    def _told(
        self,
        began: int,
        steps: list[SetupStep],
        context: Context,
        *,
        connection_id: str | None = None,
        failure: HoldwireError | None = None,
    ) -> ConnectionSetUp:
        return ConnectionSetUp(
            host=self.target.host,
            port=self.target.port,
            connection_id=connection_id,
            began=began,
            ended=time.time_ns(),
            steps=tuple(steps),
            context=context,
            failure=None if failure is None else failure.failure,
        )


def _check_types(*, tls: object, profile: object, keepalive: object, resume: object, proxy: object) -> None:
    check_flag("connect", "resume", resume)
    give = "True, False, None or an ssl.SSLContext"
    check_type("connect", "tls", tls, (bool, NoneType, ssl.SSLContext), give=give)
    check_type("connect", "profile", profile, (str, Profile), give="a holdwire.Profile or its name")
    if keepalive != "profile":
        give = 'a holdwire.Keepalive, None or "profile"'
        check_type("connect", "keepalive", keepalive, (Keepalive, NoneType), give=give)
    if proxy is not None and not callable(getattr(proxy, "open", None)):
        raise TypeError(f"connect: proxy must be a holdwire.Tunnel, not {type(proxy).__name__}")


def _check_names(*, server_hostname: object, alpn: object, local_address: object) -> None:
    check_type("connect", "server_hostname", server_hostname, (str, NoneType), give="a str or None")
    check_type("connect", "local_address", local_address, (str, NoneType), give="an IP address of this host or None")
    give = "a list of names, ['h2']"
    check_type("connect", "alpn", alpn, Sequence, give=give)
    if isinstance(alpn, str):
        raise TypeError(f"connect: alpn must be {give}, not str")
    for name in cast("Sequence[object]", alpn):
        check_type("connect", "alpn", name, str, give=give)


class _Step:
    """Records one step of setting up, whatever becomes of it."""

    def __init__(self, wire: SocketStream | TLSStream, phase: Phase, steps: list[SetupStep]) -> None:
        self._facts = wire.facts()
        self._phase = phase
        self._steps = steps
        self._began = time.time_ns()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: object) -> None:
        self._steps.append(
            SetupStep(
                phase=self._phase,
                began=self._began,
                ended=time.time_ns(),
                peer=self._facts.get("peer"),
                peer_port=self._facts.get("peer_port"),
                failure=value.failure if isinstance(value, HoldwireError) else None,
            )
        )


@functools.lru_cache(maxsize=16)
def _default_context(alpn: tuple[str, ...]) -> ssl.SSLContext:
    """One context for all streams of the process that bring none, so that sessions can be resumed."""
    context = prepare(ssl.create_default_context())
    offer_protocols(context, alpn)
    return context


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)
