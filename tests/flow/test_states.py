"""Endpoints that ask to be spared, are dead, or are held by an operator: what that does to their deliveries."""

import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
import trio
from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.health import PausedBy, State
from hookd.core.outcome import Blocked, Invalid, Outcome, Responded, TimedOut, Unreachable
from hookd.core.retry import Reason
from hookd.core.settings import DeliverySettings, IntakeSettings, RetrySettings, Settings
from hookd.core.timestamps import rfc3339
from hookd.edge.api import create_app
from hookd.edge.api.rendering import delivery_view, status_view
from hookd.edge.api.schemas import EndpointStatesView
from hookd.flow.housekeeping import ROWS_AT_ONCE

from tests.flow.harness import (
    EPOCH,
    URL,
    Flow,
    Hang,
    Held,
    Later,
    Slow,
    at,
    endpoint,
    now,
    only,
    standing,
    statuses,
    submission,
)

OTHER = "https://other.example/hook"
# Nine retries 3.5 s apart: the tenth attempt, at 31.5 s, is the one that pauses the endpoint.
PAUSED_AT = 31.5
DYING = (3.5,) * 9 + (60.0,) * 10


def next_attempt_at(flow: Flow, event: Event) -> str | None:
    view = delivery_view(flow.services(), event, only(event), flow.clock.now())
    return view.next_attempt_at


def shown(seconds: float) -> str:
    return rfc3339(EPOCH + seconds)


def state(flow: Flow, client_id: str = "acme") -> State:
    return flow.ledger.ensure_health(client_id, "default").state(trio.current_time())


async def started(nursery: trio.Nursery, settings: Settings | None = None, **fields: Any) -> Flow:
    flow = Flow(settings, **fields)
    await flow.start(nursery)
    flow.put()
    return flow


async def paused(nursery: trio.Nursery, *steps: Any) -> tuple[Flow, Event]:
    """An endpoint paused by ten refusals of one event; then these steps, the last for ever (default: more of it)."""
    flow = await started(nursery, Settings(retry=RetrySettings(schedule_seconds=DYING, jitter=0.0)))
    flow.sender.script(URL, *[Unreachable("refused")] * 10, *(steps or (Unreachable("refused"),)))
    event = flow.admit(event_id="oldest")
    await at(PAUSED_AT)
    assert (state(flow), standing(event)[2]) == (State.PAUSED, 10)
    return flow, event


async def call(flow: Flow, action: str, endpoint_id: str = "default") -> dict[str, Any]:
    """An operator's hand on acme's endpoint, through the API; returns its health."""
    path = f"/v1/clients/acme/endpoints/{endpoint_id}/{action}"
    response = await create_app(flow.services()).test_client().post(path)
    assert response.status_code == 200
    return (await response.get_json())["endpoints"][0]["health"]


# Throttled, Retry-After


async def test_retry_after_holds_every_attempt_on_its_endpoint_and_on_no_other(autojump_clock, nursery) -> None:
    """New events, waiting ones and retries alike begin no earlier than asked; next_attempt_at says when."""
    flow = await started(nursery)
    flow.put("acme", endpoint("default"), endpoint("b", OTHER))
    flow.put("other", endpoint(url=OTHER))
    flow.sender.script(URL, Later(503, "60"), 200)
    flow.admit(event_id="e1")
    await at(1)
    flow.admit(event_id="e2")
    neighbour = flow.admit("other", "e3")
    await at(10)
    late = flow.admit(event_id="e4")
    await now()
    view = delivery_view(flow.services(), late, late.deliveries[0], flow.clock.now())
    assert view.next_attempt_at == shown(66)  # jitter of a half: a tenth over what was asked
    assert state(flow) is State.THROTTLED
    assert neighbour.status is Status.DELIVERED
    assert [sent.at for sent in flow.sender.to(OTHER)] == [0, 1, 1, 10]
    await at(65.9)
    assert [sent.at for sent in flow.sender.to(URL)] == [0]
    await at(70)
    assert [sent.at for sent in flow.sender.to(URL)] == [0, 66, 66, 66]
    assert late.status is Status.DELIVERED
    assert state(flow) is State.OK


