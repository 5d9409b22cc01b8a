"""Attempts, their times and their limits, and what one endpoint can do to another: nothing."""

import pytest
import trio
from hookd.core.client import Endpoint
from hookd.core.delivery import Status
from hookd.core.outcome import Blocked, Invalid, Outcome, Responded, TimedOut, Unreachable
from hookd.core.report import class_of
from hookd.core.retry import Reason
from hookd.core.settings import DeliverySettings, RetrySettings, Settings

from tests.flow.harness import (
    EPOCH,
    PAYLOAD,
    URL,
    Calling,
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
    submission,
)

HUNG = "https://hung.example/hook"
REFUSING = "https://refusing.example/hook"
HEALTHY = "https://healthy.example/hook"


async def test_event_admitted_is_attempted_at_once(autojump_clock, nursery) -> None:
    """The first attempt begins with no virtual delay and carries the headers of the contract."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint(headers=(("x-team", "billing"),)))
    await at(7)
    event = flow.admit(event_id="e1")
    await now()
    [sent] = flow.sender.transcript
    headers = dict((*sent.request.endpoint_headers, *sent.request.headers))
    assert sent.at == 7
    assert (sent.request.url, sent.request.body) == (URL, PAYLOAD)
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == "hookd/test"
    assert headers["webhook-id"] == "e1"
    assert headers["webhook-timestamp"] == str(int(EPOCH) + 7)
    assert headers["webhook-signature"].startswith("v1,")
    assert headers["hookd-event-type"] == "invoice.paid"
    assert headers["hookd-attempt"] == "1"
    assert headers["x-team"] == "billing"
    assert standing(event) == (Status.DELIVERED, None, 1)
    assert event.settled_at == EPOCH + 7


async def test_delivery_failing_twice_is_delivered_by_third_attempt_on_schedule(autojump_clock, nursery) -> None:
    """503, 503, 200: attempts at 0 s, 5 s and 35 s, one id, numbers from 1; failed in between."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503, 503, 200)
    event = flow.admit(event_id="e1")
    await now()
    assert standing(event) == (Status.FAILED, None, 1)
    assert only(event).due_at == 5
    await at(35)
    assert flow.sender.times("e1") == [0, 5, 35]
    assert [sent.attempt_number for sent in flow.sender.transcript] == [1, 2, 3]
    assert standing(event) == (Status.DELIVERED, None, 3)
    assert [attempt.outcome for attempt in only(event).attempts] == [Responded(503), Responded(503), Responded(200)]
    assert flow.balanced()


@pytest.mark.parametrize(("jitter_unit", "expected"), [(0.0, [0, 4, 28]), (1.0, [0, 6, 42])])
async def test_delay_has_jitter_within_its_bounds(autojump_clock, nursery, jitter_unit, expected) -> None:
    """Each delay is multiplied by 1 - jitter up to 1 + jitter."""
    flow = Flow(jitter_unit=lambda: jitter_unit)
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503, 503, 200)
    flow.admit(event_id="e1")
    await at(60)
    assert flow.sender.times("e1") == expected


async def test_delivery_always_failing_is_exhausted_after_schedule(autojump_clock, nursery) -> None:
    """1 + len(schedule) attempts, then exhausted with `attempts_used`, and never attempted again."""
    flow = Flow(Settings(retry=RetrySettings(schedule_seconds=(5.0, 30.0, 120.0))))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 500)
    event = flow.admit(event_id="e1")
    await at(3600)
    assert flow.sender.times("e1") == [0, 5, 35, 155]
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, 4)
    assert only(event).due_at is None
    assert event.settled_at == EPOCH + 155
    assert flow.ledger.totals().unsettled_events == flow.ledger.totals().unsettled_bytes == 0


