"""What a delivery is granted: attempts by the schedule in force, and age by its endpoint's clock."""

import msgspec
import pytest
from hookd.core.client import Client
from hookd.core.delivery import Status
from hookd.core.health import State
from hookd.core.outcome import Unreachable
from hookd.core.retry import Reason
from hookd.core.settings import RetrySettings, Settings
from hookd.core.timestamps import rfc3339
from hookd.edge.api.rendering import delivery_view
from hookd.flow.housekeeping import TICK_SECONDS
from hookd.flow.replay import Replayed, Wanted
from hookd.process.reloading import Reloading

from tests.flow.harness import (
    EPOCH,
    SECRET,
    URL,
    Flow,
    Held,
    Later,
    Slow,
    at,
    endpoint,
    now,
    only,
    standing,
)

OTHER = "https://acme.example/other"
NEW = "https://acme.example/new"
HOUR = 3600.0
PLAIN = RetrySettings(jitter=0.0)
REFUSED = Unreachable("refused")


async def started(nursery, *, retry: RetrySettings = PLAIN, jitter_unit: float = 0.5) -> Flow:
    flow = Flow(Settings(retry=retry), jitter_unit=lambda: jitter_unit)
    await flow.start(nursery)
    flow.put()
    return flow


def reload_schedule(flow: Flow, *entries: float) -> None:
    flow.set(retry=msgspec.structs.replace(flow.effective.settings.retry, schedule_seconds=entries))


def shown(seconds: float) -> str:
    return rfc3339(EPOCH + seconds)


def promised(flow: Flow, event):
    """The next attempt and the expiry as they are shown."""
    view = delivery_view(flow.services(), event, only(event), flow.clock.now())
    return view.next_attempt_at, view.expires_at


# Retry-After


@pytest.mark.parametrize("asked", ["3600", "60000", "1800000000", "Fri, 15 Jan 2027 20:00:00 GMT"])
@pytest.mark.parametrize(("status_code", "jitter_unit"), [(503, 0.0), (503, 1.0), (429, 1.0)])
async def test_retry_after_of_an_hour_and_more_expires_nothing(
    autojump_clock, nursery, asked, status_code, jitter_unit
) -> None:
    """All that waits is attempted after an hour, never later, though `retry.age_max` is an hour."""
    flow = await started(nursery, jitter_unit=jitter_unit)
    flow.sender.script(URL, Later(status_code, asked), 200)
    events = flow.admit_many(10)
    await at(HOUR / 2)
    late = flow.admit()
    waiting = [event for event in (*events, late) if only(event).status is not Status.DELIVERED]
    for event in waiting:
        next_attempt_at, expires_at = promised(flow, event)
        assert next_attempt_at is not None
        assert next_attempt_at < expires_at
        assert next_attempt_at == shown(HOUR)
    await at(HOUR - 0.001)
    assert len(flow.sender.transcript) == 2  # the first two went out together
    await at(HOUR + 60)
    assert {event.status for event in (*events, late)} == {Status.DELIVERED}
    assert {sent.at for sent in flow.sender.transcript[2:]} == {HOUR}
    assert not flow.log.of("delivery.exhausted")


@pytest.mark.parametrize(("jitter_unit", "held_until"), [(0.0, 2900.0), (0.5, 3190.0), (1.0, 3480.0)])
async def test_hold_is_jittered_upward_within_the_hour(autojump_clock, nursery, jitter_unit, held_until) -> None:
    """By a fifth at most; half an hour and 20 minutes asked for is an hour at most."""
    flow = await started(nursery, jitter_unit=jitter_unit)
    flow.sender.script(URL, Later(503, "2900"), 200)
    flow.admit(event_id="e1")
    await at(HOUR + 1)
    assert flow.sender.times("e1") == [0, held_until]


async def test_retry_after_of_a_date_that_is_past_holds_nothing(autojump_clock, nursery) -> None:
    flow = await started(nursery)
    flow.sender.script(URL, Later(503, "Thu, 01 Jan 1970 00:00:00 GMT"), 200)
    flow.admit(event_id="e1")
    await at(6)
    assert flow.sender.times("e1") == [0, 5]


