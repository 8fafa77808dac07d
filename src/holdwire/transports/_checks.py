"""Checks of what users give a transport and a request: what is wrong, and what to give instead.

Not responsible for the settings' own values (``policy.settings``, ``retrying``) or for applying anything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, cast

from ..http.messages import Timeouts
from ..policy.checks import check_observers
from ..policy.profiles import Profile
from ..policy.settings import Heartbeat, Keepalive, PoolPolicy
from ..retrying import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["UNSET", "Unset", "check_arguments", "check_options", "check_timeout", "timeouts_of"]

TRUNCATION: Final = ("error", "accept")
OPTIONS: Final = frozenset({"idempotent", "deadline", "tls_truncation"})
_KINDS: Final[dict[str, tuple[type | tuple[type, ...], str]]] = {
    "profile": ((str, Profile), "the name of a profile (holdwire.profile_names()) or a holdwire.Profile"),
    "keepalive": (Keepalive, "holdwire.Keepalive(...), or None to switch it off"),
    "heartbeat": (Heartbeat, "holdwire.Heartbeat(...), or None to switch it off"),
    "pool": (PoolPolicy, "holdwire.PoolPolicy(...)"),
    "retry": (RetryPolicy, "holdwire.RetryPolicy(...), or None for no retry that is not free"),
    "uds": (str, "the path of a Unix socket"),
    "local_address": (str, "an IP address of this host"),
}


class Unset:
    """Tells an argument that was not given from None, which switches a thing off."""


UNSET: Final = Unset()


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of a transport that are wrong or do not go with another one.

    Raises:
        TypeError, ValueError: The message names the argument and says what to give.
    """
    for name, (kind, give) in _KINDS.items():
        value = arguments[name]
        if not (value is None or isinstance(value, (Unset, *(kind if isinstance(kind, tuple) else (kind,))))):
            message = f"{name}={value!r:.80}: give {give}"
            raise TypeError(message)
    retries = arguments["retries"]
    if not isinstance(retries, int) or retries < 0:
        message = f"retries={retries!r}: give the number of further rounds over the host's addresses, 0 or more"
        raise ValueError(message)
    _check_truncation(arguments["tls_truncation"])
    if arguments["uds"] is not None and arguments["local_address"] is not None:
        message = "uds and local_address do not go together: a Unix socket has no source address"
        raise ValueError(message)
    if arguments["uds"] is not None and arguments["proxy"] is not None:
        message = "uds and proxy do not go together: what listens on the Unix socket is connected to directly"
        raise ValueError(message)
    _check_limits(arguments["limits"])
    check_observers(arguments["observers"])


def timeouts_of(limits: Mapping[str, float | None]) -> Timeouts:
    """The time-outs of a request, as the client libraries hand them over. One that is over already is no mistake.

    Raises:
        ValueError: One of them is NaN.
    """
    connect, read, write, pool = limits.get("connect"), limits.get("read"), limits.get("write"), limits.get("pool")
    if connect != connect or read != read or write != write or pool != pool:  # noqa: PLR0124 - true of NaN alone
        for name in ("connect", "read", "write", "pool"):
            check_timeout(name, limits.get(name))
    return Timeouts(connect, read, write, pool)


def check_timeout(name: str, seconds: float | None) -> None:
    """Refuse a time-out that would never be over, nor be seen to have no limit.

    Raises:
        ValueError: It is NaN.
    """
    if seconds is not None and math.isnan(seconds):
        message = f"timeout: {name}={seconds!r}: give a number of seconds, or None for no limit"
        raise ValueError(message)


def check_options(options: Any) -> None:
    """Refuse wrong options of a request, ``extensions={"holdwire": {...}}``.

    Raises:
        TypeError, ValueError: The message names the option and says what to give.
    """
    known = ", ".join(sorted(OPTIONS))
    if not isinstance(options, dict):
        message = f'extensions["holdwire"] must be a dict with some of {known}, not {type(options).__name__}'
        raise TypeError(message)
    given = cast("dict[str, Any]", options)
    if not OPTIONS.issuperset(given):
        wrong = ", ".join(f"{name!r:.40}" for name in given if name not in OPTIONS)
        message = f'extensions["holdwire"] may have {known}, not {wrong}'
        raise TypeError(message)
    idempotent = given.get("idempotent")
    if not isinstance(idempotent, bool | None):
        message = f'extensions["holdwire"]: idempotent={idempotent!r:.80}: give True, False or None'
        raise TypeError(message)
    deadline = given.get("deadline")
    if deadline is not None and (not _is_number(deadline) or math.isnan(deadline) or deadline <= 0):
        message = f'extensions["holdwire"]: deadline={deadline!r:.80}: give the seconds that all attempts may take'
        raise ValueError(message)
    if given.get("tls_truncation") is not None:
        _check_truncation(given["tls_truncation"])


def _check_truncation(value: object) -> None:
    if value not in TRUNCATION:
        message = f'tls_truncation={value!r}: give "error" (a cut body is an error) or "accept"'
        raise ValueError(message)


def _check_limits(limits: Any) -> None:
    if limits is None:
        return
    for name, least in (("max_connections", 1), ("max_keepalive_connections", 0), ("keepalive_expiry", 0)):
        if not hasattr(limits, name):
            message = f"limits={limits!r:.80}: give Limits(...) of the HTTP library"
            raise TypeError(message)
        value = getattr(limits, name)
        if value is not None and (not _is_number(value) or not value >= least):
            message = f"limits: {name}={value!r:.80}: give a number of at least {least}, or None for no limit"
            raise ValueError(message)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
