"""What a session does after a failure: pause and come back, pause for longer, or stop for good.

Pure: a failure in, a decision with its reason out. Not responsible for how long a pause is (``backoff``, or the
caller's wait strategy in ``retrying``) or for what a login hook says.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .kind import Action, Category

if TYPE_CHECKING:
    from .failure import Failure

__all__ = ["SOON", "Step", "Then", "after"]


class Then(enum.Enum):
    """What follows."""

    PAUSE = "pause"
    LONG_PAUSE = "long_pause"
    """The peer or this host has too much to do: at least a second."""
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What follows, and why in plain words."""

    then: Then
    reason: str


_NO_SUCH_NAME: Final = frozenset({"EAI_NONAME", "EAI_NODATA"})
SOON: Final = 1.0
"""Seconds within which the end of a connection that said nothing is a refusal right after accept."""


def after(
    failure: Failure | None,
    *,
    up_for: float | None = None,
    silent: bool = False,
    known: bool = False,
    names_may_appear: bool = False,
) -> Step:
    """What to do after ``failure``.

    Args:
        failure: What ended the session or the attempt; None for an end that was no failure of the connection.
        up_for: How many seconds the session was up; None if none came about.
        silent: Whether the peer never sent a byte on it.
        known: Whether there was a session before: the name, the certificate and the port were good once.
        names_may_appear: Whether a name that does not exist may do so soon.
    """
    if failure is None:
        then, reason = Then.PAUSE, "the session has ended"
    elif silent and up_for is not None and up_for < SOON:
        then, reason = Then.LONG_PAUSE, "the peer accepted and closed at once: it may be overloaded"
    elif _is_hopeless(failure):
        then, reason = Then.STOP, "another attempt would fail the same way"
    elif failure.errno_name in _NO_SUCH_NAME and not (known or names_may_appear):
        then, reason = Then.STOP, "the host name does not exist and never did: check its spelling"
    elif failure.action is Action.LONG_BACK_OFF:
        then, reason = Then.LONG_PAUSE, "this host has run out of something"
    else:
        then, reason = Then.PAUSE, "no connection came about" if failure.phase.is_setup else "the connection was lost"
    return Step(then=then, reason=reason)


def _is_hopeless(failure: Failure) -> bool:
    """Whether nothing gets better by itself.

    Once TLS is up, what the two have to agree on is agreed: an alert about that (``protocol_version``) tells of damaged
    records. One about our certificate is meant, for in TLS 1.3 it comes after our handshake (RFC 8446, section 4.4.2).
    """
    setup, never = failure.phase.is_setup, failure.action is Action.NEVER
    if failure.category is Category.CONFIGURATION:
        return setup or never
    return failure.category is Category.LOCAL_BUG or (setup and never)
