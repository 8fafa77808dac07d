"""What is known about paths: how long a NAT, firewall or load balancer lets a connection idle, and what to set then.

One ``Profile`` for each well-known path; two may be combined with ``|``. Not responsible for learning a limit
(``idle_limit``) or for applying settings. Sources are in docs/reference/profiles; the settings are our own rules.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from types import NoneType
from typing import Final

from .checks import check_flag, check_seconds, check_type
from .settings import Heartbeat, Keepalive, PoolPolicy

__all__ = ["AtLimit", "Profile", "ResetBy", "matching", "profile", "profile_names"]


class ResetBy(enum.StrEnum):
    """What starts the idle timer of a path over; from the strongest class to the weakest."""

    PACKET = "packet"
    """Any TCP segment, keepalive probes included: TCP keepalive is enough."""
    PAYLOAD = "payload"
    """Only segments with payload: a heartbeat of the protocol is needed (an HTTP/2 PING is one)."""
    MESSAGE = "message"
    """Only application data: neither keepalive nor PING helps, only data or a shorter idle time in the pool."""


class AtLimit(enum.StrEnum):
    """What the path does at its idle limit."""

    SILENT = "silent"
    """It forgets the connection and drops what comes after."""
    RESET = "reset"
    """It forgets the connection and answers the next packet with RST."""
    CLOSE = "close"
    """It ends the connection in sight: FIN or GOAWAY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A path and its settings. Times in seconds.

    ``idle_limit`` is None where there is none or it is not known; ``variants`` are further limits that the same path
    is known for, and ``fixed`` is False where the limit differs from path to path, so that it recognises nothing.
    ``heartbeat`` None leaves HTTP/2's default schedule in charge; ``data_every`` is how often application data must
    flow where nothing else helps; ``pool_idle`` None adds nothing to the pool's own limit.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range.
    """

    name: str
    keepalive: Keepalive
    idle_limit: float | None = None
    at_limit: AtLimit | None = None
    reset_by: ResetBy | None = None
    heartbeat: Heartbeat | None = None
    pool_idle: float | None = None
    data_every: float | None = None
    variants: tuple[float, ...] = ()
    fixed: bool = True
    names_may_appear: bool = False
    """Whether a name that does not exist may do so soon (services of a cluster)."""

    def __post_init__(self) -> None:
        check_type("Profile", "name", self.name, str, give="a str")
        check_type("Profile", "keepalive", self.keepalive, Keepalive, give="a holdwire.Keepalive")
        beat = "a holdwire.Heartbeat or None"
        check_type("Profile", "heartbeat", self.heartbeat, (Heartbeat, NoneType), give=beat)
        check_type("Profile", "variants", self.variants, tuple, give="a tuple of seconds")
        limits = {"idle_limit": self.idle_limit, "pool_idle": self.pool_idle, "data_every": self.data_every}
        limits |= {f"variants[{index}]": limit for index, limit in enumerate(self.variants)}
        for name, limit in limits.items():
            if limit is not None:
                check_seconds("Profile", name, limit, least=0.001, hint="None stands for what is not known")
        for name, value, known in (("at_limit", self.at_limit, AtLimit), ("reset_by", self.reset_by, ResetBy)):
            if value is not None:
                if value not in tuple(known):
                    raise ValueError(f"Profile: {name}={value!r} is unknown; give one of {', '.join(known)}, or None")
                object.__setattr__(self, name, known(value))  # its word is good enough
        check_flag("Profile", "fixed", self.fixed)
        check_flag("Profile", "names_may_appear", self.names_may_appear)

    @property
    def title(self) -> str:
        """The name as its vendor would write it, for example ``AWS NLB``."""
        words = [_VENDORS.get(word, word.upper() if len(word) <= _INITIALS else word) for word in self.name.split("-")]
        return " ".join(words).replace("Cloud Cloud", "Cloud")

    def pool(self, policy: PoolPolicy | None = None) -> PoolPolicy:
        """``policy`` with the shorter of its own idle time and the profile's."""
        policy = policy or PoolPolicy()
        return replace(policy, idle=_least(policy.idle, self.pool_idle))

    def cuts_off(self, read_timeout: float | None, *, pings: bool) -> bool:
        """Whether a request that waits for its whole read time-out would outlive its connection on this path.

        TCP keepalive is enough where any packet counts; where payload is needed ``pings`` (HTTP/2's) are; where
        nothing but application data counts, neither is.
        """
        if self.idle_limit is None or self.reset_by in {None, ResetBy.PACKET}:
            return False
        if self.reset_by is ResetBy.PAYLOAD and pings:
            return False
        return read_timeout is None or read_timeout > self.idle_limit

    def __or__(self, other: Profile) -> Profile:
        """A path through both: the strictest idle limit and the weakest reset class win, and every shorter time."""
        strict, loose = sorted((self, other), key=lambda one: one.idle_limit or math.inf)
        classes = [one.reset_by for one in (self, other) if one.reset_by is not None]
        beats = [one.heartbeat for one in (self, other) if one.heartbeat is not None]
        return Profile(
            name=f"{self.name}|{other.name}",
            idle_limit=strict.idle_limit,
            at_limit=strict.at_limit if strict.idle_limit is not None else strict.at_limit or loose.at_limit,
            reset_by=max(classes, key=_WEAKNESS.index, default=None),
            keepalive=Keepalive(
                idle=min(self.keepalive.idle, other.keepalive.idle),
                interval=min(self.keepalive.interval, other.keepalive.interval),
                dead_after=_least(self.keepalive.dead_after, other.keepalive.dead_after),
            ),
            heartbeat=min(beats, key=lambda beat: beat.interval, default=None),
            pool_idle=_least(self.pool_idle, other.pool_idle),
            data_every=_least(self.data_every, other.data_every),
            variants=tuple(sorted({*self.variants, *other.variants})),
            fixed=self.fixed and other.fixed,
            names_may_appear=self.names_may_appear or other.names_may_appear,
        )


