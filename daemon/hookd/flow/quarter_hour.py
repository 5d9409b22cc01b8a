"""Owns the last fifteen minutes in numbers, for the status page's charts, and what was refused lately.

Rules: housekeeping shows it the counts each second, and it keeps those of every fifth. Nothing here is asked for again:
a count that the ledger forgot stays as it was.
Limits: `SAMPLES_MAX` rows of seven numbers, about 60 kB, and 60 kB of refusals, however long it runs and whoever looks.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from hookd.core.counters import Counters, Histogram
from hookd.core.delivery import Status
from hookd.core.ledger import Ledger
from hookd.core.refusals import Refusals
from hookd.core.retry import Reason

EVERY_SECONDS = 5.0
# One more than there are intervals in fifteen minutes.
SAMPLES_MAX = 181
LAG_QUANTILE = 0.99
ENDED_BY_PERSONS = (Reason.ENDPOINT_REMOVED, Reason.CANCELLED)


class Sample(NamedTuple):
    """Counts since the start, but for what is unsettled and the lag."""

    monotonic: float
    accepted: int
    delivered: int  # deliveries
    failed: int  # attempts
    given_up: int  # deliveries, but for what a person ended
    unsettled: int  # events
    lag_seconds: float | None  # p99 of the deliveries since the sample before; None: there were none


NOTHING_YET = Sample(0.0, 0, 0, 0, 0, 0, None)


class QuarterHour:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)
        self._lags = _counts(ledger.counters.lag_seconds)
        self.refusals = Refusals()  # the API notes them

    def look(self, now: float) -> None:
        """To be called about each second; `now` is monotonic."""
        # A tick that comes a hair early is taken: the next would be a second late.
        if not self._samples or now - self._samples[-1].monotonic >= EVERY_SECONDS - 0.5:
            self._samples.append(self._sample(now))

    def samples(self) -> list[Sample]:
        """The oldest first."""
        return list(self._samples)

    def given_up(self) -> int:
        """Deliveries given up since the oldest sample, since the start while the ring fills, but for a person's own."""
        return _given_up(self._ledger.counters) - self._given_up_before()

    def given_up_from(self) -> float:
        """When the first of those was given up (monotonic), or up to EVERY_SECONDS before that."""
        before, earlier = self._given_up_before(), self._ledger.started.monotonic
        for sample in self._samples:
            if sample.given_up > before:
                break
            earlier = sample.monotonic
        return earlier

    def _given_up_before(self) -> int:
        return self._samples[0].given_up if len(self._samples) == SAMPLES_MAX else 0

    def _sample(self, now: float) -> Sample:
        totals, counters = self._ledger.totals(), self._ledger.counters
        before, self._lags = self._lags, _counts(counters.lag_seconds)
        return Sample(
            now,
            totals.accepted,
            totals.deliveries[Status.DELIVERED],
            _failed(counters),
            _given_up(counters),
            totals.unsettled_events,
            _quantile(counters.lag_seconds.bounds, [b - a for a, b in zip(before, self._lags, strict=True)]),
        )


def rates(samples: Sequence[Sample], count: Callable[[Sample], int]) -> list[float]:
    """What was counted a second, between each two samples. A count that went back (a reopened delivery) is none."""
    return [max(0, count(b) - count(a)) / max(b.monotonic - a.monotonic, 1.0) for a, b in pairwise(samples)]


def _failed(counters: Counters) -> int:
    return sum(counters.attempts.values()) - counters.attempts["responded", "2xx"]


def _given_up(counters: Counters) -> int:
    return sum(count for reason, count in counters.given_up.items() if reason not in ENDED_BY_PERSONS)


def _counts(histogram: Histogram) -> list[int]:
    return [count for _, count in histogram.cumulative()]


def _quantile(bounds: Sequence[float], cumulative: Sequence[int]) -> float | None:
    """The upper bound of the bucket that holds it; the largest bound where it is beyond all."""
    if not cumulative[-1]:
        return None
    wanted = math.ceil(cumulative[-1] * LAG_QUANTILE)
    found = next(index for index, count in enumerate(cumulative) if count >= wanted)
    return bounds[min(found, len(bounds) - 1)]
