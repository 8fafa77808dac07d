"""Evidence: the measured tables of what the kernel's numbers mean."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from holdwire.policy.evidence import DELIVERY_REASONS, black_hole, delivery, window_closed
from holdwire.policy.phase import Delivery
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
        ({}, 3.0, 0.0, 60.0, True),  # a long heartbeat time-out does not raise the trigger
        ({"state": TcpState.CLOSE}, 9.0, 0.0, None, False),
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
