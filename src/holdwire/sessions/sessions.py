"""``sessions``: one connected, logged-in session after another, for as long as the caller wants.

Theory of operation. ``Sessions`` is an async iterator without a task of its own: connecting, logging in and pausing
happen in the caller's task, inside ``__anext__``. So whatever leaves the loop (``break``, ``return``, an exception, a
cancellation) leaves nothing behind but the session itself, which ``async with session`` closes. How an attempt or a
session ended goes to ``retrying.Reconnector``, which says how long to pause, or to stop.

Invariants: one session at a time, the last one is closed before the next is opened; a session is given out only after
the login hook has returned and the first probe was answered; every attempt ends with a session, a pause or an
exception that says why. Not responsible for what is a hopeless failure (``policy.reconnect``).
"""

from __future__ import annotations

import math
import random
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict, Unpack

import anyio
from anyio import ResourceGuard

from ..errors import (
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    HoldwireError,
    LoginRefused,
    ProxyError,
    SessionDown,
)
from ..events import Reconnected, register_snapshots, tell_setup
from ..policy import diagnosis
from ..policy.checks import check_seconds, check_type
from ..policy.kind import Kind
from ..retrying import Reconnector, ReconnectPolicy
from .connect import connect
from .session import Session

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from ..events import Observer
    from ..net.keepalive import SocketOption
    from ..policy.failure import Failure
    from ..policy.profiles import Profile
    from ..policy.settings import Heartbeat
    from ..tls.engine import Truncation
    from .connect import Connecting
    from .opener import KeepaliveSetting, Passage

__all__ = ["Sessions", "StreamOptions", "sessions"]

_AGE_SPREAD: Final = 0.1


class StreamOptions(TypedDict, total=False):
    """The arguments of ``connect`` that ``sessions`` takes too."""

    host: str | None
    port: int | None
    tls: ssl.SSLContext | bool | None
    server_hostname: str | None
    alpn: Sequence[str]
    tls_truncation: Truncation
    resume: bool
    profile: str | Profile
    keepalive: KeepaliveSetting
    heartbeat: Heartbeat | None
    proxy: Passage | None
    connect_timeout: float | None
    local_address: str | None
    socket_options: Iterable[SocketOption]
    observers: Iterable[Observer]


