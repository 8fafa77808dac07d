"""Retry verdicts under any inputs: never twice without proof, and never without end."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, get_type_hints

from hypothesis import given, settings
from hypothesis import strategies as st

from holdwire.policy.backoff import CONNECT_PAUSES, connect_pause
from holdwire.policy.budget import Budget, RetryBudget
from holdwire.policy.kind import Action
from holdwire.policy.retry import REASONS, Evidence, History, Outcome, RetryAction, Rules, decide, permit
from holdwire.policy.retry_table import TABLE

if TYPE_CHECKING:
    from holdwire.policy.verdict import Verdict

statuses = st.none() | st.sampled_from([200, 407, 408, 413, 421, 425, 429, 500, 502, 503, 504])
listed = st.frozensets(st.sampled_from([408, 421, 425, 429, 500, 502, 503, 504]))
seconds = st.none() | st.floats(0, 100)


def anything(cls: type[Any], **known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any record of ``cls``: its field types generate what is not ``known``, nonsensical combinations included."""
    types = get_type_hints(cls)
    inferred = {one.name: st.from_type(types[one.name]) for one in dataclasses.fields(cls) if one.name not in known}
    return st.builds(cls, **inferred, **known)


# half of the attempts are ones that can be retried at all: mostly False where True ends it
rare = st.sampled_from([False] * 9 + [True])
rarely = dict.fromkeys(("cancelled", "response_started", "answered", "user_timeout", "response_readable"), rare)
outcomes = anything(Outcome, status=statuses, retry_after=seconds) | anything(
    Outcome, status=st.none() | statuses, retry_after=seconds, action=st.just(Action.PHASE_TABLE), **rarely
)
histories = st.builds(
    History,
    attempts=st.integers(1, 6),
    uncounted=st.integers(0, 4),
    connect_rounds=st.integers(1, 5),
    connect_pauses=st.floats(0, 4),
    rows=st.lists(st.integers(1, 32), max_size=6).map(tuple),
)
rules = anything(Rules, statuses=listed, connect_rounds=st.integers(1, 20), retry_after_cap=st.floats(0, 60))
HARMLESS = {RetryAction.SURFACE, RetryAction.KEEP_WAITING, RetryAction.DELIVER}


@settings(max_examples=1000)
@given(outcomes, histories, rules)
def test_a_request_that_is_not_idempotent_is_never_repeated_without_proof(
    ended: Outcome, history: History, allowed: Rules
) -> None:
    allowed = dataclasses.replace(allowed, stale_proof=False, any_method_429=False)
    ended = dataclasses.replace(ended, idempotent=False)
    verdict = decide(ended, history, allowed)
    assert verdict.evidence is not Evidence.ASSUMED
    if verdict.evidence is not Evidence.PROOF:
        assert verdict.action in HARMLESS


@settings(max_examples=1000)
@given(outcomes, histories, rules)
def test_a_verdict_is_whole(ended: Outcome, history: History, allowed: Rules) -> None:
    verdict = decide(ended, history, allowed)
    assert verdict.reason in REASONS
    assert verdict.refused in HARMLESS
    assert verdict.cost in {0, 1}
    if verdict.cost == 0 and verdict.retries and verdict.evidence is not Evidence.PROOF:
        # what the table itself says may be free: the first retry after a reused connection died
        assert history.rows.count(verdict.row) < TABLE[verdict.row].free_unproven
    if not verdict.retries:
        assert (verdict.cost, verdict.counted, verdict.min_delay) == (0, False, 0.0)
    if ended.cancelled:
        assert verdict.action not in {RetryAction.RETRY_NOW, RetryAction.RETRY_BACKOFF, RetryAction.CONNECT_FIRST}
    if ended.response_started:
        assert not verdict.retries
    if ended.body_consumed and not ended.replayable:
        assert not verdict.retries
    if ended.caller_retries or allowed.switched_off:
        assert not verdict.retries or verdict.evidence is Evidence.PROOF


