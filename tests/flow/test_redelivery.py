"""Redelivery: what has settled goes out once more, by a whole schedule, under the same id, and is accounted for."""

from typing import Any

import pytest
from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.outcome import Unreachable
from hookd.core.rate import Rate
from hookd.core.refusal import ClientFull, Draining, EndpointDisabled, Full, InvalidQuery, NoPayload, NotFound
from hookd.core.retry import Reason
from hookd.core.settings import IntakeSettings, RetentionSettings, RetrySettings, Settings

from tests.flow.harness import PAYLOAD, URL, Flow, Hang, Held, Later, at, endpoint, now, only, standing
from tests.flow.test_resend import line

OTHER = "https://other.example/hook"
LATE = "https://late.example/hook"
COST_BYTES = 1024 + len(PAYLOAD)
SCHEDULE = RetrySettings(jitter=0.0, schedule_seconds=(5.0, 10.0))


async def delivered(nursery, **settings: Any) -> tuple[Flow, Event]:
    """Client `acme`, one event that was delivered by its first attempt."""
    flow = Flow(Settings(**{"retry": SCHEDULE} | settings))
    await flow.start(nursery)
    flow.put()
    event = flow.admit(event_id="e1")
    await now()
    assert standing(event) == (Status.DELIVERED, None, 1)
    return flow, event


def budget(flow: Flow) -> tuple[int, int]:
    totals = flow.ledger.totals()
    return totals.unsettled_events, totals.unsettled_bytes


async def test_delivered_event_goes_out_once_more_by_a_whole_schedule(autojump_clock, nursery) -> None:
    """Attempts are counted on, the id is the same; the totals move back, and the budget is taken and given back."""
    flow, event = await delivered(nursery)
    flow.sender.script(URL, 500, 500, 200)
    assert flow.redelivery.redeliver(event)
    assert standing(event) == (Status.PENDING, None, 1)
    assert (event.settled_at, flow.attempts_max(event), budget(flow)) == (None, 4, (1, COST_BYTES))
    assert flow.ledger.totals().deliveries[Status.DELIVERED] == 0
    assert flow.balanced()
    await at(100)
    assert standing(event) == (Status.DELIVERED, None, 4)
    assert [sent.attempt_number for sent in flow.sender.transcript] == [1, 2, 3, 4]
    assert {sent.event_id for sent in flow.sender.transcript} == {"e1"}
    assert [sent.request.body for sent in flow.sender.transcript] == [PAYLOAD] * 4
    assert flow.sender.times("e1") == [0, 0, 5, 15]
    assert budget(flow) == (0, 0)
    assert flow.ledger.counters.reopened == {Status.DELIVERED: 1, Status.EXHAUSTED: 0}
    assert flow.log.of("event.redelivered")[0]["endpoints"] == ["default"]
    assert flow.balanced()


async def test_exhausted_one_gets_the_same(autojump_clock, nursery) -> None:
    """By the step that retry takes, but not over a pause: nothing is expedited."""
    flow = Flow(Settings(retry=SCHEDULE))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 404, 404, 404, 200)
    event = flow.admit()
    await at(60)
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, 3)
    assert flow.redelivery.redeliver(event)
    assert flow.attempts_max(event) == 6
    await now()
    assert standing(event) == (Status.DELIVERED, None, 4)
    assert flow.ledger.counters.reopened == {Status.DELIVERED: 0, Status.EXHAUSTED: 1}
    assert flow.balanced()


async def test_it_may_end_exhausted_the_second_time(autojump_clock, nursery) -> None:
    """What was delivered once is then exhausted, and counted so: the status is that of the last account."""
    flow, event = await delivered(nursery)
    flow.sender.script(URL, 500)
    assert flow.redelivery.redeliver(event)
    await at(100)
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, 4)
    assert [event.id for event in flow.ledger.exhausted()] == ["e1"]
    assert flow.ledger.totals().events[Status.DELIVERED] == 0
    assert flow.balanced()


async def test_feed_tells_each_settlement_of_it(autojump_clock, nursery) -> None:
    """An outbox that reads the feed sees it settle twice."""
    flow, event = await delivered(nursery)
    flow.redelivery.redeliver(event)
    await now()
    rows = flow.feed.ring.page(None, limit=10).rows
    assert [(row.event_id, row.status) for row in rows] == [("e1", Status.DELIVERED)] * 2


