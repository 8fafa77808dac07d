"""A short campaign of simulated histories, and proof that the campaign sees what it looks for."""

from __future__ import annotations

import time

import pytest

from holdwire.http.exchange import Exchange
from holdwire.http.h2_inbound import Inbound
from holdwire.http.pool import Pool
from holdwire.net.stream import SocketStream
from holdwire.policy import retry
from tests.campaign.__main__ import main
from tests.campaign.campaign import replay, seeds, shortest
from tests.campaign.histories import draw
from tests.campaign.report import Report
from tests.campaign.shrink import smallest

pytestmark = [pytest.mark.slow]

SEED = 21
ENOUGH = 50
"""Histories in which every kind of fault occurs, however slow the machine is."""


def campaign(seconds: float) -> Report:
    report = Report(seconds=seconds)
    end = time.time() + seconds
    for seed in seeds(SEED, 0, 1):
        report.add(seed, replay(seed))
        if time.time() >= end and report.histories >= ENOUGH:
            break
    return report


def broken(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Break the client in one place."""
    took, on_goaway = SocketStream._keep, Inbound.on_goaway
    flipped = bytes.maketrans(b"dnw", b"ddd")

    def assumed(*_: object) -> retry.Evidence:
        return retry.Evidence.ASSUMED

    def forget(*_: object) -> None:
        """Do nothing."""

    def flip(self: SocketStream, view: memoryview) -> None:
        took(self, memoryview(bytes(view).translate(flipped)))

    def mistake(self: Inbound, _: int, code: int, text: bytes) -> None:
        on_goaway(self, 0, code, text)

    breaks: dict[str, tuple[object, str, object]] = {
        "twice": (retry, "_evidence", assumed),
        "leak": (Pool, "_leave", forget),
        "bytes": (SocketStream, "_keep", flip),
        "record": (Exchange, "_record", forget),
        "unsent": (Inbound, "on_goaway", mistake),
        "hang": (Inbound, "on_reset", forget),
    }
    monkeypatch.setattr(*breaks[what])


def violated(seed: str, what: str) -> bool:
    return any(violation.invariant == what for violation in replay(seed).violations)


def test_thousands_of_random_histories_violate_no_invariant(capsys: pytest.CaptureFixture[str]) -> None:
    report = campaign(20.0)
    with capsys.disabled():
        print(f"\nseed {SEED}: {report}")  # noqa: T201 - what was run is part of the proof
    assert not report.failing, [shortest(seed, one) for one, (seed, _) in report.failing.items()]
    assert report.numbers["requests"] > 1_000
    points, kinds = ({names[place] for names in report.faults} for place in (0, 1))
    assert {"rst", "fin", "half_close", "black_hole", "stall", "refuse", "errno", "expire"} <= kinds
    assert {"corrupt", "fin_without_close_notify", "rst_stream", "goaway", "truncate", "flood"} <= kinds
    assert {"handshake", "frame", "ping"} <= points
    assert {"h1", "h1+tls", "h2", "h2+tls"} == set(report.protocols)


@pytest.mark.parametrize("what", ["twice", "leak", "bytes", "record", "unsent", "hang"])
def test_a_broken_client_is_found_and_the_shortest_command_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    broken(monkeypatch, what)
    small = (seed for seed in seeds(SEED, 0, 1) if len(draw(seed).asks) <= 10)
    seed = next(seed for seed in small if violated(seed, what))
    command = shortest(seed, what).split()
    assert len(command[command.index("--asks") + 1]) < 40
    assert main(command[3:]) == 1
    assert f"{what}: " in capsys.readouterr().out


def test_a_seed_reproduces_a_history_in_every_detail() -> None:
    for seed in (f"{SEED}:{number}" for number in range(10)):
        assert str(draw(seed)) == str(draw(seed))
        first, second = replay(seed), replay(seed)
        assert (first.answered, first.failed, first.retries, first.faults) == (
            second.answered,
            second.failed,
            second.retries,
            second.faults,
        )


def test_what_is_left_of_a_failing_history_is_what_it_takes() -> None:
    assert smallest(list(range(100)), lambda some: {3, 77} <= set(some)) == [3, 77]
