"""The table of commands and the way from the command line to one of them.

A command is a module of this folder with ``add_arguments(parser)`` and ``run(args, output) -> int``; it is imported
only when it is asked for, so that the start stays fast. To add one, add a line to ``COMMANDS``.

Exit codes: 0 healthy, 1 a problem found, 2 could not look (wrong usage included), 130 interrupted.
Not responsible for how results look (``output``).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, Protocol, cast

from .output import CannotWrite, Output

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "Command", "main"]

COULD_NOT_LOOK: Final = 2
_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells count."""


class _Module(Protocol):
    """What the module of a command holds."""

    EPILOG: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        ...

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Carry it out; returns the exit code."""
        ...


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name, what it does in one line, and the module that does it."""

    name: str
    summary: str
    module: str

    def load(self) -> _Module:
        """Import the module."""
        return cast("_Module", importlib.import_module(self.module, __package__))


COMMANDS: Final[tuple[Command, ...]] = (
    Command("demo", "play a bad day on the network through plain httpx and through holdwire, side by side", ".demo"),
    Command("doctor", "look for the cause of trouble with a server, from here, and say what to do", ".doctor"),
    Command("idle", "find out after how much silence a connection to a server ends, and how", ".idle"),
    Command("pcap", "read capture files and tell who ended which connection, in which phase, and why", ".pcap"),
    Command("chaos", "put a proxy that breaks connections by script between a client and a server", ".chaos"),
    Command("explain", "say what an error number, an error name, a log line or a traceback means", ".explain"),
)

_DESCRIPTION: Final = "Why connections die, and what to do about it."
_EPILOG: Final = """\
examples:
  holdwire doctor api.example.com            look at a server step by step; the first line is the verdict
  holdwire doctor --json 10.0.0.7:6379       the same for scripts
  holdwire idle api.example.com              after how much silence does a connection end, and how?
  holdwire pcap capture.pcap                 what a capture shows (tcpdump -s0 -w capture.pcap)
  holdwire explain ECONNRESET                look an error up; works offline
  holdwire chaos --to localhost:6379 --script 'response:100 rst'
                                             break connections on purpose, to see what a program makes of it
  journalctl -u app | holdwire explain       or everything known in a log or a traceback

exit codes: 0 healthy, 1 a problem found, 2 could not look
'holdwire COMMAND --help' tells more about each command."""


def main(argv: Sequence[str] | None = None, *, output: Output | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and write to ``output``; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_missing_streams()
    output = output or Output()
    try:
        args = _parser(arguments).parse_args(arguments)
        module: _Module = args.command.load()
        code = module.run(args, output)
        output.flush()
    except SystemExit as leave:  # argparse: --help, --version, wrong usage
        return leave.code if isinstance(leave.code, int) else COULD_NOT_LOOK
    except KeyboardInterrupt:
        output.note("interrupted")
        return _INTERRUPTED
    except CannotWrite as exc:
        output.give_up()
        if isinstance(exc.__cause__, BrokenPipeError):  # the reader of a pipe has seen enough
            return 0
        output.note(f"holdwire: cannot write the result: {exc}")
        return COULD_NOT_LOOK
    return code


def _open_missing_streams() -> None:
    """Let a standard stream that is closed lead nowhere. Its number would go to the next socket."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8", closefd=False))


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="holdwire",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"holdwire {version('holdwire')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(command=command)
        if command.name == chosen:
            module = command.load()
            sub.epilog = module.EPILOG
            module.add_arguments(sub)
    return parser
