"""The plain words about a failure: one sentence for the likely cause and one for the remedy.

A closed set: rows of data for each ``Kind``, the most special first; the first whose condition holds wins, and the
last one always holds. No row contains text of the peer or a number, so that causes can be counted and grouped.
"Unknown" is an answer. Not responsible for causes that need the history of an origin, such as its idle limit
(``cause``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ._conditions import Words
from ._protocol_words import PROTOCOL_WORDS
from ._socket_words import SOCKET_WORDS
from .kind import Confidence, Kind

if TYPE_CHECKING:
    from .failure import Failure

__all__ = ["CONFIDENCE", "WORDS", "Words", "confidence_in", "words_for"]

WORDS: Final[dict[Kind, tuple[Words, ...]]] = SOCKET_WORDS | PROTOCOL_WORDS
"""All rows, by kind."""

CONFIDENCE: Final[dict[Kind, Confidence]] = {
    Kind.BAD_FILE_DESCRIPTOR: Confidence.CERTAIN,
    Kind.NO_FILE_DESCRIPTORS: Confidence.CERTAIN,
    Kind.NO_BUFFER_SPACE_AVAILABLE: Confidence.CERTAIN,
    Kind.ADDRESS_NOT_AVAILABLE: Confidence.CERTAIN,
    Kind.ADDRESS_ALREADY_IN_USE: Confidence.CERTAIN,
    Kind.NETWORK_DOWN: Confidence.CERTAIN,
    Kind.CERTIFICATE_INVALID: Confidence.CERTAIN,
    Kind.PROXY_REFUSED: Confidence.CERTAIN,
    Kind.HTTP2_GOAWAY: Confidence.CERTAIN,
    Kind.HTTP2_STREAM_RESET: Confidence.CERTAIN,
    Kind.POOL_TIMEOUT: Confidence.CERTAIN,
    Kind.CANCELLED: Confidence.CERTAIN,
    Kind.CONNECTION_RESET: Confidence.POSSIBLE,
    Kind.CONNECTION_ABORTED: Confidence.POSSIBLE,
    Kind.BROKEN_PIPE: Confidence.POSSIBLE,
    Kind.UNEXPECTED_EOF: Confidence.POSSIBLE,
    Kind.OTHER: Confidence.UNKNOWN,
}
"""How sure the words of a kind are; those of all others are likely. An end without a reason can have several."""


def confidence_in(kind: Kind) -> Confidence:
    """How sure the words of ``kind`` are."""
    return CONFIDENCE.get(kind, Confidence.LIKELY)


def words_for(failure: Failure) -> tuple[str, str]:
    """Cause and remedy of ``failure``, whatever it holds as such already."""
    row = next(row for row in WORDS[failure.kind] if row.when(failure))
    return row.cause, row.remedy
