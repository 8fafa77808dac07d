"""What the options of commands take, for argparse's ``type``: numbers in their range, files that can be read.

A bad value is told in one line that names its option, before anything is opened. Not responsible for values that only
make sense together (the commands).
"""

from __future__ import annotations

import argparse
import ipaddress
import math
import ssl
from pathlib import Path

__all__ = ["address", "authorities", "count", "file", "path", "seconds", "share"]


def seconds(text: str) -> float:
    """A time: finite, and above 0."""
    return _number(text, math.inf, "a number of seconds above 0")


def share(text: str) -> float:
    """A part of all: above 0, and at most 1."""
    return _number(text, 1, "a number above 0 and up to 1")


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"give a whole number of at least 1, not {text}")
    return int(text)


def address(text: str) -> str:
    """An IPv4 or IPv6 address."""
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"give an IP address, not {text}") from None


def path(text: str) -> str:
    """What is asked of an HTTP server: a path, perhaps with a query."""
    if not text.startswith("/") or not text.isascii() or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError(f"give a path that begins with /, in ASCII (the rest as %XX), not {text!r}")
    return text


def file(text: str) -> str:
    """The name of a file that can be read."""
    try:
        Path(text).open("rb").close()
    except OSError as exc:
        raise argparse.ArgumentTypeError(f"{text}: {exc.strerror}") from None
    return text


def authorities(text: str) -> str:
    """The name of a file of certificates to trust, in PEM."""
    try:
        ssl.create_default_context(cafile=file(text))
    except ssl.SSLError:
        raise argparse.ArgumentTypeError(f"{text}: there is no PEM certificate in it") from None
    return text


def _number(text: str, most: float, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not 0 < number <= most:
        raise argparse.ArgumentTypeError(f"give {what}, not {text}")
    return number
