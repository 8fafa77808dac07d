"""What the project promises about its own metadata."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


OF_THE_USER = {"_typeshed", "httpcore", "httpcore2", "pytest", "redis", "trio", "trustme", "websockets"}
"""Imported where users have them: the core of each httpx, an event loop, libraries to adapt to, a test runner."""


def named(requirements: list[str]) -> set[str]:
    """The names in requirements."""
    return {re.split(r"[<>=!\[; ]", wanted)[0] for wanted in requirements}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_lock_names_only_the_public_index() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    text = (ROOT / "uv.lock").read_text()
    hosts = set(re.findall(r"[a-z+]+://[^/\"]*", text))

    assert hosts == {"https://pypi.org", "https://files.pythonhosted.org"}
    sources = [package["source"] for package in lock["package"]]
    assert {key for source in sources for key in source} == {"registry", "editable"}
    assert [source["editable"] for source in sources if "editable" in source] == ["."]


def test_package_is_marked_as_typed() -> None:
    assert (ROOT / "src/holdwire/py.typed").is_file()


def test_command_is_registered() -> None:
    (command,) = entry_points(group="console_scripts", name="holdwire")

    assert command.value == "holdwire.cli:main"


def test_lowest_python_is_the_same_everywhere(project: dict[str, Any]) -> None:
    lowest = project["project"]["requires-python"].removeprefix(">=")

    assert metadata("holdwire")["Requires-Python"] == f">={lowest}"
    assert project["tool"]["pyright"]["pythonVersion"] == lowest
    assert f'PYTHONS: Final = ("{lowest}"' in (ROOT / "noxfile.py").read_text()


def test_core_needs_no_sdk_and_no_second_http_library(project: dict[str, Any]) -> None:
    names = named(project["project"]["dependencies"])

    assert names == {"anyio", "httptools", "httpx", "idna", "opentelemetry-api", "tenacity"}


def test_what_is_imported_is_named_and_not_left_to_come_with_something_else(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"].values()
    known = named([*project["project"]["dependencies"], *(wanted for extra in extras for wanted in extra)])
    known = {name.replace("opentelemetry-api", "opentelemetry") for name in known} | OF_THE_USER | {"holdwire"}
    imported = {
        name.partition(".")[0]
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }

    assert imported - sys.stdlib_module_names - known == set()


def test_every_changelog_fragment_has_a_known_kind_and_ends_as_a_sentence(project: dict[str, Any]) -> None:
    kinds = {kind["directory"] for kind in project["tool"]["towncrier"]["type"]}

    for fragment in (ROOT / "changelog.d").glob("*.md"):
        assert re.fullmatch(rf"\+[a-z0-9-]+\.({'|'.join(sorted(kinds))})\.md", fragment.name), fragment.name
        assert fragment.read_text().strip().endswith("."), fragment.name


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench", "clean", "help"])
def test_make_help_lists_every_target(target: str) -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert f"make {target} " in listed
