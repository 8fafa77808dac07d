"""Offline analysis of capture files: ``analyse`` tells what happened, ``conclude`` what most likely went wrong.

Not responsible for capturing, for decrypting, or for showing results (``cli``). The modules, in the order in which a
packet passes them: ``reader``, ``packets``, ``flows``, ``segments``, ``tls_records``; the result's records are in
``capture``, the judgement in ``report``.
"""

from __future__ import annotations

from .capture import Alert, Capture, CloseNotify, Connection, Event, EventKind, IcmpError, Side, Tls, Who
from .flows import analyse
from .report import conclude

__all__ = [
    "Alert",
    "Capture",
    "CloseNotify",
    "Connection",
    "Event",
    "EventKind",
    "IcmpError",
    "Side",
    "Tls",
    "Who",
    "analyse",
    "conclude",
]
