"""The profiles: every row of the table, consistency with the keepalive formula, combination."""

from __future__ import annotations

from typing import Any

import pytest

from holdwire.policy.profiles import AtLimit, Profile, ResetBy, matching, profile, profile_names
from holdwire.policy.settings import Heartbeat, Keepalive, PoolPolicy

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


def path(**values: Any) -> Profile:
    given: dict[str, Any] = {"name": "mine", "keepalive": Keepalive()} | values
    return Profile(**given)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("aws-nlb", "AWS NLB"),
        ("aws-ec2-conntrack", "AWS EC2 conntrack"),
        ("aws-gwlb", "AWS GWLB"),
        ("aws-global-accelerator", "AWS global accelerator"),
        ("azure-lb", "Azure LB"),
        ("gcp-vpc", "Google Cloud VPC"),
        ("gcp-cloud-nat", "Google Cloud NAT"),
        ("cloudflare", "Cloudflare"),
        ("k8s", "Kubernetes"),
        ("linux-conntrack", "Linux conntrack"),
        ("local", "local"),
    ],
)
def test_a_message_calls_a_path_as_its_vendor_does(name: str, title: str) -> None:
    assert profile(name).title == title


def test_a_path_of_the_users_own_is_called_as_it_is_named() -> None:
    assert path(name="our-cloud-gateway").title == "OUR Cloud gateway"


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"name": 7}, TypeError, "name"),
        ({"keepalive": 60}, TypeError, "keepalive"),
        ({"heartbeat": 60}, TypeError, "heartbeat"),
        ({"variants": [60.0]}, TypeError, "variants"),
        ({"variants": (60.0, 0)}, ValueError, r"variants\[1\]="),
        ({"idle_limit": 0}, ValueError, "idle_limit"),
        ({"pool_idle": 0.0009}, ValueError, "pool_idle"),
        ({"data_every": -1}, ValueError, "data_every"),
        ({"at_limit": "vanish"}, ValueError, "at_limit='vanish' is unknown; give one of silent, reset, close, or None"),
        ({"reset_by": "luck"}, ValueError, "reset_by='luck' is unknown; give one of packet, payload, message"),
        ({"fixed": 1}, TypeError, "fixed"),
        ({"names_may_appear": "no"}, TypeError, "names_may_appear"),
    ],
)
def test_a_wrong_setting_of_a_users_own_path_is_refused_by_its_name(
    wrong: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=rf"Profile: {says}\b"):
        path(**wrong)


def test_the_shortest_times_and_no_times_at_all_are_fine() -> None:
    assert path(idle_limit=0.001, pool_idle=0.001, data_every=0.001, variants=(0.001,)).idle_limit == 0.001
    nothing = path()
    assert (nothing.idle_limit, nothing.heartbeat, nothing.names_may_appear) == (None, None, False)


@pytest.mark.parametrize(
    ("reset_by", "pings", "read_timeout", "outlives"),
    [
        ("message", False, None, True),
        ("message", True, None, True),
        ("message", True, 60.1, True),
        ("message", True, 60.0, False),
        ("payload", False, None, True),
        ("payload", False, 60.1, True),
        ("payload", False, 60.0, False),
        ("payload", True, None, False),
        ("payload", True, 60.1, False),
        ("packet", False, None, False),
        (None, False, None, False),
    ],
)
def test_a_long_wait_for_an_answer_outlives_a_path_that_only_data_keeps_open(
    reset_by: str | None, read_timeout: float | None, *, pings: bool, outlives: bool
) -> None:
    assert path(idle_limit=60.0, reset_by=reset_by).cuts_off(read_timeout, pings=pings) is outlives
    assert not path(reset_by=reset_by).cuts_off(read_timeout, pings=pings), "without a limit"


def test_a_member_may_be_given_by_its_word() -> None:
    mine = path(at_limit="close", reset_by="payload")
    assert (mine.at_limit, mine.reset_by) == (AtLimit.CLOSE, ResetBy.PAYLOAD)
    assert isinstance(mine.at_limit, AtLimit)
    assert isinstance(mine.reset_by, ResetBy)


def test_a_path_through_two_does_at_the_limit_what_the_stricter_one_does() -> None:
    silent, close = path(idle_limit=300, at_limit=AtLimit.SILENT), path(idle_limit=60, at_limit=AtLimit.CLOSE)
    assert (silent | close).at_limit is (close | silent).at_limit is AtLimit.CLOSE
    assert (path(idle_limit=60) | silent).at_limit is None, "it is not known"
    unlimited = path(at_limit=AtLimit.RESET)
    assert (path() | unlimited).at_limit is (unlimited | path()).at_limit is AtLimit.RESET
    assert (unlimited | silent).at_limit is AtLimit.SILENT


def test_a_path_through_two_has_the_limits_of_both_and_the_shorter_heartbeat() -> None:
    one = path(variants=(600.0, 60.0), heartbeat=Heartbeat(interval=30), fixed=True)
    other = path(variants=(86_400.0, 60.0), heartbeat=Heartbeat(interval=20), fixed=False)
    assert (one | other).variants == (60.0, 600.0, 86_400.0)
    assert (one | other).heartbeat == (other | one).heartbeat == Heartbeat(interval=20)
    assert not (one | other).fixed
    assert (one | one).fixed
    assert not (one | other).names_may_appear


def test_paths_are_known_for_other_limits_too() -> None:
    other = {name: profile(name).variants for name in profile_names() if profile(name).variants}
    assert other == {"aws-ec2-conntrack": (5 * 86_400,), "gcp-lb": (600,), "k8s": (86_400,)}


def test_a_limit_beats_no_limit_in_a_combination() -> None:
    both = profile("lan") | profile("k8s")
    assert both.idle_limit == 900
    assert both.names_may_appear


@pytest.mark.parametrize(
    ("idle", "names"),
    [
        (350, ["aws-nlb", "aws-ec2-conntrack"]),
        (351.9, ["aws-nlb", "aws-ec2-conntrack"]),
        (353.5, ["aws-nlb", "aws-ec2-conntrack"]),
        (353.6, []),
        (340, ["aws-global-accelerator"]),
        (62, ["aws-alb", "aws-clb"]),
        (62.1, []),
        (58, ["aws-alb", "aws-clb"]),
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
