"""Checks of arguments: one wording for every bad setting. Not responsible for what the settings mean."""

from __future__ import annotations

import math

__all__ = ["check_count", "check_seconds", "check_share"]


def check_seconds(owner: str, name: str, value: object, *, least: float, most: float = math.inf, hint: str) -> None:
    """Refuse what is not a number of seconds from ``least`` to ``most``.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: it is out of range, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = f"{owner}: {name} must be a number of seconds, not {type(value).__name__}; {hint}"
        raise TypeError(message)
    if not math.isfinite(value) or not least <= value <= most:
        span = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        message = f"{owner}: {name}={value!r} is out of range, it must be {span} seconds; {hint}"
        raise ValueError(message)


def check_count(owner: str, name: str, value: object, *, least: int, hint: str) -> None:
    """Refuse what is not a whole number of at least ``least``.

    Raises:
        TypeError: ``value`` is not an int.
        ValueError: it is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        message = f"{owner}: {name} must be a whole number, not {type(value).__name__}; {hint}"
        raise TypeError(message)
    if value < least:
        message = f"{owner}: {name}={value!r} is too small, it must be at least {least}; {hint}"
        raise ValueError(message)


def check_share(owner: str, name: str, value: object, *, hint: str) -> None:
    """Refuse what is not a number from 0 to 1.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = f"{owner}: {name} must be a number from 0 to 1, not {type(value).__name__}; {hint}"
        raise TypeError(message)
    if not 0 <= value <= 1:
        message = f"{owner}: {name}={value!r} is out of range, it must be from 0 to 1; {hint}"
        raise ValueError(message)
