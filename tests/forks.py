"""``in_child``: a function that runs in a fork of this process, and is ended if it never ends.

The child has but one thread, and whatever lock another one held at that moment is held in it for ever: one of
OpenSSL's, one of coverage's. So it gets a limit.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_child"]

_LIMIT = 60
"""Seconds, on a busy machine."""


def in_child(function: Callable[[], object]) -> int:
    """Fork and call ``function``: 0 if it returns, 1 if it raises, which is printed, -14 if it is not over in time."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that other threads may hold locks: see the module
        child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_LIMIT)
        code = 1
        try:
            function()
            code = 0
        except BaseException:  # noqa: BLE001 - the parent has to know
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
