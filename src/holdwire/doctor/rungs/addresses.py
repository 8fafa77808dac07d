"""The rung ``tcp``: does every address of the host accept connections, how fast, and if not, who says so?"""

from __future__ import annotations

import socket
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import anyio

from ...errors import HoldwireError
from ...policy.kind import Category, Kind
from ...policy.phase import Phase
from ..case import is_timeout
from ..record import Check, Sign, Verdict
from .route import trace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...policy.failure import Failure
    from ..case import Case
    from ..record import Rung

__all__ = ["later_sign", "look", "source"]

_CHECK: Final = Check("tcp", 2, Phase.CONNECT, "Try the same from another host: is it this path, or the server?")
_MOST: Final = 8
"""Addresses that are tried."""
_LOCAL: Final = frozenset({"EACCES", "EPERM"})
_NO_FAMILY: Final = frozenset({"ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT"})
_LOOPBACK6: Final = "::1"
"""Many a server listens at 127.0.0.1 alone, and localhost names both: no fault."""


async def look(case: Case, addresses: Sequence[str]) -> tuple[Rung, list[str]]:
    """The rung, and the addresses that accepted, the fastest first."""
    results: dict[str, dict[str, Any]] = {}
    signs: list[Sign] = []

    async def probe(address: str) -> None:
        began = time.monotonic()
        try:
            stream = await case.connect(address)
        except HoldwireError as exc:
            results[address] = {"error": _name(exc), "after_ms": round((time.monotonic() - began) * 1000, 1)}
            sign = _sign(case, address, exc)
            if sign is not None:
                signs.append(sign)
            return
        took = time.monotonic() - began
        info = stream.facts().get("tcp")
        results[address] = {"connected_ms": round(took * 1000, 1), "rtt_ms": _ms(None if info is None else info.rtt)}
        case.close(stream)

    async with anyio.create_task_group() as group:
        for address in addresses[:_MOST]:
            group.start_soon(probe, address)
    good = sorted(
        (one for one in results if "connected_ms" in results[one]), key=lambda one: results[one]["connected_ms"]
    )
    bad = [one for one in results if one not in good]
    hopeless = [one for one in bad if one == _LOOPBACK6 or (results[one]["error"] in _NO_FAMILY and ":" in one)]
    evidence: dict[str, Any] = {"addresses": results}
    if good:
        signs = [
            Sign("some_addresses_fail", 0.6, f"{one}: {results[one]['error']}") for one in bad if one not in hopeless
        ]
    elif bad and case.proxy is None and any(results[one]["error"] == "no answer" for one in bad):
        silent = next(one for one in bad if results[one]["error"] == "no answer")
        hops = await trace(silent, case.target.port)
        evidence["route"] = [asdict(hop) for hop in hops]
    verdict = Verdict.FAILED if not good else Verdict.WARNING if signs else Verdict.OK
    words = [f"{one} in {results[one]['connected_ms']:g} ms" for one in good]
    words += [f"{one}: {results[one]['error']} after {results[one]['after_ms']:g} ms" for one in bad]
    return _CHECK(verdict, "; ".join(words) + _route_words(evidence), evidence, signs=signs), good


_SIGNS: Final[tuple[tuple[Callable[[Failure], bool], str, float], ...]] = (
    (lambda failure: failure.kind is Kind.LOCAL_TIMEOUT, "syn_dropped", 0.85),
    (lambda failure: failure.errno_name in _LOCAL, "blocked_locally", 0.9),
    (lambda failure: failure.kind is Kind.CONNECTION_REFUSED, "refused", 0.95),
    (lambda failure: failure.category is Category.UNREACHABLE, "unreachable", 0.9),
    (lambda failure: failure.kind is Kind.TIMED_OUT, "syn_dropped", 0.85),
    (lambda failure: failure.kind is Kind.ADDRESS_NOT_AVAILABLE, "ports_short", 0.9),
    (lambda failure: failure.category is Category.LOCAL_RESOURCE, "descriptors_short", 0.9),
    (lambda failure: failure.errno_name == "EINVAL", "address_incomplete", 0.9),
    (lambda _: True, "reset_by_server", 0.6),
)
"""What a failed connect is a sign of: the first that holds."""


def later_sign(case: Case, exc: HoldwireError) -> tuple[Sign, ...]:
    """What it is a sign of that a connect fails after the first one has worked."""
    failure = exc.failure
    if failure is None or failure.phase is not Phase.CONNECT:
        return ()
    if failure.kind is Kind.CONNECTION_REFUSED:
        return (
            Sign("server_crashed", 0.85, f"connections to {case.target} were accepted before, and are refused now"),
        )
    if is_timeout(exc):
        return (Sign("server_not_answering", 0.6, f"{case.target} accepted a connection before, and does no more"),)
    sign = _sign(case, failure.peer or case.target.host, exc)
    return () if sign is None else (sign,)


def _sign(case: Case, address: str, exc: HoldwireError) -> Sign | None:
    failure = exc.failure
    if failure is None or (":" in address and failure.errno_name in _NO_FAMILY):
        return None
    name, confidence = next((name, confidence) for holds, name, confidence in _SIGNS if holds(failure))
    where = f"{address} port {case.target.port}"
    if is_timeout(exc):
        return Sign(name, confidence, f"no answer from {where} within {case.timeout:g} s")
    if case.proxy is not None:
        return Sign("proxy_fails", 0.9, f"{case.proxy.name}: {failure.errno_name or failure.detail or failure.kind}")
    router = _said_by(failure)
    if router and router == source(address, case.target.port) != address:
        name = "blocked_locally"
    said = f" (said by {router})" if router else ""
    what = failure.errno_name or failure.detail or failure.kind
    return Sign(name, confidence, f"{failure.syscall or failure.phase} to {where}: {what}{said}")


def _said_by(failure: Failure) -> str:
    """The address of the router that rejected the packet, if one did."""
    _, _, router = (failure.detail or "").partition("said by ")
    return router


def source(address: str, port: int) -> str | None:
    """Our own address on the way to ``address``; asks the kernel's routes, sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, port))
            name: str = sock.getsockname()[0]
            return name
    except OSError:
        return None


def _name(exc: HoldwireError) -> str:
    if is_timeout(exc):
        return "no answer"
    failure = exc.failure
    return str(exc) if failure is None else failure.errno_name or str(failure.kind)


def _ms(microseconds: int | None) -> float | None:
    return None if microseconds is None else round(microseconds / 1000, 2)


def _route_words(evidence: dict[str, Any]) -> str:
    hops = evidence.get("route")
    if not hops:
        return ""
    return "; routers that answer: " + ", ".join(f"{hop['number']} {hop['router'] or '-'}" for hop in hops)
