"""Checks of arguments: one wording for every bad setting. Not responsible for what the settings mean."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit

__all__ = [
    "check_count",
    "check_flag",
    "check_number",
    "check_observers",
    "check_seconds",
    "check_share",
    "check_type",
    "socket_options_of",
    "split_url",
]


def check_type(owner: str, name: str, value: object, kind: type | tuple[type, ...], *, give: str) -> None:
    """Refuse what is not of ``kind``, which ``give`` says in words.

    Raises:
        TypeError: ``value`` is something else.
    """
    if not isinstance(value, kind):
        got = "None" if value is None else type(value).__name__
        message = f"{owner}: {name} must be {give}, not {got}"
        raise TypeError(message)


def check_flag(owner: str, name: str, value: object) -> None:
    """Refuse what is not a bool: a word such as "no" would be taken for yes.

    Raises:
        TypeError: ``value`` is something else.
    """
    check_type(owner, name, value, bool, give="True or False")


def check_number(
    owner: str, name: str, value: object, *, what: str, span: str, least: float, most: float = math.inf, hint: str
) -> None:
    """Refuse what is not a number from ``least`` to ``most``; ``what`` and ``span`` say both in words.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: it is out of range, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = f"{owner}: {name} must be {what}, not {type(value).__name__}; {hint}"
        raise TypeError(message)
    if not math.isfinite(value) or not least <= value <= most:
        message = f"{owner}: {name}={value!r} is out of range, it must be {span}; {hint}"
        raise ValueError(message)


def check_seconds(owner: str, name: str, value: object, *, least: float, most: float = math.inf, hint: str) -> None:
    """Refuse what is not a number of seconds from ``least`` to ``most``. Raises: as ``check_number``."""
    span = f"at least {least:g} seconds" if most == math.inf else f"from {least:g} to {most:g} seconds"
    check_number(owner, name, value, what="a number of seconds", span=span, least=least, most=most, hint=hint)


def check_share(owner: str, name: str, value: object, *, hint: str) -> None:
    """Refuse what is not a number from 0 to 1. Raises: as ``check_number``."""
    check_number(owner, name, value, what="a number from 0 to 1", span="from 0 to 1", least=0, most=1, hint=hint)


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


def socket_options_of(value: object) -> tuple[tuple[Any, ...], ...]:
    """The options in ``value``, each fit to be given to ``setsockopt``.

    Raises:
        TypeError: One is not; the message says what to give.
    """
    options = tuple(cast("Iterable[tuple[Any, ...]]", value)) if isinstance(value, Iterable) else (value,)
    for option in options:
        if not isinstance(option, tuple) or len(cast("tuple[object, ...]", option)) not in {3, 4}:
            message = (
                f"socket_options: give setsockopt's arguments as tuples (level, option, value), not {option!r:.60}"
            )
            raise TypeError(message)
    return cast("tuple[tuple[Any, ...], ...]", options)


def check_observers(value: object) -> None:
    """Refuse one observer where several are taken.

    Raises:
        TypeError: The message says what to give.
    """
    if not isinstance(value, Iterable):
        message = f"observers={value!r:.80}: give a list of observers, [observer]"
        raise TypeError(message)


def split_url(text: str, *, otherwise: str) -> SplitResult:
    """The parts of a URL, of which the port is one.

    Raises:
        ValueError: It is none, in the words of ``otherwise``: those of the standard library may hold a password.
    """
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(otherwise) from None
    return parts
