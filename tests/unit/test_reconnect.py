"""What follows a failure of a session: the decision table, and the pauses and stops that come of it."""

from __future__ import annotations

import dataclasses

import pytest
import tenacity

from holdwire.policy import diagnosis
from holdwire.policy.backoff import Backoff
from holdwire.policy.failure import Failure, TlsDetail
from holdwire.policy.fate import Fate, fate_of
from holdwire.policy.kind import Action, Category, Kind
from holdwire.policy.phase import Phase
from holdwire.policy.reconnect import Then, after
from holdwire.retrying import Reconnector, ReconnectPolicy


def connect(number: int) -> Failure:
    return diagnosis.from_errno(number, syscall="connect", phase=Phase.CONNECT, facts={}, connected=False)


REFUSED, UNREACHABLE, NO_FILES = connect(111), connect(113), connect(24)
RESET = diagnosis.from_errno(104, syscall="recv", phase=Phase.UPGRADED, facts={})
LOST = diagnosis.local(Kind.HEARTBEAT_LOST, phase=Phase.HEARTBEAT, facts={})
NO_NAME = diagnosis.from_eai("EAI_NONAME", facts={})
NO_SERVER = diagnosis.from_eai("EAI_AGAIN", facts={})
CERTIFICATE = diagnosis.from_tls(
    phase=Phase.TLS_HANDSHAKE, facts={}, tls=TlsDetail(reason="CERTIFICATE_VERIFY_FAILED", verify_code=20)
)
DENIED = connect(13)


def alert(name: str, phase: Phase) -> Failure:
    """As OpenSSL tells of an alert that the peer sent."""
    return diagnosis.from_tls(phase=phase, facts={}, tls=TlsDetail(reason=f"TLSV1_ALERT_{name.upper()}"))


BUG = connect(22)
NO_ADDRESS = diagnosis.from_eai("EAI_NODATA", facts={})


@pytest.mark.parametrize(
    ("failure", "more", "then"),
    [
        (REFUSED, {}, Then.PAUSE),
        (UNREACHABLE, {}, Then.PAUSE),
        (NO_SERVER, {}, Then.PAUSE),
        (NO_FILES, {}, Then.LONG_PAUSE),
        (CERTIFICATE, {}, Then.STOP),
        (CERTIFICATE, {"known": True}, Then.STOP),
        (DENIED, {}, Then.STOP),
        (BUG, {}, Then.STOP),
        (dataclasses.replace(BUG, action=Action.BACK_OFF), {}, Then.STOP),
        (dataclasses.replace(CERTIFICATE, action=Action.BACK_OFF), {}, Then.STOP),
        (dataclasses.replace(LOST, action=Action.NEVER), {}, Then.PAUSE),
        (dataclasses.replace(REFUSED, action=Action.NEVER), {}, Then.STOP),
        (alert("protocol_version", Phase.TLS_HANDSHAKE), {}, Then.STOP),
        (alert("protocol_version", Phase.UPGRADED), {"up_for": 100.0}, Then.PAUSE),
        (alert("access_denied", Phase.UPGRADED), {"up_for": 100.0}, Then.STOP),
        (NO_ADDRESS, {}, Then.STOP),
        (NO_NAME, {}, Then.STOP),
        (NO_NAME, {"known": True}, Then.PAUSE),
        (NO_NAME, {"names_may_appear": True}, Then.PAUSE),
        (RESET, {"up_for": 100.0}, Then.PAUSE),
        (LOST, {"up_for": 100.0}, Then.PAUSE),
        (RESET, {"up_for": 0.1, "silent": True}, Then.LONG_PAUSE),
        (RESET, {"up_for": 0.1, "silent": False}, Then.PAUSE),
        (RESET, {"up_for": 0.1}, Then.PAUSE),
        (RESET, {"up_for": 1.0, "silent": True}, Then.PAUSE),
        (RESET, {"up_for": 5.0, "silent": True}, Then.PAUSE),
        (None, {"up_for": 0.1, "silent": True}, Then.PAUSE),
    ],
)
def test_what_follows(failure: Failure | None, more: dict[str, object], then: Then) -> None:
    step = after(failure, **more)  # type: ignore[arg-type]
    assert step.then is then
    assert step.reason


def test_the_reason_tells_an_attempt_from_a_connection() -> None:
    assert after(REFUSED).reason == "no connection came about"
    assert after(RESET, up_for=100.0).reason == "the connection was lost"


