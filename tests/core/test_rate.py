"""An endpoint's rate: what it says, and when the next attempt may begin."""

import math
import sys
from array import array

import pytest
from hookd.core.rate import RATE_PER_SECOND_MAX, Rate, RateLog
from hypothesis import given
from hypothesis import strategies as st

RATES = st.one_of(
    st.builds("{}/s".format, st.integers(1, 50)),
    st.builds("{}/m".format, st.integers(1, 3000)),
    st.builds("{}/h".format, st.integers(1, 180_000)),
).map(Rate.of)


@pytest.mark.parametrize(
    ("text", "burst", "window_seconds"),
    [("10/s", 10, 1), ("1/s", 1, 1), ("30/m", 1, 2), ("90/m", 1, 60 / 90), ("150/m", 2, 0.8), ("1/h", 1, 3600)],
)
def test_rate_is_one_seconds_worth_in_its_time(text: str, burst: int, window_seconds: float) -> None:
    """And one at least."""
    assert Rate.of(text) == (text, burst, pytest.approx(window_seconds))


@pytest.mark.parametrize(
    "text",
    ["", "10", "10/d", "0/s", "-1/s", "1.5/s", "01/s", "10 /s", "10/S", "1001/s", "60001/m", "3600001/h", "1/s\n"],
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="attempts a second"):
        Rate.of(text)


def test_largest_rates_are_taken() -> None:
    assert {Rate.of(text).burst for text in ("1000/s", "60000/m", "3600000/h")} == {RATE_PER_SECOND_MAX}


def begun(rate: Rate, asked_at: list[float]) -> list[float]:
    """When attempts began that were asked for at these times, each as soon as it might."""
    log, times, now = RateLog(), [], -math.inf
    for asked in asked_at:
        now = max(now, asked, log.begins_from(rate))
        log.note(rate, now)
        times.append(now)
    return times


def most_in_a_window(times: list[float], window_seconds: float) -> int:
    """With room for a rounding error."""
    most, first = 0, 0
    for last, time in enumerate(times):
        while times[first] <= time - window_seconds * (1 - 1e-9):
            first += 1
        most = max(most, last - first + 1)
    return most


@given(RATES, st.lists(st.floats(0, 100), min_size=1, max_size=300).map(sorted))
def test_never_more_than_a_burst_in_any_window(rate: Rate, asked_at: list[float]) -> None:
    assert most_in_a_window(begun(rate, asked_at), rate.window_seconds) <= rate.burst


@pytest.mark.parametrize("text", ["10/s", "7/m", "1000/s", "150/m"])
def test_hundred_thousand_attempts_keep_to_it_and_reach_it(text: str) -> None:
    """With a backlog the rate itself is reached; a burst begins at once."""
    rate = Rate.of(text)
    times = begun(rate, [0.0] * 100_000)
    assert times[: rate.burst] == [0.0] * rate.burst
    assert most_in_a_window(times, rate.window_seconds) <= rate.burst
    assert len(times) / times[-1] == pytest.approx(rate.burst / rate.window_seconds, rel=0.02)


@given(RATES, RATES, st.integers(0, 100))
def test_another_rate_counts_what_began_lately(before: Rate, after: Rate, number: int) -> None:
    """As if it had been in force, as far as the log of the one before reaches."""
    log = RateLog()
    for at in range(number):
        log.note(before, float(at))
    known = min(number, before.burst)
    allowed = log.begins_from(after)
    if known < after.burst:
        assert allowed == -math.inf
    else:
        assert allowed == number - after.burst + after.window_seconds


def test_log_takes_what_it_is_said_to() -> None:
    rate = Rate.of("1000/s")
    log = RateLog()
    log.note(rate, 1.0)
    assert sys.getsizeof(log) + sys.getsizeof(array("d", [0.0] * 1000)) <= rate.log_bytes
