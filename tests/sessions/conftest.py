"""Fixtures of the tests of long-lived connections."""

from __future__ import annotations

from tests.net_helpers import clean_runtime, listener

__all__ = ["clean_runtime", "listener"]
