"""Writes what the pages say of the code from the code: the parts between ``<!-- begin X -->`` and ``<!-- end X -->``.

Run ``python -m docs.tools.generate`` after a change; a test keeps the pages equal to what this gives. The results of
the demo differ in numbers from run to run: ``--demo`` plays it and writes its table, the test looks at its rows.
Not responsible for the words that no code holds (``reasons``) or for the pictures (``diagram``).
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import holdwire
from holdwire.cli.commands import COMMANDS
from holdwire.doctor.conclude import ADVICE
from holdwire.policy import profiles, taxonomy
from holdwire.policy.kind import Action, Category, Confidence, FaultSide, Kind
from holdwire.policy.phase import Delivery, Phase
from holdwire.policy.retry_table import REASONS, TABLE
from holdwire.policy.verdict import RetryAction
from holdwire.policy.words import WORDS, confidence_in
from holdwire.sessions.sessions import sessions as sessions_of
from holdwire.telemetry import instrument
from holdwire.telemetry._attributes import FAILURE_ATTRIBUTES
from holdwire.telemetry.metrics import METRICS
from holdwire.telemetry.words import FLAGS, WHAT, WHEN
from holdwire.testing.faults import ACTIONS, CALLS, Point
from holdwire.transports._checks import Unset
from tests.downstream.swap import DEVIATIONS

from . import diagram
from .reasons import ATTRIBUTES, MEMBERS, PROFILE_SOURCES, SETTINGS, SPANS

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["FROM_RUNS", "PICTURES", "REGIONS", "ROOT", "demo_rows", "pages", "render"]

ROOT: Final = Path(__file__).parents[2]
PICTURES: Final = {
    ROOT / "docs/_static/layers.svg": diagram.draw,
    ROOT / "docs/_static/verdicts.svg": diagram.draw_verdicts,
}
_REGION: Final = re.compile(r"(<!-- begin ([a-z-]+)(?: [^>]*)?-->\n).*?(<!-- end \2 -->)", re.DOTALL)
_NEVER: Final = 1 << 29
_MANY: Final = 5
_TARGET: Final = {"url", "host", "port"}
NOTHING: Final = "\N{EN DASH}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def code(value: object) -> str:
    """As code."""
    return f"`{value}`"


# --- settings ---


def settings(owner: str, defaults: Mapping[str, object]) -> str:
    """The table of one owner's settings."""
    reasons = SETTINGS[owner]
    if unknown := set(reasons) - set(defaults):
        raise LookupError(f"docs/tools/reasons.py: {owner} has no {', '.join(sorted(unknown))}")
    rows = [(code(name), _default(value), reasons[name]) for name, value in defaults.items() if name in reasons]
    return table(("Setting", "Default", "Why"), rows)


def _default(value: object) -> str:
    if value is inspect.Parameter.empty or value is dataclasses.MISSING:
        return "must be given"
    if isinstance(value, Unset):
        return "by profile or policy"
    if type(value).__module__.startswith("tenacity"):
        given = ", ".join(f"{name}={_number(part)}" for name, part in vars(value).items())
        return code(f"{type(value).__name__}({given})" if given else type(value).__name__.lstrip("_"))
    if dataclasses.is_dataclass(value):
        return code(f"{type(value).__name__}()")
    if not value and isinstance(value, frozenset | dict):
        return "none"
    return code(repr(value))


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) and value < _NEVER else "…"


def _of_fields(cls: type[Any]) -> str:
    defaults = {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(cls)
    }
    return settings(cls.__name__, _complete(cls.__name__, defaults))


def _of_call(owner: str, function: Callable[..., object]) -> str:
    """What may be left out, but for what is connected to."""
    parameters = inspect.signature(function).parameters.items()
    given = {name: one.default for name, one in parameters if one.default is not one.empty and name not in _TARGET}
    return settings(owner, _complete(owner, given))


def _complete(owner: str, defaults: Mapping[str, object]) -> Mapping[str, object]:
    if missing := set(defaults) - set(SETTINGS[owner]):
        raise LookupError(f"docs/tools/reasons.py: say why of {owner}: {', '.join(sorted(missing))}")
    return defaults


def _transport() -> str:
    """Only what ``AsyncHTTPTransport`` does not have: the rest is httpx's."""
    parameters = inspect.signature(holdwire.ResilientTransport).parameters
    own = {name: one.default for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY}
    return settings("ResilientTransport", _complete("ResilientTransport", own))


def _budget() -> str:
    parameters = inspect.signature(holdwire.RetryBudget).parameters
    return settings("RetryBudget", {name: one.default for name, one in parameters.items()})


