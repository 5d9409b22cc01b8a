"""Owns the in-memory record of every event and delivery, and which changes of it are made together.

Rules:
 1. Every mutator is sync, so it is atomic under Trio: no locks, and no `await` between check and act.
 2. A status changes only through `_move`. It keeps totals, budget and retention of its column (core/column) in step.
 3. Reading changes nothing: what was never mentioned by a change has no row.
 4. Whatever is told of a step (recorder, feed, log) is told through core/guard: what it raises tears no step.
Time, jitter and endpoints come in as values. core/retention keeps settled events; flow decides what goes where.
Limits: `intake.unsettled_*` and `client_*` for what is unsettled, `retention.*` for what is settled.
"""

from collections.abc import Callable, Mapping, Reversible, Sequence
from typing import assert_never

from hookd.core import outcome as outcomes
from hookd.core.abandonment import Abandonment
from hookd.core.attempt_end import AttemptEnd
from hookd.core.budget import Demand, Usage, Used
from hookd.core.column import OPERATIONS_LIMITS, Column
from hookd.core.delivery import SETTLED, Change, Delivery, Status, after
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, Submission
from hookd.core.expiring_event import expiring
from hookd.core.guard import FEED, LOG, Guard, OnPortFailed
from hookd.core.guarded_recorder import GuardedRecorder
from hookd.core.health import Health
from hookd.core.listing import ALL, Listing, Page, Wanted
from hookd.core.no_recorder import NOTHING_RECORDED
from hookd.core.outcome import Exchange, Outcome
from hookd.core.recorder import Recorder
from hookd.core.registry import Registry
from hookd.core.retry import GiveUp, Reason, Retry, Success
from hookd.core.shared_texts import SharedTexts
from hookd.core.terms import Terms
from hookd.core.timestamps import Moment
from hookd.core.totals import Totals

_SUCCEEDED = Change.SUCCEEDED  # as core/health has its own


