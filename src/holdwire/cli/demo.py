"""``holdwire demo``: the same bad day on the network, through plain httpx and through holdwire, side by side.

An embedded HTTPS server on loopback misbehaves in ten ways; each is met by a fresh client of either kind. Needs no
root, no network and no service. Not responsible for the ways (``testing.scenarios``).
"""

from __future__ import annotations

import contextlib
import logging
import textwrap
import time
from dataclasses import asdict, dataclass, replace
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Final

import anyio
import httpx

from ..events import FailureRecorded
from ..policy.retry import REASONS
from ..telemetry.words import decision, span_name
from ..testing.scenarios import SCENARIOS
from ..transports.httpx import ResilientTransport

if TYPE_CHECKING:
    import argparse
    import ssl
    from collections.abc import Callable, Iterable

    from ..events import Event
    from ..testing import ChaosServer
    from ..testing.scenarios import Scenario
    from .output import Output

__all__ = ["EPILOG", "Outcome", "Result", "Span", "add_arguments", "play", "run"]

EPILOG: Final = """\
Each client meets a fresh server on 127.0.0.1; the table says what the last request came to, and how often the server
executed it by its own count. "right" is what a careful client makes of the case: an answer where one can be had
without doing anything twice, an error where there is no honest answer. The lines "span" are what a collector would
get from holdwire. Takes a few seconds.

exit codes: 0 holdwire was right each time, 1 it was not, 2 the server could not be started"""

_TIMEOUT: Final = 5.0
_CLIENT_WIDTH: Final = 26
_WIDE: Final = 107
_NAME_WIDTHS: Final = (20, 47)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one client made of one scenario: a status or an exception, and how often the server executed it."""

    got: str
    message: str
    executions: int
    right: bool


@dataclass(frozen=True, slots=True)
class Span:
    """One failure as its span shows it, or several in a row that are alike."""

    name: str
    kind: str
    phase: str
    errno: int | None
    errno_name: str | None
    decision: str
    reason: str
    cause: str
    remedy: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """One scenario through both clients, and the failures that holdwire recorded."""

    name: str
    story: str
    request: str
    should: str
    httpx: Outcome
    holdwire: Outcome
    spans: list[Span]


class _Recorder:
    """Keeps the failures of one scenario."""

    def __init__(self) -> None:
        self.events: list[FailureRecorded] = []

    def on_event(self, event: Event) -> None:
        if isinstance(event, FailureRecorded):
            self.events.append(event)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio", help="the event loop to use")


def run(args: argparse.Namespace, output: Output) -> int:
    """Play every scenario; 0 if holdwire was right each time."""
    logging.getLogger("holdwire").addHandler(logging.NullHandler())  # what it would log is in the table
    began = time.monotonic()
    if not args.json:
        _show_head(output)
    results: list[Result] = []
    for number, scenario in enumerate(SCENARIOS, 1):
        output.progress(f"{number}/{len(SCENARIOS)}  the server {scenario.name} ...")
        try:
            result: Result = anyio.run(play, scenario, backend=args.backend)
        except (ImportError, LookupError) as exc:  # no library for certificates, no such event loop
            output.note(f"cannot play: {exc}")
            return 2
        results.append(result)
        if not args.json:
            _show(number, result, output)
    right = {client: sum(getattr(result, client).right for result in results) for client in ("httpx", "holdwire")}
    well = right["holdwire"] == len(results)
    if args.json:
        output.document({"verdict": "ok" if well else "failed", "right": right, "results": list(map(asdict, results))})
    else:
        output.verdict(
            "ok" if well else "failed",
            f"holdwire was right in {right['holdwire']} of {len(results)} cases, plain httpx in {right['httpx']} "
            f"({time.monotonic() - began:.1f} s)",
        )
    return 0 if well else 1


async def play(scenario: Scenario) -> Result:
    """One scenario, through a fresh client of either kind, each against a fresh server."""
    plain = await _through(scenario, lambda context: httpx.AsyncHTTPTransport(verify=context))
    recorder = _Recorder()
    ours = await _through(scenario, lambda context: ResilientTransport(verify=context, observers=[recorder]))
    *before, last = scenario.requests
    return Result(
        name=scenario.name,
        story=scenario.story,
        request=f"{last.method}{' on a kept-alive connection' if before else ''}",
        should=scenario.right,
        httpx=plain,
        holdwire=ours,
        spans=_spans(recorder.events),
    )


async def _through(scenario: Scenario, transport: Callable[[ssl.SSLContext], httpx.AsyncBaseTransport]) -> Outcome:
    with scenario.server() as server:
        client = httpx.AsyncClient(transport=transport(server.client_context()), timeout=_TIMEOUT)
        async with client:
            got, message, honest = await _requests(scenario, server, client)
        with contextlib.suppress(TimeoutError):  # it may still execute what the client has given up
            await server.until(lambda: not server.connections)
        executions = server.ledger.count(scenario.path)
    return Outcome(got, message, executions, right=honest and scenario.allows(executions))


async def _requests(scenario: Scenario, server: ChaosServer, client: httpx.AsyncClient) -> tuple[str, str, bool]:
    """Make the scenario's requests; what the last one came to, its text, and whether that is what it should be."""
    *before, last = scenario.requests
    for request in before:
        await client.request(request.method, server.url + request.path, content=request.body)
    if before and scenario.settle:
        await server.until("fault", count=scenario.settle)
    try:
        response = await client.request(last.method, server.url + last.path, content=last.body)
    except (httpx.HTTPError, OSError) as exc:
        return type(exc).__name__, str(exc), scenario.status is None
    expected = scenario.answer.body if scenario.answer is not None else last.body
    whole = response.content == expected or not expected
    got = f"{response.status_code}" if whole else f"{response.status_code}, body cut short"
    return got, response.reason_phrase, whole and response.status_code == scenario.status


