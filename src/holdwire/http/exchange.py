"""``Exchange``: one logical request: attempt, outcome, evidence, verdict; the next attempt or the answer.

Theory of operation. An attempt takes a connection from the pool and sends the request on it. If that ends in an
error, the attempt's evidence becomes an ``Outcome``, the retry table gives a verdict, and the failure is told to the
observers once, with its verdict. A request that goes well makes no event and no retry state: a few integers are
counted. An error that surfaces carries its failure, the verdict with its reason, the number of attempts and the
failures before it, so that a caller's own retry layer can decide.
Not responsible for what an attempt's end means (``outcomes``), for what may be repeated (``policy.retry``) or for
waiting (``retrying``).
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from ..errors import ClosedError, DeadlineExceeded, HoldwireError, LocalProtocolError, UnsupportedProtocol
from ..events import FailureRecorded, RequestRetried
from ..policy import diagnosis
from ..policy.flight import narrate
from ..policy.idle_limit import YOUNG
from ..policy.kind import Kind
from ..policy.phase import Phase, Sent
from ..policy.retry import REASONS, History, Rules, decide
from ..retrying import Retrier, pause
from . import outcomes
from .connection import Attempt
from .head import encode_head
from .idle import SPREADING
from .trace import Traced

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ..events import Observers, SetupStep
    from ..policy.budget import RetryBudget
    from ..policy.failure import Failure
    from ..policy.retry import Verdict
    from ..retrying import RetryPolicy
    from .connection import HttpConnection
    from .messages import Headers, Request, Response
    from .pool import Pool

__all__ = ["Exchange"]

PROTOCOL_STATUSES: Final = frozenset({408, 421, 425})
"""Responses that the protocol itself says are not the answer."""
_SAFE_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
_DISCARD_BYTES: Final = 65_536
_DISCARD_SECONDS: Final = 0.5
_NOT_ON_THE_WIRE: Final = (LocalProtocolError, UnsupportedProtocol, ClosedError)
"""What is the caller's own doing: raised as it is, at once."""


