"""Every claim of SECURITY.md names tests, and they exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_every_claim_names_tests_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    claims = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| claim")]
    assert len(claims) > 10
    for claim in claims:
        named = NAMED.findall(claim)
        assert named, claim
        for file, test in named:
            assert f"def {test}" in (ROOT / file).read_text("utf-8"), (file, test)
