"""Notices and their delivery: what is told when, out of which budget, and what holds when much happens at once."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hookd.core.client import Client
from hookd.core.column import OPERATIONS_LIMITS
from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.notice import Kind, Notice
from hookd.core.refusal import ClientFull
from hookd.core.run_history import PreviousRun
from hookd.core.settings import IntakeSettings, OperationsSettings, RetrySettings, Settings
from hookd.flow import notice_watch

from tests.flow.harness import URL, Calling, Flow, Hang, Later, at, endpoint, submission

OPS_URL = "https://ops.example/"
RETRY = RetrySettings(schedule_seconds=(1.0,) * 100)


def settings(**sections: Any) -> Settings:
    return Settings(operations=OperationsSettings(client="ops"), retry=RETRY, **sections)


def told(flow: Flow, client_id: str | None = None) -> list[Notice]:
    rows: list[Notice] = []
    position = None
    while (page := flow.notices.feed.ring.page(position, limit=1000)).rows:
        position, rows = page.next_position, rows + page.rows
    return [row for row in rows if client_id is None or row.client_id == client_id]


def kinds(flow: Flow, client_id: str | None = None) -> list[str]:
    return [row.type.value.removeprefix("hookd.") for row in told(flow, client_id)]


def delivered(flow: Flow) -> list[dict[str, Any]]:
    """What came to the operators' endpoint, as it was sent."""
    return [msgspec.json.decode(sent.request.body) for sent in flow.sender.to(OPS_URL)]


async def test_outage_and_recovery_are_told_and_delivered_as_they_are_listed(autojump_clock, nursery) -> None:
    """Failing, paused and recovered, each once; the payload is the notice, its id the event's."""
    flow = Flow(settings())
    await flow.start(nursery)
    flow.put("ops", endpoint(url=OPS_URL))
    flow.put()
    flow.sender.script(URL, *[500] * 33, 200)
    flow.admit()
    await at(200)
    rows = told(flow)
    assert kinds(flow) == ["endpoint.failing", "endpoint.paused", "endpoint.recovered"]
    assert delivered(flow) == msgspec.to_builtins(rows)
    assert [sent.event_id for sent in flow.sender.to(OPS_URL)] == [row.id for row in rows]
    failing, paused, recovered = rows
    assert (failing.client_id, failing.endpoint_id, failing.state, failing.error) == (
        "acme",
        "default",
        "ok",
        "answered 500",
    )
    assert failing.counts["unsettled"] == 1
    assert (paused.state, paused.paused_by, recovered.state, recovered.since) == ("paused", "failures", "ok", None)
    own = [event for event in flow.events() if event.is_operational]
    assert [event.status for event in own] == [Status.DELIVERED] * 3
    assert flow.ledger.find("ops", failing.id) is own[-1]
    assert flow.balanced()


async def test_disabled_and_throttled_endpoints_are_told(autojump_clock, nursery) -> None:
    """Also where time alone ends it; and whoever resumes it."""
    flow = Flow(settings())
    await flow.start(nursery)
    flow.put("gone", endpoint(url="https://gone.example/"))
    flow.put("busy", endpoint(url="https://busy.example/"))
    flow.sender.script("https://gone.example/", 410)
    flow.sender.script("https://busy.example/", Later(400, "10"), 200)
    flow.admit("gone")
    flow.admit("busy")
    await at(5)
    assert kinds(flow, "gone") == ["endpoint.disabled"]
    assert kinds(flow, "busy") == ["endpoint.throttled"]
    flow.registration.resume("gone", "default")
    await at(15)
    assert kinds(flow, "busy") == ["endpoint.throttled", "endpoint.recovered"]
    assert kinds(flow, "gone") == ["endpoint.disabled", "endpoint.recovered"]
    await at(65)
    (exhausted,) = told(flow, "gone")[2:]
    assert (exhausted.type, exhausted.counts, exhausted.reasons) == (Kind.EXHAUSTED, {"exhausted": 1}, {"gone": 1})


