"""The records of the doctor: ``Rung`` (a check and its verdict; ``Check`` makes it), ``Sign`` (a hint), ``Report``.

Frozen values that ``dataclasses.asdict`` turns into JSON. Not responsible for making them (the rungs), for weighing
signs (``conclude``) or for showing anything (``cli``).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..policy.phase import Phase
    from .cause import Cause

__all__ = ["PROBLEM", "Check", "Report", "Rung", "Sign", "Verdict", "verdict_of"]

PROBLEM: Final = 0.5
"""The confidence from which a cause is a problem; below it is a warning."""


class Verdict(enum.StrEnum):
    """What came out of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sign:
    """A hint at the cause ``name`` (a key of ``conclude.ADVICE``), with the observation behind it."""

    name: str
    confidence: float
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One check of the ladder.

    ``evidence`` holds the numbers behind the verdict, their units in their names (``_s``, ``_ms``, ``_bytes``);
    ``guide_step`` is the step (1 to 9) of the troubleshooting guide; ``next_action`` says in one sentence what to do.
    """

    rung: str
    verdict: Verdict
    summary: str
    guide_step: int
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    phase: Phase | None = None
    next_action: str = ""
    signs: tuple[Sign, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """What is the same in every rung that a check makes; ``action`` is what to do where it found something."""

    rung: str
    guide_step: int
    phase: Phase | None = None
    action: str = ""

    def __call__(
        self,
        verdict: Verdict,
        summary: str,
        evidence: Mapping[str, Any] | None = None,
        *,
        signs: Iterable[Sign] = (),
        action: str | None = None,
    ) -> Rung:
        """The rung that came out; ``action`` in place of the check's own."""
        found = verdict in {Verdict.WARNING, Verdict.FAILED}
        return Rung(
            rung=self.rung,
            verdict=verdict,
            summary=summary,
            guide_step=self.guide_step,
            evidence=evidence or {},
            phase=self.phase,
            next_action=(self.action if action is None else action) if found else "",
            signs=tuple(signs),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run of the doctor found. ``vantage`` says from where it looked."""

    target: str
    verdict: Verdict
    headline: str
    vantage: Mapping[str, Any]
    rungs: tuple[Rung, ...]
    conclusion: tuple[Cause, ...]
    connections: int
    """How many connections were opened."""
    duration: float
    """Seconds."""


def verdict_of(causes: Sequence[Cause]) -> Verdict:
    """The verdict over ranked causes."""
    if not causes:
        return Verdict.OK
    return Verdict.FAILED if max(cause.confidence for cause in causes) >= PROBLEM else Verdict.WARNING