@pytest.mark.parametrize(("jitter_unit", "begun_at"), [(0.0, 60), (1.0, 72)])
async def test_retry_after_has_jitter_upward_only(autojump_clock, nursery, jitter_unit, begun_at) -> None:
    """From what was asked to a fifth more."""
    flow = await started(nursery, jitter_unit=lambda: jitter_unit)
    flow.sender.script(URL, Later(429, "60"), 200)
    flow.admit(event_id="e1")
    await at(100)
    assert flow.sender.times("e1") == [0, begun_at]


async def test_throttled_endpoint_waits_for_its_schedule_alone(autojump_clock, nursery) -> None:
    """Without Retry-After 429 imposes no wait: a new event begins at once; the state lasts until a 2xx."""
    flow = await started(nursery)
    flow.sender.script(URL, 429, 429, 200)
    flow.admit(event_id="e1")
    await at(1)
    assert state(flow) is State.THROTTLED
    flow.admit(event_id="e2")
    await at(4)
    assert state(flow) is State.THROTTLED
    assert flow.sender.times("e2") == [1]
    await at(5)
    assert state(flow) is State.OK


async def test_retry_does_not_go_over_retry_after(autojump_clock, nursery) -> None:
    """An operator's hurry is not the receiver's: it begins when the receiver said."""
    flow = await started(nursery)
    flow.sender.script(URL, Later(503, "60"), 200)
    event = flow.admit(event_id="e1")
    await at(1)
    assert flow.retry_now.retry(event)
    await at(65)
    assert flow.sender.times("e1") == [0]
    await at(66)
    assert flow.sender.times("e1") == [0, 66]


# Paused by failures


async def test_paused_endpoint_attempts_nothing_but_probes_of_its_oldest(autojump_clock, nursery) -> None:
    """Waiting deliveries use up no attempt and show the next probe; each probe is the oldest delivery's attempt."""
    flow, oldest = await paused(nursery)
    waiting = flow.admit_many(50)
    await now()
    assert next_attempt_at(flow, oldest) == shown(36.5)
    assert {next_attempt_at(flow, event) for event in waiting} == {shown(36.5)}
    await at(250)
    assert flow.sender.times("oldest")[10:] == [36.5, 46.5, 66.5, 106.5, 166.5, 226.5]
    assert only(oldest).attempt_count == 16
    assert {standing(event) for event in waiting} == {(Status.PENDING, None, 0)}
    assert len(flow.sender.transcript) == 16
    assert {next_attempt_at(flow, event) for event in (oldest, *waiting)} == {shown(286.5)}
    assert flow.balanced()


async def test_probe_in_flight_is_the_only_one(autojump_clock, nursery) -> None:
    """However long it takes, nothing else begins; the next wait counts from its end."""
    flow, oldest = await paused(nursery, Hang())
    flow.admit_many(20)
    await at(51)
    assert (flow.sender.flying, next_attempt_at(flow, oldest)) == (1, None)
    await at(61.4)
    assert len(flow.sender.transcript) == 11
    await at(61.5)  # 15 s for the probe that hung, 10 s more
    assert len(flow.sender.transcript) == 12
    assert flow.sender.peaks[URL] == 1


@pytest.mark.parametrize("outcome", [Blocked("10.0.0.1"), Invalid("not HTTP"), TimedOut(1.0), Responded(500)])
async def test_probe_that_gets_no_answer_below_500_is_followed_by_the_next_in_its_time(
    autojump_clock, nursery, outcome: Outcome
) -> None:
    """Still paused, and no attempt is burnt in between."""
    flow, _ = await paused(nursery, outcome)
    await at(50)
    assert flow.sender.times("oldest")[10:] == [36.5, 46.5]
    assert state(flow) is State.PAUSED