async def test_retry_goes_over_backoff_and_not_over_a_retry_after(autojump_clock, nursery) -> None:
    """What waits by its schedule, and what was never attempted, is due at the end of the hold, and not before."""
    retry = RetrySettings(jitter=0.0, schedule_seconds=(600.0,) * 5)
    flow = await started(nursery, retry=retry, jitter_unit=0.0)
    flow.put("acme", endpoint(concurrency=1))
    flow.sender.script(URL, Later(503, "100"), 200)
    first, second = flow.admit(event_id="e1"), flow.admit(event_id="e2")
    await at(10)
    assert flow.begins_at(first) == 600
    assert flow.retry_now.retry(first)
    assert not flow.retry_now.retry(first)  # due already, and held
    assert not flow.retry_now.retry(second)
    assert (flow.begins_at(first), flow.begins_at(second)) == (100, 100)
    await at(99.9)
    assert len(flow.sender.transcript) == 1
    await at(100)
    assert [(sent.event_id, sent.at) for sent in flow.sender.transcript[1:]] == [("e1", 100), ("e2", 100)]


@pytest.mark.parametrize("by", ["resume", "another URL"])
async def test_hold_of_a_retry_after_is_lifted(autojump_clock, nursery, by) -> None:
    flow = await started(nursery)
    flow.sender.script(URL, Later(429, "3600"), 200)
    event = flow.admit(event_id="e1")
    await at(100)
    if by == "resume":
        flow.registration.resume("acme", "default")
    else:
        flow.put("acme", endpoint(url=NEW))
    await at(101)
    assert event.status is Status.DELIVERED
    assert flow.sender.times("e1") == [0, 100]


async def test_retry_after_repeated_holds_the_age_each_time_and_only_then(autojump_clock, nursery) -> None:
    """Twenty minutes of age pass between three holds of an hour; the clock runs on where it stood."""
    flow = await started(nursery, retry=RetrySettings(jitter=0.0, schedule_seconds=(600.0,) * 40))
    flow.sender.script(URL, Later(503, "3600"), 500, 500, Later(503, "3600"), 500)
    event = flow.admit(event_id="e1")
    await at(HOUR + 1201)
    assert flow.sender.times("e1") == [0, 3600, 4200, 4800]
    assert flow.ledger.terms.age_seconds(event, only(event), now=8400.0) == 1200
    await at(2 * HOUR + 3000)
    assert event.status is Status.FAILED
    await at(1200 + 3 * HOUR + 2)
    assert standing(event)[1] is Reason.EXPIRED


async def test_throttled_time_of_one_endpoint_is_age_at_another(autojump_clock, nursery) -> None:
    flow = await started(nursery, retry=RetrySettings(schedule_seconds=(60.0,) * 50, age_seconds_max=600.0))
    flow.put("acme", endpoint("default"), endpoint("b", OTHER))
    flow.sender.script(URL, Later(503, "1000"), 200)
    flow.sender.script(OTHER, 500)
    event = flow.admit()
    await at(602)
    throttled, other = event.deliveries
    assert (other.status, other.reason) == (Status.EXHAUSTED, Reason.EXPIRED)
    await at(1102)
    assert throttled.status is Status.DELIVERED


async def test_nothing_is_promised_later_than_the_expiry(autojump_clock, nursery) -> None:
    """A backoff beyond the age: no next attempt is shown."""
    flow = await started(nursery, retry=RetrySettings(jitter=0.0, schedule_seconds=(700.0,), age_seconds_max=600.0))
    flow.sender.script(URL, 500)
    event = flow.admit()
    await at(1)
    next_attempt_at, expires_at = promised(flow, event)
    assert (next_attempt_at, expires_at is None) == (None, False)


# Probes


async def test_outage_costs_no_event_before_its_age(autojump_clock, nursery) -> None:
    """Twelve events at an endpoint that refuses: none is exhausted within the hour, then all expire."""
    flow = await started(nursery, retry=RetrySettings())
    flow.sender.script(URL, REFUSED)
    events = flow.admit_many(12)
    await at(HOUR - 1)
    assert {event.status for event in events} <= {Status.FAILED, Status.PENDING}
    probed = only(events[0])
    assert probed.probe_failures >= 50
    assert flow.attempts_max(events[0]) == 6 + probed.probe_failures
    await at(HOUR + 62)
    assert {standing(event)[1] for event in events} == {Reason.EXPIRED}