async def test_what_is_given_up_is_told_by_endpoint_and_minute(autojump_clock, nursery) -> None:
    """One notice for thousands, with the first and the last of them."""
    flow = Flow(settings())
    await flow.start(nursery)
    flow.put("gone", endpoint(url="https://gone.example/", concurrency=1))
    flow.sender.script("https://gone.example/", 410)
    events = flow.admit_many(3000, "gone")
    await at(59)
    assert kinds(flow) == ["endpoint.disabled"]
    await at(61)
    (notice,) = told(flow)[1:]
    assert (notice.type, notice.counts, notice.reasons) == (Kind.EXHAUSTED, {"exhausted": 3000}, {"gone": 3000})
    assert {notice.first_event_id, notice.last_event_id} <= {event.id for event in events}
    assert len(flow.log.of("delivery.exhausted")) == 3000


@pytest.mark.second_round
async def test_outage_of_500_endpoints_takes_nothing_from_the_platform(autojump_clock, nursery) -> None:
    """At most 500 of each kind in any minute, though each flaps; the platform's books are as if there were none.

    The operators' receiver is down as well: what it is owed stays within its own budget, and the rest is counted.
    """
    flow = Flow(settings(intake=IntakeSettings(unsettled_events_max=1000, client_events_max=1000)))
    await flow.start(nursery)
    flow.put("ops", endpoint(url=OPS_URL))
    flow.sender.script(OPS_URL, 500)
    clients = [f"c{number}" for number in range(500)]
    for client_id in clients:
        flow.put(client_id, endpoint(url=f"https://{client_id}.example/"))
        flow.sender.script(f"https://{client_id}.example/", 503)
    platform = [flow.admit(client_id) for client_id in clients for _ in range(2)]
    totals = flow.ledger.totals()
    assert (totals.unsettled_events, totals.accepted) == (1000, 1000)
    await at(100)
    for client_id in clients:  # they flap: well for a moment, and down again
        flow.sender.script(f"https://{client_id}.example/", *[200, 503] * 3, 200)
    await at(400)
    assert_at_most_one_a_minute(told(flow))
    most = Counter((row.type, minute_of(row, flow)) for row in told(flow) if row.client_id != "ops")
    assert max(most.values()) <= 500
    assert Counter(kinds(flow))["endpoint.throttled"] >= 500
    totals, own = flow.ledger.totals(), flow.ledger.operations.snapshot()
    assert totals.accepted == len(platform) == sum(totals.events.values())
    assert totals.opened == sum(totals.deliveries.values()) == 1000
    assert totals.unsettled_events == sum(event.status in (Status.PENDING, Status.FAILED) for event in platform)
    admitted = own.accepted + flow.notices.operations.refused.total()
    assert admitted == sum(row.client_id != "ops" for row in told(flow)) > 1000
    assert own.unsettled_events == own.accepted == sum(own.events.values())
    assert flow.balanced()


def minute_of(row: Notice, flow: Flow) -> str:
    return row.at[:16]


def assert_at_most_one_a_minute(rows: list[Notice]) -> None:
    """In any 60 s, not only in those of a clock."""
    last: dict[tuple[Any, ...], float] = {}
    for row in rows:
        key = (row.type, row.client_id, row.endpoint_id)
        seconds = moment(row)
        assert seconds - last.get(key, -60.0) >= 59.999, row
        last[key] = seconds


def moment(row: Notice) -> float:
    day, _, clock = row.at.rstrip("Z").partition("T")
    hours, minutes, seconds = clock.split(":")
    return int(day[-2:]) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)


