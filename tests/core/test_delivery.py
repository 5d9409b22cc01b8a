"""The four statuses of a delivery: every change of them that is legal, and every one that is not."""

import itertools
import re
from collections.abc import Sequence

import msgspec
import pytest
from hookd.core import delivery as delivery_module
from hookd.core import history
from hookd.core.attempt_end import AttemptEnd
from hookd.core.delivery import (
    SETTLED,
    TRANSITIONS,
    Change,
    Delivery,
    IllegalTransition,
    Status,
    after,
    status_of_event,
)
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, Submission
from hookd.core.history import Attempt
from hookd.core.ledger import Ledger
from hookd.core.outcome import Exchange, Outcome, Responded
from hookd.core.retry import GiveUp, Reason, Retry, Success, Verdict
from hookd.core.settings import Settings
from hookd.core.timestamps import Moment
from hypothesis import given
from hypothesis import strategies as st

PENDING, FAILED, DELIVERED, EXHAUSTED = Status.PENDING, Status.FAILED, Status.DELIVERED, Status.EXHAUSTED
NOW = Moment(100.0, 1_800_000_000.0)
LATER = Moment(107.0, 1_800_000_007.0)

# The contract's section 2, written down a second time.
LEGAL = {
    (PENDING, Change.SUCCEEDED): DELIVERED,
    (PENDING, Change.FAILED): FAILED,
    (PENDING, Change.GAVE_UP): EXHAUSTED,
    (FAILED, Change.SUCCEEDED): DELIVERED,
    (FAILED, Change.FAILED): FAILED,
    (FAILED, Change.GAVE_UP): EXHAUSTED,
    (DELIVERED, Change.REOPENED): PENDING,
    (EXHAUSTED, Change.REOPENED): PENDING,
}
# One arrow of the drawing: `pending --SUCCEEDED--> delivered`.
ARROW = re.compile(r"(\w+) --(\w+)-+> (\w+)")
CELLS = list(itertools.product(Status, Change))


def delivery_to(endpoint_id: str, status: Status = PENDING) -> Delivery:
    return Delivery(
        endpoint_id=endpoint_id,
        url="https://example.com/hook",
        opened_at=NOW.monotonic,
        due_at=NOW.monotonic,
        status=status,
    )


def ledger_with(status: Status) -> tuple[Ledger, Event, Delivery]:
    """One event with one delivery that came to this status the legal way."""
    ledger = Ledger(
        EffectiveSettings(Settings()), started=NOW, on_settled=lambda event: None, on_forgotten=lambda event: None
    )
    delivery = delivery_to("x")
    event = ledger.open(Submission("acme", "t", b"{}"), "e", (delivery,), now=NOW)
    match status:
        case Status.FAILED:
            attempt(ledger, event, delivery, Responded(500), Retry(5.0), now=NOW)
        case Status.DELIVERED:
            attempt(ledger, event, delivery, Responded(204), Success(), now=NOW)
        case Status.EXHAUSTED:
            ledger.give_up(event, delivery, Reason.EXPIRED, now=NOW)
    assert delivery.status is status
    return ledger, event, delivery


def attempt(
    ledger: Ledger, event: Event, delivery: Delivery, outcome: Outcome, verdict: Verdict, *, now: Moment
) -> None:
    ledger.begin_attempt(event, delivery, url=delivery.url, now=now)
    exchange = Exchange()
    exchange.answer = outcome if isinstance(outcome, Responded) else None
    ledger.end_attempt(
        event, delivery, AttemptEnd(outcome=outcome, verdict=verdict, exchange=exchange, duration_seconds=0.1, now=now)
    )


def do(change: Change, ledger: Ledger, event: Event, delivery: Delivery) -> None:
    """The change by the ledger's own doors."""
    match change:
        case Change.SUCCEEDED:
            attempt(ledger, event, delivery, Responded(200), Success(), now=LATER)
        case Change.FAILED:
            attempt(ledger, event, delivery, Responded(503), Retry(5.0), now=LATER)
        case Change.GAVE_UP:
            ledger.give_up(event, delivery, Reason.GONE, now=LATER)
        case Change.REOPENED:
            ledger.reopen(event, delivery, now=LATER)


def shown(ledger: Ledger, event: Event, delivery: Delivery) -> tuple[object, ...]:
    """Everything that a change could touch."""
    return (
        msgspec.structs.asdict(delivery),
        msgspec.structs.asdict(event),
        msgspec.structs.asdict(ledger.ensure_health("acme", "x")),
        ledger.totals(),
        list(ledger.unsettled),
        [one.sequence for one in ledger.exhausted()],
        [one.sequence for one in ledger.of_client("acme")],
    )


def test_table_has_exactly_the_legal_changes() -> None:
    """The contract's seven, no more and no fewer."""
    assert TRANSITIONS == LEGAL
    assert [status.value for status in Status] == ["pending", "failed", "delivered", "exhausted"]


