"""The ledger: against a model that does everything the slow way, and its limits one by one."""

import itertools
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import pytest
from hookd.core.attempt_end import AttemptEnd
from hookd.core.budget import DELIVERY_BYTES, EVENT_BYTES, Demand, cost_bytes
from hookd.core.delivery import Delivery, IllegalTransition, Status
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, Submission
from hookd.core.ledger import Ledger
from hookd.core.listing import BLOCK, PAGE_LOOKS_MAX, Wanted
from hookd.core.outcome import Exchange, Responded, TimedOut
from hookd.core.refusal import ClientFull, Full, Refused, WantOfRoom
from hookd.core.retention import EXCERPT_BYTES_MAX, EXCERPT_ROW_BYTES
from hookd.core.retry import GiveUp, Reason, Retry, Success, Verdict
from hookd.core.settings import DEFAULTS, IntakeSettings, RetentionSettings, Settings
from hookd.core.timestamps import Moment
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

PENDING, FAILED, DELIVERED, EXHAUSTED = Status.PENDING, Status.FAILED, Status.DELIVERED, Status.EXHAUSTED
URL = "https://example.com/hook"
WALL = 1_800_000_000.0
CLIENTS = ("a", "b")
ENDPOINTS = ("x", "y", "z")
TYPES = ("t.one", "t.two")
PICK = st.integers(0, 10**6)


def moment(seconds: float) -> Moment:
    return Moment(seconds, WALL + seconds)


def delivery_to(endpoint_id: str, *, at: float = 0.0) -> Delivery:
    return Delivery(endpoint_id=endpoint_id, url=URL, opened_at=at, due_at=at)


# The model


@dataclass(eq=False)
class Duty:
    """One delivery as the model knows it."""

    endpoint_id: str
    delivery: Delivery
    status: Status = PENDING
    flying: bool = False
    begun: int = 0
    begun_before: int = 0  # of these, before it was last reopened
    probing: bool = False
    probes_failed: int = 0  # since it was last reopened
    abandoned: bool = False
    frozen: int = 0  # the attempts that it shows once settled or abandoned

    @property
    def is_unsettled(self) -> bool:
        return self.status in (PENDING, FAILED)

    @property
    def waits(self) -> bool:
        return self.is_unsettled and not self.flying and not self.abandoned

    @property
    def may_be_given_up(self) -> bool:
        return self.is_unsettled and not self.flying

    def granted(self, entries: int) -> int:
        """By a schedule of so many entries: its first attempt, each entry, and each probe that failed."""
        return self.begun_before + 1 + entries + self.probes_failed

    def shown(self, entries: int) -> int:
        if self.abandoned or not self.is_unsettled:
            return self.frozen
        return max(self.granted(entries), self.begun if self.flying else self.begun + 1)

    def freeze(self, entries: int) -> None:
        if not self.abandoned:
            self.frozen = max(self.granted(entries), self.begun)


@dataclass(eq=False)
class Known:
    """One event as the model knows it."""

    event: Event
    client_id: str
    payload: bytes
    accepted_at: float
    since: float  # when it last became unsettled
    has_bytes: bool = True
    duties: list[Duty] = field(default_factory=list)

    @property
    def status(self) -> Status:
        statuses = [duty.status for duty in self.duties]
        for status in (FAILED, PENDING, EXHAUSTED):
            if status in statuses:
                return status
        return DELIVERED

    @property
    def is_unsettled(self) -> bool:
        return self.status in (PENDING, FAILED)

    @property
    def cost(self) -> int:
        return len(self.payload) + 512 + 512 * len(self.duties)


INTAKE = IntakeSettings(unsettled_events_max=6, unsettled_bytes_max=9000, client_events_max=4, client_bytes_max=6000)
RETENTION = RetentionSettings(
    delivered_events_max=3,
    delivered_bytes_max=40,
    exhausted_events_max=3,
    exhausted_bytes_max=60,
    age_seconds_max=20.0,
    excerpts_bytes_max=3 * EXCERPT_ROW_BYTES + 8,
)