async def test_endpoint_that_came_later_gets_a_delivery_of_its_own(autojump_clock, nursery) -> None:
    """Added, or subscribed since; one that does not want the type gets none. Its budget is taken with the event's."""
    flow, event = await delivered(nursery)
    flow.put(
        "acme",
        endpoint(),
        endpoint("late", LATE),
        endpoint("subscribed", OTHER, event_types=("invoice.*",)),
        endpoint("other", "https://no.example/", event_types=("user.*",)),
    )
    assert flow.redelivery.redeliver(event)
    assert [one.endpoint_id for one in event.deliveries] == ["default", "late", "subscribed"]
    assert budget(flow) == (1, COST_BYTES + 2 * 512)
    assert flow.ledger.totals().opened == 3
    await now()
    assert event.status is Status.DELIVERED
    assert [(one.endpoint_id, one.attempt_count) for one in event.deliveries] == [
        ("default", 2),
        ("late", 1),
        ("subscribed", 1),
    ]
    assert budget(flow) == (0, 0)
    assert flow.balanced()


async def test_unrouted_event_is_owed_to_whoever_came_later(autojump_clock, nursery) -> None:
    """And is unrouted no more."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint(event_types=("user.created",)))
    event = flow.admit()
    assert event.is_unrouted
    assert not flow.redelivery.redeliver(event)
    flow.put("acme", endpoint(event_types=("user.created", "invoice.paid")))
    assert flow.redelivery.redeliver(event)
    assert (event.status, flow.ledger.totals().unrouted) == (Status.PENDING, 0)
    await now()
    assert standing(event) == (Status.DELIVERED, None, 1)
    assert flow.balanced()


async def test_named_endpoint_alone_gets_it(autojump_clock, nursery) -> None:
    """The others stay as they are. An endpoint that is not there, or does not want the type, is refused by name."""
    flow, event = await delivered(nursery)
    flow.put("acme", endpoint(), endpoint("late", LATE), endpoint("deaf", OTHER, event_types=("user.*",)))
    assert flow.redelivery.redeliver(event, "late")
    await now()
    assert [(one.endpoint_id, one.attempt_count) for one in event.deliveries] == [("default", 1), ("late", 1)]
    assert flow.redelivery.redeliver(event, "default")
    await now()
    assert [(one.endpoint_id, one.attempt_count) for one in event.deliveries] == [("default", 2), ("late", 1)]
    with pytest.raises(NotFound, match="has no endpoint 'nowhere'"):
        flow.redelivery.redeliver(event, "nowhere")
    with pytest.raises(InvalidQuery, match=r"does not subscribe to invoice\.paid") as refused:
        flow.redelivery.redeliver(event, "deaf")
    assert refused.value.mistakes[0].pointer == "/endpoint_id"
    assert budget(flow) == (0, 0)


async def test_what_is_unsettled_is_left_alone(autojump_clock, nursery) -> None:
    """Waiting or in flight; of an event of several endpoints the settled ones go out, in the budget that it has."""
    flow = Flow(Settings(retry=SCHEDULE))
    await flow.start(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", OTHER), endpoint("c", LATE))
    flow.sender.script(OTHER, 500)
    flow.sender.script(LATE, Hang())
    event = flow.admit()
    await at(1)
    before = budget(flow)
    assert flow.redelivery.redeliver(event)
    assert [one.status for one in event.deliveries] == [Status.PENDING, Status.FAILED, Status.PENDING]
    assert budget(flow) == before
    await now()
    assert [one.attempt_count for one in event.deliveries] == [2, 1, 1]
    assert not flow.redelivery.redeliver(event, "b")
    assert not flow.redelivery.redeliver(event, "c")
    assert flow.balanced()


async def test_added_delivery_asks_for_its_own_budget_alone(autojump_clock, nursery) -> None:
    """Of an event that is unsettled: 512 B more, and no event more."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Hang())
    event = flow.admit()
    await now()
    flow.put("acme", endpoint(), endpoint("late", LATE))
    flow.set(intake=IntakeSettings(client_events_max=1, client_bytes_max=COST_BYTES + 511))
    with pytest.raises(ClientFull):
        flow.redelivery.redeliver(event)
    assert len(event.deliveries) == 1
    flow.set(intake=IntakeSettings(client_events_max=1, client_bytes_max=COST_BYTES + 512))
    assert flow.redelivery.redeliver(event)
    assert budget(flow) == (1, COST_BYTES + 512)
    assert flow.balanced()


@pytest.mark.parametrize(
    ("limits", "refusal"),
    [
        ({"client_events_max": 1}, ClientFull),
        ({"client_bytes_max": 2 * COST_BYTES - 1}, ClientFull),
        ({"unsettled_events_max": 1}, Full),
        ({"unsettled_bytes_max": 2 * COST_BYTES - 1}, Full),
    ],
)
async def test_without_room_it_is_refused_and_nothing_has_changed(autojump_clock, nursery, limits, refusal) -> None:
    """With how long to wait. Once there is room the same goes through, and takes exactly what it takes."""
    flow, event = await delivered(nursery)
    held = Held()
    flow.sender.script(URL, held, 200)
    flow.admit(event_id="e2")
    await now()
    flow.set(intake=IntakeSettings(**limits))
    kept = event.payload
    with pytest.raises(refusal) as refused:
        flow.redelivery.redeliver(event)
    assert refused.value.retry_after_seconds
    assert standing(event) == (Status.DELIVERED, None, 1)
    assert (event.payload, budget(flow)) == (kept, (1, COST_BYTES))
    assert flow.balanced()
    held.release(200)
    await now()
    assert flow.redelivery.redeliver(event)
    assert budget(flow) == (1, COST_BYTES)
    await now()
    assert standing(event) == (Status.DELIVERED, None, 2)


