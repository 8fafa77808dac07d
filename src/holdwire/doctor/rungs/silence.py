"""The rung ``idle``, on request only: after how much silence do connections end, and how? Takes its time.

Not responsible for the search (``idle_search``, ``idle_probe``) or for whether the limit does harm (``upkeep``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ...errors import HoldwireError
from ...policy.phase import Phase
from ..idle_probe import CannotProbe, HttpUse, search
from ..idle_search import Ending, IdleSearch
from ..record import Check, Verdict
from ..upkeep import Limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..case import Case
    from ..record import Rung

__all__ = ["look", "plan"]

_CHECK: Final = Check("idle", 7, Phase.IDLE, "See the rung configuration: does what we send in silence hold it?")
_CONNECTIONS: Final = 8
_BY_PATH: Final = frozenset({Ending.SILENT_DROP, Ending.RST_ON_SEND, Ending.RST_WHILE_IDLE})


def plan(longest: float) -> IdleSearch:
    """The search up to ``longest`` seconds of silence.

    Raises:
        ValueError: That is too short.
    """
    return IdleSearch(shortest=min(1.0, longest / 2), longest=longest, connections=_CONNECTIONS)


async def look(case: Case, progress: Callable[[str], None], *, verify: bool) -> tuple[Rung, list[Limit]]:
    """The rung, and the limit if there is one."""
    if case.proxy is not None:
        return _CHECK(Verdict.SKIPPED, "the silence behind a proxy is not measured"), []
    made = plan(case.idle or 0.0)
    there = replace(case.target, host=case.address or case.target.host)
    context = case.context(verify=verify) if case.target.secure else None
    try:
        await search(
            made, there, HttpUse(case.request()), context=context, server_name=case.server_name, progress=progress
        )
    except (CannotProbe, HoldwireError) as exc:
        return _CHECK(Verdict.SKIPPED, str(exc)), []
    finding = made.finding()
    case.opened += finding.connections
    evidence = {
        "limit_s": finding.limit,
        "error_s": finding.error,
        "ending": finding.ending,
        "survived_s": finding.survived,
        "connections": finding.connections,
    }
    if finding.limit is None or finding.ending is None:
        return _CHECK(Verdict.OK, f"connections may be silent for {finding.survived:.4g} s", evidence), []
    source = f"connections end after {finding.limit:.4g} s of silence (+-{finding.error:.2g} s, {finding.ending})"
    limit = Limit(seconds=finding.limit, source=source, by_path=finding.ending in _BY_PATH, measured=True)
    return _CHECK(Verdict.WARNING, source, evidence), [limit]
