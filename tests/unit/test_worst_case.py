"""The worst cases that docs/retries.md states: each row of its table, with the dice at their worst."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

import holdwire
from holdwire.policy.budget import Budget
from holdwire.policy.kind import Action, Category, Kind
from holdwire.policy.outcome import Outcome
from holdwire.policy.phase import Phase, Sent
from holdwire.retrying import Retrier

PAGE: Final = Path(__file__).parents[2] / "docs" / "retries.md"
ROW: Final = re.compile(r"^\| (?P<what>[^|]+) \| (?P<attempts>\d+) \| (?P<pauses>[\d.]+) s \|$", re.MULTILINE)
LISTED: Final = holdwire.RetryPolicy(statuses=frozenset({503}))

LOST: Final = Outcome(
    phase=Phase.RESPONSE_WAIT,
    category=Category.PEER_CLOSED,
    kind=Kind.CONNECTION_RESET,
    idempotent=True,
    replayable=True,
)
REFUSED: Final = Outcome(
    phase=Phase.CONNECT, sent=Sent.NONE, category=Category.REFUSED, kind=Kind.CONNECTION_REFUSED, action=Action.ADDRESS
)
UNSENT: Final = replace(LOST, phase=Phase.REQUEST_HEADERS, sent=Sent.NONE, idempotent=False)
LACKING: Final[dict[str, Any]] = {"category": Category.LOCAL_RESOURCE, "action": Action.LONG_BACK_OFF}

CASES: Final[tuple[tuple[str, Outcome, dict[str, Any]], ...]] = (
    ("no connection comes about", REFUSED, {}),
    ("the same with `retries=9`", REFUSED, {"connect_rounds": 10}),
    ("the TLS handshake is cut", replace(UNSENT, phase=Phase.TLS_HANDSHAKE), {}),
    ("this host is out of descriptors", replace(REFUSED, **LACKING), {}),
    ("an idempotent request's new connection", LOST, {}),
    ("an idempotent request's reused connection", replace(LOST, reused=True), {}),
    ("a connection turns out dead before", replace(UNSENT, reused=True), {}),
    ("a new connection is closed before", UNSENT, {}),
    ("the kernel has no memory", replace(LOST, **LACKING), {}),
    (
        "a listed status",
        replace(LOST, category=None, kind=None, status=503, retry_after=30.0),
        {"policy": LISTED},
    ),
    ("425, 421, or 408", replace(LOST, category=None, kind=None, status=425), {}),
    ("a request that is not idempotent", replace(LOST, idempotent=False), {}),
    ("a time limit of yours", replace(LOST, category=Category.TIMED_OUT, user_timeout=True), {}),
)


@pytest.fixture
def worst_dice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdwire.retrying.random.random", lambda: 1.0)
    monkeypatch.setattr("tenacity.wait.random.uniform", max)


def worst(
    ended: Outcome, *, policy: holdwire.RetryPolicy | None = None, connect_rounds: int | None = None
) -> tuple[int, float]:
    """Attempts and the sum of the pauses when every attempt ends like ``ended``."""
    policy = policy or holdwire.RetryPolicy()
    budget = Budget(share=1, floor=1000)
    retrier = Retrier(policy, policy.rules(connect_rounds=connect_rounds), budget, deadline=None, began=0.0)
    pauses = 0.0
    while True:
        verdict, delay = retrier.judge(ended, None)
        if not verdict.retries:
            return retrier.attempts, pauses
        pauses += delay


@pytest.mark.usefixtures("worst_dice")
@pytest.mark.parametrize(("what", "ended", "settings"), CASES, ids=[case[0] for case in CASES])
def test_a_row_of_the_page_is_true(what: str, ended: Outcome, settings: dict[str, Any]) -> None:
    (row,) = [row for row in ROW.finditer(PAGE.read_text()) if row["what"].startswith(what)]
    attempts, pauses = worst(ended, **settings)
    assert (attempts, round(pauses, 1)) == (int(row["attempts"]), float(row["pauses"]))


@pytest.mark.parametrize("rounds", [None, 10])
def test_a_host_with_ever_one_more_address_is_not_tried_for_ever(rounds: int | None) -> None:
    attempts, _ = worst(replace(REFUSED, other_address_left=True), connect_rounds=rounds)
    assert attempts == 5


def test_every_row_of_the_page_has_a_case() -> None:
    rows = [row["what"] for row in ROW.finditer(PAGE.read_text())]
    assert len(rows) == len(CASES)