class LedgerMachine(RuleBasedStateMachine):
    """Every door of the ledger in any order; after each step it must say what the model says."""

    def __init__(self) -> None:
        super().__init__()
        self.effective = EffectiveSettings(Settings(intake=INTAKE, retention=RETENTION))
        self.told: list[Event] = []
        self.listed: list[tuple[Event, Status]] = []
        self.settlings: list[tuple[Event, Status]] = []  # again for each settling after a reopening
        self.ledger = Ledger(
            self.effective, started=moment(0), on_settled=self.list_settled, on_forgotten=self.told.append
        )
        self.seconds = 0.0
        self.unsettled: list[Known] = []  # in the order in which they last became unsettled
        self.settled: dict[Status, list[Known]] = {DELIVERED: [], EXHAUSTED: []}  # in order of settling
        self.forgotten: list[Known] = []
        self.excerpts: dict[tuple[Known, str], tuple[int, str]] = {}
        self.unrouted = self.opened = self.attempts = 0
        self.entries = 5  # of the schedule in force

    def list_settled(self, event: Event) -> None:
        assert event.settled_at == WALL + self.seconds
        self.listed.append((event, event.status))

    # What the model can tell

    @property
    def held(self) -> list[Known]:
        return [*self.unsettled, *self.settled[DELIVERED], *self.settled[EXHAUSTED]]

    @property
    def newest_first(self) -> list[Known]:
        return sorted(self.held, key=lambda known: -known.event.sequence)

    @property
    def now(self) -> Moment:
        return moment(self.seconds)

    def pairs(self, choice: Callable[[Duty], bool]) -> list[tuple[Known, Duty]]:
        return [(known, duty) for known in self.newest_first for duty in known.duties if choice(duty)]

    def some(self, pick: int, choice: Callable[[Duty], bool]) -> tuple[Known, Duty]:
        pairs = self.pairs(choice)
        return pairs[pick % len(pairs)]

    def owed(self, client_id: str | None = None) -> tuple[int, int]:
        mine = [known for known in self.unsettled if client_id in (None, known.client_id)]
        return len(mine), sum(known.cost for known in mine)

    def has_room(self, client_id: str, cost: int) -> bool:
        """Asks the ledger as intake does, and holds its answer against the model's."""
        (mine, my_bytes), (every, every_byte) = self.owed(client_id), self.owed()
        expected: type[Refused] | None = None
        if mine + 1 > INTAKE.client_events_max or my_bytes + cost > INTAKE.client_bytes_max:
            expected = ClientFull
        elif every + 1 > INTAKE.unsettled_events_max or every_byte + cost > INTAKE.unsettled_bytes_max:
            expected = Full
        demand = Demand(1, cost)
        if expected is None:
            self.ledger.refuse_if_full(client_id, client=demand, whole=demand, now=self.now.monotonic)
            return True
        with pytest.raises(expected):
            self.ledger.refuse_if_full(client_id, client=demand, whole=demand, now=self.now.monotonic)
        return False

    # What follows from a change

    def settle(self, known: Known, before: Status) -> None:
        """The model's retention: after a change of a duty, or at once for an event that owes nothing."""
        if before in (PENDING, FAILED) and known.is_unsettled:
            return
        if known in self.unsettled:
            self.unsettled.remove(known)
        self.settled[known.status].append(known)
        self.settlings.append((known.event, known.status))
        delivered, exhausted = self.settled[DELIVERED], self.settled[EXHAUSTED]
        while sum(len(one.payload) for one in delivered if one.has_bytes) > RETENTION.delivered_bytes_max:
            next(one for one in delivered if one.has_bytes).has_bytes = False
        while len(delivered) > RETENTION.delivered_events_max:
            self.forget(delivered[0])
        while (
            len(exhausted) > RETENTION.exhausted_events_max
            or sum(len(one.payload) for one in exhausted) > RETENTION.exhausted_bytes_max
        ):
            self.forget(exhausted[0])

    def become_unsettled(self, known: Known) -> None:
        """Before a change that leaves something owed; one that owed something already keeps its place."""
        if not known.is_unsettled:
            self.settled[known.status].remove(known)
            self.unsettled.append(known)
            known.since = self.seconds

    def forget(self, known: Known) -> None:
        self.settled[known.status].remove(known)
        self.forgotten.append(known)
        for duty in known.duties:
            self.excerpts.pop((known, duty.endpoint_id), None)

    def land(self, known: Known, duty: Duty, body: bytes, *, succeeded: bool) -> None:
        duty.flying = False
        duty.probes_failed += duty.probing and not succeeded
        duty.probing = False
        if succeeded:
            return
        self.excerpts.pop((known, duty.endpoint_id), None)
        if body:
            self.excerpts[known, duty.endpoint_id] = (duty.begun, body.decode())
        while sum(400 + len(text) for _, text in self.excerpts.values()) > RETENTION.excerpts_bytes_max:
            del self.excerpts[next(iter(self.excerpts))]

    # What can happen

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.seconds += seconds

    @rule(entries=st.integers(0, 8))
    def reload(self, entries: int) -> None:
        retry = msgspec.structs.replace(self.effective.settings.retry, schedule_seconds=(7.0,) * entries)
        self.effective.settings = msgspec.structs.replace(self.effective.settings, retry=retry)
        self.entries = entries

    @rule(
        client_id=st.sampled_from(CLIENTS),
        event_type=st.sampled_from(TYPES),
        size=st.sampled_from([0, 1, 15, 30, 2000]),
        endpoint_ids=st.lists(st.sampled_from(ENDPOINTS), max_size=3, unique=True),
    )
    def open(self, client_id: str, event_type: str, size: int, endpoint_ids: list[str]) -> None:
        """An id is taken again once its event was forgotten, and by the other client at any time."""
        taken = {known.event.id for known in self.held if known.client_id == client_id}
        event_id = next(name for n in itertools.count() if (name := f"e{n}") not in taken)
        payload = b"1" * size
        cost = size + 512 + 512 * len(endpoint_ids)
        if endpoint_ids and not self.has_room(client_id, cost):
            return
        duties = [Duty(one, delivery_to(one, at=self.seconds)) for one in endpoint_ids]
        event = self.ledger.open(
            Submission(client_id, event_type, payload),
            event_id,
            tuple(duty.delivery for duty in duties),
            now=self.now,
        )
        known = Known(event, client_id, payload, WALL + self.seconds, self.seconds, duties=duties)
        self.opened += len(duties)
        if duties:
            self.unsettled.append(known)
        else:
            self.unrouted += 1
            self.settle(known, DELIVERED)

    @precondition(lambda self: self.pairs(lambda duty: duty.waits))
    @rule(pick=PICK, is_probe=st.booleans())
    def begin(self, pick: int, is_probe: bool) -> None:
        known, duty = self.some(pick, lambda duty: duty.waits)
        duty.flying, duty.probing = True, is_probe
        duty.begun += 1
        self.attempts += 1
        begun = self.ledger.begin_attempt(known.event, duty.delivery, url=URL, now=self.now, is_probe=is_probe)
        assert begun == duty.begun

    @precondition(lambda self: self.pairs(lambda duty: duty.flying))
    @rule(
        pick=PICK, kind=st.sampled_from([DELIVERED, FAILED, EXHAUSTED]), size=st.integers(0, 4), answered=st.booleans()
    )
    def end(self, pick: int, kind: Status, size: int, answered: bool) -> None:
        known, duty = self.some(pick, lambda duty: duty.flying)
        if duty.abandoned and kind is FAILED:  # it was the last
            kind = EXHAUSTED
        before, exchange = known.status, Exchange()
        exchange.excerpt = b"r" * size
        outcome = Responded(204) if kind is DELIVERED else Responded(500) if answered else TimedOut(15.0)
        exchange.answer = outcome if isinstance(outcome, Responded) else None
        verdict: Verdict = Success()
        if kind is not DELIVERED:
            verdict = Retry(7.0) if kind is FAILED else GiveUp(Reason.ATTEMPTS_USED)
        self.land(known, duty, exchange.excerpt, succeeded=kind is DELIVERED)
        self.ledger.end_attempt(
            known.event,
            duty.delivery,
            AttemptEnd(outcome=outcome, verdict=verdict, exchange=exchange, duration_seconds=0.1, now=self.now),
        )
        duty.status = kind
        if kind is not FAILED:
            duty.freeze(self.entries)
        assert duty.delivery.due_at == (self.seconds + 7.0 if kind is FAILED else None)
        assert duty.delivery.reason is (Reason.ATTEMPTS_USED if kind is EXHAUSTED else None)
        self.settle(known, before)

    @precondition(lambda self: self.pairs(lambda duty: duty.flying))
    @rule(pick=PICK, size=st.integers(0, 4))
    def cut(self, pick: int, size: int) -> None:
        known, duty = self.some(pick, lambda duty: duty.flying)
        exchange = Exchange()
        exchange.sending_started, exchange.excerpt = True, b"c" * size
        self.land(known, duty, exchange.excerpt, succeeded=False)
        self.ledger.cut_attempt(known.event, duty.delivery, exchange=exchange, duration_seconds=0.1)
        assert duty.delivery.maybe_received

    @precondition(lambda self: self.pairs(lambda duty: duty.may_be_given_up))
    @rule(pick=PICK, reason=st.sampled_from(Reason))
    def give_up(self, pick: int, reason: Reason) -> None:
        known, duty = self.some(pick, lambda duty: duty.may_be_given_up)
        before = known.status
        self.ledger.give_up(known.event, duty.delivery, reason, now=self.now)
        duty.status = EXHAUSTED
        duty.freeze(self.entries)
        assert (duty.delivery.reason, duty.delivery.due_at) == (reason, None)
        self.settle(known, before)

    @rule(client_id=st.sampled_from(CLIENTS), endpoint_id=st.sampled_from(ENDPOINTS), own_entries=st.integers(0, 8))
    def abandon(self, client_id: str, endpoint_id: str, own_entries: int) -> None:
        """All that is unsettled there, once, and by the endpoint's own schedule; what waits is named."""
        owed = [
            (known, duty)
            for known in reversed(self.newest_first)
            for duty in known.duties
            if (known.client_id, duty.endpoint_id) == (client_id, endpoint_id)
            and duty.is_unsettled
            and not duty.abandoned
        ]
        waited = self.ledger.abandon(client_id, endpoint_id, attempts_of_schedule=1 + own_entries)
        assert waited == [known.event for known, duty in owed if not duty.flying]
        for _, duty in owed:
            duty.freeze(own_entries)
            duty.abandoned = True
            assert duty.delivery.due_at is None

    @precondition(lambda self: self.pairs(lambda duty: duty.waits))
    @rule(pick=PICK)
    def make_due(self, pick: int) -> None:
        _, duty = self.some(pick, lambda duty: duty.waits)
        self.ledger.make_due(duty.delivery, now=self.now)
        assert duty.delivery.due_at == self.seconds

    @precondition(lambda self: self.pairs(lambda duty: not duty.is_unsettled))
    @rule(pick=PICK)
    def reopen(self, pick: int) -> None:
        known, duty = self.some(pick, lambda duty: not duty.is_unsettled)
        if known.event.payload is None:  # flow asks for it
            return
        if not known.is_unsettled and not self.has_room(known.client_id, known.cost):
            return
        self.become_unsettled(known)
        self.ledger.reopen(known.event, duty.delivery, now=self.now)
        duty.status = PENDING
        duty.begun_before, duty.probes_failed, duty.abandoned = duty.begun, 0, False
        assert duty.delivery.opened_at == duty.delivery.due_at == self.seconds
        assert duty.delivery.attempts_before == duty.begun

    @precondition(lambda self: any(len(known.duties) < len(ENDPOINTS) for known in self.held))
    @rule(pick=PICK)
    def add_delivery(self, pick: int) -> None:
        open_ended = [known for known in self.newest_first if len(known.duties) < len(ENDPOINTS)]
        known = open_ended[pick % len(open_ended)]
        if not self.has_room(known.client_id, known.cost + 512):
            return
        missing = next(one for one in ENDPOINTS if all(duty.endpoint_id != one for duty in known.duties))
        duty = Duty(missing, delivery_to(missing, at=self.seconds))
        self.unrouted -= not known.duties
        self.become_unsettled(known)
        self.ledger.add_delivery(known.event, duty.delivery, payload=known.payload, now=self.now)
        known.duties.append(duty)
        known.has_bytes = True
        self.opened += 1

    @rule(most=st.integers(1, 4))
    def forget_aged(self, most: int) -> None:
        """At most so many, each of them aged, and from the front of each class."""
        aged_until = self.seconds - RETENTION.age_seconds_max
        aged = [known for known in self.settled[DELIVERED] + self.settled[EXHAUSTED] if known.event.since <= aged_until]
        count = self.ledger.forget_aged(self.now, most=most)
        assert count == min(most, len(aged))
        gone = [known for known in aged if self.ledger.find(known.client_id, known.event.id) is not known.event]
        assert len(gone) == count
        for status, before in list(self.settled.items()):
            mine = [known for known in gone if known.status is status]
            assert before[: len(mine)] == mine
        for known in gone:
            self.forget(known)

    @precondition(lambda self: self.pairs(lambda duty: not duty.is_unsettled))
    @rule(pick=PICK)
    def illegal_change_raises(self, pick: int) -> None:
        known, duty = self.some(pick, lambda duty: not duty.is_unsettled)
        reason = duty.delivery.reason
        with pytest.raises(IllegalTransition):
            self.ledger.give_up(known.event, duty.delivery, Reason.CRASHED, now=self.now)
        assert duty.delivery.reason is reason

    @precondition(lambda self: self.pairs(lambda duty: duty.is_unsettled))
    @rule(pick=PICK)
    def illegal_reopening_raises(self, pick: int) -> None:
        known, duty = self.some(pick, lambda duty: duty.is_unsettled)
        with pytest.raises(IllegalTransition):
            self.ledger.reopen(known.event, duty.delivery, now=self.now)

    # What holds after every step

    @invariant()
    def nobody_that_is_told_raises(self) -> None:
        """What these models assert of what they are told comes here: the ledger passes over it."""
        assert self.ledger.port_failures == {}

    @invariant()
    def totals_are_the_models(self) -> None:
        totals = self.ledger.totals()
        everything = [*self.held, *self.forgotten]
        duties = [duty for known in everything for duty in known.duties]
        assert totals.is_balanced
        assert totals.accepted == len(everything)
        assert (totals.opened, totals.attempts, totals.unrouted) == (self.opened, self.attempts, self.unrouted)
        assert len(duties) == self.opened
        assert +Counter(totals.events) == Counter(known.status for known in everything)
        assert +Counter(totals.deliveries) == Counter(duty.status for duty in duties)
        assert totals.in_flight == self.ledger.in_flight == sum(duty.flying for duty in duties)
        assert totals.undelivered == sum(duty.status in (PENDING, FAILED) for duty in duties)
        assert (totals.unsettled_events, totals.unsettled_bytes) == self.owed()
        assert totals.recovered == 0

    @invariant()
    def exhausted_are_held_or_counted_as_forgotten(self) -> None:
        totals = self.ledger.totals()
        assert totals.exhausted_held == len(self.pairs(lambda duty: duty.status is EXHAUSTED))
        lost = [known for known in self.forgotten if known.status is EXHAUSTED]
        assert totals.exhausted_forgotten == sum(duty.status is EXHAUSTED for known in lost for duty in known.duties)
        assert self.told == [known.event for known in lost]

    @invariant()
    def settlings_are_told_in_order(self) -> None:
        assert self.listed == self.settlings

    @invariant()
    def client_budgets_are_the_models(self) -> None:
        """Exactly what is free fits, and nothing more."""
        for client_id in CLIENTS:
            events, size = self.owed(client_id)
            room = Demand(INTAKE.client_events_max - events, INTAKE.client_bytes_max - size)
            self.ledger.refuse_if_full(client_id, client=room, whole=Demand(), now=self.now.monotonic)
            for over in (Demand(room.events + 1, 0), Demand(0, room.bytes + 1)):
                with pytest.raises(ClientFull):
                    self.ledger.refuse_if_full(client_id, client=over, whole=Demand(), now=self.now.monotonic)

    @invariant()
    def unsettled_are_all_held_in_order(self) -> None:
        since = [(event.since, event.sequence) for event in self.ledger.unsettled]
        assert sorted(since) == sorted((known.since, known.event.sequence) for known in self.unsettled)
        assert [one for one, _ in since] == [known.since for known in self.unsettled]
        for known in self.unsettled:
            assert self.ledger.unsettled.find(known.event.sequence) is known.event
        for client_id, endpoint_id in itertools.product(CLIENTS, ENDPOINTS):
            mine = [
                (known.event, duty)
                for known in sorted(self.unsettled, key=lambda known: known.event.sequence)
                for duty in known.duties
                if (known.client_id, duty.endpoint_id) == (client_id, endpoint_id) and duty.status in (PENDING, FAILED)
            ]
            owed = [duty for _, duty in mine if not duty.abandoned]
            assert self.ledger.unsettled_count(client_id, [endpoint_id]) == len(owed)
            assert [event for event, _ in self.ledger.unsettled_of(client_id, endpoint_id)] == [one for one, _ in mine]
            waiting = [(event, duty.delivery) for event, duty in mine if duty.waits]
            assert self.ledger.waiting(client_id, endpoint_id) == waiting

    @invariant()
    def settled_are_within_their_limits(self) -> None:
        delivered, exhausted = self.settled[DELIVERED], self.settled[EXHAUSTED]
        assert list(self.ledger.exhausted()) == [known.event for known in exhausted]
        assert len(delivered) <= RETENTION.delivered_events_max
        assert len(exhausted) <= RETENTION.exhausted_events_max
        kept = [known.event.payload for known in exhausted]
        assert sum(len(payload) for payload in kept if payload is not None) <= RETENTION.exhausted_bytes_max
        assert None not in kept
        kept = [known.event.payload for known in delivered]
        assert sum(len(payload) for payload in kept if payload is not None) <= RETENTION.delivered_bytes_max

    @invariant()
    def held_events_are_found_and_say_what_happened(self) -> None:
        for known in self.held:
            event = known.event
            assert self.ledger.find(known.client_id, event.id) is event
            assert event.status is known.status
            assert (event.settled_at is None) is known.is_unsettled
            assert [(one.endpoint_id, one.status, one.in_flight) for one in event.deliveries] == [
                (duty.endpoint_id, duty.status, duty.flying) for duty in known.duties
            ]
            assert event.payload == (known.payload if known.has_bytes else None)
            assert event.has_payload(known.payload)
            assert not event.has_payload(known.payload + b" ")
            for duty in known.duties:
                assert self.ledger.terms.attempts_max(event, duty.delivery) == duty.shown(self.entries)
                number, text = self.excerpts.get((known, duty.endpoint_id), (None, None))
                assert self.ledger.excerpt(event, duty.delivery, duty.begun) == (text if number == duty.begun else None)
                if number is not None:
                    assert self.ledger.excerpt(event, duty.delivery, number) == text

    @invariant()
    def ids_accepted_since_are_all_known(self) -> None:
        for known in self.forgotten:
            assert known.accepted_at <= self.ledger.remembers_since
        assert self.ledger.remembers_since == max([WALL, *(known.accepted_at for known in self.forgotten)])
        for event_id in {known.event.id for known in self.held}:
            expected = {known.event.sequence for known in self.held if known.event.id == event_id}
            assert {event.sequence for event in self.ledger.find_everywhere(event_id)} == expected

    @invariant()
    def pages_list_what_is_held_newest_first(self) -> None:
        for client_id in (None, *CLIENTS):
            mine = [known for known in self.newest_first if client_id in (None, known.client_id)]
            assert pages(self.ledger, client_id=client_id, limit=2) == [known.event for known in mine]
            for status in Status:
                expected = [known.event for known in mine if known.status is status]
                assert pages(self.ledger, client_id=client_id, status=status, limit=1) == expected
            for event_type in TYPES:
                expected = [known.event for known in mine if known.event.type == event_type]
                assert pages(self.ledger, client_id=client_id, event_type=event_type, limit=3) == expected