async def test_notices_take_no_room_from_the_platform_and_give_none(autojump_clock, nursery) -> None:
    """A full platform leaves theirs; theirs full leaves the platform's, and says what was not admitted."""
    flow = Flow(settings(intake=IntakeSettings(unsettled_events_max=3, client_events_max=3)))
    await flow.start(nursery)
    flow.put("ops", endpoint(url=OPS_URL))
    flow.sender.script(OPS_URL, Hang())
    flow.put()
    flow.sender.script(URL, Hang())
    flow.admit_many(3)
    with pytest.raises(ClientFull):
        flow.admit()
    assert kinds(flow) == ["client.full"] or kinds(flow) == ["client.filling", "client.full"]
    before = flow.ledger.operations.snapshot().accepted
    assert before == len(told(flow))
    most = OPERATIONS_LIMITS.settings.intake.unsettled_events_max
    for number in range(most - before + 10):
        flow.notices.operations.deliver(notice(f"n{number}"))
    own = flow.ledger.operations.snapshot()
    assert (own.unsettled_events, own.accepted) == (most, most)
    assert flow.notices.operations.refused == {"client-full": 10}
    (said,) = flow.log.of("notice.not_delivered")
    assert (said["problem"], said["notice_id"]) == ("client-full", f"n{most - before}")
    totals = flow.ledger.totals()
    assert (totals.accepted, totals.unsettled_events) == (3, 3)
    assert flow.ledger.used("ops").unsettled_events == 0
    flow.set(intake=IntakeSettings(unsettled_events_max=4, client_events_max=4))
    flow.admit("ops")  # the platform's own event for that client
    assert flow.ledger.used("ops").unsettled_events == 1
    assert flow.balanced()


def notice(notice_id: str, client_id: str = "acme") -> Notice:
    return Notice(id=notice_id, type=Kind.FAILING, at="2026-01-01T00:00:00.000Z", client_id=client_id, counts={})


async def test_nothing_about_the_operators_client_goes_to_it(autojump_clock, nursery) -> None:
    """The feed has it. A receiver of notices that is down makes no more of them for itself."""
    flow = Flow(settings())
    await flow.start(nursery)
    flow.put("ops", endpoint(url=OPS_URL))
    flow.sender.script(OPS_URL, 503)
    flow.put()
    flow.sender.script(URL, 410)
    flow.admit()
    await at(400)
    assert "endpoint.throttled" in kinds(flow, "ops")
    assert {sent["client_id"] for sent in delivered(flow)} == {"acme"}
    assert flow.ledger.operations.snapshot().accepted == len(told(flow, "acme"))


async def test_budget_that_fills_is_told_once_and_again_after_it_emptied(autojump_clock, nursery) -> None:
    """80 % of a client's, and of the daemon's; then the first event that finds no room."""
    flow = Flow(settings(intake=IntakeSettings(unsettled_events_max=20, client_events_max=10)))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Hang())
    flow.put("beta", endpoint(url="https://beta.example/"))
    flow.sender.script("https://beta.example/", Hang())
    flow.admit_many(7)
    await at(2)
    assert kinds(flow) == []
    flow.admit()
    await at(4)
    (filling,) = told(flow)
    assert (filling.type, filling.client_id, filling.endpoint_id, filling.state) == (
        Kind.CLIENT_FILLING,
        "acme",
        None,
        "filling",
    )
    assert (filling.counts["unsettled_events"], filling.counts["unsettled_events_max"]) == (8, 10)
    flow.admit_many(2)
    for _ in range(5):
        with pytest.raises(ClientFull):
            flow.admit()
    flow.admit_many(6, "beta")
    await at(6)
    assert kinds(flow) == ["client.filling", "client.full", "daemon.filling"]
    full, whole = told(flow)[1:]
    assert full.error is not None
    assert "intake.client_events_max" in full.error
    assert (whole.client_id, whole.counts["unsettled_events_max"]) == (None, 20)
    await at(300)
    assert len(told(flow, "acme")) >= 3  # once a minute's timeouts were over, nothing was told twice of one fill
    assert Counter(kinds(flow))["client.full"] == 1


async def test_batch_that_brings_a_budget_to_its_mark_is_seen(autojump_clock, nursery) -> None:
    """Room is asked for once, for all of it."""
    flow = Flow(settings(intake=IntakeSettings(client_events_max=10)))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Hang())
    flow.intake.admit_whole([submission() for _ in range(8)])
    await at(2)
    assert kinds(flow) == ["client.filling"]


