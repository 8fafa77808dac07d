"""``Retry-After``: a number of seconds or an HTTP date (RFC 9110, sections 5.6.7 and 10.2.3), as seconds from now.

Not responsible for whether to obey it (``retry``).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

__all__ = ["parse_retry_after"]

_SECONDS: Final = re.compile(r"[0-9]{1,300}", re.ASCII)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH: Final = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME: Final = r"(?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2})"
_DATES: Final = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        rf"[a-z]{{3}}, (?P<day>\d{{2}}) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT",  # IMF-fixdate
        rf"[a-z]{{6,9}}, (?P<day>\d{{2}})-{_MONTH}-(?P<year>\d{{2}}) {_TIME} GMT",  # RFC 850
        rf"[a-z]{{3}} {_MONTH} (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",  # asctime
    )
)
_CENTURY: Final = 100
_FAR: Final = 50
_TWO_DIGITS: Final = 2


def parse_retry_after(value: str, *, now: float) -> float | None:
    """The seconds to wait, 0 for a date that has passed, None for what cannot be read (a negative number, say).

    ``now`` is Unix time. A date of RFC 850 that seems more than 50 years ahead is in the past (RFC 9110, 5.6.7).
    """
    value = value.strip(" \t")
    if _SECONDS.fullmatch(value):
        return float(value)
    for pattern in _DATES:
        found = pattern.fullmatch(value)
        if found:
            moment = _moment(found, now)
            return None if moment is None else max(0.0, moment - now)
    return None


def _moment(found: re.Match[str], now: float) -> float | None:
    """The Unix time of a date, None if the calendar has no such date."""
    year = int(found["year"])
    if len(found["year"]) == _TWO_DIGITS:
        this_year = datetime.fromtimestamp(now, UTC).year
        year += this_year - this_year % _CENTURY
        if year > this_year + _FAR:
            year -= _CENTURY
        elif year <= this_year - _FAR:
            year += _CENTURY
    try:
        return datetime(
            year,
            _MONTHS.index(found["month"].lower()) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            min(int(found["second"]), 59),  # a leap second is legal there and not here
            tzinfo=UTC,
        ).timestamp()
    except ValueError:
        return None