@pytest.mark.parametrize("entries", [0, 1, 50])
async def test_failed_probe_takes_nothing_from_any_schedule(autojump_clock, nursery, entries) -> None:
    flow = await started(nursery, retry=RetrySettings(jitter=0.0, schedule_seconds=(5.0,) * 10))
    flow.sender.script(URL, *[REFUSED] * 30, 500)
    event = flow.admit(event_id="e1")
    await at(50)
    assert flow.ledger.health("acme", "default").state(50) is State.PAUSED
    reload_schedule(flow, *(5.0,) * entries)
    await at(1000)
    delivery = only(event)
    assert delivery.status is Status.FAILED
    allowed = 1 + entries + delivery.probe_failures
    assert flow.attempts_max(event) == max(allowed, delivery.attempt_count + 1)


async def test_reopening_forgets_the_probes(autojump_clock, nursery) -> None:
    """A whole schedule, and no more."""
    flow = await started(nursery)
    flow.sender.script(URL, REFUSED)
    events = flow.admit_many(12)
    await at(HOUR + 62)
    delivery = only(events[0])
    count = delivery.attempt_count
    flow.sender.script(URL, 500)
    flow.registration.resume("acme", "default")
    assert flow.retry_now.retry(events[0])
    assert flow.attempts_max(events[0]) == count + 6
    await at(3 * HOUR)
    assert standing(events[0]) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, count + 6)
    assert flow.attempts_max(events[0]) == count + 6


# The schedule in force


async def test_reload_to_an_empty_schedule_grants_the_attempt_waited_for(autojump_clock, nursery) -> None:
    flow = await started(nursery)
    flow.sender.script(URL, 500)
    event = flow.admit(event_id="e1")
    await at(6)
    assert (standing(event), flow.attempts_max(event)) == ((Status.FAILED, None, 2), 6)
    reload_schedule(flow)
    assert flow.attempts_max(event) == 3
    await at(100)
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, 3)
    assert flow.sender.times("e1") == [0, 5, 35]


async def test_reload_to_a_longer_schedule_holds_for_what_waits(autojump_clock, nursery) -> None:
    flow = await started(nursery, retry=RetrySettings(jitter=0.0, schedule_seconds=(5.0, 5.0)))
    flow.sender.script(URL, 500)
    event = flow.admit()
    await at(1)
    reload_schedule(flow, *(5.0,) * 6)
    assert flow.attempts_max(event) == 7
    await at(100)
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, 7)


@pytest.mark.parametrize("how", ["put", "reload"])
@pytest.mark.parametrize(("before", "after", "attempts"), [(5, 0, 1), (0, 5, 6), (5, 2, 3), (0, 1, 2)])
async def test_schedule_changed_in_flight_holds_for_what_flies(
    autojump_clock, nursery, how, before, after, attempts
) -> None:
    flow = await started(nursery)
    if how == "put":
        flow.put("acme", endpoint(schedule_seconds=(1.0,) * before))
    else:
        reload_schedule(flow, *(1.0,) * before)
    held = Held()
    flow.sender.script(URL, held, 500)
    event = flow.admit()
    await now()
    if how == "put":
        flow.put("acme", endpoint(schedule_seconds=(1.0,) * after))
    else:
        reload_schedule(flow, *(1.0,) * after)
    held.release(500)
    await at(20)
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, attempts)
    assert flow.attempts_max(event) == attempts


async def test_schedule_put_away_and_back_is_the_same_again(autojump_clock, nursery) -> None:
    """A, [], A: attempts are derived, never added up."""
    flow = await started(nursery)
    flow.sender.script(URL, 500)
    event = flow.admit()
    await at(7)
    for schedule in (None, (), None, (), (1.0,) * 5):
        flow.put("acme", endpoint(schedule_seconds=schedule))
    assert flow.attempts_max(event) == 6