async def test_budgets_that_fill_together_are_told_in_the_order_in_which_they_did(autojump_clock, nursery) -> None:
    """By the order of a set a seed of the simulation was several runs."""
    flow = Flow(settings(intake=IntakeSettings(client_events_max=1)))
    await flow.start(nursery)
    flow.sender.script(URL, Hang())
    clients = [f"client{number}" for number in range(20)]
    for client_id in clients:
        flow.put(client_id)
        flow.admit(client_id)
    await at(2)
    assert [row.client_id for row in told(flow) if row.type is Kind.CLIENT_FILLING] == clients


async def test_run_before_is_told_and_waits_for_the_client(autojump_clock, nursery) -> None:
    """A platform registers its clients after a start."""
    flow = Flow(settings())
    await flow.start(nursery)
    flow.notices.tell_run_before(PreviousRun("r0", "crash", 7, 3))
    await at(5)
    assert kinds(flow) == ["run.undelivered"]
    assert delivered(flow) == []
    flow.put("ops", endpoint(url=OPS_URL))
    await at(7)
    (sent,) = delivered(flow)
    assert (sent["run_id"], sent["state"], sent["counts"]) == ("r0", "crash", {"undelivered": 7, "recovered": 3})
    await at(20)
    assert len(delivered(flow)) == 1


@pytest.mark.parametrize("before", [None, PreviousRun("r0", "clean", 0, 0), PreviousRun("r0", "crash", None, 0)])
async def test_run_before_that_left_nothing_is_not_told(autojump_clock, nursery, before) -> None:
    """Nor one of which nothing is known."""
    flow = Flow(settings())
    await flow.start(nursery)
    flow.notices.tell_run_before(before)
    assert kinds(flow) == []


async def test_notice_without_a_client_to_go_to_is_counted(autojump_clock, nursery) -> None:
    """Not registered, or draining: the feed lists it, and the log says so once."""
    flow = Flow(settings())
    await flow.start(nursery)
    for number in range(3):
        flow.notices.operations.deliver(notice(f"n{number}"))
    flow.put("ops", endpoint(url=OPS_URL))
    flow.notices.operations.deliver(notice("n3"))
    flow.intake.close()
    flow.notices.operations.deliver(notice("n4"))
    assert flow.notices.operations.refused == {"unknown-client": 3, "draining": 1}
    assert [line["problem"] for line in flow.log.of("notice.not_delivered")] == ["unknown-client", "draining"]


async def test_event_types_pick_out_notices(autojump_clock, nursery) -> None:
    """As of any event; what nobody wants is no event."""
    flow = Flow(settings())
    await flow.start(nursery)
    flow.put("ops", endpoint("a", OPS_URL, event_types=("hookd.endpoint.*", "!*.throttled")))
    flow.put()
    flow.sender.script(URL, 410)
    flow.admit()
    flow.put("busy", endpoint(url="https://busy.example/"))
    flow.sender.script("https://busy.example/", 429)
    flow.admit("busy")
    await at(20)
    assert [sent["type"] for sent in delivered(flow)] == ["hookd.endpoint.disabled"]
    assert flow.ledger.operations.snapshot().accepted == 1


async def test_exhausted_notice_is_retried_out_of_its_own_budget(autojump_clock, nursery) -> None:
    """By hand, like any event."""
    flow = Flow(Settings(operations=OperationsSettings(client="ops"), retry=RetrySettings(schedule_seconds=())))
    await flow.start(nursery)
    flow.put("ops", endpoint(url=OPS_URL))
    flow.sender.script(OPS_URL, 400, 200)
    flow.notices.operations.deliver(notice("n0"))
    await at(1)
    event = flow.ledger.find("ops", "n0")
    assert event is not None
    assert event.status is Status.EXHAUSTED
    flow.set(intake=IntakeSettings(unsettled_bytes_max=1, client_bytes_max=1))  # the platform's has no room at all
    assert flow.retry_now.retry(event)
    await at(2)
    assert event.status is Status.DELIVERED
    assert flow.balanced()


