"""The examples of a page: its Python blocks in order, in one namespace, against local servers, and what they print.

A block may be preceded by ``<!-- skip: why -->``. A ``text`` block behind ``<!-- output -->`` is what the block before
prints; there ``...`` stands for anything. Host names of examples are replaced by local ports. Not responsible for shell
lines.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Block", "blocks_of", "run", "run_program"]

_FENCE: Final = re.compile(
    r"(?P<mark><!-- (?:skip: [^>]+|output) -->\n)?```(?P<kind>python|text)\n(?P<text>.*?)```", re.DOTALL
)
_FLAGS: Final = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_NEXT: Final = "-- next block --"


@dataclass(slots=True)
class Block:
    """One block of Python; ``output`` is what the page says that it prints, if it says so."""

    code: str
    line: int
    skip: str | None = None
    output: str | None = None


def blocks_of(page: Path) -> list[Block]:
    """Every Python block of ``page``.

    Raises:
        ValueError: An output stands behind no block.
    """
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        mark = (match["mark"] or "").strip("<>!- \n")
        if match["kind"] == "python":
            skip = mark.removeprefix("skip: ") if mark.startswith("skip") else None
            found.append(Block(match["text"], text.count("\n", 0, match.start("text")), skip))
        elif mark == "output":
            if not found or found[-1].output is not None:
                message = f"{page}: an output behind no block"
                raise ValueError(message)
            found[-1].output = match["text"]
    return found


def run(page: Path, replaced: Mapping[str, str], names: dict[str, Any]) -> None:
    """Run the blocks of ``page`` in ``names``, with parts of them ``replaced``.

    Raises:
        AssertionError: A block printed something else than the page says.
    """
    for block in blocks_of(page):
        if block.skip is None:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                code = _replace("\n" * block.line + block.code, replaced)
                exec(compile(code, str(page), "exec"), names)
            _compare(page, block, printed.getvalue())


def run_program(page: Path, replaced: Mapping[str, str]) -> None:
    """Run all blocks of ``page`` as one program, as its reader does.

    Raises:
        AssertionError: It failed, or a block printed something else than the page says.
    """
    blocks = blocks_of(page)
    program = _replace(f"\nprint({_NEXT!r})\n".join(block.code for block in blocks), replaced)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, f"{page}:\n{ran.stdout}\n{ran.stderr}"
    for block, printed in zip(blocks, ran.stdout.split(f"{_NEXT}\n"), strict=True):
        _compare(page, block, printed)


def _replace(code: str, replaced: Mapping[str, str]) -> str:
    for old, new in replaced.items():
        code = code.replace(old, new)
    return code


def _compare(page: Path, block: Block, printed: str) -> None:
    if block.output is not None:
        same = doctest.OutputChecker().check_output(block.output, printed, _FLAGS)
        assert same, f"{page}, line {block.line}: it says\n{block.output}\nand what came is\n{printed}"