async def test_probe_by_a_schedule_that_is_used_up_takes_nothing_from_it(autojump_clock, nursery) -> None:
    """However many attempts it has had: a probe never exhausts its delivery, and no other is probed in its place."""
    flow, oldest = await paused(nursery)
    flow.put("acme", endpoint(schedule_seconds=(1.0,) * 11))
    second = flow.admit(event_id="second")
    flow.admit(event_id="third")
    await at(70)
    assert standing(oldest) == (Status.FAILED, None, 13)
    assert flow.sender.times("second") == []
    assert flow.sender.times("third") == []
    assert standing(second) == (Status.PENDING, None, 0)


async def test_recovery_resumes_with_a_window_of_one_and_grows(autojump_clock, nursery) -> None:
    """After the probe's answer one at a time, then two, three, up to the concurrency."""
    flow, oldest = await paused(nursery, 200, Slow(1.0, 200))
    events = [oldest, *flow.admit_many(60)]
    await at(120)
    assert statuses(events) == {Status.DELIVERED: 61}
    begun = [sent.at for sent in flow.sender.transcript[11:]]
    assert in_flight_at_begin(begun, seconds=1.0, most=8)
    assert begun[:6] == [36.5, 37.5, 37.5, 38.5, 38.5, 38.5]
    assert flow.sender.peaks[URL] == 8
    assert [line["event"] for line in flow.log.lines if line["event"].startswith("endpoint.")] == [
        "endpoint.failing",
        "endpoint.paused",
        "endpoint.ok",
    ]


def in_flight_at_begin(begun: list[float], *, seconds: float, most: int) -> bool:
    """Whether at each begin no more fly (each for so long) than a window allows that grew from 1 by windowfuls."""
    for index, began in enumerate(begun):
        ended = sum(other + seconds <= began + 1e-6 for other in begun)
        window, needed = 1, 1
        while needed <= ended and window < most:
            window += 1
            needed += window
        if index + 1 - ended > window:
            return False
    return True


# Retry now


async def test_retry_over_a_pause_by_failures_begins_at_once(autojump_clock, nursery) -> None:
    """The operator knows something; only that delivery, and as a probe: its success ends the pause."""
    flow, oldest = await paused(nursery, 503, 200)
    second, third = flow.admit(event_id="second"), flow.admit(event_id="third")
    await at(33)
    assert flow.retry_now.retry(second)
    await at(34)
    assert flow.sender.times("second") == [33]
    assert (flow.sender.times("third"), state(flow)) == ([], State.PAUSED)
    assert flow.retry_now.retry(third)
    await now()
    assert flow.sender.times("third") == [34]
    assert third.status is Status.DELIVERED
    await at(100)
    assert statuses([oldest, second, third]) == {Status.DELIVERED: 3}


async def test_retry_over_a_pause_does_not_go_over_retry_after(autojump_clock, nursery) -> None:
    """Paused, and asked to wait as well: the receiver's time holds, for probes and for operators."""
    flow, _ = await paused(nursery, Later(503, "300"), 200)
    second = flow.admit(event_id="second")
    await at(40)
    assert flow.retry_now.retry(second)
    await at(366)
    assert len(flow.sender.transcript) == 11
    await at(367)
    assert flow.sender.times("second") == [366.5]


async def test_retries_over_and_over_take_no_room(autojump_clock, nursery) -> None:
    """Where a Retry-After holds a paused endpoint, each retry would be one more row."""
    flow, oldest = await paused(nursery, Later(503, "300"), 200)
    second = flow.admit(event_id="second")
    await at(40)
    flow.retry_now.retry(oldest)
    flow.retry_now.retry(second)
    await now()
    tracemalloc.start()
    for _ in range(2000):
        assert flow.retry_now.retry(second)
        assert flow.retry_now.retry(oldest)
    grown_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown_bytes < 10_000
    await at(500)
    assert statuses([oldest, second]) == {Status.DELIVERED: 2}
    assert len(flow.sender.to(URL)) == 13
    assert flow.balanced()


