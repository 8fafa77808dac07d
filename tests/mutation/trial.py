"""``Trial``: one mutant against its tests, in a process of its own.

Theory of operation: the parent has imported what the tests need, except holdwire and the tests. A forked child puts a
finder in front of all others that gives the mutated module its source, then runs pytest in itself, until the first
failure. A fork costs a tenth of what a new interpreter does, which is what makes thousands of mutants affordable.

Not responsible for finding mutants (``mutants``) or for choosing tests (``targets``).
"""

from __future__ import annotations

import contextlib
import enum
import gc
import importlib.abc
import importlib.machinery
import os
import pkgutil
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import _pytest
import pytest
from hypothesis import Phase, settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["POLL", "ROOT", "SOURCES", "Result", "Trial", "begin", "prepare"]

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ROOT / "src" / "holdwire"
_MEMORY: Final = 4 << 30
"""Bytes that a mutant may take: some never stop growing a list."""
_SURVIVED: Final = 0
_EXAMPLES: Final = 100
_PLUGINS: Final = ("anyio.pytest_plugin", "_hypothesis_pytestplugin", "pytest_timeout")
_LIBRARIES: Final = (
    *("anyio._backends._asyncio", "cryptography.x509", "h2.connection", "hpack", "httpcore", "httptools", "httpx"),
    *("hypothesis.strategies", "opentelemetry.trace", "tenacity", "trio", "trustme", "unittest.mock"),
)
"""Much of what tests and holdwire import takes longer than a test."""
POLL: Final = 0.005
"""Seconds between two looks at the children."""


class Result(enum.Enum):
    """What became of a mutant."""

    KILLED = "killed"
    TIMED_OUT = "killed by time-out"
    SURVIVED = "survived"


@final
class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module, whose source it was given."""

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._source = source
        self._name = ".".join(path.relative_to(SOURCES.parent).with_suffix("").parts)

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=str(self._path))
        spec.has_location = True
        return spec

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, str(self._path), "exec"), module.__dict__)


def prepare() -> None:
    """Import, once, what every child needs."""
    builtin = [f"_pytest.{info.name}" for info in pkgutil.iter_modules(_pytest.__path__)]
    for name in (*builtin, *_PLUGINS, *_LIBRARIES):
        importlib.import_module(name)
    assert "holdwire" not in sys.modules
    os.environ["CI"] = "1"  # the same examples each time
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    gc.freeze()


@dataclass(slots=True)
class Trial:
    """A child that runs."""

    pid: int
    deadline: float

    def poll(self) -> Result | None:
        """What became of it; None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _SURVIVED:
                return Result.SURVIVED
            return Result.KILLED
        if time.monotonic() > self.deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            return Result.TIMED_OUT
        return None

    def wait(self) -> Result:
        """What became of it, once it is over."""
        while (result := self.poll()) is None:
            time.sleep(POLL)
        return result


def begin(path: Path, source: str, tests: Sequence[str], *, seconds: float) -> Trial:
    """Let a child run ``tests`` with ``source`` in place of the module at ``path``."""
    pid = os.fork()
    if not pid:
        code = 3
        try:
            os.setpgid(0, 0)
            code = _child(path, source, tests)
        finally:
            os._exit(code)
    with contextlib.suppress(OSError):  # the child does it too: whoever comes first
        os.setpgid(pid, pid)
    return Trial(pid, time.monotonic() + seconds)


def _child(path: Path, source: str, tests: Sequence[str]) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    out = os.open(os.environ.get("MUTATION_OUTPUT", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.meta_path.insert(0, _Mutated(path, source))

    class Plugin:
        """Fewer examples, and no search for the smallest one: that a test fails is all that is asked."""

        def pytest_sessionstart(self) -> None:
            settings.register_profile("mutation", settings(), phases=(Phase.explicit, Phase.generate))
            settings.load_profile("mutation")

        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            for item in items:
                function = getattr(item, "function", None)
                own = getattr(function, "_hypothesis_internal_use_settings", None)
                if own is not None:
                    fewer = settings(own, max_examples=min(own.max_examples, _EXAMPLES))
                    setattr(function, "_hypothesis_internal_use_settings", fewer)  # noqa: B010 - hypothesis has no other way

    arguments = ["-x", "-q", "--tb=line", "--no-header", "-p", "no:cacheprovider", "-k", "not trio and not uvloop"]
    arguments += [part for name in _PLUGINS for part in ("-p", name)]
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # what was imported before holds no test
    files = [str(ROOT / "tests" / f"{name}.py") for name in tests]
    return int(pytest.main([f"--rootdir={ROOT}", *arguments, *files], plugins=[Plugin()]))
