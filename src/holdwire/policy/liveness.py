"""``Liveness``: whether a silent connection is still alive, as a state machine without a clock.

Theory of operation: the machine is *idle* until nothing has been received for an interval; then it asks for a probe
and is *probing*. Any byte received brings it back to idle. When the time-out passes it does not say "dead" but asks
its owner to look (LOOK): the owner reads what only the kernel knows and calls ``judge``, which says DEAD, or that our
own slowness was mistaken for the peer's death. Two calls, so that the system calls are made only at the brink.

Invariants: the clock starts at the last byte received, never at the last probe; one probe is outstanding at most; a
peer is never declared dead while we do not read, while unread bytes wait, while the window is closed by a peer that
answers, while a large write moves, or after a pause of our own loop or host since the probe.

Made for 10,000 connections: a beat allocates no object but floats, and ``received`` is two stores. Times are seconds
of a monotonic clock; dice are numbers from 0 to 1. Not responsible for probing, for reading the kernel, for timers,
or for the schedule of HTTP/2 PINGs (``pings``, which sets ``interval`` None here and calls ``probed``).
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .settings import Direction

__all__ = ["Liveness", "State", "Step", "was_suspended"]


class Step(enum.Enum):
    """What to do now."""

    WAIT = "wait"
    """Nothing, until ``due``."""
    PROBE = "probe"
    """Call ``probed`` and send a probe."""
    LOOK = "look"
    """The time-out passed: look at the socket and call ``judge``."""
    DEAD = "dead"
    """Give the connection up."""


class State(enum.Enum):
    """Where the machine is."""

    IDLE = "idle"
    PROBING = "probing"
    PAUSED = "paused"
    DEAD = "dead"


_ROUND_TRIPS: Final = 4
_SMOOTHING: Final = 0.125
"""The weight of a new round-trip time (RFC 6298, section 2: alpha)."""
_SLEPT: Final = 2.0


def was_suspended(monotonic: float, boottime: float) -> bool:
    """Whether the host slept while the two clocks advanced by so many seconds: only boot time counts sleep."""
    return boottime - monotonic > _SLEPT


class Liveness:
    """The machine of one connection. ``due`` is when it wants to be asked again (``check``).

    Args:
        now: The time; the connection counts as just heard.
        interval: Silence before a probe; None never asks for one by itself.
        timeout: The least time that a probe may stay unanswered. Once round trips are known it is at least four of
            them plus ``allowance``, for pauses of the peer such as garbage collection.
        direction: Which silence calls for a probe.
        jitter: The share by which each interval is longer or shorter.
        dice: For the first interval.
    """

    __slots__ = (
        "_direction",
        "_expiry",
        "_gap",
        "_jitter",
        "_last_read",
        "_last_write",
        "_paused_at",
        "_probed_at",
        "_state",
        "_suspect",
        "_timed",
        "allowance",
        "due",
        "interval",
        "last_rtt",
        "smoothed_rtt",
        "timeout",
    )

    def __init__(
        self,
        now: float,
        *,
        interval: float | None,
        timeout: float = 20.0,
        direction: Direction = "read",
        jitter: float = 0.15,
        allowance: float = 0.5,
        dice: float = 0.5,
    ) -> None:
        self.interval = interval
        self.timeout = timeout
        self.allowance = allowance
        self.last_rtt: float | None = None
        self.smoothed_rtt: float | None = None
        self._direction = direction
        self._jitter = jitter
        self._state = State.IDLE
        self._last_read = self._last_write = self._probed_at = self._paused_at = self._expiry = now
        self._timed = self._suspect = False
        self._gap = self._next_gap(dice)
        self.due = now + self._gap

    @property
    def state(self) -> State:
        """Where the machine is."""
        return self._state

    @property
    def last_read(self) -> float:
        """When the last byte was received."""
        return self._last_read

    def received(self, now: float, *, reply: bool = True) -> float | None:
        """Bytes arrived: the peer lives. ``reply`` False says that they answer no probe, so that they time nothing.

        Returns:
            The round trip in seconds that they measured, if they did.
        """
        self._last_read = now
        if self._state is not State.PROBING or now < self._probed_at:  # what was here before a probe is no answer to it
            return None
        self._state = State.IDLE
        if not reply or not self._timed:
            return None
        rtt = now - self._probed_at
        self._record(rtt)
        return rtt

    def wrote(self, now: float) -> None:
        """The kernel took bytes (of the user, not of a probe)."""
        self._last_write = now

    def pause(self, now: float) -> None:
        """The consumer reads no more: nothing can be said about the peer until ``resume``."""
        if self._state is not State.DEAD and self._state is not State.PAUSED:
            self._paused_at = now
            # a probe that is outstanding may have been answered into a buffer that nobody reads: it is void
            self._state = State.PAUSED
            self.due = math.inf

    def resume(self, now: float) -> None:
        """The consumer reads again: the silence goes on where it was."""
        if self._state is State.PAUSED:
            self._state = State.IDLE
            pause = now - self._paused_at
            self._last_read = min(now, self._last_read + pause)
            self._last_write = min(now, self._last_write + pause)
            self._probed_at += pause
            self.check(now)

    def suspect(self, now: float) -> None:
        """The host slept, or a neighbour died: probe now, and forget a probe that was sent before."""
        if self._state is State.PROBING:
            self._state = State.IDLE
        if self._state is State.IDLE:
            self._suspect = True
            self.due = now

    def probed(self, now: float, *, dice: float = 0.5) -> None:
        """A probe is being sent."""
        self._state = State.PROBING
        self._suspect = False
        self._probed_at = now
        self._timed = True
        self._gap = self._next_gap(dice)
        self.due = self._expiry = now + self._patience()

    def check(self, now: float, *, slack: float = 0.0) -> Step:
        """What to do at ``now``. A probe that is due within ``slack`` seconds is asked for at once (shared ticks)."""
        if self._state is State.IDLE:
            self.due = now if self._suspect else self._quiet_since() + self._gap
            return Step.PROBE if self.due <= now + slack else Step.WAIT
        if self._state is State.PROBING:
            return Step.WAIT if now < self._expiry else Step.LOOK
        return Step.DEAD if self._state is State.DEAD else Step.WAIT

    def judge(
        self,
        now: float,
        *,
        unread: bool = False,
        window_closed: bool = False,
        write_moving: bool = False,
        stalled: float = 0.0,
    ) -> Step:
        """What the expired probe means.

        Args:
            now: The time.
            unread: Bytes wait in the kernel that we have not read (FIONREAD): the peer lives.
            window_closed: Our bytes are stuck behind a window of 0 and the peer answers (``evidence.window_closed``).
            write_moving: A large write is on its way and bytes of it were acknowledged since the probe.
            stalled: Seconds since the probe in which the event loop ran nothing, as far as its timers know. That we
                look late is one more such pause.
        """
        if self._state is not State.PROBING:
            return self.check(now)
        if unread:
            self.received(now, reply=False)
            return self.check(now)
        if window_closed or write_moving:
            # the probe may be stuck behind our own bytes: its time stands still, so that it times nothing either
            self._timed = False
            self.due = self._expiry = now + self._patience() / 2
            return Step.WAIT
        if stalled + now - self._expiry > self.timeout / 2:
            self._state = State.IDLE
            self._suspect = True
            self.due = now
            return Step.PROBE
        self._state = State.DEAD
        self.due = math.inf
        return Step.DEAD

    def _quiet_since(self) -> float:
        if self._direction == "read":
            return self._last_read
        if self._direction == "write":
            return max(self._last_write, self._probed_at)  # a probe is something sent
        return max(self._last_read, self._last_write)

    def _next_gap(self, dice: float) -> float:
        if self.interval is None:
            return math.inf
        return self.interval * (1 + self._jitter * (2 * dice - 1))

    def _patience(self) -> float:
        if self.smoothed_rtt is None:
            return self.timeout
        return max(self.timeout, _ROUND_TRIPS * self.smoothed_rtt + self.allowance)

    def _record(self, rtt: float) -> None:
        self.last_rtt = rtt
        old = self.smoothed_rtt
        self.smoothed_rtt = rtt if old is None else old + _SMOOTHING * (rtt - old)
