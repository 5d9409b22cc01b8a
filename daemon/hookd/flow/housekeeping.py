"""Owns what happens by the clock alone: ages that pass, rates, loop lag, whether the recorder's files stand, and the
counts line once a minute.
"""

from bisect import bisect_right
from collections import deque
from operator import attrgetter
from typing import Any, NamedTuple

import trio

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event
from hookd.core.ledger import Ledger
from hookd.flow.endings import Endings
from hookd.flow.endpoint_states import EndpointStates
from hookd.flow.ports import Clock, Log, LoopWatch, NothingWatched
from hookd.flow.quarter_hour import QuarterHour

TICK_SECONDS = 1.0
COUNTS_EVERY_SECONDS = 60.0
RATES_OVER_TICKS = 10
# Deliveries looked at, or events forgotten, in one go: about 5 ms. Then others have a turn.
ROWS_AT_ONCE = 1000
# After a look at what is old, none for so many times as long as it took.
REST_PER_LOOK = 9


class Sample(NamedTuple):
    monotonic: float
    accepted: int
    attempts: int
    delivered: int


class Rates(NamedTuple):
    """Events or deliveries a second, over the last ten seconds."""

    accepted: float
    attempts: float
    delivered: float


class Housekeeping:
    def __init__(
        self,
        *,
        effective: EffectiveSettings,
        ledger: Ledger,
        states: EndpointStates,
        endings: Endings,
        clock: Clock,
        log: Log,
        loop_watch: LoopWatch | None = None,
    ) -> None:
        self._effective = effective
        self._ledger = ledger
        self._states = states
        self._endings = endings
        self._clock = clock
        self._log = log
        self._loop_watch = loop_watch or NothingWatched()
        self._samples: deque[Sample] = deque([self._sample()], maxlen=RATES_OVER_TICKS + 1)
        self._lags: deque[float] = deque([0.0], maxlen=RATES_OVER_TICKS)
        self.quarter_hour = QuarterHour(ledger)
        self._look_from = float("-inf")  # monotonic: when what is old may be looked at again

    @property
    def loop_lag_seconds(self) -> float:
        """The longest that the event loop kept everyone waiting, in the last ten ticks and since."""
        return max(*self._lags, self._loop_watch.longest_seconds)

    def rates(self) -> Rates:
        first, last = self._samples[0], self._sample()
        seconds = max(last.monotonic - first.monotonic, TICK_SECONDS)
        return Rates(
            (last.accepted - first.accepted) / seconds,
            (last.attempts - first.attempts) / seconds,
            (last.delivered - first.delivered) / seconds,
        )

    async def run(self) -> None:
        next_tick = trio.current_time() + TICK_SECONDS
        next_counts = trio.current_time() + COUNTS_EVERY_SECONDS
        while True:
            await trio.sleep_until(next_tick)
            now = trio.current_time()
            self._lags.append(max(now - next_tick, self._loop_watch.longest_seconds))
            self._loop_watch.begin_anew()
            next_tick = max(next_tick + TICK_SECONDS, now)
            self._samples.append(self._sample())
            self.quarter_hour.look(self._samples[-1].monotonic)
            self._ledger.recorder.prove()
            await self._expire()
            await self._states.tell_of_time()
            while self._ledger.forget_aged(self._clock.now(), most=ROWS_AT_ONCE):
                await trio.lowlevel.checkpoint()
            if now >= next_counts:
                next_counts = now + COUNTS_EVERY_SECONDS
                self.log_counts()

    async def _expire(self) -> None:
        """Gives up what has waited longer than `retry.age_max`, or is past its event's own expiry.

        It looks at all that is old enough, a slice at a time.

        What a pause holds is old for as long as it lasts. So a look takes at most a tenth of the time.
        """
        began = self._clock.now().monotonic
        if began < self._look_from:
            return
        old = self._old(began) + self._ledger.expiries.lapsed(began)
        expired: list[Event] = []
        looked_at = 0
        for event in old:
            looked_at += len(event.deliveries)
            if self._has_expired(event):
                expired.append(event)
            if looked_at >= ROWS_AT_ONCE:
                await trio.lowlevel.checkpoint()
                looked_at = 0
        if looked_at:
            await trio.lowlevel.checkpoint()
        ended = self._clock.now().monotonic
        self._look_from = ended + (ended - began) * REST_PER_LOOK
        if expired:
            self._endings.expired(expired)

    def _old(self, now: float) -> list[Event]:
        """No delivery of an event is older than its `since`, by which they stand; its age may stand still at times."""
        opened_until = now - self._effective.settings.retry.age_seconds_max
        found: list[Event] = []
        for unsettled in (self._ledger.unsettled, self._ledger.operations.unsettled):
            oldest = unsettled.oldest()
            if oldest is not None and oldest.since <= opened_until:
                rows = list(unsettled)
                found += rows[: bisect_right(rows, opened_until, key=attrgetter("since"))]
        return found

    def _has_expired(self, event: Event) -> bool:
        """Whether something of it that waits has."""
        now, has_expired = self._clock.now().monotonic, self._ledger.terms.has_expired
        return any(one.is_waiting and has_expired(event, one, now=now) for one in event.deliveries)

    def log_counts(self) -> None:
        self._log("counts", **self.counts())

    def counts(self) -> dict[str, Any]:
        totals = self._ledger.totals()
        return {
            "accepted": totals.accepted,
            "opened": totals.opened,
            "in_flight": totals.in_flight,
            "unsettled_events": totals.unsettled_events,
            "unsettled_bytes": totals.unsettled_bytes,
            "attempts": totals.attempts,
            "events": {status.value: count for status, count in totals.events.items()},
            "deliveries": {status.value: count for status, count in totals.deliveries.items()},
            "loop_lag_seconds": round(self.loop_lag_seconds, 4),
        }

    def _sample(self) -> Sample:
        totals = self._ledger.totals()
        return Sample(
            self._clock.now().monotonic, totals.accepted, totals.attempts, self._ledger.counters.lag_seconds.count
        )