def pages(
    ledger: Ledger,
    *,
    client_id: str | None = None,
    status: Status | None = None,
    event_type: str | None = None,
    limit: int = 100,
) -> list[Event]:
    """Every page of a listing, one after the other."""
    found: list[Event] = []
    before = None
    while True:
        page, cursor = ledger.page(client_id=client_id, wanted=Wanted(status, event_type), before=before, limit=limit)
        assert len(page) <= limit
        assert before is None or cursor is None or cursor < before  # it goes on
        found += page
        if cursor is None:
            return found
        before = cursor


LedgerMachine.TestCase.settings = hypothesis_settings(max_examples=20, stateful_step_count=50)
TestLedgerAgainstModel = LedgerMachine.TestCase


# One by one


class Desk:
    """A ledger with a clock and the few moves that the tests below are made of."""

    def __init__(
        self, *, intake: IntakeSettings = DEFAULTS.intake, retention: RetentionSettings = DEFAULTS.retention
    ) -> None:
        self.effective = EffectiveSettings(Settings(intake=intake, retention=retention))
        self.told: list[str] = []
        self.ledger = Ledger(
            self.effective,
            started=moment(0),
            on_settled=lambda event: None,
            on_forgotten=lambda event: self.told.append(event.id),
        )
        self.seconds = 0.0
        self._ids = itertools.count()

    @property
    def now(self) -> Moment:
        return moment(self.seconds)

    def ask(self, client_id: str, payload_bytes: int, *, deliveries: int = 1) -> None:
        demand = Demand(1, cost_bytes(payload_bytes, deliveries))
        self.ledger.refuse_if_full(client_id, client=demand, whole=demand, now=self.now.monotonic)

    def open(self, client_id: str = "a", payload: bytes = b"1", *, endpoint_ids: Sequence[str] = ("x",)) -> Event:
        deliveries = tuple(delivery_to(one, at=self.seconds) for one in endpoint_ids)
        submission = Submission(client_id, "t", payload)
        return self.ledger.open(submission, f"e{next(self._ids)}", deliveries, now=self.now)

    def deliver(self, event: Event) -> Event:
        for delivery in event.deliveries:
            self.attempt(event, delivery, 204)
        return event

    def exhaust(self, event: Event) -> Event:
        for delivery in event.deliveries:
            self.ledger.give_up(event, delivery, Reason.EXPIRED, now=self.now)
        return event

    def attempt(self, event: Event, delivery: Delivery, status_code: int, *, body: bytes = b"") -> None:
        self.ledger.begin_attempt(event, delivery, url=URL, now=self.now)
        exchange = Exchange()
        exchange.sending_started = exchange.request_sent = True
        exchange.answer, exchange.excerpt = Responded(status_code), body
        self.ledger.end_attempt(
            event,
            delivery,
            AttemptEnd(
                outcome=exchange.answer,
                verdict=Success() if status_code < 300 else Retry(5.0),
                exchange=exchange,
                duration_seconds=0.1,
                now=self.now,
            ),
        )

    def held(self) -> list[str]:
        return [event.id for event in pages(self.ledger)]