async def test_retry_does_not_go_over_an_operators_pause(autojump_clock, nursery) -> None:
    """It begins when the endpoint is resumed."""
    flow = await started(nursery)
    flow.sender.script(URL, 500, 200)
    event = flow.admit(event_id="e1")
    await at(1)
    await call(flow, "pause")
    flow.retry_now.retry(event)
    await at(60)
    assert flow.sender.times("e1") == [0]
    await call(flow, "resume")
    await now()
    assert flow.sender.times("e1") == [0, 60]


# An operator's pause, through the API


async def test_operators_pause_holds_everything_until_resume(autojump_clock, nursery) -> None:
    """No attempt, no probe, no expiry; what is in flight finishes; after resume all goes out."""
    flow = await started(nursery, Settings(retry=RetrySettings(age_seconds_max=100.0)))
    held = Held()
    flow.sender.script(URL, held, 200)
    first = flow.admit()
    await now()
    health = await call(flow, "pause")
    assert (health["state"], health["paused_by"], health["next_probe_at"]) == ("paused", "operator", None)
    held.release(200)
    events = flow.admit_many(10)
    await at(50)
    assert first.status is Status.DELIVERED
    assert {next_attempt_at(flow, event) for event in events} == {None}
    await at(99)
    assert len(flow.sender.transcript) == 1
    assert (await call(flow, "resume"))["state"] == "ok"
    await now()
    assert statuses(events) == {Status.DELIVERED: 10}


async def test_operators_pause_keeps_what_is_older_than_age_max(autojump_clock, nursery) -> None:
    """Nothing expires while an operator holds it; elsewhere it does."""
    flow = await started(nursery, Settings(retry=RetrySettings(age_seconds_max=100.0)))
    flow.put("acme", endpoint("default"), endpoint("b", OTHER))
    flow.sender.script(OTHER, 500)
    await call(flow, "pause")
    event = flow.admit()
    await at(1000)
    held, expired = event.deliveries
    assert (held.status, held.attempt_count) == (Status.PENDING, 0)
    assert (expired.status, expired.reason) == (Status.EXHAUSTED, Reason.EXPIRED)


async def test_time_paused_by_an_operator_is_no_age(autojump_clock, nursery) -> None:
    """What was held past age_max is attempted when resumed, and expires when its age without the pause has passed."""
    flow = await started(nursery, Settings(retry=RetrySettings(age_seconds_max=100.0)))
    flow.sender.script(URL, 500)
    early = flow.admit()
    await at(50)
    await call(flow, "pause")
    await at(60)
    await call(flow, "pause")  # again: it is paused since 50
    in_the_pause = flow.admit()
    await at(1000)
    await call(flow, "resume")
    await at(1049)
    assert [event.status for event in (early, in_the_pause)] == [Status.FAILED, Status.FAILED]
    await at(1052)
    assert [event.deliveries[0].reason for event in (early, in_the_pause)] == [Reason.EXPIRED, None]
    await at(1102)
    assert in_the_pause.deliveries[0].reason is Reason.EXPIRED
    assert [line["paused_by"] for line in flow.log.of("endpoint.paused")] == ["operator"]  # once for each change
    assert len(flow.log.of("endpoint.resumed")) == 1


async def test_what_an_operator_holds_does_not_keep_others_from_expiring(autojump_clock, nursery) -> None:
    """Thousands held in front of them, more than are looked at in one go."""
    retry = RetrySettings(age_seconds_max=100.0, schedule_seconds=(1000.0,))
    flow = await started(nursery, Settings(retry=retry))
    flow.put("held")
    flow.registration.pause("held", "default")
    held = flow.admit_many(3 * ROWS_AT_ONCE, client_id="held")
    flow.sender.script(URL, 500)
    behind = flow.admit_many(2 * ROWS_AT_ONCE)
    await at(102)
    assert {event.deliveries[0].reason for event in behind} == {Reason.EXPIRED}
    assert statuses(held) == {Status.PENDING: len(held)}


