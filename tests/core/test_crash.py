"""What is told of a run that left nothing but its recording: counts, classes, and a line for each delivery."""

from typing import Any

import msgspec
import pytest
from hookd.core import crash
from hookd.core.attempt_end import AttemptEnd
from hookd.core.delivery import Delivery
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, Submission
from hookd.core.ledger import Ledger
from hookd.core.outcome import Exchange, Outcome, Responded, TimedOut
from hookd.core.recording import Recording
from hookd.core.retry import GiveUp, Reason, Retry, Success, Verdict
from hookd.core.settings import Settings
from hookd.core.timestamps import Moment, rfc3339

from tests.core.recorder_harness import RUN_ID, WALL, MemoryStore, make_recorder, read


class Run:
    """A run that is killed when it is asked for its recording."""

    def __init__(self, *, payloads: bool = False, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore(4096, 16)
        self.recorder = make_recorder(self.store, row_bytes=1024, segments_max=16, payloads=payloads)
        self.ledger = Ledger(
            EffectiveSettings(Settings()),
            started=Moment(0.0, WALL),
            on_settled=lambda event: None,
            on_forgotten=lambda event: None,
            recorder=self.recorder,
        )
        self.seconds = 0.0

    @property
    def now(self) -> Moment:
        self.seconds += 1
        return Moment(self.seconds, WALL + self.seconds)

    def open(self, event_id: str, *endpoint_ids: str, recovered: bool = False) -> Event:
        deliveries = tuple(
            Delivery(endpoint_id=one, url=f"https://{one}.example/", opened_at=0.0, due_at=0.0) for one in endpoint_ids
        )
        submission = Submission("acme", "invoice.paid", b'{"a": 1}')
        return self.ledger.open(submission, event_id, deliveries, now=self.now, recovered=recovered)

    def attempt(self, event: Event, endpoint_id: str, outcome: Outcome, verdict: Verdict) -> None:
        delivery = event.delivery_to(endpoint_id)
        assert delivery is not None
        self.ledger.begin_attempt(event, delivery, url=delivery.url, now=self.now)
        exchange = Exchange()
        exchange.sending_started = exchange.request_sent = True
        exchange.answer = outcome if isinstance(outcome, Responded) else None
        end = AttemptEnd(outcome=outcome, verdict=verdict, exchange=exchange, duration_seconds=15.0, now=self.now)
        self.ledger.end_attempt(event, delivery, end)

    def recording(self) -> Recording:
        return read(self.store.segments())

    def told(self, **options: Any) -> crash.Summary:
        recording = self.recording()
        assert recording.header is not None
        return crash.summarise(recording, recording.header, **{"heard_at": 0.0} | options)


def busy(**options: Any) -> Run:
    """Everything that may become of a delivery."""
    run = Run(**options)
    run.attempt(run.open("delivered", "a"), "a", Responded(200), Success())
    run.attempt(run.open("exhausted", "a"), "a", Responded(404), GiveUp(Reason.ATTEMPTS_USED))
    half = run.open("half", "a", "b", recovered=True)
    run.attempt(half, "a", TimedOut(15.0), GiveUp(Reason.EXPIRED))
    run.attempt(half, "b", Responded(503), Retry(5.0))
    run.attempt(run.open("unknown", "c"), "c", TimedOut(15.0), Retry(5.0))
    run.open("waiting", "b")
    run.open("to nobody")
    return run


def test_summary_counts_each_event_and_delivery_once() -> None:
    """It balances, and says that it was a crash: nothing was forced, and nothing drained."""
    summary = busy().told()
    assert summary.balanced
    assert (summary.trigger, summary.forced, summary.drain_seconds) == ("crash", False, 0.0)
    counts = summary.events
    assert (counts.accepted, counts.recovered) == (6, 1)
    assert (counts.delivered, counts.exhausted, counts.undelivered) == (2, 1, 3)
    deliveries = summary.deliveries
    assert (deliveries.opened, deliveries.delivered, deliveries.exhausted, deliveries.undelivered) == (6, 1, 2, 3)
    owed = summary.undelivered
    assert (owed.never_attempted, owed.attempted_failed, owed.outcome_unknown) == (1, 1, 1)
    assert (summary.exhausted_held, summary.exhausted_forgotten) == (1, 1)


def test_summary_says_whose_it_is_and_until_when_it_was_heard_of() -> None:
    """By its last record, or whatever else was heard later; the run's own identity."""
    run = busy()
    summary = run.told()
    assert (summary.run_id, summary.started_at) == (RUN_ID, rfc3339(WALL))
    assert summary.stopped_at == rfc3339(run.recording().last_wall)
    assert run.told(heard_at=WALL + 1000).stopped_at == rfc3339(WALL + 1000)


@pytest.mark.parametrize("payloads", [False, True])
def test_summary_says_what_can_be_done_with_its_lines(payloads: bool) -> None:
    """Whether they have payloads, and whether a start takes them up."""
    run = busy(payloads=payloads)
    assert run.told().payloads is (msgspec.UNSET if payloads else False)
    assert run.told(recovery=True).recovery is True
    assert run.told().recovery is msgspec.UNSET
    lines = list(crash.lines(run.recording()))
    assert {line.payload is not msgspec.UNSET for line in lines} == {payloads}


def test_summary_names_what_each_endpoint_is_owed_and_how_it_failed_last() -> None:
    """An answer by its code, a failure in words; nothing where nothing was attempted."""
    clients = busy().told().clients
    assert [(line.endpoint_id, line.undelivered) for line in clients] == [("b", 2), ("c", 1)]
    assert [line.last_error for line in clients] == ["answered 503", "no answer within 15 s"]
    run = Run()
    run.open("waiting", "d")
    assert [line.last_error for line in run.told().clients] == [None]


def test_lines_stand_in_the_order_of_acceptance() -> None:
    """Also that of an event whose row was written anew: one that was reopened, and one that was carried."""
    run = Run()
    reopened = run.open("reopened", "a")
    run.attempt(reopened, "a", Responded(404), GiveUp(Reason.ATTEMPTS_USED))
    run.open("carried", "a")
    run.open("second", "a")
    run.ledger.reopen(reopened, reopened.deliveries[0], now=run.now)
    assert [line.event_id for line in crash.lines(run.recording())] == ["reopened", "carried", "second"]
    for number in range(200):  # four segments and more: the oldest two are carried
        run.attempt(run.open(f"settled_{number}", "b"), "b", Responded(200), Success())
        if number == 100:
            run.open("third", "a")
    assert [line.event_id for line in crash.lines(run.recording())] == ["reopened", "carried", "second", "third"]


def test_lines_are_what_is_owed_and_what_was_given_up_beside_it() -> None:
    """The undelivered with their class, then the exhausted with their reason."""
    told = [
        (line.kind, line.event_id, line.endpoint_id, line.class_, line.reason, line.maybe_received, line.attempt_count)
        for line in crash.lines(busy().recording())
    ]
    none = msgspec.UNSET
    assert told == [
        ("undelivered", "half", "b", "attempted_failed", none, none, 1),
        ("undelivered", "unknown", "c", "outcome_unknown", none, none, 1),
        ("undelivered", "waiting", "b", "never_attempted", none, none, 0),
        ("exhausted", "half", "a", none, "expired", True, 1),
    ]
    last = [line.last_outcome for line in crash.lines(busy().recording())]
    assert [one and (one.outcome, one.status_code, one.request_sent) for one in last] == [
        ("responded", 503, True),
        ("timed_out", None, True),
        None,
        ("timed_out", None, True),
    ]


def test_whole_recording_says_that_nothing_is_missing() -> None:
    """Neither bytes nor records nor events, and that it was not broken off."""
    recorded = busy().told().recorder
    assert recorded == crash.Recorded(0, 0, 0)
    assert recorded is not msgspec.UNSET
    assert recorded.is_whole


def test_url_that_is_not_ascii_is_recorded_as_far_as_it_is() -> None:
    """None is registered; one that came by a report of old must not end the recorder."""
    run = Run()
    event = run.open("one", "a")
    run.ledger.begin_attempt(event, event.deliveries[0], url="https://bücher.example/", now=run.now)
    assert run.ledger.recorder.failure is None
    [line] = crash.lines(run.recording())
    assert (line.url, line.attempt_count) == ("https://b?cher.example/", 1)


def test_recorder_that_cannot_be_discarded_is_counted_and_ends_nothing() -> None:
    """Its files are left to the next start, which finds the report."""

    class Stuck(MemoryStore):
        def discard(self) -> None:
            raise OSError("busy")

    run = Run(store=Stuck(4096, 16))
    run.open("one", "a")
    run.ledger.recorder.discard()
    assert run.ledger.port_failures == {"recorder": 1}
    assert run.store.segments()


def test_recording_that_was_broken_off_says_so() -> None:
    """And does not balance: what came after is not in it."""
    run = busy()
    run.store.break_off()
    summary = run.told()
    assert summary.recorder is not msgspec.UNSET
    assert summary.recorder.broken_off is True
    assert not summary.balanced
