"""``holdwire explain``: says what an error means. Not responsible for knowing it (``doctor.explain``)."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from ..doctor.explain import explain

if TYPE_CHECKING:
    import argparse

    from ..doctor.explain import Explanation
    from .output import Output

__all__ = ["EPILOG", "add_arguments", "run"]

EPILOG: Final = """\
examples:
  holdwire explain ECONNRESET            a name, of Linux, macOS or Windows (WSAECONNRESET)
  holdwire explain 104                   a number; 10054 is Windows', -2 is getaddrinfo's
  holdwire explain UNEXPECTED_EOF_WHILE_READING
  holdwire explain "curl: (35) OpenSSL SSL_connect: SSL_ERROR_SYSCALL"
  tail -n 500 error.log | holdwire explain

Works offline. exit codes: 0 something was recognised, 2 nothing was"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="a name, a number, a message; without any, standard input is read"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(args: argparse.Namespace, output: Output) -> int:
    """Explain the words, or standard input."""
    text = " ".join(args.words)
    if not args.words or text == "-":
        if sys.stdin.isatty():
            output.note("Paste a log line or a traceback, then press Ctrl-D:")
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    found = explain(text)
    if args.json:
        output.document({"explanations": [asdict(one) for one in found]})
    else:
        for number, one in enumerate(found):
            if number:
                output.line()
            _tell(output, one)
        if not found:
            output.line("Nothing in this is known: give an error number, its name, or the line that holds it.")
    return 0 if found else 2


def _tell(output: Output, one: Explanation) -> None:
    seen = f", {one.seen} times" if one.seen > 1 else ""
    found = f" (from {one.found!r}{seen})" if one.found != one.code or seen else ""
    output.row((f"{one.code}: {one.summary}".rstrip(), found), styles=("title", "dim"), gap="")
    for meaning in one.meanings:
        if meaning.phases:
            output.line(f"  in {', '.join(meaning.phases)}:")
        output.line(f"    cause:    {meaning.cause}")
        output.line(f"    check:    {meaning.check}")
        output.line(f"    holdwire: {meaning.holdwire}")