class Exchange:
    """Sends requests through a pool, again where that is safe. One for each pool."""

    __slots__ = ("_budget", "_notify", "_policy", "_pool", "_rules", "_statuses")

    def __init__(
        self, pool: Pool, *, policy: RetryPolicy, rules: Rules, budget: RetryBudget, notify: Observers
    ) -> None:
        self._pool = pool
        self._policy = policy
        self._rules = rules
        self._notify = notify
        self._statuses = PROTOCOL_STATUSES | rules.statuses
        self._budget = budget

    async def send(self, request: Request) -> Response:
        """The answer to ``request``: its final response's head; the body follows on it.

        Raises:
            ConnectFailed, ConnectionLost, RemoteProtocolError, ProxyError, DeadlineExceeded: The request failed, and
                the exception says why it was not sent again.
            LocalProtocolError, UnsupportedProtocol, ClosedError: It could not be sent at all.
        """
        encode_head(request)
        pool = self._pool
        began = time.monotonic()
        self._budget.of(request.origin).deposit(began)
        if request.deadline is None and self._policy.deadline is not None:
            request.deadline = began + self._policy.deadline
        look = request.method not in _SAFE_METHODS if request.marked is None else not request.marked
        retrier: Retrier | None = None
        fresh = False
        while True:
            attempt = _next_attempt(request, retrier)
            reconnects = False
            try:
                if request.deadline is None:
                    if look:
                        await _check_wanted(attempt)
                    connection = await pool.acquire(attempt, fresh=fresh, look=look)
                    response = await connection.exchange(attempt)
                else:
                    connection, response = await self._until(request.deadline, attempt, fresh=fresh, look=look)
            except _NOT_ON_THE_WIRE:
                raise
            except HoldwireError as exc:
                retrier = retrier or self._retrier(request, began)
                fresh, delay = self._after_error(request, attempt, exc, retrier)
                reconnects = exc.setup is not None
            else:
                connection.last_context = request.context
                self._learn(request, attempt, connection, response)
                watch = _BodyWatch(self._notify, pool, attempt, response.headers, recovered=retrier is not None)
                response.body.on_end = watch
                if response.status not in self._statuses:
                    return response
                retrier = retrier or self._retrier(request, began)
                again = self._after_status(request, attempt, response, retrier)
                if again is None:
                    return response
                fresh, delay = again
                watch.is_answer = False
                await discard(response)
            with pool.pausing():
                await _pause(request, delay, reconnects=reconnects)

    async def _until(
        self, deadline: float, attempt: Attempt, *, fresh: bool, look: bool
    ) -> tuple[HttpConnection, Response]:
        """An attempt that the request's deadline cuts short.

        Raises:
            DeadlineExceeded: It did, and the connection is closed.
        """
        with anyio.move_on_after(deadline - time.monotonic()) as scope:
            if look:
                await _check_wanted(attempt)
            connection = await self._pool.acquire(attempt, fresh=fresh, look=look)
            return connection, await connection.exchange(attempt)
        assert scope.cancelled_caught  # noqa: S101 - nothing else ends the block without an exception
        origin = attempt.request.origin
        failure = attempt.failure or diagnosis.local(
            Kind.LOCAL_TIMEOUT,
            phase=attempt.phase,
            facts=diagnosis.Facts(host=origin.host, port=origin.port, at=time.time()),
        ).evolve(sent=attempt.sent, reused=attempt.reused)
        message = (
            f"the deadline of the request to {failure.endpoint} expired (phase {failure.phase}, {attempt.sent} sent)"
        )
        raise DeadlineExceeded(message, limit="total", failure=failure)

    def _after_error(
        self, request: Request, attempt: Attempt, error: HoldwireError, retrier: Retrier
    ) -> tuple[bool, float]:
        """Whether the next attempt needs a fresh connection, and the pause before it.

        Raises:
            HoldwireError: ``error``, with all that is known, if there is no next attempt.
        """
        if request.spans is not None:
            request.spans.failed(error)
        retrier.connect_by = attempt.connect_by
        verdict, delay = retrier.judge(outcomes.of_error(attempt, error), error)
        explained: dict[int, Failure] = {}
        failure = error.failure
        if failure is not None:
            if failure.category in SPREADING and failure.peer and not attempt.multiplexed:
                self._pool.idle.suspect(failure.peer)
            explained[id(failure)] = self._pool.explain(request.origin, failure, attempt.idle_before)
        _put_on_records(error, explained, verdict, retrier.attempts - verdict.retries)
        self._tell(request, attempt, error, verdict, retrier, delay)
        if verdict.free_idle:
            self._pool.close_idle()
        if verdict.retries:
            if error.failure is not None:
                retrier.earlier.append(error.failure)
            return verdict.fresh_connection, delay
        error.attempts = retrier.attempts
        error.verdict = verdict
        error.earlier = tuple(retrier.earlier)
        _annotate(error)
        self._pool.origin_stats(request.origin).failed += 1
        raise error

    def _after_status(
        self, request: Request, attempt: Attempt, response: Response, retrier: Retrier
    ) -> tuple[bool, float] | None:
        """The same for a response that may not be the answer; None if it is."""
        verdict, delay = retrier.judge(outcomes.of_response(attempt, response), None)
        self._retried(request, verdict, retrier, delay, status=response.status)
        return (verdict.fresh_connection, delay) if verdict.retries else None

    def _retrier(self, request: Request, began: float) -> Retrier:
        budget = self._budget.of(request.origin)
        return Retrier(self._policy, self._rules, budget, deadline=request.deadline, began=began)

    def verdict_on_suspect(self, attempt: Attempt) -> Verdict:
        """What is to be done about an attempt whose path looks dead, with nothing decided or paid yet."""
        retrier = attempt.retrier or self._retrier(attempt.request, time.monotonic())
        return retrier.preview(outcomes.of_suspect(attempt))

    # --- telling ---

    def _tell(
        self,
        request: Request,
        attempt: Attempt,
        exc: HoldwireError,
        verdict: Verdict,
        retrier: Retrier,
        delay: float,
    ) -> None:
        """Tell the observers of the failure, once, with its verdict; of each step that failed while connecting."""
        number = retrier.attempts - verdict.retries
        setup = exc.setup
        failed = [step for step in setup.steps if step.failure is not None and not step.quiet] if setup else []
        if setup is not None:
            self._notify(replace(setup, final=not verdict.retries))
        for step in failed:
            if step.failure is not None:
                self._record(request, step.failure, step.began, step.ended, verdict, number, step)
        failure = exc.failure
        if failure is not None and not any(step.failure is failure for step in failed):
            self._record(request, failure, attempt.began, time.time_ns(), verdict, number)
        self._retried(request, verdict, retrier, delay, failure=failure)

    def _learn(self, request: Request, attempt: Attempt, connection: HttpConnection, response: Response) -> None:
        """What an answered attempt has to tell: its connection's age, and that its upload was cut short."""
        if request.spans is not None:
            request.spans.answered(connection, response)
        if attempt.idle_before >= YOUNG:
            self._pool.memory.survived(request.origin, idle=attempt.idle_before)
        failure = attempt.write_failure
        if failure is None:
            return
        failure = failure.evolve(sent=Sent.PART, reused=attempt.reused)
        verdict = decide(outcomes.of_cut_upload(failure), History(), Rules())
        self._record(request, failure, attempt.began, time.time_ns(), verdict, attempt.number)

    def _record(
        self,
        request: Request,
        failure: Failure,
        began: int,
        ended: int,
        verdict: Verdict | None,
        number: int,
        step: SetupStep | None = None,
    ) -> None:
        self._notify(
            FailureRecorded(
                failure=failure,
                began=max(began, int((failure.began or 0) * 1e9)),
                ended=ended,
                context=request.context,
                verdict=verdict,
                attempt=number,
                step=step,
            )
        )

    def _retried(
        self,
        request: Request,
        verdict: Verdict,
        retrier: Retrier,
        delay: float,
        *,
        failure: Failure | None = None,
        status: int | None = None,
    ) -> None:
        self._notify(
            RequestRetried(
                host=request.origin.host,
                port=request.origin.port,
                verdict=verdict,
                attempt=retrier.attempts - verdict.retries,
                delay=delay,
                context=request.context,
                failure=failure,
                status=status,
            )
        )


