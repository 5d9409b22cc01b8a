"""The recorder listens to the ledger's own model test: whatever happens, its records tell the same story."""

import math
from collections.abc import Callable

import msgspec
import pytest
from hookd.core.delivery import Delivery
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, Submission
from hookd.core.ledger import Ledger
from hookd.core.outcome import Exchange
from hookd.core.record import row_bytes_max
from hookd.core.recorder import SEGMENTS_MIN, NoRoom
from hookd.core.refusal import Full
from hookd.core.retry import Reason
from hookd.core.settings import DEFAULTS, IntakeSettings, RecorderSettings, Settings
from hookd.core.sizing import recorder_layout
from hookd.core.timestamps import Moment
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import invariant

from tests.core.recorder_harness import WALL, History, MemoryStore, make_recorder, named, picture, read, shown
from tests.core.test_ledger import DELIVERED, EXHAUSTED, LedgerMachine, moment

NOW = Moment(0.0, WALL)
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class RecorderMachine(LedgerMachine):
    """The ledger's model test, with segments so small that rows are carried all the time."""

    payloads = False
    row_bytes = 600

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore(4 * self.row_bytes, 16)
        self.recorder = make_recorder(self.store, row_bytes=self.row_bytes, segments_max=16, payloads=self.payloads)
        self.ledger = Ledger(
            self.effective,
            started=moment(0),
            on_settled=self.list_settled,
            on_forgotten=self.told.append,
            recorder=self.recorder,
        )

    @invariant()
    def records_tell_what_the_ledger_holds(self) -> None:
        recording = read(self.store.segments())
        assert recording.is_whole
        assert picture(recording.events.values()) == picture(self.ledger.unsettled)
        for serial, event in recording.events.items():
            held = self.ledger.unsettled.find(serial)
            assert held is not None
            assert named(event, payloads=True) == named(held, payloads=self.payloads)
            for told, delivery in zip(event.deliveries, held.deliveries, strict=True):
                assert bool(told.attempts) == bool(delivery.attempts)
                if told.attempts:
                    last, real = told.attempts[-1], delivery.attempts[-1]
                    assert (last.number, last.started_at) == (real.number, real.started_at)
                    assert type(last.outcome) is type(real.outcome) or told.status is DELIVERED

    @invariant()
    def records_sum_up_to_the_ledgers_totals(self) -> None:
        counts, totals = read(self.store.segments()).counts, self.ledger.totals()
        assert (counts.accepted, counts.recovered, counts.opened) == (totals.accepted, 0, totals.opened)
        assert (counts.delivered, counts.exhausted) == (
            totals.events[DELIVERED],
            totals.events[EXHAUSTED],
        )
        assert counts.deliveries_delivered == totals.deliveries[DELIVERED]
        assert counts.deliveries_exhausted == totals.deliveries[EXHAUSTED]
        assert counts.unrecorded == 0


class PayloadRecorderMachine(RecorderMachine):
    """The same with payloads, of which the largest is a quarter of a segment."""

    payloads = True
    row_bytes = 2600


TestRecorder = RecorderMachine.TestCase
TestRecorder.settings = hypothesis_settings(max_examples=15, stateful_step_count=50)
TestPayloadRecorder = PayloadRecorderMachine.TestCase
TestPayloadRecorder.settings = hypothesis_settings(max_examples=10, stateful_step_count=50)


@pytest.mark.parametrize("payloads", [False, True])
def test_long_history_is_told_to_the_end(payloads: bool) -> None:
    """Thousands of records through sixteen segments: old ones are dropped, and what is unsettled is carried along."""
    history = History(1, steps=4000, payloads=payloads)
    recording = read(history.store.segments())
    assert recording.is_whole
    assert picture(recording.events.values()) == picture(history.ledger.unsettled)
    assert min(history.store.log) > 25
    assert len(history.store.log) <= 16
    totals = history.ledger.totals()
    assert recording.counts.accepted == totals.accepted
    assert recording.counts.opened == totals.opened


