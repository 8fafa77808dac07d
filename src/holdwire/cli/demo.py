"""``holdwire demo``: the same bad day on the network, through plain httpx and through holdwire, side by side.

An embedded HTTPS server on loopback misbehaves in ten ways; each is met by a fresh client of either kind. Needs no
root, no network and no service. Not responsible for the ways (``testing.scenarios``).
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import anyio
import httpx

from ..events import FailureRecorded
from ..testing.scenarios import SCENARIOS
from ..transports.httpx import ResilientTransport

if TYPE_CHECKING:
    import argparse
    import ssl
    from collections.abc import Callable

    from ..events import Event
    from ..testing import ChaosServer
    from ..testing.scenarios import Scenario
    from .output import Output

__all__ = ["Outcome", "Result", "play"]

EPILOG: Final = "Takes a few seconds; exit code 0 if holdwire did the right thing each time, else 1."
_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one client made of one scenario: a status or an exception, and how often the server executed it."""

    got: str
    executions: int
    right: bool


@dataclass(frozen=True, slots=True)
class Result:
    """One scenario through both clients; ``spans`` are the failures that holdwire recorded, a line each."""

    name: str
    story: str
    httpx: Outcome
    holdwire: Outcome
    spans: list[str]
    cause: str
    remedy: str


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
    """Play every scenario; 0 if holdwire did the right thing each time."""
    began = time.monotonic()
    if not args.json:
        output.line(
            "The same requests to a misbehaving HTTPS server, through plain httpx and through holdwire.", "title"
        )
        output.line()
    results: list[Result] = []
    for number, scenario in enumerate(SCENARIOS, 1):
        output.progress(f"{number}/{len(SCENARIOS)}  the server {scenario.name} ...")
        result: Result = anyio.run(play, scenario, backend=args.backend)
        results.append(result)
        if not args.json:
            _show(number, result, output)
    right = {client: sum(getattr(result, client).right for result in results) for client in ("httpx", "holdwire")}
    if args.json:
        output.document({"results": [asdict(result) for result in results], "right": right})
    else:
        output.verdict(
            "ok" if right["holdwire"] == len(results) else "failed",
            f"holdwire did the right thing in {right['holdwire']} of {len(results)} cases, plain httpx in "
            f"{right['httpx']} ({time.monotonic() - began:.1f} s)",
        )
    return 0 if right["holdwire"] == len(results) else 1


async def play(scenario: Scenario) -> Result:
    """One scenario, through a fresh client of either kind, each against a fresh server."""
    plain = await _through(scenario, lambda context: httpx.AsyncHTTPTransport(verify=context))
    recorder = _Recorder()
    ours = await _through(scenario, lambda context: ResilientTransport(verify=context, observers=[recorder]))
    events = recorder.events
    told = events[0].failure if events else None
    return Result(
        name=scenario.name,
        story=scenario.story,
        httpx=plain,
        holdwire=ours,
        spans=[_span(event) for event in events],
        cause="" if told is None else told.cause,
        remedy="" if told is None else told.remedy,
    )


async def _through(scenario: Scenario, transport: Callable[[ssl.SSLContext], httpx.AsyncBaseTransport]) -> Outcome:
    with scenario.server() as server:
        client = httpx.AsyncClient(transport=transport(server.client_context()), timeout=_TIMEOUT)
        async with client:
            got, status = await _requests(scenario, server, client)
        executions = server.ledger.count(scenario.path)
    return Outcome(got, executions, right=status == scenario.status and scenario.allows(executions))


async def _requests(scenario: Scenario, server: ChaosServer, client: httpx.AsyncClient) -> tuple[str, int | None]:
    """Make the scenario's requests; what the last one came to, and its status if it was answered."""
    *before, last = scenario.requests
    for request in before:
        await client.request(request.method, server.url + request.path, content=request.body)
    if before and scenario.settle:
        await server.until("fault", count=scenario.settle)
    try:
        response = await client.request(last.method, server.url + last.path, content=last.body)
    except (httpx.HTTPError, OSError) as exc:
        return type(exc).__name__, None
    expected = scenario.answer.body if scenario.answer is not None else last.body
    short = response.status_code == httpx.codes.OK and len(response.content) < len(expected)
    return f"{response.status_code}{', but the body is cut short' if short else ''}", response.status_code


def _span(event: FailureRecorded) -> str:
    """The failure span in one line."""
    failure = event.failure
    name = (
        f"holdwire syscall_failure {failure.syscall}"
        if failure.is_syscall
        else f"holdwire connection_failure {failure.phase}"
    )
    parts = [name, f"error.type={failure.kind}", f"phase={failure.phase}"]
    if failure.errno is not None:
        parts.append(f"errno={failure.errno}" + (f" {failure.errno_name}" if failure.errno_name else ""))
    if failure.sent is not None:
        parts.append(f"sent={failure.sent}")
    if event.verdict is not None:
        parts.append(f"verdict={event.verdict.action} ({event.verdict.reason})")
    return "  ".join(parts)


def _show(number: int, result: Result, output: Output) -> None:
    output.row((f"{number:2}.", f"The server {result.name}."), styles=("dim", "title"))
    output.line(f"    {result.story}", "dim")
    for client in ("httpx", "holdwire"):
        outcome: Outcome = getattr(result, client)
        times = "once" if outcome.executions == 1 else f"{outcome.executions} times"
        output.row(
            (f"    {client:<9}", "right" if outcome.right else "WRONG", f"{outcome.got};", f"executed {times}"),
            styles=(None, "ok" if outcome.right else "failed"),
        )
    for span in result.spans[:1]:
        more = f"  (+{len(result.spans) - 1} more)" if len(result.spans) > 1 else ""
        output.line(f"    span       {span}{more}", "dim")
        output.line(f"    cause      {result.cause} {result.remedy}")
    output.line()
