"""``Report``: what a campaign has come to, added up over histories, and as a table.

Not responsible for playing them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .player import INVARIANTS

if TYPE_CHECKING:
    from .player import Result

__all__ = ["Report"]

_NUMBERS = ("requests", "answered", "failed", "cancelled", "retries", "sessions", "messages")
_OF_PROTOCOLS = ("histories", *_NUMBERS, "faults", "violations")


@dataclass(slots=True)
class Report:
    """The sums, and the first seeds at which an invariant did not hold."""

    seconds: float = 0.0
    histories: int = 0
    numbers: Counter[str] = field(default_factory=Counter[str])
    protocols: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    """The same numbers for each protocol."""
    faults: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """By point and kind."""
    violations: Counter[str] = field(default_factory=Counter[str])
    failing: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """For each invariant that does not hold: the seed of the first history, and what was wrong with it."""

    def add(self, seed: str, result: Result) -> None:
        """One more history."""
        self.histories += 1
        numbers = Counter({name: getattr(result, name) for name in _NUMBERS})
        self.numbers += numbers
        numbers |= Counter(histories=1, faults=result.faults.total(), violations=len(result.violations))
        self.protocols[result.protocol] = self.protocols.get(result.protocol, Counter()) + numbers
        self.faults += result.faults
        for violation in result.violations:
            if not self.violations[violation.invariant]:
                self.failing[violation.invariant] = (seed, violation.what)
            self.violations[violation.invariant] += 1

    def merge(self, other: Report) -> None:
        """Those of another process."""
        self.histories += other.histories
        self.numbers += other.numbers
        for protocol, numbers in other.protocols.items():
            self.protocols[protocol] = self.protocols.get(protocol, Counter()) + numbers
        self.faults += other.faults
        self.violations += other.violations
        self.failing |= other.failing

    def __str__(self) -> str:
        """The table."""
        requests = self.numbers["requests"]
        lines = [
            (
                f"{self.histories:,} histories, {requests:,} requests, {self.faults.total():,} faults injected "
                f"in {self.seconds:.0f} s ({requests / max(self.seconds, 1e-9):,.0f} requests/s)"
            ),
            "  " + ", ".join(f"{self.numbers[name]:,} {name}" for name in _NUMBERS[1:]),
            *(
                f"  {protocol:<7}" + ", ".join(f"{numbers[name]:,} {name}" for name in _OF_PROTOCOLS)
                for protocol, numbers in sorted(self.protocols.items())
            ),
            "faults injected, by kind",
            *self._faults(1),
            "faults injected, by point",
            *self._faults(0),
            "violations",
            *(f"  {self.violations[name]:>9,}  {name}: {text}" for name, text in INVARIANTS.items()),
        ]
        return "\n".join(lines)

    def _faults(self, key: int) -> list[str]:
        sums: Counter[str] = Counter()
        for names, count in self.faults.items():
            sums[names[key]] += count
        return [f"  {count:>9,}  {name}" for name, count in sums.most_common()]
