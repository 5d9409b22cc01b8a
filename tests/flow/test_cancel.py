"""Cancel: what waits is exhausted at once, what is in flight runs out, and everything is accounted for."""

from typing import Any

import pytest
import trio
from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.refusal import Draining, NotFound, UnknownClient
from hookd.core.report import lines as lines_of
from hookd.core.retry import Reason
from hookd.core.settings import RetrySettings, Settings
from hookd.core.subscription import Subscription
from hookd.flow.cancel import CANCELLED_AT_ONCE, LOOKED_AT_AT_ONCE, Cancelled, Range
from hookd.flow.resend import Answer

from tests.flow.harness import EPOCH, URL, Flow, Hang, Held, Later, at, endpoint, now, only, standing, statuses
from tests.flow.test_resend import line

OTHER = "https://other.example/hook"
CANCELLED = (Status.EXHAUSTED, Reason.CANCELLED)


async def started(nursery: trio.Nursery, *endpoints: Any, **settings: Any) -> Flow:
    flow = Flow(Settings(**settings))
    await flow.start(nursery)
    flow.put("acme", *endpoints)
    return flow


async def failing(nursery: trio.Nursery, events: int, *endpoints: Any) -> tuple[Flow, list[Event]]:
    """Each was attempted once, and waits for its retry in 5 s."""
    flow = await started(nursery, *endpoints)
    flow.sender.script(URL, 500)
    waiting = flow.admit_many(events)
    await now()
    return flow, waiting


def ended_as(event: Event) -> tuple[Status, Reason | None]:
    return only(event).status, only(event).reason


async def test_cancel_gives_up_what_waits_at_once_and_gives_its_budget_back(autojump_clock, nursery) -> None:
    """It is logged, counted and told to the feed like anything that is given up, and never attempted again."""
    flow, [event] = await failing(nursery, 1)
    assert flow.cancel.cancel(event)
    assert standing(event) == (*CANCELLED, 1)
    assert flow.ledger.totals().unsettled_events == flow.ledger.totals().unsettled_bytes == 0
    assert [told["reason"] for told in flow.log.of("delivery.exhausted")] == ["cancelled"]
    assert flow.log.of("event.cancelled")[0]["deliveries"] == 1
    assert flow.feed.ring.page(None, limit=10).rows[0].reason is Reason.CANCELLED
    assert flow.ledger.counters.given_up[Reason.CANCELLED] == 1
    await at(4000)
    assert len(flow.sender.transcript) == 1
    assert flow.balanced()
    assert not flow.dispatch.couriers()


@pytest.mark.parametrize(("status_code", "ends"), [(200, (Status.DELIVERED, None)), (503, CANCELLED), (410, CANCELLED)])
async def test_cancel_lets_what_is_in_flight_run_out(autojump_clock, nursery, status_code, ends) -> None:
    """A 2xx delivers it; anything else exhausts it, and takes no further attempt."""
    flow = await started(nursery)
    held = Held()
    flow.sender.script(URL, held, 200)
    event = flow.admit()
    await now()
    assert flow.cancel.cancel(event)
    assert (only(event).status, only(event).abandoned_as) == (Status.PENDING, Reason.CANCELLED)
    assert flow.ledger.unsettled_count("acme", ["default"]) == 0  # nothing that a removal would end
    assert not flow.cancel.cancel(event)
    held.release(status_code)
    await at(4000)
    assert ended_as(event) == ends
    assert len(flow.sender.transcript) == 1
    health = flow.ledger.ensure_health("acme", "default")
    assert (health.unsettled, health.abandoned) == (0, 0)
    assert flow.balanced()


async def test_cancel_of_one_endpoint_leaves_the_others_alone(autojump_clock, nursery) -> None:
    """What has settled is left alone as well."""
    flow, [event] = await failing(
        nursery, 1, endpoint(), endpoint("other", OTHER), endpoint("third", "https://x.example/")
    )
    flow.sender.script(OTHER, 500)
    assert [one.status for one in event.deliveries] == [Status.FAILED, Status.DELIVERED, Status.DELIVERED]
    assert not flow.cancel.cancel(event, "other")
    assert flow.cancel.cancel(event, "default")
    assert [one.reason for one in event.deliveries] == [Reason.CANCELLED, None, None]
    assert event.status is Status.EXHAUSTED
    with pytest.raises(NotFound, match="'nobody'"):
        flow.cancel.cancel(event, "nobody")


