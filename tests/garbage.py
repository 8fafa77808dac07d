"""``collect`` and ``collect_everything``: what a test does first that is not to see what earlier ones left behind."""

from __future__ import annotations

import gc

__all__ = ["collect", "collect_everything"]


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
