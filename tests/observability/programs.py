"""Phoenix and Prometheus for the tests: started on loopback in a temporary folder, ended by their process ids."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

PHOENIX: Final = "HOLDWIRE_PHOENIX"
"""The environment variable with the path of the program ``phoenix``; ``nox -s observability`` sets it."""
_PATIENCE: Final = 120.0


def until(look: Callable[[], Any], *, patience: float = _PATIENCE) -> Any:
    """Ask again and again until the answer is true: another program needs its time."""
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if found := look():
                return found
        if time.monotonic() > deadline:
            pytest.fail(f"nothing was found within {patience} s: {look}")
        time.sleep(0.1)


@contextlib.contextmanager
def running(command: list[str], folder: Path, environment: Mapping[str, str]) -> Generator[None]:
    """A program in a session of its own, ended with all that it started."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


class Phoenix:
    """A trace store with OTLP in and REST out."""

    def __init__(self, url: str) -> None:
        self.url = url

    def spans(self) -> list[dict[str, Any]]:
        """Every span that it has."""
        answer = httpx.get(f"{self.url}/v1/projects/default/spans", params={"limit": 1000}, timeout=10)
        if answer.status_code == 404:  # no project before the first span
            return []
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]
        return found


@contextlib.contextmanager
def phoenix(folder: Path) -> Generator[Phoenix]:
    program = os.environ.get(PHOENIX)
    if not program:
        pytest.skip(f"Phoenix is not installed here: run nox -s observability, or set {PHOENIX}")
    port, grpc = free_port(), free_port()
    environment = {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    made = Phoenix(f"http://127.0.0.1:{port}")
    with running([program, "serve"], folder, environment):
        until(lambda: httpx.get(f"{made.url}/v1/projects", timeout=5).is_success)
        yield made


class Prometheus:
    """Scrapes one target and evaluates rules."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=5)
        found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return found

    def alerts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{self.url}/api/v1/alerts", timeout=5).json()["data"]["alerts"]
        return found


@contextlib.contextmanager
def prometheus(folder: Path, *, target: int, rules: str) -> Generator[Prometheus]:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed: apt-get install prometheus")
    (folder / "rules.yml").write_text(rules)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        "rule_files: [rules.yml]\n"
        f"scrape_configs: [{{job_name: test, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
    )
    port = free_port()
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    made = Prometheus(f"http://127.0.0.1:{port}")
    with running(command, folder, {}):
        until(lambda: httpx.get(f"{made.url}/-/ready", timeout=5).is_success)
        yield made