class Ledger(Abandonment):
    """`on_settled` gets each event that settles, in order; one that was reopened settles again.

    `on_given_up` gets each delivery that is given up, whichever way that comes, so that it is logged once.
    `on_forgotten` gets each exhausted event that is forgotten, so that its id can be logged.
    `registry` tells which schedule is in force for a delivery. Without one that is the settings' own.
    `recorder` is told of every step when it is taken; from then on it is reached through `self.recorder`.
    `on_port_failed` gets the name of each of these that raises, and what it raised.
    """

    def __init__(
        self,
        effective: EffectiveSettings,
        *,
        started: Moment,
        on_settled: Callable[[Event], None],
        on_forgotten: Callable[[Event], None],
        on_given_up: Callable[[Event, Delivery], None] | None = None,
        registry: Registry | None = None,
        recorder: Recorder = NOTHING_RECORDED,
        on_port_failed: OnPortFailed | None = None,
    ) -> None:
        super().__init__()
        self._effective = effective
        registry = Registry(effective) if registry is None else registry
        self.terms = Terms(effective, registry=registry, health=self.health)
        self.guard = guard = Guard(on_port_failed)
        self.port_failures = guard.failures  # by the port's name: how often it raised
        self.recorder = self._recorder = GuardedRecorder(recorder, guard)
        self._on_given_up = None if on_given_up is None else guard.around(LOG, on_given_up)
        self._on_forgotten = guard.around(LOG, on_forgotten)
        on_settled = guard.around(FEED, on_settled)
        self._platform = Column(effective, self.recorder, unsettled=self.unsettled, on_settled=on_settled)
        unrecorded = GuardedRecorder(NOTHING_RECORDED, guard)
        self.operations = Column(OPERATIONS_LIMITS, unrecorded, own_usage=Usage())
        self.counters = self._platform.counters
        self.expiries = self._platform.expiries
        self._listing = Listing()
        self._sequence = 0
        recorder.attach(self.unsettled.find)
        self._types = SharedTexts()  # as each comes with its event it takes 64 B
        self.started = started
        self.remembers_since = started.wall  # of every event accepted later, at least the id is known

    # Reading

    def excerpt(self, event: Event, delivery: Delivery, attempt_number: int) -> str | None:
        """The first KiB of the answer to that attempt; None unless it was the delivery's last failed one."""
        kept = self.column_of(event).retention.excerpt(event, delivery.endpoint_id)
        return kept.text if kept is not None and kept.attempt_number == attempt_number else None

    def exhausted(self) -> Reversible[Event]:
        """The platform's exhausted events still held, in order of settling."""
        return self._platform.retention.exhausted

    def page(self, *, client_id: str | None, wanted: Wanted = ALL, before: int | None, limit: int) -> Page:
        """The newest events that were admitted before `before`; see core/listing."""
        rows = None if client_id is None else self.of_client(client_id)
        before = self._sequence + 1 if before is None else before
        return self._listing.page(rows, wanted=wanted, before=before, limit=limit)

    def totals(self) -> Totals:
        """Of the platform's events."""
        return self._platform.snapshot()

    @property
    def in_flight(self) -> int:
        return self._platform.totals.in_flight

    def column_of(self, event: Event) -> Column:
        return self.operations if event.is_operational else self._platform

    # The budget

    def demand(self, payload_bytes: int, urls: Sequence[str]) -> Demand:
        """What an event with deliveries to these URLs asks for. Raises Full where no recorder could hold it."""
        return self._platform.budget.demand(payload_bytes, urls)

    def refuse_if_full(self, client_id: str, *, client: Demand, whole: Demand, now: float) -> bool:
        """Raises ClientFull or Full unless both demands fit beside what is unsettled now. Whether either fills then."""
        book = self._books.get(client_id)
        usage = None if book is None else book.usage
        return self._platform.budget.refuse_if_full(client_id, usage, client=client, whole=whole, now=now)

    def used(self, client_id: str | None) -> Used:
        """What the client holds of its budget, or with None the whole daemon."""
        if client_id is None:
            return self._platform.budget.used(None)
        return self._platform.budget.used(self._books[client_id].usage if client_id in self._books else Usage())

    # What happens to an event

    def open(
        self,
        submission: Submission,
        event_id: str,
        deliveries: tuple[Delivery, ...],
        *,
        now: Moment,
        recovered: bool = False,
        accepted_at: float | None = None,
        is_operational: bool = False,
    ) -> Event:
        """Takes in an event; the budget has been asked for. An event without deliveries settles at once."""
        book = self._books.get(submission.client_id) or self._book(submission.client_id)
        column = self.operations if is_operational else self._platform
        assert event_id not in book.events
        self._sequence = sequence = self._sequence + 1
        event = column.kind(
            sequence=sequence,
            id=event_id,
            client_id=book.client_id,
            type=self._types.share(submission.type),
            payload=submission.payload,
            accepted_at=now.wall if accepted_at is None else accepted_at,
            since=now.monotonic,
            bundle=deliveries[0] if len(deliveries) == 1 else deliveries,
            traceparent=submission.traceparent,
        )
        event = event if submission.expires_at is None else expiring(event, submission.expires_at, now=now)
        book.events[event_id] = event
        self._listing.add(event)
        column.count_accepted(event, recovered=recovered)
        if deliveries:
            column.enter(event, book)
            for delivery in deliveries:
                column.count_opened(book, delivery)
        column.recorder.admitted(event, recovered=recovered)
        if not deliveries:
            column.totals.unrouted += 1
            self._settled(event, column, now)
        return event

    def add_delivery(self, event: Event, delivery: Delivery, *, payload: bytes, now: Moment) -> None:
        """A held event is owed to one more endpoint: a report lists the deliveries of one event line by line."""
        before, book, column = event.status, self._book(event.client_id), self.column_of(event)
        assert event.delivery_to(delivery.endpoint_id) is None
        if before in SETTLED:
            column.retention.release(event, before)
            event.since = now.monotonic
        else:  # it keeps its place, and takes its budget anew
            column.give_back(event, book)
        column.totals.unrouted -= event.is_unrouted
        if event.payload is None:
            event.payload, event.digest = payload, None
        event.deliveries = (*event.deliveries, delivery)
        delivery.owed_since = now.monotonic
        event.settled_at = None
        if before in SETTLED:
            column.enter(event, book)
        else:
            column.take(event, book)
        column.count_opened(book, delivery)
        column.totals.move_event(before, event.status)
        column.recorder.added(event, before)

    def take_past(
        self,
        event: Event,
        delivery: Delivery,
        *,
        attempt_count: int,
        unscheduled_attempts: int = 0,
        maybe_received: bool,
        crash_count: int,
    ) -> None:
        """More is known of what earlier runs did for a delivery of which this run has begun no attempt."""
        delivery.take_past(
            attempt_count=attempt_count,
            unscheduled_attempts=unscheduled_attempts,
            maybe_received=maybe_received,
            crash_count=crash_count,
        )
        self._recorder.restated(event)

    def begin_attempt(self, event: Event, delivery: Delivery, *, url: str, now: Moment, is_probe: bool = False) -> int:
        """Returns the attempt's number, from 1."""
        delivery.begin_attempt(url=url, started_at=now.wall, is_probe=is_probe)
        self._health_of(event, delivery).in_flight += 1
        totals = self.column_of(event).totals
        totals.in_flight += 1
        totals.attempts += 1
        self._recorder.begun(event, delivery)
        return delivery.attempt_count

    def end_attempt(self, event: Event, delivery: Delivery, end: AttemptEnd) -> None:
        """Records what the attempt came to and what follows from it."""
        now, column, health = end.now, self.column_of(event), self._health_of(event, delivery)
        self._land(event, delivery, column, health, end.outcome, end.exchange, seconds=end.duration_seconds)
        if end.judged:
            end.tell(health)
        match end.verdict:
            case Success():
                # Before the move, which may change the event's.
                since, owed_since = event.since, delivery.particulars.owed_since
                column.counters.observe_delivered(now.monotonic - (since if since > owed_since else owed_since))
                self._move(event, delivery, _SUCCEEDED, now=now)
            case Retry(delay_seconds=delay_seconds):
                delivery.due_at = now.monotonic + delay_seconds
                self._move(event, delivery, Change.FAILED, now=now)
                self._recorder.ended(event, delivery)
            case GiveUp(reason=reason):
                self._recorder.ended(event, delivery)
                self.give_up(event, delivery, reason, now=now)
            case _:
                assert_never(end.verdict)

    def cut_attempt(self, event: Event, delivery: Delivery, *, exchange: Exchange, duration_seconds: float) -> None:
        """The attempt was cancelled. That is not an outcome; the status stays what it was."""
        column, health = self.column_of(event), self._health_of(event, delivery)
        self._land(event, delivery, column, health, None, exchange, seconds=duration_seconds)
        self._recorder.ended(event, delivery)

    def make_due(self, delivery: Delivery, *, now: Moment) -> None:
        """A waiting delivery becomes due now. So does one whose attempt a crash of the courier cut."""
        assert delivery.is_waiting
        delivery.due_at = now.monotonic

    def retarget(self, client_id: str, urls: Mapping[str, str]) -> None:
        """What waits goes to its endpoint's new URL, as it is shown, by the endpoint's id: 20,000 take about 10 ms."""
        for event in self.unsettled_events(client_id):
            for delivery in event.deliveries:
                url = urls.get(delivery.endpoint_id)
                if url is None or delivery.in_flight or delivery.status in SETTLED or delivery.is_abandoned:
                    continue
                delivery.url = url

    def give_up(self, event: Event, delivery: Delivery, reason: Reason, *, now: Moment) -> bool:
        """Returns whether others waited for it, in strict order: one of them may begin now."""
        assert not delivery.in_flight
        delivery.due_at = None
        health = self._health_of(event, delivery)
        frees_others = health.held_up_by == event.id
        if frees_others:
            health.held_up_by = None
        self._move(event, delivery, Change.GAVE_UP, reason=reason, now=now)
        self.column_of(event).counters.given_up[reason] += 1
        health.gone += reason is Reason.GONE
        if self._on_given_up is not None:
            self._on_given_up(event, delivery)
        return frees_others

    def reopen(self, event: Event, delivery: Delivery, *, now: Moment) -> None:
        """A settled delivery is pending again; its event has its payload, and the budget has been asked for.

        An event that is unsettled anyway keeps its place: what else it owes has the age that it has.
        """
        before, source, column = event.status, delivery.status, self.column_of(event)
        self._move(event, delivery, Change.REOPENED, now=now)
        column.counters.reopened[source] += 1
        opened_at = self.terms.age_clock(event.client_id, delivery.endpoint_id, now=now.monotonic)
        delivery.begin_anew(opened_at=opened_at, now=now.monotonic)
        if before in SETTLED:
            event.since = now.monotonic
        column.recorder.reopened(event, before, source)

    def forget_aged(self, now: Moment, *, most: int) -> int:
        """Forgets at most so many events that settled too long ago; returns how many, since there may be more."""
        forgotten = self._platform.retention.expire(now, most=most) or self.operations.retention.expire(now, most=most)
        for event in forgotten:
            self._forget(event)
        return len(forgotten)

    def forget_endpoint(self, client_id: str, endpoint_id: str) -> None:
        """Drops a removed endpoint's health, unless something of it is still unsettled."""
        book = self._books.get(client_id)
        if book is not None and endpoint_id in book.endpoints and not book.endpoints[endpoint_id].unsettled:
            del book.endpoints[endpoint_id]
            self._drop_if_empty(client_id)

    # Parts of the above

    def _move(
        self, event: Event, delivery: Delivery, change: Change, *, now: Moment, reason: Reason | None = None
    ) -> None:
        """The one place where a status changes. Raises IllegalTransition with nothing changed."""
        source, is_alone = delivery.status, event.bundle is delivery  # as nearly all are: then its event's is its own
        before = source if is_alone else event.status
        target = after(source, change)
        settles, was_settled = target in SETTLED, source in SETTLED
        is_abandoned = delivery.particulars.abandoned_as is not None
        if settles and not is_abandoned:
            delivery.freeze(self.terms.attempts_of_schedule(event, delivery))
        delivery.status = target
        if delivery.particulars.reason is not reason:
            delivery.reason = reason
        delivery.settled_at = now.wall if settles else None
        book, column, endpoint_id = self._books[event.client_id], self.column_of(event), delivery.endpoint_id
        column.totals.move_delivery(source, target)
        health = book.ensure_health(endpoint_id) if was_settled else book.endpoints[endpoint_id]
        health.unsettled += was_settled - settles
        health.abandoned -= is_abandoned and settles
        if was_settled and before in SETTLED:
            column.retention.release(event, before)
            event.settled_at = None
            column.enter(event, book)
        status = target if is_alone else event.status
        column.totals.move_event(before, status)
        if settles:
            self._recorder.settled(event, delivery, status)
        if before not in SETTLED and status in SETTLED:
            column.leave(event, book, settled_at=now.monotonic)
            self._settled(event, column, now)

    def _land(
        self,
        event: Event,
        delivery: Delivery,
        column: Column,
        health: Health,
        outcome: Outcome | None,
        exchange: Exchange,
        *,
        seconds: float,
    ) -> None:
        delivery.end_attempt(outcome, exchange, duration_seconds=seconds)
        if exchange.answer is None or not outcomes.is_success(exchange.answer):
            column.retention.keep_excerpt(event, delivery.endpoint_id, delivery.attempt_count, exchange.excerpt)
        health.in_flight -= 1
        column.totals.in_flight -= 1
        column.counters.observe_attempt(outcome, seconds)
        column.counters.reconnects += exchange.reconnected

    def _settled(self, event: Event, column: Column, now: Moment) -> None:
        event.settled_at = now.wall
        event.since = now.monotonic
        column.on_settled(event)
        for forgotten in column.retention.keep(event):
            self._forget(forgotten)

    def _forget(self, event: Event) -> None:
        del self._books[event.client_id].events[event.id]
        self._listing.remove(event)
        self._drop_if_empty(event.client_id)
        if not event.is_operational:
            self.remembers_since = max(self.remembers_since, event.accepted_at)
        exhausted = sum(delivery.status is Status.EXHAUSTED for delivery in event.deliveries)
        self.column_of(event).totals.exhausted_forgotten += exhausted
        if exhausted:
            self._on_forgotten(event)
