"""Retry-After in seconds and in the three forms of an HTTP date."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from holdwire.policy.retry_after import parse_retry_after

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10),
        ("Sun Nov  6 08:49:47 1994", 10),
        ("Sun, 06 Nov 1994 08:49:27 GMT", 0),
        ("Mon, 06 Nov 1995 08:49:37 GMT", 365 * 86_400),
        ("Saturday, 06-Nov-95 08:49:37 GMT", 365 * 86_400),
        ("sun, 06 nov 1994 08:49:47 gmt", 10),
        ("Sun, 06 Nov 1994 08:49:60 GMT", 22),
    ],
)
def test_a_legal_value_is_understood(value: str, seconds: float) -> None:
    assert parse_retry_after(value, now=NOW) == seconds


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"])
@pytest.mark.parametrize("month", range(1, 13))
def test_every_month_has_its_name_in_every_form(month: int, form: str) -> None:
    then = datetime(1994, month, 3, 4, 5, 6, tzinfo=UTC)
    assert parse_retry_after(then.strftime(form), now=then.timestamp() - 7) == 7


@pytest.mark.parametrize(
    ("now", "value", "year"),
    [
        (1_780_000_000, "Monday, 01-Jun-76 00:00:00 GMT", 2076),  # in 2026
        (1_780_000_000, "Monday, 01-Jun-77 00:00:00 GMT", None),  # 2077 is more than 50 years ahead: 1977
        (946_684_799, "Saturday, 01-Jan-00 00:00:00 GMT", 2000),  # on the last second of 1999
        (946_684_799, "Friday, 01-Jan-49 00:00:00 GMT", 2049),
        (946_684_799, "Sunday, 01-Jan-50 00:00:00 GMT", None),
    ],
)
def test_two_digits_of_a_year_reach_fifty_years_ahead(now: float, value: str, year: int | None) -> None:
    seconds = parse_retry_after(value, now=now)
    assert seconds is not None
    assert (datetime.fromtimestamp(now + seconds, UTC).year if seconds else None) == year


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-1",
        "1.5",
        "+1",
        "soon",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "\u0661",
        "9" * 5000,
    ],
)
def test_what_cannot_be_read_is_none(value: str) -> None:
    assert parse_retry_after(value, now=NOW) is None
