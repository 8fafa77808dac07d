"""Whether what keeps a client's connections alive holds against the idle limits that are known. Pure.

Two kinds of limit. A *path* (NAT, firewall, balancer) forgets a silent connection and tells nobody; any packet starts
it over, TCP keepalive's too, so some beat has to be shorter. A *server* closes in sight; only requests count there, so
a pooled connection has to be given up, or a heartbeat of the protocol sent, before. An announced limit (Keep-Alive:
timeout=) is kept by holdwire's pool without being told. Not responsible for finding limits (``rungs``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ..http.http11 import KEEP_ALIVE_MARGIN
from ..policy.profiles import Profile, matching, profile
from .record import Sign

__all__ = ["Limit", "Upkeep", "hold"]

_SEEN: Final = 0.7
"""Connections were seen to die of it, without a word."""
_TOLD: Final = 0.45
"""Below a problem."""
_NEVER: Final = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A connection ends after so many ``seconds`` of silence. ``source`` says in words who says so."""

    seconds: float
    source: str
    by_path: bool
    """Whether the path forgets it in silence; False: the server closes it in sight."""
    measured: bool = False
    announced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """What the client is set to: holdwire's ``profile``, and the interval of a ``heartbeat`` of the user's own."""

    profile: Profile = field(default_factory=lambda: profile("default"))
    heartbeat: float | None = None

    @property
    def beats(self) -> dict[str, float]:
        """What is sent in silence, and after how much of it."""
        beats = {f"the keepalive of profile {self.profile.name!r}": self.profile.keepalive.idle}
        if self.heartbeat is not None:
            beats["the heartbeat"] = self.heartbeat
        return beats

    @property
    def pool_idle(self) -> float | None:
        """After how much silence the pool gives a connection up."""
        return self.profile.pool().idle


def hold(limit: Limit, upkeep: Upkeep) -> tuple[str, Sign | None]:
    """What becomes of ``limit`` with ``upkeep``, in words; with a sign where it does not hold."""
    if limit.announced:
        return _hold_announced(limit)
    return _hold_path(limit, upkeep) if limit.by_path else _hold_server(limit, upkeep)


def _hold_announced(limit: Limit) -> tuple[str, Sign | None]:
    left = limit.seconds - KEEP_ALIVE_MARGIN
    if left > 0:
        return f"{limit.source}: holdwire's pool gives connections up after {left:g} s", None
    words = f"{limit.source}: too short to use a connection twice, each request opens a new one"
    return words, Sign("idle_limit", _NEVER, words)


def _hold_path(limit: Limit, upkeep: Upkeep) -> tuple[str, Sign | None]:
    name, beat = min(upkeep.beats.items(), key=lambda one: one[1])
    if beat < limit.seconds:
        spare = "" if beat <= limit.seconds / 2 else ", but one lost packet ends it: half the limit is safe"
        return f"{limit.source}: {name} comes after {beat:g} s and holds it{spare}", None
    words = f"{limit.source}: {name} comes too late, after {beat:g} s{_known(limit)}"
    return words, Sign("idle_reset", _SEEN if limit.measured else _TOLD, words)


def _hold_server(limit: Limit, upkeep: Upkeep) -> tuple[str, Sign | None]:
    if upkeep.heartbeat is not None and upkeep.heartbeat < limit.seconds:
        return f"{limit.source}: the heartbeat comes after {upkeep.heartbeat:g} s and holds it", None
    idle = upkeep.pool_idle
    if idle is not None and idle < limit.seconds:
        return f"{limit.source}: the pool gives connections up after {idle:g} s", None
    keeps = "for ever" if idle is None else f"for {idle:g} s"
    words = f"{limit.source}: the pool keeps connections {keeps}, so a request can meet the end"
    return words, Sign("idle_limit", _TOLD if limit.measured else _NEVER, words)


def _known(limit: Limit) -> str:
    names = [one.name for one in matching(limit.seconds)]
    return f"; known as {', '.join(names)}: profile={names[0]!r}" if names else ""
