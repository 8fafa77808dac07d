"""``examine``: the rungs of the ladder in their order, side by side where that is possible, and a conclusion.

    dns -> tcp (traceroute where an address is silent) -> mtu | tls -> http, reuse | close | idle -> loss, capture,
    server, resources, logs, configuration, surroundings; the kernel's counters and the server's process, where that is
    on this host, are read before and after, and only their changes count.

What makes no sense after a rung has failed is skipped: no TLS where nothing connects. Not responsible for the rungs
themselves (``rungs``) or for weighing what they found (``conclude``).
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import anyio

from .case import TooMany
from .conclude import conclude, headline
from .record import Check, Report, Rung, Sign, Verdict
from .rungs import addresses, capture, configuration, conversation, handshake, host, logs, mtu, names, silence
from .rungs.server import Watch

if TYPE_CHECKING:
    from .case import Case
    from .upkeep import Limit

__all__ = ["examine"]

_LOSS: Final = Check("loss", 2, action="Compare with another network; mtr shows where, a capture in which direction.")
_UNWELL: Final = frozenset(
    {
        "slow", "server_not_answering", "packet_loss", "syn_dropped", "refused", "server_crashed", "reset_by_server",
        "closed_without_answer", "answer_cut", "reset_in_handshake", "closed_in_handshake",
    }
)  # fmt: skip
"""Signs that the server did not do what it was asked; what it is short of may be why."""
_Look = Callable[[], Awaitable[list[Rung]]]


async def examine(case: Case, progress: Callable[[str], None] = lambda _: None) -> Report:
    """Look at ``case`` from here."""
    began, now = time.monotonic(), time.time()
    before = host.Counters()
    rungs: list[Rung] = []
    good: list[str] = []
    measured: list[Limit] = []
    progress(f"resolving {case.target.host}")
    rung, found = await names.look(case)
    rungs.append(rung)
    local = case.proxy is None and any(_is_local(address) for address in found)
    watch = Watch(case.target.port, case.watch, local=local)
    try:
        if found or case.proxy is not None:
            progress(f"connecting to {', '.join(found) or case.target.host}")
            rung, good = await addresses.look(case, found or [case.target.host])
            rungs.append(rung)
        if good:
            measured = await _speak(case, rungs, progress)
    except TooMany as exc:
        rungs.append(Rung(rung="cap", verdict=Verdict.SKIPPED, summary=str(exc), guide_step=2))
    if good:
        rungs.append(_lost(case, local=local))
    signs = {sign.name for one in rungs for sign in one.signs}
    unwell = not signs.isdisjoint(_UNWELL)
    if case.capture is not None and case.opened:
        progress(f"reading {case.capture}")
        rungs.append(await capture.look(case, now, signs))
    process = watch.look(unwell=unwell)
    rungs += [process] if process is not None else []
    address = next(iter(good or found), None)
    source = addresses.source(address, case.target.port) if address is not None else None
    rungs += [
        host.look_at_resources(
            case, host.Counters().since(before), local=local, dropped="syn_dropped" in signs, slow=unwell
        ),
        logs.look(case.logs, unwell=unwell),
        configuration.look(case, [*measured, *configuration.limits(case, rungs)]),
        host.look_at_surroundings(source, address),
    ]
    causes = conclude(sign for one in rungs for sign in one.signs)
    verdict, line = headline(causes, rungs, str(case.target))
    return Report(
        target=str(case.target),
        verdict=verdict,
        headline=line,
        vantage={
            "host": socket.gethostname(),
            "source": source,
            "proxy": None if case.proxy is None else case.proxy.name,
        },
        rungs=tuple(rungs),
        conclusion=causes,
        connections=case.opened,
        duration=round(time.monotonic() - began, 2),
    )


async def _speak(case: Case, rungs: list[Rung], progress: Callable[[str], None]) -> list[Limit]:
    """The rungs above a working connection; the idle limit if it is to be measured and there is one."""
    if case.target.secure is None:
        progress("asking whether the port speaks TLS")
        await case.learn_security()
    verify = True
    if case.target.secure:
        progress("shaking hands in TLS; sending full segments")
        tls, path = await _side_by_side(lambda: _one(handshake.look(case)), lambda: _one(mtu.look(case)))
        rungs += [*tls, *path]
        if tls[0].verdict is Verdict.FAILED:
            if not any(sign.name.startswith("certificate_") for sign in tls[0].signs):
                return []
            verify = False
    else:
        progress("sending full segments")
        rungs.append(await mtu.look(case))
    progress("asking for one answer, for a second one, and for the end")
    limits: list[Limit] = []

    async def idle() -> list[Rung]:
        if case.idle is None:
            return []
        rung, found = await silence.look(case, progress, verify=verify)
        limits.extend(found)
        return [rung]

    for found in await _side_by_side(
        lambda: _two(conversation.look(case, verify=verify)),
        lambda: _one(conversation.look_at_close(case, verify=verify)),
        idle,
    ):
        rungs += found
    return limits


def _lost(case: Case, *, local: bool) -> Rung:
    """The rung ``loss``: what had to be sent again on the probe connections; inside a host only for lack of CPU."""
    evidence = {"segments_sent_again": case.repeated, "connections_with_such": case.lossy}
    if not case.repeated or local:
        return _LOSS(Verdict.OK, "nothing was lost on the way", evidence)
    words = f"{case.repeated} segments had to be sent again, on {case.lossy} connections"
    sure = 0.6 if case.lossy > 1 else 0.3
    return _LOSS(Verdict.WARNING, words, evidence, signs=[Sign("packet_loss", sure, words)])


async def _side_by_side(*looks: _Look) -> list[list[Rung]]:
    found: list[list[Rung]] = [[] for _ in looks]

    async def run(number: int, look: _Look) -> None:
        found[number] = await look()

    async with anyio.create_task_group() as group:
        for number, look in enumerate(looks):
            group.start_soon(run, number, look)
    return found


async def _one(look: Awaitable[Rung]) -> list[Rung]:
    return [await look]


async def _two(look: Awaitable[tuple[Rung, Rung]]) -> list[Rung]:
    return list(await look)


def _is_local(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback or addresses.source(address, 9) == address
