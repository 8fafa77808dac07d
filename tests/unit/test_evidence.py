"""Evidence: the measured tables of what the kernel's numbers mean."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from holdwire.policy.evidence import (
    DELIVERY_REASONS,
    black_hole,
    delivery,
    fin_before_write,
    loss,
    vanishes_in_full_size,
    window_closed,
)
from holdwire.policy.failure import Failure
from holdwire.policy.kind import Category, Kind
from holdwire.policy.phase import Delivery, Phase
from holdwire.policy.tcp_info import TcpInfo, TcpState


@pytest.mark.parametrize(
    ("case", "facts", "expected"),
    [
        ("answered, then RST", {"accepted": 300, "outq": 0, "response_bytes": 200}, Delivery.ANSWERED),
        ("nothing written", {"accepted": 0, "outq": 0}, Delivery.NOT_SENT),
        ("FIN seen before, then written, RST", {"accepted": 10, "outq": 10, "ended": True}, Delivery.SENT_UNACKED),
        ("acknowledged and never read", {"accepted": 5000, "outq": 0, "notsent": 0, "ended": True}, Delivery.ACKED),
        ("path died", {"accepted": 3005, "outq": 3000, "notsent": 0, "ended": True}, Delivery.SENT_UNACKED),
        ("all of it still unsent, dead", {"accepted": 100, "outq": 400, "notsent": 100, "ended": True}, "not_sent"),
        ("all of it still unsent, alive", {"accepted": 100, "outq": 400, "notsent": 100}, Delivery.SENT_UNACKED),
        ("a part unsent", {"accepted": 100, "outq": 99, "notsent": 99, "ended": True}, Delivery.SENT_UNACKED),
        ("our FIN waits for its ACK", {"accepted": 1, "outq": 1, "fin_sent": True}, Delivery.ACKED),
        ("its last byte waits for its ACK", {"accepted": 1, "outq": 1}, Delivery.SENT_UNACKED),
        ("the queue cannot be read", {"accepted": 1, "outq": None}, Delivery.SENT_UNACKED),
    ],
)
def test_delivery_is_judged_as_measured(case: str, facts: dict[str, int], expected: Delivery) -> None:
    assert delivery(**facts) == expected, case  # type: ignore[arg-type]


def test_every_delivery_has_a_reason() -> None:
    assert set(DELIVERY_REASONS) == set(Delivery)


def info(**changes: Any) -> TcpInfo:
    base = TcpInfo(state=TcpState.ESTABLISHED, retransmits=3, last_ack_recv=3000, rtt=20_000, snd_wnd=64_000)
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize(
    ("facts", "waited", "idle_before", "timeout", "dead"),
    [
        ({}, 3.0, 0.0, None, True),
        ({"retransmits": 2}, 3.0, 0.0, None, False),
        ({"last_ack_recv": 2999}, 3.0, 0.0, None, False),
        ({}, 2.9, 0.0, None, False),  # the silence began before the request was written
        ({"rtt": 1_000_000}, 3.9, 0.0, None, False),  # four round trips of a slow path
        ({"rtt": 1_000_000, "last_ack_recv": 4000}, 4.0, 0.0, None, True),
        ({"retransmits": 2, "last_ack_recv": 31_000}, 1.0, 30.0, None, True),
        ({"retransmits": 2, "last_ack_recv": 31_000}, 0.9, 30.0, None, False),
        ({"retransmits": 1, "last_ack_recv": 31_000}, 5.0, 30.0, None, False),
        ({"retransmits": 2, "last_ack_recv": 900}, 5.0, 29.9, None, False),
        ({"retransmits": 2, "last_ack_recv": 500}, 5.0, 0.0, 0.5, True),
        ({"retransmits": 0, "last_ack_recv": 9000}, 9.0, 0.0, 0.5, False),
        ({"retransmits": 2}, 3.0, 0.0, 3.0, False),  # nor does one of the same length lower it
        ({}, 3.0, 0.0, 60.0, True),  # a long heartbeat time-out does not raise the trigger
        ({"state": TcpState.CLOSE}, 9.0, 0.0, None, False),
        ({"state": TcpState.CLOSE_WAIT}, 3.0, 0.0, None, True),
        ({"state": TcpState.FIN_WAIT1}, 3.0, 0.0, None, True),
        ({"state": TcpState.FIN_WAIT2}, 9.0, 0.0, None, False),
        ({"state": TcpState.LAST_ACK}, 9.0, 0.0, None, False),
        ({"retransmits": None}, 9.0, 0.0, None, False),
        ({"last_ack_recv": None}, 9.0, 0.0, None, False),
    ],
)
def test_a_black_hole_needs_retransmissions_and_silence(
    facts: dict[str, int], waited: float, idle_before: float, timeout: float | None, *, dead: bool
) -> None:
    finding = black_hole(info(**facts), waited=waited, idle_before=idle_before, timeout=timeout)
    assert bool(finding) is dead
    assert finding.reason


def test_without_numbers_nothing_is_called_a_black_hole() -> None:
    assert not black_hole(TcpInfo(state=TcpState.ESTABLISHED), waited=99)


@pytest.mark.parametrize(
    ("facts", "queued", "closed"),
    [
        ({"snd_wnd": 0, "last_ack_recv": 29_999, "probes": 3}, 1, True),
        ({"snd_wnd": 0, "last_ack_recv": 30_000, "probes": 1}, 1, False),
        ({"snd_wnd": 0, "last_ack_recv": 119_000, "probes": 0}, 1, True),  # the next probe is not due yet
        ({"snd_wnd": 1, "last_ack_recv": 10}, 1, False),
        ({"snd_wnd": 0, "last_ack_recv": 10}, 0, False),
    ],
)
def test_a_closed_window_needs_a_peer_that_answers(facts: dict[str, int], queued: int, *, closed: bool) -> None:
    finding = window_closed(info(**facts), queued=queued, dead_after=90)
    assert finding.holds is closed
    assert finding.reason


def test_a_kernel_that_does_not_tell_the_window_proves_nothing() -> None:
    assert not window_closed(TcpInfo(state=TcpState.ESTABLISHED, last_ack_recv=0), queued=1, dead_after=90)


def ending(kind: Kind = Kind.UNEXPECTED_EOF, state: TcpState = TcpState.CLOSE, outq: int | None = 100) -> Failure:
    return Failure(
        kind=kind, phase=Phase.RESPONSE_WAIT, category=Category.PEER_CLOSED, outq=outq, tcp=TcpInfo(state=state)
    )


@pytest.mark.parametrize(
    ("failure", "accepted", "proven"),
    [
        (ending(), 100, True),
        (ending(Kind.BROKEN_PIPE), 100, True),
        (ending(Kind.CONNECTION_RESET), 100, False),
        (ending(state=TcpState.CLOSE_WAIT), 100, True),
        (ending(state=TcpState.ESTABLISHED), 100, False),
        (ending(state=TcpState.LAST_ACK), 100, False),
        (dataclasses.replace(ending(), tcp=None), 100, False),
        (ending(outq=101), 100, True),
        (ending(outq=99), 100, False),
        (ending(outq=None), 100, False),
        (ending(outq=0), 0, False),
        (ending(outq=1), 1, True),
    ],
)
def test_a_fin_came_before_the_write_only_if_nothing_of_it_was_acknowledged(
    failure: Failure, accepted: int, *, proven: bool
) -> None:
    assert fin_before_write(failure, accepted=accepted) is proven


@pytest.mark.parametrize(
    ("facts", "share"),
    [
        ({"snd_mss": 1000, "bytes_sent": 20_000, "bytes_retrans": 5_000}, 0.25),
        ({"snd_mss": 1000, "bytes_sent": 19_999, "bytes_retrans": 5_000}, 0.0),
        ({"snd_mss": 1000, "bytes_sent": 20_000, "bytes_retrans": 0}, 0.0),
        ({"snd_mss": 1000, "bytes_sent": 20_000}, 0.0),
        ({"snd_mss": 1000, "bytes_retrans": 5_000}, 0.0),
        ({"bytes_sent": 20_000, "bytes_retrans": 5_000}, 0.0),
        ({"snd_mss": 1, "bytes_sent": 20, "bytes_retrans": 1}, 0.05),
    ],
)
def test_loss_is_told_once_enough_was_sent(facts: dict[str, int], share: float) -> None:
    assert loss(info(**facts)) == share
    assert loss(None) == 0.0


@pytest.mark.parametrize(
    ("facts", "queued", "vanishes"),
    [
        ({}, 1400, True),
        ({}, 1399, False),
        ({}, None, False),
        ({"snd_mss": 1399}, 1400, False),
        ({"snd_mss": None}, 1400, False),
        ({"retransmits": 1}, 1400, False),
        ({"retransmits": 0, "total_rto": 2}, 1400, True),
        ({"retransmits": None, "total_rto": None}, 1400, False),
        ({"retransmits": 1, "total_rto": 1}, 1400, False),
        ({"bytes_acked": 1}, 1400, False),
        ({"bytes_acked": None}, 1400, False),
        ({"bytes_acked": 1399}, 1400, True),
        ({"bytes_acked": 1400}, 1400, False),
    ],
)
def test_full_size_vanishes_where_small_segments_pass(
    facts: dict[str, int], queued: int | None, *, vanishes: bool
) -> None:
    full = {"snd_mss": 1400, "retransmits": 2, "total_rto": None, "bytes_acked": 2}
    assert vanishes_in_full_size(info(**full | facts), queued=queued) is vanishes
