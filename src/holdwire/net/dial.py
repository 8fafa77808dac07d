"""``dial``: from a host name to a connected ``SocketStream``: Happy Eyeballs (RFC 8305) on sockets of our own.

Theory of operation. The addresses are tried in order, families interleaved, those that failed of late last. The next
one starts at once when one fails and after 0.25 s when one is slow; the first that connects wins, the rest is closed.
Nothing costs a task until two connects must run at once: the first is waited for in the caller's own task, and where
it fails at once (``::1`` refused, then 127.0.0.1) the second one follows there too.

Invariants: each address that was tried is one ``SetupStep``, with at most one ``Failure`` made from the one errno that
the kernel hands out; whatever ends ``dial``, a cancellation included, the steps are told and every socket that is not
the winner's is closed; keepalive and TCP_USER_TIMEOUT are set before ``connect``, so that they bound it.
Not responsible for proxies, TLS, or trying again.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from ..errors import ConnectFailed, DeadlineExceeded
from ..events import SetupStep
from ..policy import diagnosis
from ..policy.kind import Action, Kind
from ..policy.phase import Phase
from .attempt import Attempt
from .resolve import Address, AddressMemory, NameNotResolved, interleave, literal, resolve
from .runtime import current

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ..policy.failure import Failure
    from ..policy.settings import Keepalive
    from .attempt import SocketFactory
    from .keepalive import SocketOption
    from .runtime import Signal
    from .stream import SocketStream

__all__ = ["STAGGER", "AddressMemory", "Dialled", "dial", "dial_unix", "socket_factory", "substitute_sockets"]

STAGGER: Final = 0.25
"""Seconds before the next address is tried beside one that is slow (RFC 8305, section 5)."""

socket_factory: SocketFactory = socket.socket
"""What makes every socket of holdwire; see ``substitute_sockets``."""


@contextlib.contextmanager
def substitute_sockets(factory: SocketFactory) -> Generator[None]:
    """For tests: let ``factory(family, type, proto)`` make the sockets that the process opens meanwhile."""
    global socket_factory  # noqa: PLW0603 - this is the seam
    before, socket_factory = socket_factory, factory
    try:
        yield
    finally:
        socket_factory = before


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialled:
    """What ``dial`` made: a connected stream, and whether the host has an address that was not tried."""

    stream: SocketStream
    address_left: bool = False


async def dial(
    host: str,
    port: int,
    *,
    keepalive: Keepalive | None,
    local_address: str | None = None,
    socket_options: Sequence[SocketOption] = (),
    timeout: float | None = None,
    via: str | None = None,
    memory: AddressMemory | None = None,
    origin: tuple[str, int] | None = None,
    steps: list[SetupStep] | None = None,
) -> Dialled:
    """Connect to ``host``, a name or an IP literal.

    Args:
        host: Where to connect to: the server, or its proxy.
        port: Its port.
        keepalive: What to set before connecting; None for the system's defaults.
        local_address: Our own address; it also decides the family ("0.0.0.0" for IPv4 only).
        socket_options: As httpx's; they win over ``keepalive``.
        timeout: Seconds for all of it, name resolution included.
        via: The proxy, as ``host:port``, for records.
        memory: Addresses that failed of late; failures and successes are noted in it.
        origin: The logical host and port for records and messages, if not ``host`` and ``port``.
        steps: Where what was tried is added, whatever comes of it.

    Raises:
        ConnectFailed: No address could be connected to; ``failures`` has one record for each.
        DeadlineExceeded: ``timeout`` expired.
    """
    job = _Dial(
        host,
        port,
        origin=origin or (host, port),
        via=via,
        keepalive=keepalive,
        local_address=local_address,
        socket_options=socket_options,
        timeout=timeout,
        memory=memory,
    )
    try:
        return await job.run()
    finally:
        if steps is not None:
            steps.extend(job.steps())


async def dial_unix(
    path: str,
    *,
    host: str | None = None,
    port: int = 0,
    socket_options: Sequence[SocketOption] = (),
    timeout: float | None = None,  # noqa: ARG001 - connecting to a Unix socket never waits
    steps: list[SetupStep] | None = None,
) -> Dialled:
    """Connect to the Unix socket at ``path``; a leading null character means Linux's abstract names.

    Args:
        path: Where to connect to.
        host: The logical host for records and messages; by default the path.
        port: The logical port.
        socket_options: As httpx's.
        timeout: As that of ``dial``.
        steps: As those of ``dial``.

    Raises:
        ConnectFailed: Nobody listens there, or the listener's backlog is full (EAGAIN).
    """
    name = path.replace("\0", "@")
    attempt = Attempt(current(), socket.AF_UNIX, name, None, origin=(name if host is None else host, port), via=None)
    try:
        attempt.begin(socket_factory, path, user_options=socket_options)
        if attempt.failure is not None:
            raise _failed([attempt.failure])
        return Dialled(stream=attempt.hand_over())
    finally:
        attempt.close()
        if steps is not None:
            steps.append(attempt.step())


class _Dial:
    """One call of ``dial``."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        origin: tuple[str, int],
        via: str | None,
        keepalive: Keepalive | None,
        local_address: str | None,
        socket_options: Sequence[SocketOption],
        timeout: float | None,
        memory: AddressMemory | None,
    ) -> None:
        self._host = host
        self._port = port
        self._origin = origin
        self._via = via
        self._keepalive = keepalive
        self._local_address = local_address
        self._socket_options = socket_options
        self._memory = memory
        self._runtime = current()
        self._timeout = timeout
        self._deadline = None if timeout is None else self._runtime.time() + timeout
        self._local_hosts: dict[int, str] = {}
        self._lookups: list[SetupStep] = []
        self._attempts: list[Attempt] = []
        self._queue: deque[Address] = deque()
        self._winner: Attempt | None = None
        self._news: Signal = self._runtime.signal()

    async def run(self) -> Dialled:
        try:
            self._queue.extend(await self._addresses())
            await self._connect()
            return self._result()
        finally:
            for attempt in self._attempts:
                attempt.close()

    # --- which addresses ---

    async def _addresses(self) -> list[Address]:
        found = await self._resolve(self._host, self._port)
        if self._local_address is not None:
            for address in reversed(await self._resolve(self._local_address, 0, ours=True)):
                self._local_hosts[address.family] = address.host
            found = [address for address in found if address.family in self._local_hosts]
            if not found:
                failure = diagnosis.from_errno(
                    errno.EAFNOSUPPORT,
                    syscall="bind",
                    phase=Phase.CONNECT,
                    facts=self._facts(),
                    connected=False,
                    detail="the host has no address of the family of local_address",
                )
                raise _failed([failure])
        if self._memory is not None and len(found) > 1:
            found = self._memory.order(found, time.monotonic())
        return found

    async def _resolve(self, host: str, port: int, *, ours: bool = False) -> list[Address]:
        address = literal(host, port)
        if address is not None:
            return [address]
        began = time.time_ns()
        failure: Failure | None = None
        found: list[Address] = []
        try:
            with anyio.move_on_after(self._left()):
                found = await resolve(host, port, facts=self._facts())
        except NameNotResolved as exc:
            failure = self._not_ours(exc.failure) if ours else exc.failure
            self._looked_up(began, failure)
            raise _failed([failure]) from exc.__cause__
        if not found:
            failure = self._timed_out(Phase.DNS, self._facts())
            self._looked_up(began, failure)
            raise DeadlineExceeded(limit="connect", failure=failure)
        self._looked_up(began, None)
        return interleave(found)

    def _not_ours(self, failure: Failure) -> Failure:
        """What it is called that ``local_address`` could not be looked up: nobody shall look for the peer's name."""
        detail = f"local_address={self._local_address!r:.80} could not be looked up ({failure.errno_name})"
        if failure.action in {Action.BACK_OFF, Action.LONG_BACK_OFF}:
            return failure.evolve(detail=detail)
        return diagnosis.from_errno(
            errno.EADDRNOTAVAIL,
            syscall="bind",
            phase=Phase.CONNECT,
            facts=self._facts(),
            connected=False,
            bound=True,
            detail=detail,
        )

    def _looked_up(self, began: int, failure: Failure | None) -> None:
        self._lookups.append(SetupStep(phase=Phase.DNS, began=began, ended=time.time_ns(), failure=failure))

    # --- connecting ---

    async def _connect(self) -> None:
        """Try the addresses until one wins, in this task as long as one attempt is under way."""
        while self._queue and not self._won():
            attempt = self._begin_next()
            if attempt is None:
                continue
            left = self._left()
            if await attempt.wait(self._patience(left)):
                self._decided(attempt)
            elif self._queue and (left is None or left > STAGGER):
                await self._race(attempt)
            else:
                raise self._expired()

    def _won(self) -> bool:
        return self._winner is not None

    def _patience(self, left: float | None) -> float | None:
        """How long to wait for news before something else is to be done."""
        if not self._queue:
            return left
        return STAGGER if left is None else min(STAGGER, left)

    def _begin_next(self) -> Attempt | None:
        """Start with the next address; the attempt if it is under way, None if it is decided already."""
        address = self._queue.popleft()
        attempt = Attempt(self._runtime, address.family, address.host, address.port, origin=self._origin, via=self._via)
        self._attempts.append(attempt)
        connected = attempt.begin(
            socket_factory,
            address.sockaddr,
            keepalive=self._keepalive,
            local_host=self._local_hosts.get(address.family),
            user_options=self._socket_options,
        )
        if not connected and attempt.failure is None:
            return attempt
        self._decided(attempt)
        return None

    def _decided(self, attempt: Attempt) -> None:
        failure = attempt.failure
        if failure is None:
            if self._winner is None:
                self._winner = attempt
                if self._memory is not None:
                    self._memory.worked(attempt.peer)
            return
        if failure.errno in _EXHAUSTED:  # this host has run out of something: more attempts make it worse
            self._queue.clear()
        elif self._memory is not None:
            self._memory.failed(attempt.peer, time.monotonic())

    async def _race(self, first: Attempt) -> None:
        """Several attempts at once; ``first`` is slow."""
        running = 1
        expired = False

        async def follow(attempt: Attempt) -> None:
            nonlocal running
            await attempt.wait(None)
            running -= 1
            self._decided(attempt)
            self._news.set()

        async with anyio.create_task_group() as group:
            group.start_soon(follow, first)
            while not self._won() and not expired and (self._queue or running):
                if self._queue:
                    attempt = self._begin_next()
                    if attempt is None:
                        continue
                    running += 1
                    group.start_soon(follow, attempt)
                self._news = self._runtime.signal()
                told = await self._news.wait(self._patience(self._left()))
                expired = not told and self._left() == 0.0
            group.cancel_scope.cancel()
        if expired and not self._won():
            raise self._expired()

    # --- what came of it ---

    def _result(self) -> Dialled:
        winner = self._winner
        if winner is None:
            failures = [attempt.failure for attempt in self._attempts if attempt.failure is not None]
            raise _failed(failures)
        self._give_up("another address was faster")
        return Dialled(stream=winner.hand_over(), address_left=bool(self._queue))

    def steps(self) -> tuple[SetupStep, ...]:
        """What was tried."""
        other_family = self._winner is not None and self._winner.family == socket.AF_INET
        attempts = [
            attempt.step(quiet=other_family and attempt.instant and _is_missing_family(attempt.failure))
            for attempt in self._attempts
        ]
        return (*self._lookups, *attempts)

    def _left(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - self._runtime.time(), 0.0)

    def _expired(self) -> DeadlineExceeded:
        """The time limit, recorded on the youngest attempt that is still under way."""
        under_way = self._give_up("still connecting when the time limit expired")
        facts = under_way[-1].facts() if under_way else self._facts()
        failure = self._timed_out(Phase.CONNECT, facts)
        if under_way:
            under_way[-1].failure = failure
        return DeadlineExceeded(limit="connect", failure=failure)

    def _give_up(self, note: str) -> list[Attempt]:
        """The attempts that are still under way, noted; what has been silent for long is to be tried last."""
        under_way = [attempt for attempt in self._attempts if attempt is not self._winner and attempt.failure is None]
        now = time.monotonic()
        for attempt in under_way:
            attempt.note = note
            if self._memory is not None and now - attempt.started >= STAGGER:
                self._memory.failed(attempt.peer, now)
        return under_way

    def _timed_out(self, phase: Phase, facts: diagnosis.Facts) -> Failure:
        return diagnosis.local(
            Kind.LOCAL_TIMEOUT, phase=phase, facts=facts, detail=f"time limit of {round(self._timeout or 0.0, 3)} s"
        )

    def _facts(self) -> diagnosis.Facts:
        host, port = self._origin
        facts = diagnosis.Facts(host=host, port=port, at=time.time())
        if self._via is not None:
            facts["via"] = self._via
        return facts


_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NO_FAMILY: Final = frozenset({errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def _is_missing_family(failure: Failure | None) -> bool:
    """Whether an attempt failed as IPv6 fails on a host that has none."""
    return (
        failure is not None
        and failure.network_type == "ipv6"
        and failure.errno in _NO_FAMILY
        and failure.syscall in {"connect", "socket"}
    )


def _failed(failures: Sequence[Failure]) -> ConnectFailed:
    """The exception for a set of addresses of which none worked."""
    counts = next((failure for failure in failures if not _is_missing_family(failure)), failures[0])
    message = str(counts)
    if len(failures) > 1:
        others = ", ".join(f"{failure.peer} {failure.errno_name}" for failure in failures if failure is not counts)
        message += f" Tried besides: {others}."
    return ConnectFailed(message, failure=counts, failures=tuple(failures))
