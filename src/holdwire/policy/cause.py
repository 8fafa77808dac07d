"""``explain``: the likely cause of a failure in the light of what its origin did before, as rows of data.

The words of ``words`` look at one failure alone. Here the history of the origin counts too: at which idle ages its
connections died, when it last answered, how often the same happened in a row. The first row whose condition holds
wins; if none does, the failure keeps its words. Each row states how sure it is, and "unknown" is an answer. Pure.
Not responsible for gathering the history (``history``) or for learning the idle limit (``idle_limit``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from .evidence import loss, vanishes_in_full_size
from .kind import Confidence, Kind
from .phase import Delivery, Phase
from .profiles import matching

if TYPE_CHECKING:
    from collections.abc import Callable

    from .failure import Failure
    from .idle_limit import IdleEstimate
    from .profiles import Profile

__all__ = ["RULES", "Clues", "Rule", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clues:
    """What is known about the origin of a failure beyond the failure itself.

    ``idle`` is how long the connection had been idle before it died, or before the request that found it dead.
    ``limit`` is the idle limit as far as it was learnt, this death included. ``answered`` is how many seconds before
    the failure the origin answered last, None if it never has. ``streak`` is how many failures of this kind and phase
    there were in a row, this one included, with no answer between. ``restarted`` says that other connections, of other
    idle ages, ended at this moment, ``refused`` that new ones were refused.
    """

    idle: float | None = None
    limit: IdleEstimate | None = None
    answered: float | None = None
    streak: int = 1
    restarted: bool = False
    refused: bool = False


class Rule(NamedTuple):
    """A row: a stable ``name``, when it holds, and its words with ``{places}`` for numbers (see ``_numbers``)."""

    name: str
    when: Callable[[Failure, Clues], bool]
    cause: str
    remedy: str
    confidence: Confidence


_ENDED: Final = frozenset({Kind.CONNECTION_RESET, Kind.UNEXPECTED_EOF, Kind.BROKEN_PIPE, Kind.CONNECTION_ABORTED})
_SILENT: Final = frozenset({Kind.TIMED_OUT, Kind.HEARTBEAT_LOST})
_WAITED: Final = _SILENT | {Kind.LOCAL_TIMEOUT}
_ANSWERING: Final = frozenset({Phase.REQUEST_HEADERS, Phase.REQUEST_BODY, Phase.RESPONSE_WAIT, Phase.RESPONSE_BODY})
_EPISODES: Final = 3
_STREAK: Final = 3
_LONG_STREAK: Final = 10
_RECENT: Final = 3600.0
_SIGNS: Final = 1000
"""Milliseconds of silence from which on the peer's last sign of life is worth telling."""
_TENTHS: Final = 10.0
"""Seconds below which an idle age is told with tenths."""
_LOSS: Final = 0.1


def _is_limit(failure: Failure, clues: Clues) -> bool:
    """Whether the connection died at the idle age at which its siblings do."""
    idle, limit = clues.idle, clues.limit
    return failure.kind in _ENDED | _SILENT and idle is not None and limit is not None and limit.covers(idle)


def _is_known_limit(failure: Failure, clues: Clues) -> bool:
    return _is_limit(failure, clues) and clues.limit is not None and bool(clues.limit.profiles)


def _is_sure(rule: Callable[[Failure, Clues], bool]) -> Callable[[Failure, Clues], bool]:
    return lambda f, c: rule(f, c) and c.limit is not None and c.limit.episodes >= _EPISODES


def _looks_like_a_limit(failure: Failure, clues: Clues) -> bool:
    alone = failure.kind in _ENDED | _SILENT and not (clues.restarted or clues.refused)
    return alone and clues.idle is not None and bool(matching(clues.idle))


def _was_restarted(failure: Failure, clues: Clues) -> bool:
    return clues.restarted and failure.kind in _ENDED


def _is_gone(failure: Failure, clues: Clues) -> bool:
    return clues.refused and failure.kind in _ENDED


def _stopped_answering(failure: Failure, clues: Clues) -> bool:
    return failure.kind is Kind.CONNECTION_REFUSED and clues.answered is not None and clues.answered <= _RECENT


