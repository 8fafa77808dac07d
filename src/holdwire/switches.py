"""The off switches: ``HOLDWIRE=off``, ``HOLDWIRE_RETRIES=off`` in the environment, ``set_testing`` in code.

No other environment settings exist. Each switch is logged once. Not responsible for what follows from them.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Final

from .policy.checks import check_count

__all__ = ["Testing", "is_off", "retries_off", "set_testing", "testing"]

logger = logging.getLogger("holdwire")

_OFF: Final = frozenset({"off", "0", "false", "no"})
_said: set[str] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Testing:
    """What ``set_testing`` switched: ``attempts`` is the most that are made of a request, None as the policy says;
    ``pauses`` whether there is any pause between them.
    """

    attempts: int | None = None
    pauses: bool = True


_testing = Testing()


def set_testing(enabled: bool = True, *, attempts: int = 1, pauses: bool = False) -> Testing:  # noqa: FBT001, FBT002 - reads as set_testing(True), like stamina's
    """For the tests of programs that use holdwire: by default no retries and no pauses.

    Args:
        enabled: False puts everything back.
        attempts: The most attempts of a request.
        pauses: Whether to wait between attempts.

    Returns:
        What was set before.

    Raises:
        TypeError, ValueError: ``attempts`` is no whole number, or below 1.
    """
    global _testing  # noqa: PLW0603 - one switch for the process is what this is
    check_count("set_testing", "attempts", attempts, least=1, hint="1 is the default: no retry")
    before = _testing
    _testing = Testing(attempts=attempts, pauses=pauses) if enabled else Testing()
    return before


def testing() -> Testing:
    """What ``set_testing`` has set."""
    return _testing


def is_off() -> bool:
    """Whether ``HOLDWIRE=off``: transports use their family's stock pool."""
    return _switched_off("HOLDWIRE", "holdwire's transports use the stock pool of httpx")


def retries_off() -> bool:
    """Whether ``HOLDWIRE_RETRIES=off``: only free retries, those with proof, remain."""
    return _switched_off("HOLDWIRE_RETRIES", "only retries that are proven safe are made")


def _switched_off(name: str, effect: str) -> bool:
    if os.environ.get(name, "").strip().lower() not in _OFF:
        return False
    if name not in _said:
        _said.add(name)
        logger.warning("%s=%s is set: %s", name, os.environ[name], effect)
    return True
