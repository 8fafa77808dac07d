"""``Words`` and the conditions of its rows: what has to hold for a cause to be the likely one.

Not responsible for the rows (``_socket_words``, ``_protocol_words``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .codes import ALERTS
from .phase import Phase
from .tcp_info import TcpState

if TYPE_CHECKING:
    from collections.abc import Callable

    from .failure import Failure
    from .kind import Category

__all__ = [
    "RESTING",
    "Words",
    "alert",
    "always",
    "both",
    "during",
    "errno_was_eaten",
    "has_no_number",
    "has_proxy",
    "has_tls",
    "is_established",
    "is_exchange",
    "is_fresh",
    "is_ipv6",
    "is_reused_exchange",
    "is_setup",
    "is_unacknowledged",
    "is_unix",
    "named",
    "reason",
    "sort",
    "verify",
    "window_is_closed",
]


class Words(NamedTuple):
    """A row: ``when`` it holds, what most likely happened, and what to do."""

    when: Callable[[Failure], bool]
    cause: str
    remedy: str


RESTING = frozenset({Phase.IDLE, Phase.POOL})
"""No request uses the connection."""


def always(_: Failure) -> bool:
    """The condition of the last row."""
    return True


def named(*names: str) -> Callable[[Failure], bool]:
    """By the name of the errno or of getaddrinfo's answer."""
    return lambda f: f.errno_name in names


def during(*phases: Phase) -> Callable[[Failure], bool]:
    """By phase."""
    return lambda f: f.phase in phases


def verify(*codes: int) -> Callable[[Failure], bool]:
    """By the code of certificate verification."""
    return lambda f: f.tls is not None and f.tls.verify_code in codes


def alert(*names: str) -> Callable[[Failure], bool]:
    """By the name of the alert."""
    return lambda f: f.tls is not None and f.tls.alert is not None and ALERTS.get(f.tls.alert) in names


def reason(*stems: str) -> Callable[[Failure], bool]:
    """By OpenSSL's reason."""
    return lambda f: f.tls is not None and (f.tls.reason or "").removeprefix("SSL_") in stems


def sort(category: Category) -> Callable[[Failure], bool]:
    """By category."""
    return lambda f: f.category is category


def both(one: Callable[[Failure], bool], other: Callable[[Failure], bool]) -> Callable[[Failure], bool]:
    """By two conditions at once."""
    return lambda f: one(f) and other(f)


def is_unix(f: Failure) -> bool:
    """Whether the peer is a Unix socket."""
    return f.network_type == "unix"


def is_ipv6(f: Failure) -> bool:
    """Whether the address was one of IPv6."""
    return f.network_type == "ipv6"


def has_proxy(f: Failure) -> bool:
    """Whether the connection goes through a proxy."""
    return f.via is not None


def has_tls(f: Failure) -> bool:
    """Whether TLS has something to say."""
    return f.tls is not None


def has_no_number(f: Failure) -> bool:
    """Whether no errno was seen."""
    return not f.errno


def is_setup(f: Failure) -> bool:
    """Whether the connection was being set up."""
    return f.phase.is_setup


def is_established(f: Failure) -> bool:
    """Whether the connection stood."""
    return not f.phase.is_setup


def window_is_closed(f: Failure) -> bool:
    """Whether the peer lived and did not read what waits here."""
    return f.tcp is not None and f.tcp.snd_wnd == 0 and bool(f.outq)


def is_unacknowledged(f: Failure) -> bool:
    """Whether something that we sent was not acknowledged."""
    return bool(f.outq)


def errno_was_eaten(f: Failure) -> bool:
    """Whether an end of file is no FIN of the peer but the echo of an error that was handed out before.

    Only where nothing had been written: what is sent after a FIN is answered by RST and leaves the same state.
    """
    return f.phase in RESTING and f.tcp is not None and f.tcp.state is TcpState.CLOSE


def is_exchange(f: Failure) -> bool:
    """Whether a request was on its way or its answer awaited."""
    return f.phase.is_exchange


def is_fresh(f: Failure) -> bool:
    """Whether the connection had served no request before."""
    return not f.reused


def is_reused_exchange(f: Failure) -> bool:
    """Whether a request was on its way on a connection that had served others."""
    return f.reused and f.phase.is_exchange
