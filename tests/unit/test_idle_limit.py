"""Learning an idle limit: what teaches, what refutes, what does not look like one."""

from __future__ import annotations

import random

import pytest

from holdwire.policy.idle_limit import IdleLimit


def learnt(*deaths: tuple[float, float]) -> IdleLimit:
    limit = IdleLimit()
    for now, idle in deaths:
        limit.died(now, idle=idle)
    return limit


NLB = ((1000, 350.2), (1400, 350.9), (1800, 351.5))


def test_deaths_that_cluster_are_a_limit() -> None:
    found = learnt(*NLB).estimate(1800)
    assert found is not None
    assert (found.low, found.high, found.deaths, found.episodes, found.newest) == (350.2, 351.5, 3, 3, 1800)
    assert found.survived == 351.5
    assert found.limit == 350.2
    assert found.safe_idle == pytest.approx(280.16)
    assert [profile.name for profile in found.profiles] == ["aws-nlb", "aws-ec2-conntrack"]
    assert learnt(*NLB).applies(1800, explicit_limits=False) == found


def test_it_can_be_asked_while_its_own_thread_learns() -> None:
    limit = learnt(*NLB)

    class Meanwhile(float):
        def __ge__(self, other: float) -> bool:
            limit.died(5000, idle=10.0)
            return float(self) >= other

    limit._deaths.append((1900.0, Meanwhile(351.0)))
    found = limit.estimate(1900)
    assert found is not None
    assert found.deaths == 4


def test_the_snapshot_shows_a_limit_to_a_tenth_of_a_second() -> None:
    found = learnt((1000, 350.26), (1400, 350.9)).estimate(1800)
    assert found is not None
    assert found.as_dict() == {
        "seconds": 350.3,
        "deaths": 2,
        "episodes": 2,
        "survived": 350.9,
        "paths": ["aws-nlb", "aws-ec2-conntrack"],
    }


def test_one_death_is_no_limit() -> None:
    assert learnt((1000, 350)).estimate(1000) is None
    assert IdleLimit().estimate(0) is None


def test_scattered_deaths_are_no_limit() -> None:
    assert learnt((1000, 50), (1400, 120), (1800, 200), (2200, 310)).estimate(2200) is None


def test_two_episodes_are_reported_and_not_applied() -> None:
    limit = learnt(*NLB[:2])
    assert limit.estimate(1400) is not None
    assert limit.applies(1400, explicit_limits=False) is None


def test_episodes_lie_five_minutes_apart() -> None:
    limit = learnt(*((1000 + 100 * n, 60.5) for n in range(6)))
    found = limit.estimate(1500)
    assert found is not None
    assert found.episodes == 2
    assert limit.applies(1500, explicit_limits=False) is None


def test_a_longer_survival_refutes_a_limit() -> None:
    limit = learnt(*NLB)
    limit.survived(1900, idle=353)
    assert limit.estimate(1900) is not None  # within the tolerance
    limit.survived(1950, idle=400)
    assert limit.estimate(1950) is None


def test_a_survival_from_before_the_deaths_does_not_refute() -> None:
    limit = IdleLimit()
    limit.survived(500, idle=900)
    for now, idle in NLB:
        limit.died(now, idle=idle)
    found = limit.estimate(1800)
    assert found is not None
    assert found.survived == 900


def test_a_survival_is_remembered_though_shorter_ones_follow() -> None:
    limit = learnt(*NLB)
    limit.survived(1900, idle=400)
    for n in range(200):
        limit.survived(2000 + n, idle=300 - n)
    assert limit.estimate(2300) is None


def test_what_was_learnt_applies_for_an_hour() -> None:
    limit = learnt(*NLB)
    assert limit.applies(1800 + 3600, explicit_limits=False) is not None
    assert limit.applies(1800 + 3601, explicit_limits=False) is None


def test_explicit_limits_are_never_touched() -> None:
    assert learnt(*NLB).applies(1800, explicit_limits=True) is None


def test_everything_is_forgotten_after_a_day() -> None:
    assert learnt(*NLB).estimate(1800 + 86_401) is None


def test_deaths_in_youth_are_no_limit() -> None:
    assert learnt((1000, 1.0), (1400, 1.0), (1800, 1.1)).estimate(1800) is None


def test_the_learnt_idle_time_has_a_floor() -> None:
    found = learnt((1000, 5.5), (1400, 5.5), (1800, 5.5)).estimate(1800)
    assert found is not None
    assert found.safe_idle == 5