# A client that may have every event may fill the recorder, too.
WHOLE_FOR_ONE = IntakeSettings(client_events_max=DEFAULTS.intake.unsettled_events_max)


class Desk:
    """A ledger and its recorder, by hand."""

    def __init__(self, *, segments_room: int = 64, segments_max: int = 64, payloads: bool = False) -> None:
        self.store = MemoryStore(8192, segments_room)
        self.recorder = make_recorder(self.store, row_bytes=2048, segments_max=segments_max, payloads=payloads)
        self.ledger = Ledger(
            EffectiveSettings(Settings(intake=WHOLE_FOR_ONE)),
            started=NOW,
            on_settled=lambda event: None,
            on_forgotten=lambda event: None,
            recorder=self.recorder,
        )
        self.admitted = 0

    def ask(self, payload: bytes = b"{}") -> None:
        demand = self.ledger.demand(len(payload), ["https://x.example/"])
        self.ledger.refuse_if_full("acme", client=demand, whole=demand, now=0.0)

    def admit(self, payload: bytes = b"{}", *, ask: bool = True) -> Event:
        if ask:
            self.ask(payload)
        self.admitted += 1
        delivery = Delivery(endpoint_id="d", url="https://x.example/", opened_at=0.0, due_at=0.0)
        return self.ledger.open(Submission("acme", "t", payload), f"e{self.admitted}", (delivery,), now=NOW)

    def settle(self, event: Event) -> None:
        self.ledger.give_up(event, event.deliveries[0], Reason.EXPIRED, now=NOW)


def admit_until_full(desk: Desk) -> list[Event]:
    events: list[Event] = []
    with pytest.raises(Full, match="flight recorder") as full:
        events.extend(iter(desk.admit, None))
    assert full.value.retry_after_seconds
    return events


def test_full_recorder_refuses_before_anything_is_changed() -> None:
    """The refusal names its limit; what was admitted is all there, and settling one makes room for one."""
    desk = Desk(segments_max=12)
    events = admit_until_full(desk)
    assert desk.recorder.segments == 12
    assert len(read(desk.store.segments()).events) == len(events) == desk.ledger.totals().accepted
    with pytest.raises(Full, match=r"recorder\.bytes_max allows no more"):
        desk.ask()
    for event in events[:5]:
        desk.settle(event)
    desk.admit()


def test_full_file_system_refuses_like_a_full_recorder() -> None:
    """Room that cannot be had is found out when it is asked for, before the 202."""
    desk = Desk(segments_room=10)
    admit_until_full(desk)
    with pytest.raises(Full, match="its file system allows no more"):
        desk.ask()


def test_full_recorder_never_lacks_room_for_what_happens_to_its_events() -> None:
    """A hundred attempts of each event while not one more would be admitted."""
    desk = Desk(segments_max=12)
    events = admit_until_full(desk)
    for _ in range(100):
        for event in events:
            delivery = event.deliveries[0]
            desk.ledger.begin_attempt(event, delivery, url=delivery.url, now=NOW)
            desk.ledger.cut_attempt(event, delivery, exchange=half_sent(), duration_seconds=1.0)
            desk.ledger.make_due(delivery, now=NOW)
    recording = read(desk.store.segments())
    assert recording.is_whole
    assert {event.deliveries[0].attempt_count for event in recording.events.values()} == {100}
    assert len(recording.events) == len(events)


def half_sent() -> Exchange:
    exchange = Exchange()
    exchange.sending_started = True
    return exchange


def test_one_old_event_does_not_hold_segments() -> None:
    """It is carried: the log stays as short as without it, and its row says all that happened to it."""
    desk = Desk()
    old = desk.admit()
    desk.ledger.begin_attempt(old, old.deliveries[0], url="https://x.example/", now=NOW)
    for _ in range(2000):
        desk.settle(desk.admit())
    assert desk.recorder.segments == SEGMENTS_MIN
    recording = read(desk.store.segments())
    assert [event.id for event in recording.events.values()] == ["e1"]
    assert shown(recording.events[old.sequence].deliveries[0]) == shown(old.deliveries[0])


