"""Every test here leaves no socket and no task behind."""

from __future__ import annotations

import pytest

from tests.net_helpers import clean_runtime

__all__ = ["clean_runtime"]


@pytest.fixture(autouse=True)
async def tidy(clean_runtime: object, no_leaks: None) -> None:
    """After ``clean_runtime``, so that the tasks of the runtime itself count as there before."""