def test_deaths_of_one_moment_are_one_observation() -> None:
    found = learnt(*((now + n / 10, 60.5) for now in (1000, 1400) for n in range(20))).estimate(1500)
    assert found is not None
    assert found.deaths == 2


def test_a_rolling_deploy_does_not_look_like_an_idle_limit() -> None:
    dice = random.Random(7)
    limit = IdleLimit()
    for deploy in range(20):
        for pod in range(6):
            now = 10_000.0 + deploy * 1200 + pod * 40
            for _ in range(4):  # each pod ends its connections at one moment, whatever their idle age
                limit.died(now + dice.random(), idle=dice.uniform(5, 60))
    assert limit.estimate(40_000) is None


def test_a_rolling_deploy_of_lone_connections_does_not_either() -> None:
    for seed in range(100):
        dice = random.Random(seed)
        limit = IdleLimit()
        for deploy in range(24):
            now = 10_000.0 + deploy * 1200
            limit.died(now, idle=dice.uniform(5, 60))
            for use in range(10):
                limit.survived(now + 100 * use, idle=dice.uniform(5, 60))
            assert limit.applies(now + 1000, explicit_limits=False) is None, (seed, deploy)


def test_a_watched_connection_that_died_later_refutes_a_limit_and_one_found_dead_does_not() -> None:
    limit = learnt(*NLB)
    limit.died(2500, idle=900, watched=False)
    assert limit.estimate(2500) is not None
    limit.died(2600, idle=900)
    assert limit.estimate(2600) is None


def test_a_moment_of_mixed_ages_teaches_nothing() -> None:
    limit = IdleLimit()
    for deploy in range(5):
        now = 10_000.0 + deploy * 1000
        limit.died(now, idle=30.0)
        limit.died(now + 1, idle=12.0)
        limit.died(now + 2, idle=30.0)
    assert limit.estimate(15_000) is None


def test_a_pool_that_idles_in_step_is_ended_by_a_deploy_without_teaching() -> None:
    limit = IdleLimit()
    for deploy in range(5):
        now = 10_000.0 + deploy * 1000
        limit.died(now, idle=30.0)
        limit.disturbed(now + 0.5)  # a busy connection was lost as well
        limit.died(now + 1, idle=30.0)
    assert limit.estimate(15_000) is None


def test_a_limit_is_found_through_the_noise_of_a_few_deploys() -> None:
    limit = IdleLimit()
    for hour in range(8):
        limit.died(hour * 3600.0 + 900, idle=350.5 + hour / 10)
        limit.died(hour * 3600.0 + 1900, idle=350.5)
    limit.died(40_000, idle=77)
    found = limit.estimate(40_001)
    assert found is not None
    assert found.limit == 350.5


def test_the_bounds_of_a_cluster_are_two_seconds_or_a_hundredth() -> None:
    found = learnt((1000, 60), (1400, 61), (1800, 62)).estimate(1800)
    assert found is not None
    assert [found.covers(idle) for idle in (57.9, 58, 64, 64.1)] == [False, True, True, False]
    found = learnt((1000, 1000), (1400, 1000)).estimate(1400)
    assert found is not None
    assert [found.covers(idle) for idle in (989.9, 990, 1010, 1010.1)] == [False, True, True, False]


def test_a_cluster_is_four_seconds_wide_at_most() -> None:
    limit = learnt((1000, 60), (1400, 64))
    limit.died(1800, idle=68.1, watched=False)
    limit.died(2200, idle=70, watched=False)
    found = limit.estimate(2200)
    assert found is not None
    assert (found.low, found.high, found.deaths) == (60, 64, 2), "of two of a size the youngest"
    found = learnt((1000, 60), (1400, 64.1), (1800, 65), (2200, 66)).estimate(2200)
    assert found is not None
    assert (found.low, found.deaths) == (64.1, 3)


def test_a_disturbance_holds_for_five_seconds_both_ways() -> None:
    for after, kept in ((5.0, 1), (5.1, 2)):
        limit = learnt((1000, 60))
        limit.died(2000, idle=60)
        limit.disturbed(2000 + after)
        found = limit.estimate(3000)
        assert (0 if found is None else found.deaths) == (2 if kept == 2 else 0)
    for after, kept in ((5.0, False), (5.1, True)):
        limit = learnt((1000, 60))
        limit.disturbed(2000)
        limit.died(2000 + after, idle=60)
        assert (limit.estimate(3000) is not None) == kept


