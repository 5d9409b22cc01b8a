"""Retry now, in each state a delivery can be in."""

import pytest
from hookd.core.delivery import Status
from hookd.core.refusal import ClientFull, Draining, EndpointDisabled, Full
from hookd.core.retry import Reason
from hookd.core.settings import DeliverySettings, IntakeSettings, RetrySettings, Settings

from tests.flow.harness import URL, Flow, Hang, Held, at, endpoint, now, only, standing

OTHER = "https://other.example/hook"


async def test_delivery_waiting_for_its_retry_is_attempted_now_and_once(autojump_clock, nursery) -> None:
    """Over backoff; the time it was due before begins nothing, and the schedule goes on from here."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503, 503, 503, 200)
    event = flow.admit(event_id="e1")
    await at(1)
    assert flow.retry_now.retry(event)
    assert not flow.retry_now.retry(event)  # due already
    await at(100)
    assert flow.sender.times("e1") == [0, 1, 31]
    assert flow.attempts_max(event) == 6


async def test_delivery_in_flight_is_left_alone(autojump_clock, nursery) -> None:
    """Nothing to do, and no second attempt beside the first."""
    flow = Flow()
    await flow.start(nursery)
    held = Held()
    flow.put()
    flow.sender.script(URL, held)
    event = flow.admit()
    await now()
    assert not flow.retry_now.retry(event)
    await now()
    assert len(flow.sender.transcript) == 1
    held.release(200)
    await now()
    assert standing(event) == (Status.DELIVERED, None, 1)


async def test_delivery_behind_a_full_window_still_waits_its_turn(autojump_clock, nursery) -> None:
    """Retry now goes over backoff, not over concurrency."""
    flow = Flow(Settings(delivery=DeliverySettings(concurrency=1)))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503, Hang(), 200)
    first, _ = flow.admit_many(2)
    await now()
    assert flow.retry_now.retry(first)
    await at(1)
    assert flow.sender.peaks[URL] == 1
    assert len(flow.sender.transcript) == 2
    await at(15)
    assert first.status is Status.DELIVERED


async def test_delivered_event_is_not_retried(autojump_clock, nursery) -> None:
    """Nothing to do."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    event = flow.admit()
    await now()
    assert not flow.retry_now.retry(event)
    await at(100)
    assert standing(event) == (Status.DELIVERED, None, 1)


async def test_exhausted_delivery_is_reopened_with_attempts_counted_on(autojump_clock, nursery) -> None:
    """pending at once, numbers go on, attempts_max grows by 1 + len(schedule), the schedule starts anew."""
    flow = Flow(Settings(retry=RetrySettings(schedule_seconds=(5.0, 30.0))))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503)
    event = flow.admit(event_id="e1")
    await at(40)
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, 3)
    assert flow.retry_now.retry(event)
    assert standing(event) == (Status.PENDING, None, 3)
    assert (event.status, event.settled_at, flow.attempts_max(event)) == (Status.PENDING, None, 6)
    await at(100)
    assert flow.sender.times("e1") == [0, 5, 35, 40, 45, 75]
    assert [sent.attempt_number for sent in flow.sender.transcript] == [1, 2, 3, 4, 5, 6]
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, 6)
    totals = flow.ledger.totals()
    assert (totals.accepted, totals.opened, totals.events[Status.EXHAUSTED]) == (1, 1, 1)
    assert flow.balanced()


async def test_reopened_delivery_has_its_age_anew(autojump_clock, nursery) -> None:
    """An expired one is not expired again at once; its whole age runs from the reopening."""
    flow = Flow(Settings(retry=RetrySettings(schedule_seconds=(600.0, 600.0), age_seconds_max=60.0)))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503)
    event = flow.admit()
    await at(200)
    assert standing(event) == (Status.EXHAUSTED, Reason.EXPIRED, 1)
    assert flow.retry_now.retry(event)
    await at(259)
    assert standing(event) == (Status.FAILED, None, 2)
    await at(262)
    assert standing(event) == (Status.EXHAUSTED, Reason.EXPIRED, 2)