def test_room_that_a_backlog_took_is_given_back() -> None:
    """Segments grow with what is unsettled and go with it."""
    desk = Desk()
    events = [desk.admit() for _ in range(600)]
    assert desk.recorder.segments > 2 * SEGMENTS_MIN
    for event in events:
        desk.settle(event)
    for _ in range(1000):
        desk.settle(desk.admit())
    assert desk.recorder.segments == SEGMENTS_MIN == len(desk.store.log) + desk.store.spares
    assert desk.recorder.rows_bytes == 0


def test_event_larger_than_a_recorder_was_started_for_is_refused() -> None:
    """A reload may raise the limits of an event; the recorder's segments stay as they were begun."""
    desk = Desk(payloads=True)
    with pytest.raises(Full, match="need a restart"):
        desk.ask(b"1" * 5000)


def test_event_that_did_not_ask_is_counted_and_named_nowhere() -> None:
    """Whoever admits over the budgets leaves a count, and no half of a story."""
    desk = Desk(segments_max=6)
    asked = len(admit_until_full(desk))
    while not desk.recorder.unrecorded:  # what is asked for is the most that it could be: a few more fit
        over = desk.admit(ask=False)
    desk.ledger.begin_attempt(over, over.deliveries[0], url="https://x.example/", now=NOW)
    desk.settle(desk.admit(ask=False))
    recording = read(desk.store.segments())
    assert recording.counts.unrecorded == 2
    assert over.sequence not in recording.events
    assert asked <= len(recording.events) == recording.counts.accepted == desk.admitted - 2


def test_segment_is_dropped_only_once_what_was_carried_out_of_it_stands() -> None:
    """A kill in the moment of any drop: every unsettled event is named by what is left."""

    class Watched(MemoryStore):
        unsettled: Callable[[], set[str]] = set
        drops = 0

        def drop(self, number: int, *, keep: bool) -> None:
            super().drop(number, keep=keep)
            assert {event.id for event in read(self.segments()).events.values()} >= self.unsettled()
            self.drops += 1

    desk = Desk(payloads=True)
    desk.store = store = Watched(8192, 64)
    desk.recorder = make_recorder(store, row_bytes=2048, segments_max=64, payloads=True)
    desk.ledger = Ledger(
        EffectiveSettings(Settings()),
        started=NOW,
        on_settled=lambda event: None,
        on_forgotten=lambda event: None,
        recorder=desk.recorder,
    )
    names = {desk.admit(b"1" * 1550).id for _ in range(21)}
    store.unsettled = lambda: names
    for _ in range(1000):
        desk.settle(desk.admit(b"1" * 1550))
    assert store.drops > 10


def test_what_earlier_runs_did_is_recorded() -> None:
    """Attempts, doubts and crashes of a recovered delivery; in flight at this run's end is one crash more."""
    desk = Desk()
    events = []
    for number, crash_count in enumerate((0, 2, 2)):
        delivery = Delivery(endpoint_id="d", url="https://x.example/", opened_at=0.0, due_at=0.0)
        delivery.attempt_count, delivery.maybe_received, delivery.crash_count = 2, number > 0, crash_count
        submission = Submission("acme", "t", b"{}")
        events.append(desk.ledger.open(submission, f"r{number}", (delivery,), now=NOW, recovered=True))
    one, _, flying = events
    desk.ledger.take_past(one, one.deliveries[0], attempt_count=4, maybe_received=True, crash_count=1)
    desk.ledger.begin_attempt(flying, flying.deliveries[0], url="https://x.example/", now=NOW)
    recording = read(desk.store.segments())
    assert [
        (told.attempt_count, told.maybe_received, told.crash_count)
        for event in recording.events.values()
        for told in event.deliveries
    ] == [(4, True, 1), (2, True, 2), (3, True, 3)]
    assert (recording.counts.accepted, recording.counts.recovered, recording.counts.opened) == (3, 3, 3)
    assert recording.is_whole


