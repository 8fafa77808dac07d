"""Long-lived connections: streams with a heartbeat (``connect``), and sessions that come back (``sessions``).

The package can be called, because ``holdwire.sessions`` is the name of a function too, and Python binds the name to
the package as soon as any of its modules is imported.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import probes

if TYPE_CHECKING:
    from .sessions import Sessions

__all__ = ["probes"]


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Sessions:
        from .sessions import sessions  # noqa: PLC0415 - it imports much that ``import holdwire`` does not need

        return sessions(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