async def test_dropped_payload_cannot_be_sent(autojump_clock, nursery) -> None:
    """The row stays, and says so; what is redelivered keeps its payload while it is owed, and counts as the newest."""
    flow = Flow(Settings(retention=RetentionSettings(delivered_bytes_max=2 * len(PAYLOAD))))
    await flow.start(nursery)
    flow.put()
    events = []
    for number in range(3):  # settled in this order
        events.append(flow.admit(event_id=f"e{number}"))
        await now()
    first, second, third = events
    assert (first.payload, second.payload) == (None, PAYLOAD)
    with pytest.raises(NoPayload, match="e0"):
        flow.redelivery.redeliver(first)
    with pytest.raises(NoPayload):
        flow.redelivery.redeliver(first, "default")
    assert standing(first) == (Status.DELIVERED, None, 1)
    held = Held()
    flow.sender.script(URL, 200, held)
    flow.redelivery.redeliver(second)
    await now()
    assert third.payload is not None
    flow.redelivery.redeliver(third)
    await now()
    flow.admit(event_id="e3")
    flow.admit(event_id="e4")
    assert third.payload == PAYLOAD  # it is in flight
    held.release(200)
    await now()
    assert flow.balanced()
    assert sum(len(event.payload or b"") for event in flow.events()) == 2 * len(PAYLOAD)