async def test_cancelled_event_can_be_retried_by_hand(autojump_clock, nursery) -> None:
    """As any exhausted one: a whole schedule, and nothing of the cancel is left."""
    flow, [event] = await failing(nursery, 1)
    flow.cancel.cancel(event)
    flow.sender.script(URL, 500, 200)
    assert flow.retry_now.retry(event)
    await at(6)
    assert standing(event) == (Status.DELIVERED, None, 3)
    assert flow.balanced()


async def test_attempt_that_a_retry_makes_after_a_cancel_may_fail_and_is_retried(autojump_clock, nursery) -> None:
    """A cancel in flight ends with that attempt: what is reopened after it is no longer cancelled."""
    flow = await started(nursery)
    held = Held()
    flow.sender.script(URL, held, 500, 200)
    event = flow.admit()
    await now()
    flow.cancel.cancel(event)
    held.release(500)
    await now()
    assert ended_as(event) == CANCELLED
    flow.retry_now.retry(event)
    await at(10)
    assert standing(event) == (Status.DELIVERED, None, 3)


@pytest.mark.parametrize(
    "step", [None, Later(503, "600"), 500], ids=["paused by an operator", "throttled", "paused by failures"]
)
async def test_cancel_works_in_every_state_of_the_endpoint(autojump_clock, nursery, step) -> None:
    """What an endpoint's state holds back is ended without waiting for it."""
    flow = await started(nursery, retry=RetrySettings(schedule_seconds=(1.0,) * 60))
    if step is None:
        flow.registration.pause("acme", "default")
    else:
        flow.sender.script(URL, step)
    events = flow.admit_many(2)
    await at(100)
    begun = len(flow.sender.transcript)
    assert await flow.cancel.cancel_range("acme", Range()) == Cancelled(2, 2, 0)
    assert [ended_as(event) for event in events] == [CANCELLED] * 2
    await at(2000)
    assert len(flow.sender.transcript) == begun
    assert flow.balanced()


async def test_cancel_of_the_first_in_a_strict_line_lets_the_next_begin(autojump_clock, nursery) -> None:
    """At once, and not after the retry that the first one waited for."""
    flow, events = await failing(nursery, 3, endpoint(order="strict", schedule_seconds=(600.0,)))
    assert flow.ledger.ensure_health("acme", "default").held_up_by == events[0].id
    flow.sender.script(URL, 200)
    flow.cancel.cancel(events[0])
    await at(1)
    assert [event.status for event in events] == [Status.EXHAUSTED, Status.DELIVERED, Status.DELIVERED]
    assert [sent.event_id for sent in flow.sender.transcript] == [event.id for event in events]


async def test_cancel_of_all_of_a_strict_line_begins_none_of_it(autojump_clock, nursery) -> None:
    """However many slices it takes: those behind the first are not attempted in between."""
    flow, events = await failing(nursery, 3 * CANCELLED_AT_ONCE, endpoint(order="strict", schedule_seconds=(600.0,)))
    result = await flow.cancel.cancel_range("acme", Range())
    assert result == Cancelled(len(events), len(events), 0)
    await at(2000)
    assert len(flow.sender.transcript) == 1
    assert {ended_as(event) for event in events} == {CANCELLED}


async def test_range_is_what_was_accepted_before_the_request(autojump_clock, nursery) -> None:
    """What comes in while it is under way, or is reopened then, is left alone."""
    flow = await started(nursery)
    flow.registration.pause("acme", "default")
    old = flow.admit_many(3 * CANCELLED_AT_ONCE)
    given_up = flow.admit()
    flow.cancel.cancel(given_up)
    young: list[Event] = []
    await at(1)

    async def go_on_posting() -> None:
        await trio.sleep(0.001)
        assert sum(one.particulars.abandoned_as is not None for event in old for one in event.deliveries) > 0
        young.append(flow.admit())
        flow.retry_now.retry(given_up)

    nursery.start_soon(go_on_posting)
    assert await flow.cancel.cancel_range("acme", Range()) == Cancelled(len(old), len(old), 0)
    assert {ended_as(event) for event in old} == {CANCELLED}
    await at(2)
    assert [event.status for event in (*young, given_up)] == [Status.PENDING] * 2
    assert flow.balanced()


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Range(), ["e0", "e10", "e20"]),
        (Range(since=EPOCH + 10), ["e10", "e20"]),
        (Range(until=EPOCH + 10), ["e0", "e10"]),
        (Range(EPOCH + 10.0004, EPOCH + 10.0004), ["e10"]),  # people are shown milliseconds
        (Range(types=Subscription.of(["b.*"])), ["e10"]),
        (Range(types=Subscription.of(["!b.*"])), ["e0", "e20"]),
        (Range(endpoint_id="default"), ["e0", "e10", "e20"]),
        (Range(endpoint_id="other"), []),
        (Range(since=EPOCH + 21), []),
    ],
)
async def test_range_takes_what_matches(autojump_clock, nursery, wanted, ids) -> None:
    """By the time of acceptance, both ends included; by type, as subscriptions are written; by endpoint."""
    flow = await started(nursery, endpoint(event_types=("a", "b.x")), endpoint("other", OTHER, event_types=("c",)))
    flow.registration.pause("acme", "default")
    for seconds, event_type in ((0, "a"), (10, "b.x"), (20, "a")):
        await at(seconds)
        flow.admit(event_id=f"e{seconds}", type=event_type)
    counted = await flow.cancel.cancel_range("acme", wanted, dry_run=True)
    assert counted == Cancelled(len(ids), 0, 0)
    assert {event.status for event in flow.events()} == {Status.PENDING}
    assert not flow.log.of("client.cancelled")
    assert await flow.cancel.cancel_range("acme", wanted) == Cancelled(len(ids), len(ids), 0)
    assert sorted(event.id for event in flow.events() if event.status is Status.EXHAUSTED) == ids
    assert flow.balanced()