@pytest.mark.parametrize(("status", "change"), CELLS)
def test_after_follows_the_table_or_raises(status: Status, change: Change) -> None:
    """A cell of the table is its status, any other pair is our mistake and says which."""
    if (status, change) in LEGAL:
        assert after(status, change) is LEGAL[status, change]
    else:
        with pytest.raises(IllegalTransition, match=f"a {status.value} delivery cannot have {change.value}"):
            after(status, change)


@pytest.mark.parametrize(("status", "change"), [cell for cell in CELLS if cell in LEGAL])
def test_ledger_makes_every_legal_change(status: Status, change: Change) -> None:
    """Delivery, event, totals and the endpoint's row move together."""
    ledger, event, delivery = ledger_with(status)
    do(change, ledger, event, delivery)
    target = LEGAL[status, change]
    is_settled = target in (DELIVERED, EXHAUSTED)
    assert delivery.status is target
    assert event.status is target
    assert delivery.is_settled is is_settled
    assert delivery.is_waiting is not is_settled
    totals = ledger.totals()
    assert totals.is_balanced
    assert totals.deliveries == {one: int(one is target) for one in Status}
    assert totals.events == totals.deliveries
    assert totals.unsettled_events == (not is_settled)
    assert ledger.ensure_health("acme", "x").unsettled == (not is_settled)
    assert delivery.reason is (Reason.GONE if target is EXHAUSTED else None)
    assert event.settled_at == (LATER.wall if is_settled else None)


@pytest.mark.parametrize(
    ("status", "change"),
    [cell for cell in CELLS if cell not in LEGAL and cell[1] in (Change.GAVE_UP, Change.REOPENED)],
)
def test_ledger_refuses_an_illegal_change_and_changes_nothing(status: Status, change: Change) -> None:
    """The changes that need no attempt: everything is as it was after the raise."""
    ledger, event, delivery = ledger_with(status)
    before = shown(ledger, event, delivery)
    with pytest.raises(IllegalTransition):
        do(change, ledger, event, delivery)
    assert shown(ledger, event, delivery) == before


@pytest.mark.parametrize("status", [DELIVERED, EXHAUSTED])
def test_ledger_begins_no_attempt_on_a_settled_delivery(status: Status) -> None:
    """The way to SUCCEEDED and FAILED is shut before it starts."""
    ledger, event, delivery = ledger_with(status)
    before = shown(ledger, event, delivery)
    with pytest.raises(AssertionError):
        ledger.begin_attempt(event, delivery, url="https://example.com/other", now=LATER)
    assert shown(ledger, event, delivery) == before


@pytest.mark.parametrize(
    ("status", "verdict"),
    list(itertools.product([DELIVERED, EXHAUSTED], [Success(), Retry(5.0), GiveUp(Reason.GONE)])),
)
def test_ledger_refuses_an_attempts_verdict_on_a_settled_status(status: Status, verdict: Verdict) -> None:
    """Were a delivery in flight settled behind the attempt's back, its status and the totals would stay."""
    ledger, event, delivery = ledger_with(PENDING)
    ledger.begin_attempt(event, delivery, url=delivery.url, now=NOW)
    delivery.status = status  # no door of the ledger does this
    before = ledger.totals().deliveries
    with pytest.raises(IllegalTransition):
        ledger.end_attempt(
            event,
            delivery,
            AttemptEnd(outcome=Responded(500), verdict=verdict, exchange=Exchange(), duration_seconds=0.1, now=LATER),
        )
    assert delivery.status is status
    assert ledger.totals().deliveries == before


@pytest.mark.parametrize("status", Status)
def test_in_flight_delivery_cannot_be_given_up_or_begun_again(status: Status) -> None:
    """One in flight is left alone until its attempt ends."""
    if status in (DELIVERED, EXHAUSTED):
        return
    ledger, event, delivery = ledger_with(status)
    ledger.begin_attempt(event, delivery, url=delivery.url, now=LATER)
    before = shown(ledger, event, delivery)
    assert not delivery.is_waiting
    for act in (
        lambda: ledger.give_up(event, delivery, Reason.EXPIRED, now=LATER),
        lambda: ledger.begin_attempt(event, delivery, url=delivery.url, now=LATER),
        lambda: ledger.make_due(delivery, now=LATER),
    ):
        with pytest.raises(AssertionError):
            act()
        assert shown(ledger, event, delivery) == before
    ledger.retarget(event.client_id, {delivery.endpoint_id: "https://example.com/other"})
    assert shown(ledger, event, delivery) == before


def test_settled_is_computed_from_the_table() -> None:
    """Settled is what only a reopening leads out of."""
    assert frozenset({DELIVERED, EXHAUSTED}) == SETTLED
    leaving = {status for status, change in LEGAL if change is not Change.REOPENED}
    assert frozenset(Status) - leaving == SETTLED


