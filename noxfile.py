"""Every check and every task of the project, each in an environment of its own made from ``uv.lock``.

``make test`` runs the default sessions. Not responsible for finding a Python for nox itself (the Makefile is) nor for
installing servers (``.ci/run`` does).
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Final

import nox
import nox.command
import nox.project

PYTHONS: Final = ("3.11", "3.12", "3.13")
EXTRAS: Final = ("cli", "http2", "httpx2", "socks")
PHOENIX: Final = "arize-phoenix==20.26.1"
INSTALL_SECONDS: Final = 180
OPTIONAL: Final = (
    *("cryptography", "h2", "hpack", "httpcore2", "httpx2", "psutil", "pytest", "redis", "rich", "socksio", "trio"),
    "websockets",
)

HTTPX: Final = "httpx-0.28.1"
"""Whose tests the session ``downstream`` runs, with these, of the time when they were written."""
HTTPX_TESTS_NEED: Final = (
    "httpx[brotli,cli,http2,socks,zstd]==0.28.1",
    "chardet==5.2.0",
    "click<8.2",
    "cryptography",
    "pytest==8.3.4",
    "pytest-timeout",
    "trio",
    "trustme",
    "uvicorn==0.32.1",
)

# Run with the names of libraries that may be missing: anything else that cannot be imported is an error.
IMPORT_PUBLIC_MODULES: Final = """
import importlib, pkgutil, sys
import holdwire
def names(package):
    yield package.__name__
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not info.name.rpartition(".")[2].startswith("_"):
            yield from names(importlib.import_module(info.name)) if info.ispkg else [info.name]
for name in names(holdwire):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in sys.argv[1:]:
            raise
        print(f"{name}: needs {error.name}")
print("imported from", holdwire.__path__[0])
"""

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = False  # the session `interpreters` reports them
nox.options.reuse_venv = "yes"

# uv trusts what the machine trusts, and never fetches an interpreter.
os.environ.setdefault("UV_SYSTEM_CERTS", "true")
os.environ.setdefault("UV_PYTHON_DOWNLOADS", "never")


@functools.cache
def interpreter(version: str) -> str | None:
    """The path of a working CPython ``version``, from PATH or from pyenv, or None. A pyenv shim counts if it runs."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for candidate in (shutil.which(f"python{version}"), *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))):
        if candidate is None:
            continue
        probe = "import sys, ssl, ctypes; print('%d.%d' % sys.version_info[:2], sys.executable)"
        run = subprocess.run([candidate, "-I", "-c", probe], capture_output=True, text=True, check=False)  # noqa: S603
        if run.returncode == 0 and run.stdout.startswith(f"{version} "):
            return run.stdout.split(maxsplit=1)[1].strip()
    return None


PRESENT: Final = tuple(version for version in PYTHONS if interpreter(version))
for _version in PRESENT:  # nox and uv look in PATH: let them find what was found
    _folder = str(Path(interpreter(_version) or "").parent)
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], _folder])


def install(session: nox.Session, *command: str, **env: str) -> None:
    """Run ``command``, which fetches packages; twice more if it fails: a mirror may be slow for a moment."""
    for pause in (5, 20, None):
        try:
            session.run_install(*command, env=env)
        except nox.command.CommandFailed:
            if pause is None:
                raise
            session.warn(f"that failed, see above: once more in {pause} s")
            time.sleep(pause)
        else:
            return


def sync(session: nox.Session, *groups: str, extras: tuple[str, ...] = ()) -> None:
    """Install the project, editable, with dependency ``groups`` and ``extras``: from the lock, or from the ranges."""
    if session.venv_backend == "uv":
        wanted = [f"--group={group}" for group in groups] + [f"--extra={extra}" for extra in extras]
        folder = session.virtualenv.location
        command = ("uv", "sync", "--frozen", "--quiet", "--no-default-groups", f"--python={folder}", *wanted)
        install(session, *command, UV_PROJECT_ENVIRONMENT=folder)
        return
    project = nox.project.load_toml("pyproject.toml")
    session.install("-e", f".[{','.join(extras)}]" if extras else ".", *nox.project.dependency_groups(project, *groups))


def run_each(session: nox.Session, *commands: tuple[str, ...]) -> None:
    """Run every one of ``commands``, then fail if one of them did: the second tool's findings are wanted too."""
    failed: list[str] = []
    for command in commands:
        try:
            session.run(*command)
        except nox.command.CommandFailed:
            failed.append(" ".join(command))
    if failed:
        session.error(f"failed: {', '.join(failed)}")


