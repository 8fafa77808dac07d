"""The profiles: every row of the table, consistency with the keepalive formula, combination."""

from __future__ import annotations

import pytest

from holdwire.policy.profiles import AtLimit, ResetBy, matching, profile, profile_names
from holdwire.policy.settings import PoolPolicy

# name, idle limit, reset by, keepalive, heartbeat, pool idle, idle death
ROWS = [
    ("aws-nlb", 350, "packet", (120, 30, 90), 120, 300, 150),
    ("aws-nat-gateway", 350, "packet", (120, 30, 90), 120, 300, 150),
    ("aws-gwlb", 350, "packet", (120, 30, 90), 120, 300, 150),
    ("aws-network-firewall", 350, "packet", (120, 30, 90), 120, 300, 150),
    ("aws-ec2-conntrack", 350, "packet", (120, 30, 90), None, None, 150),
    ("aws-alb", 60, "message", (60, 15, 90), None, 50, 90),
    ("aws-clb", 60, "payload", (60, 15, 90), None, 50, 90),
    ("aws-global-accelerator", 340, "payload", (120, 30, 90), 150, None, 150),
    ("azure-lb", 240, "packet", (60, 15, 90), 90, 200, 90),
    ("azure-nat", 240, "packet", (60, 15, 90), 90, 200, 90),
    ("gcp-vpc", 600, "packet", (60, 60, 90), 240, None, 120),
    ("gcp-lb", 610, "payload", (60, 60, 90), 30, 580, 120),
    ("gcp-cloud-nat", 1200, "packet", (300, 30, 90), None, None, 330),
    ("cloudflare", 400, "payload", (60, 15, 90), 30, 300, 90),
    ("k8s", 900, "packet", (30, 10, 30), 20, None, 40),
    ("linux-conntrack", 432_000, "packet", (600, 60, 90), None, None, 660),
    ("mobile", 60, "packet", (45, 15, 60), 45, None, 60),
    ("carrier-nat", 60, "packet", (45, 15, 60), 45, None, 60),
    ("lan", None, None, (15, 5, 10), 10, None, 20),
    ("local", None, None, (15, 5, 10), 10, None, 20),
    ("default", None, None, (60, 15, 90), None, 55, 90),
]


def test_every_profile_has_a_row_here() -> None:
    assert sorted(row[0] for row in ROWS) == list(profile_names())


@pytest.mark.parametrize(("name", "limit", "reset_by", "keepalive", "beat", "pool_idle", "death"), ROWS)
def test_a_profile_is_its_row(
    name: str,
    limit: float | None,
    reset_by: str | None,
    keepalive: tuple[float, float, float],
    beat: float | None,
    pool_idle: float | None,
    death: float,
) -> None:
    found = profile(name)
    assert found.name == name
    assert found.idle_limit == limit
    assert found.reset_by == reset_by
    assert (found.keepalive.idle, found.keepalive.interval, found.keepalive.dead_after) == keepalive
    assert (found.heartbeat.interval if found.heartbeat else None) == beat
    assert found.pool_idle == pool_idle
    assert found.keepalive.idle_death == death


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_stays_below_its_own_limit(name: str) -> None:
    found = profile(name)
    if found.idle_limit is None:
        return
    assert found.pool_idle is None or found.pool_idle < found.idle_limit
    if found.heartbeat is not None:
        assert found.heartbeat.interval < found.idle_limit
    if found.reset_by is ResetBy.PACKET:
        assert found.keepalive.idle < found.idle_limit


def test_an_unknown_profile_is_refused_with_the_list_of_names() -> None:
    with pytest.raises(ValueError, match="profile='aws-elb' is unknown") as caught:
        profile("aws-elb")
    assert all(name in str(caught.value) for name in profile_names())


def test_in_a_combination_the_strictest_limit_and_the_weakest_reset_class_win() -> None:
    both = profile("aws-nlb") | profile("aws-alb")
    assert both.idle_limit == 60
    assert both.at_limit is AtLimit.CLOSE
    assert both.reset_by is ResetBy.MESSAGE
    assert (both.keepalive.idle, both.keepalive.interval, both.keepalive.dead_after) == (60, 15, 90)
    assert both.heartbeat is not None
    assert both.heartbeat.interval == 120
    assert both.pool_idle == 50
    assert both.data_every == 25
    assert both.name == "aws-nlb|aws-alb"


def test_a_combination_does_not_depend_on_the_order() -> None:
    for one in map(profile, profile_names()):
        for other in map(profile, profile_names()):
            left, right = one | other, other | one
            assert (left.idle_limit, left.reset_by, left.keepalive, left.pool_idle) == (
                right.idle_limit,
                right.reset_by,
                right.keepalive,
                right.pool_idle,
            )


def test_a_limit_beats_no_limit_in_a_combination() -> None:
    both = profile("lan") | profile("k8s")
    assert both.idle_limit == 900
    assert both.names_may_appear


@pytest.mark.parametrize(
    ("idle", "names"),
    [
        (350, ["aws-nlb", "aws-ec2-conntrack"]),
        (351.9, ["aws-nlb", "aws-ec2-conntrack"]),
        (340, ["aws-global-accelerator"]),
        (60, ["aws-alb", "aws-clb"]),
        (240, ["azure-lb"]),
        (600, ["gcp-vpc", "gcp-lb"]),
        (610, ["gcp-lb"]),
        (86_400, ["k8s"]),
        (123, []),
    ],
)
def test_a_well_known_limit_is_recognised(idle: float, names: list[str]) -> None:
    assert [found.name for found in matching(idle)] == names


def test_the_pool_uses_the_shorter_idle_time() -> None:
    assert profile("aws-nlb").pool().idle == 55
    assert profile("aws-alb").pool().idle == 50
    assert profile("k8s").pool(PoolPolicy(idle=None)).idle is None
    assert profile("aws-alb").pool(PoolPolicy(idle=None, max_requests=7)) == PoolPolicy(idle=50, max_requests=7)