def test_known_event_whose_larger_row_finds_no_room_goes_on_as_it_was_known() -> None:
    """One more delivery that did not ask: it is counted as unrecorded, and the rest of the story stays true."""
    desk = Desk(segments_max=6)
    event = desk.admit()
    admit_until_full(desk)
    while not desk.recorder.unrecorded:
        desk.admit(ask=False)
    more = Delivery(endpoint_id="e", url="https://x.example/" + "y" * 500, opened_at=0.0, due_at=0.0)
    desk.ledger.add_delivery(event, more, payload=b"{}", now=NOW)
    assert desk.recorder.unrecorded == 2
    told = read(desk.store.segments()).events[event.sequence]
    assert [one.endpoint_id for one in told.deliveries] == ["d"]
    desk.settle(event)
    desk.ledger.give_up(event, more, Reason.EXPIRED, now=NOW)
    recording = read(desk.store.segments())
    assert recording.is_whole
    assert event.sequence not in recording.events


def test_urls_that_grew_are_left_out_rather_than_the_event() -> None:
    """A PUT with much longer URLs while the recorder is full: carried rows lose the URL, never the event."""
    desk = Desk(segments_max=8)
    events = admit_until_full(desk)
    longer = "https://x.example/" + "y" * 900
    for event in events:
        desk.ledger.retarget(event.client_id, {event.deliveries[0].endpoint_id: longer})
    for _ in range(30):
        for event in events:
            desk.ledger.begin_attempt(event, event.deliveries[0], url=event.deliveries[0].url, now=NOW)
            desk.ledger.cut_attempt(event, event.deliveries[0], exchange=half_sent(), duration_seconds=1.0)
            desk.ledger.make_due(event.deliveries[0], now=NOW)
    recording = read(desk.store.segments())
    assert recording.is_whole
    assert {event.id for event in recording.events.values()} == {event.id for event in events}


def test_discarded_recorder_keeps_nothing_and_notes_nothing() -> None:
    """After the report is complete something may still settle; it is nobody's business any more."""
    desk = Desk()
    event, other = desk.admit(), desk.admit()
    desk.recorder.discard()
    desk.settle(event)
    desk.ledger.begin_attempt(other, other.deliveries[0], url="https://x.example/", now=NOW)
    desk.admit()
    assert desk.store.log == {}


def test_recorder_without_room_for_its_first_segments_is_none() -> None:
    """Said at the start, rather than at the first event."""
    with pytest.raises(NoRoom):
        make_recorder(MemoryStore(8192, SEGMENTS_MIN - 1), row_bytes=2048, segments_max=64)


def test_row_is_never_larger_than_what_was_asked_for() -> None:
    """Whatever the ids, the type and the history: the bound holds for the largest of each."""
    desk = Desk()
    url = "https://x.example/" + "z" * 300
    delivery = Delivery(endpoint_id="d" * 64, url=url, opened_at=0.0, due_at=0.0)
    submission = Submission("c" * 64, "t" * 128, b"{}", traceparent=TRACEPARENT, expires_at=2e9)
    event = desk.ledger.open(submission, "i" * 64, (delivery,), now=NOW)
    desk.ledger.begin_attempt(event, delivery, url=url, now=NOW)
    assert desk.recorder.rows_bytes == row_bytes_max(0, [url])


def test_default_layout_has_room_for_the_default_budget_of_ids() -> None:
    """With 64 MiB the unsettled events of the default budget fit, at a URL of 60 characters and ids as made here."""
    plan = recorder_layout(DEFAULTS)
    assert plan.segment_bytes == 256 * 1024
    assert plan.events_max(2**26, payload_bytes=0) > DEFAULTS.intake.unsettled_events_max
    with_payloads = msgspec.structs.replace(DEFAULTS, recorder=RecorderSettings(payloads=True))
    assert recorder_layout(with_payloads).segments_max > 50
    assert math.isclose(recorder_layout(with_payloads).row_bytes, 256 * 1024, rel_tol=0.2)