# --- failures ---


def _members(cls: type[enum.Enum]) -> dict[str, str]:
    """The docstring behind each member of an enum."""
    source = inspect.getsource(cls)
    found = re.findall(r'^    ([A-Z0-9_]+) = [^\n]*\n(?:    """(.*?)""")?', source, re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()).replace("``", "`") for name, text in found}


def _enum(cls: type[enum.StrEnum], head: str) -> str:
    texts = _members(cls)
    rows = [(code(one.value), (texts[one.name] or MEMBERS[f"{cls.__name__}.{one.name}"]).rstrip(".")) for one in cls]
    return table((head, "What it means"), rows)


def _kinds() -> str:
    rows = [
        (
            f"[`{kind.value}`](#{kind.value.strip('_').lower().replace('_', '-')})",
            WHAT[kind],
            ", ".join(dict.fromkeys(flag for flag in FLAGS[kind] if flag)) or NOTHING,
            confidence_in(kind).value,
        )
        for kind in Kind
    ]
    return table(("`error.type`", "What happened", "Envoy says", "Words are"), rows)


def _phases() -> str:
    return table(("Phase", "When"), [(code(phase.value), WHEN[phase]) for phase in Phase])


def _doctor_causes() -> str:
    rows = ((code(name), words, str(step), advice) for name, (step, words, advice) in ADVICE.items())
    return table(("Cause", "In words", "Step", "What to do"), rows)


def _causes() -> str:
    """For each kind, what most likely caused it and what to do, most special first."""
    parts: list[str] = []
    for kind in Kind:
        words = dict.fromkeys((row.cause, row.remedy) for row in WORDS[kind])
        anchor = kind.value.strip("_").lower().replace("_", "-")
        parts += [f"({anchor})=\n\n### {code(kind.value)}\n\n", f"{WHAT[kind].capitalize()}.\n\n"]
        parts += [table(("Likely cause", "What to do"), words), "\n"]
    return "".join(parts).rstrip("\n") + "\n"


def _errnos() -> str:
    rows = [
        (code(name), "" if where is taxonomy.Where.ANYWHERE else where.name.lower(), *_meaning(one))
        for name, places in taxonomy.ERRNO_TABLE.items()
        for where, one in places.items()
    ]
    return table(("errno", "Only where", "Kind", "Category", "At most"), rows)


def _named(names: Mapping[str, taxonomy.Classification], head: str) -> str:
    return table((head, "Kind", "Category", "At most"), [(code(name), *_meaning(one)) for name, one in names.items()])


def _meaning(one: taxonomy.Classification) -> tuple[str, str, str]:
    return code(one.kind.value), code(one.category.value), code(one.action.value)


# --- retries ---


_DONE: Final = {
    RetryAction.RETRY_NOW: "again, at once",
    RetryAction.RETRY_BACKOFF: "again, after a pause",
    RetryAction.RETRY_OTHER_ADDRESS: "the next address",
    RetryAction.CONNECT_FIRST: "again, once a replacement stands",
    RetryAction.KEEP_WAITING: "waits on",
    RetryAction.SURFACE: "the error",
    RetryAction.DELIVER: "the response",
}


def _retry_table() -> str:
    rows: list[tuple[str, ...]] = []
    for number, row in TABLE.items():
        what = _DONE[row.first]
        if row.shots < _NEVER:
            what += f" ({'once' if row.shots == 1 else 'twice'}); then {_DONE[row.then]}"
        free = "always" if row.free > _NEVER else "the first" if row.free else NOTHING
        rows.append((str(number), code(row.reason), row.says, what, "yes" if row.proof else NOTHING, free))
    return table(("#", "Reason", "What happened", "What you get", "Proof", "Free"), rows)


def _reasons() -> str:
    rest = set(REASONS) - {row.reason for row in TABLE.values()}
    return table(
        ("Reason", "Why it was not sent again"), [(code(name), REASONS[name]) for name in REASONS if name in rest]
    )


# --- telemetry ---


def _attributes() -> str:
    in_metrics = {name for metric in METRICS for name in metric.attributes}
    if wrong := (FAILURE_ATTRIBUTES | in_metrics) ^ set(ATTRIBUTES):
        raise LookupError(f"docs/tools/reasons.py: attributes without words, or words without one: {sorted(wrong)}")
    marks = {(True, True): "both", (True, False): "failure span", (False, True): "metrics"}
    rows = [
        (code(name), marks[name in FAILURE_ATTRIBUTES, name in in_metrics], ATTRIBUTES[name])
        for name in sorted(ATTRIBUTES)
    ]
    return table(("Attribute", "On", "What it says"), rows)


