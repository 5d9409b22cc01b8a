"""What changes of the registered clients do to deliveries, in each state a delivery can be in."""

import pytest
import trio
from hookd.core.client import Client
from hookd.core.delivery import Status
from hookd.core.health import State
from hookd.core.outcome import Responded
from hookd.core.refusal import Draining, ManagedByConfig, RegistryFull, UnknownClient, UnsettledDeliveries
from hookd.core.retry import Reason
from hookd.core.settings import DeliverySettings, RegistrySettings, Settings
from msgspec.structs import replace

from tests.flow.harness import URL, Flow, Hang, Held, at, endpoint, now, only, standing, statuses

NEW = "https://new.example/hook"
ONE_AT_A_TIME = Settings(delivery=DeliverySettings(concurrency=1))


async def test_put_of_new_url_is_taken_by_what_waits(autojump_clock, nursery) -> None:
    """A first attempt that waits and a retry that waits go to the new URL, the retry when it was due."""
    flow = Flow(ONE_AT_A_TIME)
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503, Hang())
    failed, in_flight, pending = flow.admit_many(3)
    await now()
    await at(1)
    assert not flow.put("acme", endpoint(url=f"{NEW}?key=value", timeout_seconds=3.0))
    assert only(failed).url == only(pending).url == f"{NEW}?key="
    assert only(in_flight).url == URL
    await at(100)
    assert [(sent.event_id, sent.at) for sent in flow.sender.to(f"{NEW}?key=value")] == [
        (failed.id, 15),
        (pending.id, 15),
        (in_flight.id, 20),
    ]
    assert statuses([failed, in_flight, pending]) == {Status.DELIVERED: 3}


async def test_put_leaves_an_attempt_in_flight_to_finish_as_it_began(autojump_clock, nursery) -> None:
    """The old URL's answer counts, 2xx and failure alike; after a failure the next attempt goes to the new URL."""
    flow = Flow()
    await flow.start(nursery)
    good, bad = Held(), Held()
    flow.put()
    flow.sender.script(URL, good, bad)
    events = flow.admit_many(2)
    await now()
    flow.put("acme", endpoint(url=NEW))
    await now()
    assert flow.sender.to(NEW) == []
    good.release(200)
    bad.release(503)
    await now()
    assert statuses(events) == {Status.DELIVERED: 1, Status.FAILED: 1}
    await at(5)
    assert [sent.attempt_number for sent in flow.sender.to(NEW)] == [2]
    assert statuses(events) == {Status.DELIVERED: 2}


async def test_put_does_not_touch_what_is_settled(autojump_clock, nursery) -> None:
    """Delivered and exhausted deliveries stay as they are, URL and attempts included."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint(schedule_seconds=()))
    flow.sender.script(URL, 200, 503)
    events = flow.admit_many(2)
    await now()
    assert statuses(events) == {Status.DELIVERED: 1, Status.EXHAUSTED: 1}
    flow.put("acme", endpoint(url=NEW, schedule_seconds=(1.0, 1.0)))
    await at(100)
    assert statuses(events) == {Status.DELIVERED: 1, Status.EXHAUSTED: 1}
    assert {(only(event).url, flow.attempts_max(event)) for event in events} == {(URL, 1)}
    assert flow.sender.to(NEW) == []


@pytest.mark.parametrize(("schedule", "attempts"), [((1.0,) * 7, 8), ((), 2), (None, 6)])
async def test_put_of_new_schedule_changes_the_attempts_of_what_waits(
    autojump_clock, nursery, schedule, attempts
) -> None:
    """attempts_max follows the new schedule; a delivery with more attempts behind it has one left."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint(schedule_seconds=(10.0, 10.0)))
    flow.sender.script(URL, 503)
    event = flow.admit()
    await now()
    assert flow.attempts_max(event) == 3
    flow.put("acme", endpoint(schedule_seconds=schedule))
    assert flow.attempts_max(event) == attempts
    await at(3599)
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, attempts)


async def test_put_of_the_same_definition_changes_nothing(autojump_clock, nursery) -> None:
    """It is idempotent, with deliveries waiting and without saying so."""
    flow = Flow()
    await flow.start(nursery)
    assert flow.put()
    flow.sender.script(URL, 503)
    event = flow.admit()
    await now()
    before = only(event).due_at, flow.attempts_max(event)
    assert not flow.put()
    assert (only(event).due_at, flow.attempts_max(event)) == before