async def test_resume_ends_a_pause_by_failures_at_once(autojump_clock, nursery) -> None:
    """The operator need not wait for the next probe."""
    flow, oldest = await paused(nursery, 200)
    waiting = flow.admit_many(5)
    await at(33)
    assert (await call(flow, "resume"))["concurrency_now"] == 1
    await now()
    assert statuses(waiting) == {Status.DELIVERED: 5}
    await at(35)  # its own retry was due at 91.5; a pause that is over leaves due times as they were
    assert oldest.status is Status.FAILED
    await at(92)
    assert oldest.status is Status.DELIVERED


async def test_resume_enables_an_endpoint_that_answered_410(autojump_clock, nursery) -> None:
    """Disabled until then, through the same route."""
    flow = await started(nursery)
    flow.sender.script(URL, 410, 200)
    flow.admit()
    await now()
    assert state(flow) is State.DISABLED
    assert (await call(flow, "resume"))["state"] == "ok"
    event = flow.admit()
    await now()
    assert event.status is Status.DELIVERED


# Another URL


async def test_put_of_another_url_starts_anew(autojump_clock, nursery) -> None:
    """Neither pause nor Retry-After nor window of the old one holds: what waits goes there at once."""
    flow, oldest = await paused(nursery, Later(503, "3600"))
    waiting = flow.admit_many(5)
    flow.sender.script(OTHER, Slow(1.0, 200))
    await at(40)
    flow.put("acme", endpoint(url=OTHER))
    await now()
    assert state(flow) is State.OK
    assert [sent.at for sent in flow.sender.to(OTHER)] == [40, 40]
    await at(43)
    assert statuses(waiting) == {Status.DELIVERED: 5}
    await at(200)
    assert oldest.status is Status.DELIVERED


async def test_answer_of_the_old_url_says_nothing_of_the_new_one(autojump_clock, nursery) -> None:
    """What flew when the URL changed ends with its own delivery, and holds nothing back at the new address."""
    flow = await started(nursery)
    held = Held()
    flow.sender.script(URL, held)
    event = flow.admit()
    await now()
    flow.put("acme", endpoint(url=OTHER))
    held.release(503)
    await now()
    assert standing(event) == (Status.FAILED, None, 1)
    assert state(flow) is State.OK
    assert flow.ledger.ensure_health("acme", "default").window == 2


# The dead endpoint with a backlog


def backlogged() -> Settings:
    return Settings(
        intake=IntakeSettings(client_events_max=20_000, client_bytes_max=2**30),
        retry=RetrySettings(jitter=0.0),
    )


def admit_backlog(flow: Flow, number: int) -> list[Event]:
    results = flow.intake.admit_whole([submission() for _ in range(number)])
    return [result.event for result in results]


async def test_dead_endpoint_costs_one_attempt_a_probe_and_its_events_expire(autojump_clock, nursery) -> None:
    """20,000 events, an hour: ten attempts to see that it is dead, then the probes; the rest expires at age_max."""
    flow = await started(nursery, backlogged())
    flow.put("other", endpoint(url=OTHER))
    flow.sender.script(URL, Slow(3.5, 503))
    events = admit_backlog(flow, 20_000)
    neighbour = flow.admit("other")
    await at(3599)
    assert neighbour.status is Status.DELIVERED
    times = [sent.at for sent in flow.sender.to(URL)]
    assert state(flow) is State.PAUSED
    before = [began for began in times if began < 35.5]
    probes = times[len(before) :]
    assert len(before) <= 12  # two at once until the first answers
    waits = [after - began - 3.5 for began, after in pairwise(probes)]
    assert waits[:4] == [10, 20, 40, 60]
    assert set(waits[4:]) == {60}
    assert sum(only(event).attempt_count for event in events) == len(times) < 75
    assert set(statuses(events)) == {Status.FAILED, Status.PENDING}  # a probe takes nothing from the schedule
    await at(3700)
    assert statuses(events) == {Status.EXHAUSTED: 20_000}
    assert {only(event).reason for event in events} == {Reason.EXPIRED}
    settled_at = [event.settled_at or 0.0 for event in events]
    assert min(settled_at) >= EPOCH + 3600
    assert max(settled_at) <= EPOCH + 3602  # 10,000 a second
    assert flow.ledger.totals().unsettled_events == 0


