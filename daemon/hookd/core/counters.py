"""Owns the counts that no row tells any more: what attempts came to, how long they took, why deliveries were given up.

Rules: every count only grows, from the start of the run; each is kept by who sees the thing happen (the ledger; for
refusals, the API), in O(1): 2 us an attempt, both histograms included. What is told by the rows themselves
(statuses, budget, in flight) is core/ledger's totals, not here.
Limits: a fixed number of counts, none by client, endpoint or event: about 5 kB, however long it runs.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from hookd.core import outcome as outcomes
from hookd.core.delivery import Status
from hookd.core.outcome import Outcome, Responded
from hookd.core.retry import Reason

# Round a receiver's usual answer, and at the default timeout of 15 s.
DURATION_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0)
# From one attempt at once to the whole horizon: a first attempt, each retry of the default schedule, `retry.age_max`.
LAG_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)

_RESPONDED = {leading: ("responded", f"{leading}xx") for leading in range(2, 6)}
_OTHER = ("responded", "other")
CUT = "cut"  # an attempt that a stop or a crash ended: it has no outcome
STATUS_CLASSES = ("2xx", "3xx", "4xx", "5xx", "other")
KINDS = (
    *(("responded", status_class) for status_class in STATUS_CLASSES),
    *((name, "") for name in ("timed_out", "unreachable", "blocked", "invalid", CUT)),
)


class Histogram:
    """How many were at most so long, for each bound; and their sum."""

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.sum = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def note(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Each bound, infinity last, with how many were no larger."""
        return zip((*self.bounds, float("inf")), accumulate(self._counts), strict=True)

    @property
    def count(self) -> int:
        return sum(self._counts)


class Counters:
    __slots__ = ("attempt_seconds", "attempts", "given_up", "lag_seconds", "reconnects", "refused", "reopened")

    def __init__(self) -> None:
        self.attempts = dict.fromkeys(KINDS, 0)  # those that ended, by outcome and status class
        self.attempt_seconds = Histogram(DURATION_SECONDS)  # of those with an outcome
        self.lag_seconds = Histogram(LAG_SECONDS)  # of deliveries, as observe_delivered has it
        self.reconnects = 0  # attempts that posted twice, since a kept connection was stale
        self.given_up = dict.fromkeys(Reason, 0)
        self.reopened = {Status.DELIVERED: 0, Status.EXHAUSTED: 0}  # deliveries, by what they were before
        self.refused: Counter[str] = Counter()  # by the problem's slug

    def observe_attempt(self, outcome: Outcome | None, duration_seconds: float) -> None:
        self.attempts[kind(outcome)] += 1
        if outcome is not None:
            self.attempt_seconds.note(duration_seconds)

    def observe_delivered(self, lag_seconds: float) -> None:
        """By the monotonic clock: from the moment that this run took the event in, or reopened it."""
        self.lag_seconds.note(lag_seconds)


def kind(outcome: Outcome | None) -> tuple[str, str]:
    """One of `KINDS`."""
    if outcome is None:
        return CUT, ""
    if isinstance(outcome, Responded):
        return _RESPONDED.get(outcome.status_code // 100, _OTHER)
    return outcomes.name(outcome), ""