def _next_attempt(request: Request, retrier: Retrier | None) -> Attempt:
    if retrier is None:
        attempt = Attempt(request)
    else:
        attempt = Attempt(request, retrier.attempts, retrier)
        if retrier.connecting:
            attempt.connect_by = retrier.connect_by
    if request.spans is not None:
        request.spans.begin(attempt.number)
    return attempt


async def _check_wanted(attempt: Attempt) -> None:
    """Do not begin what may do harm for a caller who has given it up by now: where nothing has to be waited for,
    neither a cancellation nor a time limit would be seen before the request has left.

    Raises:
        DeadlineExceeded: The time for writing it is over.
    """
    await checkpoint_if_cancelled()
    limits = attempt.request.timeouts
    if limits.write is None or limits.write > 0:
        return
    limit, seconds = "write", limits.write
    if limits.connect is not None and limits.connect <= 0:
        limit, seconds = "connect", limits.connect
    origin = attempt.request.origin
    facts = diagnosis.Facts(host=origin.host, port=origin.port, at=time.time())
    failure = diagnosis.local(Kind.LOCAL_TIMEOUT, phase=Phase.POOL, facts=facts)
    message = f"the request to {failure.endpoint} was not begun: its {limit} time-out is {seconds} s"
    raise DeadlineExceeded(message, limit=limit, failure=failure)


