"""``Output``: results on standard output, progress and notes on standard error, in any locale.

Colours and progress lines only on a terminal, only with rich installed and without ``NO_COLOR``; everything else is
plain text, one line a fact, without wrapping, fit for pipes. Text from outside (peers, files) is made harmless:
control characters never reach the terminal. Not responsible for the words.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import sys
import textwrap
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from rich.console import Console

__all__ = ["STYLES", "CannotWrite", "Output"]

STYLES: Final = {
    "ok": "green",
    "warning": "yellow",
    "failed": "bold red",
    "skipped": "dim",
    "unknown": "dim",
    "title": "bold",
    "dim": "dim",
}
"""What the words mean in colours; the keys are the verdicts of the doctor, and two more."""

_HARMFUL: Final = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


class CannotWrite(Exception):
    """Standard output takes no more; the cause is the system's own error."""


@contextlib.contextmanager
def _writing() -> Generator[None]:
    try:
        yield
    except OSError as exc:
        raise CannotWrite(exc.strerror) from exc


class Output:
    """Where a command writes. ``colour`` forces or forbids rich; by default the terminal and the environment decide.

    Every method that writes results raises ``CannotWrite``. What standard error does not take is lost.
    """

    def __init__(self, *, out: TextIO | None = None, err: TextIO | None = None, colour: bool | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        for stream in (self._out, self._err):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a locale that cannot write a name is no reason to fail
        if colour is None:
            colour = self._out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._console: Console | None = None
        if colour and importlib.util.find_spec("rich") is not None:
            from rich.console import Console  # noqa: PLC0415 - an extra

            self._console = Console(file=self._out, markup=False, highlight=False, emoji=False)
        self._progress = 0

    def line(self, text: str = "", style: str | None = None) -> None:
        """Write one line, or several."""
        self._clear()
        text = text.translate(_HARMFUL)
        if self._console is not None:
            with _writing():
                self._console.print(text, style=STYLES.get(style or "", None), soft_wrap=True)
        else:
            self._print(text)

    def verdict(self, verdict: str, text: str) -> None:
        """Write ``verdict: text``, the verdict in its colour."""
        self.row((verdict + ":", text), styles=(verdict, None), gap=" ")

    def row(self, cells: Sequence[str], *, styles: Sequence[str | None] = (), gap: str = "  ") -> None:
        """Write one line of differently coloured parts."""
        self._clear()
        clean = [cell.translate(_HARMFUL) for cell in cells]
        if self._console is not None:
            from rich.text import Text  # noqa: PLC0415 - an extra

            text = Text()
            for number, cell in enumerate(clean):
                style = styles[number] if number < len(styles) else None
                text.append(cell, style=STYLES.get(style or "", "")).append(gap if number < len(clean) - 1 else "")
            with _writing():
                self._console.print(text, soft_wrap=True)
        else:
            self._print(gap.join(clean).rstrip())

    def fact(self, label: str, text: str, *, indent: int = 4, style: str | None = None) -> None:
        """Write ``label`` and ``text``; on a terminal the text is wrapped, each line under the first."""
        start = f"{'':<{indent}}{label:<9}"
        text = text.translate(_HARMFUL)
        room = (self.width or 1 << 30) - len(start)
        for number, line in enumerate(textwrap.wrap(text, max(room, 30), break_on_hyphens=False) or [""]):
            self.row((start if not number else " " * len(start), line), styles=("dim", style), gap="")

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None for what is no terminal, where lines may be of any length."""
        return None if self._console is None else self._console.width

    def table(self, rows: Iterable[Sequence[str]], *, indent: int = 2, styles: Sequence[str | None] = ()) -> None:
        """Write rows with aligned columns; the last column is not padded. A style ``=`` is the cell's own text."""
        kept = [tuple(cell.translate(_HARMFUL) for cell in row) for row in rows]
        if not kept:
            return
        widths = [max(len(row[i]) for row in kept if i < len(row)) for i in range(max(map(len, kept)))]
        for row in kept:
            cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)] + [row[-1]]
            chosen = [cells[i].strip() if style == "=" else style for i, style in enumerate(styles) if i < len(cells)]
            cells[0] = " " * indent + cells[0]
            self.row(cells, styles=chosen)

    def document(self, value: object) -> None:
        """Write one JSON document."""
        self._clear()
        self._print(json.dumps(value, indent=2, default=str, allow_nan=False))

    def note(self, text: str) -> None:
        """Write a line to standard error."""
        self._clear()
        self._whisper(text.translate(_HARMFUL) + "\n")

    def progress(self, text: str) -> None:
        """Tell on standard error what is being done: in place on a terminal, as a line elsewhere."""
        text = text.translate(_HARMFUL)
        if not self._err.isatty():
            self._whisper(text + "\n")
            return
        self._clear()
        text = text[: _columns() - 1]
        self._whisper(text)
        self._progress = len(text)

    def flush(self) -> None:
        """Write what was kept back until now."""
        with _writing():
            self._out.flush()

    def give_up(self) -> None:
        """Throw away what could not be written, so that the interpreter does not try it again at its end."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._out.fileno())
            os.close(nowhere)

    def _print(self, text: str) -> None:
        with _writing():
            print(text, file=self._out)

    def _whisper(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._err.write(text)
            self._err.flush()

    def _clear(self) -> None:
        if self._progress:
            self._whisper("\r" + " " * self._progress + "\r")
            self._progress = 0


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 80