class Sessions:
    """See the module; made by ``sessions``. ``wake``, ``drain``, ``recycle``, ``send`` are for other tasks."""

    def __init__(
        self,
        connecting: Connecting,
        *,
        on_connect: Callable[[Session], Awaitable[Any]] | None,
        login_timeout: float | None,
        reconnect: ReconnectPolicy,
        max_age: float | None,
    ) -> None:
        self._connecting = connecting
        self._opener = connecting.opener
        self._on_connect = on_connect
        self._login_timeout = login_timeout
        self._max_age = max_age
        self._reconnector = Reconnector(reconnect, names_may_appear=connecting.opener.names_may_appear)
        self._present: Session | None = None
        self._number = 0
        self._previous: Failure | None = None
        self._error: HoldwireError | None = None
        self._refused: dict[str | None, str] = {}
        self._down_since = time.monotonic()
        self._down_since_ns = time.time_ns()
        self._attempts: list[tuple[float, str]] = []
        self._pause = 0.0
        """Seconds before the next attempt, which may begin at ``_again_at``: a cancelled pause goes on later."""
        self._again_at = -math.inf
        self._draining = False
        self._attempting: anyio.CancelScope | None = None
        """Around connecting and logging in, which end when no session is wanted any more."""
        self._over = False
        self._iterating = ResourceGuard("iterating over")
        self._news: anyio.Event | None = None
        register_snapshots(self)

    # --- the loop ---

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Session:
        with self._iterating:
            if self._over:
                raise StopAsyncIteration
            try:
                session = await self._next()
            except Exception as exc:
                self._over = True
                self._error = exc if isinstance(exc, HoldwireError) else None
                raise
            finally:
                self._tell_senders()
            if session is None:
                self._over = True
                raise StopAsyncIteration
            return session

    async def _next(self) -> Session | None:
        await self._leave()
        while await self._paused():
            outcome = None
            with anyio.CancelScope() as self._attempting:
                outcome = await self._attempt()
            if outcome is None:  # nobody wants it any more
                break
            if isinstance(outcome, Session):
                if self._draining:  # since the attempt began
                    await outcome.aclose()
                    break
                self._give_out(outcome)
                return outcome
            self._failed(outcome)
        return None

    def _pause_for(self, seconds: float) -> None:
        self._pause, self._again_at = seconds, time.monotonic() + seconds

    async def _paused(self) -> bool:
        """Pause, unless this is the very first attempt; whether an attempt is still wanted."""
        if not self._draining and (self._number or self._attempts):
            await self._reconnector.pause(max(self._again_at - time.monotonic(), 0.0))
            self._again_at = -math.inf
        return not self._draining

    async def _leave(self) -> None:
        """Close the session that was given out last, and learn from its end how long to pause."""
        session = self._present
        if session is None:
            if not self._number and not self._attempts:  # made long before the loop began, perhaps
                self._down_since, self._down_since_ns = time.monotonic(), time.time_ns()
            return
        await session.aclose()
        self._present = None  # cancelled until here, it is judged the next time
        up_for = session.ended_at - session.up_since
        self._down_since = session.ended_at
        self._down_since_ns = time.time_ns() - int((time.monotonic() - session.ended_at) * 1e9)
        self._attempts = []
        self._previous = None if session.recycled else session.failure
        self._error = None if self._previous is None else ConnectionLost(failure=self._previous)
        pause, stop = self._reconnector.session_ended(
            session.failure,
            up_for=up_for,
            heard=session.heard,
            silent=not session.statistics.bytes_in,
            recycled=session.recycled,
        )
        if stop is not None:
            raise self._stopped(self._error or HoldwireError(str(self._opener.target)), stop)
        self._pause_for(pause)

    async def _attempt(self) -> Session | HoldwireError:
        """Connect, log in, see the first probe answered; or the error of an attempt that may be followed by another."""
        opener = self._opener
        timeout = self._connecting.timeout
        try:
            wire = await opener.open(None if timeout is None else max(timeout, self._reconnector.last_pause))
        except (ConnectFailed, ProxyError, DeadlineExceeded) as exc:
            return exc
        session = Session(
            wire,
            notify=opener.notify,
            keepalive=opener.keepalive,
            heartbeat=self._connecting.heartbeat,
            context=copy_context(),
            memory=opener.memory,
        )
        session.number = self._number + 1
        session.previous = self._previous
        up = False
        try:
            with anyio.move_on_after(self._login_timeout) as limit:
                if self._on_connect is not None:
                    session.login = await self._on_connect(session)
                await session.wait_for_life()
            up = not limit.cancelled_caught
            if up:
                return session
            detail = f"logging in was not over within {self._login_timeout} s"
            failure = diagnosis.local(Kind.LOCAL_TIMEOUT, phase=wire.phase, facts=wire.facts(), detail=detail)
            outcome: HoldwireError = DeadlineExceeded(limit="connect", failure=failure)
        except LoginRefused as exc:
            if self._refused.get(session.peer) == str(exc):
                exc.add_note(f"{opener.target} ({session.peer}) refused the login twice in the same way")
                raise
            self._refused[session.peer] = str(exc)
            outcome = exc
        except Exception as exc:
            if not session.owns(exc):
                exc.add_note(f"raised by on_connect of session {session.number} to {opener.target}")
                raise
            outcome = ConnectionLost(failure=session.failure)
            outcome.__cause__ = exc
        finally:
            if not up:
                session.abort()
        return outcome

    def _failed(self, error: HoldwireError) -> None:
        """Learn from a failed attempt how long to pause.

        Raises:
            HoldwireError: ``error``: no attempt follows.
        """
        failure = error.failure
        self._error = error
        self._attempts.append((self._pause, "login_refused" if failure is None else str(failure.kind)))
        pause, stop = self._reconnector.attempt_failed(failure, error)
        if error.setup is not None:
            tell_setup(error.setup, self._opener.notify, attempt=len(self._attempts), final=stop is not None)
        if stop is not None:
            raise self._stopped(error, stop)
        self._pause_for(pause)

    def _stopped(self, error: HoldwireError, reason: str) -> HoldwireError:
        self._tell_reconnected(None, error.failure)
        error.add_note(f"the sessions to {self._opener.target} have stopped: {reason}")
        return error

    def _give_out(self, session: Session) -> None:
        now = time.monotonic()
        self._number = session.number
        self._attempts.append((self._pause, "ok"))
        self._refused.clear()
        self._error = None
        self._reconnector.up()
        session.up_since = session.ended_at = now
        session.attempts = len(self._attempts)
        session.down_for = now - self._down_since
        if self._max_age is not None:
            session.age_limit(self._max_age * random.uniform(1 - _AGE_SPREAD, 1 + _AGE_SPREAD))  # noqa: S311 - jitter
        self._present = session
        self._tell_reconnected(session, None)

    def _tell_reconnected(self, session: Session | None, failure: Failure | None) -> None:
        if session is not None and session.number == session.attempts == 1:
            return
        target = self._opener.target
        self._opener.notify(
            Reconnected(
                host=target.host,
                port=target.port,
                began=self._down_since_ns,
                ended=time.time_ns(),
                attempts=tuple(self._attempts),
                ok=session is not None,
                context=copy_context(),
                failure=failure,
                connection_id=None if session is None else session.id,
            )
        )

    # --- for other tasks ---

    @property
    def current(self) -> Session | None:
        """The session that is up; None while there is none."""
        session = self._present
        return None if session is None or session.closed or session.failure is not None else session

    def snapshot(self) -> list[dict[str, Any]]:
        """What the series is doing, as one mapping of plain values: its part of ``holdwire.snapshot()``."""
        target, session, error = self._opener.target, self.current, self._error
        failure = self._previous if error is None else error.failure
        limit = self._opener.memory.estimate
        connections: list[dict[str, Any]] = []
        if session is not None:
            numbers = session.statistics
            connections.append(
                {
                    "id": session.id,
                    "peer": session.peer,
                    "age": numbers.age,
                    "idle": numbers.idle,
                    "bytes_in": numbers.bytes_in,
                    "bytes_out": numbers.bytes_out,
                    "rtt": numbers.smoothed_rtt,
                }
            )
        return [
            {
                "scheme": "unix" if target.path is not None else "tls" if target.secure else "tcp",
                "host": target.host,
                "port": target.port,
                "session": self._number,
                "attempts": len(self._attempts),
                "last_failure": None if failure is None else str(failure.kind),
                "idle_limit": None if limit is None else limit.as_dict(),
                "connections": connections,
            }
        ]

    async def send(self, item: bytes, *, wait: float | None = None) -> None:
        """Send ``item`` on the present session; while there is none, fail at once or wait up to ``wait`` seconds.

        Nothing is kept for the next session: a message that was cut is the caller's to send again.

        Raises:
            SessionDown: There is no session; nothing was sent.
            ConnectionLost: The session ended in the middle; ``fate`` says how much was written and acknowledged.
        """
        session = self.current
        if session is None and wait is not None:
            with anyio.move_on_after(wait):
                while (session := self.current) is None and not self._over:
                    if self._news is None:
                        self._news = anyio.Event()
                    await self._news.wait()
        if session is None:
            raise self._down()
        await session.send(item)

    def _down(self) -> SessionDown:
        target, error = self._opener.target, self._error
        failure = error.failure if error is not None else None
        state = "has ended for good" if self._over else f"is down since {time.monotonic() - self._down_since:.1f} s"
        message = f"the session to {target} {state}, nothing was sent"
        if error is not None:
            message += f"; the last error: {error}"
        return SessionDown(message, failure=failure)

    def _tell_senders(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    def wake(self) -> None:
        """Cut the pause before the next attempt short: the network is back, say."""
        self._reconnector.wake()

    def recycle(self) -> None:
        """Have the present session ended at its next ``boundary``, and a new one made."""
        if self._present is not None:
            self._present.recycle("a new session was asked for")

    async def drain(self) -> None:
        """Give out no further session, and wait until the present one has ended: at its next ``boundary``."""
        self._stop()
        session = self.current
        if session is not None:
            session.recycle("the sessions are being drained")
            await session.wait_ended()

    def close(self) -> None:
        """End the present session at once, and the loop with it."""
        self._stop()
        if self._present is not None:
            self._present.end("the sessions were closed")

    def _stop(self) -> None:
        """Want no further session."""
        self._draining = True
        if self._attempting is not None:
            self._attempting.cancel()
        self._reconnector.wake()


def sessions(
    url: str | None = None,
    *,
    on_connect: Callable[[Session], Awaitable[Any]] | None = None,
    login_timeout: float | None = 30.0,
    reconnect: ReconnectPolicy | None = None,
    max_age: float | None = None,
    **options: Unpack[StreamOptions],
) -> Sessions:
    """One connected session after another, in an ``async for`` loop that uses each with ``async with session:``.

    Args:
        url: As that of ``connect``.
        on_connect: Logs in, subscribes, resumes; its result is ``session.login``. It may raise ``Fatal`` to stop for
            good, or ``LoginRefused``; any other exception than the session's own end reaches the caller of the loop.
        login_timeout: Seconds for ``on_connect`` and the first probe; None sets no limit.
        reconnect: The pauses, and when to give up.
        max_age: Seconds after which a session is recycled, +-10 %, at its next ``boundary``; None for never.
        options: As those of ``connect``; each attempt may take the last pause where that is above ``connect_timeout``.

    Raises:
        UnsupportedProtocol, ValueError, TypeError: An argument is wrong.

    Raises (from the loop):
        ConnectFailed, ProxyError, DeadlineExceeded, ConnectionLost: What cannot get better, or a stop rule ended it.
        LoginRefused: The same refusal twice by one server.
        Fatal: The hook's.
    """
    if reconnect is not None:
        check_type("sessions", "reconnect", reconnect, ReconnectPolicy, give="a holdwire.ReconnectPolicy or None")
    for name, limit in (("login_timeout", login_timeout), ("max_age", max_age)):
        if limit is not None:
            check_seconds("sessions", name, limit, least=0.001, hint="None sets no limit")
    if on_connect is not None and not callable(on_connect):
        raise TypeError(f"sessions: on_connect must be an async function, not {type(on_connect).__name__}")
    return Sessions(
        connect(url, **options),
        on_connect=on_connect,
        login_timeout=login_timeout,
        reconnect=reconnect or ReconnectPolicy(),
        max_age=max_age,
    )