@pytest.mark.parametrize(
    ("limit", "refusal"),
    [
        ({"client_events_max": 1}, ClientFull),
        ({"unsettled_events_max": 1}, Full),
        ({"client_bytes_max": 1100}, ClientFull),
    ],
)
async def test_exhausted_delivery_without_budget_stays_exhausted(autojump_clock, nursery, limit, refusal) -> None:
    """Reopening asks for room like admission; where there is none nothing has changed."""
    flow = Flow(Settings(retry=RetrySettings(schedule_seconds=()), intake=IntakeSettings(**limit)))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503, Hang())
    event = flow.admit()
    await now()
    flow.admit()
    before = flow.ledger.totals()
    with pytest.raises(refusal) as refused:
        flow.retry_now.retry(event)
    assert type(refused.value) is refusal
    assert refused.value.retry_after_seconds > 0
    assert flow.ledger.totals() == before
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, 1)
    assert flow.attempts_max(event) == 1


async def test_reopened_delivery_takes_budget_and_gives_it_back(autojump_clock, nursery) -> None:
    """As much as the event took when it came in."""
    flow = Flow(Settings(retry=RetrySettings(schedule_seconds=())))
    await flow.start(nursery)
    flow.put()
    held = Held()
    flow.sender.script(URL, 503, held)
    event = flow.admit()
    taken = flow.ledger.totals().unsettled_bytes
    await now()
    assert flow.ledger.totals().unsettled_bytes == 0
    flow.retry_now.retry(event)
    totals = flow.ledger.totals()
    assert (totals.unsettled_events, totals.unsettled_bytes) == (1, taken)
    await now()
    held.release(200)
    await now()
    totals = flow.ledger.totals()
    assert (totals.unsettled_events, totals.unsettled_bytes) == (0, 0)
    assert totals.deliveries[Status.DELIVERED] == 1


async def test_retry_of_event_does_what_each_delivery_allows(autojump_clock, nursery) -> None:
    """Of one event: the delivered is left, the exhausted reopened, the failed expedited, the one in flight left."""
    flow = Flow()
    await flow.start(nursery)
    urls = {name: f"https://{name}.example/" for name in ("delivered", "exhausted", "failed", "flying")}
    flow.put(
        "acme",
        *(endpoint(name, url, schedule_seconds=() if name == "exhausted" else None) for name, url in urls.items()),
    )
    flow.sender.script(urls["exhausted"], 503, 200)
    flow.sender.script(urls["failed"], 503, 200)
    flow.sender.script(urls["flying"], Hang())
    event = flow.admit()
    await at(1)
    assert flow.retry_now.retry(event)
    await at(2)
    assert [delivery.attempt_count for delivery in event.deliveries] == [1, 2, 2, 1]
    assert [delivery.status for delivery in event.deliveries] == [Status.DELIVERED] * 3 + [Status.PENDING]
    assert flow.balanced()


async def test_retry_at_disabled_endpoint_is_refused(autojump_clock, nursery) -> None:
    """Nothing of the event can be retried until the endpoint is resumed; then it is."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 410, 200)
    event = flow.admit()
    await now()
    with pytest.raises(EndpointDisabled):
        flow.retry_now.retry(event)
    assert standing(event) == (Status.EXHAUSTED, Reason.GONE, 1)
    flow.registration.resume("acme", "default")
    assert flow.retry_now.retry(event)
    await now()
    assert standing(event) == (Status.DELIVERED, None, 2)


async def test_retry_with_one_endpoint_disabled_retries_the_others(autojump_clock, nursery) -> None:
    """The disabled one is passed over, not refused for."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint("gone", URL), endpoint("failing", OTHER))
    flow.sender.script(URL, 410)
    flow.sender.script(OTHER, 503, 200)
    event = flow.admit()
    await at(1)
    assert flow.retry_now.retry(event)
    await now()
    gone, failing = event.deliveries
    assert (gone.status, gone.attempt_count) == (Status.EXHAUSTED, 1)
    assert failing.status is Status.DELIVERED


async def test_retry_of_removed_endpoint_does_nothing(autojump_clock, nursery) -> None:
    """There is nowhere to send it."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503)
    event = flow.admit()
    await now()
    flow.registration.remove("acme", end_unsettled=True)
    assert not flow.retry_now.retry(event)
    assert standing(event) == (Status.EXHAUSTED, Reason.ENDPOINT_REMOVED, 1)


async def test_retry_while_draining_is_refused(autojump_clock, nursery) -> None:
    """What reopens or hastens is refused like what admits."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503)
    event = flow.admit()
    await now()
    flow.intake.close()
    with pytest.raises(Draining):
        flow.retry_now.retry(event)
    assert only(event).due_at == 5
