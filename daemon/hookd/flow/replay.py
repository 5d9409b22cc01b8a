"""Owns replay: sending a client's events again after an outage, as far as the budgets go (contract section 5).

Rules:
 1. `exhausted` reopens what was given up, `delivered` sends again what was delivered, `failed` makes due what waits.
 2. Each is found by the time at which it came into that status, both ends included, to the millisecond that people are
    shown. With `delivered`, an endpoint that came later gets what was accepted in that time.
 3. A delivery whose endpoint is removed or disabled does not match. One whose payload was dropped is counted apart.
 4. The oldest event comes first, and takes its budget whole. The first that has no room ends it: the rest is counted.
 5. Nothing is expedited, but for the oldest that waits at an endpoint that is paused by failures: it tells whether the
    outage is over. A throttled endpoint gets its wait.
 6. Others have a turn after each slice. A caller that resets its connection half way ends the rest. What was done stays
    so, and the log has the count.
What sending again takes is flow/reopening's, and what making due takes is flow/retry_now's.
Limits: one replay at a time, others wait; it lists every event held of its client, 8 B each.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import trio

from hookd.core.client import Endpoint
from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event
from hookd.core.health import PausedBy
from hookd.core.ledger import Ledger
from hookd.core.refusal import ClientFull, Draining, Full, Refused
from hookd.core.registry import Registry
from hookd.core.subscription import Subscription
from hookd.core.timestamps import Moment
from hookd.flow.intake import Intake
from hookd.flow.ports import Clock, Log
from hookd.flow.reopening import Reopening
from hookd.flow.retry_now import RetryNow

# Then others have a turn: 4 ms at most. A look at an event or a delivery is 2 us. To compare a type with a text takes
# less, but a replay may have a hundred patterns.
LOOKED_AT_AT_ONCE = 1500
LOOKS_PER_REOPENING = 15
COMPARISONS_PER_LOOK = 5


class Span(NamedTuple):
    """From when to when (wall), both included; None: no bound."""

    since: float | None = None
    until: float | None = None

    def holds(self, wall: float) -> bool:
        milliseconds = round(wall * 1000)
        return (self.since is None or milliseconds >= round(self.since * 1000)) and (
            self.until is None or milliseconds <= round(self.until * 1000)
        )


class Wanted(NamedTuple):
    """Which deliveries: in one of these statuses, since and until when; of these types, and of this endpoint alone."""

    span: Span = Span()
    statuses: frozenset[Status] = frozenset({Status.EXHAUSTED})
    types: Subscription | None = None  # None: whichever
    endpoint_id: str | None = None


class Replayed(NamedTuple):
    """Deliveries. What matched was reopened, or is left: `stopped_by` says why."""

    matched: int
    reopened: int
    without_payload: int = 0  # delivered in that time; they cannot be sent again
    stopped_by: Refused | None = None

    @property
    def left(self) -> int:
        return 0 if self.stopped_by is None else self.matched - self.reopened


class _Matches(NamedTuple):
    """Of one event."""

    settled: list[Delivery]
    waiting: list[Delivery]
    later: list[Endpoint]

    @property
    def number(self) -> int:
        return len(self.settled) + len(self.waiting) + len(self.later)


class _Progress:
    """Of one replay."""

    def __init__(self) -> None:
        self.matched = self.reopened = self.without_payload = 0
        self.stopped_by: Refused | None = None
        self.tried: set[str] = set()  # endpoints that were paused by failures: one of each was expedited

    def replayed(self) -> Replayed:
        return Replayed(self.matched, self.reopened, self.without_payload, self.stopped_by)


class Replay:
    def __init__(
        self,
        *,
        ledger: Ledger,
        registry: Registry,
        intake: Intake,
        reopening: Reopening,
        retry_now: RetryNow,
        clock: Clock,
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._intake = intake
        self._reopening = reopening
        self._retry_now = retry_now
        self._clock = clock
        self._log = log
        self._one_at_a_time = trio.CapacityLimiter(1)

    async def replay(self, client_id: str, wanted: Wanted, *, dry_run: bool = False) -> Replayed:
        """Raises UnknownClient, NotFound or Draining with nothing changed. A dry run only counts."""
        self._registry.get(client_id)
        if wanted.endpoint_id is not None:
            self._registry.get_endpoint(client_id, wanted.endpoint_id)
        self._intake.refuse_if_draining()
        async with self._one_at_a_time:
            progress = _Progress()
            try:
                await self._look(client_id, wanted, progress, dry_run=dry_run)
            finally:
                if not dry_run:
                    matched, reopened = progress.matched, progress.reopened
                    self._log("client.replayed", client_id=client_id, matched=matched, reopened=reopened)
            return progress.replayed()

    async def _look(self, client_id: str, wanted: Wanted, progress: _Progress, *, dry_run: bool) -> None:
        """In order of admission. Between a look at an event and what is done with it nothing is awaited."""
        looks, looks_per_event = 0, 1 + _looks_at_type(wanted)
        for event in list(self._ledger.of_client(client_id)):  # what is admitted meanwhile is not looked for
            if looks >= LOOKED_AT_AT_ONCE:
                await trio.lowlevel.checkpoint()
                looks = 0
            now = self._clock.now()
            found = self._matches(event, wanted, progress, now)
            progress.matched += found.number
            looks += looks_per_event + len(event.deliveries)
            if found.number and not dry_run and progress.stopped_by is None:
                self._send_again(event, found, progress, now)
                looks += found.number * LOOKS_PER_REOPENING

    def _send_again(self, event: Event, found: _Matches, progress: _Progress, now: Moment) -> None:
        try:
            self._intake.refuse_if_draining()
            if found.settled or found.later:
                self._reopening.send_again(event, found.settled, found.later, now=now)
        except (Draining, ClientFull, Full) as refused:
            progress.stopped_by = refused
            return
        for delivery in found.waiting:
            self._retry_now.hasten(event, delivery, now, expedited=self._is_first_try(event, delivery, progress))
        progress.reopened += found.number

    def _is_first_try(self, event: Event, delivery: Delivery, progress: _Progress) -> bool:
        """Whether nothing else of this replay was sent over its endpoint's pause by failures."""
        health = self._ledger.health(event.client_id, delivery.endpoint_id)
        if health is None or health.paused_by is not PausedBy.FAILURES or delivery.endpoint_id in progress.tried:
            return False
        progress.tried.add(delivery.endpoint_id)
        return True

    def _matches(self, event: Event, wanted: Wanted, progress: _Progress, now: Moment) -> _Matches:
        found = _Matches([], [], [])
        if wanted.types is not None and not wanted.types.wants(event.type):
            return found
        if self._ledger.find(event.client_id, event.id) is not event:  # forgotten meanwhile
            return found
        for delivery in event.deliveries:
            if delivery.status not in wanted.statuses or wanted.endpoint_id not in (None, delivery.endpoint_id):
                continue
            if delivery.status is Status.FAILED:
                if self._is_hastened(event, delivery, wanted.span, now):
                    found.waiting.append(delivery)
            elif delivery.settled_at is not None and wanted.span.holds(delivery.settled_at):
                if self._reopening.is_possible(event, delivery):
                    found.settled.append(delivery)
                elif event.payload is None:
                    progress.without_payload += 1
        if Status.DELIVERED in wanted.statuses and wanted.span.holds(event.accepted_at):
            found.later.extend(self._later(event, wanted, progress))
        return found

    def _later(self, event: Event, wanted: Wanted, progress: _Progress) -> Iterator[Endpoint]:
        for endpoint in self._reopening.came_later(event):
            if wanted.endpoint_id in (None, endpoint.id) and self._reopening.takes(event, endpoint.id):
                if event.payload is None:
                    progress.without_payload += 1
                else:
                    yield endpoint

    def _is_hastened(self, event: Event, delivery: Delivery, span: Span, now: Moment) -> bool:
        last = delivery.last_attempt
        failed_at = last.started_at + (last.duration_seconds or 0.0)
        return span.holds(failed_at) and self._retry_now.can_hasten(event, delivery, now)


def _looks_at_type(wanted: Wanted) -> int:
    return 0 if wanted.types is None else math.ceil(wanted.types.comparisons / COMPARISONS_PER_LOOK)