def _spans(events: Iterable[FailureRecorded]) -> list[Span]:
    spans = (
        Span(
            name=span_name(event.failure),
            kind=event.failure.kind,
            phase=event.failure.phase,
            errno=event.failure.errno,
            errno_name=event.failure.errno_name,
            decision=decision(event.verdict),
            reason="" if event.verdict is None else REASONS[event.verdict.reason],
            cause=event.failure.cause,
            remedy=event.failure.remedy,
        )
        for event in events
    )
    return [replace(span, count=sum(1 for _ in alike)) for span, alike in groupby(spans)]


# --- for people ---


def _show_head(output: Output) -> None:
    output.line(
        "The same requests to an HTTPS server that misbehaves, through plain httpx and through holdwire.", "title"
    )
    output.line("How often it executed the request is the server's own count.", "dim")
    output.line()
    name = _name_width(output)
    output.line(f"    {'the server ...':<{name}}  {'plain httpx':<{_CLIENT_WIDTH}}  holdwire", "title")
    output.line(("\u2500" if output.width else "-") * (8 + name + 2 * _CLIENT_WIDTH), "dim")


def _name_width(output: Output) -> int:
    """Of the column with the server's doing."""
    least, most = _NAME_WIDTHS
    return max(least, min(most, (output.width or _WIDE) - 8 - 2 * _CLIENT_WIDTH))


def _show(number: int, result: Result, output: Output) -> None:
    name = _name_width(output)
    what = [(text, "title") for text in textwrap.wrap(result.name, name)]
    what += [(text, "dim") for text in textwrap.wrap(result.request, name)]
    columns = (what, _cell(result.httpx), _cell(result.holdwire))
    for line, ((text, look), left, right) in enumerate(zip_longest(*columns, fillvalue=("", ""))):
        first = f"{'' if line else number:>2}  {text:<{name}}"
        output.row((first, f"{left[0]:<{_CLIENT_WIDTH}}", right[0]), styles=(look, left[1], right[1]))
    if not result.httpx.right or not result.holdwire.right:
        output.fact("lesson", result.should)
    for span in result.spans:
        output.fact("span", _one_line(span))
        output.fact("cause", span.cause)
        output.fact("remedy", span.remedy)
    if not result.spans:
        output.fact("span", "none: no call had failed when the answer was in")
    output.line()


def _cell(outcome: Outcome) -> list[tuple[str, str]]:
    """The lines of one client's result, each with its style."""
    word, style = ("right", "ok") if outcome.right else ("WRONG", "failed")
    times = {0: "never executed", 1: "executed once"}.get(outcome.executions, f"executed {outcome.executions} times")
    return [(f"{word}  {outcome.got}", style), (f"       {times}", "")]


def _one_line(span: Span) -> str:
    """The failure span in one line, with its attributes as the collector gets them."""
    parts = [span.name, f"error.type={span.kind}", f"phase={span.phase}"]
    if span.errno:
        parts.append(f"errno={span.errno} {span.errno_name or ''}".rstrip())
    if span.reason:
        parts.append(f"retry={span.decision}: {span.reason}")
    return "  ".join(parts) + (f"  ({span.count} times)" if span.count > 1 else "")