async def test_schedule_put_away_and_back_in_flight_grants_its_whole_length(autojump_clock, nursery) -> None:
    flow, held = await started(nursery), Held()
    flow.sender.script(URL, held, 500)
    event = flow.admit(event_id="e1")
    await now()
    for schedule in ((1.0,) * 5, (), (1.0,) * 5):
        flow.put("acme", endpoint(schedule_seconds=schedule))
    held.release(500)
    await at(60)
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, 6)
    assert flow.sender.times("e1") == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("is_in_flight", [False, True])
async def test_reload_that_gives_an_endpoint_its_old_schedule_changes_nothing(
    autojump_clock, nursery, is_in_flight
) -> None:
    """One SIGHUP shortens the global schedule and gives the endpoint the old one as its own."""

    def configured(entries: tuple[float, ...], own: tuple[float, ...] | None) -> Settings:
        client = Client(id="acme", endpoints=(endpoint(schedule_seconds=own),), managed_by_config=True)
        return Settings(retry=RetrySettings(jitter=0.0, schedule_seconds=entries), clients=(client,))

    def take(settings: Settings) -> None:
        Reloading(
            lambda: settings,
            started_at=EPOCH,
            effective=flow.effective,
            registration=flow.registration,
            rings=(flow.feed.ring,),
            clock=flow.clock,
            log=flow.log,
            choose_lines=lambda _: None,
        ).reload()

    flow, held = Flow(), Held()
    await flow.start(nursery)
    take(configured(PLAIN.schedule_seconds, None))
    flow.sender.script(URL, *[held] * is_in_flight, 500)
    event = flow.admit(event_id="e1")
    await at(4)
    take(configured((5.0,), PLAIN.schedule_seconds))
    assert flow.attempts_max(event) == 6
    held.release(500)
    await at(HOUR - 1)
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, 6)
    began = 4.0 if is_in_flight else 0.0
    assert flow.sender.times("e1") == [0, *(began + later for later in (5, 35, 155, 755, 2555))]
    assert flow.attempts_max(event) == 6


async def test_what_settled_shows_the_schedule_of_then(autojump_clock, nursery) -> None:
    flow = await started(nursery)
    event = flow.admit()
    await now()
    reload_schedule(flow)
    assert (standing(event)[0], flow.attempts_max(event)) == (Status.DELIVERED, 6)


# Each delivery its own age


@pytest.mark.parametrize("by", ["retry", "replay"])
async def test_reopening_of_one_delivery_leaves_the_others_age(autojump_clock, nursery, by) -> None:
    flow = await started(nursery, retry=RetrySettings(jitter=0.0, schedule_seconds=(50.0,) * 50, age_seconds_max=600.0))
    flow.put("acme", endpoint("default"), endpoint("b", OTHER, schedule_seconds=()))
    flow.sender.script(URL, 404)
    flow.sender.script(OTHER, 404)
    event = flow.admit()
    waiting, replayed = event.deliveries
    for minute in range(1, 10):
        await at(minute * 60)
        assert replayed.status is Status.EXHAUSTED
        if by == "retry":
            assert flow.retry_now.retry(event)
        else:
            assert await flow.replay.replay("acme", Wanted()) == Replayed(1, 1)
    await at(602)
    assert (waiting.status, waiting.reason) == (Status.EXHAUSTED, Reason.EXPIRED)


# An operator's pause


@pytest.mark.parametrize("paused_at", [5.0, 605.0])
async def test_what_was_in_flight_at_a_pause_does_not_expire(autojump_clock, nursery, paused_at) -> None:
    """Also where its age was over when the pause began; once resumed it has the age that it had then."""
    flow = await started(nursery, retry=RetrySettings(jitter=0.0, schedule_seconds=(5.0,) * 9, age_seconds_max=600.0))
    flow.put("acme", endpoint(timeout_seconds=2000.0))
    flow.sender.script(URL, Slow(900.0, 500), 200)
    event = flow.admit()
    await at(paused_at)
    flow.registration.pause("acme", "default")
    await at(5000)
    assert standing(event) == (Status.FAILED, None, 1)
    assert promised(flow, event) == (None, None)
    flow.registration.resume("acme", "default")
    await at(5000 + TICK_SECONDS)
    assert (event.status is Status.DELIVERED) is (paused_at < 600)