def run_tests(session: nox.Session, marked: str, *, covered: bool) -> None:
    """Run the tests ``marked`` so. A whole run that fails is taken up once where it broke off, and that is told.

    Of tens of thousands of tests against real clocks and buffers, on a machine that does three things at once, one may
    meet a moment that it does not allow for. What is broken fails twice.
    """
    sync(session, "test")
    command = (*(("coverage", "run", "-m") if covered else ()), "pytest", "-m", marked)
    if session.posargs:
        session.run(*command, *session.posargs)
        return
    journal = Path(session.cache_dir, f"{session.name}.journal").absolute()
    journal.unlink(missing_ok=True)
    command = (*command, f"--journal={journal}")
    try:
        session.run(*command)
    except nox.command.CommandFailed:
        session.warn("FAILED, see above: what failed, hung or was not reached is run now, for the second and last time")
        session.run(*command)
        session.warn("NOT STABLE: tests failed or hung (see above), and passed when they were run again")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, format, and the layers of the architecture."""
    sync(session, "lint")
    run_each(session, ("ruff", "check"), ("ruff", "format", "--check"), ("lint-imports", "--no-logo"))


@nox.session
def typing(session: nox.Session) -> None:
    """Strict mypy and strict pyright, over sources and tests."""
    sync(session, "typing")
    run_each(session, ("mypy",), ("pyright",))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The test suite without its slow tests; under coverage on the first interpreter. Arguments go to pytest.

    One after another within a session: what looks at real clocks wants a core to itself.
    """
    run_tests(session, "not slow", covered=session.python == PRESENT[0])


@nox.session(python=PRESENT[0] if PRESENT else None)
def slow(session: nox.Session) -> None:
    """The slow tests, under coverage, on the first interpreter only. Arguments go to pytest."""
    run_tests(session, "slow", covered=True)


