"""``examine``: the rungs of the ladder in their order, side by side where that is possible, and a conclusion.

    dns -> tcp (traceroute where an address is silent) -> mtu | tls -> http, reuse | close    resources, configuration,
    surroundings; the kernel's counters are read before and after, and only their changes count.

What makes no sense after a rung has failed is skipped: no TLS where nothing connects. Not responsible for the rungs
themselves (``rungs``) or for weighing what they found (``conclude``).
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import anyio

from .case import TooMany
from .conclude import conclude, headline
from .idle_probe import find_security
from .record import Report, Rung, Verdict
from .rungs import addresses, conversation, handshake, host, mtu, names

if TYPE_CHECKING:
    from .case import Case

__all__ = ["examine"]

_SLOW: Final = frozenset({"slow", "server_not_answering", "packet_loss"})
_Look = Callable[[], Awaitable[list[Rung]]]


async def examine(case: Case, progress: Callable[[str], None] = lambda _: None) -> Report:
    """Look at ``case`` from here."""
    began = time.monotonic()
    before = host.Counters()
    rungs: list[Rung] = []
    good: list[str] = []
    progress(f"resolving {case.target.host}")
    try:
        rung, found = await names.look(case)
        rungs.append(rung)
        if found or case.proxy is not None:
            progress(f"connecting to {', '.join(found) or case.target.host}")
            rung, good = await addresses.look(case, found or [case.target.host])
            rungs.append(rung)
        if good:
            await _speak(case, rungs, progress)
    except TooMany as exc:
        rungs.append(Rung(rung="cap", verdict=Verdict.SKIPPED, summary=str(exc), guide_step=2))
    local = any(_is_local(address) for address in (good or [case.address or case.target.host]))
    names_of_signs = {sign.name for one in rungs for sign in one.signs}
    slow = not names_of_signs.isdisjoint(_SLOW)
    rungs += [
        host.look_at_resources(
            case, host.Counters().since(before), dropped=local and "syn_dropped" in names_of_signs, slow=slow
        ),
        host.look_at_configuration(case),
        host.look_at_surroundings(),
    ]
    causes = conclude(sign for one in rungs for sign in one.signs)
    verdict, line = headline(causes, rungs, str(case.target))
    return Report(
        target=str(case.target),
        verdict=verdict,
        headline=line,
        vantage=_vantage(case, good),
        rungs=tuple(rungs),
        conclusion=causes,
        connections=case.opened,
        duration=round(time.monotonic() - began, 2),
    )


async def _speak(case: Case, rungs: list[Rung], progress: Callable[[str], None]) -> None:
    """The rungs above a working connection."""
    if case.target.secure is None:
        progress("asking whether the port speaks TLS")
        case.opened += 1
        case.learn_security(await find_security(case.target, case.context(verify=False), case.server_name))
    verify = True
    if case.target.secure:
        progress("shaking hands in TLS; sending full segments")
        tls, path = await _both(lambda: _one(handshake.look(case)), lambda: _one(mtu.look(case)))
        rungs += [*tls, *path]
        if tls[0].verdict is Verdict.FAILED:
            if not any(sign.name.startswith("certificate_") for sign in tls[0].signs):
                return
            verify = False
    else:
        progress("sending full segments")
        rungs.append(await mtu.look(case))
    progress("asking for one answer, for a second one, and for the end")
    answers, end = await _both(
        lambda: _two(conversation.look(case, verify=verify)),
        lambda: _one(conversation.look_at_close(case, verify=verify)),
    )
    rungs += [*answers, *end]


async def _both(first: _Look, second: _Look) -> tuple[list[Rung], list[Rung]]:
    found: dict[int, list[Rung]] = {}

    async def run(number: int, look: _Look) -> None:
        found[number] = await look()

    async with anyio.create_task_group() as group:
        group.start_soon(run, 0, first)
        group.start_soon(run, 1, second)
    return found[0], found[1]


async def _one(look: Awaitable[Rung]) -> list[Rung]:
    return [await look]


async def _two(look: Awaitable[tuple[Rung, Rung]]) -> list[Rung]:
    return list(await look)


def _vantage(case: Case, good: list[str]) -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "source": _source(good[0], case.target.port) if good else None,
        "proxy": None if case.proxy is None else case.proxy.name,
    }


def _source(address: str, port: int) -> str | None:
    """Our own address on the way to ``address``; asks the kernel's routes, sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, port))
            name: str = sock.getsockname()[0]
            return name
    except OSError:
        return None


def _is_local(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address == "localhost"
    return found.is_loopback or _source(address, 9) == address
