"""Plays a history against the real client, exchange, pool, streams and dialler, and checks the invariants afterwards.

Only the kernel (``kernel``), the servers (``origin``) and time (``virtual_time``) are simulated; TLS is OpenSSL on both
sides. The oracle looks at the sockets and at the servers' ledger, never at what the client found out. Not
responsible for what is drawn.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections import Counter
from contextlib import ExitStack
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import anyio
import tenacity

from holdwire.errors import ClosedError, DeadlineExceeded, HoldwireError
from holdwire.events import FailureRecorded, Observers, RequestRetried
from holdwire.http.client import ClientSettings, HttpClient
from holdwire.http.h2_settings import Http2Settings
from holdwire.http.messages import Origin as Address
from holdwire.http.messages import Request, Timeouts
from holdwire.http.pool import PoolLimits
from holdwire.net.dial import substitute_sockets
from holdwire.policy.phase import Delivery
from holdwire.policy.retry import Evidence
from holdwire.policy.settings import Heartbeat
from holdwire.retrying import RetryPolicy
from holdwire.transports._body import StreamedBody

from .kernel import Kernel
from .origin import Origin, request_body
from .origin_tls import client_context
from .virtual_time import Clock, Hang, VirtualLoop, virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdwire.events import Event

    from .histories import Ask, History
    from .kernel import Try

__all__ = ["INVARIANTS", "Player", "Result", "Violation", "play"]

INVARIANTS: Final = {
    "twice": "no request that is not idempotent is executed twice",
    "unsent": "what was called unsent or unprocessed was never executed",
    "bytes": "no byte is lost or corrupted",
    "verdict": "every verdict is the one that follows from what left and what came back",
    "cause": "no request fails without a fault, a time limit or a closed transport",
    "record": "every failure that a socket handed out is recorded exactly once",
    "leak": "no socket, place in the pool, waiter, task or timer is left",
    "hang": "nothing waits for ever, and no time limit is exceeded",
    "crash": "no exception but the documented ones",
}
ADDRESSES: Final = {False: Address("http", "10.0.0.1", 80), True: Address("https", "10.0.0.1", 443)}
_LIMIT: Final = 5_000.0
"""Virtual seconds after which a history hangs."""
_AFTERWARDS: Final = 400.0
"""Virtual seconds in which what is still under way arrives, after the last request."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


@dataclass(slots=True)
class Result:
    """What a history came to."""

    protocol: str = ""
    requests: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    retries: int = 0
    sessions: int = 0
    messages: int = 0
    faults: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """By point and kind."""
    violations: list[Violation] = field(default_factory=list[Violation])


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 7_000):
        yield data[start : start + 7_000]


@dataclass(slots=True)
class _Fate:
    """How a request ended."""

    began: float = 0.0
    ended: float = 0.0
    headed: float | None = None
    status: int | None = None
    body: bytes = b""
    error: BaseException | None = None
    cancelled: bool = False

    @property
    def given_up(self) -> bool:
        """Whether it was its owner who ended it."""
        return self.cancelled or isinstance(self.error, DeadlineExceeded | ClosedError)


_name: Final = ContextVar[str]("name")