def _metrics() -> str:
    """Without the attributes that all of them have."""
    common = {name for name in ATTRIBUTES if all(name in one.attributes for one in METRICS)}
    rows = [
        (
            code(one.name),
            one.instrument.value,
            one.unit.strip("{}"),
            one.says,
            ", ".join(code(name) for name in one.attributes if name not in common),
        )
        for one in METRICS
    ]
    return table(("Metric", "Instrument", "Unit", "What it counts", "Attributes"), rows)


def _spans() -> str:
    folder = ROOT / "src/holdwire/telemetry"
    source = "".join(path.read_text(encoding="utf-8") for path in (folder / "spans.py", folder / "words.py"))
    for name in SPANS:
        if name.partition("{")[0].strip() not in source:
            raise LookupError(f"docs/tools/reasons.py: no span is called {name!r}")
    return table(("Span", "When"), [(code(name), says) for name, says in SPANS.items()])


# --- command line ---


def _commands() -> str:
    parts: list[str] = []
    for command in COMMANDS:
        module = command.load()
        parser = argparse.ArgumentParser(prog=f"holdwire {command.name}")
        module.add_arguments(parser)
        parts.append(f"## holdwire {command.name}\n\n{command.summary[0].upper()}{command.summary[1:]}.\n\n")
        rows = [(_flags(one), _help(one)) for one in parser._actions if one.dest != "help"]  # noqa: SLF001 - no other way
        parts += [table(("Argument", "What it does"), rows), f"\n```text\n{module.EPILOG.strip()}\n```\n\n"]
    return "".join(parts).rstrip("\n") + "\n"


def _flags(action: argparse.Action) -> str:
    name = action.metavar or (action.dest if not action.option_strings else None)
    value = "" if action.nargs == 0 else (name or "|".join(map(str, action.choices or ())) or action.dest.upper())
    return code(" ".join(filter(None, (", ".join(action.option_strings), str(value)))))


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("%(default)s", str(action.default))


# --- faults ---


def _points() -> str:
    texts = _members(Point)
    rows = [(code(point.value), texts[point.name] or "The system call itself, by its number") for point in Point]
    return table(("Point", "When"), rows)


def _faults() -> str:
    rows: list[tuple[str, ...]] = []
    for action, rule in ACTIONS.items():
        calls = rule.points <= CALLS
        where = "system calls" if calls else "all" if len(rule.points) > _MANY else ", ".join(sorted(rule.points))
        rows.append((code(action.value), where, rule.value or NOTHING, rule.meaning))
    return table(("Action", "At", "Value", "What happens"), rows)


# --- profiles, compatibility ---


def _profiles() -> str:
    rows: list[tuple[str, ...]] = []
    for one in profiles._TABLE:  # noqa: SLF001 - aliases are not wanted
        keepalive = one.keepalive
        beat = f"{one.heartbeat.interval:g} s" if one.heartbeat else NOTHING
        rows.append(
            (
                code(one.name),
                _seconds(one.idle_limit),
                one.at_limit.value if one.at_limit else NOTHING,
                one.reset_by.value if one.reset_by else NOTHING,
                f"{keepalive.idle:g}/{keepalive.interval:g}/{keepalive.dead_after or 0:g}",
                beat if one.data_every is None else f"data each {one.data_every:g} s",
                _seconds(one.pool_idle),
                f"{keepalive.idle_death:g} s",
            )
        )
    head = (
        "Profile",
        "Idle limit",
        "At the limit",
        "Reset by",
        "Keepalive",
        "HTTP/2 heartbeat",
        "Pool idle",
        "Idle death",
    )
    return table(head, rows)


def _seconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,g}\N{NO-BREAK SPACE}s"


def _aliases() -> str:
    return table(("Name", "Is"), [(code(name), code(of)) for name, of in profiles._ALIASES.items()])  # noqa: SLF001


def _sources() -> str:
    names = [one.name for one in profiles._TABLE]  # noqa: SLF001
    if wrong := set(names) ^ set(PROFILE_SOURCES):
        raise LookupError(f"docs/tools/reasons.py: profiles without a source, or sources without one: {sorted(wrong)}")
    return table(("Profile", "Where the limit is from"), [(code(name), PROFILE_SOURCES[name]) for name in names])


def _deviations() -> str:
    by_reason: dict[str, list[str]] = {}
    for test, reason in DEVIATIONS.items():
        by_reason.setdefault(reason, []).append(test.partition("::")[2])
    rows = [(reason[0].upper() + reason[1:], ", ".join(map(code, tests))) for reason, tests in by_reason.items()]
    return table(("Why it fails", "Tests of httpx"), rows)


