"""``collect`` and ``collect_everything``: what a test does first that is not to see what earlier ones left behind.

``Collecting`` and ``in_time`` are for tests of what a finalizer may find itself in the middle of.
"""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Collecting", "collect", "collect_everything", "finalize", "in_time"]

_PATIENCE = 10.0


def collect() -> None:
    """Collect recent garbage, and keep what survives out of later collections.

    In a run of thousands of tests so much survives that each further collection would take half a second.
    """
    gc.collect()
    gc.freeze()


def collect_everything() -> None:
    """Collect also what survived an earlier ``collect``, such as a pool whose client was in a traceback then."""
    gc.unfreeze()
    collect()


class Collecting(str):
    """A text whose look-ups are interrupted: each time it is hashed the next of ``finalizers`` is called, for something
    that is collected just then.
    """

    __slots__ = ("_finalizers",)
    _finalizers: list[Callable[[], object]]

    def __new__(cls, text: str, *finalizers: Callable[[], object]) -> Self:
        self = super().__new__(cls, text)
        self._finalizers = list(finalizers)
        return self

    __eq__ = str.__eq__

    def __hash__(self) -> int:
        if self._finalizers:
            finalize(self._finalizers.pop(0))
        return super().__hash__()


def finalize(finalizer: Callable[[], object]) -> None:
    """Have something collected whose end is ``finalizer``."""
    _Garbage(finalizer)
    gc.collect()


class _Garbage:
    def __init__(self, finalizer: Callable[[], object]) -> None:
        self._itself = self
        self._finalizer = finalizer

    def __del__(self) -> None:
        self._finalizer()


def in_time(function: Callable[[], object]) -> bool:
    """Whether ``function`` comes to an end; one that waits for its own lock never does."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return not thread.is_alive()
