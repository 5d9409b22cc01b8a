"""The tally counts each thing once, in the right place, and only ever grows."""

import math

import pytest
from hookd.core.counters import KINDS, Counters, Histogram, kind
from hookd.core.outcome import Blocked, Invalid, Outcome, Responded, TimedOut, Unreachable


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Responded(200), ("responded", "2xx")),
        (Responded(299), ("responded", "2xx")),
        (Responded(301), ("responded", "3xx")),
        (Responded(410), ("responded", "4xx")),
        (Responded(503), ("responded", "5xx")),
        (Responded(600), ("responded", "other")),
        (Responded(999), ("responded", "other")),
        (Responded(101), ("responded", "other")),
        (TimedOut(15.0), ("timed_out", "")),
        (Unreachable("refused"), ("unreachable", "")),
        (Blocked("10.0.0.1"), ("blocked", "")),
        (Invalid("not HTTP"), ("invalid", "")),
        (None, ("cut", "")),
    ],
)
def test_attempt_is_counted_by_outcome_and_status_class(outcome: Outcome | None, expected: tuple[str, str]) -> None:
    """Every outcome has one of a fixed set of places; a status out of the ordinary makes no new one."""
    counters = Counters()
    counters.observe_attempt(outcome, 0.5)
    assert kind(outcome) == expected
    assert counters.attempts == dict.fromkeys(KINDS, 0) | {expected: 1}
    assert counters.attempt_seconds.count == (outcome is not None)


def test_distribution_counts_a_value_at_its_bound_as_within() -> None:
    """`le` means at most; what is over the last bound is in infinity alone."""
    distribution = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.11, 1.0, 7.0):
        distribution.note(value)
    assert list(distribution.cumulative()) == [(0.1, 2), (1.0, 4), (math.inf, 5)]
    assert distribution.sum == pytest.approx(8.26)
    assert distribution.count == 5