@pytest.mark.parametrize("status_code", [200, 204, 299])
async def test_any_2xx_settles_as_delivered(autojump_clock, nursery, status_code) -> None:
    """Every 2xx delivers."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, status_code)
    event = flow.admit()
    await now()
    assert standing(event) == (Status.DELIVERED, None, 1)


@pytest.mark.parametrize(
    ("outcome", "word", "error"),
    [
        (Responded(302), "responded", None),
        (Responded(404), "responded", None),
        (TimedOut(3.0), "timed_out", "no answer within 3 s"),
        (Unreachable("refused"), "unreachable", "refused"),
        (Blocked("127.0.0.1"), "blocked", "address 127.0.0.1 is not allowed"),
        (Invalid("not HTTP"), "invalid", "not HTTP"),
    ],
)
async def test_outcome_other_than_2xx_or_410_is_due_again(
    autojump_clock, nursery, outcome: Outcome, word, error
) -> None:
    """Redirects and every kind of failure are retried, recorded and logged under the outcome's public word."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, outcome)
    event = flow.admit()
    await now()
    assert standing(event) == (Status.FAILED, None, 1)
    assert only(event).attempts[0].outcome == outcome
    [line] = flow.log.of("delivery.attempted")
    assert (line["outcome"], line["error"], line["retry_in_seconds"]) == (word, error, 5)
    assert (line["attempt"], line["attempts_max"], line["status"]) == (1, 6, "failed")
    assert flow.ledger.ensure_health("acme", "default").last_outcome == outcome


async def test_log_of_an_attempt_has_all_that_it_came_to(autojump_clock, nursery) -> None:
    """Times to the microsecond and the delay to the millisecond; of the URL nothing that may carry a token."""
    flow = Flow(Settings(retry=RetrySettings(schedule_seconds=(1.2345,))))
    await flow.start(nursery)
    flow.put("acme", endpoint(url=f"{URL}?token=t", timeout_seconds=2.5))
    flow.sender.script(f"{URL}?token=t", Hang(), Slow(0.1234567, 500))
    flow.admit(event_id="e1")
    await at(60)
    first, last = flow.log.of("delivery.attempted")
    assert first == {
        "event": "delivery.attempted",
        "level": "info",
        "at": 2.5,
        "event_id": "e1",
        "client_id": "acme",
        "endpoint_id": "default",
        "url": URL,
        "attempt": 1,
        "attempts_max": 2,
        "outcome": "timed_out",
        "status_code": None,
        "error": "no answer within 2.5 s",
        "request_sent": True,
        "reconnected": False,
        "duration_seconds": 2.5,
        "status": "failed",
        "reason": None,
        "retry_in_seconds": 1.234,
    }
    assert (last["attempt"], last["outcome"], last["status_code"], last["error"]) == (2, "responded", 500, None)
    assert (last["status"], last["reason"], last["retry_in_seconds"]) == ("exhausted", "attempts_used", None)
    assert last["duration_seconds"] == 0.123457


async def test_attempt_that_hangs_is_timed_out_after_exactly_its_deadline(autojump_clock, nursery) -> None:
    """One scope bounds the whole attempt; the retry's delay counts from its end."""
    flow = Flow(Settings(delivery=DeliverySettings(timeout_seconds=15.0)))
    await flow.start(nursery)
    flow.put("acme", endpoint(timeout_seconds=2.5), endpoint("slow", HUNG))
    flow.sender.script(URL, Hang())
    flow.sender.script(HUNG, Hang())
    event = flow.admit()
    await at(2.4)
    assert flow.sender.flying == 2
    await at(16)
    own, default = event.deliveries
    assert own.attempts[0].outcome == TimedOut(2.5)
    assert own.attempts[0].duration_seconds == 2.5
    assert own.attempts[0].request_sent
    assert own.maybe_received
    assert [sent.at for sent in flow.sender.to(URL)] == [0, 7.5]
    assert default.attempts[0].outcome == TimedOut(15.0)
    assert default.attempts[0].duration_seconds == 15.0


