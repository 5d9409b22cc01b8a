"""The wider replay: what was delivered goes out again, what waits is due now, of some types, of one endpoint."""

from collections.abc import Iterable
from typing import Any

import pytest
import trio
from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.outcome import Unreachable
from hookd.core.refusal import ClientFull, Draining, NoPayload, NotFound
from hookd.core.settings import IntakeSettings, RetentionSettings, RetrySettings, Settings
from hookd.core.subscription import Subscription
from hookd.flow.replay import LOOKED_AT_AT_ONCE, Replayed, Span, Wanted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flow.harness import EPOCH, PAYLOAD, URL, Flow, Hang, Held, Later, at, endpoint, now, only, statuses

OTHER = "https://other.example/hook"
LATE = "https://late.example/hook"
DELIVERED, FAILED, EXHAUSTED = frozenset({Status.DELIVERED}), frozenset({Status.FAILED}), frozenset({Status.EXHAUSTED})
SLOW = RetrySettings(jitter=0.0, schedule_seconds=(500.0,) * 5)
COST_BYTES = 1024 + len(PAYLOAD)


async def started(nursery, **sections: Any) -> Flow:
    flow = Flow(Settings(**{"retry": SLOW} | sections))
    await flow.start(nursery)
    flow.put()
    return flow


def wanted(statuses: frozenset[Status], **fields: Any) -> Wanted:
    return Wanted(Span(), statuses)._replace(**fields)


def counts(events: Iterable[Event]) -> list[int]:
    return [only(event).attempt_count for event in events]


# Delivered


async def test_delivered_ones_go_out_again(autojump_clock, nursery) -> None:
    """Each once; a dry run counts the same and changes nothing."""
    flow = await started(nursery)
    events = flow.admit_many(5)
    await now()
    flow.sender.transcript.clear()
    assert await flow.replay.replay("acme", wanted(DELIVERED), dry_run=True) == Replayed(5, 0)
    assert counts(events) == [1] * 5
    assert await flow.replay.replay("acme", wanted(DELIVERED)) == Replayed(5, 5)
    await now()
    assert counts(events) == [2] * 5
    assert statuses(events) == {Status.DELIVERED: 5}
    assert sorted(sent.event_id for sent in flow.sender.transcript) == sorted(event.id for event in events)
    assert flow.balanced()


async def test_same_until_goes_on_with_what_is_left(autojump_clock, nursery) -> None:
    """What went out again was delivered later: so no event goes out twice, however often that is asked."""
    flow = await started(nursery)
    events = flow.admit_many(10)
    await at(2)
    flow.set(intake=IntakeSettings(client_events_max=4))
    flow.sender.script(URL, Hang())
    until = Wanted(Span(until=EPOCH + 1), DELIVERED)
    replayed = await flow.replay.replay("acme", until)
    assert (replayed.matched, replayed.reopened, replayed.left) == (10, 4, 6)
    assert isinstance(replayed.stopped_by, ClientFull)
    assert [event.status for event in events] == [Status.PENDING] * 4 + [Status.DELIVERED] * 6
    flow.sender.script(URL, 200)
    left = replayed.left
    while left:
        await trio.sleep(100)
        replayed = await flow.replay.replay("acme", until)
        assert replayed.matched == left
        left = replayed.left
    await trio.sleep(100)
    assert counts(events) == [2] * 10
    assert await flow.replay.replay("acme", until) == Replayed(0, 0)
    assert flow.balanced()


async def test_endpoint_that_came_later_gets_what_was_accepted_in_the_span(autojump_clock, nursery) -> None:
    """Also of an event that was given up at another endpoint, or still waits there; and to nobody so far."""
    flow = await started(nursery)
    flow.put("acme", endpoint(event_types=("invoice.*",)))
    flow.sender.script(URL, 200, 410)
    early = flow.admit(event_id="early")
    await at(10)
    given_up = flow.admit(event_id="given_up")
    await now()
    to_nobody = flow.admit(event_id="to_nobody", type="user.created")
    assert [event.status for event in (early, given_up, to_nobody)] == [
        Status.DELIVERED,
        Status.EXHAUSTED,
        Status.DELIVERED,
    ]
    flow.put("acme", endpoint(event_types=("invoice.*",)), endpoint("late", LATE))
    span = Span(since=EPOCH + 5)
    assert await flow.replay.replay("acme", Wanted(span, EXHAUSTED)) == Replayed(0, 0)  # it is disabled
    assert await flow.replay.replay("acme", Wanted(span, DELIVERED)) == Replayed(2, 2)
    await now()
    assert {sent.event_id for sent in flow.sender.to(LATE)} == {"given_up", "to_nobody"}
    assert early.delivery_to("late") is None
    assert to_nobody.status is Status.DELIVERED
    assert flow.ledger.totals().unrouted == 0
    assert flow.balanced()


