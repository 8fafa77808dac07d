"""``holdwire.failure_of``: it takes whatever an ``except`` clause or a log record holds, and never raises."""

from __future__ import annotations

import copy
import pickle

import pytest

import holdwire


@pytest.fixture
def lost() -> holdwire.ConnectionLost:
    return holdwire.ConnectionLost(
        failure=holdwire.Failure(
            kind=holdwire.Kind.CONNECTION_RESET, category=holdwire.Category.PEER_CLOSED, phase=holdwire.Phase.IDLE
        )
    )


@pytest.mark.parametrize("what", [3, None, "ConnectionResetError", object(), OSError, ValueError("other")])
def test_what_holds_no_failure_gives_none(what: object) -> None:
    assert holdwire.failure_of(what) is None


def test_it_is_found_behind_a_cause_a_context_and_a_group(lost: holdwire.ConnectionLost) -> None:
    caused, during = RuntimeError("an SDK's own"), RuntimeError("while handling")
    caused.__cause__ = lost
    during.__context__ = caused
    assert holdwire.failure_of(ExceptionGroup("tasks", [ValueError("other"), during])) is lost.failure


def test_exceptions_that_refer_to_each_other_end(lost: holdwire.ConnectionLost) -> None:
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    assert holdwire.failure_of(one) is None
    other.__context__ = lost
    assert holdwire.failure_of(one) is lost.failure


async def test_errors_of_streams_are_the_same_in_another_process() -> None:
    with pytest.raises(holdwire.ConnectFailed) as refused:
        await holdwire.connect("tcp://127.0.0.1:1")
    late = holdwire.DeadlineExceeded("too late", limit="connect", failure=refused.value.failure)
    late.add_note("a note")
    for error in (refused.value, late, holdwire.ClosedError("closed")):
        for other in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error), copy.copy(error)):
            assert (type(other), str(other), other.failure) == (type(error), str(error), error.failure)
            assert getattr(other, "limit", None) == getattr(error, "limit", None)
            assert getattr(other, "failures", ()) == getattr(error, "failures", ())
            assert getattr(other, "__notes__", []) == getattr(error, "__notes__", [])
