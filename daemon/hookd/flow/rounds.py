"""Owns the round: a look at every endpoint, for the status page. It tells what ails whom, and who holds the most.

Rules: a round is made only where someone asks, and serves all who ask within `ROUND_SECONDS`. Where it takes long it
serves for longer. It looks at some clients at a time, and others have a turn between. So it is not of one instant. What
is quiet (nothing unsettled, and plainly ok) costs a look-up for its client. A deadline is looked for only where a
sentence names the endpoint.
Limits: `ROWS_MAX` rows a round and `KEPT_MAX` rounds are kept, 50 kB together, whatever is registered.
"""

import heapq
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import trio

from hookd.core.budget import budget_used
from hookd.core.client import Client
from hookd.core.deadline import Deadline
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.health import FAILING_AFTER_ATTEMPTS, Health, State
from hookd.core.ledger import Ledger
from hookd.core.registry import Registry
from hookd.core.situation import AilingEndpoint, Ailment, Group, Pace
from hookd.core.timestamps import Moment
from hookd.core.troubles import OVERDUE_SECONDS_MAX
from hookd.flow.courier import Courier
from hookd.flow.dispatch import Dispatch
from hookd.flow.oldest_deadline import oldest_deadline
from hookd.flow.ports import Clock

ROUND_SECONDS = 5.0
# Who fills its client's budget, half of it at least, is called slow that soon: it is why events are refused.
HALF_FULL = 0.5
OVERDUE_SECONDS_FILLING = 1.0
# After a round, none for so many times as long as it took.
REST_PER_ROUND = 50
ROWS_MAX = 25
KEPT_MAX = 8
# Clients looked at in one go, 1 ms at most where all have a backlog; then others have a turn.
LOOKED_AT_AT_ONCE = 200

NOTHING_SENT = Health()

T = TypeVar("T")


class Wanted(NamedTuple):
    """Which endpoints are listed; without either, those with an ailment or a backlog."""

    ailment: Ailment | None = None
    text: str = ""  # stands in CLIENT/ENDPOINT


class Round:
    """What one look found."""

    def __init__(self, wanted: Wanted, now: Moment) -> None:
        self.wanted = wanted
        self.now = now
        self.endpoints = 0
        self.ailing: dict[Ailment, Group] = {}
        self.largest: AilingEndpoint | None = None  # the most deliveries unsettled
        self.fullest: AilingEndpoint | None = None  # the most of its client's budget
        self.full_clients = 0
        self.overdue_seconds = 0.0  # due, no state of its endpoint holds it back, and still waiting
        self.ready_seconds = 0.0  # of these: what waits for hookd alone, as Courier.ready_from has it
        self.slowest: AilingEndpoint | None = None  # nothing ails it, and what has been due longest waits for it
        self.slowest_seconds = 0.0
        self.failed_last: AilingEndpoint | None = None  # nothing ails it yet, and it has failed longest
        self.failed_last_count = 0
        self.waiting_for_client = 0  # recovered deliveries whose client is not registered
        self.matched = 0
        self._rows: list[tuple[float, int, str, str]] = []

    def rows(self) -> list[tuple[str, str]]:
        """Client and endpoint ids; who holds most of its client's budget comes first."""
        return [(client_id, endpoint_id) for _, _, client_id, endpoint_id in sorted(self._rows, reverse=True)]

    def note(self, found: AilingEndpoint) -> None:
        """An endpoint with an ailment or a backlog."""
        if found.ailment is not None:
            before = self.ailing.get(found.ailment)
            self.ailing[found.ailment] = Group(1, found) if before is None else before.joined_by(found)
        if found.unsettled and (self.largest is None or found.unsettled > self.largest.unsettled):
            self.largest = found
        if found.unsettled and (self.fullest is None or found.budget_used > self.fullest.budget_used):
            self.fullest = found
        self.offer(found)

    def offer(self, found: AilingEndpoint) -> None:
        """An endpoint that is listed if it is wanted, and holds more than others."""
        wanted = self.wanted
        if wanted.ailment not in (None, found.ailment) or wanted.text not in found.name:
            return
        self.matched += 1
        row = (found.budget_used, found.ailment is not None, found.client_id, found.endpoint_id)
        if len(self._rows) < ROWS_MAX:
            heapq.heappush(self._rows, row)
        elif row > self._rows[0]:
            heapq.heapreplace(self._rows, row)

    def note_failed(self, found: AilingEndpoint) -> None:
        """An endpoint whose last attempts failed, which ails it once that lasts. One failure alone is everyday."""
        self.failed_last_count += 1
        if self.failed_last is None or (found.since or 0.0) < (self.failed_last.since or 0.0):
            self.failed_last = found

    def named(self) -> set[tuple[str, str]]:
        """Client and endpoint ids of those that a sentence may tell of: some twenty at most."""
        found = [one for group in self.ailing.values() for one in (group.worst, *group.others)]
        found += [one for one in (self.largest, self.fullest, self.slowest) if one is not None]
        return {(one.client_id, one.endpoint_id) for one in found}

    def note_more(self, more: Mapping[tuple[str, str], tuple[Deadline | None, Pace | None]]) -> None:
        """Of each that is named: the oldest's deadline, and what makes it slow."""

        def dated(found: AilingEndpoint) -> AilingEndpoint:
            deadline, pace = more[found.client_id, found.endpoint_id]
            return found._replace(deadline=deadline, pace=pace)

        self.ailing = {
            ailment: one._replace(worst=dated(one.worst), others=tuple(map(dated, one.others)))
            for ailment, one in self.ailing.items()
        }
        self.largest = self.largest and dated(self.largest)
        self.fullest = self.fullest and dated(self.fullest)
        self.slowest = self.slowest and dated(self.slowest)

    def passes_over(self, unsettled: int, used: float) -> bool:
        """Whether an endpoint without an ailment changes nothing but the count: as nearly all, on a busy daemon."""
        if self.wanted.text or self.largest is None or self.fullest is None or len(self._rows) < ROWS_MAX:
            return False
        if unsettled > self.largest.unsettled or used > self.fullest.budget_used or used >= self._rows[0][0]:
            return False
        self.matched += self.wanted.ailment is None
        return True


