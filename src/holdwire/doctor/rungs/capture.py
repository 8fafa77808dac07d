"""The rung ``capture``: what a capture that runs meanwhile (``--pcap``) shows of the run's own connections.

The file is read when all else is done, and once more while tcpdump is still writing what it saw. What the capture says
of a cause that is suspected anyway makes it surer; that a box on the way resets, only a capture can tell. Not
responsible for the analysis (``pcap``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio

from ..pcap import analyse, conclude
from ..record import Check, Sign, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..case import Case
    from ..pcap import Capture, Connection
    from ..record import Rung

__all__ = ["look"]

_CHECK: Final = Check("capture", 5, action="holdwire pcap FILE tells the story of each connection.")
_PATIENCE: Final = 15
"""How often the file is read until all connections are in it."""
_PAUSE: Final = 0.2
_ALONE: Final = "middlebox_reset"
_SHARE: Final = 0.5
"""What a capture adds to a suspicion."""


async def look(case: Case, began: float, suspected: Collection[str]) -> Rung:
    """The rung; ``began`` is when the run did, in Unix time, ``suspected`` the names of the signs so far."""
    ours: list[Connection] = []
    capture: Capture | None = None
    for _ in range(_PATIENCE):
        try:
            capture = analyse(case.capture or "")
        except OSError as exc:
            return _CHECK(Verdict.UNKNOWN, f"{case.capture}: {exc.strerror or exc}")
        ours = [one for one in capture.connections if one.server.port == case.target.port and one.started >= began - 1]
        if len(ours) >= case.opened and all(_is_over(one) for one in ours):
            break
        await anyio.sleep(_PAUSE)
    if capture is None or not ours:
        return _CHECK(
            Verdict.UNKNOWN, f"{case.capture} shows none of this run's connections: was it recorded meanwhile?"
        )
    causes = conclude(replace(capture, connections=tuple(ours)))
    signs = [
        Sign(one.name, one.confidence if one.name == _ALONE else one.confidence * _SHARE, f"capture: {one.evidence[0]}")
        for one in causes
        if one.name == _ALONE or one.name in suspected
    ]
    told = "; ".join(f"{one.name}: {one.evidence[0]}" for one in causes) or "nothing that explains trouble"
    evidence = {"connections": len(ours), "causes": {one.name: one.confidence for one in causes}}
    words = f"{len(ours)} of this run's connections: {told}"
    return _CHECK(Verdict.WARNING if signs else Verdict.OK, words, evidence, signs=signs)


def _is_over(connection: Connection) -> bool:
    sides = (connection.client, connection.server)
    return any(side.rst_at is not None for side in sides) or all(side.fin_at is not None for side in sides)
