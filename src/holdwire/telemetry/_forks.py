"""What is made anew in a forked child: a lock that another thread held at the fork would be held there for ever.

Not responsible for what a child keeps of its parent's numbers: ``renew`` is. Private to ``telemetry``.
"""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol

__all__ = ["renew_in_children"]


class _Renewable(Protocol):
    def renew(self) -> None:
        """Begin anew: called in a child before anything else of holdwire runs there."""
        ...


_members: Final[weakref.WeakSet[_Renewable]] = weakref.WeakSet()


def renew_in_children(member: _Renewable) -> None:
    """Call ``member.renew`` in every process that is forked from this one, for as long as it lives."""
    _members.add(member)


def _renew() -> None:
    for member in list(_members):
        member.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
