"""``Cause``: one possible cause of trouble, with the evidence for it, as every part of the doctor reports it.

Not responsible for finding causes (``pcap.report``, the ladder) or for showing them (``cli``).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cause"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A possible cause. Lists of causes are ranked: the most likely one first.

    ``name`` is a stable word for scripts, ``confidence`` lies between 0 and 1, ``evidence`` holds the numbers and
    observations behind it, ``advice`` says in one or two sentences what to do, ``guide_step`` is the step (1 to 9) of
    the troubleshooting guide that it belongs to.
    """

    name: str
    confidence: float
    evidence: tuple[str, ...]
    advice: str
    guide_step: int
