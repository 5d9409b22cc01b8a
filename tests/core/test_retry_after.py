"""Retry-After is written by strangers: what can be read is clamped, everything else is ignored."""

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
        ("9" * 400, RETRY_AFTER_SECONDS_MAX),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_SECONDS_MAX),
        ("Sun, 06 Nov 1994 08:49:60 GMT", 23.0),
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
        "1.5",
        "1_0",
        "\uff11\uff12",
        "0x10",
        "1e3",
        "9" * 5000,
        "5, 10",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 31 Feb 2027 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 0000 08:00:00 GMT",
    ],
)
def test_unreadable_header_is_ignored(header: str | None):
    """A header that says nothing sensible costs nothing and delays nothing."""
    assert retry_after_seconds(header, now_wall=NOW) is None


@given(st.text(), st.floats(0, 4e9))
def test_any_text_is_within_bounds_or_ignored(header: str, now_wall: float):
    """Whatever is written there, nothing is raised."""
    seconds = retry_after_seconds(header, now_wall=now_wall)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_SECONDS_MAX
