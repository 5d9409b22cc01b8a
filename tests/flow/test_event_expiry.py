"""An event's own expiry: later than that it is not attempted any more, whatever else it waits for."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.expiring_event import ExpiringEvent
from hookd.core.report import lines as lines_of
from hookd.core.retry import Reason
from hookd.core.settings import RetrySettings, Settings
from hookd.core.timestamps import rfc3339
from hookd.flow.replay import Wanted
from hookd.flow.report_lines import read_report_lines
from hookd.flow.resend import Answer

from tests.flow.harness import (
    EPOCH,
    PAYLOAD,
    TYPE,
    URL,
    Flow,
    Held,
    Later,
    at,
    endpoint,
    now,
    only,
    standing,
    submission,
)
from tests.flow.test_resend import line

EXPIRED = (Status.EXHAUSTED, Reason.EXPIRED)


async def started(nursery: Any, *endpoints: Any, **settings: Any) -> Flow:
    flow = Flow(Settings(**settings))
    await flow.start(nursery)
    flow.put("acme", *endpoints)
    return flow


def admit(flow: Flow, seconds: float, event_id: str | None = None) -> Event:
    """One that expires at that second of virtual time."""
    return flow.admit(event_id=event_id, expires_at=EPOCH + seconds)


def ended_as(event: Event) -> tuple[Status, Reason | None]:
    return only(event).status, only(event).reason


async def test_event_is_given_up_at_its_expiry_and_not_attempted_after_it(autojump_clock, nursery) -> None:
    """Within a second of it, while it waits for a retry that is due later. No such retry is promised."""
    flow = await started(nursery, retry=RetrySettings(schedule_seconds=(5.0, 60.0)))
    flow.sender.script(URL, 500)
    event = admit(flow, 20)
    await at(6)
    assert flow.ledger.terms.expires_at(event, only(event), now=6.0) == 20
    assert flow.ledger.terms.begins_at(event, only(event), now=6.0) is None
    await at(19)
    assert event.status is Status.FAILED
    await at(21.5)
    assert standing(event) == (*EXPIRED, 2)
    assert [told["reason"] for told in flow.log.of("delivery.exhausted")] == ["expired"]
    await at(4000)
    assert flow.sender.times(event.id) == [0, 5]
    assert not len(flow.ledger.expiries)
    assert flow.balanced()


async def test_attempt_that_ends_after_the_expiry_is_the_last(autojump_clock, nursery) -> None:
    """In flight it is left alone: a 2xx delivers it, anything else gives it up as expired."""
    flow = await started(nursery)
    late, lost = Held(), Held()
    flow.sender.script(URL, late, lost)
    events = [admit(flow, 5), admit(flow, 5)]
    await at(10)
    assert [event.status for event in events] == [Status.PENDING] * 2
    late.release(200)
    lost.release(500)
    await now()
    assert Counter(map(ended_as, events)) == Counter([(Status.DELIVERED, None), EXPIRED])  # whichever went first
    assert flow.balanced()


async def test_event_whose_expiry_has_passed_is_admitted_and_expires_at_once(autojump_clock, nursery) -> None:
    """Never attempted, and told like any other: a batch is not refused because one of it came late."""
    flow = await started(nursery)
    await at(10)
    event = admit(flow, 9, "e1")
    assert standing(event) == (*EXPIRED, 0)
    assert flow.intake.admit(submission(event_id="e1")).event is event  # known, and as it stands
    batch = [
        submission(event_id="e2", expires_at=EPOCH + 1),
        submission(event_id="e3"),
        submission(expires_at=EPOCH + 99),
    ]
    admitted = [one.event for one in flow.intake.admit_whole(batch)]
    await at(11)
    assert [one.status for one in admitted] == [Status.EXHAUSTED, Status.DELIVERED, Status.DELIVERED]
    assert len(flow.sender.transcript) == 2
    assert flow.balanced()


async def test_another_expiry_under_a_known_id_changes_nothing(autojump_clock, nursery) -> None:
    """The id, the type and the payload make the event; what was said first holds."""
    flow = await started(nursery)
    flow.registration.pause("acme", "default")
    first = admit(flow, 100, "e1")
    again = flow.intake.admit(submission(event_id="e1", expires_at=EPOCH + 5))
    without = flow.intake.admit(submission(event_id="e1"))
    assert (again.event, without.event) == (first, first)
    assert not again.is_new
    assert first.expires_at == EPOCH + 100


async def test_nothing_expires_while_an_operator_holds_the_endpoint(autojump_clock, nursery) -> None:
    """The time goes on all the same: at the resume it is given up, with no attempt."""
    flow = await started(nursery)
    flow.registration.pause("acme", "default")
    held, long = admit(flow, 5), admit(flow, 500)
    await at(50)
    late = admit(flow, 40)  # past its expiry when it comes in
    await at(60)
    assert [event.status for event in (held, long, late)] == [Status.PENDING] * 3
    assert flow.ledger.terms.expires_at(held, only(held), now=60.0) is None
    flow.registration.resume("acme", "default")
    await at(62)
    assert [ended_as(event) for event in (held, long, late)] == [EXPIRED, (Status.DELIVERED, None), EXPIRED]
    assert [sent.event_id for sent in flow.sender.transcript] == [long.id]
    assert flow.balanced()


async def test_attempt_that_fails_past_the_expiry_in_a_pause_waits_for_the_resume(autojump_clock, nursery) -> None:
    """Nor does what was in flight expire when it was paused."""
    flow = await started(nursery)
    held = Held()
    flow.sender.script(URL, held, 200)
    event = admit(flow, 5)
    await at(1)
    flow.registration.pause("acme", "default")
    await at(10)
    held.release(500)
    await at(20)
    assert event.status is Status.FAILED
    flow.registration.resume("acme", "default")
    await at(22)
    assert standing(event) == (*EXPIRED, 1)


@pytest.mark.parametrize("step", [Later(503, "600"), 500], ids=["throttled", "paused by failures"])
async def test_expiry_is_a_time_and_no_age(autojump_clock, nursery, step) -> None:
    """Retry-After holds up ages, and not this; a probe is an attempt like any other."""
    flow = await started(nursery, retry=RetrySettings(schedule_seconds=(1.0,) * 99))
    flow.sender.script(URL, step)
    event = admit(flow, 100)
    await at(102)
    assert ended_as(event) == EXPIRED
    assert all(sent.at < 100 for sent in flow.sender.transcript)
    begun = len(flow.sender.transcript)
    await at(2000)
    assert len(flow.sender.transcript) == begun


async def test_expiry_of_the_first_in_a_strict_line_frees_those_behind_it(autojump_clock, nursery) -> None:
    """They wait for nobody else."""
    flow = await started(nursery, endpoint(order="strict", schedule_seconds=(600.0,)))
    flow.sender.script(URL, 500, 200)
    first, second = admit(flow, 20), flow.admit()
    await at(22)
    assert [ended_as(first), ended_as(second)] == [EXPIRED, (Status.DELIVERED, None)]


async def test_expired_event_is_not_reopened(autojump_clock, nursery) -> None:
    """By nobody: a retry has nothing to do, and a replay does not count it."""
    flow = await started(nursery, retry=RetrySettings(schedule_seconds=()))
    flow.sender.script(URL, 500)
    event = admit(flow, 20)  # exhausted at once, and still good for a while
    await at(10)
    assert flow.retry_now.retry(event)
    await at(30)
    assert event.status is Status.EXHAUSTED
    assert not flow.retry_now.retry(event)
    assert (await flow.replay.replay("acme", Wanted())).matched == 0
    assert flow.sender.times(event.id) == [0, 10]


async def test_expiry_passes_by_the_monotonic_clock(autojump_clock, nursery) -> None:
    """Whatever is done to the wall clock meanwhile; shown is what was given."""
    flow = await started(nursery)
    flow.sender.script(URL, 500)
    event = admit(flow, 60)
    await at(10)
    flow.clock.set_by_seconds = -86400.0  # type: ignore[attr-defined]
    await at(59)
    assert event.status is Status.FAILED
    await at(62)
    assert ended_as(event) == EXPIRED
    assert event.expires_at == EPOCH + 60


async def test_expiry_is_in_the_report_and_comes_back_with_its_line(autojump_clock, nursery) -> None:
    """What is left of it is measured anew; past it the line is admitted, and expires at once."""
    flow = await started(nursery)
    flow.registration.pause("acme", "default")
    admit(flow, 100, "e1")
    flow.admit(event_id="e2")
    [first, second] = lines_of(flow.ledger, now_monotonic=0.0, now_wall=EPOCH, payloads=True)
    assert first.expires_at == rfc3339(EPOCH + 100)
    assert second.expires_at is msgspec.UNSET
    lines = read_report_lines([msgspec.json.encode(first)])
    late = line("e3", expires_at=rfc3339(EPOCH - 1))
    after = await started(nursery)
    after.sender.script(URL, 500)
    assert after.resend.resend([*lines, late]) == [Answer.ADMITTED] * 2
    taken_up, expired = after.ledger.find("acme", "e1"), after.ledger.find("acme", "e3")
    assert taken_up is not None
    assert expired is not None
    assert standing(expired) == (*EXPIRED, 0)
    await at(102)
    assert ended_as(taken_up) == EXPIRED
    assert after.balanced()


async def test_recovered_line_that_waits_for_its_client_expires(autojump_clock, nursery) -> None:
    """With nobody registered; and one that was past it when it was taken back never waits."""
    flow = Flow()
    await flow.start(nursery)
    flow.resend.recover([line("e1", expires_at=rfc3339(EPOCH + 30)), line("e2", expires_at=rfc3339(EPOCH - 30))])
    first, second = flow.ledger.find("acme", "e1"), flow.ledger.find("acme", "e2")
    assert first is not None
    assert second is not None
    assert (first.status, ended_as(second)) == (Status.PENDING, EXPIRED)
    await at(32)
    assert ended_as(first) == EXPIRED
    assert flow.balanced()


async def test_events_without_an_expiry_are_rows_as_before(autojump_clock, nursery) -> None:
    """Only those with one have a field for it."""
    flow = await started(nursery)
    assert type(flow.admit()) is Event
    assert type(admit(flow, 5)) is ExpiringEvent
    assert "expires_at" not in Event.__struct_fields__
    assert (flow.events()[0].type, flow.events()[0].payload) == (TYPE, PAYLOAD)