class Rounds:
    """Makes rounds, one at a time, and keeps the latest few."""

    def __init__(
        self,
        *,
        effective: EffectiveSettings,
        ledger: Ledger,
        registry: Registry,
        dispatch: Dispatch,
        clock: Clock,
    ) -> None:
        self._effective = effective
        self._ledger = ledger
        self._registry = registry
        self._dispatch = dispatch
        self._clock = clock
        self._one_at_a_time = trio.Lock()
        self._kept: dict[Wanted, Round] = {}
        self._rest_seconds = ROUND_SECONDS

    async def latest(self, wanted: Wanted) -> Round:
        """No older than `ROUND_SECONDS`, or than fifty times what a round takes."""
        async with self._one_at_a_time:
            kept = self._kept.pop(wanted, None)
            if kept is None or self._clock.now().monotonic - kept.now.monotonic >= self._rest_seconds:
                kept = await self._make(wanted)
                took_seconds = self._clock.now().monotonic - kept.now.monotonic
                self._rest_seconds = max(ROUND_SECONDS, REST_PER_ROUND * took_seconds)
            self._kept[wanted] = kept
            while len(self._kept) > KEPT_MAX:
                del self._kept[next(iter(self._kept))]
            return kept

    async def _make(self, wanted: Wanted) -> Round:
        made = Round(wanted, self._clock.now())
        async for clients, now in self._slices(list(self._registry)):
            for client in clients:
                self._look(made, client, now)
        async for couriers, now in self._slices(self._dispatch.couriers()):
            for courier in couriers:
                self._look_at_lanes(made, courier, now)
        async for client_ids, _ in self._slices(self._ledger.client_ids()):
            gone = [client_id for client_id in client_ids if self._registry.find(client_id) is None]
            made.waiting_for_client += sum(map(self._ledger.waiting_count, gone))
        made.note_more(await self._more_of(made.named()))
        return made

    async def _more_of(self, named: set[tuple[str, str]]) -> dict[tuple[str, str], tuple[Deadline | None, Pace | None]]:
        """Others have a turn after each: one can take 2 ms."""
        found: dict[tuple[str, str], tuple[Deadline | None, Pace | None]] = {}
        for names in named:
            now = self._clock.now()
            found[names] = oldest_deadline(self._ledger, *names, now), self.pace_of(*names, now)
            await trio.lowlevel.checkpoint()
        return found

    def look_at(self, client_id: str, endpoint_id: str, now: Moment) -> AilingEndpoint:
        """One of them, as it is now."""
        health = self._ledger.health(client_id, endpoint_id) or NOTHING_SENT
        used = budget_used(self._ledger.held(client_id), health.unsettled, self._effective.settings.intake)
        found = ailing_of(client_id, endpoint_id, health, now, used, ailment_of(health, now))
        deadline = oldest_deadline(self._ledger, client_id, endpoint_id, now)
        return found._replace(deadline=deadline, pace=self.pace_of(client_id, endpoint_id, now))

    def as_now(self, found: AilingEndpoint) -> AilingEndpoint:
        """With what it holds now: the rest of the page has no older numbers."""
        health = self._ledger.health(found.client_id, found.endpoint_id) or NOTHING_SENT
        used = budget_used(self._ledger.held(found.client_id), health.unsettled, self._effective.settings.intake)
        return found._replace(unsettled=health.unsettled, budget_used=used, gone=health.gone)

    def pace_of(self, client_id: str, endpoint_id: str, now: Moment) -> Pace | None:
        """What makes it slow: nothing ails it, it is busy, and what is due waits for it. None if it is not so."""
        endpoint, health = self._registry.endpoint(client_id, endpoint_id), self._ledger.health(client_id, endpoint_id)
        if endpoint is None or health is None or not health.unsettled or ailment_of(health, now) is not None:
            return None
        used = budget_used(self._ledger.held(client_id), health.unsettled, self._effective.settings.intake)
        overdue_seconds = now.monotonic - self._dispatch.next_attempt_to(client_id, endpoint_id)
        if overdue_seconds <= (OVERDUE_SECONDS_MAX if used < HALF_FULL else OVERDUE_SECONDS_FILLING):
            return None
        concurrency = self._effective.concurrency(endpoint)
        at_once = health.room(concurrency)
        if health.in_flight < at_once:
            return None  # it waits for hookd
        return Pace(concurrency, at_once, health.answer_seconds, endpoint.concurrency is not None)

    def _look_at_lanes(self, made: Round, courier: Courier, now: Moment) -> None:
        late = now.monotonic - courier.next_due(now.monotonic)
        made.overdue_seconds = max(made.overdue_seconds, late)
        made.ready_seconds = max(made.ready_seconds, now.monotonic - courier.ready_from(now.monotonic))
        if late <= made.slowest_seconds or (endpoint_id := courier.most_overdue(now.monotonic)) is None:
            return
        health = self._ledger.health(courier.client_id, endpoint_id) or NOTHING_SENT
        if ailment_of(health, now) is None:
            held, intake = self._ledger.held(courier.client_id), self._effective.settings.intake
            used = budget_used(held, health.unsettled, intake)
            made.slowest = ailing_of(courier.client_id, endpoint_id, health, now, used, None)
            made.slowest_seconds = late

    async def _slices(self, items: Sequence[T]) -> AsyncIterator[tuple[Sequence[T], Moment]]:
        """Some at a time, with the time; others have a turn after each."""
        for first in range(0, len(items), LOOKED_AT_AT_ONCE):
            yield items[first : first + LOOKED_AT_AT_ONCE], self._clock.now()
            await trio.lowlevel.checkpoint()

    def _look(self, made: Round, client: Client, now: Moment) -> None:
        made.endpoints += len(client.endpoints)
        if not self._ledger.knows(client.id):
            if made.wanted.text:
                for endpoint in client.endpoints:
                    made.offer(AilingEndpoint(client.id, endpoint.id, 0, 0.0, None, None))
            return
        held, intake = self._ledger.held(client.id), self._effective.settings.intake
        for endpoint in client.endpoints:
            health = self._ledger.health(client.id, endpoint.id) or NOTHING_SENT
            ailment = ailment_of(health, now)
            if ailment is None and not health.unsettled and not made.wanted.text and not health.consecutive_failures:
                continue
            used = budget_used(held, health.unsettled, intake)
            if ailment is None and health.consecutive_failures >= FAILING_AFTER_ATTEMPTS:
                made.note_failed(ailing_of(client.id, endpoint.id, health, now, used, None))
            if ailment is not None or not made.passes_over(health.unsettled, used):
                made.note(ailing_of(client.id, endpoint.id, health, now, used, ailment))
        made.full_clients += held.events >= intake.client_events_max or held.bytes >= intake.client_bytes_max


def ailing_of(
    client_id: str, endpoint_id: str, health: Health, now: Moment, used: float, ailment: Ailment | None
) -> AilingEndpoint:
    since = health.failing_since
    if since is None and ailment is not None and math.isfinite(health.since):
        since = now.wall - (now.monotonic - health.since)
    told = health.unsettled, used, since, health.last_error, ailment, health.held_up_by
    return AilingEndpoint(client_id, endpoint_id, *told, gone=health.gone)


def ailment_of(health: Health, now: Moment) -> Ailment | None:
    """The worst that ails the endpoint; None where nothing does."""
    if health.is_plainly_ok and not health.consecutive_failures and health.held_up_by is None:
        return None
    state = health.state(now.monotonic)
    if state is State.DISABLED:
        return Ailment.DISABLED
    if health.is_held:
        return Ailment.PAUSED_BY_OPERATOR
    if state is State.PAUSED:
        return Ailment.PAUSED
    if health.fails_straight(now.monotonic):
        return Ailment.FAILING
    if health.held_up_by is not None:
        return Ailment.HELD_UP
    return Ailment.THROTTLED if state is State.THROTTLED else None