async def test_notice_that_has_waited_too_long_expires(autojump_clock, nursery) -> None:
    """`retry.age_max` holds for it as well."""
    flow = Flow(
        Settings(
            operations=OperationsSettings(client="ops"),
            retry=RetrySettings(schedule_seconds=(50.0,) * 10, age_seconds_max=20.0),
        )
    )
    await flow.start(nursery)
    flow.put("ops", endpoint(url=OPS_URL))
    flow.sender.script(OPS_URL, 400)
    flow.notices.operations.deliver(notice("n0"))
    await at(60)
    event = flow.ledger.find("ops", "n0")
    assert event is not None
    assert event.status is Status.EXHAUSTED
    assert flow.balanced()


async def test_making_a_notice_that_fails_ends_nothing_else(autojump_clock, nursery) -> None:
    """An id that the platform took already: the notice is in the feed, the event is the platform's."""
    flow = Flow(settings())
    await flow.start(nursery)
    flow.put("ops", endpoint(url=OPS_URL))
    flow.admit("ops", "ntc_run_1_1")
    flow.put()
    flow.sender.script(URL, 410)
    flow.admit()
    await at(5)
    assert kinds(flow) == ["endpoint.disabled"]
    assert flow.notices.operations.refused == {"id-conflict": 1}
    assert flow.ledger.port_failures == {}


async def test_removed_endpoint_did_not_recover(autojump_clock, nursery) -> None:
    """And another of its id is told of as another."""
    flow = Flow(settings())
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 410)
    flow.admit()
    await at(5)
    flow.registration.remove("acme", end_unsettled=True)
    await at(100)
    assert kinds(flow) == ["endpoint.disabled", "delivery.exhausted"]
    flow.put()
    flow.admit()
    await at(170)
    assert kinds(flow)[2:] == ["endpoint.disabled", "delivery.exhausted"]


async def test_what_a_configuration_drops_is_told_as_given_up(autojump_clock, nursery) -> None:
    """How many, and why: nobody was asked."""
    flow = Flow(settings())
    await flow.start(nursery)
    managed = Client(id="acme", endpoints=(endpoint(paused=True),), managed_by_config=True)
    assert flow.registration.take_config([managed]) == 0
    for _ in range(3):
        flow.admit()
    assert flow.registration.take_config([]) == 3
    await at(70)
    row = told(flow, "acme")[-1]
    assert (row.type, row.counts, row.reasons) == (Kind.EXHAUSTED, {"exhausted": 3}, {"endpoint_removed": 3})


@pytest.mark.second_round
async def test_endpoints_beyond_what_is_watched_are_counted(autojump_clock, nursery) -> None:
    """What holds on is told once there is room."""
    flow = Flow(settings())
    await flow.start(nursery)
    for number in range(notice_watch.WATCHES_MAX):
        flow.notices.full(f"c{number}", "no room")
    flow.put()
    flow.sender.script(URL, 429)
    flow.admit()
    await at(0.5)
    assert flow.notices.untold > 0
    assert kinds(flow, "acme") == []
    await at(70)
    assert kinds(flow, "acme")[0] == "endpoint.throttled"


async def test_state_that_changes_within_an_attempt_is_told_as_it_is(autojump_clock, nursery) -> None:
    """An operator pauses what is in flight; its 2xx changes nothing of that."""
    flow = Flow(settings())
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Calling(lambda: flow.registration.pause("acme", "default"), 200))
    flow.admit()
    await at(2)
    (paused,) = told(flow)
    assert (paused.type, paused.paused_by) == (Kind.PAUSED, "operator")
    flow.registration.resume("acme", "default")
    assert kinds(flow) == ["endpoint.paused", "endpoint.recovered"]


async def test_platform_event_of_a_reserved_looking_type_is_the_platforms(autojump_clock) -> None:
    """What an event is does not follow from its type or id."""
    flow = Flow(settings())
    flow.registration.put(Client(id="ops", endpoints=(endpoint(url=OPS_URL),)))
    event: Event = flow.admit("ops", "ntc_x", type=Kind.FAILING.value)
    assert not event.is_operational
    assert flow.ledger.totals().accepted == 1
    assert flow.ledger.operations.snapshot().accepted == 0