def test_cost_counts_payload_event_and_deliveries() -> None:
    """512 B an event and 512 B a delivery besides the payload; what nobody subscribes to costs nothing."""
    assert (EVENT_BYTES, DELIVERY_BYTES) == (512, 512)
    assert cost_bytes(100, 1) == 1124
    assert cost_bytes(100, 3) == 2148
    assert [cost_bytes(100, count) for count in (8, 9, 16)] == [4708, 5220, 8804]  # each of the 16 that may be
    assert cost_bytes(100, 0) == 0


def test_demand_is_what_the_event_will_cost() -> None:
    """One event, by its payload and by each of its deliveries."""
    desk = Desk()
    for count in (1, 2, 16):
        demand = desk.ledger.demand(100, [URL] * count)
        assert (demand.events, demand.bytes) == (1, cost_bytes(100, count))


def test_oldest_unsettled_is_told_of_each_endpoint_that_is_owed_something() -> None:
    """Since when its oldest event is; what has settled, and an endpoint that is owed nothing, are not there."""
    desk = Desk()
    assert desk.ledger.oldest_unsettled("a") == {}
    times = {}
    for seconds, endpoint_ids in ((1, "xy"), (2, "y"), (3, "xz"), (4, "z")):
        desk.seconds = float(seconds)
        event = times[seconds] = desk.open(endpoint_ids=tuple(endpoint_ids))
        assert event.since == seconds
    assert desk.ledger.oldest_unsettled("a") == {"x": 1.0, "y": 1.0, "z": 3.0}
    desk.attempt(times[1], times[1].deliveries[0], 204)
    assert desk.ledger.oldest_unsettled("a") == {"x": 3.0, "y": 1.0, "z": 3.0}
    desk.deliver(times[3])
    assert desk.ledger.oldest_unsettled("a") == {"y": 1.0, "z": 4.0}
    assert desk.ledger.oldest_unsettled("b") == {}


