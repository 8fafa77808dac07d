"""``--journal FILE``: a run of the tests that is taken up where an earlier one broke off or failed.

Every test that ends well is noted in the file at once, and left out by the next run that is given the same file: it
runs what failed, what hung (a hang ends the process) and what was never reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

__all__ = ["Journal"]


class Journal:
    """Notes in ``path`` which tests ended well, a line each, and leaves out those that it names already."""

    def __init__(self, path: Path) -> None:
        self._done = set(path.read_text().splitlines()) if path.exists() else set[str]()
        self._file = path.open("a", buffering=1)
        self._failed: set[str] = set()

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        done = [item for item in items if item.nodeid in self._done]
        if done:
            config.hook.pytest_deselected(items=done)
            items[:] = [item for item in items if item.nodeid not in self._done]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if nodeid not in self._failed:
            self._file.write(f"{nodeid}\n")

    def pytest_unconfigure(self) -> None:
        self._file.close()
