"""The settings of a connection's life: ``Keepalive``, ``Heartbeat``, ``PoolPolicy``.

Frozen and keyword-only; the defaults are the product, None switches a thing off. Not responsible for applying them
to a socket (``net``), for choosing them by the path (``profiles``) or for the schedule of HTTP/2 PINGs (``pings``).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias, get_args

from .checks import check_count, check_flag, check_seconds, check_share

__all__ = ["Direction", "Heartbeat", "IsReply", "Keepalive", "PoolPolicy", "Probe", "Sender"]

_KERNEL_SECONDS: Final = 32767
"""The largest TCP_KEEPIDLE and TCP_KEEPINTVL (include/net/tcp.h, MAX_TCP_KEEPIDLE)."""
_KERNEL_COUNT: Final = 127
"""The largest TCP_KEEPCNT (include/net/tcp.h, MAX_TCP_KEEPCNT)."""
_PLAIN_COUNT: Final = 3
"""The probes that go unanswered before death where ``dead_after`` is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """TCP keepalive and TCP_USER_TIMEOUT, in seconds.

    ``idle`` is the silence before the first probe, ``interval`` the time between probes, ``dead_after`` the time that
    data may stay unacknowledged, at least 5 s (grpc/proposal, A18: less drops connections on slow paths). Both are
    set together because they cover disjoint failures: keepalive an idle connection, the other one with data on its
    way. None as ``dead_after`` leaves TCP_USER_TIMEOUT alone.

    Raises:
        TypeError: A value is not a number.
        ValueError: A value is out of range, or the probes would be more than the kernel allows.
    """

    idle: float = 60.0
    interval: float = 15.0
    dead_after: float | None = 90.0

    def __post_init__(self) -> None:
        hint = "give keepalive=None to switch keepalive off"
        check_seconds("Keepalive", "idle", self.idle, least=1, most=_KERNEL_SECONDS, hint=hint)
        check_seconds("Keepalive", "interval", self.interval, least=1, most=_KERNEL_SECONDS, hint=hint)
        if self.dead_after is not None:
            hint = "give dead_after=None to leave TCP_USER_TIMEOUT alone"
            check_seconds("Keepalive", "dead_after", self.dead_after, least=5, hint=hint)
        if self.count > _KERNEL_COUNT:
            message = (
                f"Keepalive: dead_after={self.dead_after!r} with interval={self.interval!r} needs {self.count} probes, "
                f"the kernel allows {_KERNEL_COUNT}; raise interval"
            )
            raise ValueError(message)

    @property
    def count(self) -> int:
        """TCP_KEEPCNT. Linux ignores it while TCP_USER_TIMEOUT is set; it counts elsewhere."""
        if self.dead_after is None:
            return _PLAIN_COUNT
        return max(1, math.ceil((self.dead_after - self.idle) / self.interval))

    @property
    def idle_death(self) -> float:
        """Seconds until a silently dead idle connection is found dead: the first probe time from ``dead_after`` on."""
        return self.idle + self.interval * self.count


Direction: TypeAlias = Literal["read", "write", "both"]
"""Which silence calls for a probe: nothing received, nothing sent, or neither of them."""


class Sender(Protocol):
    """What a probe function is given: something bytes can be sent on (an ``anyio.abc.ByteSendStream`` is one)."""

    async def send(self, item: bytes, /) -> None:
        """Send all of ``item``."""
        ...


Probe: TypeAlias = bytes | Callable[[Sender], Awaitable[object]]
"""The bytes of a probe, or an async function that sends one."""
IsReply: TypeAlias = Callable[[bytes], bool | None]
"""Whether received bytes are the reply: yes, no, or None for "cannot tell". Any of the three is life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A heartbeat: what finds out that a silent peer is dead. Times in seconds.

    After ``interval`` of silence a probe is sent; nothing at all within ``timeout`` means death. On HTTP/2 the probe
    is a PING, ``interval`` replaces the default schedule and is raised to 10 s where it is below (grpc/proposal, A8),
    and ``while_idle`` says whether to go on while no stream is open. A session needs a ``probe``; ``is_reply`` tells
    its answer from other traffic for the round-trip time, ``direction`` says which silence counts, ``jitter`` is the
    random share by which each interval is longer or shorter.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range.
    """

    interval: float
    timeout: float = 20.0
    probe: Probe | None = None
    is_reply: IsReply | None = None
    direction: Direction = "read"
    jitter: float = 0.15
    while_idle: bool = False

    def __post_init__(self) -> None:
        hint = "give heartbeat=None to switch heartbeats off"
        check_seconds("Heartbeat", "interval", self.interval, least=0.001, hint=hint)
        check_seconds("Heartbeat", "timeout", self.timeout, least=0.001, hint=hint)
        check_share("Heartbeat", "jitter", self.jitter, hint="0 switches the jitter off, 0.15 is the default")
        probe: object = self.probe
        if probe is not None and not isinstance(probe, bytes) and not callable(probe):
            message = f"Heartbeat: probe must be bytes or an async function, not {type(probe).__name__}"
            raise TypeError(message)
        if probe == b"":
            message = "Heartbeat: probe=b'' sends nothing; give the bytes that the peer answers"
            raise ValueError(message)
        is_reply: object = self.is_reply
        if is_reply is not None and not callable(is_reply):
            message = f"Heartbeat: is_reply must be a function of bytes, not {type(is_reply).__name__}"
            raise TypeError(message)
        if self.direction not in get_args(Direction):
            known = ", ".join(get_args(Direction))
            message = f"Heartbeat: direction={self.direction!r} is unknown; give one of {known}"
            raise ValueError(message)
        check_flag("Heartbeat", "while_idle", self.while_idle)


_AGE_SPREAD: Final = 0.1


Learn: TypeAlias = Literal["report", "apply"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPolicy:
    """When a pooled connection is used no more: idle too long, too old (both in seconds), or used too often.

    A connection that is too old is drained, never cut. ``learn`` is what becomes of an idle limit of the path that
    shows in how connections die: ``"report"`` tells it, in causes and in the snapshot; ``"apply"`` also ends idle
    connections at 80 % of it, as soon as three episodes of deaths bear it out. Explicit ``httpx.Limits`` are never
    touched.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range.
    """

    idle: float | None = 55.0
    max_age: float | None = 300.0
    max_requests: int | None = None
    learn: Learn = "report"

    def __post_init__(self) -> None:
        if self.learn not in get_args(Learn):
            raise ValueError(f'PoolPolicy: learn={self.learn!r} is unknown; give "report" or "apply"')
        if self.idle is not None:
            check_seconds("PoolPolicy", "idle", self.idle, least=0, hint="idle=None sets no limit")
        if self.max_age is not None:
            check_seconds("PoolPolicy", "max_age", self.max_age, least=0.001, hint="max_age=None sets no limit")
        if self.max_requests is not None:
            hint = "max_requests=None sets no limit"
            check_count("PoolPolicy", "max_requests", self.max_requests, least=1, hint=hint)

    def age_limit(self, dice: float) -> float:
        """The age at which one connection retires: ``max_age`` +-10 % by ``dice`` (0 to 1), infinity for None.

        The spread keeps connections that were opened together from ending together (grpc/proposal, A9).
        """
        if self.max_age is None:
            return math.inf
        return self.max_age * (1 - _AGE_SPREAD + 2 * _AGE_SPREAD * dice)
