"""``Statistics``: the numbers of one stream at one moment, and the attributes by which anyio's users ask for them.

Not responsible for counting: the wire and the heartbeat do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyio import TypedAttributeSet, typed_attribute

if TYPE_CHECKING:
    from ..policy.failure import Failure
    from ..policy.tcp_info import TcpInfo

__all__ = ["Statistics", "StreamAttribute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Bytes are those that the kernel gave and took, TLS included; times are in seconds.

    ``idle`` is the time since anything was sent or received. ``probes`` were sent and ``answers`` timed by the
    heartbeat; the round trips are its latest and its smoothed one. ``tcp`` and ``unacknowledged`` are the kernel's
    view, None where it has none.
    """

    bytes_in: int
    bytes_out: int
    age: float
    idle: float
    probes: int = 0
    answers: int = 0
    last_rtt: float | None = None
    smoothed_rtt: float | None = None
    unacknowledged: int | None = None
    tcp: TcpInfo | None = None


class StreamAttribute(TypedAttributeSet):
    """What a stream of holdwire tells beside anyio's ``SocketAttribute`` and ``TLSAttribute``."""

    connection_id: str = typed_attribute()
    peer: str | None = typed_attribute()
    """The address in use, or the path of a Unix socket."""
    failure: Failure | None = typed_attribute()
    """Why the stream broke; None while it has not."""
    statistics: Statistics = typed_attribute()