async def test_payload_that_a_report_brought_back_can_be_sent_again(autojump_clock, nursery) -> None:
    """It had been dropped: a delivery that resend adds brings it along."""
    flow = Flow(Settings(retention=RetentionSettings(delivered_bytes_max=0)))
    await flow.start(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", OTHER, event_types=("user.*",)))
    event = flow.admit(event_id="e1")
    await now()
    assert event.payload is None
    flow.sender.script(OTHER, 404)
    flow.resend.resend([line("e1", endpoint_id="b")])
    flow.sender.script(URL, 404)
    assert flow.redelivery.redeliver(event)
    assert all(one.status is Status.PENDING for one in event.deliveries)
    assert flow.balanced()


async def test_draining_refuses(autojump_clock, nursery) -> None:
    """503, with nothing changed."""
    flow, event = await delivered(nursery)
    flow.intake.close()
    with pytest.raises(Draining):
        flow.redelivery.redeliver(event)
    assert standing(event) == (Status.DELIVERED, None, 1)


async def test_redelivered_one_is_waited_for_by_a_drain(autojump_clock, nursery) -> None:
    """It counts as unsettled: a drain finishes it, or its end finds it undelivered."""
    flow, event = await delivered(nursery)
    held = Held()
    flow.sender.script(URL, held)
    flow.redelivery.redeliver(event)
    await now()
    nursery.start_soon(flow.drain)
    await at(5)
    assert flow.ledger.totals().undelivered == 1
    held.release(200)
    await now()
    assert standing(event) == (Status.DELIVERED, None, 2)


async def test_disabled_and_removed_endpoints_get_nothing(autojump_clock, nursery) -> None:
    """409 where nothing else could be sent; a removed endpoint is nothing to do."""
    flow, event = await delivered(nursery)
    flow.put("acme", endpoint(), endpoint("late", LATE))
    flow.ledger.ensure_health("acme", "default").disable(0.0)
    assert flow.redelivery.redeliver(event)
    assert [one.endpoint_id for one in event.deliveries if not one.is_settled] == ["late"]
    await now()
    with pytest.raises(EndpointDisabled):
        flow.redelivery.redeliver(event, "default")
    flow.ledger.ensure_health("acme", "late").disable(0.0)
    with pytest.raises(EndpointDisabled):
        flow.redelivery.redeliver(event)
    flow.registration.resume("acme", "default")
    assert flow.redelivery.redeliver(event, "default")
    await now()
    flow.put("acme", endpoint("else", OTHER, event_types=("user.*",)))
    assert not flow.redelivery.redeliver(event)
    assert flow.balanced()


async def test_operators_pause_holds_it(autojump_clock, nursery) -> None:
    """No attempt until it is resumed, and no expiry."""
    flow, event = await delivered(nursery)
    flow.registration.pause("acme", "default")
    assert flow.redelivery.redeliver(event)
    await at(4000)
    assert standing(event) == (Status.PENDING, None, 1)
    assert flow.begins_at(event) is None
    flow.registration.resume("acme", "default")
    await now()
    assert standing(event) == (Status.DELIVERED, None, 2)


async def test_retry_after_and_a_pause_by_failures_hold_it(autojump_clock, nursery) -> None:
    """Nothing is expedited; retry now hurries it over the pause."""
    flow, event = await delivered(nursery, retry=RetrySettings(jitter=0.0, schedule_seconds=(5.0,) * 9))
    flow.sender.script(URL, Later(503, "100"), 200)
    flow.admit(event_id="e2")
    await at(1)
    assert flow.redelivery.redeliver(event)
    await at(99)
    assert standing(event) == (Status.PENDING, None, 1)
    await at(200)
    assert standing(event) == (Status.DELIVERED, None, 2)
    flow.sender.script(URL, *[Unreachable("refused")] * 16, 200)
    flow.admit_many(2)
    await at(240)
    assert flow.ledger.ensure_health("acme", "default").paused_by is not None
    begun = len(flow.sender.transcript)
    flow.redelivery.redeliver(event)
    await now()
    assert len(flow.sender.transcript) == begun
    flow.sender.script(URL, 200)
    assert flow.retry_now.retry(event)
    await now()
    assert standing(event) == (Status.DELIVERED, None, 3)


async def test_rate_holds_it_back(autojump_clock, nursery) -> None:
    """Attempts begin no faster, whichever they are."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint(rate=Rate.of("1/s")))
    events = [flow.admit(event_id=f"e{number}") for number in range(3)]
    await at(10)
    for event in events:
        assert flow.redelivery.redeliver(event)
    await at(20)
    times = [round(sent.at) for sent in flow.sender.transcript]
    assert times == [0, 1, 2, 10, 11, 12]


async def test_strict_order_gives_it_its_place_by_acceptance(autojump_clock, nursery) -> None:
    """Before what was accepted later and still waits, behind what was accepted earlier; never beside one in flight."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint(order="strict"))
    events = [flow.admit(event_id=f"e{number}") for number in range(3)]
    await now()
    held = Held()
    flow.sender.script(URL, held, 200)
    later = [flow.admit(event_id=f"late{number}") for number in range(2)]
    await now()
    flow.redelivery.redeliver(events[2])
    flow.redelivery.redeliver(events[0])
    await now()
    sent = [one.event_id for one in flow.sender.transcript]
    assert sent == ["e0", "e1", "e2", "late0"]
    held.release(200)
    await now()
    assert [one.event_id for one in flow.sender.transcript][4:] == ["e0", "e2", "late1"]
    assert flow.sender.peaks[URL] == 1
    assert all(event.status is Status.DELIVERED for event in (*events, *later))


async def test_one_that_goes_before_a_failing_one_in_strict_order_is_behind_nobody(autojump_clock, nursery) -> None:
    """It is said to be due, and what it overtakes by right to wait for it."""
    flow = Flow(Settings(retry=RetrySettings(jitter=0.0, schedule_seconds=(50.0,) * 5)))
    await flow.start(nursery)
    flow.put("acme", endpoint(order="strict"))
    first = flow.admit(event_id="e0")
    await now()
    flow.sender.script(URL, 404, 404, 200)
    second = flow.admit(event_id="e1")
    await at(10)
    health = flow.ledger.ensure_health("acme", "default")
    assert health.held_up_by == "e1"
    flow.registration.pause("acme", "default")
    flow.redelivery.redeliver(first)
    flow.registration.resume("acme", "default")
    assert flow.begins_at(first) == pytest.approx(10, abs=0.1)
    await at(11)
    assert health.held_up_by == "e0"
    assert flow.begins_at(second) is None
    await at(61)
    assert [event.status for event in (first, second)] == [Status.DELIVERED, Status.DELIVERED]


async def test_clock_that_raises_changes_nothing(autojump_clock, nursery) -> None:
    """It is asked before anything is changed."""
    flow, event = await delivered(nursery)
    flow.clock.fail_once()  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="clock"):
        flow.redelivery.redeliver(event)
    assert standing(event) == (Status.DELIVERED, None, 1)
    assert flow.balanced()


async def test_age_begins_anew(autojump_clock, nursery) -> None:
    """However long ago it was accepted."""
    flow, event = await delivered(nursery, retry=RetrySettings(schedule_seconds=(3000.0,) * 3, age_seconds_max=3600.0))
    await at(3500)
    flow.sender.script(URL, 404)
    flow.redelivery.redeliver(event)
    await at(3500 + 3599)
    assert not only(event).is_settled
    await at(3500 + 3700)
    assert standing(event)[:2] == (Status.EXHAUSTED, Reason.EXPIRED)