def test_each_giving_up_is_told_with_its_event_and_its_delivery() -> None:
    """Once it stands, and once each; what was delivered is told to nobody."""
    told: list[tuple[str, str, Reason | None]] = []
    ledger = Ledger(
        EffectiveSettings(Settings()),
        started=moment(0),
        on_settled=lambda event: None,
        on_forgotten=lambda event: None,
        on_given_up=lambda event, delivery: told.append((event.id, delivery.endpoint_id, delivery.reason)),
    )
    event = ledger.open(Submission("a", "t", b"1"), "e1", (delivery_to("x"), delivery_to("y")), now=moment(0))
    for delivery, reason in zip(event.deliveries, (Reason.EXPIRED, Reason.GONE), strict=True):
        ledger.give_up(event, delivery, reason, now=moment(1))
    assert told == [("e1", "x", Reason.EXPIRED), ("e1", "y", Reason.GONE)]
    assert not ledger.port_failures["log"]


BUDGETS = [
    (IntakeSettings(client_events_max=2), ClientFull, "client-full"),
    (IntakeSettings(client_bytes_max=2 * 1034), ClientFull, "client-full"),
    (IntakeSettings(unsettled_events_max=2), Full, "full"),
    (IntakeSettings(unsettled_bytes_max=2 * 1034), Full, "full"),
]


@pytest.mark.parametrize(("intake", "refusal", "slug"), BUDGETS)
def test_budget_at_its_limit_refuses_and_changes_nothing(
    intake: IntakeSettings, refusal: type[Refused], slug: str
) -> None:
    """Exactly the limit fits, one more does not; the refusal says when to come again and which setting it was."""
    desk = Desk(intake=intake)
    for _ in range(2):
        desk.ask("a", 10)
        desk.open("a", b"1" * 10)
    before = desk.ledger.totals(), desk.held()
    with pytest.raises(refusal, match=r"intake\.(client|unsettled)_(events|bytes)_max") as refused:
        desk.ask("a", 10)
    assert refused.value.slug == slug
    assert isinstance(refused.value, WantOfRoom)
    assert f"{refused.value.limit} is" in refused.value.detail
    assert refused.value.client_id == ("a" if refusal is ClientFull else None)
    # Nothing settled yet: of the whole that is the longest wait, of one client its next attempt says more.
    assert refused.value.retry_after_seconds == (60 if refusal is Full else None)
    assert (desk.ledger.totals(), desk.held()) == before


@pytest.mark.parametrize("intake", [BUDGETS[1][0], BUDGETS[3][0]])
def test_budget_of_bytes_refuses_from_one_byte_over(intake: IntakeSettings) -> None:
    """The last byte of the budget is still taken."""
    desk = Desk(intake=intake)
    desk.open("a", b"1" * 10)
    desk.ask("a", 10)
    with pytest.raises((ClientFull, Full)):
        desk.ask("a", 11)


@pytest.mark.parametrize("settle", [Desk.deliver, Desk.exhaust])
@pytest.mark.parametrize(("intake", "refusal"), [(intake, refusal) for intake, refusal, _ in BUDGETS])
def test_budget_after_settling_is_free_again(
    intake: IntakeSettings, refusal: type[Refused], settle: Callable[[Desk, Event], Event]
) -> None:
    """Delivered or given up, an event gives back all that it took."""
    desk = Desk(intake=intake)
    first = desk.open("a", b"1" * 10)
    desk.open("a", b"1" * 10)
    with pytest.raises(refusal):
        desk.ask("a", 10)
    settle(desk, first)
    desk.ask("a", 10)
    desk.open("a", b"1" * 10)
    with pytest.raises(refusal):
        desk.ask("a", 10)


def test_budget_of_a_failed_or_flying_delivery_stays_taken() -> None:
    """Only settling gives it back, and of several deliveries only the last one's."""
    desk = Desk(intake=IntakeSettings(unsettled_events_max=1))
    event = desk.open(endpoint_ids=("x", "y"))
    first, second = event.deliveries
    desk.attempt(event, first, 500)
    desk.attempt(event, first, 204)
    desk.ledger.begin_attempt(event, second, url=URL, now=desk.now)
    with pytest.raises(Full):
        desk.ask("b", 1)
    assert desk.ledger.totals().unsettled_bytes == cost_bytes(1, 2)


def test_budget_of_the_client_is_asked_before_the_whole_ones() -> None:
    """Where both are full the client's answer is given; a client with room gets the whole one's."""
    desk = Desk(intake=IntakeSettings(client_events_max=1, unsettled_events_max=1))
    desk.open("a")
    with pytest.raises(ClientFull):
        desk.ask("a", 1)
    with pytest.raises(Full):
        desk.ask("b", 1)


def test_budget_of_one_client_leaves_the_others_room() -> None:
    """A client at its limit stands in nobody's way."""
    desk = Desk(intake=IntakeSettings(client_events_max=1))
    desk.open("a")
    with pytest.raises(ClientFull):
        desk.ask("a", 1)
    desk.ask("b", 1)


def test_budget_taken_again_by_reopening_and_by_another_delivery() -> None:
    """A reopened event costs what it did; a delivery more costs 512 B more."""
    desk = Desk()
    event = desk.exhaust(desk.open(payload=b"1" * 10))
    assert desk.ledger.totals().unsettled_bytes == 0
    desk.ledger.reopen(event, event.deliveries[0], now=desk.now)
    assert desk.ledger.totals().unsettled_bytes == 10 + 512 + 512
    desk.ledger.add_delivery(event, delivery_to("y"), payload=b"1" * 10, now=desk.now)
    assert desk.ledger.totals().unsettled_bytes == 10 + 512 + 2 * 512
    desk.exhaust(event)
    assert desk.ledger.totals().unsettled_bytes == 0


def test_budget_raised_while_running_counts_at_once() -> None:
    """The settings in force are read at each use."""
    desk = Desk(intake=IntakeSettings(unsettled_events_max=1))
    desk.open()
    with pytest.raises(Full):
        desk.ask("a", 1)
    desk.effective.settings = Settings(intake=IntakeSettings(unsettled_events_max=2))
    desk.ask("a", 1)


def test_unrouted_event_is_delivered_at_once_and_takes_no_budget() -> None:
    """It owes nothing: counted apart, held, settled as it came."""
    desk = Desk(intake=IntakeSettings(unsettled_events_max=0))
    event = desk.open(endpoint_ids=())
    totals = desk.ledger.totals()
    assert event.status is DELIVERED
    assert event.is_unrouted
    assert event.settled_at == WALL
    assert (totals.unrouted, totals.opened, totals.unsettled_events, totals.events[DELIVERED]) == (1, 0, 0, 1)
    assert desk.held() == [event.id]


def test_recovered_event_counts_as_accepted_and_keeps_its_own_time() -> None:
    """What comes back from a report was accepted then, not now."""
    desk = Desk()
    desk.seconds = 50.0
    event = desk.ledger.open(
        Submission("a", "t", b"1"), "e", (delivery_to("x"),), now=desk.now, recovered=True, accepted_at=WALL - 7
    )
    totals = desk.ledger.totals()
    assert (totals.accepted, totals.recovered) == (1, 1)
    assert (event.accepted_at, event.since) == (WALL - 7, 50.0)