_WEAKNESS: Final = tuple(ResetBy)
_VENDORS: Final = {
    "azure": "Azure",
    "cloud": "Cloud",
    "cloudflare": "Cloudflare",
    "gcp": "Google Cloud",
    "k8s": "Kubernetes",
    "linux": "Linux",
}
_INITIALS: Final = 4
"""Words up to this length are abbreviations."""


def _least(*values: float | None) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _keep(idle: float, interval: float, dead_after: float) -> Keepalive:
    return Keepalive(idle=idle, interval=interval, dead_after=dead_after)


_HOURS_120: Final = 432_000.0
"""Linux' nf_conntrack_tcp_timeout_established: five days."""

_TABLE: Final[tuple[Profile, ...]] = (
    Profile(
        name="default",
        keepalive=Keepalive(),
        pool_idle=55,
    ),
    Profile(
        name="aws-nlb",
        idle_limit=350,
        at_limit=AtLimit.RESET,
        reset_by=ResetBy.PACKET,
        keepalive=_keep(120, 30, 90),
        heartbeat=Heartbeat(interval=120),
        pool_idle=300,
    ),
    Profile(
        name="aws-ec2-conntrack",
        idle_limit=350,
        variants=(_HOURS_120,),
        at_limit=AtLimit.SILENT,
        reset_by=ResetBy.PACKET,
        keepalive=_keep(120, 30, 90),
    ),
    Profile(
        name="aws-alb",
        idle_limit=60,
        at_limit=AtLimit.CLOSE,
        reset_by=ResetBy.MESSAGE,
        keepalive=_keep(60, 15, 90),
        data_every=25,
        pool_idle=50,
    ),
    Profile(
        name="aws-clb",
        idle_limit=60,
        at_limit=AtLimit.CLOSE,
        reset_by=ResetBy.PAYLOAD,
        keepalive=_keep(60, 15, 90),
        data_every=25,
        pool_idle=50,
    ),
    Profile(
        name="aws-global-accelerator",
        idle_limit=340,
        at_limit=AtLimit.SILENT,
        reset_by=ResetBy.PAYLOAD,
        keepalive=_keep(120, 30, 90),
        heartbeat=Heartbeat(interval=150),
    ),
    Profile(
        name="azure-lb",
        idle_limit=240,
        at_limit=AtLimit.SILENT,
        reset_by=ResetBy.PACKET,
        keepalive=_keep(60, 15, 90),
        heartbeat=Heartbeat(interval=90),
        pool_idle=200,
    ),
    Profile(
        name="gcp-vpc",
        idle_limit=600,
        at_limit=AtLimit.SILENT,
        reset_by=ResetBy.PACKET,
        keepalive=_keep(60, 60, 90),
        heartbeat=Heartbeat(interval=240),
    ),
    Profile(
        name="gcp-lb",
        idle_limit=610,
        variants=(600,),
        at_limit=AtLimit.CLOSE,
        reset_by=ResetBy.PAYLOAD,
        keepalive=_keep(60, 60, 90),
        heartbeat=Heartbeat(interval=30),
        pool_idle=580,
    ),
    Profile(
        name="gcp-cloud-nat",
        idle_limit=1200,
        at_limit=AtLimit.SILENT,
        reset_by=ResetBy.PACKET,
        keepalive=_keep(300, 30, 90),
    ),
    Profile(
        name="cloudflare",
        idle_limit=400,
        at_limit=AtLimit.CLOSE,
        reset_by=ResetBy.PAYLOAD,
        keepalive=_keep(60, 15, 90),
        heartbeat=Heartbeat(interval=30),
        pool_idle=300,
    ),
    Profile(
        name="k8s",
        idle_limit=900,
        variants=(86_400,),
        reset_by=ResetBy.PACKET,
        keepalive=_keep(30, 10, 30),
        heartbeat=Heartbeat(interval=20),
        names_may_appear=True,
    ),
    Profile(
        name="linux-conntrack",
        idle_limit=_HOURS_120,
        at_limit=AtLimit.SILENT,
        reset_by=ResetBy.PACKET,
        keepalive=_keep(600, 60, 90),
    ),
    Profile(
        name="mobile",
        idle_limit=60,
        fixed=False,
        at_limit=AtLimit.SILENT,
        reset_by=ResetBy.PACKET,
        keepalive=_keep(45, 15, 60),
        heartbeat=Heartbeat(interval=45),
    ),
    Profile(
        name="lan",
        keepalive=_keep(15, 5, 10),
        heartbeat=Heartbeat(interval=10),
    ),
)
_ALIASES: Final[dict[str, str]] = {
    "aws-nat-gateway": "aws-nlb",
    "aws-gwlb": "aws-nlb",
    "aws-network-firewall": "aws-nlb",
    "azure-nat": "azure-lb",
    "carrier-nat": "mobile",
    "local": "lan",
}
_BY_NAME: Final[dict[str, Profile]] = {one.name: one for one in _TABLE}
_BY_NAME.update({alias: replace(_BY_NAME[name], name=alias) for alias, name in _ALIASES.items()})

_TOLERANCE: Final = 2.0
_TOLERANCE_SHARE: Final = 0.01


def profile_names() -> tuple[str, ...]:
    """Every name that ``profile`` knows, in alphabetical order."""
    return tuple(sorted(_BY_NAME))


def profile(name: str) -> Profile:
    """The profile called ``name``.

    Raises:
        ValueError: There is none; the message lists the names.
    """
    found = _BY_NAME.get(name)
    if found is None:
        message = f"profile={name!r} is unknown; the profiles are {', '.join(profile_names())}"
        raise ValueError(message)
    return found


def matching(idle: float) -> list[Profile]:
    """The paths that are known to end connections after ``idle`` seconds, within 2 s or 1 %."""
    return [
        one
        for one in _TABLE
        if one.fixed
        and any(
            abs(limit - idle) <= max(_TOLERANCE, limit * _TOLERANCE_SHARE)
            for limit in (one.idle_limit, *one.variants)
            if limit is not None
        )
    ]