async def test_dropped_payloads_are_counted_apart(autojump_clock, nursery) -> None:
    """They match nothing: what is left is what a later call could send."""
    flow = await started(nursery, retention=RetentionSettings(delivered_bytes_max=3 * len(PAYLOAD)))
    for number in range(5):
        flow.admit(event_id=f"e{number}")
        await now()
    flow.put("acme", endpoint(), endpoint("late", LATE))
    assert await flow.replay.replay("acme", wanted(DELIVERED)) == Replayed(6, 6, without_payload=4)
    await now()
    assert {sent.event_id for sent in flow.sender.to(LATE)} == {"e2", "e3", "e4"}


async def test_event_takes_its_budget_whole(autojump_clock, nursery) -> None:
    """An event whose deliveries have no room together is left, and is not begun in part."""
    flow = await started(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", OTHER))
    event = flow.admit()
    await now()
    flow.put("acme", endpoint("a", URL), endpoint("b", OTHER), endpoint("late", LATE))
    flow.set(intake=IntakeSettings(client_bytes_max=COST_BYTES + 2 * 512 - 1))
    replayed = await flow.replay.replay("acme", wanted(DELIVERED))
    assert (replayed.matched, replayed.reopened, replayed.left) == (3, 0, 3)
    assert len(event.deliveries) == 2
    assert event.status is Status.DELIVERED
    flow.set(intake=IntakeSettings(client_bytes_max=COST_BYTES + 2 * 512))
    assert await flow.replay.replay("acme", wanted(DELIVERED)) == Replayed(3, 3)
    assert flow.balanced()


# Failed


async def test_what_waits_for_its_retry_is_due_now(autojump_clock, nursery) -> None:
    """After an outage nobody waits out a schedule. What is in flight, pending or settled is left alone."""
    flow = await started(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", OTHER))
    flow.sender.script(URL, 404)
    flow.sender.script(OTHER, 404, 404, Hang())
    events = flow.admit_many(3)
    await at(10)
    assert [only_to(event, "b").status for event in events] == [Status.FAILED, Status.FAILED, Status.PENDING]
    flow.sender.script(URL, 200)
    flow.sender.script(OTHER, 200)
    assert await flow.replay.replay("acme", wanted(FAILED), dry_run=True) == Replayed(5, 0)
    assert await flow.replay.replay("acme", wanted(FAILED)) == Replayed(5, 5)
    await at(14)
    assert {round(sent.at) for sent in flow.sender.transcript} == {0, 10}
    assert [only_to(event, "a").status for event in events] == [Status.DELIVERED] * 3
    assert await flow.replay.replay("acme", wanted(FAILED)) == Replayed(0, 0)
    assert flow.balanced()


def only_to(event: Event, endpoint_id: str) -> Any:
    return event.delivery_to(endpoint_id)


async def test_failed_goes_by_the_time_of_the_last_failure(autojump_clock, nursery) -> None:
    """Both ends included."""
    flow = await started(nursery)
    flow.sender.script(URL, 404)
    for seconds in (0, 10, 20):
        await at(seconds)
        flow.admit(event_id=f"e{seconds}")
    await now()
    flow.sender.script(URL, 200)
    assert await flow.replay.replay("acme", Wanted(Span(EPOCH + 10, EPOCH + 15), FAILED)) == Replayed(1, 1)
    await now()
    assert [event.id for event in flow.events() if event.status is Status.DELIVERED] == ["e10"]


async def test_it_takes_no_budget(autojump_clock, nursery) -> None:
    """What waits has it: a full client is helped all the same."""
    flow = await started(nursery)
    flow.sender.script(URL, 404)
    events = flow.admit_many(3)
    await at(1)
    flow.set(intake=IntakeSettings(client_events_max=1, client_bytes_max=1))
    assert await flow.replay.replay("acme", wanted(FAILED)) == Replayed(3, 3)
    await now()
    assert counts(events) == [2] * 3


async def test_one_of_a_paused_endpoint_finds_out_whether_it_is_back(autojump_clock, nursery) -> None:
    """The oldest, at once; it uses up nothing of its schedule where the outage goes on, and the rest wait for it."""
    retry = RetrySettings(jitter=0.0, schedule_seconds=(4.0,) * 200, age_seconds_max=100_000.0)
    flow = await started(nursery, retry=retry)
    flow.sender.script(URL, Unreachable("refused"))
    events = flow.admit_many(20)
    await at(200)
    health = flow.ledger.ensure_health("acme", "default")
    assert health.paused_by is not None
    begun, allowed = len(flow.sender.transcript), flow.attempts_max(events[0])
    assert await flow.replay.replay("acme", wanted(FAILED)) == Replayed(20, 20)
    await now()
    assert [sent.event_id for sent in flow.sender.transcript[begun:]] == [events[0].id]
    assert flow.attempts_max(events[0]) == allowed + 1
    flow.sender.script(URL, 200)
    assert (await flow.replay.replay("acme", wanted(FAILED))).reopened == 20
    await at(205)
    assert statuses(events) == {Status.DELIVERED: 20}
    assert flow.balanced()


@pytest.mark.parametrize("hold", ["operator", "retry_after", "strict"])
async def test_due_is_not_let_through(autojump_clock, nursery, hold) -> None:
    """An operator's pause, Retry-After and strict order hold as ever."""
    flow = await started(nursery)
    if hold == "strict":
        flow.put("acme", endpoint(order="strict"))
    flow.sender.script(URL, Later(429, "300") if hold == "retry_after" else 404, 404, 200)
    events = flow.admit_many(2)
    await at(1)
    if hold == "operator":
        flow.registration.pause("acme", "default")
    begun = len(flow.sender.transcript)
    replayed = await flow.replay.replay("acme", wanted(FAILED))
    await at(100)
    if hold == "strict":
        assert replayed == Replayed(1, 1)
        assert [sent.event_id for sent in flow.sender.transcript] == [events[0].id] * 2
    else:
        assert replayed.matched == replayed.reopened
        assert len(flow.sender.transcript) == begun
    assert flow.balanced()


async def test_disabled_endpoint_has_nothing_due(autojump_clock, nursery) -> None:
    """What waited is given up as gone."""
    flow = await started(nursery)
    flow.sender.script(URL, 404, 410)
    flow.admit()
    await at(1)
    flow.admit()
    await now()
    assert await flow.replay.replay("acme", wanted(FAILED)) == Replayed(0, 0)


# Which ones


async def test_types_and_endpoint_narrow_it(autojump_clock, nursery) -> None:
    """Types as a subscription has them, one endpoint by its id; an endpoint that is not there is refused."""
    flow = await started(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", OTHER))
    for number, event_type in enumerate(("invoice.paid", "invoice.draft", "user.created")):
        flow.admit(event_id=f"e{number}", type=event_type)
    await now()
    flow.sender.transcript.clear()
    some = wanted(DELIVERED, types=Subscription.of(["invoice.*", "!*.draft"]), endpoint_id="b")
    assert await flow.replay.replay("acme", some) == Replayed(1, 1)
    await now()
    assert [(sent.event_id, sent.request.url) for sent in flow.sender.transcript] == [("e0", OTHER)]
    with pytest.raises(NotFound, match="has no endpoint 'nowhere'"):
        await flow.replay.replay("acme", wanted(DELIVERED, endpoint_id="nowhere"))


async def test_several_statuses_at_once(autojump_clock, nursery) -> None:
    """Of one event each delivery by its own."""
    flow = await started(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", OTHER), endpoint("c", LATE, schedule_seconds=()))
    flow.sender.script(OTHER, 404, 200)
    flow.sender.script(LATE, 404, 200)
    event = flow.admit()
    await at(1)
    assert [one.status for one in event.deliveries] == [Status.DELIVERED, Status.FAILED, Status.EXHAUSTED]
    everything = wanted(DELIVERED | FAILED | EXHAUSTED)
    assert await flow.replay.replay("acme", everything) == Replayed(3, 3)
    await now()
    assert [(one.status, one.attempt_count) for one in event.deliveries] == [(Status.DELIVERED, 2)] * 3
    assert flow.balanced()


# Strict order, slices, stops


async def test_strict_endpoint_gets_its_events_again_in_order(autojump_clock, nursery) -> None:
    """One at a time, by acceptance, before what came since; and each before the next is asked for."""
    flow = await started(nursery)
    flow.put("acme", endpoint(order="strict"))
    events = flow.admit_many(4)
    await now()
    flow.sender.transcript.clear()
    flow.sender.peaks.clear()
    held = Held()
    flow.sender.script(URL, held, 200)
    newest = flow.admit_many(2)
    await now()
    assert (await flow.replay.replay("acme", wanted(DELIVERED))).reopened == 4
    held.release(200)
    await now()
    sent = [one.event_id for one in flow.sender.transcript]
    assert sent == [newest[0].id, *(event.id for event in events), newest[1].id]
    assert flow.sender.peaks[URL] == 1


@pytest.mark.parametrize("which", [DELIVERED, FAILED])
async def test_others_have_a_turn_and_a_drain_stops_it(autojump_clock, nursery, which) -> None:
    """The answer names what is left."""
    flow = await started(
        nursery, intake=IntakeSettings(unsettled_events_max=50_000, client_events_max=50_000), retry=SLOW
    )
    flow.sender.script(URL, 200 if which is DELIVERED else 404)
    flow.admit_many(LOOKED_AT_AT_ONCE)
    await at(60)

    async def interfere() -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        flow.intake.close()

    async with trio.open_nursery() as beside:
        beside.start_soon(interfere)
        replayed = await flow.replay.replay("acme", wanted(which))
    assert isinstance(replayed.stopped_by, Draining)
    assert replayed.matched == LOOKED_AT_AT_ONCE
    assert 0 < replayed.reopened < LOOKED_AT_AT_ONCE
    assert replayed.left == replayed.matched - replayed.reopened
    assert flow.balanced()


STEPS = st.sampled_from(["admit", "deliver", "fail", "later", "redeliver", "replay", "forget", "retry", "pass"])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, min_size=5, max_size=40), limits=st.integers(1, 8), data=st.data())
def test_accounts_hold_whatever_is_sent_again(steps, limits, data) -> None:
    """Admitted, delivered, failed, sent again in any order, at the edge of the budgets: all of it balances."""
    trio.run(_account, steps, limits, data, clock=trio.testing.MockClock(autojump_threshold=0))


async def _account(steps: list[str], limits: int, data: st.DataObject) -> None:
    retry = RetrySettings(jitter=0.0, schedule_seconds=(3.0,))
    flow = Flow(
        Settings(
            retry=retry,
            intake=IntakeSettings(client_events_max=limits, client_bytes_max=limits * (COST_BYTES + 512)),
            retention=RetentionSettings(delivered_bytes_max=4 * len(PAYLOAD)),
        )
    )
    async with trio.open_nursery() as nursery:
        await flow.start(nursery)
        flow.put()
        for step in steps:
            await _take(flow, step, data)
            totals = flow.ledger.totals()
            held = [event for event in flow.events() if not all(one.is_settled for one in event.deliveries)]
            assert totals.is_balanced
            assert flow.balanced()
            assert totals.unsettled_events == len(held) <= limits
            assert totals.unsettled_bytes == sum(
                len(event.payload or b"") + 512 + 512 * len(event.deliveries) for event in held
            )
            assert all(event.payload is not None for event in held)
        nursery.cancel_scope.cancel()


async def _take(flow: Flow, step: str, data: st.DataObject) -> None:
    match step:
        case "admit":
            if flow.ledger.totals().unsettled_events < flow.effective.settings.intake.client_events_max:
                try:
                    flow.admit()
                except ClientFull:
                    pass
        case "deliver" | "fail":
            for url in (URL, LATE):
                flow.sender.script(url, 200 if step == "deliver" else 404)
        case "later":
            flow.put("acme", endpoint(), endpoint("late", LATE))
        case "redeliver" | "retry":
            events = flow.events()
            if events:
                event = data.draw(st.sampled_from(events))
                was, payload = [(one.status, one.attempt_count) for one in event.deliveries], event.payload
                try:
                    flow.redelivery.redeliver(event) if step == "redeliver" else flow.retry_now.retry(event)
                except (ClientFull, NoPayload):
                    is_as_it_was = was == [(one.status, one.attempt_count) for one in event.deliveries]
                    if not is_as_it_was or event.payload is not payload:
                        raise
        case "replay":
            chosen = data.draw(
                st.sets(st.sampled_from([Status.DELIVERED, Status.FAILED, Status.EXHAUSTED]), min_size=1)
            )
            replayed = await flow.replay.replay("acme", wanted(frozenset(chosen)))
            assert replayed.matched == replayed.reopened + replayed.left
        case "pass":
            await trio.sleep(data.draw(st.sampled_from([0.0, 1.0, 10.0])))
    await now()