def test_deaths_within_five_seconds_are_one_and_of_other_ages_are_mixed() -> None:
    for after, deaths in ((5.0, 2), (5.1, 3)):
        found = learnt((1000, 60), (2000, 60), (2000 + after, 60)).estimate(3000)
        assert found is not None
        assert found.deaths == deaths
    for idle, mixed in ((62.0, False), (62.1, True)):
        limit = learnt((1000, 60), (1001, idle))
        assert limit.is_mixed(1006) == mixed
        assert not limit.is_mixed(1006.1)
    limit = learnt((1000, 1000), (1001, 1010.05))
    assert not limit.is_mixed(1001), "a hundredth of the older one"


def test_all_that_may_change_an_estimate_is_counted() -> None:
    limit = IdleLimit()
    counts = [limit.changes]
    limit.survived(1, idle=9)
    counts.append(limit.changes)
    limit.disturbed(2)
    counts.append(limit.changes)
    limit.died(100, idle=9, watched=False)
    counts.append(limit.changes)
    assert counts == sorted(set(counts))


def test_no_more_than_sixty_four_deaths_and_survivals_are_remembered() -> None:
    limit = IdleLimit()
    for n in range(100):
        limit.survived(n, idle=1000 - n)
        limit.died(1000 + 100 * n, idle=60, watched=False)
    found = limit.estimate(11_000)
    assert found is not None
    assert (found.deaths, found.survived) == (64, 1000)
    assert len(limit._survived) == len(limit._alive) == 64
    for n in range(100):
        limit.survived(20_000 + n, idle=2000)
    assert len(limit._survived) == 1, "of silences of a length the last"


def test_a_day_is_remembered_to_its_last_second() -> None:
    limit = learnt((0, 60), (400, 60))
    assert limit.estimate(86_400) is not None
    assert limit.estimate(86_401) is None
    limit = learnt((10_500, 60), (10_900, 60))
    limit.survived(10_500, idle=900)
    limit.died(90_000, idle=60, watched=False)
    assert limit.estimate(96_900) is None
    found = limit.estimate(96_901)
    assert found is not None
    assert found.survived is None, "what refuted it is a day old"


def test_a_survival_at_the_moment_of_the_first_death_refutes_and_one_in_the_tolerance_does_not() -> None:
    for survived, known in ((999, True), (1000, False)):
        limit = IdleLimit()
        limit.survived(survived, idle=64)
        limit.died(1000, idle=60, watched=False)
        limit.died(1400, idle=60, watched=False)
        assert (limit.estimate(1400) is not None) == known
    limit = learnt((1000, 60), (1400, 60))
    limit.survived(1200, idle=62)
    assert limit.estimate(1400) is not None


def test_deaths_among_more_survivors_of_the_same_silence_are_no_limit() -> None:
    for survivors, known in ((3, True), (4, False)):
        limit = learnt((1000, 60.2), (1400, 60.2))
        for n in range(survivors):
            limit.survived(1400 + 60 * n, idle=60.2)
        limit.died(1800, idle=60.2, watched=False)
        assert (limit.estimate(1800) is not None) == known
    # before the first of the deaths, with it, or of a younger age than any
    for at, idle, known in ((999, 60.2, True), (1000, 60.2, False), (1500, 60.1, True)):
        limit = IdleLimit()
        for _ in range(9):
            limit.survived(at, idle=idle)
        for death in (1000, 1400, 1800):
            limit.died(death, idle=60.2, watched=False)
        assert (limit.estimate(1800) is not None) == known


def test_who_asks_once_a_minute_learns_no_limit_from_a_server_that_crashes_now_and_then() -> None:
    dice = random.Random(3)
    limit = IdleLimit()
    for n in range(600):
        now, idle = 60.0 * n, 60 + dice.random() / 50
        if n in {100, 300, 500}:
            limit.died(now, idle=idle, watched=False)
            assert limit.estimate(now) is None
        else:
            limit.survived(now, idle=idle)


def test_three_quarters_of_the_deaths_up_to_its_age_are_enough() -> None:
    young = [(10_000 + 400 * n, 10 + 10 * n) for n in range(2)]
    for others, known in ((1, True), (2, False)):
        found = learnt(*young[:others], (20_000, 60), (20_400, 60), (20_800, 60)).estimate(20_800)
        assert (found is not None) == known


def test_five_seconds_are_not_young() -> None:
    assert learnt((1000, 5), (1400, 5)).estimate(1400) is not None
    assert learnt((1000, 4.99), (1400, 4.99)).estimate(1400) is None


def test_deaths_five_minutes_apart_to_the_second_are_two_episodes() -> None:
    for apart, episodes in ((300, 2), (299.9, 1)):
        found = learnt((1000, 60), (1000 + apart, 60)).estimate(1400)
        assert found is not None
        assert found.episodes == episodes
