"""The rung ``dns``: which addresses the name has, and how long it takes to learn them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import anyio

from ...net.resolve import NameNotResolved, interleave, literal, resolve
from ...policy.phase import Phase
from ..record import Check, Sign, Verdict

if TYPE_CHECKING:
    from ..case import Case
    from ..record import Rung

__all__ = ["look"]

_CHECK: Final = Check("dns", 2, Phase.DNS, "Look the name up on another host and with another resolver.")
_SLOW: Final = 1.0


async def look(case: Case) -> tuple[Rung, list[str]]:
    """The rung, and the addresses in the order in which they are tried."""
    host, port = case.target.host, case.target.port
    known = literal(case.address or host, port)
    if known is not None:
        summary = "an address, so nothing has to be resolved" if case.address is None else "given by --resolve"
        return _CHECK(Verdict.OK, f"{known.host}: {summary}"), [known.host]
    began = time.monotonic()
    try:
        with anyio.fail_after(case.timeout * 2):
            found = [address.host for address in interleave(await resolve(host, port, facts={"host": host}))]
    except NameNotResolved as exc:
        failure = exc.failure
        missing = failure.errno_name in {"EAI_NONAME", "EAI_NODATA"}
        sign = Sign(
            "name_not_found" if missing else "name_resolution_failed", 0.95, f"getaddrinfo: {failure.errno_name}"
        )
        return _CHECK(Verdict.FAILED, str(failure), {"error": failure.errno_name}, signs=[sign]), []
    except TimeoutError:
        evidence = f"no answer from the resolver within {case.timeout * 2:g} s"
        return _CHECK(Verdict.FAILED, evidence, signs=[Sign("name_resolution_failed", 0.9, evidence)]), []
    took = time.monotonic() - began
    rung = _CHECK(
        Verdict.WARNING if took > _SLOW else Verdict.OK,
        f"{', '.join(found)} in {took * 1000:.0f} ms",
        {"addresses": found, "took_ms": round(took * 1000, 1)},
        action="The resolver is slow: look at its first entry in /etc/resolv.conf.",
    )
    return rung, found