# Told once


async def test_410_is_logged_and_so_is_each_delivery_it_ends(autojump_clock, nursery) -> None:
    flow = await started(nursery)
    held = Held()
    flow.put("acme", endpoint(concurrency=1))
    flow.sender.script(URL, held)
    events = flow.admit_many(20)
    await now()
    held.release(410)
    await at(5)
    late = flow.admit()
    await at(10)
    assert len(flow.log.of("endpoint.disabled")) == 1
    given_up = flow.log.of("delivery.exhausted")
    assert sorted(line["event_id"] for line in given_up) == sorted(event.id for event in (*events, late))
    assert {line["reason"] for line in given_up} == {"gone"}
    flow.registration.resume("acme", "default")
    assert len(flow.log.of("endpoint.ok")) == 1


async def test_throttling_that_ends_by_time_alone_is_logged(autojump_clock, nursery) -> None:
    """A 400 with Retry-After: nothing is attempted at the end of it."""
    flow = await started(nursery, retry=RetrySettings(schedule_seconds=()))
    flow.sender.script(URL, Later(400, "60"))
    flow.admit()
    await at(1)
    assert len(flow.log.of("endpoint.throttled")) == 1
    await at(70)
    assert len(flow.log.of("endpoint.ok")) == 1


async def test_another_url_and_removal_are_logged(autojump_clock, nursery) -> None:
    flow = await started(nursery)
    flow.sender.script(URL, 503)
    event = flow.admit()
    await at(1)
    flow.put("acme", endpoint(url=NEW, schedule_seconds=(60.0,)))
    assert [line["endpoint_id"] for line in flow.log.of("endpoint.ok")] == ["default"]
    flow.registration.remove("acme", end_unsettled=True)
    [line] = flow.log.of("delivery.exhausted")
    assert (line["event_id"], line["reason"]) == (event.id, "endpoint_removed")
    assert flow.ledger.counters.given_up[Reason.ENDPOINT_REMOVED] == 1


# Secrets


def secrets(flow: Flow) -> tuple[str, ...]:
    client = flow.registry.get("acme")
    return client.endpoints[0].secrets(flow.clock.now().monotonic)


def with_secret(secret: str, **fields):
    return msgspec.structs.replace(endpoint(), secret=secret, **fields)


A, B, C = (f"whsec_{letter * 32}" for letter in "ABC")


@pytest.mark.parametrize("by", ["put", "config", "rotation"])
async def test_secret_that_changes_leaves_the_one_before_for_a_while(autojump_clock, nursery, by) -> None:
    flow = Flow(Settings(retry=PLAIN))
    await flow.stand_by(nursery)  # a day without a tick in each second of it

    def register(secret: str) -> None:
        if by == "config":
            flow.registration.take_config([Client(id="acme", endpoints=(with_secret(secret),), managed_by_config=True)])
        elif by == "put" or not flow.registry.find("acme"):
            flow.put("acme", with_secret(secret))
        else:
            flow.registration.rotate_secret("acme", "default", secret)

    register(A)
    register(B)
    assert secrets(flow) == (B, A)
    register(B)
    assert secrets(flow) == (B, A)
    await at(86_399)
    assert secrets(flow) == (B, A)
    await at(86_400)
    assert secrets(flow) == (B,)


async def test_platform_that_repeats_its_stored_secret_drops_none(autojump_clock, nursery) -> None:
    """A PUT of an old secret still in force changes nothing of the secrets, and the rest of it is taken."""
    flow = await started(nursery)
    flow.registration.rotate_secret("acme", "default", B)
    flow.put("acme", with_secret(SECRET, url=NEW))
    assert secrets(flow) == (B, SECRET)
    assert flow.registry.get("acme").endpoints[0].url == NEW
    flow.put("acme", with_secret(C))
    assert secrets(flow) == (C, B, SECRET)


async def test_config_that_goes_back_to_a_secret_signs_with_it_first(autojump_clock, nursery) -> None:
    flow = Flow()
    for secret in (A, B, A):
        client = Client(id="acme", endpoints=(with_secret(secret),), managed_by_config=True)
        flow.registration.take_config([client])
    assert secrets(flow) == (A, B)
