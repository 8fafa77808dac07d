"""What a profile sets on a transport and on its sockets, and what is given alone beside it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

import holdwire
from holdwire.net.keepalive import effective
from holdwire.policy.profiles import profile
from holdwire.testing import ChaosServer

if TYPE_CHECKING:
    from holdwire.http.client import ClientSettings

# profile, keepalive, heartbeat of HTTP/2, pool idle
ROWS = [
    ("aws-nlb", (120, 30, 90), 120, 55),
    ("aws-nat-gateway", (120, 30, 90), 120, 55),
    ("aws-ec2-conntrack", (120, 30, 90), None, 55),
    ("aws-alb", (60, 15, 90), None, 50),
    ("aws-clb", (60, 15, 90), None, 50),
    ("aws-global-accelerator", (120, 30, 90), 150, 55),
    ("azure-lb", (60, 15, 90), 90, 55),
    ("gcp-vpc", (60, 60, 90), 240, 55),
    ("gcp-lb", (60, 60, 90), 30, 55),
    ("gcp-cloud-nat", (300, 30, 90), None, 55),
    ("cloudflare", (60, 15, 90), 30, 55),
    ("k8s", (30, 10, 30), 20, 55),
    ("linux-conntrack", (600, 60, 90), None, 55),
    ("mobile", (45, 15, 60), 45, 55),
    ("lan", (15, 5, 10), 10, 55),
    (None, (60, 15, 90), None, 55),
]


def settings(**arguments: Any) -> ClientSettings:
    return holdwire.ResilientTransport(http2=True, **arguments)._client.settings


@pytest.mark.parametrize(("name", "keepalive", "beat", "idle"), ROWS)
def test_a_profile_sets_keepalive_heartbeat_and_pool_together(
    name: str | None, keepalive: tuple[float, float, float], beat: float | None, idle: float
) -> None:
    made = settings(profile=name)
    assert made.keepalive is not None
    assert (made.keepalive.idle, made.keepalive.interval, made.keepalive.dead_after) == keepalive
    assert made.http2 is not None
    assert (made.http2.heartbeat and made.http2.heartbeat.interval) == beat
    assert made.http2.pings
    assert made.limits.idle == idle
    assert made.pool.max_age == 300


def test_each_of_them_can_be_given_alone() -> None:
    keepalive = holdwire.Keepalive(idle=7)
    beat = holdwire.Heartbeat(interval=33)
    made = settings(profile="aws-nlb", keepalive=keepalive, heartbeat=beat)
    assert made.http2 is not None
    assert (made.keepalive, made.http2.heartbeat, made.limits.idle) == (keepalive, beat, 55)
    made = settings(profile="aws-nlb", keepalive=None, heartbeat=None)
    assert made.http2 is not None
    assert (made.keepalive, made.http2.pings) == (None, False)


def test_of_two_idle_times_the_shorter_one_holds() -> None:
    assert settings(profile="aws-nlb", pool=holdwire.PoolPolicy(idle=200)).limits.idle == 200
    assert settings(profile="aws-nlb", pool=holdwire.PoolPolicy(idle=1000)).limits.idle == 300
    assert settings(profile="aws-alb", pool=holdwire.PoolPolicy(max_requests=9)).limits.idle == 50
    assert settings(profile="aws-alb", pool=holdwire.PoolPolicy(idle=None)).limits.idle == 50
    assert settings(pool=holdwire.PoolPolicy(idle=1000)).limits.idle == 1000, "no profile, no second opinion"
    assert settings(pool=holdwire.PoolPolicy(idle=None)).limits.idle is None


def test_explicit_limits_hold_to_the_letter_and_the_default_ones_are_told_from_them() -> None:
    limits = settings(profile="aws-alb", limits=httpx.Limits()).limits
    assert (limits.max_connections, limits.max_idle, limits.idle) == (None, None, 5.0), "the user chose httpx's numbers"
    limits = settings(limits=httpx.Limits(max_connections=3, max_keepalive_connections=2, keepalive_expiry=777)).limits
    assert (limits.max_connections, limits.max_idle, limits.idle) == (3, 2, 777)
    limits = settings(limits=httpx.Limits(keepalive_expiry=None)).limits
    assert limits.idle is None
    limits = settings().limits
    assert (limits.max_connections, limits.max_idle, limits.idle) == (100, 20, 55), "nobody chose anything"


def test_a_path_through_two_of_them_is_a_profile_too() -> None:
    made = settings(profile=profile("aws-nlb") | profile("k8s"))
    assert made.keepalive == holdwire.Keepalive(idle=30, interval=10, dead_after=30)
    assert made.http2 is not None
    assert made.http2.heartbeat is not None
    assert made.http2.heartbeat.interval == 20


def test_a_heartbeat_time_out_of_the_user_lowers_the_trigger_for_dead_paths() -> None:
    assert settings(heartbeat=holdwire.Heartbeat(interval=30, timeout=1)).silence == 1
    assert settings(profile="aws-nlb").silence is None, "it was not the user's"
    assert settings().silence is None


async def test_the_values_reach_the_sockets_and_the_users_own_options_win() -> None:
    with ChaosServer() as server:
        transport = holdwire.ResilientTransport(profile="gcp-cloud-nat", socket_options=[(6, 4, 77)])
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get(server.url)
            (connection,) = transport._client.pools[0].connections
            found = effective(connection.wire.extra(anyio.abc.SocketAttribute.raw_socket))
            (origin,) = transport.snapshot()
            assert origin["connections"][0]["keepalive"] == asdict(found), "and are reported as the kernel has them"
    assert (found.idle, found.interval, found.dead_after) == (77, 30, 90)
    assert found.enabled
    assert found.nodelay


def test_a_profile_of_ones_own_is_a_changed_one() -> None:
    mine = replace(profile("aws-nlb"), name="our-nlb", pool_idle=20)
    assert settings(profile=mine).limits.idle == 20
