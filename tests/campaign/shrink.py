"""Making a failing history small: fewer requests and fewer faults, as long as it goes on failing.

Not responsible for playing (the caller says what fails).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["smallest"]


def smallest(numbers: list[int], fails: Callable[[list[int]], bool]) -> list[int]:
    """A small part of ``numbers`` that still fails: halves are left out, then quarters, down to single ones."""
    size = len(numbers)
    while size:
        start = 0
        while start < len(numbers):
            without = numbers[:start] + numbers[start + size :]
            if fails(without):
                numbers = without
            else:
                start += size
        size //= 2
    return numbers
