"""The last fifteen minutes in numbers: what is kept, and for how long."""

import itertools

from hookd.core.outcome import Responded
from hookd.core.retry import Reason
from hookd.flow.quarter_hour import EVERY_SECONDS, SAMPLES_MAX, QuarterHour, rates

from tests.flow.harness import Flow


async def test_ring_holds_fifteen_minutes_and_no_more(autojump_clock) -> None:
    """A look each second, for an hour: one sample for each fifth second, the oldest forgotten."""
    ring = QuarterHour(Flow().ledger)
    for second in range(3600):
        ring.look(float(second))
    samples = ring.samples()
    assert len(samples) == SAMPLES_MAX
    assert {b.monotonic - a.monotonic for a, b in itertools.pairwise(samples)} == {EVERY_SECONDS}
    assert samples[-1].monotonic - samples[0].monotonic == 900


async def test_tick_that_comes_a_hair_early_is_taken(autojump_clock) -> None:
    """Else the next one would be a second late, and the ring of 18 minutes."""
    ring = QuarterHour(Flow().ledger)
    ring.look(0.0)
    ring.look(4.0)
    ring.look(4.999)
    assert [one.monotonic for one in ring.samples()] == [0.0, 4.999]


async def test_sample_tells_the_lag_of_its_own_interval(autojump_clock) -> None:
    """p99 by the buckets' upper bounds: 99 quick ones and one slow are quick, two slow of 100 are slow."""
    flow = Flow()
    ring, counters = QuarterHour(flow.ledger), flow.ledger.counters
    ring.look(0.0)
    for lag_seconds in [0.02] * 99 + [200.0]:
        counters.observe_delivered(lag_seconds)
    ring.look(5.0)
    for lag_seconds in [0.02] * 98 + [200.0] * 2:
        counters.observe_delivered(lag_seconds)
    ring.look(10.0)
    counters.observe_delivered(1e9)
    ring.look(15.0)
    ring.look(20.0)
    assert [one.lag_seconds for one in ring.samples()] == [None, 0.025, 300.0, 14400.0, None]


async def test_failed_attempts_are_all_but_the_successes(autojump_clock) -> None:
    """By the interval, a second."""
    flow = Flow()
    ring, counters = QuarterHour(flow.ledger), flow.ledger.counters
    ring.look(0.0)
    for code in [200] * 7 + [404] * 10 + [503] * 5:
        counters.observe_attempt(Responded(code), 0.1)
    ring.look(5.0)
    ring.look(10.0)
    assert rates(ring.samples(), lambda one: one.failed) == [3.0, 0.0]
    assert rates(ring.samples(), lambda one: -one.failed) == [0.0, 0.0]


async def test_given_up_are_those_of_the_ring(autojump_clock) -> None:
    """What was given up before the first sample counts until the ring is full; what a person ended is left out."""
    flow = Flow()
    ring, given_up = QuarterHour(flow.ledger), flow.ledger.counters.given_up
    given_up[Reason.EXPIRED] += 2
    assert ring.given_up() == 2
    ring.look(0.0)
    given_up[Reason.GONE] += 3
    given_up[Reason.ENDPOINT_REMOVED] += 5
    assert ring.given_up() == 5
    for number in range(1, SAMPLES_MAX):
        assert ring.given_up() == 5
        ring.look(number * EVERY_SECONDS)
    assert ring.given_up() == 3
    ring.look(SAMPLES_MAX * EVERY_SECONDS)
    assert ring.given_up() == 0


async def test_first_that_was_given_up_is_dated_by_the_sample_before(autojump_clock) -> None:
    """Never later than it was, and 5 s earlier at most: whoever replays by then is in time."""
    flow = Flow()
    ring, given_up = QuarterHour(flow.ledger), flow.ledger.counters.given_up
    given_up[Reason.EXPIRED] += 1
    assert ring.given_up_from() == flow.ledger.started.monotonic
    for number in range(1, SAMPLES_MAX + 1):
        ring.look(number * EVERY_SECONDS)
        if number == 7:
            given_up[Reason.GONE] += 1
    assert ring.given_up() == 1
    assert ring.given_up_from() == 7 * EVERY_SECONDS
