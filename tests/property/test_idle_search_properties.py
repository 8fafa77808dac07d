"""Whatever the limit, the search brackets it; whatever it is told, it ends and stays within what it announced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdwire.doctor.idle_search import MAX_CONNECTIONS, Ending, IdleFinding, IdleSearch, Observation

WHILE_IDLE = [Ending.FIN_WHILE_IDLE, Ending.RST_WHILE_IDLE]
ON_SEND = [Ending.SILENT_DROP, Ending.RST_ON_SEND, Ending.FIN_ON_SEND, Ending.ACKED_NO_ANSWER]


def play(search: IdleSearch, limit: float | None, ending: Ending) -> IdleFinding:
    """A path that ends connections after ``limit`` seconds of silence, in virtual time."""
    while waits := search.waits():
        assert len(waits) <= 16, "at a time"
        ended: list[Observation] = []
        open_waits = sorted(waits)
        while open_waits:
            wait = open_waits[0]
            if limit is not None and ending.seen_while_idle and wait > limit:
                wait = open_waits.pop(0)
                ended.append(Observation(limit, ending))
            else:
                open_waits.pop(0)
                ended.append(Observation(wait, Ending.ALIVE if limit is None or wait < limit else ending))
            for other in list(open_waits):
                if search.is_pointless(other, ended, len(open_waits)):
                    open_waits.remove(other)
                    ended.append(Observation(other, Ending.CANCELLED))
        search.take(ended)
    return search.finding()


@given(
    limit=st.floats(1.01, 60.0),
    ending=st.sampled_from(WHILE_IDLE + ON_SEND),
    connections=st.integers(2, MAX_CONNECTIONS),
    rounds=st.integers(1, 5),
)
def test_the_limit_lies_in_the_bracket_and_the_bracket_is_as_narrow_as_announced(
    limit: float, ending: Ending, connections: int, rounds: int
) -> None:
    search = IdleSearch(shortest=1.0, longest=65.0, connections=connections, rounds=rounds)
    announced = search.most_connections
    found = play(search, limit, ending)
    assert found.high is not None
    assert found.low - 1e-9 <= limit <= found.high + 1e-9
    assert found.ending is ending
    assert found.survived < limit
    assert found.connections <= announced
    assert search.round <= rounds
    if ending.seen_while_idle:
        assert found.error == pytest.approx(0.0)
    else:
        ratio = 65.0 ** (1 / (connections - 1))
        allowed = max((ratio - 1) / (connections + 1) ** (rounds - 1), 0.02)
        assert (found.high - found.low) / found.high <= allowed + 1e-9


@given(connections=st.integers(2, MAX_CONNECTIONS), rounds=st.integers(1, 5))
def test_without_a_limit_one_round_is_enough(connections: int, rounds: int) -> None:
    search = IdleSearch(connections=connections, rounds=rounds)
    found = play(search, None, Ending.ALIVE)
    assert search.round == 1
    assert found.limit is None
    assert found.survived == pytest.approx(65.0)


def test_as_many_connections_as_may_be_asked_for_are_sixteen_at_a_time() -> None:
    play(IdleSearch(connections=MAX_CONNECTIONS), 33.0, Ending.SILENT_DROP)


def test_a_known_limit_names_the_path_and_the_heartbeat() -> None:
    found = play(IdleSearch(longest=400.0), 350.0, Ending.FIN_WHILE_IDLE)
    assert "aws-nlb" in [profile.name for profile in found.profiles]
    assert found.heartbeat == pytest.approx(175.0)


@pytest.mark.parametrize(
    "wrong", [{"shortest": 0}, {"shortest": 70.0}, {"connections": 1}, {"connections": 16}, {"rounds": 0}]
)
def test_wrong_numbers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"wait|connections|rounds"):
        IdleSearch(**wrong)  # type: ignore[arg-type]