class _BodyWatch:
    """Counts the request when its answer's body has ended, and tells of a failure that comes while it is read."""

    __slots__ = ("_attempt", "_headers", "_notify", "_pool", "_recovered", "is_answer")

    def __init__(self, notify: Observers, pool: Pool, attempt: Attempt, headers: Headers, *, recovered: bool) -> None:
        self._notify = notify
        self._pool = pool
        self._attempt = attempt
        self._headers = headers
        self._recovered = recovered
        self.is_answer = True
        """Whether it is what the caller gets: what is thrown away to try again does not count."""

    def __call__(self, exc: BaseException | None) -> None:
        request = self._attempt.request
        stats = self._pool.origin_stats(request.origin)
        if not isinstance(exc, HoldwireError):
            if self._recovered:
                stats.recovered += self.is_answer
            else:
                stats.ok += self.is_answer
            return
        stats.failed += self.is_answer
        if exc.failure is None:
            return
        exc.attempts = self._attempt.number
        exc.verdict = decide(outcomes.of_broken_body(self._attempt, self._headers, exc.failure), History(), Rules())
        explained = self._pool.explain(request.origin, exc.failure, self._attempt.idle_before)
        exc.explain(explained.evolve(safe_to_retry=exc.verdict.safe_to_retry, attempts=exc.attempts))
        _annotate(exc)
        told = self._attempt.write_failure
        if told is not None and told.at == exc.failure.at:
            return
        self._notify(
            FailureRecorded(
                failure=exc.failure,
                began=max(self._attempt.began, int((exc.failure.began or 0) * 1e9)),
                ended=time.time_ns(),
                context=request.context,
                verdict=exc.verdict,
                attempt=exc.attempts,
            )
        )


def _put_on_records(error: HoldwireError, explained: dict[int, Failure], verdict: Verdict, attempts: int) -> None:
    """Let every record of what failed in an attempt say how often it was tried, and whether it is safe to repeat.

    ``explained`` holds, by the identity of a record, one that tells the same and says better what caused it.
    """

    def better(failure: Failure) -> Failure:
        return explained.get(id(failure), failure).evolve(safe_to_retry=verdict.safe_to_retry, attempts=attempts)

    error.retell(better)


def _annotate(error: HoldwireError) -> None:
    """Two notes at most: what was done about it, and what happened on its connection before."""
    error.add_note(_summary(error))
    failure = error.failure
    if failure is not None and failure.flight:
        error.add_note(f"holdwire: connection {failure.connection_id}: {narrate(failure.flight)}")


async def _pause(request: Request, delay: float, *, reconnects: bool) -> None:
    """Wait before the next attempt; a trace hook is told if the reason is that no connection came about."""
    hook = request.trace if reconnects else None
    info = {"host": request.origin.host, "port": request.origin.port, "timeout": request.timeouts.connect}
    async with Traced(hook, "connection.retry", info):
        await pause(delay)


def _summary(error: HoldwireError) -> str:
    """What a person needs to know beyond the failure itself: one line."""
    verdict = error.verdict
    assert verdict is not None  # noqa: S101 - it was just set
    safe = "it is safe to send it again" if verdict.safe_to_retry else "it may have been processed"
    tried = "1 attempt" if error.attempts == 1 else f"{error.attempts} attempts"
    before = ", ".join(str(failure.errno_name or failure.kind) for failure in error.earlier)
    before = f" (before: {before})" if before else ""
    return f"holdwire: {tried}{before}; not sent again because {REASONS[verdict.reason]}; {safe}"


async def discard(response: Response) -> None:
    """Read the rest of a response that is not taken for an answer, so that its connection can be used again.

    At most 64 KiB and half a second; beyond either the connection is given up.
    """
    size = 0
    body = cast("AsyncGenerator[bytes]", response.body.__aiter__())  # trio wants what is left early to be closed
    try:
        with anyio.move_on_after(_DISCARD_SECONDS):
            async with contextlib.aclosing(body) as pieces:
                async for piece in pieces:
                    size += len(piece)
                    if size > _DISCARD_BYTES:
                        break
    except HoldwireError:  # it was to be thrown away
        pass
    finally:
        await response.body.aclose()
