"""The retry verdict: whether, how and with which proof a request may be sent again.

Theory of operation: an attempt's ``Outcome`` is matched to one of 32 rows (``retry_table``, first match
wins); the row says what may be done; then refusals are looked for, the first one found being the reason. ``decide``
does that; ``permit`` adds what needs the clock, the stop rule and the budget. Not responsible for the pause
(``backoff``, ``retry_after`` and the caller's wait strategy), for counting tokens (``budget``), for the old copy of the
request (its connection makes an end of that, however the attempt ended), or for doing it.

Invariants:

* Without proof a request that is not idempotent is never sent again. Options that the user must switch on are the
  only exceptions: ``stale_proof`` and ``any_method_429``.
* Evidence decides, never an exception class: "connection refused" on an established connection proves nothing.
* RETRY_NOW is one-shot for each row (RFC 9110, section 9.2.2: no automatic retry of an automatic retry). Rows 7 and
  8, where nothing was written, share the three uncounted retries of a request instead.
* What has not failed is not given up: a refused CONNECT_FIRST is KEEP_WAITING, a refused response is delivered.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from .backoff import CONNECT_PAUSES
from .kind import Action, Category, Kind
from .outcome import Http2Signal, Outcome, has_retrier, is_idempotent
from .phase import Phase, Sent
from .retry_table import (
    BLACK_HOLE,
    FOUND_UNUSABLE,
    FRESH_CLOSED,
    GOAWAY,
    MATCHES,
    NOT_SENT,
    OVERLOADED,
    REASONS,
    REQUEST_TIMEOUT,
    STALE,
    STATUS,
    TABLE,
    WITHOUT_EVIDENCE,
)
from .verdict import RETRIES, SETUP_ROWS, Evidence, History, RetryAction, Rules, Verdict

__all__ = [
    "REASONS",
    "Evidence",
    "History",
    "Http2Signal",
    "Outcome",
    "RetryAction",
    "Rules",
    "Verdict",
    "decide",
    "has_retrier",
    "is_idempotent",
    "permit",
]

_NOW, _BACKOFF, _OTHER = RetryAction.RETRY_NOW, RetryAction.RETRY_BACKOFF, RetryAction.RETRY_OTHER_ADDRESS
_SURFACE, _DELIVER, _WAIT = RetryAction.SURFACE, RetryAction.DELIVER, RetryAction.KEEP_WAITING
_UNCOUNTED: Final = 3
"""How many free retries of a request the stop rule does not count, over all rows together."""
_CALM: Final = 1.0
"""The least pause, in seconds, after a peer that asked for calm."""
_UNKNOWN_ATTEMPTS: Final = 3
_HOPELESS: Final = frozenset({Category.CONFIGURATION, Category.LOCAL_BUG, Category.INTENTIONAL, Category.NOT_AN_ERROR})
_GATEWAY: Final = frozenset({502, 503, 504})
_TOO_MANY_REQUESTS: Final = 429
_LIVING: Final = frozenset({None, Http2Signal.GOAWAY_COVERS})


def decide(outcome: Outcome, history: History, rules: Rules) -> Verdict:
    """What to do about ``outcome``. Stop rule, budget and deadline are still to be asked: ``permit``."""
    number = next(number for number, matches in MATCHES if matches(outcome, rules))
    row = TABLE[number]
    evidence = _evidence(outcome, number, rules)
    refused = _refused(outcome, number)
    verdict = Verdict(action=refused, evidence=evidence, row=number, reason=row.reason, refused=refused)
    refusal = _refusal(outcome, history, rules, number=number, evidence=evidence)
    if refusal is not None:
        if refusal == "may_have_been_processed":
            verdict = replace(verdict, row=WITHOUT_EVIDENCE.get(number, number))
        return replace(verdict, reason=refusal)
    action = _action(outcome, history, rules, number=number)
    if action not in RETRIES:
        return replace(verdict, action=action)
    used = history.rows.count(number)
    proven = evidence is Evidence.PROOF
    free = used < (row.free if proven else row.free_unproven)
    if rules.switched_off and not (free and proven):
        return replace(verdict, reason="switched_off")
    told = outcome.retry_after if number in {OVERLOADED, STATUS} else None
    calm = outcome.http2 is Http2Signal.ENHANCE_YOUR_CALM or outcome.action is Action.LONG_BACK_OFF
    return replace(
        verdict,
        action=action,
        cost=0 if free else 1,
        counted=not (free and proven and row.uncounted and action is _NOW and history.uncounted < _UNCOUNTED),
        min_delay=told if told is not None else _CALM * calm,
        exact_delay=told is not None,
        fresh_connection=(row.fresh and not (row.slow and outcome.multiplexed)) or (row.uncounted and used > 0),
        free_idle=row.free_idle,
    )


def permit(
    verdict: Verdict,
    *,
    stop: bool,
    budget_left: bool,
    now: float,
    deadline: float | None,
    delay: float = 0.0,
    least_attempt: float = 0.0,
) -> Verdict:
    """``verdict`` if it may be carried out after ``delay`` seconds, else its refusal with the reason.

    ``stop`` is what the stop rule says, ``least_attempt`` the shortest time in which an attempt makes sense.
    """
    if not verdict.retries:
        return verdict
    if deadline is not None and now + delay >= deadline - least_attempt:
        reason = "deadline"
    elif verdict.counted and stop:
        reason = "attempts"
    elif verdict.cost and not budget_left:
        reason = "budget"
    else:
        return verdict
    refused = verdict.refused
    return Verdict(action=refused, evidence=verdict.evidence, row=verdict.row, reason=reason, refused=refused)


def _refused(outcome: Outcome, number: int) -> RetryAction:
    """What becomes of a retry that is refused: a response is delivered, what has not failed goes on."""
    if outcome.cancelled:
        return _SURFACE
    if number == BLACK_HOLE:
        return _WAIT
    return _DELIVER if outcome.status is not None and outcome.phase is not Phase.PROXY else _SURFACE


def _evidence(outcome: Outcome, number: int, rules: Rules) -> Evidence:
    """What stands behind a retry, whether or not there will be one."""
    if outcome.status is None and outcome.sent is Sent.NONE and not (outcome.answered or outcome.response_started):
        return Evidence.PROOF
    if TABLE[number].proof or (number == REQUEST_TIMEOUT and outcome.early_response):
        return Evidence.PROOF
    if outcome.idempotent or (outcome.status == _TOO_MANY_REQUESTS and rules.any_method_429):
        return Evidence.ASSUMED
    return Evidence.NONE


def _refusal(outcome: Outcome, history: History, rules: Rules, *, number: int, evidence: Evidence) -> str | None:
    """The first reason against a retry, in the order in which a caller wants to hear them."""
    row = TABLE[number]
    if outcome.cancelled:
        return "cancelled"
    if row.first not in RETRIES:
        return None
    checks = (
        ("not_retryable", _is_hopeless(outcome, history)),
        ("kind_excluded", outcome.kind in rules.never),
        ("name_not_found", outcome.name_not_found and not rules.names_may_appear),
        ("not_listed", number in {OVERLOADED, STATUS} and outcome.status not in rules.statuses),
        ("retry_after_too_long", _is_told_to_wait(outcome, rules, number)),
        ("caller_retries", evidence is not Evidence.PROOF and outcome.caller_retries),
        ("may_have_been_processed", evidence is Evidence.NONE and number != STALE),
        ("body_not_replayable", outcome.body_consumed and not outcome.replayable),
        ("timeout", outcome.user_timeout and not rules.timeouts),
        ("timeout", outcome.kind is Kind.POOL_TIMEOUT),
        ("goaway_error", number == GOAWAY and outcome.first_stream and outcome.goaway_error),
        ("connect", number in SETUP_ROWS and _is_used_up(outcome, history, rules)),
        ("attempts", outcome.category is Category.UNKNOWN and history.attempts >= _UNKNOWN_ATTEMPTS),
    )
    return next((reason for reason, holds in checks if holds), None)


def _is_hopeless(outcome: Outcome, history: History) -> bool:
    """Whether another attempt would fail the same way, or must not be made."""
    if outcome.phase is Phase.PROXY and outcome.status is not None:
        return outcome.status not in _GATEWAY
    if outcome.status is not None or outcome.http2 not in _LIVING:
        return False
    if outcome.action is Action.ADDRESS and outcome.phase.is_setup and outcome.other_address_left:
        return False  # a host without IPv6, say: the next address may be of the other family
    if outcome.category is Category.VIOLATION:
        # a damaged TLS record kills the connection and is then like a lost one, once
        return outcome.kind is not Kind.TLS_PROTOCOL_ERROR or bool(history.rows)
    return outcome.category in _HOPELESS or outcome.action is Action.NEVER


def _is_told_to_wait(outcome: Outcome, rules: Rules, number: int) -> bool:
    """Whether the server asks for a pause that this row does not make."""
    if outcome.retry_after is None:
        return False
    if number == REQUEST_TIMEOUT:  # repeated at once or not at all
        return outcome.retry_after > 0
    return number in {OVERLOADED, STATUS} and outcome.retry_after > rules.retry_after_cap


def _is_used_up(outcome: Outcome, history: History, rules: Rules) -> bool:
    """Whether the connect rounds or their pauses are used up; the next address of a round is still allowed."""
    if outcome.other_address_left and outcome.phase is not Phase.DNS:
        return False
    return history.connect_rounds >= rules.connect_rounds or history.connect_pauses >= CONNECT_PAUSES


def _action(outcome: Outcome, history: History, rules: Rules, *, number: int) -> RetryAction:
    """The action of the row, by what was already done and by the most that the failure allows."""
    row = TABLE[number]
    action = row.first if history.rows.count(number) < row.shots else row.then
    if action is _OTHER and not outcome.other_address_left:
        return _BACKOFF
    if action is _SURFACE and number == FRESH_CLOSED and outcome.other_address_left:
        return _BACKOFF
    if action is not _NOW:
        return action
    used_up = number in {FOUND_UNUSABLE, NOT_SENT} and history.uncounted >= _UNCOUNTED
    careful = outcome.category is Category.UNKNOWN or outcome.action in {Action.BACK_OFF, Action.LONG_BACK_OFF}
    late = outcome.user_timeout and rules.timeouts
    return _BACKOFF if used_up or careful or late else _NOW
