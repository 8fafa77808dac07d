"""Faults on demand, for tests of any client: servers, proxies, sockets and streams that break by script.

Usable without knowing anything of holdwire's inside, and without using holdwire at all. Start with ``ChaosServer``
(an HTTP server that keeps a ledger of what it executed) or ``ChaosProxy`` (between your client and your server);
``faults`` describes the scripts. pytest users: ``pytest_plugins = ["holdwire.testing.pytest_plugin"]``.
"""

from __future__ import annotations

from .certificates import Identity, self_signed
from .faults import Action, Fault, Point, Script, close_after_bytes, idle_limit
from .ledger import Entry, Execution, Journal, Ledger
from .messages import Answer, Framing, Request
from .server import ChaosServer

__all__ = [
    "Action",
    "Answer",
    "ChaosServer",
    "Entry",
    "Execution",
    "Fault",
    "Framing",
    "Identity",
    "Journal",
    "Ledger",
    "Point",
    "Request",
    "Script",
    "close_after_bytes",
    "idle_limit",
    "self_signed",
]
