"""What the benchmarks conclude from their numbers: goals, the guard's verdict, the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.guard import too_slow

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize(
    ("floor", "said"), [(235.0, "0.59 | **not met** |"), (245.0, "0.61 | **not met**: nor is it by the floor |")]
)
def test_the_page_says_which_goals_nobody_could_meet(tmp_path: Path, floor: float, said: str) -> None:
    about = dict.fromkeys(("date", "machine", "load", "python", "server", "rounds"), "x")
    (tmp_path / "performance.md").write_text(f"{report.BEGIN}\n{report.END}\n")
    report.write({"about": {**about, "versions": {}}, "rows": [*ROWS, row("httpx over that", [floor])]}, tmp_path)
    assert (
        f"| GET x1, asyncio: CPU of httpx-aiohttp's | 0.6 | 0.75 | {said}" in (tmp_path / "performance.md").read_text()
    )


@pytest.mark.parametrize(("ratio", "slow"), [(1.0, []), (1.149, []), (1.151, ["GET"]), (2.0, ["GET"])])
def test_the_guard_fails_on_more_than_its_margin(ratio: float, slow: list[str]) -> None:
    assert too_slow({"GET": ratio, "POST": 0.5}, {"GET": 1.0, "POST": 1.0}, 1.15) == slow


@pytest.mark.slow
def test_the_guard_goes_red_on_code_that_was_made_slower(tmp_path: Path) -> None:
    """The guard as it is, by CPU time, on a copy of the sources in which every request wastes half a millisecond."""
    shutil.copytree(ROOT / "src" / "holdwire", tmp_path / "holdwire", ignore=shutil.ignore_patterns("__pycache__"))
    slowed = tmp_path / "holdwire" / "http" / "exchange.py"
    code = slowed.read_text()
    line = "        encode_head(request)\n"
    assert code.count(line) == 1
    slowed.write_text(code.replace(line, f"{line}        sum(range(20_000))\n"))
    uncovered = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.guard", "--cpu"],
        cwd=ROOT,
        env={**uncovered, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )
    if "NOT COMPARED" in done.stdout:
        pytest.skip("nothing was agreed on for this version of Python")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^GET .*TOO SLOW$", done.stdout, re.MULTILINE)
