"""``holdwire.sessions`` is a function's name and a package's, in whatever order they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

CALL = 'assert type(holdwire.sessions("tcp://localhost:1")).__name__ == "Sessions"'
PART = "import holdwire.sessions.stream as part; assert part.Stream is holdwire.Stream"
OTHER = "holdwire.connect"


@pytest.mark.parametrize("lines", [[CALL, PART, CALL], [PART, CALL, OTHER, CALL]])
def test_the_name_is_callable_and_a_package(lines: list[str]) -> None:
    subprocess.run([sys.executable, "-c", "\n".join(["import holdwire", *lines])], check=True)
