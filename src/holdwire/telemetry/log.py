"""``LogObserver``: one line for each failure on the standard library's logger ``holdwire``.

INFO if no request was lost by it, WARNING if one was; the same limits as for spans hold back a storm. Not responsible
for handlers or formatting: those are the program's. OpenTelemetry's log API is not used.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, final

from ..events import FailureRecorded
from ..policy.retry import REASONS, RetryAction
from ._context import is_suppressed, request_context
from .limiter import Limiter, is_silent

if TYPE_CHECKING:
    from ..events import Event

__all__ = ["LogObserver"]


@final
class LogObserver:
    """See the module.

    Args:
        logger: Where the lines go; by default the logger ``holdwire``.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("holdwire")
        self._limiter = Limiter()

    def on_event(self, event: Event) -> None:
        if not isinstance(event, FailureRecorded) or is_silent(event):
            return
        level = logging.WARNING if _is_lost(event) else logging.INFO
        if not self._logger.isEnabledFor(level):
            return
        if is_suppressed(request_context(event.context or event.last_context)):
            return
        held = self._limiter.admit_failure(event)
        if held is None:
            return
        self._logger.log(level, "%s", _line(event, held), extra={"failure": event.failure})


def _is_lost(event: FailureRecorded) -> bool:
    """Whether a request, or a stream that somebody uses, ended by this failure."""
    if event.verdict is not None:
        return event.verdict.action is RetryAction.SURFACE
    return event.context is not None and event.step is None


def _line(event: FailureRecorded, held: int) -> str:
    parts = [str(event.failure)]
    verdict = event.verdict
    if verdict is not None:
        what = "retried" if verdict.retries else "not retried" if verdict.action is RetryAction.SURFACE else "goes on"
        parts.append(f"[attempt {event.attempt} {what}: {REASONS.get(verdict.reason, verdict.reason)}]")
    if event.deaths > 1:
        parts.append(f"[{event.deaths} idle connections at once]")
    if held:
        parts.append(f"[{held} more such failures were held back]")
    return " ".join(" ".join(parts).split())