def test_delivered_payloads_beyond_their_bytes_are_dropped_oldest_first() -> None:
    """Rows stay, and the digest still tells the same payload from another."""
    desk = Desk(retention=RetentionSettings(delivered_bytes_max=25))
    payloads = [b"a" * 10, b"b" * 10, b"c" * 10]
    events = [desk.open(payload=payload) for payload in payloads]
    for event in (events[1], events[0], events[2]):  # in order of settling, not of admission
        desk.deliver(event)
    assert [event.payload for event in events] == [payloads[0], None, payloads[2]]
    assert desk.held() == [event.id for event in reversed(events)]
    for event, payload in zip(events, payloads, strict=True):
        assert event.has_payload(payload)
        assert not event.has_payload(payload.upper())
    assert desk.told == []


def test_delivered_payload_at_exactly_the_limit_stays() -> None:
    """The last byte is kept; one too large for the limit alone is dropped at once."""
    desk = Desk(retention=RetentionSettings(delivered_bytes_max=10))
    assert desk.deliver(desk.open(payload=b"1" * 10)).payload is not None
    assert desk.deliver(desk.open(payload=b"1" * 11)).payload is None


def test_delivered_event_that_lost_its_payload_takes_it_again_with_a_delivery() -> None:
    """Resending another endpoint brings the bytes back; the digest is not needed any more."""
    desk = Desk(retention=RetentionSettings(delivered_bytes_max=0))
    event = desk.deliver(desk.open(payload=b"12"))
    assert event.payload is None
    desk.ledger.add_delivery(event, delivery_to("y"), payload=b"12", now=desk.now)
    assert event.payload == b"12"
    assert event.digest is None
    assert event.status is PENDING
    assert event.settled_at is None
    assert desk.ledger.totals().unsettled_bytes == 2 + 512 + 2 * 512
    desk.attempt(event, event.deliveries[1], 204)
    assert event.payload is None
    assert event.has_payload(b"12")


def test_delivered_event_that_owes_again_keeps_its_payload() -> None:
    """With a delivery added it is unsettled, and no limit on delivered payloads reaches it."""
    desk = Desk(retention=RetentionSettings(delivered_bytes_max=10))
    event = desk.deliver(desk.open(payload=b"1" * 10))
    desk.ledger.add_delivery(event, delivery_to("y"), payload=b"1" * 10, now=desk.now)
    others = [desk.deliver(desk.open(payload=b"2" * 10)) for _ in range(3)]
    assert event.payload == b"1" * 10
    assert [other.payload for other in others] == [None, None, b"2" * 10]


def test_delivered_events_beyond_their_count_are_forgotten_untold() -> None:
    """Oldest first; a delivered event is nobody's loss."""
    desk = Desk(retention=RetentionSettings(delivered_events_max=2))
    events = [desk.deliver(desk.open()) for _ in range(4)]
    assert desk.held() == [events[3].id, events[2].id]
    assert desk.told == []
    assert desk.ledger.find("a", events[0].id) is None
    assert desk.ledger.totals().events[DELIVERED] == 4


def test_exhausted_beyond_their_count_are_forgotten_and_told() -> None:
    """In order of settling; each is told once, and its deliveries are counted as forgotten."""
    desk = Desk(retention=RetentionSettings(exhausted_events_max=1))
    first, second, third = (desk.open(endpoint_ids=("x", "y")) for _ in range(3))
    for event in (second, first, third):
        desk.exhaust(event)
    assert desk.told == [second.id, first.id]
    assert desk.held() == [third.id]
    totals = desk.ledger.totals()
    assert (totals.exhausted_held, totals.exhausted_forgotten) == (2, 4)
    assert totals.deliveries[EXHAUSTED] == 6
    assert totals.is_balanced


def test_exhausted_forgotten_counts_the_exhausted_deliveries_alone() -> None:
    """Of an event with one delivered and one given up, one delivery was lost."""
    desk = Desk(retention=RetentionSettings(exhausted_events_max=0))
    event = desk.open(endpoint_ids=("x", "y"))
    desk.attempt(event, event.deliveries[0], 204)
    assert desk.told == []
    desk.ledger.give_up(event, event.deliveries[1], Reason.GONE, now=desk.now)
    assert desk.told == [event.id]
    assert desk.ledger.totals().exhausted_forgotten == 1


def test_exhausted_beyond_their_bytes_are_forgotten_and_told() -> None:
    """As many of the oldest as it takes; the payload of one still held is never dropped."""
    desk = Desk(retention=RetentionSettings(exhausted_bytes_max=25))
    events = [desk.exhaust(desk.open(payload=b"1" * size)) for size in (10, 10, 5)]
    assert desk.told == []
    big = desk.exhaust(desk.open(payload=b"1" * 16))
    assert desk.told == [events[0].id, events[1].id]
    assert desk.held() == [big.id, events[2].id]
    assert big.payload == b"1" * 16


def test_settled_beyond_their_age_are_forgotten_a_few_at_a_time() -> None:
    """The age runs from settling, not from acceptance; unsettled events stay however old."""
    desk = Desk(retention=RetentionSettings(age_seconds_max=100.0))
    old = desk.open()
    delivered, exhausted = desk.open(), desk.open()
    desk.seconds = 50.0
    desk.deliver(delivered)
    desk.exhaust(exhausted)
    desk.seconds = 149.9
    assert desk.ledger.forget_aged(desk.now, most=10) == 0
    late = desk.exhaust(desk.open())
    desk.seconds = 150.0
    assert [desk.ledger.forget_aged(desk.now, most=1) for _ in range(3)] == [1, 1, 0]
    assert desk.told == [exhausted.id]
    assert desk.held() == [late.id, old.id]
    desk.seconds = 1e9
    assert desk.ledger.forget_aged(desk.now, most=10) == 1
    assert desk.held() == [old.id]
    assert old.status is PENDING


def test_reopened_event_is_not_forgotten_by_its_old_age() -> None:
    """Being unsettled takes it out of retention; settling again starts its age anew."""
    desk = Desk(retention=RetentionSettings(age_seconds_max=100.0))
    event = desk.exhaust(desk.open())
    desk.seconds = 99.0
    desk.ledger.reopen(event, event.deliveries[0], now=desk.now)
    desk.seconds = 500.0
    assert desk.ledger.forget_aged(desk.now, most=10) == 0
    desk.exhaust(event)
    desk.seconds = 599.0
    assert desk.ledger.forget_aged(desk.now, most=10) == 0
    desk.seconds = 600.0
    assert desk.ledger.forget_aged(desk.now, most=10) == 1


def test_excerpts_beyond_their_bytes_are_dropped_oldest_first() -> None:
    """The newest answers are the ones that explain something."""
    desk = Desk(retention=RetentionSettings(excerpts_bytes_max=2 * (EXCERPT_ROW_BYTES + 10)))
    events = [desk.open() for _ in range(3)]
    for index, event in enumerate(events):
        desk.attempt(event, event.deliveries[0], 500, body=b"%d" % index * 10)
    excerpts = [desk.ledger.excerpt(event, event.deliveries[0], 1) for event in events]
    assert excerpts == [None, "1" * 10, "2" * 10]
    desk.attempt(events[1], events[1].deliveries[0], 500, body=b"new")  # now the youngest, in place of its old one
    desk.attempt(events[0], events[0].deliveries[0], 500, body=b"0" * 10)
    assert desk.ledger.excerpt(events[1], events[1].deliveries[0], 2) == "new"
    assert desk.ledger.excerpt(events[1], events[1].deliveries[0], 1) is None
    assert desk.ledger.excerpt(events[2], events[2].deliveries[0], 1) is None
    assert desk.ledger.excerpt(events[0], events[0].deliveries[0], 2) == "0" * 10


