"""The wait between the stop signal and the report."""

import pytest
import trio
from hookd.core.delivery import Status
from hookd.core.health import PausedBy
from hookd.core.outcome import Responded
from hookd.core.settings import DeliverySettings, Settings

from tests.flow.harness import (
    URL,
    Flow,
    Hang,
    Held,
    Slow,
    Stall,
    VirtualClock,
    at,
    endpoint,
    now,
    only,
    standing,
    statuses,
)

OTHER = "https://other.example/hook"


async def test_drain_with_nothing_left_returns_at_once(autojump_clock, nursery) -> None:
    """Nothing unsettled: no wait at all."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    event = flow.admit()
    await now()
    assert event.status is Status.DELIVERED
    assert await flow.drain() == 0


async def test_drain_waits_for_what_is_in_flight_and_no_longer(autojump_clock, nursery) -> None:
    """It ends when the last answer is in."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", OTHER))
    flow.sender.script(URL, Slow(2.0, 200))
    flow.sender.script(OTHER, Slow(7.0, 200))
    event = flow.admit()
    await now()
    assert await flow.drain() == 7
    assert event.status is Status.DELIVERED


@pytest.mark.parametrize("number", [1, 2, 5])
async def test_drain_waits_for_what_is_admitted_and_not_begun(autojump_clock, nursery, number) -> None:
    """Events taken in just before the stop are delivered, as is what waits behind a full window."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint(concurrency=1))
    flow.sender.script(URL, Slow(1.0, 200))
    events = flow.admit_many(number)
    assert number <= await flow.drain() < number + 0.1
    assert statuses(events) == {Status.DELIVERED: number}


async def test_drain_waits_for_a_retry_due_before_the_deadline(autojump_clock, nursery) -> None:
    """Due 5 s after, with 20 s to go: it is attempted, and the drain ends with it."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503, 200)
    event = flow.admit(event_id="e1")
    await now()
    assert 5 <= await flow.drain() < 5.1
    assert flow.sender.times("e1") == [0, 5]
    assert standing(event) == (Status.DELIVERED, None, 2)


async def test_drain_does_not_wait_for_a_retry_due_after_the_deadline(autojump_clock, nursery) -> None:
    """Due in 30 s, with 20 s to go: it is left, failed and due, for the report, at once."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503)
    event = flow.admit()
    await at(5)
    assert only(event).due_at == 35
    assert await flow.drain() == 0
    assert standing(event) == (Status.FAILED, None, 2)


async def test_drain_ends_at_its_deadline_and_what_is_cut_has_no_outcome(autojump_clock) -> None:
    """20 s and not more; the attempt cut by the stop stays listed without outcome, its status as it was."""
    flow = Flow(Settings(delivery=DeliverySettings(timeout_seconds=60.0)))
    async with trio.open_nursery() as nursery:
        await flow.start(nursery)
        flow.put()
        flow.sender.script(URL, Hang())
        event = flow.admit()
        await now()
        assert await flow.drain(timeout_seconds=20) == 20
        nursery.cancel_scope.cancel()
    assert standing(event) == (Status.PENDING, None, 1)
    [attempt] = only(event).attempts
    assert (attempt.outcome, attempt.duration_seconds, attempt.request_sent) == (None, 20, True)
    assert only(event).maybe_received
    assert not only(event).in_flight
    assert flow.balanced()


async def test_drain_cutting_an_attempt_whose_head_was_read_counts_the_answer(autojump_clock) -> None:
    """The head had decided; only its body was cut."""
    flow = Flow()
    async with trio.open_nursery() as nursery:
        await flow.start(nursery)
        flow.put()
        flow.sender.script(URL, Stall(200))
        event = flow.admit()
        await now()
        await flow.drain(timeout_seconds=1)
        nursery.cancel_scope.cancel()
    assert standing(event) == (Status.DELIVERED, None, 1)
    assert only(event).attempts[0].outcome == Responded(200)


async def test_drain_forced_ends_at_once(autojump_clock, nursery) -> None:
    """A second signal ends the wait for what flies."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Hang())
    flow.admit()
    await now()
    forced = trio.Event()

    async def force() -> None:
        await trio.sleep(3)
        forced.set()

    nursery.start_soon(force)
    assert await flow.drain(forced=forced) == 3


async def test_drain_forced_before_it_begins_does_not_wait(autojump_clock, nursery) -> None:
    """Both signals may be there before the drain is."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Hang())
    flow.admit()
    await now()
    forced = trio.Event()
    forced.set()
    assert await flow.drain(forced=forced) == 0


async def test_nothing_begins_after_the_deadline(autojump_clock) -> None:
    """What waits when the flow is cut is not attempted: neither what is due nor what an answer makes room for."""
    flow = Flow()
    async with trio.open_nursery() as nursery:
        await flow.start(nursery)
        held = Held()
        flow.put("acme", endpoint(concurrency=1))
        flow.sender.script(URL, held)
        events = flow.admit_many(3)
        await now()
        await flow.drain(timeout_seconds=2)
        held.release(200)  # at the very moment of the cut
        nursery.cancel_scope.cancel()
    assert len(flow.sender.transcript) == 1
    assert [only(event).attempt_count for event in events] == [1, 0, 0]
    assert flow.balanced()


async def test_attempt_about_to_begin_at_the_cut_does_not(autojump_clock) -> None:
    """Taken from its lane and not begun when the flow is cancelled: never attempted, and reported so."""
    flow = Flow(clock=(clock := VirtualClock()))
    async with trio.open_nursery() as nursery:
        await flow.start(nursery)
        flow.put()
        event = flow.admit()
        clock.call_once(nursery.cancel_scope.cancel)  # as the courier looks what is due
        await trio.sleep_forever()
    assert flow.sender.transcript == []
    assert standing(event) == (Status.PENDING, None, 0)


async def test_probe_due_as_the_drain_ends_does_not_begin(autojump_clock, nursery) -> None:
    """They do not hold it, and one begun in its last tick would be cut; found by the simulation, seed 1089."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503)
    event = flow.admit()
    await now()
    health = flow.ledger.ensure_health("acme", "default")
    health.paused_by, health.next_probe_at = PausedBy.FAILURES, trio.current_time() + 5
    assert await flow.drain() == 0
    await at(100)
    assert standing(event) == (Status.FAILED, None, 1)


async def test_drain_is_not_held_by_a_hung_endpoint_with_a_queue(autojump_clock, nursery) -> None:
    """Deliveries that cannot begin before the deadline do not stretch it; another endpoint's are done meanwhile."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint("hung", URL), endpoint("fine", OTHER))
    flow.sender.script(URL, Hang())
    events = flow.admit_many(100)
    await now()
    assert await flow.drain(timeout_seconds=10) == 10
    assert {event.deliveries[1].status for event in events} == {Status.DELIVERED}


async def test_drain_of_a_courier_that_crashed_waits_for_its_restart(autojump_clock, nursery) -> None:
    """What a crash put back is still delivered before the deadline."""
    flow = Flow(clock=(clock := VirtualClock()))
    await flow.start(nursery)
    flow.put()
    event = flow.admit()
    clock.fail_once()
    await now()
    assert flow.dispatch.crashed_couriers == 1
    assert 1 <= await flow.drain() < 1.1
    assert event.status is Status.DELIVERED
