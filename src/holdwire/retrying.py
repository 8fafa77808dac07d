"""``RetryPolicy`` and ``Retrier``: the attempts of one request, on tenacity's stop and wait strategies.

The only importer of tenacity and the only place that sleeps between attempts. What may be repeated is decided by
``policy.retry``; here its verdict meets the stop rule, the pause, the budget and the deadline. Not responsible for
making attempts (``http.exchange``, ``sessions``).
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import anyio
import tenacity

from .policy.backoff import CONNECT_ROUNDS, connect_pause
from .policy.budget import RetryBudget
from .policy.kind import Kind
from .policy.retry import History, RetryAction, Rules, decide, permit
from .switches import testing

if TYPE_CHECKING:
    from collections.abc import Callable

    from .policy.budget import Budget
    from .policy.failure import Failure
    from .policy.retry import Outcome, Verdict

__all__ = ["Retrier", "RetryPolicy", "pause"]

_LEAST_ATTEMPT: Final = 0.001
"""Seconds below which another attempt makes no sense before a deadline."""


def _default_stop() -> Callable[[Any], bool]:
    return tenacity.stop_after_attempt(4)


def _default_wait() -> Callable[[Any], float]:
    return tenacity.wait_random_exponential(0.1, max=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a request is sent again, beyond what is decided by evidence. Times in seconds.

    ``stop`` and ``wait`` are any tenacity strategies; ``wait`` (full jitter) is asked only where a pause is called for.
    ``statuses`` are responses that are not taken for an answer of an idempotent request, beside the protocol's own
    (425, 421, 408 with close); ``any_method_429`` repeats a 429 for any method. ``timeouts`` retries a time limit that
    the user set. ``deadline`` bounds all attempts and pauses of a request, until its response's head is there.
    ``retry_after_cap``: a server that asks for a longer pause gets its answer delivered. ``never``: kinds of failure
    that are surfaced whatever is known about them. ``stale_proof`` takes a FIN inferred after the write for proof;
    measured servers disagree. ``names_may_appear`` waits for a host name that does not exist yet. ``share`` and
    ``floor`` set the budget of each origin: retries may be that share of its requests plus that many each second. Each
    transport has its own, unless ``budget`` is one that several policies share. ``connect_rounds``: how often all
    addresses of a host are tried; as many attempts are made then, whatever ``stop`` says.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range.
    """

    stop: Callable[[Any], bool] = field(default_factory=_default_stop)
    wait: Callable[[Any], float] = field(default_factory=_default_wait)
    statuses: frozenset[int] = frozenset()
    never: frozenset[Kind] = frozenset()
    any_method_429: bool = False
    timeouts: bool = False
    deadline: float | None = None
    retry_after_cap: float = 30.0
    stale_proof: bool = False
    names_may_appear: bool = False
    share: float = 0.2
    floor: float = 1.0
    budget: RetryBudget | None = None
    connect_rounds: int | None = None

    def __post_init__(self) -> None:
        for name in ("stop", "wait"):
            if not callable(getattr(self, name)):
                message = f"RetryPolicy: {name} must be a tenacity strategy, for example tenacity.{name}_..."
                raise TypeError(message)
        statuses = frozenset(self.statuses)
        if bad := [status for status in statuses if type(status) is not int or not 400 <= status <= 599]:
            message = f"RetryPolicy: statuses may hold error statuses 400 to 599, not {bad!r}"
            raise ValueError(message)
        object.__setattr__(self, "statuses", statuses)
        object.__setattr__(self, "never", frozenset(map(Kind, self.never)))
        if self.deadline is not None and not self.deadline > 0:
            message = f"RetryPolicy: deadline={self.deadline!r} must be above 0 seconds; None sets no deadline"
            raise ValueError(message)
        if self.connect_rounds is not None and self.connect_rounds < 1:
            message = f"RetryPolicy: connect_rounds={self.connect_rounds!r} must be at least 1"
            raise ValueError(message)
        self.new_budget()

    def new_budget(self) -> RetryBudget:
        """The budget of a transport: its own, or the one that was given to be shared."""
        return self.budget or RetryBudget(share=self.share, floor=self.floor)

    def rules(self, *, switched_off: bool = False, connect_rounds: int | None = None) -> Rules:
        """What the pure decision needs to know of this policy."""
        asked_for = connect_rounds or self.connect_rounds
        return Rules(
            timeouts=self.timeouts,
            statuses=self.statuses,
            any_method_429=self.any_method_429,
            retry_after_cap=self.retry_after_cap,
            stale_proof=self.stale_proof,
            names_may_appear=self.names_may_appear,
            never=self.never,
            connect_rounds=asked_for or CONNECT_ROUNDS,
            rounds_asked_for=asked_for is not None,
            switched_off=switched_off,
        )