class Player:
    """One run of one history."""

    server: type[Origin] = Origin

    def __init__(self, history: History) -> None:
        self.history = history
        self.clock = Clock(limit=_LIMIT)
        self.kernel = Kernel(self.clock)
        self.origin = self.server(self.kernel, history)
        self.fates = {ask.name: _Fate() for ask in history.asks}
        self.events: list[Event] = []
        self.violations: list[Violation] = []
        self.sessions = self.messages = self.cancelled = 0
        self._verdicts: Counter[str | None] = Counter()
        self._hidden: set[str] = set()
        self._seen: Counter[str] = Counter()
        """Attempts of each request that a verdict was given on."""

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, RequestRetried) and event.context is not None:
            name = event.context[_name]
            tries = self.kernel.tries.get(name, [])
            new = tries[self._seen[name] :]
            if not new:  # what the kernel was not offered may be offered later, as if it were another attempt's
                self._hidden.add(name)
            elif name not in self._hidden:
                new[-1].proven = event.verdict.evidence is Evidence.PROOF
            self._seen[name] = len(tries)
            self._verdicts[name] += 1

    def violated(self, invariant: str, what: str) -> None:
        self.violations.append(Violation(invariant, what))

    # --- playing ---

    def play(self) -> Result:
        random.seed(self.history.seed)
        with self._simulated():
            loop = VirtualLoop(self.clock, self.kernel.sockets)
            self.kernel.loop = loop
            loop.set_exception_handler(self._reported)
            try:
                loop.run_until_complete(self._run())
                self._check_loop(loop)
            except Hang as hang:
                self.violated("hang", str(hang))
                _abandon(loop)
            except Exception as error:  # noqa: BLE001 - whatever it is, the history's seed belongs to it
                self.violated("crash", repr(error))
                _abandon(loop)
            finally:
                loop.close()
        return self._result()

    def _simulated(self) -> ExitStack:
        stack = ExitStack()
        stack.enter_context(virtual_time(self.clock))
        stack.enter_context(substitute_sockets(self.kernel.socket))
        stack.enter_context(patch("holdwire.net.tcp_info._ioctl", self.kernel.ioctl))
        return stack

    def _reported(self, _: object, context: dict[str, Any]) -> None:
        self.violated("crash", f"told to the event loop: {context.get('exception') or context['message']!r}")

    async def _run(self) -> None:
        history = self.history
        client = HttpClient(
            ClientSettings(
                tls_context=client_context,
                limits=PoolLimits(
                    max_connections=history.max_connections,
                    max_idle=history.max_idle,
                    max_requests=history.max_requests,
                ),
                retry=RetryPolicy(
                    stop=tenacity.stop_after_attempt(history.attempts),
                    statuses=history.statuses,
                    timeouts=history.timeouts,
                ),
                observers=Observers([self]),
                http1=history.secure or history.http2 is None,
                http2=self._http2(),
            )
        )
        self.origin.start()
        async with anyio.create_task_group() as group:
            for ask in history.asks:
                group.start_soon(self._ask, client, ask)
            if history.close_at is not None:
                await anyio.sleep(history.close_at)
                await client.aclose()
        await anyio.sleep(history.timeout + 1)  # what is still being connected for a path that looked dead
        self._check_pool(client)
        await client.aclose()
        for pool in client.pools:
            if pool.size:
                self.violated("leak", f"{pool.size} connections are counted after the end")
        await anyio.sleep(_AFTERWARDS)

    def _http2(self) -> Http2Settings | None:
        terms = self.history.http2
        if terms is None:
            return None
        beat = None if terms.heartbeat is None else Heartbeat(interval=terms.heartbeat)
        return Http2Settings(heartbeat=beat, max_requests=self.history.max_requests)

    async def _ask(self, client: HttpClient, ask: Ask) -> None:
        fate = self.fates[ask.name]
        await anyio.sleep(ask.at)
        timeout = self.history.timeout
        upload = request_body(ask.name, ask.upload)
        headers = [(b"Host", b"10.0.0.1")]
        if ask.streamed:
            headers.append((b"Transfer-Encoding", b"chunked"))
        elif upload:
            headers.append((b"Content-Length", b"%d" % len(upload)))
        fate.began = self.clock.now
        _name.set(ask.name)
        request = Request(
            ask.method.encode(),
            ADDRESSES[self.history.secure],
            ask.name.encode(),
            headers,
            StreamedBody(_pieces(upload)) if ask.streamed else upload,
            timeouts=Timeouts(connect=timeout, read=timeout, write=timeout, pool=timeout),
            marked=ask.marked,
            context=copy_context(),
            deadline=None if ask.deadline is None else fate.began + ask.deadline,
        )
        with anyio.CancelScope() as scope:
            if ask.cancel_after is not None:
                scope.deadline = anyio.current_time() + ask.cancel_after
            try:
                response = await client.send(request)
                fate.headed = self.clock.now
                pieces: list[bytes] = []
                try:
                    pieces.extend([piece async for piece in response.body])
                finally:
                    await response.body.aclose()
                fate.status = response.status
                fate.body = b"".join(pieces)
            except HoldwireError as error:
                fate.error = error
        fate.cancelled = scope.cancelled_caught
        fate.ended = self.clock.now

    # --- checking ---

    def _check_pool(self, client: HttpClient) -> None:
        """Every request has ended: the pool holds idle connections and nothing else."""
        for pool in client.pools:
            connections = pool.connections
            if pool.size != len(connections):
                self.violated("leak", f"{pool.size} places for {len(connections)} connections")
            if any(connection.active for connection in connections):
                self.violated("leak", "a connection is in use, and no request is left")
            if pool._waiters.oldest is not None:
                self.violated("leak", "somebody waits in the queue, and no request is left")
            if len(connections) > self.history.max_connections:
                self.violated("leak", f"{len(connections)} connections where {self.history.max_connections} may be")

    def _check_loop(self, loop: VirtualLoop) -> None:
        if left := [sock.port for sock in self.kernel.made if sock.fd >= 0]:
            self.violated("leak", f"sockets {left} are open")
        if loop.watched:
            self.violated("leak", f"descriptors {loop.watched} are registered")
        if tasks := [task.get_name() for task in asyncio.all_tasks(loop)]:
            self.violated("leak", f"tasks {tasks} are running")

    def _result(self) -> Result:
        if not any(violation.invariant in {"hang", "crash"} for violation in self.violations):
            self._check()
        for complaint in self.origin.complaints:
            self.violated("bytes", complaint)
        fates = self.fates.values()
        return Result(
            protocol=self.history.protocol,
            requests=0 if self.sessions else len(fates),
            answered=sum(fate.status is not None for fate in fates),
            failed=sum(fate.error is not None for fate in fates),
            cancelled=sum(fate.cancelled for fate in fates) + self.cancelled,
            sessions=self.sessions,
            messages=self.messages,
            retries=sum(isinstance(event, RequestRetried) and event.verdict.retries for event in self.events),
            faults=self.kernel.struck,
            violations=self.violations,
        )

    def _check(self) -> None:
        for ask in self.history.asks:
            self._check_request(ask, self.fates[ask.name])
        self._check_verdicts()
        self._check_records()

    def _check_request(self, ask: Ask, fate: _Fate) -> None:
        executed = self.origin.executed[ask.name]
        tries = self.kernel.tries.get(ask.name, [])
        if executed > 1 and not ask.repeatable:
            self.violated("twice", f"{ask.method} {ask.name} was executed {executed} times")
        if fate.status == 200:
            if fate.body != ask.expected(zlib.crc32(request_body(ask.name, ask.upload))):
                self.violated("bytes", f"the answer of {ask.name} is not what was sent: {len(fate.body)} bytes")
            if not executed:
                self.violated("bytes", f"{ask.name} was answered and not executed")
        if fate.status is None and fate.error is None and not fate.cancelled:
            self.violated("hang", f"{ask.name} has neither an answer nor an error")
        if ask.deadline is not None and (fate.headed or fate.ended) - fate.began > ask.deadline + 0.6:
            self.violated("hang", f"{ask.name} took longer than its deadline")
        if any(one.proven and one.executed for one in tries):
            self.violated("unsent", f"{ask.method} {ask.name} was taken for not executed, and was")
        late = isinstance(fate.error, DeadlineExceeded) and fate.error.limit == "read" and ask.name not in self._hidden
        late = late and bool(tries)
        if late and (known := tries[-1].known) is not None and fate.ended > known + 0.01:
            self.violated("hang", f"{ask.name} timed out at {fate.ended}, and its end had been read at {known}")
        self._check_error(ask, fate.error, executed, tries)

    def _check_error(self, ask: Ask, error: BaseException | None, executed: int, tries: list[Try]) -> None:
        if not isinstance(error, HoldwireError) or isinstance(error, ClosedError):
            if isinstance(error, ClosedError) and self.history.close_at is None:
                self.violated("crash", f"{ask.name}: {error}")
            return
        if error.failure is None or error.verdict is None:
            self.violated("record", f"{ask.name}: an error without a record or a verdict: {error!r}")
            return
        if executed and (error.safe_to_retry or (error.delivery is Delivery.NOT_SENT and len(tries) <= 1)):
            self.violated("unsent", f"{ask.name} is said to be safe to repeat and was executed: {error}")
        late = isinstance(error, DeadlineExceeded)
        if not late and self.history.close_at is None and not self._is_hit(tries):
            self.violated("cause", f"{ask.name} failed and nothing was done to it: {error}")

    def _is_hit(self, tries: list[Try]) -> bool:
        """Whether a fault struck a connection of the request, or one that never came about."""
        if not tries or any(one.sock.struck for one in tries):
            return True
        return any(sock.struck and not sock.tries for sock in self.kernel.made)

    def _check_verdicts(self) -> None:
        """What each final verdict must be, from the bytes at the sockets alone."""
        for ask in self.history.asks:
            fate = self.fates[ask.name]
            error = fate.error
            tries = self.kernel.tries.get(ask.name, [])
            if not isinstance(error, HoldwireError) or error.verdict is None or error.failure is None:
                continue
            verdict = error.verdict
            setup = error.failure.phase.is_setup or error.failure.phase.value == "pool"
            sent = bool(tries) and not setup and tries[-1].left
            if sent:
                if verdict.evidence is Evidence.PROOF and not tries[-1].disclaimed:
                    self.violated("verdict", f"{ask.name}: bytes had left, and the verdict claims a proof: {verdict}")
                if verdict.evidence is Evidence.ASSUMED and not ask.repeatable:
                    self.violated("verdict", f"{ask.name} is not idempotent and was taken for it: {verdict}")
            elif not (error.safe_to_retry or self._may_leave(error) or any(one.left for one in tries)):
                self.violated("verdict", f"{ask.name}: nothing had left, and it is not safe to repeat: {verdict}")
        for event in self.events:
            if isinstance(event, RequestRetried) and event.verdict.retries and event.status is None:
                self._check_retry(event)

    def _may_leave(self, error: HoldwireError) -> bool:
        """Whether what had not left may still do so: HTTP/2 frames that wait on a connection that lives."""
        return self.history.close_at is not None or (
            self.history.http2 is not None and isinstance(error, DeadlineExceeded)
        )

    def _check_retry(self, event: RequestRetried) -> None:
        if event.verdict.evidence is Evidence.NONE:
            self.violated("verdict", f"sent again without any evidence: {event.verdict}")

    def _check_records(self) -> None:
        """A socket's failure is told once, over HTTP/2 to each of its requests; what nobody waits for need not be."""
        told: Counter[tuple[int | None, str | None]] = Counter()
        deaths = 0
        for event in self.events:
            if isinstance(event, FailureRecorded):
                if event.deaths > 1:
                    deaths += event.deaths - 1
                name = None if event.context is None or self.history.http2 is None else event.context[_name]
                told[event.failure.local_port, name] += 1
        tries: Counter[tuple[int, str | None]] = Counter()
        tries.update((one.sock.port, one.name) for some in self.kernel.tries.values() for one in some)
        for (port, name), count in told.items():
            began = 0 if name is None else self._verdicts[name] + 1  # each retry, and the first attempt
            unseen = began - len(self.kernel.tries.get(name or "", ()))  # never offered to the kernel
            if port is not None and count > max(tries[port, name] + max(unseen, 0), 1):
                self.violated("record", f"the failure of connection {port} is recorded {count} times ({name})")
        ports = {port for port, _ in told}
        missing = 0
        for sock in self.kernel.made:
            if sock.told and sock.port not in ports and sock.connected:
                fates = [self.fates[one.name] for one in sock.tries if one.waits]
                given_up = bool(fates) and all(fate.given_up for fate in fates)
                missing += not given_up
        if missing > deaths and self.history.close_at is None:
            self.violated("record", f"{missing} connections failed unrecorded, {deaths} are told of together")


def _abandon(loop: VirtualLoop) -> None:
    """Let go of what a broken history left running."""
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.cancel()


def play(history: History) -> Result:
    """Play ``history`` once."""
    return Player(history).play()
