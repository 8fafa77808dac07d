"""The words of a retry decision: ``Verdict``, what came before it (``History``) and what the user allows (``Rules``).

Not responsible for deciding (``retry``).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

from .backoff import CONNECT_ROUNDS
from .kind import Kind  # noqa: TC001 - the properties are tested with what the types of the fields allow

__all__ = ["RETRIES", "SETUP_ROWS", "Evidence", "History", "RetryAction", "Rules", "Verdict"]


class RetryAction(enum.StrEnum):
    """What to do about an attempt."""

    RETRY_NOW = enum.auto()
    RETRY_BACKOFF = enum.auto()
    RETRY_OTHER_ADDRESS = enum.auto()
    CONNECT_FIRST = enum.auto()
    """Open a replacement; only when it stands, abort the old connection and send the request again on it."""
    KEEP_WAITING = enum.auto()
    SURFACE = enum.auto()
    DELIVER = enum.auto()
    """Give the response to the caller: it is the answer, or nothing better is to be had."""


class Evidence(enum.StrEnum):
    """What stands behind sending a request again."""

    PROOF = enum.auto()
    """It was certainly not processed."""
    ASSUMED = enum.auto()
    """It may have been processed, but doing it again is harmless by definition."""
    NONE = enum.auto()
    """It may have been processed, and doing it again may do harm."""


RETRIES: Final = frozenset(
    {
        RetryAction.RETRY_NOW,
        RetryAction.RETRY_BACKOFF,
        RetryAction.RETRY_OTHER_ADDRESS,
        RetryAction.CONNECT_FIRST,
    }
)
SETUP_ROWS: Final = frozenset({1, 2, 3, 4, 5, 31})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do about an attempt, and why.

    ``reason`` is a word of ``retry.REASONS``. ``cost`` is 1 if the retry takes a token of the budget, ``counted``
    whether the stop rule counts it as an attempt. The pause is at least ``min_delay`` seconds, and just that with
    ``exact_delay``. ``refused`` is what becomes of it if the stop rule, the budget or the deadline says no.
    """

    action: RetryAction
    evidence: Evidence
    row: int
    reason: str
    cost: int = 0
    counted: bool = False
    min_delay: float = 0.0
    exact_delay: bool = False
    fresh_connection: bool = False
    """Send it on a connection that no request has used."""
    free_idle: bool = False
    """Close idle connections first: this host has run out of something."""
    refused: RetryAction = RetryAction.SURFACE

    @property
    def retries(self) -> bool:
        """Whether the request is to be sent again."""
        return self.action in RETRIES

    @property
    def is_setup(self) -> bool:
        """Whether the connection never came about, so that pauses are those between connect rounds (``backoff``)."""
        return self.row in SETUP_ROWS

    @property
    def new_round(self) -> bool:
        """Whether it begins another round over the addresses."""
        return self.is_setup and self.action is RetryAction.RETRY_BACKOFF

    @property
    def safe_to_retry(self) -> bool:
        """Whether sending the request again cannot execute it twice."""
        return self.evidence is Evidence.PROOF


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was already done for a request.

    ``attempts`` are those that the stop rule counts, the one that just ended included; ``connect_rounds`` the rounds
    over the addresses that were begun, the first one included, and ``connect_pauses`` the seconds between them;
    ``rows`` the rows that led to a retry, in order.
    """

    attempts: int = 1
    uncounted: int = 0
    connect_rounds: int = 1
    connect_pauses: float = 0.0
    rows: tuple[int, ...] = ()

    def after(self, verdict: Verdict, *, delay: float) -> History:
        """The history once ``verdict``, a retry, is carried out after a pause of ``delay`` seconds."""
        return replace(
            self,
            attempts=self.attempts + verdict.counted,
            uncounted=self.uncounted + (not verdict.counted),
            connect_rounds=self.connect_rounds + verdict.new_round,
            connect_pauses=self.connect_pauses + delay * verdict.new_round,
            rows=(*self.rows, verdict.row),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the user allows. The defaults repeat nothing that the user did not ask for.

    ``timeouts``: a time limit that the user set may be retried. ``statuses``: responses that are not taken for an
    answer, beside the protocol's own 425, 421 and 408 with close. ``any_method_429``: a 429 lets any method be
    repeated. ``stale_proof``: a FIN that is inferred after the write counts as proof; measured servers disagree.
    ``names_may_appear``: a name that does not exist may do so soon. ``never``: kinds of failure that are surfaced
    whatever the table says. ``rounds_asked_for``: the rounds of connecting are the user's number, so that the stop rule
    does not end them. ``switched_off``: free retries only.
    """

    timeouts: bool = False
    statuses: frozenset[int] = frozenset()
    any_method_429: bool = False
    retry_after_cap: float = 30.0
    stale_proof: bool = False
    names_may_appear: bool = False
    never: frozenset[Kind] = frozenset()
    connect_rounds: int = CONNECT_ROUNDS
    rounds_asked_for: bool = False
    switched_off: bool = False
