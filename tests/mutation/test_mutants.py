"""What counts as a mutant, and that the page explains only mutants that there are."""

from __future__ import annotations

from textwrap import dedent

import pytest

from .__main__ import mutants_in
from .explained import explanations
from .mutants import mutants_of
from .targets import TARGETS
from .trial import ROOT, SOURCES

MEMBERS = {"Kind": ["A", "B", "C"]}


def lines(source: str) -> list[str]:
    return [mutant.becomes for mutant in mutants_of("x.py", dedent(source), MEMBERS)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b <= c", ["a <= b <= c", "a < b < c"]),
        ("a is not b", ["a is b"]),
        ("(a) not in (b)", ["(a) in (b)"]),
        ("a and b and c", ["a or b and c", "a and b or c"]),
        ("a + b // c", ["a + b * c", "a - b // c"]),
        ("not a", ["(a)"]),
        ("x = 3", ["x = 4"]),
        ("x = 0.5", ["x = 1.0"]),
        ("x = True", ["x = False"]),
        ("x = 'word'", ["x = 'wordX'"]),
        ("x = 'words of a message'", []),
        ("x = f'{y}'", []),
        ("check_it('Owner', 'name', 1)", ["without check_it('Owner', 'name', 1)", "check_it('Owner', 'name', 2)"]),
        ("x: int", []),
        ("x = Kind.C", ["x = Kind.A"]),
        ("x = Other.C", []),
        ("min(a, b)", ["without min(a, b)", "max(a, b)"]),
        ("zip(a, b, strict=True)", ["without zip(a, b, strict=True)"]),
        ("x = {a: b, c: d}", ["x = { c: d}", "x = {a: b, }"]),
        ("x = {a, b}", ["x = { b}", "x = {a, }"]),
        ("x = {\n    a,\n    b,\n}", ["without a,", "without b,"]),
        ("x = (f(), g())", ["x = ( g())", "x = (f(), )"]),
        ("x = (a, b)", []),
        ("if a:\n    raise b", ["if not (a):", "without raise b"]),
        ("while a:\n    continue", ["while not (a):", "break"]),
        ("x = a if b else c", ["x = a if not (b) else c"]),
        ("x.y = a", ["without x.y = a"]),
        ("x += a", ["without x += a"]),
        ("def f(a: int = 1, *, b=2): 'W'", ["def f(a: int = 2, *, b=2): 'W'", "def f(a: int = 1, *, b=3): 'W'"]),
        ("class X(enum.Enum):\n    A = 1", []),
        ("class X(enum.StrEnum):\n    A = 'a'", ["A = 'aX'"]),
        ("__slots__ = ('a',)\nimport b\nassert c < d", []),
        ("if TYPE_CHECKING:\n    x = 1", []),
    ],
)  # fmt: skip
def test_each_small_change_of_a_module_is_found(source: str, expected: list[str]) -> None:
    assert sorted(lines(source)) == sorted(expected)


def test_a_mutant_is_the_module_with_one_change() -> None:
    source = "\u00fc = 1\ny = x < 2\n"
    (less,) = (one for one in mutants_of("x.py", source, {}) if "<=" in one.becomes)
    assert less.apply(source) == "\u00fc = 1\ny = x <= 2\n"
    assert less.line == 2


@pytest.mark.parametrize("module", TARGETS)
def test_mutants_are_programs(module: str) -> None:
    source = (SOURCES / module).read_text(encoding="utf-8")
    for mutant in mutants_in(module)[::20]:
        compile(mutant.apply(source), module, "exec", dont_inherit=True)
    assert all((ROOT / "tests" / f"{test}.py").is_file() for test in TARGETS[module])


def test_all_decisions_are_tried() -> None:
    there = {f"policy/{path.name}" for path in (SOURCES / "policy").glob("*.py")} - {"policy/__init__.py"}
    assert there | {"tls/engine.py"} == set(TARGETS)


def test_the_page_explains_no_mutant_that_there_is_not() -> None:
    there = {(module, mutant.becomes) for module in TARGETS for mutant in mutants_in(module)}
    assert set(explanations()) <= there
