"""The soak, for twenty seconds: mixed traffic at one fault in a hundred requests, and nothing grows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.campaign.soak import Sample, Soak


@pytest.mark.slow
@pytest.mark.anyio
async def test_memory_descriptors_and_tasks_do_not_grow_under_faults(
    anyio_backend_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    soak = Soak(8.0)
    await soak.run()
    with capsys.disabled():
        print(f"\n{anyio_backend_name}: {soak}")  # noqa: T201 - what was run is part of the proof
    assert not soak.check()
    assert soak.counts["faults"]
    assert soak.counts["requests"] > 100


FIRST = Sample(70_000_000, 20, 5, 15_000_000, 285_000)


@pytest.mark.parametrize(
    ("last", "what"),
    [
        (replace(FIRST, memory=74_000_000), "memory"),
        (replace(FIRST, heap=15_900_000), "heap"),
        (replace(FIRST, objects=295_000), "objects"),
        (replace(FIRST, descriptors=60), "descriptors"),
        (replace(FIRST, tasks=40), "tasks"),
    ],
)
def test_what_grows_is_told(last: Sample, what: str) -> None:
    soak = Soak(1.0, samples=[FIRST] * 6 + [last] * 2, before=FIRST, after=FIRST)
    assert [told.split()[0] for told in soak.check()] == [what]


@pytest.mark.parametrize(("lost", "where"), [(0, None), (4096, "heap"), (4096, "objects")])
def test_four_kilobytes_lost_at_each_failed_handshake_are_told_after_an_eighth_of_an_hour_and_noise_is_not(
    lost: int, where: str | None
) -> None:
    dice = random.Random(7)
    soak = Soak(780.0, before=FIRST, after=FIRST)
    for number in range(480):
        failed = number * 570 // 480
        soak.samples.append(
            replace(
                FIRST,
                memory=FIRST.memory + dice.randint(0, 1_000_000),
                heap=FIRST.heap + dice.randint(-300_000, 300_000) + (failed * lost if where == "heap" else 0),
                objects=FIRST.objects + dice.randint(-2000, 2000) + (failed * lost // 80 if where == "objects" else 0),
            )
        )
    assert [told.split()[0] for told in soak.check()] == ([] if where is None else [where])