def test_a_bare_handshake_starts_nothing_over_and_a_stable_session_or_a_message_does() -> None:
    reconnector = Reconnector(ReconnectPolicy())
    for _ in range(5):
        pause, stop = reconnector.session_ended(RESET, up_for=0.1, heard=False, silent=True)
        assert pause >= 1
        assert stop is None
    assert reconnector.attempts == 5
    pause, _ = reconnector.session_ended(RESET, up_for=60.0, heard=False, silent=True)
    assert pause <= 0.25
    assert reconnector.attempts == 0
    reconnector.attempt_failed(REFUSED, OSError())
    pause, _ = reconnector.session_ended(RESET, up_for=0.1, heard=True, silent=False)
    assert pause <= 0.25


def test_stable_means_longer_than_the_last_pause() -> None:
    reconnector = Reconnector(ReconnectPolicy(wait=tenacity.wait_fixed(30)))
    reconnector.attempt_failed(REFUSED, OSError())
    assert reconnector.last_pause == 30
    assert reconnector.session_ended(RESET, up_for=20, heard=False, silent=False)[0] == 30
    assert reconnector.session_ended(RESET, up_for=31, heard=False, silent=False)[0] <= 0.25


def test_a_recycled_session_is_followed_at_once() -> None:
    reconnector = Reconnector(ReconnectPolicy())
    assert reconnector.session_ended(None, up_for=0.1, heard=False, silent=True, recycled=True) == (0.0, None)


def test_a_fleet_spreads_its_first_reconnect() -> None:
    policy = ReconnectPolicy(backoff=Backoff(spread=5))
    pauses = [Reconnector(policy).session_ended(RESET, up_for=60, heard=True, silent=False)[0] for _ in range(200)]
    assert min(pauses) < 1
    assert 4 < max(pauses) <= 5


def test_pauses_after_overload_are_spread_with_any_strategy() -> None:
    policy = ReconnectPolicy(wait=tenacity.wait_fixed(0.01))
    pauses = {Reconnector(policy).session_ended(RESET, up_for=0, heard=False, silent=True)[0] for _ in range(50)}
    assert len(pauses) > 40
    assert all(1 <= pause <= 2 for pause in pauses)


def test_a_strategy_for_one_kind_may_overrule_a_stop_and_none_stops() -> None:
    policy = ReconnectPolicy(
        waits={Kind.CERTIFICATE_INVALID: tenacity.wait_fixed(60), Category.REFUSED: None, Kind.CONNECTION_RESET: None}
    )
    assert Reconnector(policy).attempt_failed(CERTIFICATE, OSError()) == (60, None)
    assert Reconnector(policy).attempt_failed(REFUSED, OSError())[1] == "the policy says to stop at refused"
    assert Reconnector(policy).session_ended(RESET, up_for=99, heard=True, silent=False)[1] is not None


def test_the_stop_rule_sees_failures_in_a_row() -> None:
    reconnector = Reconnector(ReconnectPolicy(stop=tenacity.stop_after_attempt(3)))
    assert reconnector.attempt_failed(REFUSED, OSError())[1] is None
    assert reconnector.session_ended(RESET, up_for=99, heard=True, silent=False)[1] is None
    stops = [reconnector.attempt_failed(REFUSED, OSError())[1] is not None for _ in range(3)]
    assert stops == [False, False, True]


@pytest.mark.parametrize("wrong", [{"wait": 5}, {"stop": "never"}, {"waits": {Kind.OTHER: 1}}])
def test_what_is_no_strategy_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="tenacity"):
        ReconnectPolicy(**wrong)  # type: ignore[arg-type]


def test_a_message_is_cut_until_all_of_it_was_handed_over() -> None:
    assert [fate_of(on_wire=9, outq=0, size=5, written=written).cut for written in (0, 4, 5)] == [True, True, False]
    assert not fate_of(on_wire=9, outq=0, written=4).cut
    assert (Fate().written, Fate().on_wire, fate_of(on_wire=1, outq=0).written) == (0, 0, 0)


def test_the_fate_of_bytes_in_words() -> None:
    assert str(fate_of(on_wire=10, outq=0)) == ("10 bytes were sent on it, the peer's kernel acknowledged all of them")
    cut = fate_of(on_wire=40, outq=15, size=100, written=40)
    assert cut.cut
    assert cut.acknowledged == 25
    assert str(cut) == (
        "40 of the message's 100 bytes were written, 40 on the wire, the peer's kernel acknowledged 25 of them"
    )
    assert fate_of(on_wire=5, outq=11).acknowledged == 0, "all that is not acknowledged was sent before"
    assert "unknown" in str(fate_of(on_wire=5, outq=None, size=5, written=5))