@nox.session
def coverage(session: nox.Session) -> None:
    """The report over what ran on the first interpreter; fails under the agreed share."""
    sync(session, "test")
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session(reuse_venv=False)
def wheel(session: nox.Session) -> None:
    """Build sdist and wheel; with nothing but the wheel, then with its extras, import every public module."""
    with tempfile.TemporaryDirectory() as folder:
        if session.venv_backend == "uv":
            install(session, "uv", "build", "--quiet", f"--out-dir={folder}")
        else:
            session.run_install("python", "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", ".")
        built = next(Path(folder).glob("*.whl"))
        session.install(str(built))
        session.chdir(folder)  # nothing of the source tree is within reach
        session.log("Importing every public module without extras, then with them")
        session.run("python", "-I", "-c", IMPORT_PUBLIC_MODULES, *OPTIONAL, log=False)
        session.run("holdwire", "--help", silent=True)
        session.install(f"{built}[{','.join(EXTRAS)}]")
        session.run("python", "-I", "-c", IMPORT_PUBLIC_MODULES, "pytest", "redis", "trio", "websockets", log=False)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, built strictly and offline; its links and spelling. Its examples run in tests/docs."""
    sync(session, "docs")
    built = "build/docs"
    run_each(
        session,
        ("sphinx-build", "-W", "-n", "-q", "--keep-going", "--fresh-env", "docs", built),
        ("python", "-m", "docs.tools.check", built),
        ("codespell", "README.md", "CHANGELOG.md", "docs", "changelog.d", "src", "tests", "benchmarks", "noxfile.py"),
    )


@nox.session(python=False)
def interpreters(session: nox.Session) -> None:
    """Say which interpreters the tests ran on, and loudly which were missing."""
    for version in PYTHONS:
        if path := interpreter(version):
            session.log(f"Python {version}: {path}")
        else:
            session.warn(f"Python {version}: NOT FOUND in PATH or ~/.pyenv/versions, so NOTHING WAS TESTED ON IT")
    if not PRESENT:
        session.error(f"no test ran: install one of Python {', '.join(PYTHONS)}")


@nox.session(default=False, reuse_venv=False)
def verifytypes(session: nox.Session) -> None:
    """The share of public names whose type every type checker sees alike; not yet part of the default run."""
    session.install(f".[{','.join(EXTRAS)}]", "pyright[nodejs]", "pytest", "trio")
    session.run("pyright", "--verifytypes", "holdwire", "--ignoreexternal")


@nox.session(default=False)
def observability(session: nox.Session) -> None:
    """Every fault of the demo, found again in Phoenix and Prometheus; skipped aloud where there is no Phoenix."""
    phoenix = Path(session.cache_dir, "phoenix", "bin", "phoenix").absolute()
    if not phoenix.exists() and not _install_phoenix(session, phoenix.parents[1]):
        session.skip("NOT RUN: Phoenix could not be installed, so nothing was tried in a real back end")
    sync(session, "observability")
    session.run(
        "python", "-m", "pytest", "tests/observability", *session.posargs, env={"HOLDWIRE_PHOENIX": str(phoenix)}
    )


def _install_phoenix(session: nox.Session, folder: Path) -> bool:
    """Phoenix into an environment of its own, for it wants other versions than we do; whether that worked in time."""
    newest = interpreter(PRESENT[-1])
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if newest is None or uv is None:
        return False
    session.log(f"Installing Phoenix into {folder}")
    for command in (
        [uv, "venv", "--quiet", "--clear", f"--python={newest}", str(folder)],
        [uv, "pip", "install", "--quiet", f"--python={folder / 'bin' / 'python'}", PHOENIX],
    ):
        try:
            subprocess.run(command, check=True, timeout=INSTALL_SECONDS)  # noqa: S603
        except (OSError, subprocess.SubprocessError) as error:
            session.warn(f"Phoenix: {error}")
            shutil.rmtree(folder, ignore_errors=True)
            return False
    return True


@nox.session(default=False)
def downstream(session: nox.Session) -> None:
    """The tests of httpx itself with holdwire swapped in, then with it switched off; arguments go to pytest.

    The tests come out of httpx's source distribution, fetched when they are wanted; what deviates is listed and
    explained in tests/downstream/swap.py.
    """
    sync(session, extras=("http2", "socks"))
    session.install(*HTTPX_TESTS_NEED)
    folder = Path(session.create_tmp())
    distribution = folder / f"{HTTPX}.tar.gz"
    if not distribution.exists():
        session.install("pip", "hatchling", "hatch-fancy-pypi-readme")
        name, version = HTTPX.split("-")
        only_source = ("--no-deps", "--no-build-isolation", "--no-binary=:all:")
        session.run("python", "-m", "pip", "download", "-q", *only_source, f"--dest={folder}", f"{name}=={version}")
    shutil.rmtree(folder / HTTPX, ignore_errors=True)
    with tarfile.open(distribution) as archive:
        archive.extractall(folder, filter="data")
    shutil.rmtree(folder / HTTPX / "httpx")  # the installed one is tested
    plugins = str(Path("tests/downstream").resolve())
    session.chdir(folder / HTTPX)
    command = ("python", "-m", "pytest", "-p", "swap", "-q", "-m", "not network", "--timeout=60", *session.posargs)
    ignored = ("-W", "ignore::pytest.PytestUnraisableExceptionWarning")  # one of httpx's own on trio
    session.run(*command, *ignored, env={"PYTHONPATH": plugins})
    session.run(*command, *ignored, env={"PYTHONPATH": plugins, "HOLDWIRE": "off"})


@nox.session(default=False)
def sdks(session: nox.Session) -> None:
    """The openai, anthropic and mcp SDKs on holdwire, against a local server; arguments go to pytest."""
    sync(session, "sdk")
    session.run("python", "-m", "pytest", "tests/integration/test_sdks.py", *session.posargs)


@nox.session(default=False)
def campaign(session: nox.Session) -> None:
    """Simulated histories until a million requests were made; ``--requests N --seconds S --seed N`` change that.

    With ``soak`` as the first argument: real traffic through misbehaving proxies for an hour, or ``--seconds S``.
    """
    sync(session, "test")
    module, arguments = "tests.campaign", session.posargs
    if arguments[:1] == ["soak"]:
        module, arguments = "tests.campaign.soak", arguments[1:]
    session.run("python", "-m", module, *arguments)


@nox.session(default=False)
def mutation(session: nox.Session) -> None:
    """Every small change of policy/ and tls/engine.py must be noticed by the tests, or be explained in the docs.

    Arguments are modules, such as ``policy/retry.py``, and options of ``python -m tests.mutation``.
    """
    sync(session, "test")
    session.run("python", "-m", "tests.mutation", *session.posargs)


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """``holdwire demo``: the same bad day through plain httpx and through holdwire. Arguments go to the command."""
    sync(session, extras=("cli",))
    session.run("holdwire", "demo", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Every client under every load in one run, for docs/performance.md; arguments go to benchmarks/compare.py.

    A first argument that names another module of benchmarks/ (``micro``, ``memory``, ``pcap``) runs that instead.
    """
    sync(session, "bench")
    name, *arguments = session.posargs or ["compare", "--docs"]
    if name.startswith("-"):
        name, arguments = "compare", [name, *arguments]
    session.run("python", "-m", f"benchmarks.{name}", *arguments)


@nox.session(python=PRESENT[0] if PRESENT else None)
def guard(session: nox.Session) -> None:
    """A small request must not cost more than was agreed on, in units of a floor measured in the same run."""
    sync(session, "test")
    session.run("python", "-m", "benchmarks.guard", *session.posargs)