class Retrier:
    """The retry state of one request; made when its first attempt ends without an answer."""

    __slots__ = (
        "_budget",
        "_deadline",
        "_policy",
        "_rules",
        "_state",
        "attempts",
        "connect_by",
        "connecting",
        "earlier",
        "history",
    )

    def __init__(
        self, policy: RetryPolicy, rules: Rules, budget: Budget, *, deadline: float | None, began: float
    ) -> None:
        self._policy = policy
        self._rules = rules
        self._budget = budget
        self._deadline = deadline
        self.history = History()
        self.attempts = 1
        """Attempts made, counted by the stop rule or not."""
        self.earlier: list[Failure] = []
        """The failures after which the request was sent again."""
        self.connecting = False
        """Whether the last verdict was to connect again."""
        self.connect_by: float | None = None
        """Monotonic time at which the caller's connect time-out expires: it bounds all rounds together."""
        self._state = tenacity.RetryCallState(
            retry_object=tenacity.Retrying(stop=policy.stop, wait=policy.wait), fn=None, args=(), kwargs={}
        )
        self._state.start_time = began

    def judge(self, outcome: Outcome, error: BaseException | None) -> tuple[Verdict, float]:
        """The verdict on an attempt, with everything considered, and the pause before the next one in seconds."""
        verdict, delay = self._judge(outcome, error)
        self.connecting = verdict.retries and verdict.is_setup
        return verdict, delay

    def _judge(self, outcome: Outcome, error: BaseException | None) -> tuple[Verdict, float]:
        verdict = decide(outcome, self.history, self._rules)
        if not verdict.retries:
            return verdict, 0.0
        now = time.monotonic()
        state = self._state
        state.attempt_number = self.history.attempts
        state.outcome_timestamp = now
        state.outcome = _ended(state.attempt_number, error)
        delay = self._delay(verdict)
        state.upcoming_sleep = delay
        by_rounds = verdict.is_setup and self._rules.rounds_asked_for
        verdict = permit(
            self._in_tests(verdict),
            stop=self._is_tests_last or (not by_rounds and bool(self._policy.stop(state))),
            budget_left=verdict.cost == 0 or self._budget.available(now) > 0,
            now=now,
            deadline=self._deadline,
            delay=delay,
            least_attempt=_LEAST_ATTEMPT,
        )
        if verdict.retries and verdict.is_setup and self.connect_by is not None and now + delay >= self.connect_by:
            verdict = replace(verdict, action=verdict.refused, reason="connect", cost=0, counted=False)
        if not verdict.retries:
            return verdict, 0.0
        if verdict.cost:
            self._budget.withdraw(now)
        self.history = self.history.after(verdict, delay=delay)
        self.attempts += 1
        state.idle_for += delay
        return verdict, delay

    def preview(self, outcome: Outcome) -> Verdict:
        """What ``judge`` would say now, with nothing counted, paid or remembered."""
        verdict = decide(outcome, self.history, self._rules)
        now = time.monotonic()
        return permit(
            self._in_tests(verdict),
            stop=self._is_tests_last,
            budget_left=verdict.cost == 0 or self._budget.available(now) > 0,
            now=now,
            deadline=self._deadline,
        )

    @property
    def _is_tests_last(self) -> bool:
        """Whether ``set_testing`` allows no further attempt."""
        most = testing().attempts
        return most is not None and self.attempts >= most

    def _in_tests(self, verdict: Verdict) -> Verdict:
        """``set_testing`` counts every attempt, free ones too."""
        return verdict if testing().attempts is None or not verdict.retries else replace(verdict, counted=True)

    def _delay(self, verdict: Verdict) -> float:
        if not testing().pauses:
            return 0.0
        if verdict.exact_delay:
            return verdict.min_delay
        if verdict.action is not RetryAction.RETRY_BACKOFF:
            return 0.0
        if verdict.is_setup:
            delay = connect_pause(
                self.history.connect_rounds,
                spent=self.history.connect_pauses,
                dice=random.random(),  # noqa: S311 - jitter, not a secret
                of=self._rules.connect_rounds,
            )
        else:
            delay = float(self._policy.wait(self._state))
        return max(delay, verdict.min_delay)


async def pause(delay: float) -> None:
    """Sleep between two attempts; even without a delay the caller can be cancelled here."""
    await anyio.sleep(delay)


def _ended(number: int, error: BaseException | None) -> tenacity.Future:
    future = tenacity.Future(number)
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
    return future
