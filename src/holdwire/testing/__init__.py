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
from .proxy import BlockingChaosProxy, ChaosProxy
from .server import ChaosServer
from .sockets import FaultySocket, Run, SocketPlan, sweep
from .streams import FaultyStream, faulty_stream_pair

__all__ = [
    "Action",
    "Answer",
    "BlockingChaosProxy",
    "ChaosProxy",
    "ChaosServer",
    "Entry",
    "Execution",
    "Fault",
    "FaultySocket",
    "FaultyStream",
    "Framing",
    "Identity",
    "Journal",
    "Ledger",
    "Point",
    "Request",
    "Run",
    "Script",
    "SocketPlan",
    "close_after_bytes",
    "faulty_stream_pair",
    "idle_limit",
    "self_signed",
    "sweep",
]