async def test_range_counts_what_is_in_flight_apart(autojump_clock, nursery) -> None:
    """It matches, and runs out."""
    flow = await started(nursery)
    held = Held()
    flow.sender.script(URL, held)
    events = flow.admit_many(5)  # the window is 2
    await now()
    assert await flow.cancel.cancel_range("acme", Range(), dry_run=True) == Cancelled(5, 0, 2)
    assert await flow.cancel.cancel_range("acme", Range()) == Cancelled(5, 3, 2)
    assert await flow.cancel.cancel_range("acme", Range()) == Cancelled(0, 0, 0)
    held.release(500)
    await at(100)
    assert {ended_as(event) for event in events} == {CANCELLED}
    assert len(flow.sender.transcript) == 2
    assert flow.balanced()


async def test_range_of_many_gives_others_their_turns(autojump_clock, nursery) -> None:
    """No slice finds more than it may, and what was found is not attempted from then on."""
    flow = await started(nursery)
    flow.registration.pause("acme", "default")
    events = flow.admit_many(2 * LOOKED_AT_AT_ONCE + 1)
    seen: list[int] = []

    async def watch() -> None:
        while not seen or seen[-1] < len(events):
            seen.append(sum(only(event).is_abandoned for event in events))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as watching:
        watching.start_soon(watch)
        await flow.cancel.cancel_range("acme", Range())
    steps = [after - before for before, after in zip([0, *seen], seen, strict=False)]
    assert max(steps) <= 2 * CANCELLED_AT_ONCE  # two turns of one may fall between two of the other
    assert statuses(events) == {Status.EXHAUSTED: len(events)}


async def test_range_of_a_client_that_is_not_registered_takes_what_waits_for_it(autojump_clock, nursery) -> None:
    """It was recovered, and its client may never be registered: else only its age would end it."""
    flow = Flow()
    await flow.start(nursery)
    flow.resend.recover([line("e1"), line("e2")])
    assert await flow.cancel.cancel_range("acme", Range()) == Cancelled(2, 2, 0)
    assert {ended_as(event) for event in flow.events()} == {CANCELLED}
    assert flow.ledger.health("acme", "default") is None  # nobody is registered to have one
    flow.put()
    await at(1)
    assert flow.sender.transcript == []
    with pytest.raises(UnknownClient):
        await flow.cancel.cancel_range("nobody", Range())


async def test_range_of_an_endpoint_that_is_not_there_is_refused(autojump_clock, nursery) -> None:
    """A mistyped id is no empty range."""
    flow, _ = await failing(nursery, 1)
    with pytest.raises(NotFound, match="'defalt'"):
        await flow.cancel.cancel_range("acme", Range(endpoint_id="defalt"))


async def test_caller_that_goes_away_leaves_what_was_found_cancelled(autojump_clock, nursery) -> None:
    """And the rest as it is; the log has the count."""
    flow = await started(nursery)
    flow.registration.pause("acme", "default")
    events = flow.admit_many(3 * CANCELLED_AT_ONCE)
    with trio.CancelScope() as scope:
        scope.cancel()
        await flow.cancel.cancel_range("acme", Range())
    with trio.move_on_after(0.0005):
        flow.clock.call_once(lambda: None)
        await flow.cancel.cancel_range("acme", Range())
    [said] = flow.log.of("client.cancelled")
    await at(10)
    assert statuses(events)[Status.EXHAUSTED] == said["cancelled"]
    assert flow.balanced()