def test_excerpt_is_the_last_failed_attempts_first_kibibyte() -> None:
    """Cut at 1 KiB, shown whatever its bytes are, kept through a success and gone with the next failure."""
    desk = Desk()
    event = desk.open()
    (delivery,) = event.deliveries
    desk.attempt(event, delivery, 500, body=b"\xff" + b"x" * 2000)
    assert desk.ledger.excerpt(event, delivery, 1) == "\ufffd" + "x" * (EXCERPT_BYTES_MAX - 1)
    desk.attempt(event, delivery, 503)
    assert desk.ledger.excerpt(event, delivery, 1) is None
    assert desk.ledger.excerpt(event, delivery, 2) is None
    desk.attempt(event, delivery, 500, body=b"why")
    desk.attempt(event, delivery, 200, body=b"thanks")
    assert desk.ledger.excerpt(event, delivery, 3) == "why"
    assert desk.ledger.excerpt(event, delivery, 4) is None


def test_excerpts_of_forgotten_events_leave_room() -> None:
    """What is forgotten is forgotten whole: its excerpt no longer counts."""
    retention = RetentionSettings(excerpts_bytes_max=2 * (EXCERPT_ROW_BYTES + 10), exhausted_events_max=0)
    desk = Desk(retention=retention)
    first, second, third = (desk.open() for _ in range(3))
    desk.attempt(second, second.deliveries[0], 500, body=b"2" * 10)
    desk.attempt(first, first.deliveries[0], 500, body=b"1" * 10)
    desk.exhaust(first)
    desk.attempt(third, third.deliveries[0], 500, body=b"3" * 10)
    excerpts = [desk.ledger.excerpt(event, event.deliveries[0], 1) for event in (first, second, third)]
    assert excerpts == [None, "2" * 10, "3" * 10]


def test_excerpts_of_two_endpoints_are_told_apart() -> None:
    """Each delivery has its own."""
    desk = Desk()
    event = desk.open(endpoint_ids=("x", "y"))
    first, second = event.deliveries
    desk.attempt(event, first, 500, body=b"one")
    desk.attempt(event, second, 500, body=b"two")
    assert [desk.ledger.excerpt(event, delivery, 1) for delivery in (first, second)] == ["one", "two"]


def test_remembers_since_moves_with_what_was_forgotten() -> None:
    """Of every event accepted later the id is known, so that posting it again is answered as known."""
    desk = Desk(retention=RetentionSettings(delivered_events_max=1))
    assert desk.ledger.remembers_since == WALL
    desk.seconds = 10.0
    first = desk.open()
    desk.seconds = 20.0
    second = desk.open()
    desk.deliver(second)
    assert desk.ledger.remembers_since == WALL
    desk.deliver(first)  # second was settled first, so it goes, and with it the certainty about first's time
    assert desk.ledger.find("a", second.id) is None
    assert desk.ledger.remembers_since == WALL + 20
    desk.deliver(desk.open())
    assert desk.ledger.find("a", first.id) is None
    assert desk.ledger.remembers_since == WALL + 20


def test_page_begins_below_its_cursor_and_ends_without_one() -> None:
    """No event is listed twice or passed over when others come in or are forgotten between two pages."""
    desk = Desk(retention=RetentionSettings(delivered_events_max=0))
    events = [desk.open("ab"[n % 2]) for n in range(6)]
    page, cursor = desk.ledger.page(client_id=None, before=None, limit=2)
    assert page == [events[5], events[4]]
    desk.open()
    desk.deliver(events[3])
    page, cursor = desk.ledger.page(client_id=None, before=cursor, limit=2)
    assert page == [events[2], events[1]]
    page, cursor = desk.ledger.page(client_id=None, before=cursor, limit=2)
    assert (page, cursor) == ([events[0]], None)
    assert desk.ledger.page(client_id="nobody", before=None, limit=2) == ([], None)


def test_pages_over_many_blocks_with_holes_list_each_held_event_once() -> None:
    """Forgotten blocks are passed over, and block borders are no borders."""
    desk = Desk(retention=RetentionSettings(delivered_events_max=0))
    events = [desk.open() for _ in range(4 * BLOCK)]
    holes = {*range(1, BLOCK + 5), *range(2 * BLOCK - 1, 3 * BLOCK + 1)}
    for index in holes:
        desk.deliver(events[index])
    kept = [event for index, event in enumerate(events) if index not in holes]
    for limit in (1, 7, BLOCK, 10 * BLOCK):
        assert pages(desk.ledger, limit=limit) == kept[::-1]
        assert pages(desk.ledger, limit=limit, client_id="a") == kept[::-1]


def rows(desk: Desk, count: int) -> Iterator[Event]:
    for _ in range(count):
        yield desk.open(endpoint_ids=())


@pytest.mark.parametrize("client_id", [None, "a"])
def test_page_of_a_rare_filter_may_be_short_and_goes_on(client_id: str | None) -> None:
    """One page takes so many looks at most; the cursor leads on to what lies behind them."""
    desk = Desk()
    rare = desk.exhaust(desk.open())
    for _ in rows(desk, PAGE_LOOKS_MAX + 10):
        pass
    page, cursor = desk.ledger.page(client_id=client_id, wanted=Wanted(EXHAUSTED), before=None, limit=5)
    assert page == []
    assert cursor is not None
    assert pages(desk.ledger, client_id=client_id, status=EXHAUSTED, limit=5) == [rare]


def test_forget_endpoint_drops_its_record_once_nothing_is_unsettled() -> None:
    """A removed endpoint leaves nothing behind, but not before its last delivery is settled."""
    desk = Desk()
    event = desk.open()
    desk.ledger.ensure_health("a", "x").disabled = True
    desk.ledger.forget_endpoint("a", "x")
    assert desk.ledger.health("a", "x") is not None
    desk.exhaust(event)
    desk.ledger.forget_endpoint("a", "x")
    assert desk.ledger.health("a", "x") is None
    desk.ledger.forget_endpoint("a", "x")
    desk.ledger.forget_endpoint("nobody", "x")
    assert desk.ledger.find("a", event.id) is event


def test_health_follows_the_attempts_of_its_endpoint() -> None:
    """Failures in a row and since when; a success ends them."""
    desk = Desk()
    event = desk.open(endpoint_ids=("x", "y"))
    first = event.deliveries[0]
    health = desk.ledger.ensure_health("a", "x")
    assert (health.unsettled, health.last_error) == (1, None)
    desk.seconds = 5.0
    desk.attempt(event, first, 500)
    desk.seconds = 9.0
    desk.attempt(event, first, 503)
    assert (health.consecutive_failures, health.failing_since, health.last_error) == (2, WALL + 5, "answered 503")
    desk.attempt(event, first, 204)
    assert (health.consecutive_failures, health.failing_since, health.last_error) == (0, None, None)
    assert (health.unsettled, health.in_flight, health.last_delivered_at) == (0, 0, WALL + 9)
    assert desk.ledger.ensure_health("a", "y").unsettled == 1
    assert desk.ledger.unsettled_count("a", ["x", "y", "nothing"]) == 1
    assert desk.ledger.unsettled_count("nobody", ["x"]) == 0