@pytest.mark.parametrize(
    ("status_code", "status"), [(200, Status.DELIVERED), (503, Status.FAILED), (410, Status.EXHAUSTED)]
)
async def test_answer_read_before_deadline_decides(autojump_clock, nursery, status_code, status) -> None:
    """The head decides; a body that never ends changes nothing."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint(timeout_seconds=2.0))
    flow.sender.script(URL, Stall(status_code))
    event = flow.admit()
    await at(2)
    assert event.status is status
    assert only(event).attempts[0].outcome == Responded(status_code)
    assert not only(event).maybe_received


async def test_hung_and_refusing_endpoints_delay_no_healthy_one(autojump_clock, nursery) -> None:
    """500 events each: beside hung and refusing endpoints, of its client and of others, the healthy one is at once."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint("hung", HUNG), endpoint("refusing", REFUSING), endpoint("healthy", HEALTHY))
    flow.put("hung", endpoint(url=f"{HUNG}/other"))
    flow.put("refusing", endpoint(url=f"{REFUSING}/other"))
    flow.put("healthy", endpoint(url=f"{HEALTHY}/other"))
    for url in (HUNG, f"{HUNG}/other"):
        flow.sender.script(url, Hang())
    for url in (REFUSING, f"{REFUSING}/other"):
        flow.sender.script(url, Unreachable("refused"))
    admitted_at: dict[str, float] = {}
    for second in range(5):
        await at(second)
        for client_id in ("acme", "hung", "refusing", "healthy"):
            admitted_at |= {event.id: second for event in flow.admit_many(100, client_id)}
    await now()
    for url in (HEALTHY, f"{HEALTHY}/other"):
        sent = flow.sender.to(url)
        assert len(sent) == 500
        assert all(one.at == admitted_at[one.event_id] for one in sent)
    assert len({sent.event_id for sent in flow.sender.to(REFUSING)}) == 500
    assert flow.sender.peaks[HUNG] == flow.sender.peaks[f"{HUNG}/other"] == 2
    assert flow.ledger.ensure_health("acme", "healthy").unsettled == 0
    assert flow.ledger.ensure_health("acme", "hung").unsettled == 500
    assert flow.balanced()