async def test_put_without_an_endpoint_ends_what_waits_there_at_once(autojump_clock, nursery) -> None:
    """Never attempted and failed alike: `endpoint_removed`, with no attempt more; other endpoints go on."""
    flow = Flow(ONE_AT_A_TIME)
    await flow.start(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", NEW))
    flow.sender.script(URL, 503, Hang())
    failed, in_flight, pending = flow.admit_many(3)
    await now()
    with pytest.raises(UnsettledDeliveries) as refused:
        flow.put("acme", endpoint("b", NEW))
    assert refused.value.extra == {"unsettled_deliveries": 3}
    assert flow.registry.endpoint("acme", "a") is not None
    assert flow.ledger.totals().deliveries[Status.EXHAUSTED] == 0
    flow.put("acme", endpoint("b", NEW), end_unsettled=True)
    for event, attempts in ((failed, 1), (pending, 0)):
        removed = event.deliveries[0]
        assert (removed.status, removed.reason, removed.attempt_count, removed.due_at) == (
            Status.EXHAUSTED,
            Reason.ENDPOINT_REMOVED,
            attempts,
            None,
        )
    assert in_flight.deliveries[0].in_flight
    await at(100)
    assert in_flight.deliveries[0].reason is Reason.ENDPOINT_REMOVED
    assert len(flow.sender.to(URL)) == 2
    assert {event.deliveries[1].status for event in (failed, in_flight, pending)} == {Status.DELIVERED}
    assert flow.balanced()


@pytest.mark.parametrize(
    ("status_code", "expected"),
    [
        (200, (Status.DELIVERED, None, 1)),
        (503, (Status.EXHAUSTED, Reason.ENDPOINT_REMOVED, 1)),
        (410, (Status.EXHAUSTED, Reason.ENDPOINT_REMOVED, 1)),
    ],
)
async def test_removal_of_client_lets_what_flies_run_out(autojump_clock, nursery, status_code, expected) -> None:
    """In flight when its endpoint goes: a 2xx is delivered, anything else endpoint_removed; nothing is left of it."""
    flow = Flow()
    await flow.start(nursery)
    held = Held()
    flow.put()
    flow.sender.script(URL, held)
    event = flow.admit(event_id="e1")
    await now()
    with pytest.raises(UnsettledDeliveries):
        flow.registration.remove("acme")
    flow.registration.remove("acme", end_unsettled=True)
    await now()
    assert standing(event) == (Status.PENDING, None, 1)
    held.release(status_code)
    await at(100)
    assert standing(event) == expected
    assert only(event).attempts[0].outcome == Responded(status_code)
    assert len(flow.sender.transcript) == 1
    assert flow.ledger.find("acme", "e1") is event
    assert flow.ledger.health("acme", "default") is None
    assert flow.balanced()


async def test_removal_with_nothing_unsettled_needs_no_word(autojump_clock, nursery) -> None:
    """Settled events do not hold a client; they outlive its registration."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    event = flow.admit()
    await now()
    flow.registration.remove("acme")
    assert flow.registry.find("acme") is None
    assert flow.ledger.find("acme", event.id) is event
    with pytest.raises(UnknownClient):
        flow.admit()
    with pytest.raises(UnknownClient):
        flow.registration.remove("acme")


async def test_client_of_config_is_not_changed_by_the_api(autojump_clock) -> None:
    """PUT and DELETE of what the file manages are refused; the file itself may."""
    flow = Flow()
    client = Client(id="acme", endpoints=(endpoint(),), managed_by_config=True)
    flow.registration.take_config([client])
    for change in (lambda: flow.put("acme", endpoint(url=NEW)), lambda: flow.registration.remove("acme")):
        with pytest.raises(ManagedByConfig, match="acme"):
            change()
    assert flow.registry.get("acme") == client
    flow.registration.take_config([replace(client, endpoints=(endpoint(url=NEW),))])
    assert flow.registry.get("acme").endpoints[0].url == NEW


async def test_config_without_a_client_ends_its_deliveries_and_leaves_the_apis(autojump_clock, nursery) -> None:
    """The file is the word on what it manages, and on nothing else."""
    flow = Flow()
    await flow.start(nursery)
    flow.registration.take_config([Client(id="filed", endpoints=(endpoint(),), managed_by_config=True)])
    flow.put("put", endpoint(url=NEW))
    flow.sender.script(URL, 503)
    event = flow.admit("filed")
    await now()
    flow.registration.take_config([])
    assert standing(event) == (Status.EXHAUSTED, Reason.ENDPOINT_REMOVED, 1)
    assert [client.id for client in flow.registry] == ["put"]


async def test_config_that_does_not_fit_beside_the_apis_clients_changes_nothing(autojump_clock) -> None:
    """Whole or not at all: what the file no longer names stays, too."""
    flow = Flow(Settings(registry=RegistrySettings(clients_max=2)))
    flow.registration.take_config([Client(id="filed", endpoints=(endpoint(),), managed_by_config=True)])
    flow.put("put", endpoint(url=NEW))
    more = [Client(id=f"new{n}", endpoints=(endpoint(),), managed_by_config=True) for n in range(2)]
    with pytest.raises(RegistryFull):
        flow.registration.take_config(more)
    assert [client.id for client in flow.registry] == ["filed", "put"]
    flow.registration.take_config(more[:1])
    assert [client.id for client in flow.registry] == ["put", "new0"]


async def test_client_removed_while_disabled_and_in_flight_begins_anew(autojump_clock, nursery) -> None:
    """A 410 says nothing of the endpoint that is registered under the same id later."""
    flow = Flow()
    await flow.start(nursery)
    held = Held()
    flow.put()
    flow.sender.script(URL, held, 410)
    flow.admit_many(2)
    await now()
    flow.registration.remove("acme", end_unsettled=True)
    flow.put("acme", endpoint(url=NEW))
    event = flow.admit()
    await now()
    assert event.status is Status.DELIVERED


async def test_registry_that_is_full_refuses_new_clients_only(autojump_clock) -> None:
    """Replacing takes no room."""
    flow = Flow(Settings(registry=RegistrySettings(clients_max=1)))
    flow.put()
    with pytest.raises(RegistryFull):
        flow.put("other")
    assert not flow.put("acme", endpoint(url=NEW))


async def test_registration_while_draining_is_refused(autojump_clock) -> None:
    """What registers is refused like what admits."""
    flow = Flow()
    flow.put()
    flow.intake.close()
    with pytest.raises(Draining):
        flow.put("other")
    with pytest.raises(Draining):
        flow.registration.remove("acme")
    assert [client.id for client in flow.registry] == ["acme"]


async def disabled(nursery) -> Flow:
    """A client whose endpoint has answered 410."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 410, 200)
    flow.admit(event_id="first")
    await now()
    assert flow.ledger.ensure_health("acme", "default").disabled
    return flow


async def test_disabled_endpoint_takes_deliveries_again_after_resume(autojump_clock, nursery) -> None:
    """Until then new ones are `gone`; what was given up stays given up."""
    flow = await disabled(nursery)
    gone = flow.admit()
    assert standing(gone) == (Status.EXHAUSTED, Reason.GONE, 0)
    flow.registration.resume("acme", "default")
    event = flow.admit()
    await at(100)
    assert standing(event) == (Status.DELIVERED, None, 1)
    assert standing(gone) == (Status.EXHAUSTED, Reason.GONE, 0)


async def test_disabled_endpoint_takes_deliveries_again_at_another_url(autojump_clock, nursery) -> None:
    """A PUT with another URL enables it; one with the same URL and other settings does not."""
    flow = await disabled(nursery)
    flow.put("acme", endpoint(timeout_seconds=1.0))
    assert standing(flow.admit()) == (Status.EXHAUSTED, Reason.GONE, 0)
    flow.put("acme", endpoint(url=NEW))
    event = flow.admit()
    await now()
    assert standing(event) == (Status.DELIVERED, None, 1)
    assert len(flow.sender.to(NEW)) == 1


async def test_410_of_the_old_url_does_not_disable_the_new_one(autojump_clock, nursery) -> None:
    """An answer of an address that is no longer registered says nothing of the one that is."""
    flow = Flow()
    await flow.start(nursery)
    held = Held()
    flow.put()
    flow.sender.script(URL, held)
    flow.admit()
    await now()
    flow.put("acme", endpoint(url=NEW))
    held.release(410)
    await now()
    assert not flow.ledger.ensure_health("acme", "default").disabled
    event = flow.admit()
    await now()
    assert standing(event) == (Status.DELIVERED, None, 1)


async def test_put_of_more_concurrency_is_used_at_once(autojump_clock, nursery) -> None:
    """What waits behind a narrow window goes out when it is widened, without waiting for an answer."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint(concurrency=1))
    flow.sender.script(URL, Hang())
    flow.admit_many(5)
    await now()
    assert flow.sender.flying == 1
    flow.put("acme", endpoint(concurrency=4))
    await now()
    assert flow.sender.flying == 2  # what a window that nothing has widened or shrunk lets through


async def test_client_removed_while_paused_and_in_flight_begins_anew(autojump_clock, nursery) -> None:
    """An operator's pause, and what waited, were of the endpoint that is gone; found by the simulation's seed 2."""
    flow = Flow()
    await flow.start(nursery)
    held = Held()
    flow.put()
    flow.sender.script(URL, held)
    old = flow.admit()
    await now()
    flow.registration.pause("acme", "default")
    flow.registration.remove("acme", end_unsettled=True)
    flow.put("acme", endpoint(url=NEW))
    new = flow.admit()
    await now()
    assert new.status is Status.DELIVERED
    held.release(503)
    await at(100)
    assert standing(old) == (Status.EXHAUSTED, Reason.ENDPOINT_REMOVED, 1)
    assert len(flow.sender.to(NEW)) == 1
    assert flow.balanced()


@pytest.mark.parametrize("url", [URL, NEW])
async def test_answers_that_come_after_the_removal_hold_nothing_back_later(autojump_clock, nursery, url) -> None:
    """They settle their own deliveries. No state of an endpoint that is gone is told, and none is inherited."""
    flow = Flow()
    await flow.start(nursery)
    first, last = Held(), Held()
    flow.put()
    flow.sender.script(URL, first, last, 200)
    flow.admit_many(2)
    await now()
    flow.registration.remove("acme", end_unsettled=True)
    first.release(503)
    await now()
    assert not flow.log.of("endpoint.throttled")
    flow.put("acme", endpoint(url=url))
    health = flow.ledger.ensure_health("acme", "default")
    assert (health.state(trio.current_time()), health.window, health.failing_since) == (State.OK, 2, None)
    last.release(200)
    await now()
    assert flow.balanced()
