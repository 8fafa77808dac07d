"""What a second run of a suite runs after the first one failed or was ended midway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
from pathlib import Path
from tests.journal import Journal

def pytest_configure(config):
    config.pluginmanager.register(Journal(Path("journal")))
"""
SUITE = """
import os
import pathlib
import pytest

marks = [pathlib.Path(name) for name in ("failed", "ended", "left")]

@pytest.fixture
def leftover():
    yield
    if not marks[2].exists():
        marks[2].touch()
        raise ValueError

@pytest.mark.parametrize("name", ["a", "b"])
def test_well(name):
    pass

def test_skipped():
    pytest.skip()

def test_that_leaves_something(leftover):
    pass

def test_that_failed():
    if not marks[0].exists():
        marks[0].touch()
        raise ValueError

def test_that_hung():
    if not marks[1].exists():
        marks[1].touch()
        os._exit(1)

def test_not_reached():
    pass
"""


def test_what_failed_or_hung_or_was_not_reached_is_run_again_and_nothing_else(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(SUITE)
    assert pytester.runpytest_subprocess().ret == 1
    again = pytester.runpytest_subprocess("-v")
    again.assert_outcomes(passed=4, deselected=3)
    again.stdout.fnmatch_lines(
        ["*leaves_something PASSED*", "*failed PASSED*", "*hung PASSED*", "*not_reached PASSED*"]
    )