def _never_listened(failure: Failure, clues: Clues) -> bool:
    return failure.kind is Kind.CONNECTION_REFUSED and clues.answered is None and clues.streak >= _LONG_STREAK


def _name_was_good(failure: Failure, clues: Clues) -> bool:
    return failure.kind is Kind.NAME_RESOLUTION_ERROR and clues.answered is not None


def _always_there(failure: Failure, clues: Clues) -> bool:
    return failure.kind in _ENDED and failure.phase in _ANSWERING and not failure.reused and clues.streak >= _STREAK


def _handshake_always(failure: Failure, clues: Clues) -> bool:
    return failure.kind in _ENDED and failure.phase is Phase.TLS_HANDSHAKE and clues.streak >= _STREAK


def _only_small_ones(failure: Failure, _: Clues) -> bool:
    tcp = failure.tcp
    return failure.kind in _WAITED and tcp is not None and vanishes_in_full_size(tcp, queued=failure.outq)


def _is_lossy(failure: Failure, _: Clues) -> bool:
    return failure.kind in _WAITED and loss(failure.tcp) >= _LOSS


def _fell_silent(failure: Failure, _: Clues) -> bool:
    tcp = failure.tcp
    return (
        failure.kind in _SILENT
        and bool(failure.outq)
        and tcp is not None
        and (tcp.last_ack_recv or 0) >= _SIGNS
        and bool(tcp.total_retrans)
    )


def _had_begun(failure: Failure, _: Clues) -> bool:
    """Whether the answer ended inside its head, or after an interim one: the words know only the phase."""
    return failure.kind in _ENDED and failure.phase is Phase.RESPONSE_WAIT and failure.delivery is Delivery.ANSWERED


_USE_PROFILE: Final = 'Use profile="{profile}", or a heartbeat below {half} s.'
_USE_LESS: Final = "Let the pool idle for {safe} s at most (PoolPolicy), or use a heartbeat below {half} s."

RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "idle_limit",
        _is_sure(_is_known_limit),
        "It died at {idle} s idle for the {nth} time: the path drops idle flows at {limit} s, as {path} does.",
        _USE_PROFILE,
        Confidence.CERTAIN,
    ),
    Rule(
        "idle_limit",
        _is_known_limit,
        "It died at {idle} s idle for the {nth} time: the path seems to drop idle flows at {limit} s, as {path} does.",
        _USE_PROFILE,
        Confidence.LIKELY,
    ),
    Rule(
        "idle_limit",
        _is_sure(_is_limit),
        "It died at {idle} s idle for the {nth} time: the peer or the path ends idle connections at {limit} s.",
        _USE_LESS,
        Confidence.CERTAIN,
    ),
    Rule(
        "idle_limit",
        _is_limit,
        "It died at {idle} s idle for the {nth} time: the peer or the path seems to end idle connections then.",
        _USE_LESS,
        Confidence.LIKELY,
    ),
    Rule(
        "restart",
        _was_restarted,
        "Connections to this peer ended at one moment, whatever their age: it was restarted or replaced.",
        "Nothing if it was being deployed; otherwise look for a crash at that moment in its log.",
        Confidence.LIKELY,
    ),
    Rule(
        "restart",
        _is_gone,
        "It ended while new connections were refused: the peer was restarted, or it crashed.",
        "Nothing if it was being deployed; otherwise look for a crash at that moment in its log.",
        Confidence.LIKELY,
    ),
    Rule(
        "idle_limit_lookalike",
        _looks_like_a_limit,
        "It died at {idle} s idle, which is where {path} drops idle flows.",
        'If that is on the path use profile="{profile}"; otherwise see whether it happens again.',
        Confidence.POSSIBLE,
    ),
    Rule(
        "stopped_answering",
        _stopped_answering,
        "The peer answered {answered} s ago and refuses connections now: it is restarting, or it crashed.",
        "Wait for it: a deployment takes it away for seconds. If it stays away look at its log.",
        Confidence.LIKELY,
    ),
    Rule(
        "never_listened",
        _never_listened,
        "Every connection was refused, {streak} times in a row, and none has ever been accepted.",
        "Check host and port in the settings, and that the service is deployed there.",
        Confidence.LIKELY,
    ),
    Rule(
        "resolver",
        _name_was_good,
        "The peer answered under this name {answered} s ago: the resolver is in trouble, not the name.",
        "Check the name servers of this host and the way to them.",
        Confidence.LIKELY,
    ),
    Rule(
        "handshake_refused",
        _handshake_always,
        "The TLS handshake was cut {streak} times in a row: something refuses it on purpose.",
        "Check the server name, the TLS versions and filters on the path; holdwire doctor compares them.",
        Confidence.LIKELY,
    ),
    Rule(
        "same_phase",
        _always_there,
        "Fresh connections ended in this phase {streak} times in a row: requests like this make the peer fail, or a "
        "box in between refuses them.",
        "Compare with another request to the same peer, and look for a crash in its log.",
        Confidence.LIKELY,
    ),
    Rule(
        "mtu",
        _only_small_ones,
        "Small packets were acknowledged and full-sized ones ({mss} bytes) never: a link on the path has a smaller "
        "MTU, and the ICMP messages that say so are filtered.",
        "Let ICMP 'fragmentation needed' through, or lower the MTU of this host's interface.",
        Confidence.POSSIBLE,
    ),
    Rule(
        "silence",
        _fell_silent,
        "The peer's last sign of life was {silence} s before; what was sent since then, {sent_again} times in vain, "
        "was not acknowledged: the path or the peer's host has died.",
        "Check the network between both hosts and the peer's host.",
        Confidence.LIKELY,
    ),
    Rule(
        "loss",
        _is_lossy,
        "{lost} % of what was sent had to be sent again: the path loses packets.",
        "Check the network between both hosts; 'ip -s link' and the counters of the switches show where.",
        Confidence.POSSIBLE,
    ),
    Rule(
        "answer_begun",
        _had_begun,
        "The peer had begun to answer when the connection ended: it crashed, or a box in between cut it.",
        "Look at that moment in the log of the peer's program and of the balancers before it.",
        Confidence.POSSIBLE,
    ),
)
"""All rows, the most special first."""


def explain(failure: Failure, clues: Clues) -> Failure:
    """``failure`` with the cause and remedy that ``clues`` suggest; itself if they suggest nothing better."""
    for rule in RULES:
        if rule.when(failure, clues):
            numbers = _numbers(failure, clues)
            return failure.evolve(
                cause=rule.cause.format_map(numbers),
                remedy=rule.remedy.format_map(numbers),
                confidence=rule.confidence,
            )
    return failure


def _numbers(failure: Failure, clues: Clues) -> dict[str, str]:
    """What the places in the words stand for."""
    numbers = {"streak": str(clues.streak)}
    idle, limit, tcp = clues.idle, clues.limit, failure.tcp
    known: list[Profile] = []
    if idle is not None:
        numbers["idle"] = f"{idle:.0f}" if idle >= _TENTHS else f"{idle:.1f}"
        known = matching(idle)
    if limit is not None and _is_limit(failure, clues):
        numbers["limit"] = f"{limit.limit:.0f}"
        numbers["half"] = f"{limit.limit / 2:.0f}"
        numbers["safe"] = f"{limit.safe_idle:.0f}"
        numbers["nth"] = _nth(limit.deaths)
        known = limit.profiles
    if known:
        numbers["profile"] = known[0].name
        numbers["path"] = known[0].title
    if clues.answered is not None:
        numbers["answered"] = f"{clues.answered:.0f}"
    if tcp is not None:
        numbers["mss"] = str(tcp.snd_mss)
        numbers["silence"] = f"{(tcp.last_ack_recv or 0) / 1e3:.1f}"
        numbers["sent_again"] = str(tcp.total_retrans)
        numbers["lost"] = f"{loss(tcp) * 100:.0f}"
    return numbers


def _nth(number: int) -> str:
    teens = number // 10 % 10 == 1
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