def test_retarget_takes_the_new_settings_and_leaves_an_attempt() -> None:
    """A shorter schedule ends a delivery at its next attempt, never without one."""
    desk = Desk()
    event = desk.open()
    (delivery,) = event.deliveries
    for _ in range(4):
        desk.attempt(event, delivery, 500)
    desk.ledger.retarget("a", {"x": "https://example.com/new", "another": "https://example.com/another"})
    assert delivery.url == "https://example.com/new"
    for entries, attempts_max in ((7, 8), (0, 5), (7, 8), (4, 5), (0, 5)):
        retry = msgspec.structs.replace(desk.effective.settings.retry, schedule_seconds=(1.0,) * entries)
        desk.effective.settings = msgspec.structs.replace(desk.effective.settings, retry=retry)
        assert desk.ledger.terms.attempts_max(event, delivery) == attempts_max


def test_what_a_removal_ends_is_named_once_and_waits_again_when_it_is_reopened() -> None:
    """A second removal finds it ended already, by the first one's schedule; a reopening is owed to whoever is there."""
    desk = Desk()
    event = desk.open()
    (delivery,) = event.deliveries
    assert desk.ledger.abandon("a", "x", attempts_of_schedule=3) == [event]
    assert desk.ledger.abandon("a", "x", attempts_of_schedule=9) == []
    later = desk.open()
    assert desk.ledger.abandon("a", "x", attempts_of_schedule=9) == [later]
    desk.exhaust(later)
    health = desk.ledger.ensure_health("a", "x")
    assert (delivery.is_waiting, health.unsettled, health.owed) == (False, 1, 0)
    desk.ledger.give_up(event, delivery, Reason.ENDPOINT_REMOVED, now=desk.now)
    assert (desk.ledger.terms.attempts_max(event, delivery), health.unsettled, health.owed) == (3, 0, 0)
    desk.ledger.reopen(event, delivery, now=desk.now)
    assert (delivery.is_waiting, health.unsettled, health.owed) == (True, 1, 1)
    assert desk.ledger.terms.attempts_max(event, delivery) == 6


def test_removal_ends_what_waits_there_and_passes_over_all_else() -> None:
    """An attempt in flight is the last; what is settled there, or owed elsewhere, is left alone, wherever it stands."""
    desk = Desk()
    elsewhere = desk.open(endpoint_ids=("y",))
    half_settled = desk.open(endpoint_ids=("x", "y"))
    desk.attempt(half_settled, half_settled.deliveries[0], 204)
    flying = desk.open()
    desk.ledger.begin_attempt(flying, flying.deliveries[0], url=URL, now=desk.now)
    waiting = desk.open(endpoint_ids=("y", "x"))
    assert desk.ledger.abandon("a", "x", attempts_of_schedule=3) == [waiting]
    assert [one.is_abandoned for one in (*half_settled.deliveries, *flying.deliveries)] == [False, False, True]
    assert [(one.is_abandoned, one.due_at) for one in waiting.deliveries] == [(False, 0.0), (True, None)]
    assert not elsewhere.deliveries[0].is_abandoned
    assert desk.ledger.unsettled_count("a", ["x", "y"]) == 3
    assert desk.ledger.abandon("a", "nothing", attempts_of_schedule=3) == []
    assert desk.ledger.abandon("nobody", "x", attempts_of_schedule=3) == []


def test_retarget_moves_what_waits_there_and_passes_over_all_else() -> None:
    """What is in flight goes on to the old URL, what is settled went there, and other endpoints keep their own."""
    desk = Desk()
    flying = desk.open()
    desk.ledger.begin_attempt(flying, flying.deliveries[0], url=URL, now=desk.now)
    half_settled = desk.open(endpoint_ids=("x", "y"))
    desk.attempt(half_settled, half_settled.deliveries[0], 204)
    waiting = desk.open(endpoint_ids=("y", "x"))
    new = "https://example.com/new"
    desk.ledger.retarget("a", {"x": new})
    urls = [delivery.url for event in (flying, half_settled, waiting) for delivery in event.deliveries]
    assert urls == [URL, URL, URL, URL, new]


def test_lag_runs_from_when_this_delivery_was_owed() -> None:
    """From the admission; of one that was reopened or added later, from then."""
    desk = Desk()
    event = desk.open(endpoint_ids=("x", "y"))
    desk.seconds = 4.0
    desk.attempt(event, event.deliveries[0], 204)
    desk.ledger.give_up(event, event.deliveries[1], Reason.EXPIRED, now=desk.now)
    assert desk.ledger.counters.lag_seconds.sum == 4.0
    desk.seconds = 100.0
    desk.ledger.reopen(event, event.deliveries[1], now=desk.now)
    desk.seconds = 110.0
    desk.ledger.add_delivery(event, delivery_to("z", at=110.0), payload=b"1", now=desk.now)
    desk.seconds = 111.0
    desk.attempt(event, event.deliveries[1], 204)
    desk.attempt(event, event.deliveries[2], 204)
    assert (desk.ledger.counters.lag_seconds.sum, desk.ledger.counters.lag_seconds.count) == (4.0 + 11.0 + 1.0, 3)


def test_counters_count_what_was_given_up_reopened_and_posted_twice() -> None:
    """Each by itself, and each time."""
    desk = Desk()
    event = desk.open()
    (delivery,) = event.deliveries
    for _ in range(2):
        desk.exhaust(event)
        desk.ledger.reopen(event, delivery, now=desk.now)
        desk.ledger.begin_attempt(event, delivery, url=URL, now=desk.now)
        exchange = Exchange()
        exchange.reconnected = True
        desk.ledger.cut_attempt(event, delivery, exchange=exchange, duration_seconds=0.5)
        desk.ledger.make_due(delivery, now=desk.now)
    counters = desk.ledger.counters
    assert (counters.reopened, counters.reconnects) == ({Status.DELIVERED: 0, Status.EXHAUSTED: 2}, 2)
    assert counters.given_up == dict.fromkeys(Reason, 0) | {Reason.EXPIRED: 2}
    assert counters.attempts[("cut", "")] == 2
    assert counters.attempt_seconds.count == 0


def test_what_has_passed_through_leaves_no_more_than_what_is_remembered() -> None:
    """As soon as it remembers as many as it may, it takes what it takes after three times as many: no table grows."""
    desk = Desk(retention=RetentionSettings(delivered_events_max=2000))
    tracemalloc.start()
    try:
        taken: list[int] = []
        for _ in range(3):
            for _ in range(2000):
                desk.seconds += 1
                desk.deliver(desk.open())
            taken.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(taken) <= 1.10 * taken[0], taken


def test_reopened_event_leaves_its_place_among_those_that_settled_in_the_same_moment() -> None:
    desk = Desk(retention=RetentionSettings(delivered_events_max=3))
    first, second, third = (desk.deliver(desk.open()) for _ in range(3))
    desk.ledger.reopen(second, second.deliveries[0], now=desk.now)
    desk.deliver(desk.open())
    assert desk.held() == ["e3", "e2", "e1", "e0"]
    desk.deliver(second)
    assert desk.held() == ["e3", "e2", "e1"]
    desk.deliver(desk.open())
    assert desk.held() == ["e4", "e3", "e1"]
    assert third.id not in desk.held()
    assert first.id not in desk.held()
