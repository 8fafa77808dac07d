"""The command ``holdwire``: its commands are a table (``commands``), one module each.

Not responsible for what the commands find out (``doctor``, ``testing``).
"""

from __future__ import annotations

from .commands import main

__all__ = ["main"]
