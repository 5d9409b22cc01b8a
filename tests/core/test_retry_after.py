"""Retry-After is written by strangers: what can be read is clamped, everything else is ignored."""

import time
from datetime import datetime

import pytest
from hookd.core.retry_after import RETRY_AFTER_SECONDS_MAX, retry_after_seconds
from hypothesis import given
from hypothesis import strategies as st

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7\t", 7.0),
        ("3601", RETRY_AFTER_SECONDS_MAX),
        ("120.0", 120.0),
        ("1.5", 1.5),
        ("0.0", 0.0),
        ("120, 120", 120.0),
        ("120,120", 120.0),
        ("9" * 400, RETRY_AFTER_SECONDS_MAX),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:59:59 GMT", 622.0),
        ("Sun, 06 Nov 1994 23:00:00 GMT", RETRY_AFTER_SECONDS_MAX),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_SECONDS_MAX),
        ("Sun, 06 Nov 1994 08:49:60 GMT", 23.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        ("Sun, 06-Nov-94 08:50:37 GMT", 60.0),
        ("Sun Nov  6 08:50:37 1994", 60.0),
        ("Wed Nov 16 08:50:37 1994", RETRY_AFTER_SECONDS_MAX),
        ("Sun, 6 Nov 1994 08:50:37 GMT", 60.0),
        ("sun, 06 nov 1994 08:50:37 gmt", 60.0),
        ("Sun, 06 Nov 1994 08:50:37 UTC", 60.0),
        ("Sun, 06 Nov 1994 08:50:37 -0000", 60.0),
        ("Sun, 06 Nov 1994 08:50:37 GMT, Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
    ],
)
def test_readable_header_is_clamped(header: str, seconds: float):
    """Digits and IMF dates are read, past ones as now, long ones as an hour."""
    assert retry_after_seconds(header, now_wall=NOW) == seconds


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "inf",
        "nan",
        "-5",
        "+5",
        "1_0",
        "\uff11\uff12",
        "0x10",
        "1e3",
        "9" * 5000,
        "5, 10",
        "5, 5, 10",
        "5 5",
        "5,",
        "1.",
        ".5",
        "1.5.0",
        "120 s",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 +0200",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sunday, 06-Nov-1994 08:49:37 GMT 1",
        "Sunday, 31-Feb-94 08:49:37 GMT",
        "Sun Feb 31 08:49:37 1994",
        "Sun, \uff10\uff16 Nov 1994 08:50:37 GMT",
        ", ".join(["5"] * 1000),
        "Sun, 31 Feb 2027 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Wed, 31 Dec 1969 23:59:59 GMT",
        "Xyz Nov  6 08:50:37 1994",
        "Sun, 06 Nov 0000 08:00:00 GMT",
    ],
)
def test_unreadable_header_is_ignored(header: str | None):
    """A header that says nothing sensible costs nothing and delays nothing."""
    assert retry_after_seconds(header, now_wall=NOW) is None


@pytest.mark.parametrize(
    ("now", "date", "seconds"),
    [
        ("2026-11-29", "Sunday, 29-Nov-26 00:01:00 GMT", 60.0),
        ("2026-11-29", "Sunday, 29-Nov-76 00:01:00 GMT", RETRY_AFTER_SECONDS_MAX),  # 2076: 50 years ahead
        ("2026-11-29", "Monday, 29-Nov-77 00:01:00 GMT", 0.0),  # 1977
        ("1999-12-31", "Saturday, 01-Jan-00 00:00:00 GMT", RETRY_AFTER_SECONDS_MAX),  # tomorrow
        ("2099-12-31", "Saturday, 31-Dec-99 00:01:00 GMT", 60.0),
    ],
)
def test_year_of_two_digits_is_never_more_than_fifty_years_ahead(now: str, date: str, seconds: float):
    """RFC 9110 5.6.7."""
    assert retry_after_seconds(date, now_wall=datetime.fromisoformat(now + "T00:00:00Z").timestamp()) == seconds


def test_year_of_two_digits_is_counted_from_the_year_in_utc(monkeypatch: pytest.MonkeyPatch):
    """On the last evening of 1999 in UTC it is 2000 in Kiribati: 50 is 1950 there too, and says nothing."""
    monkeypatch.setenv("TZ", "Etc/GMT-14")
    time.tzset()
    try:
        now_wall = datetime.fromisoformat("1999-12-31T23:30:00Z").timestamp()
        assert datetime.fromtimestamp(now_wall).astimezone().year == 2000
        assert retry_after_seconds("Saturday, 01-Jan-50 00:00:00 GMT", now_wall=now_wall) is None
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text(), st.floats(0, 4e9))
def test_any_text_is_within_bounds_or_ignored(header: str, now_wall: float):
    """Whatever is written there, nothing is raised."""
    seconds = retry_after_seconds(header, now_wall=now_wall)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_SECONDS_MAX