async def test_endpoint_has_at_most_its_concurrency_in_flight(autojump_clock, nursery) -> None:
    """The window grows to the daemon's number or the endpoint's own, never more; the rest follows as answers come."""
    flow = Flow(Settings(delivery=DeliverySettings(concurrency=3)))
    await flow.start(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", HEALTHY, concurrency=1))
    flow.sender.script(URL, Slow(1.0, 200))
    flow.sender.script(HEALTHY, Slow(1.0, 200))
    events = flow.admit_many(6)
    await at(10)
    assert flow.sender.peaks == {URL: 3, HEALTHY: 1, "all": 4}
    assert [sent.at for sent in flow.sender.to(URL)] == [0, 0, 1, 1, 1, 2]
    assert [sent.at for sent in flow.sender.to(HEALTHY)] == [0, 1, 2, 3, 4, 5]
    assert statuses(events) == {Status.DELIVERED: 6}


async def test_daemon_has_at_most_connections_max_in_flight_and_slots_come_back(autojump_clock, nursery) -> None:
    """Whole daemon: four slots for three clients that could use 24; each second four more go out until all have."""
    flow = Flow(Settings(delivery=DeliverySettings(connections_max=4)))
    await flow.start(nursery)
    events = []
    for client_id in ("a", "b", "c"):
        flow.put(client_id, endpoint(url=f"https://{client_id}.example/"))
        flow.sender.script(f"https://{client_id}.example/", Slow(1.0, 200))
        events += flow.admit_many(8, client_id)
    await at(5.5)
    assert statuses(events)[Status.DELIVERED] == 20
    await at(6)
    assert statuses(events) == {Status.DELIVERED: 24}
    assert flow.sender.peaks["all"] == 4
    with trio.fail_after(0):
        await flow.pacer.wait_idle()


async def test_one_client_holds_half_of_the_slots_whatever_its_endpoints_do(autojump_clock, nursery) -> None:
    """Four endpoints that take 10 s could hold eight; the other four slots are there for whoever comes."""
    flow = Flow(Settings(delivery=DeliverySettings(connections_max=8)))
    await flow.start(nursery)
    slow = [endpoint(f"e{number}", f"https://slow{number}.example/") for number in range(4)]
    flow.put("greedy", *slow)
    for one in slow:
        flow.sender.script(one.url, Slow(10.0, 200))
    events = flow.admit_many(5, "greedy")
    await now()
    flow.put("other", endpoint(url=HEALTHY))
    others = flow.admit_many(20, "other")
    await at(1)
    assert statuses(others) == {Status.DELIVERED: 20}
    assert sum(len(flow.sender.to(one.url)) for one in slow) == 4
    await at(60)
    assert statuses(events) == {Status.DELIVERED: 5}  # 20 deliveries, four at a time: each end lets another lane begin


@pytest.mark.parametrize("step", [Hang(), ValueError("bug"), Unreachable("refused"), 503])
async def test_slot_comes_back_however_the_attempt_ends(autojump_clock, nursery, step) -> None:
    """With one slot, another client's event is next whatever became of the first."""
    flow = Flow(Settings(delivery=DeliverySettings(connections_max=1, timeout_seconds=3.0)))
    await flow.start(nursery)
    flow.put("acme")
    flow.put("other", endpoint(url=HEALTHY))
    flow.sender.script(URL, step)
    flow.admit("acme")
    await now()
    event = flow.admit("other")
    await at(3)
    assert event.status is Status.DELIVERED


@pytest.mark.parametrize("has_more", [False, True])
async def test_slot_not_used_by_the_courier_it_was_offered_to_goes_to_the_next(
    autojump_clock, nursery, has_more
) -> None:
    """Deliveries ended while they waited for a slot do not swallow the wake-up of the client behind them."""
    flow = Flow(Settings(delivery=DeliverySettings(connections_max=1)))
    await flow.start(nursery)
    held = Held()
    ended = ("ended1", "ended2")
    later = endpoint("later", HEALTHY, event_types=("other",))
    for client_id in ("first", *ended, "last"):
        flow.put(client_id, endpoint(url=f"https://{client_id}.example/"), *([later] if has_more else []))
    flow.sender.script("https://first.example/", held)
    flow.sender.script(HEALTHY, 503)
    for client_id in ended if has_more else ():  # a retry far off keeps their couriers
        flow.admit(client_id, type="other")
        await now()
    for client_id in ("first", *ended):
        flow.admit(client_id)
        await now()
    event = flow.admit("last")
    await now()
    for client_id in ended:
        if has_more:
            flow.put(client_id, later, end_unsettled=True)
        else:
            flow.registration.remove(client_id, end_unsettled=True)
    held.release(503)  # its courier stays, too, for the retry
    await now()
    assert event.deliveries[0].status is Status.DELIVERED


async def test_unexpected_exception_is_that_attempts_invalid_and_no_others(autojump_clock, nursery) -> None:
    """A bug that a receiver provokes ends its attempt, with a traceback in the log; all else goes on."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", HEALTHY))
    flow.sender.script(URL, ValueError("a bug of ours"), 200)
    first, second = flow.admit_many(2)
    await now()
    outcomes = {event.deliveries[0].attempts[0].outcome for event in (first, second)}
    assert Responded(200) in outcomes
    [invalid] = [outcome for outcome in outcomes if isinstance(outcome, Invalid)]
    assert "ValueError" in invalid.error
    assert "a bug of ours" not in invalid.error
    assert all(event.deliveries[1].status is Status.DELIVERED for event in (first, second))
    [line] = flow.log.of("attempt.crashed")
    assert (line["level"], line["client_id"], line["endpoint_id"]) == ("error", "acme", "a")
    assert "Traceback" in line["traceback"]
    assert "a bug of ours" in line["traceback"]
    assert flow.dispatch.crashed_couriers == 0
    await at(5)
    assert first.status is second.status is Status.DELIVERED


async def test_courier_crashing_before_it_begins_is_restarted_and_delivers(autojump_clock, nursery) -> None:
    """A crash is contained, counted, logged with its traceback; a second later the client's events go out."""
    clock = VirtualClock()
    flow = Flow(clock=clock)
    await flow.start(nursery)
    flow.put("acme")
    flow.put("other", endpoint(url=HEALTHY))
    event = flow.admit("acme", "e1")
    clock.fail_once()  # the courier is the next to read it
    await now()
    assert flow.dispatch.crashed_couriers == 1
    [line] = flow.log.of("courier.crashed")
    assert (line["level"], line["client_id"]) == ("error", "acme")
    assert "the clock cannot be read" in line["traceback"]
    other = flow.admit("other", "e2")
    await now()
    assert flow.sender.times("e2") == [0]
    assert other.status is Status.DELIVERED
    await at(1)
    assert flow.sender.times("e1") == [1]
    assert standing(event) == (Status.DELIVERED, None, 1)
    assert flow.balanced()


async def test_courier_crashing_in_an_attempts_end_is_restarted_and_delivers(autojump_clock, nursery) -> None:
    """The attempt that crashed is used up, without outcome, and made again after a second; its siblings go on."""
    clock = VirtualClock()
    flow = Flow(clock=clock)
    await flow.start(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", HUNG))
    flow.put("other", endpoint(url=HEALTHY))
    flow.sender.script(URL, Calling(clock.fail_once, 503), 200)
    flow.sender.script(HUNG, Slow(0.5, 200))
    flow.sender.script(HEALTHY, Slow(0.5, 200))
    other = flow.admit("other", "e2")
    await now()
    event = flow.admit("acme", "e1")
    await now()
    assert flow.dispatch.crashed_couriers == 1
    assert class_of(event.deliveries[0]) == "outcome_unknown"
    await at(0.5)
    assert event.deliveries[1].status is Status.DELIVERED
    later = flow.admit("acme", "e3")  # nothing begins while it rests
    await at(1)
    assert flow.dispatch.crashed_couriers == 1
    assert (flow.sender.times("e1"), flow.sender.times("e3")) == ([0, 0, 1], [1, 1])
    assert event.status is Status.DELIVERED
    assert [delivery.attempt_count for delivery in event.deliveries] == [2, 1]
    assert [delivery.attempts[0].outcome for delivery in event.deliveries] == [None, Responded(200)]
    await at(2)
    assert later.status is Status.DELIVERED
    assert other.status is Status.DELIVERED
    assert flow.sender.times("e2") == [0]
    assert flow.ledger.in_flight == 0
    assert flow.ledger.ensure_health("acme", "a").in_flight == 0
    assert flow.balanced()
    with trio.fail_after(0):
        await flow.pacer.wait_idle()


async def test_courier_crashing_after_an_attempts_end_attempts_again(autojump_clock, nursery) -> None:
    """The attempt is recorded by then, and its delivery is not in its lane yet: it must not wait for nobody."""
    clock = VirtualClock()
    flow = Flow(clock=clock)
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Calling(lambda: clock.call_once(clock.fail_once), 503), 200)
    event = flow.admit(event_id="e1")
    await at(1)
    assert flow.dispatch.crashed_couriers == 1
    assert flow.sender.times("e1") == [0, 1]
    assert standing(event) == (Status.DELIVERED, None, 2)
    assert [attempt.outcome for attempt in only(event).attempts] == [Responded(503), Responded(200)]
    assert flow.balanced()


async def test_courier_crashing_at_the_last_attempt_gives_it_up(autojump_clock, nursery) -> None:
    """A crash uses the attempt up: where none is left the delivery is exhausted, not attempted for ever."""
    clock = VirtualClock()
    flow = Flow(Settings(retry=RetrySettings(schedule_seconds=())), clock=clock)
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Calling(clock.fail_once, 503))
    event = flow.admit()
    await at(10)
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, 1)
    assert len(flow.sender.transcript) == 1
    assert flow.balanced()


