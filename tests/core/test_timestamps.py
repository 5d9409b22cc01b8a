"""How wall time is written for people, and read back."""

from datetime import datetime, timedelta, timezone

import pytest
from hookd.core.timestamps import WALL_MAX, compact, parse_rfc3339, rfc3339, rfc3339_or_none
from hypothesis import given
from hypothesis import strategies as st

MILLISECONDS = st.integers(0, int(WALL_MAX) * 1000)
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@pytest.mark.parametrize(
    ("wall", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1795286100.0, "2026-11-21T18:35:00.000Z"),
        (1795286100.123, "2026-11-21T18:35:00.123Z"),
        (1795286100.007, "2026-11-21T18:35:00.007Z"),
        (1795286100.9996, "2026-11-21T18:35:01.000Z"),
        (1709251199.9999, "2024-03-01T00:00:00.000Z"),
        (WALL_MAX, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_rfc3339_is_utc_rounded_to_three_decimals(wall: float, text: str) -> None:
    """Three decimals always, rounded into the next second and day where they must be."""
    assert rfc3339(wall) == text
    assert rfc3339_or_none(wall) == text


def test_first_and_last_second_are_read() -> None:
    """Both ends of the range are in it."""
    assert parse_rfc3339("1970-01-01T00:00:00Z") == 0
    assert parse_rfc3339("9999-12-31T23:59:59Z") == WALL_MAX


def test_rfc3339_or_none_of_none_is_none() -> None:
    """What has not happened has no time."""
    assert rfc3339_or_none(None) is None
    assert rfc3339_or_none(0.0) is not None


@given(MILLISECONDS)
def test_rfc3339_of_whole_milliseconds_is_read_back_the_same(milliseconds: int) -> None:
    """Writing and reading loses nothing, up to the millisecond."""
    text = rfc3339(milliseconds / 1000)
    assert round(parse_rfc3339(text) * 1000) == milliseconds
    assert rfc3339(parse_rfc3339(text)) == text


@given(MILLISECONDS, MILLISECONDS)
def test_rfc3339_texts_sort_as_their_times_do(one: int, other: int) -> None:
    """A fixed width makes the text's order the time's order."""
    assert (rfc3339(one / 1000) < rfc3339(other / 1000)) == (one < other)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T18:35:00Z",
        "2026-11-21T18:35:00.000Z",
        "2026-11-21T19:35:00+01:00",
        "2026-11-21T13:05:00-05:30",
        "2026-11-22T00:05:00.000000+05:30",
    ],
)
def test_parse_takes_any_offset(text: str) -> None:
    """The same moment, however it is written."""
    assert parse_rfc3339(text) == 1795286100.0


@pytest.mark.parametrize("text", ["2026-11-21T18:35:00", "2026-11-21", "2026-11-21 18:35:00.123"])
def test_parse_without_offset_is_refused(text: str) -> None:
    """A time that could be anywhere is no time; the message says how to write one."""
    with pytest.raises(ValueError, match="no UTC offset; write 2026-11-21T18:35:00Z"):
        parse_rfc3339(text)


@pytest.mark.parametrize("text", ["", "now", "1795286100", "2026-13-01T00:00:00Z", "2026-11-21T25:00:00Z", "\ud800"])
def test_parse_of_no_time_is_a_value_error(text: str) -> None:
    """Whatever is not a time raises ValueError and nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the standard library's
        parse_rfc3339(text)


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+23:59",
        "0900-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59.9999Z",
        "9999-12-31T23:59:59-01:00",
    ],
)
def test_parse_of_a_time_that_cannot_be_written_is_refused(text: str) -> None:
    """A resent `accepted_at` that no listing or report could show again would stop the report of everything."""
    with pytest.raises(ValueError, match="years 1970 to 9999"):
        parse_rfc3339(text)


@given(st.datetimes(timezones=OFFSETS))
def test_parse_accepts_only_what_can_be_written(moment: datetime) -> None:
    """Whatever is read can be shown, and is the same time to the millisecond."""
    try:
        wall = parse_rfc3339(moment.isoformat())
    except ValueError:
        return
    assert parse_rfc3339(rfc3339(wall)) == pytest.approx(wall, abs=0.001)


def test_compact_is_utc_to_the_second() -> None:
    """File names carry no colon and cut the fraction."""
    assert compact(1795286100.999) == "20261121T183500Z"
