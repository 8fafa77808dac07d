"""The limits of a storm: what passes, what is counted, how many origins are told apart."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from holdwire.telemetry.limiter import BURST, MAX_ORIGINS, OTHER, Limiter, Origins
from tests.garbage import Collecting, in_time
from tests.telemetry_samples import NOW, SECOND


def admit(limiter: Limiter, at: int, *, host: str = "api.example", kind: str = "timed_out") -> int | None:
    return limiter.admit(host, 443, kind, "connect", at)


def test_the_first_ten_pass_and_the_rest_is_held_back() -> None:
    limiter = Limiter()
    assert [admit(limiter, NOW) for _ in range(12)] == [0] * BURST + [None, None]


def test_one_passes_each_second_and_says_how_many_were_held_back() -> None:
    limiter = Limiter()
    for _ in range(BURST + 7):
        admit(limiter, NOW)
    assert admit(limiter, NOW + SECOND // 2) is None
    assert admit(limiter, NOW + SECOND) == 8
    assert admit(limiter, NOW + SECOND) is None
    assert admit(limiter, NOW + 3 * SECOND) == 1
    assert admit(limiter, NOW + 3 * SECOND) == 0


def test_after_a_quiet_time_ten_pass_again_and_no_more() -> None:
    limiter = Limiter()
    for _ in range(BURST):
        admit(limiter, NOW)
    assert [admit(limiter, NOW + 3600 * SECOND) for _ in range(11)] == [0] * BURST + [None]


def test_origins_and_kinds_have_buckets_of_their_own() -> None:
    limiter = Limiter()
    for _ in range(BURST):
        admit(limiter, NOW)
    assert admit(limiter, NOW) is None
    assert admit(limiter, NOW, host="other.example") == 0
    assert admit(limiter, NOW, kind="connection_reset") == 0


def test_an_event_out_of_order_neither_fills_nor_empties_a_bucket() -> None:
    limiter = Limiter()
    for _ in range(BURST):
        admit(limiter, NOW)
    assert admit(limiter, NOW - 30 * SECOND) is None
    assert admit(limiter, NOW + SECOND) == 1
    assert admit(limiter, NOW + SECOND) is None


def test_trouble_is_told_again_one_second_after_a_clock_that_was_an_hour_ahead_is_set_right() -> None:
    limiter = Limiter()
    for _ in range(BURST):
        admit(limiter, NOW + 3600 * SECOND)
    assert admit(limiter, NOW) is None
    assert admit(limiter, NOW + SECOND) == 1
    assert admit(limiter, NOW + SECOND) is None


@given(st.lists(st.integers(0, 20 * SECOND), min_size=1, max_size=200))
def test_every_one_is_either_told_or_counted_as_held_back(offsets: list[int]) -> None:
    limiter = Limiter()
    results = [admit(limiter, NOW + offset) for offset in sorted(offsets)]
    last = admit(limiter, NOW + 3600 * SECOND)
    passed = [result for result in results if result is not None]
    assert last is not None
    assert len(passed) + sum(passed) + last == len(results)
    assert len(passed) <= BURST + 21


def test_counts_are_exact_when_several_threads_fail_at_once() -> None:
    limiter = Limiter()
    told: list[int] = []

    def storm() -> None:
        told.extend(held for _ in range(2000) if (held := admit(limiter, NOW)) is not None)

    threads = [threading.Thread(target=storm) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == BURST
    assert admit(limiter, NOW + SECOND) == 8000 - BURST


def test_a_client_that_is_collected_while_a_failure_is_counted_may_tell_of_its_own_and_nobody_waits() -> None:
    limiter = Limiter()
    told: list[int | None] = []
    kind = Collecting("timed_out", lambda: None, lambda: told.append(admit(limiter, NOW)))
    assert in_time(lambda: told.append(admit(limiter, NOW, kind=kind)))
    assert told == [0, 0]
    assert [admit(limiter, NOW) for _ in range(BURST)] == [0] * (BURST - 2) + [None] * 2


def test_the_201st_origin_and_all_later_ones_are_other() -> None:
    origins = Origins()
    for number in range(MAX_ORIGINS):
        assert origins.attributes(f"h{number}", 80) == {"server.address": f"h{number}", "server.port": 80}
    assert origins.attributes("late", 80) == {"server.address": OTHER}
    assert origins.pair("late", 80) == (OTHER, None)
    assert origins.attributes("h0", 81) == {"server.address": OTHER}
    assert origins.pair("h0", 80) == ("h0", 80)


def test_no_host_has_no_attributes() -> None:
    assert Origins().attributes(None, None) == {}
    assert Origins().attributes("unix", None) == {"server.address": "unix"}


def test_thousands_of_dead_origins_share_a_bucket_beyond_the_limit() -> None:
    limiter = Limiter()
    passed = sum(admit(limiter, NOW, host=f"h{number}") is not None for number in range(5000))
    assert passed == MAX_ORIGINS + BURST
