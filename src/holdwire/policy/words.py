"""The plain words about a failure: one sentence for the likely cause and one for the remedy.

A closed set: rows of data for each ``Kind``, the most special first; the first whose condition holds wins, and the
last one always holds. No row contains text of the peer or a number, so that causes can be counted and grouped.
"Unknown" is an answer. Not responsible for causes that need the history of an origin, such as its idle limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ._conditions import Words
from ._protocol_words import PROTOCOL_WORDS
from ._socket_words import SOCKET_WORDS

if TYPE_CHECKING:
    from .failure import Failure
    from .kind import Kind

__all__ = ["WORDS", "Words", "words_for"]

WORDS: Final[dict[Kind, tuple[Words, ...]]] = SOCKET_WORDS | PROTOCOL_WORDS
"""All rows, by kind."""


def words_for(failure: Failure) -> tuple[str, str]:
    """Cause and remedy of ``failure``, whatever it holds as such already."""
    row = next(row for row in WORDS[failure.kind] if row.when(failure))
    return row.cause, row.remedy
