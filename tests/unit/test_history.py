"""What an origin's past says about its next failure: idle limits, restarts, streaks; told in virtual time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from holdwire.policy.failure import Failure
from holdwire.policy.history import OriginHistory
from holdwire.policy.kind import Category, Confidence, Kind
from holdwire.policy.phase import Delivery, Phase


def failure(kind: Kind = Kind.CONNECTION_RESET, phase: Phase = Phase.IDLE, **more: Any) -> Failure:
    more.setdefault("category", Category.PEER_CLOSED)
    return Failure(kind=kind, phase=phase, cause="unexplained", **more)


def died_at_rest(history: OriginHistory, now: float, idle: float) -> Failure:
    history.ended_idle(now, idle=idle, failure=failure())
    return history.failed(now + 1, failure(), idle=idle, answers=1)


def test_the_fourteenth_death_at_350_seconds_names_the_balancer() -> None:
    history = OriginHistory()
    told = [died_at_rest(history, 1000.0 * n, 350.0 + n / 20) for n in range(1, 15)]
    assert [one.confidence for one in told[:3]] == [Confidence.POSSIBLE, Confidence.LIKELY, Confidence.CERTAIN]
    assert told[-1].cause == (
        "It died at 351 s idle for the 14th time: the path drops idle flows at 350 s, as AWS NLB does."
    )
    assert told[-1].remedy == 'Use profile="aws-nlb", or a heartbeat below 175 s.'
    assert history.last_failure is told[-1]


def test_requests_that_find_their_connection_dead_teach_the_same() -> None:
    history = OriginHistory()
    silent = failure(Kind.HEARTBEAT_LOST, Phase.RESPONSE_WAIT, reused=True)
    told = [history.failed(1000.0 * n, silent, idle=240.0, answers=n) for n in range(1, 4)]
    assert 'profile="azure-lb"' in told[-1].remedy


def test_clean_closes_count_as_deaths_and_explain_the_first_reset() -> None:
    history = OriginHistory()
    for n in range(1, 5):
        history.ended_idle(1000.0 * n, idle=75.1, failure=None)
    estimate = history.estimate(4000.0)
    assert estimate is not None
    assert estimate.deaths == 4
    lost = failure(Kind.UNEXPECTED_EOF, Phase.RESPONSE_WAIT, reused=True)
    assert "75 s idle" in history.failed(5000.0, lost, idle=75.0, answers=9).cause


def test_keepalives_own_time_to_death_is_no_idle_limit() -> None:
    history = OriginHistory()
    dead_path = failure(Kind.TIMED_OUT, category=Category.TIMED_OUT)
    for n in range(1, 6):
        history.ended_idle(1000.0 * n, idle=90.0, failure=dead_path)
        assert history.failed(1000.0 * n, dead_path, idle=90.0, answers=n).cause == "unexplained"
    assert history.estimate(6000.0) is None


def test_an_estimate_is_made_anew_only_when_something_happened() -> None:
    history = OriginHistory()
    for n in range(1, 4):
        died_at_rest(history, 1000.0 * n, 350.0)
    known = history.estimate(3000.0)
    assert history.estimate(3001.0) is known
    history.survived(3002.0, idle=400.0)
    assert history.estimate(3003.0) is None


@pytest.mark.parametrize("used", [False, True])
def test_streams_learn_from_silence_whether_it_is_broken_or_not(used: bool) -> None:  # noqa: FBT001
    history = OriginHistory()
    lost = failure(Kind.CONNECTION_RESET, Phase.UPGRADED)
    told = [history.stream_failed(1000.0 * n, lost, idle=350.0 + n / 20, used=used, answers=n) for n in range(1, 15)]
    assert [one.confidence for one in told[:3]] == [Confidence.POSSIBLE, Confidence.LIKELY, Confidence.CERTAIN]
    assert "for the 14th time: the path drops idle flows at 350 s" in told[-1].cause
    assert history.last_failure is told[-1]


@pytest.mark.parametrize("used", [False, True])
def test_five_seconds_of_silence_on_a_stream_are_not_young(used: bool) -> None:  # noqa: FBT001
    for idle, known in ((5.0, True), (4.99, False)):
        history = OriginHistory()
        for n in range(1, 4):
            lost = failure(Kind.CONNECTION_RESET, Phase.UPGRADED)
            history.stream_failed(1000.0 * n, lost, idle=idle, used=used, answers=n)
        assert (history.estimate(3000.0) is not None) == known


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_found_dead_long_after_a_limit_may_have_died_at_it(stream: bool) -> None:  # noqa: FBT001
    history = OriginHistory()
    for n, idle in enumerate((350.0, 350.0, 350.0, 900.0), 1):
        if stream:
            lost = failure(Kind.CONNECTION_RESET, Phase.UPGRADED)
            history.stream_failed(1000.0 * n, lost, idle=idle, used=True, answers=n)
        else:
            lost = failure(Kind.CONNECTION_RESET, Phase.RESPONSE_WAIT, reused=True)
            history.failed(1000.0 * n, lost, idle=idle, answers=n)
    estimate = history.estimate(5000.0)
    assert estimate is not None
    assert estimate.limit == 350


def test_streams_that_are_cut_while_they_are_used_say_nothing_about_silence() -> None:
    history = OriginHistory()
    lost = failure(Kind.CONNECTION_RESET, Phase.UPGRADED)
    for n in range(1, 5):
        assert history.stream_failed(1000.0 * n, lost, idle=0.5, used=False, answers=n).cause == "unexplained"
    assert history.estimate(5000.0) is None


def test_streams_of_one_target_that_end_together_at_different_ages_are_a_restart() -> None:
    history = OriginHistory()
    lost = failure(Kind.UNEXPECTED_EOF, Phase.UPGRADED)
    history.stream_failed(100.0, lost, idle=44.0, used=False, answers=1)
    assert "restarted or replaced" in history.stream_failed(100.1, lost, idle=17.0, used=False, answers=2).cause
    assert "restarted or replaced" in history.stream_failed(100.2, lost, idle=0.1, used=False, answers=3).cause
    assert history.estimate(101.0) is None


@pytest.mark.parametrize("kind", [Kind.UNEXPECTED_EOF, Kind.TIMED_OUT])
def test_a_stream_at_rest_that_ends_with_a_busy_one_ends_in_a_restart(kind: Kind) -> None:
    history = OriginHistory()
    busy = failure(kind, Phase.UPGRADED)
    assert history.stream_failed(100.0, busy, idle=0.1, used=False, answers=1).cause == "unexplained"
    resting = failure(Kind.UNEXPECTED_EOF, Phase.UPGRADED)
    assert "restarted or replaced" in history.stream_failed(101.0, resting, idle=44.0, used=False, answers=2).cause


@pytest.mark.parametrize("idle", [5.0, 44.0])
def test_a_busy_stream_that_ends_with_one_at_rest_ends_in_a_restart(idle: float) -> None:
    history = OriginHistory()
    lost = failure(Kind.UNEXPECTED_EOF, Phase.UPGRADED)
    assert history.stream_failed(100.0, lost, idle=idle, used=False, answers=1).cause == "unexplained"
    assert "restarted or replaced" in history.stream_failed(101.0, lost, idle=0.1, used=False, answers=2).cause


def test_busy_streams_that_are_cut_one_after_another_are_no_restart() -> None:
    history = OriginHistory()
    lost = failure(Kind.UNEXPECTED_EOF, Phase.UPGRADED)
    causes = {history.stream_failed(100.0 + n, lost, idle=0.1, used=False, answers=n).cause for n in range(5)}
    assert causes == {"unexplained"}


def test_a_stream_that_ends_over_its_own_contents_says_nothing_of_the_others() -> None:
    history = OriginHistory()
    broken = failure(Kind.TLS_PROTOCOL_ERROR, Phase.UPGRADED, category=Category.VIOLATION)
    history.stream_failed(100.0, broken, idle=0.1, used=False, answers=1)
    resting = failure(Kind.UNEXPECTED_EOF, Phase.UPGRADED)
    assert history.stream_failed(101.0, resting, idle=44.0, used=False, answers=2).cause == "unexplained"


def test_a_restart_is_called_a_restart() -> None:
    history = OriginHistory()
    history.answered(99.0)
    history.answered(42.0)  # told late
    for idle in (3.0, 17.0, 44.0):
        history.ended_idle(100.0, idle=idle, failure=failure())
    told = history.failed(101.0, failure(), idle=17.0, answers=5)
    assert "restarted or replaced" in told.cause
    refused = failure(Kind.CONNECTION_REFUSED, Phase.CONNECT, category=Category.REFUSED)
    assert "answered 3 s ago" in history.failed(102.0, refused, idle=0.0, answers=5).cause
    assert history.failed(9000.0, refused, idle=0.0, answers=5).cause == "unexplained"


def test_a_single_reset_of_a_busy_connection_is_no_restart() -> None:
    busy = failure(Kind.CONNECTION_RESET, Phase.RESPONSE_WAIT, reused=True)
    assert OriginHistory().failed(100.0, busy, idle=0.1, answers=1).cause == "unexplained"


def test_a_server_that_resets_one_request_after_another_was_not_restarted() -> None:
    history = OriginHistory()
    busy = failure(Kind.CONNECTION_RESET, Phase.RESPONSE_WAIT, reused=True)
    causes = {history.failed(100.0 + n, busy, idle=0.1, answers=n).cause for n in range(5)}
    assert causes == {"unexplained"}


def test_a_connection_that_rested_and_one_that_was_busy_end_at_once_in_a_restart() -> None:
    history = OriginHistory()
    busy = failure(Kind.CONNECTION_RESET, Phase.RESPONSE_WAIT, reused=True)
    history.ended_idle(99.0, idle=17.0, failure=None)
    assert history.failed(99.5, busy, idle=0.1, answers=1).cause == "unexplained"
    history.ended_idle(100.0, idle=17.0, failure=failure())
    assert "restarted or replaced" in history.failed(105.0, busy, idle=0.1, answers=1).cause
    assert history.failed(105.1, busy, idle=0.1, answers=2).cause == "unexplained"


def test_a_busy_connection_that_ends_while_new_ones_are_refused_says_so() -> None:
    history = OriginHistory()
    refused = failure(Kind.CONNECTION_REFUSED, Phase.CONNECT, category=Category.REFUSED)
    busy = failure(Kind.UNEXPECTED_EOF, Phase.RESPONSE_BODY, reused=True)
    history.failed(100.0, refused, idle=0.0, answers=1)
    told = history.failed(101.0, busy, idle=0.1, answers=1)
    assert told.cause == "It ended while new connections were refused: the peer was restarted, or it crashed."
    assert told.confidence is Confidence.LIKELY


def test_idle_connections_of_one_age_that_end_together_are_no_restart() -> None:
    history = OriginHistory()
    for _ in range(3):
        history.ended_idle(100.0, idle=17.0, failure=failure())
    assert history.failed(101.0, failure(), idle=17.0, answers=5).cause == "unexplained"


def test_a_goaway_and_a_reset_at_once_are_a_restart() -> None:
    history = OriginHistory()
    history.told_to_leave(100.0)
    assert "restarted or replaced" in history.failed(101.0, failure(), idle=17.0, answers=5).cause


def test_a_streak_ends_with_an_answer_or_another_failure() -> None:
    history = OriginHistory()
    lost = failure(Kind.UNEXPECTED_EOF, Phase.RESPONSE_WAIT)
    causes = [history.failed(float(n), lost, idle=0.0, answers=0).cause for n in range(3)]
    assert causes[:2] == ["unexplained"] * 2
    assert "3 times in a row" in causes[2]
    assert history.failed(4.0, lost, idle=0.0, answers=1).cause == "unexplained"
    history.failed(5.0, lost, idle=0.0, answers=1)
    history.failed(6.0, failure(Kind.CONNECTION_RESET, Phase.RESPONSE_BODY), idle=0.0, answers=1)
    assert history.failed(7.0, lost, idle=0.0, answers=1).cause == "unexplained"


def test_what_we_did_ourselves_is_no_failure() -> None:
    history = OriginHistory()
    ours = failure(Kind.CANCELLED, category=Category.INTENTIONAL)
    assert history.failed(1.0, ours, idle=0.0, answers=0) is ours
    assert history.last_failure is None


@pytest.mark.parametrize(
    "kind", [Kind.CONNECTION_RESET, Kind.UNEXPECTED_EOF, Kind.BROKEN_PIPE, Kind.CONNECTION_ABORTED]
)
def test_whatever_the_peer_ends_at_rest_teaches_its_age(kind: Kind) -> None:
    history = OriginHistory()
    for n in range(1, 4):
        history.ended_idle(1000.0 * n, idle=350.0, failure=failure(kind))
    assert history.estimate(3000.0) is not None


@pytest.mark.parametrize("kind", [Kind.BAD_FILE_DESCRIPTOR, Kind.TIMED_OUT, Kind.POOL_TIMEOUT])
def test_other_ends_at_rest_teach_nothing(kind: Kind) -> None:
    history = OriginHistory()
    for n in range(1, 4):
        history.ended_idle(1000.0 * n, idle=350.0, failure=failure(kind))
    assert history.estimate(3000.0) is None


@pytest.mark.parametrize("kind", [Kind.TIMED_OUT, Kind.HEARTBEAT_LOST, Kind.CONNECTION_ABORTED])
@pytest.mark.parametrize("phase", [Phase.REQUEST_HEADERS, Phase.REQUEST_BODY, Phase.RESPONSE_WAIT])
@pytest.mark.parametrize("idle", [5.0, 350.0])
def test_the_first_use_of_a_connection_finds_it_dead(kind: Kind, phase: Phase, idle: float) -> None:
    history = OriginHistory()
    for n in range(1, 4):
        history.failed(1000.0 * n, failure(kind, phase, reused=True), idle=idle, answers=n)
    assert history.estimate(3000.0) is not None


@pytest.mark.parametrize(
    ("kind", "phase", "idle", "reused"),
    [
        (Kind.TIMED_OUT, Phase.RESPONSE_BODY, 350.0, True),
        (Kind.TIMED_OUT, Phase.RESPONSE_WAIT, 350.0, False),
        (Kind.TIMED_OUT, Phase.CONNECT, 350.0, True),
        (Kind.POOL_TIMEOUT, Phase.RESPONSE_WAIT, 350.0, True),
        (Kind.TIMED_OUT, Phase.RESPONSE_WAIT, 4.9, True),
    ],
)
def test_what_is_no_first_use_after_silence_teaches_nothing(
    kind: Kind, phase: Phase, idle: float, *, reused: bool
) -> None:
    history = OriginHistory()
    for n in range(1, 4):
        history.failed(1000.0 * n, failure(kind, phase, reused=reused), idle=idle, answers=n)
    assert history.estimate(3000.0) is None


@pytest.mark.parametrize(
    ("kind", "phase", "delivery", "alive"),
    [
        (Kind.UNEXPECTED_EOF, Phase.RESPONSE_WAIT, Delivery.ANSWERED, True),
        (Kind.UNEXPECTED_EOF, Phase.RESPONSE_BODY, None, True),
        (Kind.HEARTBEAT_LOST, Phase.RESPONSE_WAIT, Delivery.ACKED, True),
        (Kind.TIMED_OUT, Phase.RESPONSE_WAIT, Delivery.ACKED, True),
        (Kind.TIMED_OUT, Phase.RESPONSE_WAIT, Delivery.SENT_UNACKED, False),
        # a box in between may acknowledge what it then answers by a reset
        (Kind.CONNECTION_RESET, Phase.RESPONSE_WAIT, Delivery.ACKED, False),
    ],
)
def test_what_showed_life_after_a_long_silence_is_no_death_of_age(
    kind: Kind, phase: Phase, delivery: Delivery | None, *, alive: bool
) -> None:
    history = OriginHistory()
    lost = failure(kind, phase, reused=True, delivery=delivery)
    for n in range(1, 4):
        assert ("idle" not in history.failed(1000.0 * n, lost, idle=60.2, answers=n).cause) == alive
    assert (history.estimate(3000.0) is None) == alive


@pytest.mark.parametrize("disturb", ["goaway", "refused", "busy"])
def test_a_death_next_to_a_change_of_the_origin_is_no_death_of_age(disturb: str) -> None:
    history = OriginHistory()
    for n in range(1, 4):
        history.ended_idle(1000.0 * n, idle=350.0, failure=failure())
        if disturb == "goaway":
            history.told_to_leave(1000.0 * n + 1)
        elif disturb == "refused":
            refused = failure(Kind.CONNECTION_REFUSED, Phase.CONNECT, category=Category.REFUSED)
            history.failed(1000.0 * n + 1, refused, idle=0.0, answers=n)
        else:
            busy = failure(Kind.CONNECTION_RESET, Phase.RESPONSE_BODY, reused=True)
            history.failed(1000.0 * n + 1, busy, idle=0.0, answers=n)
    assert history.estimate(3001.0) is None


@pytest.mark.parametrize("category", [Category.INTENTIONAL, Category.NOT_AN_ERROR])
def test_what_is_no_failure_is_handed_back_as_it_is(category: Category) -> None:
    history = OriginHistory()
    ours = failure(Kind.CONNECTION_RESET, Phase.UPGRADED, category=category)
    assert history.failed(1.0, ours, idle=350.0, answers=0) is ours
    assert history.stream_failed(2.0, ours, idle=350.0, used=False, answers=0) is ours
    assert history.last_failure is None


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.POOL])
def test_what_ends_at_rest_is_not_told_apart_by_where_it_rested(phase: Phase) -> None:
    history = OriginHistory()
    history.told_to_leave(100.0)
    assert "restarted or replaced" in history.failed(101.0, failure(phase=phase), idle=17.0, answers=5).cause


def test_an_age_of_five_seconds_counts_and_a_younger_one_does_not() -> None:
    for idle, known in ((5.0, True), (4.99, False)):
        history = OriginHistory()
        told = [died_at_rest(history, 1000.0 * n, idle) for n in range(1, 4)]
        assert (history.estimate(3000.0) is not None) == known
        assert ("ends idle connections at 5 s" in told[-1].cause) == known
        history.survived(3001.0, idle=9.0)
        assert history.estimate(3001.0) is None


def test_the_third_failure_in_a_row_without_an_answer_is_the_first_that_says_so() -> None:
    lost = failure(Kind.UNEXPECTED_EOF, Phase.RESPONSE_WAIT)
    for answers in (0, 1):
        history = OriginHistory()
        causes = [history.failed(float(n), lost, idle=0.0, answers=answers).cause for n in range(3)]
        assert ["in a row" in cause for cause in causes] == [False, False, True]


# --- deployments, in virtual time: a server's connections end with it, whatever their idle age ---


@dataclass
class Connection:
    server: int
    used: float


class Client:
    """A client of a service of six servers that is deployed anew every 20 minutes."""

    def __init__(self, seed: int, *, every: float, limit: float | None) -> None:
        self.history = OriginHistory()
        self.dice = random.Random(seed)
        self.every = every
        self.limit = limit
        self.pool: list[Connection] = []
        self.answers = 0

    def live(self, *, hours: float) -> list[float]:
        """The idle times that were applied, ever."""
        applied: list[float] = []
        now, due = 0.0, 600.0
        while now < hours * 3600:
            now += self.dice.expovariate(1 / self.every)
            self.expire(now)
            if now >= due:
                self.deploy(due)
                now, due = max(now, due + 120), due + 1200
            self.burst(now)
            found = self.history.applies(now) if self.dice.random() < 0.1 else None
            if found is not None:
                applied.append(found)
        return applied

    def expire(self, now: float) -> None:
        """The path drops what idles for too long."""
        for one in list(self.pool):
            if self.limit is not None and now - one.used >= self.limit:
                self.history.ended_idle(one.used + self.limit, idle=self.limit, failure=failure())
                self.pool.remove(one)

    def deploy(self, due: float) -> None:
        """One server after the other ends its idle and its busy connections."""
        for server in range(6):
            at = due + server * 20
            for one in [one for one in self.pool if one.server == server]:
                if self.dice.random() < 0.1:
                    lost = failure(Kind.CONNECTION_RESET, Phase.RESPONSE_WAIT, reused=True)
                    self.history.failed(at, lost, idle=0.0, answers=self.answers)
                else:
                    self.history.ended_idle(at, idle=max(at - one.used, 0.0), failure=failure())
                self.pool.remove(one)

    def burst(self, now: float) -> None:
        """Requests on connections of the pool, and on a few new ones."""
        for _ in range(self.dice.randrange(1, 12)):
            resting = self.pool.pop() if self.pool else Connection(self.dice.randrange(6), now)
            self.history.survived(now, idle=now - resting.used)
            self.answers += 1
            resting.used = now
            self.pool.insert(self.dice.randrange(len(self.pool) + 1), resting)
            if len(self.pool) < 10 and self.dice.random() < 0.3:
                self.pool.append(Connection(self.dice.randrange(6), now))


@pytest.mark.parametrize("every", [8.0, 45.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_day_of_rolling_deploys_does_not_look_like_an_idle_limit(seed: int, every: float) -> None:
    assert Client(seed, every=every, limit=None).live(hours=24) == []


def test_a_limit_is_found_in_the_midst_of_rolling_deploys() -> None:
    found = [Client(seed, every=45.0, limit=60.0).live(hours=24) for seed in range(5)]
    assert sum(bool(one) for one in found) >= 4
    assert {round(idle) for one in found for idle in one} == {48}