async def test_cancel_works_while_hookd_drains_until_the_report_is_made(autojump_clock, nursery) -> None:
    """Then nothing may change any more."""
    flow = await started(nursery)
    flow.sender.script(URL, Hang())
    events = flow.admit_many(3)
    await now()
    flow.intake.close()
    assert flow.cancel.cancel(events[2])
    assert ended_as(events[2]) == CANCELLED
    flow.endings.close()
    with pytest.raises(Draining):
        flow.cancel.cancel(events[1])
    with pytest.raises(Draining):
        await flow.cancel.cancel_range("acme", Range())


async def test_cancel_in_flight_that_a_stop_cuts_is_in_the_report_and_is_not_attempted_again(
    autojump_clock, nursery
) -> None:
    """What became of the attempt is not known, so it is listed; the next start gives it up as cancelled."""
    flow = await started(nursery)
    flow.sender.script(URL, Hang())
    event = flow.admit(event_id="e1")
    await now()
    flow.cancel.cancel(event)
    await flow.drain(timeout_seconds=1)
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await now()
        reported = list(lines_of(flow.ledger, now_monotonic=1.0, now_wall=EPOCH, payloads=True))
    assert [(one.kind, one.class_, one.cancelled) for one in reported] == [("undelivered", "outcome_unknown", True)]


@pytest.mark.parametrize("is_registered", [True, False])
async def test_recovered_line_that_was_cancelled_is_given_up_without_an_attempt(
    autojump_clock, nursery, is_registered
) -> None:
    """By a start and by hand alike; one that had settled as cancelled is sent by whoever wants that."""
    flow = Flow()
    await flow.start(nursery)
    if is_registered:
        flow.put()
    known = line("e0")
    assert flow.resend.recover([known, line("e0", cancelled=True), line("e1", cancelled=True)]) == [
        Answer.ADMITTED,
        Answer.KNOWN,
        Answer.ADMITTED,
    ]
    await at(1)
    assert [ended_as(event) for event in flow.events()] == [CANCELLED] * 2
    assert flow.sender.transcript == []
    if is_registered:
        again = line("e2", kind="exhausted", reason="cancelled", cancelled=False)
        assert flow.resend.resend([line("e3", cancelled=True), again]) == [Answer.ADMITTED] * 2
        await at(2)
        assert [sent.event_id for sent in flow.sender.transcript] == ["e2"]
    assert flow.balanced()


async def test_removal_after_a_cancel_leaves_its_reason(autojump_clock, nursery) -> None:
    """The first reason stays, and the endpoint's row goes once the attempt in flight has ended."""
    flow = await started(nursery)
    held = Held()
    flow.sender.script(URL, held)
    event = flow.admit()
    await now()
    flow.cancel.cancel(event)
    flow.registration.remove("acme")  # nothing is unsettled that this would end
    held.release(500)
    await now()
    assert ended_as(event) == CANCELLED
    assert flow.ledger.health("acme", "default") is None


def marked(events: list[Event]) -> int:
    return sum(only(event).abandoned_as is Reason.CANCELLED or only(event).is_settled for event in events)


async def test_report_that_is_made_meanwhile_ends_a_range_between_its_slices(autojump_clock, nursery) -> None:
    """What it lists as undelivered is not marked behind its back."""
    flow, events = await failing(nursery, 5 * CANCELLED_AT_ONCE)
    nursery.start_soon(flow.cancel.cancel_range, "acme", Range())
    while not marked(events):
        await trio.lowlevel.checkpoint()
    flow.endings.close()
    before = marked(events)
    await at(100)
    assert marked(events) == before < len(events)


async def test_range_that_waited_for_another_while_the_report_was_made_changes_nothing(autojump_clock, nursery) -> None:
    flow, events = await failing(nursery, 5 * CANCELLED_AT_ONCE)
    flow.put("other", endpoint(url=OTHER))
    flow.sender.script(OTHER, 500)
    waiting = flow.admit("other")
    await now()
    nursery.start_soon(flow.cancel.cancel_range, "acme", Range())
    while not marked(events):
        await trio.lowlevel.checkpoint()
    refused = trio.Event()

    async def cancel_later() -> None:
        with pytest.raises(Draining):
            await flow.cancel.cancel_range("other", Range())
        refused.set()

    nursery.start_soon(cancel_later)
    await trio.lowlevel.checkpoint()
    assert not refused.is_set()
    flow.endings.close()
    await refused.wait()
    assert not marked([waiting])
