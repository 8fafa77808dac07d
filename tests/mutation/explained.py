"""``explanations``: the mutants that change nothing that matters, with the reason, as the page lists them."""

from __future__ import annotations

import re
from typing import Final

from .trial import ROOT

__all__ = ["PAGE", "explanations"]

PAGE: Final = ROOT / "docs" / "explanation" / "mutants.md"
_ROW: Final = re.compile(r"^\| `([^`]+\.py)` \| (`+) ?(.+?) ?\2 \| (.+) \|$", re.MULTILINE)


def explanations() -> dict[tuple[str, str], str]:
    """The reason why a mutant survives, by its module and its line."""
    if not PAGE.exists():
        return {}
    rows = _ROW.findall(PAGE.read_text(encoding="utf-8"))
    return {(module, line.replace("\\|", "|")): reason for module, _, line, reason in rows}