async def test_courier_crashing_while_its_endpoint_is_removed_settles_what_flew(autojump_clock, nursery) -> None:
    """What flew to a removed endpoint and crashed in its end is given up, not left waiting for nobody."""
    clock = VirtualClock()
    flow = Flow(clock=clock)
    await flow.start(nursery)
    held = Held()
    flow.put("acme", endpoint("a", URL), endpoint("b", HEALTHY))
    flow.sender.script(URL, held)
    event = flow.admit()
    await now()
    flow.put("acme", endpoint("b", HEALTHY), end_unsettled=True)
    await now()
    clock.fail_once()
    held.release(503)
    await at(2)
    assert flow.dispatch.crashed_couriers == 1
    removed, kept = event.deliveries
    assert (removed.status, removed.reason) == (Status.EXHAUSTED, Reason.ENDPOINT_REMOVED)
    assert kept.status is Status.DELIVERED
    assert flow.balanced()


async def test_courier_rests_even_where_its_work_ends_meanwhile(autojump_clock, nursery) -> None:
    """What comes in within the second waits for its end, whoever wakes the courier: it is the same one."""
    clock = VirtualClock()
    flow = Flow(clock=clock)
    await flow.start(nursery)
    crashing, good = Held(), Held()
    flow.put("acme", endpoint("a", URL), endpoint("b", HEALTHY))
    flow.sender.script(URL, crashing)
    flow.sender.script(HEALTHY, good)
    flow.admit()
    await now()
    flow.put("acme", endpoint("b", HEALTHY), end_unsettled=True)
    await now()
    clock.fail_once()
    crashing.release(503)
    await now()
    good.release(200)
    await now()
    assert flow.dispatch.crashed_couriers == 1
    event = flow.admit()
    flow.dispatch.wake("acme")
    await at(0.9)
    assert len(flow.sender.to(HEALTHY)) == 1
    await at(2)
    assert event.status is Status.DELIVERED
    assert [sent.at for sent in flow.sender.to(HEALTHY)] == [0, 1]
    await at(3)
    assert flow.dispatch.couriers() == []