@pytest.mark.parametrize(
    "statuses", [combination for size in range(4) for combination in itertools.product(Status, repeat=size)]
)
def test_event_status_is_read_off_its_deliveries(statuses: Sequence[Status]) -> None:
    """Any unsettled: failed if one of those is, else pending; all settled: delivered if all are, else exhausted."""
    unsettled = [status for status in statuses if status in (PENDING, FAILED)]
    if unsettled:
        expected = FAILED if FAILED in unsettled else PENDING
    else:
        expected = DELIVERED if all(status is DELIVERED for status in statuses) else EXHAUSTED
    assert status_of_event(delivery_to(str(n), status) for n, status in enumerate(statuses)) is expected


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        (0, []),
        (1, [1]),
        (9, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (10, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (11, [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (25, [1, 17, 18, 19, 20, 21, 22, 23, 24, 25]),
    ],
)
def test_history_keeps_the_first_and_the_last_nine(count: int, kept: list[int]) -> None:
    """A long history stays ten attempts long, and the first is always one of them."""
    packed = b""
    for number in range(1, count + 1):
        packed = history.with_begun(packed, number, 1_800_000_000.0 + number)
    assert history.attempts(packed) == tuple(Attempt(number, 1_800_000_000.0 + number) for number in kept)


@given(st.integers(1, 60))
def test_ledger_history_of_any_length_has_the_outcomes_of_what_it_keeps(count: int) -> None:
    """Each outcome stands with its own attempt, whichever were dropped between."""
    ledger, event, delivery = ledger_with(PENDING)
    for number in range(1, count + 1):
        attempt(ledger, event, delivery, Responded(500 + number), Retry(1.0), now=LATER)
    numbers = [1, *range(max(2, count - 8), count + 1)]
    assert [(one.number, one.outcome) for one in delivery.attempts] == [(n, Responded(500 + n)) for n in numbers]
    assert delivery.attempt_count == count
    assert ledger.totals().attempts == count


def test_cut_attempt_is_no_outcome_and_changes_no_status() -> None:
    """What a stop cut stays listed without an outcome, and the delivery is what it was before."""
    for status in (PENDING, FAILED):
        ledger, event, delivery = ledger_with(status)
        before = delivery.attempt_count
        ledger.begin_attempt(event, delivery, url=delivery.url, now=LATER)
        exchange = Exchange()
        exchange.sending_started = exchange.request_sent = True
        ledger.cut_attempt(event, delivery, exchange=exchange, duration_seconds=0.5)
        assert delivery.status is status
        assert delivery.is_waiting
        assert delivery.attempt_count == before + 1
        assert delivery.attempts[-1] == Attempt(before + 1, LATER.wall, 0.5, None, request_sent=True)
        assert delivery.maybe_received
        assert ledger.in_flight == 0


def test_reopened_delivery_starts_anew_and_counts_on() -> None:
    """Attempt numbers go on, `attempts_max` grows, the age and the schedule start again, it is due at once."""
    ledger, event, delivery = ledger_with(FAILED)
    attempt(ledger, event, delivery, Responded(410), GiveUp(Reason.GONE), now=NOW)
    assert (delivery.status, delivery.reason, delivery.due_at) == (EXHAUSTED, Reason.GONE, None)
    ledger.reopen(event, delivery, now=LATER)
    assert (delivery.status, delivery.reason) == (PENDING, None)
    assert (delivery.attempt_count, delivery.attempts_before, delivery.attempts_max(6)) == (2, 2, 8)
    assert delivery.opened_at == delivery.due_at == LATER.monotonic
    assert ledger.begin_attempt(event, delivery, url=delivery.url, now=LATER) == 3


def test_drawing_in_the_module_is_the_table() -> None:
    """Every arrow is a legal change, every legal change is one arrow, and nothing else looks like an arrow."""
    drawing = delivery_module.__doc__ or ""
    arrows = ARROW.findall(drawing)
    drawn = {(Status(source), Change[change]): Status(target) for source, change, target in arrows}
    assert len(arrows) == drawing.count(">") == len(drawn)
    assert drawn == TRANSITIONS


def test_take_past_believes_the_worse_of_two_accounts() -> None:
    """More attempts, more crashes, and that it may have arrived; as many attempts are not recounted."""
    delivery = Delivery("e", "https://x.example/", opened_at=0.0, due_at=0.0)
    delivery.take_past(attempt_count=4, unscheduled_attempts=1, maybe_received=True, crash_count=2)
    for attempt_count, unscheduled_attempts in ((2, 0), (4, 3)):
        delivery.take_past(
            attempt_count=attempt_count, unscheduled_attempts=unscheduled_attempts, maybe_received=False, crash_count=1
        )
        known = (delivery.attempt_count, delivery.attempts_before, delivery.maybe_received, delivery.crash_count)
        assert known == (4, 1, True, 2)
    delivery.take_past(attempt_count=6, unscheduled_attempts=2, maybe_received=False, crash_count=3)
    known = (delivery.attempt_count, delivery.attempts_before, delivery.maybe_received, delivery.crash_count)
    assert known == (6, 2, True, 3)
