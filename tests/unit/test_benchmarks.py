"""What the benchmarks conclude from their numbers: goals, the guard's verdict, the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import report
from benchmarks.guard import too_slow

if TYPE_CHECKING:
    from pathlib import Path


def row(client: str, cpu: list[float], load: str = "GET x1") -> dict[str, Any]:
    return {"loop": "asyncio", "load": load, "unit": "request", "client": client, "cpu": cpu, "wall": cpu}


ROWS = [
    row("holdwire", [200.0, 300.0, 900.0]),
    row("httpx", [1500.0, 1000.0, 400.0]),
    row("httpx-aiohttp", [400.0]),
    row("httpx from memory", [150.0]),
    row("holdwire", [390.0], "GET x50"),
]


def test_a_goal_is_judged_by_medians_and_shown_with_its_floor() -> None:
    found = {words: rest for words, *rest in report.verdicts(ROWS)}
    assert found["GET x1, asyncio: CPU of httpx's"] == [0.3, 0.3, 0.15]
    assert found["GET x1, asyncio: CPU of httpx-aiohttp's"] == [0.6, 0.75, 0.375]
    assert found["GET x50, asyncio: CPU of its own at GET x1"] == [1.2, 1.3, None]
    lines = report.goals_text(ROWS).splitlines()
    assert [line.endswith("NOT met") for line in lines[1:]] == [True, False, True]


def test_the_page_is_made_anew_without_touching_what_people_wrote(tmp_path: Path) -> None:
    about = dict.fromkeys(("date", "machine", "load", "python", "server", "rounds"), "x")
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGIN}\nstale figures\n{report.END}\nafter\n")
    for _ in range(2):
        report.write({"about": {**about, "versions": {"holdwire": "1"}}, "rows": ROWS}, tmp_path)
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "stale" not in text
    assert "| GET x1, asyncio: CPU of httpx-aiohttp's | 0.6 | 0.75 | 0.38 | **not met** |" in text
    assert (tmp_path / "performance.svg").read_text().count(">300<") == 1


@pytest.mark.parametrize(("ratio", "slow"), [(1.0, []), (1.149, []), (1.151, ["GET"]), (2.0, ["GET"])])
def test_the_guard_fails_on_more_than_its_margin(ratio: float, slow: list[str]) -> None:
    assert too_slow({"GET": ratio, "POST": 0.5}, {"GET": 1.0, "POST": 1.0}, 1.15) == slow
