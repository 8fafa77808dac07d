"""The layers of the architecture hold, every contract can fail, and ``import holdwire`` stays light."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import grimp
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "holdwire"
CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
HOMES = {
    "home-of-http-libraries": "transports",
    "home-of-tenacity": "retrying",
    "home-of-opentelemetry": "telemetry",
    "home-of-backends": "net",
}
# For each contract an import that breaks it: the contract, the module that gets it, the line, and what must be told.
VIOLATIONS = [
    pytest.param("layers", "policy/phase.py", "import holdwire.errors", "policy.phase -> holdwire.errors", id="upward"),
    pytest.param("layers", "http/__init__.py", "import holdwire.sessions", "http -> holdwire.sessions", id="siblings"),
    pytest.param("layers", "homeless.py", "import os", "homeless", id="a module without a place"),
    pytest.param("pure-policy", "policy/phase.py", "import time", "policy.phase -> time", id="a clock"),
    pytest.param("pure-policy", "policy/phase.py", "import socket", "policy.phase -> socket", id="a socket"),
    pytest.param("home-of-http-libraries", "http/__init__.py", "import httpx", "http -> httpx", id="http knows httpx"),
    pytest.param("home-of-http-libraries", "cli/__init__.py", "import httpx2", "cli -> httpx2", id="cli knows httpx2"),
    pytest.param("home-of-tenacity", "http/__init__.py", "import tenacity", "http -> tenacity", id="a second loop"),
    pytest.param(
        "home-of-opentelemetry", "net/__init__.py", "import opentelemetry.trace", "net -> opentelemetry", id="net spans"
    ),
    pytest.param("home-of-backends", "http/__init__.py", "import asyncio", "http -> asyncio", id="http knows asyncio"),
    pytest.param(
        "fault-kit", "transports/__init__.py", "import holdwire.testing", "transports -> holdwire.testing", id="faults"
    ),
]


def broken_contracts(folder: Path) -> tuple[set[str], str]:
    """The contracts that import-linter finds broken in ``folder``, and what it says."""
    command = str(Path(sysconfig.get_path("scripts")) / "lint-imports")
    arguments = [command, "--no-logo", "--no-cache", "--config", "pyproject.toml"]
    run = subprocess.run(
        arguments, cwd=folder, env={"PYTHONPATH": "src", "COLUMNS": "400"}, capture_output=True, text=True, check=False
    )
    broken = {contract["id"] for contract in CONTRACTS if f"{contract['name']} BROKEN" in run.stdout}
    assert (run.returncode == 0) == (not broken), run.stdout + run.stderr
    return broken, run.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources that a test may break."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(SOURCE, folder / "src" / "holdwire", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_contracts_hold(copy: Path) -> None:
    broken, told = broken_contracts(copy)

    assert not broken, told


@pytest.mark.parametrize(("contract", "module", "line", "expected"), VIOLATIONS)
def test_contract_fails_when_it_is_violated(copy: Path, contract: str, module: str, line: str, expected: str) -> None:
    path = copy / "src" / "holdwire" / module
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        broken, told = broken_contracts(copy)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)

    assert contract in broken
    assert f"holdwire.{expected}" in told


def test_every_contract_is_seen_to_fail() -> None:
    assert {contract["id"] for contract in CONTRACTS} == {parameters.values[0] for parameters in VIOLATIONS}


@pytest.mark.parametrize(("contract_id", "home"), HOMES.items())
def test_a_dependency_has_one_home_and_everything_else_is_watched(contract_id: str, home: str) -> None:
    (contract,) = (contract for contract in CONTRACTS if contract["id"] == contract_id)
    components = {path.stem for path in SOURCE.iterdir() if not path.name.startswith("_")} - {"py"}

    assert set(contract["source_modules"]) == {f"holdwire.{name}" for name in components - {home}}


def test_a_module_with_an_underscore_is_imported_by_its_own_folder_only() -> None:
    graph = grimp.build_graph("holdwire", cache_dir=None)
    strangers = [
        f"{importer} imports {module}"
        for module in graph.modules
        if module.rpartition(".")[2].startswith("_")
        for importer in graph.find_modules_that_directly_import(module)
        if not f"{importer}.".startswith(module.rpartition(".")[0] + ".")
    ]

    assert strangers == []


def test_importing_holdwire_loads_no_http_library_and_no_sdk() -> None:
    program = "import sys, holdwire; print(*sorted({name.partition('.')[0] for name in sys.modules}), *sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert "holdwire" in loaded
    unwanted = {"httpx", "httpcore", "httpx2", "httpcore2", "h11", "h2", "opentelemetry.sdk", "trio", "uvloop", "rich"}
    assert unwanted.isdisjoint(loaded)
