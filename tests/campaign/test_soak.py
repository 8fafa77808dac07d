"""The soak, for twenty seconds: mixed traffic at one fault in a hundred requests, and nothing grows."""

from __future__ import annotations

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
    assert soak.counts["faults"] > 3
    assert soak.counts["requests"] > 500


@pytest.mark.parametrize(
    ("last", "what"),
    [(Sample(90_000_000, 20, 5), "memory"), (Sample(10, 60, 5), "descriptors"), (Sample(10, 20, 40), "tasks")],
)
def test_what_grows_is_told(last: Sample, what: str) -> None:
    first = Sample(10, 20, 5)
    soak = Soak(1.0, samples=[first] * 6 + [last] * 2, before=first, after=first)
    assert [told.split()[0] for told in soak.check()] == [what]
