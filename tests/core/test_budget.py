"""How long until there is room: from what was measured, bounded."""

import math

import pytest
from hookd.core.budget import WINDOW_SECONDS, Demand, Settling, wait_seconds
from hypothesis import given
from hypothesis import strategies as st


def settled(*times: float, freed_bytes: int = 1000) -> Settling:
    settling = Settling()
    for time in times:
        settling.note(freed_bytes, time)
    return settling


def steadily(per_second: int, *, seconds: int, start: float = 1000.0) -> Settling:
    return settled(*(start + number / per_second for number in range(per_second * seconds)))


def test_nothing_settled_promises_nothing() -> None:
    """Infinity, not a guess; nothing lacking is no wait."""
    assert Settling().seconds_until_free(Demand(1, 0), 1000.0) == math.inf
    assert Settling().seconds_until_free(Demand(0, 1), 1000.0) == math.inf
    assert Settling().seconds_until_free(Demand(0, 0), 1000.0) == 0
    assert Settling().seconds_until_free(Demand(-5, -5), 1000.0) == 0


@pytest.mark.parametrize("per_second", [1, 10, 500])
@pytest.mark.parametrize("seconds", [1, 5, 10, 15, 60])
def test_wait_is_what_is_lacking_over_the_measured_rate(per_second: int, seconds: int) -> None:
    """From the first second on, and whichever part of a window it is."""
    settling = steadily(per_second, seconds=seconds)
    wait = settling.seconds_until_free(Demand(100, 0), 1000.0 + seconds)
    assert wait == pytest.approx(100 / per_second, rel=0.1)
    assert settling.seconds_until_free(Demand(0, 100_000), 1000.0 + seconds) == pytest.approx(wait)


def test_longer_of_the_two_waits_counts() -> None:
    """Room for events is no room for bytes."""
    settling = steadily(10, seconds=10)
    few_bytes = settling.seconds_until_free(Demand(50, 1000), 1010.0)
    many_bytes = settling.seconds_until_free(Demand(50, 500_000), 1010.0)
    assert (few_bytes, many_bytes) == (pytest.approx(5), pytest.approx(50))


def test_rate_follows_within_two_windows() -> None:
    """What was fast a while ago promises nothing now; after a lull the measuring begins anew."""
    settling = steadily(1000, seconds=10)
    now = 1010.0 + 2 * WINDOW_SECONDS
    assert settling.seconds_until_free(Demand(1, 0), now) == math.inf
    settling.note(1000, now + 1)
    settling.note(1000, now + 2)
    assert settling.seconds_until_free(Demand(1, 0), now + 2) == pytest.approx(1.0)


def test_burst_at_the_start_is_no_rate_of_thousands() -> None:
    """Ten in one instant are ten a second."""
    assert settled(*[5.0] * 10).seconds_until_free(Demand(100, 0), 5.0) == pytest.approx(10)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3, 1), (0, 1), (0.2, 1), (1, 1), (1.01, 2), (59.2, 60), (60, 60), (3600, 60), (math.inf, 60)],
)
def test_wait_is_whole_seconds_within_bounds(seconds: float, said: int) -> None:
    """Upward: a repeat that comes too early is refused again."""
    assert wait_seconds(seconds) == said


@given(
    st.lists(st.floats(0, 100), max_size=50).map(sorted),
    st.integers(-10, 10**9),
    st.integers(-10, 10**12),
    st.floats(0, 1000),
)
def test_wait_is_always_one_that_can_be_said(times: list[float], events: int, size: int, later: float) -> None:
    """Whatever settled when."""
    settling = settled(*times)
    seconds = settling.seconds_until_free(Demand(events, size), max(times, default=0.0) + later)
    assert seconds >= 0
    assert 1 <= wait_seconds(seconds) <= 60
