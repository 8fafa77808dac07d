"""The closed sets of words are complete and say something."""

from __future__ import annotations

import re

import pytest

from holdwire.policy.kind import Kind
from holdwire.policy.phase import Phase
from holdwire.policy.retry import REASONS, Evidence, RetryAction, Verdict
from holdwire.policy.retry_table import TABLE
from holdwire.policy.tcp_info import TcpState
from holdwire.policy.verdict import RETRIES
from holdwire.telemetry.words import DECISIONS, FLAGS, STATES, SUPPRESSED, WHAT, WHEN, decision, envoy_flag, sentence


def verdict(reason: str, action: RetryAction = RetryAction.SURFACE) -> Verdict:
    return Verdict(action=action, evidence=Evidence.NONE, row=1, reason=reason)


def test_every_kind_phase_and_state_has_its_words() -> None:
    assert set(WHAT) == set(FLAGS) == set(Kind)
    assert set(WHEN) == set(Phase)
    assert set(STATES) == set(TcpState)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("phase", Phase)
def test_a_status_is_a_short_sentence_and_no_copy_of_error_type(kind: Kind, phase: Phase) -> None:
    text = sentence(kind, phase)
    assert re.fullmatch(r"[A-Za-z0-9'/ ]{15,90}", text)
    assert kind.value not in text


@pytest.mark.parametrize(
    ("kind", "phase", "flag"),
    [
        (Kind.CONNECTION_RESET, Phase.TLS_HANDSHAKE, "UF"),
        (Kind.CONNECTION_RESET, Phase.RESPONSE_WAIT, "UC"),
        (Kind.TIMED_OUT, Phase.CONNECT, "UF"),
        (Kind.TIMED_OUT, Phase.IDLE, "UC"),
        (Kind.TLS_PROTOCOL_ERROR, Phase.RESPONSE_BODY, "UPE"),
        (Kind.HEARTBEAT_LOST, Phase.HEARTBEAT, "LR"),
        (Kind.NAME_RESOLUTION_ERROR, Phase.DNS, "DF"),
        (Kind.BAD_FILE_DESCRIPTOR, Phase.IDLE, None),
    ],
)
def test_envoys_flag_depends_on_set_up_or_established(kind: Kind, phase: Phase, flag: str | None) -> None:
    assert envoy_flag(kind, phase) == flag


def test_every_reason_that_the_words_know_exists() -> None:
    assert set(DECISIONS) <= set(REASONS)
    assert set(SUPPRESSED) <= set(REASONS)


def test_only_rows_that_retry_and_the_limits_count_as_exhausted() -> None:
    limits = {"attempts", "budget", "deadline"}
    for reason in REASONS:
        if decision(verdict(reason)) != "budget_exhausted":
            continue
        rows = [row for row in TABLE.values() if row.reason == reason]
        assert reason in limits or any(row.first in RETRIES for row in rows), reason


@pytest.mark.parametrize(
    ("reason", "action", "expected"),
    [
        ("reused_connection_lost", RetryAction.RETRY_NOW, "retried"),
        ("black_hole", RetryAction.CONNECT_FIRST, "retried"),
        ("may_have_been_processed", RetryAction.SURFACE, "not_idempotent"),
        ("body_not_replayable", RetryAction.SURFACE, "not_idempotent"),
        ("budget", RetryAction.SURFACE, "budget_exhausted"),
        ("attempts", RetryAction.SURFACE, "budget_exhausted"),
        ("connect", RetryAction.SURFACE, "budget_exhausted"),
        ("not_retryable", RetryAction.SURFACE, "fatal"),
        ("response_started", RetryAction.SURFACE, "fatal"),
        ("cancelled", RetryAction.SURFACE, "none"),
        ("timeout", RetryAction.SURFACE, "none"),
    ],
)
def test_the_decision_follows_from_the_verdict(reason: str, action: RetryAction, expected: str) -> None:
    assert decision(verdict(reason, action)) == expected


def test_a_failure_outside_any_request_has_no_decision() -> None:
    assert decision(None) == "none"