async def test_dead_endpoint_that_recovers_gets_the_rest_without_a_stampede(autojump_clock, nursery) -> None:
    """Back before they expire: at each begin no more fly than the window that grew from 1 allows, at most 8."""
    flow = await started(nursery, backlogged())
    flow.sender.script(URL, *[Slow(3.5, 503)] * 14, Slow(0.1, 200))
    events = admit_backlog(flow, 5000)
    await at(1500)
    assert statuses(events) == {Status.DELIVERED: 5000}
    begun = [sent.at for sent in flow.sender.to(URL)][14:]
    assert begun[1] - begun[0] == pytest.approx(0.1)  # the probe alone
    assert in_flight_at_begin(begun[1:300], seconds=0.1, most=8)
    assert flow.sender.peaks[URL] == 8
    assert begun[-1] - begun[0] < 5000 * 0.1 / 8 + 60


# Drain, overdue


async def test_drain_does_not_wait_for_a_paused_endpoint(autojump_clock, nursery) -> None:
    """Neither for the next probe, which is due before the deadline, nor for what an operator holds."""
    flow, oldest = await paused(nursery)
    flow.put("held", endpoint(url=OTHER))
    flow.registration.pause("held", "default")
    flow.admit("held")
    await at(32)
    assert await flow.drain(timeout_seconds=20.0) == 0
    assert oldest.status is Status.FAILED


async def test_drain_does_not_wait_for_a_retry_after_past_the_deadline(autojump_clock, nursery) -> None:
    """Nothing may start before: nothing is waited for."""
    flow = await started(nursery)
    flow.sender.script(URL, Later(503, "60"))
    flow.admit()
    await at(1)
    assert await flow.drain(timeout_seconds=20.0) == 0


async def test_oldest_overdue_ignores_what_an_endpoints_state_holds_back(autojump_clock, nursery) -> None:
    """Paused by either, and throttled: theirs. Behind a window that is full: ours to answer for."""
    flow, _ = await paused(nursery)
    flow.admit_many(5)
    flow.put("held", endpoint(url=f"{OTHER}/held"))
    flow.registration.pause("held", "default")
    flow.put("throttled", endpoint(url=f"{OTHER}/throttled"))
    flow.sender.script(f"{OTHER}/throttled", Later(503, "300"))
    for client_id in ("held", "throttled", "throttled"):
        flow.admit(client_id)
    await at(100)
    assert flow.ledger.ensure_health("held", "default").paused_by is PausedBy.OPERATOR
    view = status_view(flow.services(), await flow.gauge_collector.take())
    assert view.oldest_overdue_seconds is None
    assert view.endpoints == EndpointStatesView(ok=0, throttled=1, paused=2, disabled=0)
    flow.set(delivery=DeliverySettings(timeout_seconds=1000.0))
    flow.put("busy", endpoint(url=f"{OTHER}/busy", concurrency=1))
    flow.sender.script(f"{OTHER}/busy", Hang())
    for _ in range(2):
        flow.admit("busy")
    await at(107)
    assert status_view(flow.services(), await flow.gauge_collector.take()).oldest_overdue_seconds == 7
