"""Retries on tenacity's stop and wait strategies: ``RetryPolicy`` for requests, ``ReconnectPolicy`` for sessions.

The only importer of tenacity and the only place that sleeps between attempts. What may be repeated is decided by
``policy.retry``; here its verdict meets the stop rule, the pause, the budget and the deadline. Not responsible for
making attempts (``http.exchange``, ``sessions``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

import anyio
import tenacity

from .policy.backoff import CONNECT_ROUNDS, Backoff, connect_pause
from .policy.budget import RetryBudget
from .policy.checks import check_count, check_flag, check_seconds, check_type
from .policy.kind import Category, Kind
from .policy.reconnect import SOON, Then, after
from .policy.retry import Evidence, History, RetryAction, Rules, decide, permit
from .switches import testing

if TYPE_CHECKING:
    from .policy.budget import Budget
    from .policy.failure import Failure
    from .policy.reconnect import Step
    from .policy.retry import Outcome, Verdict

__all__ = ["ReconnectPolicy", "Reconnector", "Retrier", "RetryPolicy", "pause"]

_LEAST_ATTEMPT: Final = 0.001
"""Seconds below which another attempt makes no sense before a deadline."""


def _default_stop() -> Callable[[Any], bool]:
    return tenacity.stop_after_attempt(5)


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
    statuses: AbstractSet[int] = frozenset()
    never: AbstractSet[Kind] = frozenset()
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
        for name, example in (("statuses", "{503}"), ("never", "{holdwire.Kind.CONNECTION_RESET}")):
            given: object = getattr(self, name)
            if isinstance(given, str) or not isinstance(given, Iterable):
                what = "holdwire.Kind" if name == "never" else "statuses"
                message = f"RetryPolicy: {name}={given!r} must be a set of {what}, for example {example}"
                raise TypeError(message)
        statuses = frozenset(self.statuses)
        if bad := [status for status in statuses if type(status) is not int or not 400 <= status <= 599]:
            message = f"RetryPolicy: statuses may hold error statuses 400 to 599, not {bad!r}"
            raise ValueError(message)
        object.__setattr__(self, "statuses", statuses)
        try:
            object.__setattr__(self, "never", frozenset(map(Kind, self.never)))
        except ValueError as exc:
            message = f"RetryPolicy: never={self.never!r}: {exc}"
            raise ValueError(message) from None
        for name in ("any_method_429", "timeouts", "stale_proof", "names_may_appear"):
            check_flag("RetryPolicy", name, getattr(self, name))
        if self.deadline is not None:
            check_seconds("RetryPolicy", "deadline", self.deadline, least=0.001, hint="deadline=None sets none")
        check_seconds("RetryPolicy", "retry_after_cap", self.retry_after_cap, least=0, hint="30 is the default")
        if self.connect_rounds is not None:
            check_count("RetryPolicy", "connect_rounds", self.connect_rounds, least=1, hint="None leaves it at 4")
        check_type("RetryPolicy", "budget", self.budget, (RetryBudget, NoneType), give="a holdwire.RetryBudget or None")
        self.new_budget()

    def new_budget(self) -> RetryBudget:
        """The budget of a transport: its own, or the one that was given to be shared."""
        return self.budget or RetryBudget(share=self.share, floor=self.floor)

    def rules(self, *, switched_off: bool = False, connect_rounds: int | None = None) -> Rules:
        """What the pure decision needs to know of this policy."""
        asked_for = connect_rounds or self.connect_rounds
        return Rules(
            timeouts=self.timeouts,
            statuses=frozenset(self.statuses),
            any_method_429=self.any_method_429,
            retry_after_cap=self.retry_after_cap,
            stale_proof=self.stale_proof,
            names_may_appear=self.names_may_appear,
            never=frozenset(self.never),
            connect_rounds=asked_for or CONNECT_ROUNDS,
            rounds_asked_for=asked_for is not None,
            switched_off=switched_off,
        )


class Retrier:
    """The retry state of one request; made when its first attempt ends without an answer."""

    __slots__ = (
        "_assumed",
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
        self._assumed = False
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
        if self._assumed and verdict.evidence is Evidence.PROOF:  # it is one of this attempt alone
            verdict = replace(verdict, evidence=Evidence.ASSUMED)
        self._assumed = self._assumed or verdict.evidence is Evidence.ASSUMED
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
        by_rounds = verdict.new_round and self._rules.rounds_asked_for
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
                dice=_dice(),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectPolicy:
    """How long a session pauses before it connects again, and when it gives up.

    ``wait`` is any tenacity strategy; without one the pauses are ``backoff``'s. ``waits`` are strategies for single
    kinds or categories of failure; None in it means to stop there. ``stop`` is any tenacity strategy; by default
    sessions come back without end, unless a failure is hopeless (certificate, permission, a name that never was).

    Attempts are counted anew, as both strategies see them, only after a session was stable for max(10 s, the last
    pause), or has handled a message (``Session.boundary``): a bare handshake proves nothing.

    Raises:
        TypeError: A value has the wrong type; a strategy cannot be called.
        ValueError: A key of ``waits`` is neither a kind nor a category of failure.
    """

    wait: Callable[[Any], float] | None = None
    stop: Callable[[Any], bool] = tenacity.stop_never
    waits: Mapping[Kind | Category, Callable[[Any], float] | None] = field(
        default_factory=dict[Kind | Category, Callable[[Any], float] | None]
    )
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        check_type(
            "ReconnectPolicy", "waits", self.waits, Mapping, give="a mapping of kinds or categories to strategies"
        )
        check_type("ReconnectPolicy", "backoff", self.backoff, Backoff, give="a holdwire.Backoff")
        if unknown := [key for key in self.waits if key not in {*Kind, *Category}]:
            message = f"ReconnectPolicy: waits holds {unknown[0]!r}, which is neither a Kind nor a Category"
            raise ValueError(message)
        strategies: dict[str, object] = {"wait": self.wait, "stop": self.stop}
        strategies |= {f"waits[{key}]": strategy for key, strategy in self.waits.items()}
        for name, strategy in strategies.items():
            if not (callable(strategy) or (strategy is None and name != "stop")):
                message = f"ReconnectPolicy: {name} must be a tenacity strategy, for example tenacity.wait_fixed(5)"
                raise TypeError(message)


class Reconnector:
    """The pauses of one series of sessions, and the sleep of each."""

    __slots__ = ("_alarm", "_last", "_names_may_appear", "_policy", "_state", "_woken", "attempts", "known")

    def __init__(self, policy: ReconnectPolicy, *, names_may_appear: bool = False) -> None:
        self._policy = policy
        self._names_may_appear = names_may_appear
        self._last: float | None = None
        self._state: tenacity.RetryCallState | None = None
        self._alarm: anyio.Event | None = None
        self._woken = False
        self.attempts = 0
        """Failures in a row."""
        self.known = False
        """Whether there was a session."""

    @property
    def last_pause(self) -> float:
        """The latest pause in seconds."""
        return self._last or 0.0

    def attempt_failed(self, failure: Failure | None, error: BaseException) -> tuple[float, str | None]:
        """The pause that follows an attempt, or the reason to stop."""
        step = after(failure, known=self.known, names_may_appear=self._names_may_appear)
        return self._judge(step, failure, error)

    def session_ended(
        self, failure: Failure | None, *, up_for: float, heard: bool, silent: bool, recycled: bool = False
    ) -> tuple[float, str | None]:
        """The pause that follows a session, or the reason to stop.

        Args:
            failure: Why it ended.
            up_for: For how many seconds it was up.
            heard: Whether it has handled a message.
            silent: Whether the peer has sent nothing at all.
            recycled: Whether we ended it to make a new one.
        """
        self.known = True
        if recycled:
            failure = None
        anew = recycled or self._policy.backoff.starts_over(up_for, last=self._last, heard=heard)
        if anew:
            self.attempts = 0
            self._last = self._state = None
        step = after(failure, up_for=up_for, silent=silent and not anew, known=True)
        return self._judge(step, failure, None, at_once=anew, spread=not recycled)

    def _judge(
        self,
        step: Step,
        failure: Failure | None,
        error: BaseException | None,
        *,
        at_once: bool = False,
        spread: bool = True,
    ) -> tuple[float, str | None]:
        policy = self._policy
        strategy = policy.wait
        if failure is not None:
            key = next((key for key in (failure.kind, failure.category) if key in policy.waits), None)
            if key is not None:
                strategy = policy.waits[key]
                if strategy is None:
                    return 0.0, f"the policy says to stop at {key}"
                step = replace(step, then=Then.PAUSE)
        if step.then is Then.STOP:
            return 0.0, step.reason
        if at_once:
            return (policy.backoff.after_stable(_dice()) if spread else 0.0), None
        self.attempts += 1
        overloaded = step.then is Then.LONG_PAUSE
        state = self._attempt(error)
        if strategy is None:
            pause = policy.backoff.next(self._last, dice=_dice(), overloaded=overloaded)
        else:
            pause = max(float(strategy(state)), SOON * (1 + _dice()) if overloaded else 0.0)
        self._last = state.upcoming_sleep = pause
        if policy.stop(state):
            return 0.0, f"the stop rule ended it after {self.attempts} failures in a row"
        state.idle_for += pause
        return pause, None

    def _attempt(self, error: BaseException | None) -> tenacity.RetryCallState:
        state = self._state
        if state is None:
            retrying = tenacity.Retrying(stop=self._policy.stop)
            state = self._state = tenacity.RetryCallState(retry_object=retrying, fn=None, args=(), kwargs={})
        state.attempt_number = self.attempts
        state.outcome_timestamp = time.monotonic()
        state.outcome = _ended(self.attempts, error)
        return state

    async def pause(self, seconds: float) -> None:
        """Sleep, until ``wake``; even without a delay the caller can be cancelled here."""
        self._alarm = anyio.Event()
        if self._woken:
            self._alarm.set()
        with anyio.move_on_after(seconds):
            await self._alarm.wait()
        self._alarm = None
        self._woken = False

    def wake(self) -> None:
        """End the pause, or skip the next one."""
        self._woken = True
        if self._alarm is not None:
            self._alarm.set()

    def up(self) -> None:
        """There is a session: whoever called ``wake`` has what they wanted."""
        self._woken = False


def _dice() -> float:
    return random.random()  # noqa: S311 - jitter, not a secret