def _plot() -> str:
    """The plot of the benchmarks, where there is one."""
    if not (ROOT / "docs" / "performance.svg").exists():
        return "How that is measured, beside other clients: [Performance](docs/performance.md).\n"
    return (
        "![CPU of a small GET by client and concurrency](docs/performance.svg)\n\n"
        "How this is measured, and the rest: [Performance](docs/performance.md).\n"
    )


REGIONS: Final[dict[str, Callable[[], str]]] = {
    "transport": _transport,
    "request": lambda: settings("request", dict.fromkeys(SETTINGS["request"], None)),
    "retry-policy": lambda: _of_fields(holdwire.RetryPolicy),
    "retry-budget": _budget,
    "pool-policy": lambda: _of_fields(holdwire.PoolPolicy),
    "keepalive": lambda: _of_fields(holdwire.Keepalive),
    "heartbeat": lambda: _of_fields(holdwire.Heartbeat),
    "connect": lambda: _of_call("connect", holdwire.connect),
    "sessions": lambda: _of_call("sessions", sessions_of),
    "reconnect-policy": lambda: _of_fields(holdwire.ReconnectPolicy),
    "backoff": lambda: _of_fields(holdwire.Backoff),
    "sse": lambda: _of_call("sse", holdwire.sse),
    "instrument": lambda: _of_call("instrument", instrument),
    "set-testing": lambda: _of_call("set_testing", holdwire.set_testing),
    "kinds": _kinds,
    "categories": lambda: _enum(Category, "Category"),
    "phases": _phases,
    "actions": lambda: _enum(Action, "Action"),
    "sides": lambda: _enum(FaultSide, "Side"),
    "deliveries": lambda: _enum(Delivery, "Delivery"),
    "confidences": lambda: _enum(Confidence, "Confidence"),
    "causes": _causes,
    "doctor-causes": _doctor_causes,
    "errnos": _errnos,
    "names": lambda: _named(taxonomy.EAI_TABLE, "getaddrinfo says"),
    "tls-reasons": lambda: _named(taxonomy.TLS_TABLE, "OpenSSL's reason"),
    "alerts": lambda: _named(taxonomy.ALERT_TABLE, "Alert"),
    "retry-table": _retry_table,
    "retry-reasons": _reasons,
    "spans": _spans,
    "attributes": _attributes,
    "metrics": _metrics,
    "commands": _commands,
    "fault-points": _points,
    "faults": _faults,
    "profiles": _profiles,
    "profile-aliases": _aliases,
    "profile-sources": _sources,
    "deviations": _deviations,
}


FROM_RUNS: Final = frozenset({"demo", "plot"})
"""What comes from measurements, so that no test can make it again."""


def pages() -> list[Path]:
    """Every page of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def render(text: str, extra: Mapping[str, str] | None = None) -> str:
    """``text`` with each region as the code has it; one of ``FROM_RUNS`` only if ``extra`` has it.

    Raises:
        LookupError: A region is unknown, or something has no words.
    """
    made = dict(extra or {})

    def region(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        if name in FROM_RUNS and name not in made:
            return match.group()
        return f"{begin}\n{made[name] if name in made else REGIONS[name]()}\n{end}"

    return _REGION.sub(region, text)


# --- the demo ---


def demo_rows(document: Mapping[str, Any]) -> str:
    """The table of ``holdwire demo --json``."""
    rows = [
        (f"{one['name']}<br>{one['request']}", _outcome(one["httpx"]), _outcome(one["holdwire"]))
        for one in document["results"]
    ]
    right = document["right"]
    count = len(document["results"])
    return table(
        ("The server …", f"httpx: right in {right['httpx']} of {count}", f"holdwire: right in {right['holdwire']}"),
        rows,
    )


def _outcome(one: Mapping[str, Any]) -> str:
    times = {0: "never executed", 1: "executed once", 2: "executed twice"}[one["executions"]]
    empty = "" if one["message"] else " `('')`"
    return f"{'✓' if one['right'] else '✗'} {one['got']}{empty}, {times}"


def main() -> None:
    """Write the pages and the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m docs.tools.generate", description="Write what the pages say of the code."
    )
    parser.add_argument("--demo", action="store_true", help="play the demo and write its table too")
    extra = {"plot": _plot()}
    if parser.parse_args().demo:
        command = [sys.executable, "-m", "holdwire", "demo", "--json"]
        extra["demo"] = demo_rows(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = render(before, extra)
        if after != before:
            page.write_text(after, encoding="utf-8")
    for path, draw in PICTURES.items():
        path.write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
