"""What pages say of the code is what the code says; the rest of a reference is complete."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import holdwire
from docs.tools.generate import FROM_RUNS, PICTURES, REGIONS, ROOT, demo_rows, pages, render
from docs.tools.reasons import ATTRIBUTES
from holdwire.policy.kind import Confidence, FaultSide
from holdwire.policy.phase import Delivery, Sent
from holdwire.testing.scenarios import SCENARIOS

if TYPE_CHECKING:
    import enum
    from pathlib import Path

REGENERATE = "run python -m docs.tools.generate, and look at what has changed"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_generated_parts_are_what_the_code_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == render(text), REGENERATE


@pytest.mark.parametrize(
    ("attribute", "values"),
    [
        ("holdwire.cause.confidence", Confidence),
        ("holdwire.fault_side", FaultSide),
        ("holdwire.request.delivery", Delivery),
        ("holdwire.request.sent", Sent),
    ],
)
def test_an_attribute_with_a_closed_set_of_values_is_told_with_all_of_them(
    attribute: str, values: type[enum.StrEnum]
) -> None:
    assert re.findall("`(.*?)`", ATTRIBUTES[attribute]) == list(values)


def test_every_name_that_telemetry_writes_is_told() -> None:
    page = (ROOT / "docs" / "reference" / "telemetry.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src/holdwire/telemetry").glob("*.py")]
    written = re.compile(r'"((?:holdwire|http|network|dns|server|error|tls)\.[a-z_.]+)"')
    names = {name for source in sources for name in written.findall(source)}
    assert len(names) > 50
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_every_generated_part_is_shown_once() -> None:
    shown = [name for page in pages() for name in re.findall(r"<!-- begin ([a-z-]+)", page.read_text(encoding="utf-8"))]
    assert sorted(shown) == sorted([*REGIONS, *FROM_RUNS])


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_pictures_show_the_imports_and_the_retry_table_of_the_code(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PICTURES[path](), REGENERATE


def test_the_demo_in_the_readme_has_the_scenarios_of_the_demo() -> None:
    table = (
        (ROOT / "README.md").read_text(encoding="utf-8").partition("<!-- begin demo")[2].partition("<!-- end demo")[0]
    )
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    assert [row[0].removeprefix("| ").partition("<br>")[0] for row in rows] == [one.name for one in SCENARIOS]
    for row in rows:
        assert row[2].startswith("✓"), "holdwire is right in every row, or the demo must be looked at"
        assert re.match(r"[✓✗] .*(never executed|executed once|executed twice)", row[1])


def test_a_result_of_the_demo_becomes_a_row() -> None:
    got = {"got": "ReadError", "message": "", "executions": 1, "right": False}
    document = {
        "right": {"httpx": 0, "holdwire": 1},
        "results": [
            {
                "name": "resets",
                "request": "GET",
                "httpx": got,
                "holdwire": got | {"got": "200", "message": "OK", "executions": 2, "right": True},
            }
        ],
    }
    assert demo_rows(document).splitlines()[2] == (
        "| resets<br>GET | ✗ ReadError `('')`, executed once | ✓ 200, executed twice |"
    )


def test_the_reference_has_every_public_name() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/reference/api").glob("*.md"))
    for name in holdwire.__all__:
        assert re.search(rf"auto\w+:: (?:[\w.]*\.)?{name}(?![\w])", text) or f"sessions.{name}" in text, name