def run(ends: list[Outcome], allowed: Rules, dice: float) -> list[tuple[Verdict, History]]:
    """One request whose attempts end like ``ends``; no stop rule, budget or deadline."""
    history = History()
    done: list[tuple[Verdict, History]] = []
    for ended in ends:
        verdict = decide(ended, history, allowed)
        if not verdict.retries:
            break
        delay = 0.0
        if verdict.action is RetryAction.RETRY_BACKOFF and verdict.is_setup:
            delay = connect_pause(history.connect_rounds, spent=history.connect_pauses, dice=dice)
        done.append((verdict, history))
        history = history.after(verdict, delay=delay)
        assert history.connect_pauses <= CONNECT_PAUSES + 1e-9
    return done


@settings(max_examples=300)
@given(st.lists(outcomes, max_size=20) | outcomes.map(lambda one: [one] * 30), rules, st.floats(0, 1))
def test_a_request_gets_at_most_three_uncounted_retries_and_each_row_one_shot(
    ends: list[Outcome], allowed: Rules, dice: float
) -> None:
    verdicts = [verdict for verdict, _ in run(ends, allowed, dice)]
    assert sum(not verdict.counted for verdict in verdicts) <= 3
    at_once = [verdict.row for verdict in verdicts if verdict.action is RetryAction.RETRY_NOW]
    assert sum(row in {7, 8} for row in at_once) <= 3
    others = [row for row in at_once if row not in {7, 8}]
    assert len(others) == len(set(others))


@settings(max_examples=300)
@given(st.lists(outcomes, max_size=20), rules, st.floats(0, 1))
def test_free_retries_never_touch_the_budget(ends: list[Outcome], allowed: Rules, dice: float) -> None:
    for verdict, _ in run(ends, allowed, dice):
        permitted = permit(verdict, stop=False, budget_left=False, now=0.0, deadline=None)
        assert permitted.retries is (verdict.cost == 0)


asked = st.fixed_dictionaries(
    {
        "stop": st.booleans(),
        "budget_left": st.booleans(),
        "now": st.floats(0, 100),
        "deadline": st.floats(0, 100),
        "delay": st.floats(0, 50),
    }
)


@given(outcomes, histories, rules, asked)
def test_no_pause_passes_the_deadline(ended: Outcome, history: History, allowed: Rules, asked: dict[str, Any]) -> None:
    verdict = permit(decide(ended, history, allowed), **asked)
    if verdict.retries:
        assert asked["now"] + asked["delay"] < asked["deadline"]
        assert not (asked["stop"] and verdict.counted)
        assert asked["budget_left"] or not verdict.cost
    assert verdict.reason in REASONS


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=200))
def test_a_budget_never_gives_more_than_its_share(steps: list[tuple[float, bool]]) -> None:
    budget = Budget(floor=0.5)
    now = 0.0
    requests: list[float] = []
    retries: list[float] = []
    for pause, is_request in steps:
        now += pause
        if is_request:
            budget.deposit(now)
            requests.append(now)
        elif budget.withdraw(now):
            retries.append(now)
        # slots are a second wide, so that the window reaches back nine to ten seconds
        recent = sum(now - then < 9 for then in retries)
        assert recent <= 0.2 * sum(now - then <= 10 + 9 for then in requests) + 5


@given(st.integers(1, 60), st.floats(0, 3), st.floats(0, 1))
def test_a_connect_pause_never_passes_three_seconds_in_all(rounds: int, spent: float, dice: float) -> None:
    assert 0 <= connect_pause(rounds, spent=spent, dice=dice) <= CONNECT_PAUSES - spent + 1e-9


@given(st.integers(2, 30), st.lists(st.floats(0, 1), min_size=30, max_size=30))
def test_however_many_rounds_were_asked_for_all_are_made_within_three_seconds(of: int, dice: list[float]) -> None:
    spent = 0.0
    for rounds in range(1, of):
        pause = connect_pause(rounds, spent=spent, dice=dice[rounds], of=of)
        assert pause > 0
        spent += pause
    assert spent <= CONNECT_PAUSES + 1e-9


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 3), st.booleans()), max_size=100))
def test_origins_do_not_live_at_each_others_cost(steps: list[tuple[str, float, bool]]) -> None:
    shared = RetryBudget(floor=0.2)
    alone = {"a": Budget(floor=0.2), "b": Budget(floor=0.2)}
    now = 0.0
    for origin, pause, is_request in steps:
        now += pause
        if is_request:
            shared.of(origin).deposit(now)
            alone[origin].deposit(now)
        else:
            assert shared.of(origin).withdraw(now) is alone[origin].withdraw(now)
