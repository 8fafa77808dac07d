"""Runs the cases of a parametrized test side by side, where they mostly wait; each case still is a test of its own."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SideBySide"]

T = TypeVar("T")
_PATIENCE = 220.0
"""Seconds; below pytest's own time limit for a test."""


class SideBySide(Generic[T]):
    """The results of ``run(case)`` for those cases (the values of ``argument``) that this session is to test."""

    def __init__(self, request: pytest.FixtureRequest, argument: str, run: Callable[[str], T], *, threads: int) -> None:
        items = [item for item in request.session.items if item.path == request.path]
        params = [
            item.callspec.params for item in items if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        ]
        chosen = [str(one[argument]) for one in params if argument in one]
        self._pool = ThreadPoolExecutor(threads)
        self._futures: dict[str, Future[T]] = {case: self._pool.submit(run, case) for case in dict.fromkeys(chosen)}

    def __getitem__(self, case: str) -> T:
        """What became of a case; what it raised, a skip too, is raised here."""
        return self._futures[case].result(_PATIENCE)

    def close(self) -> None:
        """Wait for what still runs."""
        self._pool.shutdown(cancel_futures=True)