async def test_dispatch_crashing_propagates(autojump_clock) -> None:
    """Dispatch's own crash is not contained: it ends whoever runs it."""

    def no_courier(client_id: str, keeper: object) -> None:
        raise RuntimeError("no courier can be made")

    flow = Flow(new_courier=no_courier)
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="no courier"), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await flow.start(nursery)
            flow.put()
            flow.admit()
            await trio.sleep_forever()


async def test_endpoint_answering_410_is_disabled_and_waiting_ones_are_gone(autojump_clock, nursery) -> None:
    """410: its delivery, what waits and what comes are exhausted as `gone`, the latter with no attempt."""
    flow = Flow(Settings(delivery=DeliverySettings(concurrency=1)))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503, 410)
    failed, answered, waiting = flow.admit_many(3)
    await now()
    assert standing(failed) == (Status.EXHAUSTED, Reason.GONE, 1)
    assert standing(answered) == (Status.EXHAUSTED, Reason.GONE, 1)
    assert standing(waiting) == (Status.EXHAUSTED, Reason.GONE, 0)
    await at(7)
    later = flow.admit()
    assert standing(later) == (Status.EXHAUSTED, Reason.GONE, 0)
    await at(3600)
    assert len(flow.sender.transcript) == 2
    health = flow.ledger.ensure_health("acme", "default")
    assert (health.disabled, health.since) == (True, 0.0)
    assert flow.balanced()


async def test_attempt_in_flight_beside_a_410_runs_out(autojump_clock, nursery) -> None:
    """What flies when the endpoint becomes disabled still counts: 2xx is delivered, a failure is `gone`."""
    flow = Flow()
    await flow.start(nursery)
    good, bad = Held(), Held()
    flow.put()
    flow.sender.script(URL, 200, 200, good, bad, 410)
    flow.admit_many(2)  # two successes open the window for three
    await now()
    events = flow.admit_many(3)
    await now()
    assert statuses(events) == {Status.PENDING: 2, Status.EXHAUSTED: 1}
    good.release(200)
    bad.release(503)
    await now()
    assert statuses(events) == {Status.DELIVERED: 1, Status.EXHAUSTED: 2}
    assert {event.deliveries[0].reason for event in events} == {None, Reason.GONE}


async def test_unused_endpoint_leaves_no_task_behind(autojump_clock, nursery) -> None:
    """A courier lives while its client has work; the tasks that made the attempts end after an attempt's time."""
    flow = Flow(Settings(delivery=DeliverySettings(timeout_seconds=3.0)))
    await flow.start(nursery)
    await now()
    before = len(nursery.child_tasks), trio.lowlevel.current_statistics().tasks_living
    for number in range(50):
        flow.put(f"c{number}", endpoint(url=f"https://c{number}.example/"))
        flow.admit(f"c{number}")
    await now()
    assert flow.dispatch.couriers() == []
    assert trio.lowlevel.current_statistics().tasks_living < before[1] + 50  # as many as flew at once
    await at(3.1)
    assert (len(nursery.child_tasks), trio.lowlevel.current_statistics().tasks_living) == before


async def test_waiting_retries_hold_no_tasks(autojump_clock, nursery) -> None:
    """A thousand deliveries that wait for their retry are rows, and the timer has one entry for them all."""
    flow = Flow(Settings(delivery=DeliverySettings(timeout_seconds=3.0)))
    await flow.start(nursery)
    await now()
    before = trio.lowlevel.current_statistics().tasks_living
    flow.put()
    flow.sender.script(URL, 503)
    flow.intake.admit_whole([submission() for _ in range(1000)])
    await at(3.1)
    assert len(flow.sender.transcript) == 1000
    assert trio.lowlevel.current_statistics().tasks_living == before


def test_endpoint_repr_shows_no_secret() -> None:
    """Requests to an endpoint are logged around; what prints it prints no secret."""
    assert "whsec_" not in repr(Endpoint(id="a", url=f"{URL}?token=t", secret="whsec_abc"))
