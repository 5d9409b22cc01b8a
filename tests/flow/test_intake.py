"""Admission: what is taken in, in what order it is checked, and that a refusal changes nothing."""

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hookd.core.budget import DELIVERY_BYTES, EVENT_BYTES
from hookd.core.delivery import Status
from hookd.core.refusal import ClientFull, Draining, Full, IdConflict, InvalidEvent, Refused, UnknownClient
from hookd.core.retry import Reason
from hookd.core.settings import IntakeSettings, Settings
from hookd.flow.intake import Admitted

from tests.flow.harness import EPOCH, PAYLOAD, TYPE, URL, Flow, Hang, Held, at, endpoint, now, submission

COST = len(PAYLOAD) + EVENT_BYTES + DELIVERY_BYTES
OTHER = "https://other.example/hook"


def bounded(**fields: int) -> Settings:
    return Settings(intake=IntakeSettings(**fields))


def unchanged(flow: Flow) -> tuple[object, int]:
    """What a refusal must leave as it was."""
    return flow.ledger.totals(), len(flow.events())


async def test_event_admitted_is_pending_with_a_delivery_for_each_endpoint(autojump_clock) -> None:
    """Accepted now, due now, held with its payload, before anything is attempted."""
    flow = Flow()
    flow.put("acme", endpoint("a", f"{URL}?token=secret"), endpoint("b", OTHER, schedule_seconds=(1.0,)))
    admitted = flow.intake.admit(submission(event_id="mine"))
    event = admitted.event
    assert admitted.is_new
    assert (event.id, event.client_id, event.type, event.payload) == ("mine", "acme", TYPE, PAYLOAD)
    assert (event.status, event.accepted_at, event.settled_at) == (Status.PENDING, EPOCH, None)
    assert [(one.endpoint_id, one.url, flow.ledger.terms.attempts_max(event, one)) for one in event.deliveries] == [
        ("a", f"{URL}?token=", 6),
        ("b", OTHER, 2),
    ]
    assert all(one.due_at == 0 and one.attempt_count == 0 for one in event.deliveries)
    assert flow.ledger.find("acme", "mine") is event
    [line] = flow.log.of("event.accepted")
    assert (line["event_id"], line["endpoints"]) == ("mine", ["a", "b"])
    assert flow.balanced()


async def test_event_without_id_gets_one_made(autojump_clock) -> None:
    """The same payload without an id is another event each time."""
    flow = Flow()
    flow.put()
    assert [event.id for event in flow.admit_many(2)] == ["evt_1", "evt_2"]


async def test_event_goes_only_to_endpoints_that_subscribe(autojump_clock, nursery) -> None:
    """Exact names and a trailing `.*`; none given means all."""
    flow = Flow()
    await flow.start(nursery)
    flow.put(
        "acme",
        endpoint("all", f"{URL}/all"),
        endpoint("exact", f"{URL}/exact", event_types=("invoice.paid",)),
        endpoint("group", f"{URL}/group", event_types=("user.created", "invoice.*")),
    )
    events = [flow.admit(type=type_) for type_ in ("invoice.paid", "invoice.line.added", "invoice", "user.created")]
    await now()
    assert [[one.endpoint_id for one in event.deliveries] for event in events] == [
        ["all", "exact", "group"],
        ["all", "group"],
        ["all"],
        ["all", "group"],
    ]
    assert len(flow.sender.transcript) == 8


async def test_event_nobody_subscribes_to_is_unrouted(autojump_clock, nursery) -> None:
    """It owes nothing: delivered at once, to nobody, counted apart, and takes no budget."""
    flow = Flow(bounded(client_events_max=1))
    await flow.start(nursery)
    flow.put("acme", endpoint(event_types=("user.*",)))
    flow.sender.script(URL, Hang())
    flow.admit(type="user.created")
    event = flow.admit()
    await now()
    assert (event.status, event.is_unrouted, event.settled_at) == (Status.DELIVERED, True, EPOCH)
    assert [sent.event_id for sent in flow.sender.transcript] == ["evt_1"]
    totals = flow.ledger.totals()
    assert (totals.accepted, totals.unrouted, totals.events[Status.DELIVERED], totals.opened) == (2, 1, 1, 1)
    assert flow.balanced()


async def test_event_of_unknown_client_is_refused(autojump_clock) -> None:
    """The platform is told which client to register."""
    flow = Flow()
    before = unchanged(flow)
    with pytest.raises(UnknownClient, match="nobody"):
        flow.admit("nobody")
    assert unchanged(flow) == before


async def test_event_posted_again_is_known_and_not_attempted_again(autojump_clock, nursery) -> None:
    """Same client, id, type and payload: the event as it stands, in every status."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    held = Held()
    flow.sender.script(URL, held)
    event = flow.admit(event_id="e1")
    for status_code in (None, 200):
        if status_code:
            held.release(status_code)
        await now()
        again = flow.intake.admit(submission(event_id="e1"))
        assert (again.event, again.is_new) == (event, False)
    await at(60)
    assert len(flow.sender.transcript) == 1
    assert flow.ledger.totals().accepted == 1


@pytest.mark.parametrize(
    "other", [{"type": "invoice.void"}, {"payload": b'{"amount": 2}'}, {"payload": b'{"amount":1}'}]
)
async def test_id_used_for_another_event_is_refused(autojump_clock, other) -> None:
    """Another type or another byte of payload under the same id is a conflict; another client's id is its own."""
    flow = Flow()
    flow.put()
    flow.put("other", endpoint(url=OTHER))
    flow.admit(event_id="e1")
    before = unchanged(flow)
    with pytest.raises(IdConflict, match="e1"):
        flow.admit(event_id="e1", **other)
    assert unchanged(flow) == before
    assert flow.intake.admit(submission("other", "e1", **other)).is_new


async def test_client_over_its_events_is_refused_and_others_are_not(autojump_clock, nursery) -> None:
    """One client's budget is its own; what settles gives it back."""
    flow = Flow(bounded(client_events_max=2))
    await flow.start(nursery)
    held = Held()
    flow.put()
    flow.put("other", endpoint(url=OTHER))
    flow.sender.script(URL, held, Hang())
    flow.admit_many(2)
    before = unchanged(flow)
    with pytest.raises(ClientFull) as refused:
        flow.admit()
    assert refused.value.retry_after_seconds > 0
    assert unchanged(flow) == before
    assert flow.intake.admit(submission("other")).is_new
    await now()
    held.release(200)
    await now()
    flow.admit()
    with pytest.raises(ClientFull):
        flow.admit()


@pytest.mark.parametrize(
    ("limit", "refusal"),
    [
        ({"client_bytes_max": 3 * COST - 1}, ClientFull),
        ({"unsettled_bytes_max": 3 * COST - 1}, Full),
        ({"unsettled_events_max": 2}, Full),
        ({"client_events_max": 2}, ClientFull),
    ],
)
async def test_event_over_a_budget_is_refused(autojump_clock, limit, refusal) -> None:
    """Payload + 512 B an event + 512 B a delivery; the third does not fit, and costs nothing."""
    flow = Flow(bounded(**limit))
    flow.put()
    flow.admit_many(2)
    before = unchanged(flow)
    with pytest.raises(refusal) as refused:
        flow.admit()
    assert type(refused.value) is refusal
    assert refused.value.retry_after_seconds > 0
    assert unchanged(flow) == before
    assert flow.ledger.totals().unsettled_bytes == 2 * COST


async def test_checks_run_in_the_contracts_order(autojump_clock) -> None:
    """Client, known id, draining, the client's budget, the whole budget: the first that fails answers."""
    flow = Flow(bounded(client_events_max=1, unsettled_events_max=1))
    flow.put()
    flow.put("other", endpoint(url=OTHER))
    flow.admit(event_id="e1")
    with pytest.raises(ClientFull):
        flow.admit()
    with pytest.raises(Full):
        flow.admit("other")
    flow.intake.close()
    for client_id in ("acme", "other"):
        with pytest.raises(Draining) as refused:
            flow.admit(client_id)
        assert refused.value.retry_after_seconds > 0
    assert not flow.intake.admit(submission(event_id="e1")).is_new
    with pytest.raises(IdConflict):
        flow.admit(event_id="e1", type="another")
    with pytest.raises(UnknownClient):
        flow.admit("nobody", event_id="e1")


async def test_batch_is_admitted_whole_in_order(autojump_clock) -> None:
    """Known, new and named twice: each in its place, the twin named twice and admitted once."""
    flow = Flow()
    flow.put()
    flow.put("other", endpoint(url=OTHER))
    known = flow.admit(event_id="known")
    answers = flow.intake.admit_whole(
        [submission(event_id=event_id) for event_id in ("a", "known", "a")] + [submission("other", "a"), submission()]
    )
    assert [(each.event.client_id, each.event.id, each.is_new) for each in answers] == [
        ("acme", "a", True),
        ("acme", "known", False),
        ("acme", "a", False),
        ("other", "a", True),
        ("acme", "evt_1", True),
    ]
    assert answers[1].event is known
    assert answers[2].event is answers[0].event
    assert flow.ledger.totals().accepted == 4


async def test_batch_with_bad_items_is_refused_whole_with_all_of_them_named(autojump_clock) -> None:
    """It answers as its first bad item does, lists every bad one, and admits nothing."""
    flow = Flow()
    flow.put()
    flow.admit(event_id="e1")
    before = unchanged(flow)
    shape = InvalidEvent("bad shape")
    with pytest.raises(IdConflict) as refused:
        flow.intake.admit_whole(
            [submission(event_id="good"), submission(event_id="e1", type="x"), submission("nobody"), shape]
        )
    assert [mistake.pointer for mistake in refused.value.mistakes] == ["/1", "/2", "/3"]
    assert unchanged(flow) == before


async def test_batch_over_a_budget_in_sum_is_refused_whole(autojump_clock) -> None:
    """Each alone would fit; together they do not, and none comes in. Twins and known ones ask for nothing."""
    flow = Flow(bounded(client_events_max=2))
    flow.put()
    flow.admit(event_id="known")
    before = unchanged(flow)
    with pytest.raises(ClientFull):
        flow.intake.admit_whole([submission(event_id="a"), submission(event_id="b")])
    assert unchanged(flow) == before
    answers = flow.intake.admit_whole([submission(event_id=event_id) for event_id in ("a", "a", "known")])
    assert [each.is_new for each in answers] == [True, False, False]


def calls_of(work: Callable[[], object]) -> int:
    """How many calls of Python's functions it makes."""
    calls = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


async def test_batch_without_room_is_refused_at_no_more_than_admission_costs(autojump_clock, nursery) -> None:
    """However many endpoints its client has: how long it waits is asked once, and not for each of its events."""
    flow = Flow(bounded(client_events_max=1100))
    flow.put("acme", *(endpoint(f"e{number}", f"{URL}/{number}") for number in range(16)))
    for number in range(16):
        flow.sender.script(f"{URL}/{number}", *[Hang()] * 100)
    await flow.start(nursery)
    flow.admit_many(100)
    await at(1)
    events = [submission() for _ in range(1000)]
    admission = calls_of(lambda: flow.intake.admit_whole(events))

    def refused() -> None:
        with pytest.raises(ClientFull) as found:
            flow.intake.admit_whole(events)
        assert len(found.value.mistakes) == 1000
        assert found.value.retry_after_seconds

    def refused_in_part() -> None:
        for answer in flow.intake.admit_partial(events):
            assert isinstance(answer, ClientFull)
            assert answer.retry_after_seconds

    assert calls_of(refused) < admission
    assert calls_of(refused_in_part) < admission


async def test_batch_naming_one_id_for_two_events_is_a_conflict(autojump_clock) -> None:
    """The same id twice in one batch must be the same event."""
    flow = Flow()
    flow.put()
    with pytest.raises(IdConflict) as refused:
        flow.intake.admit_whole([submission(event_id="a"), submission(event_id="a", payload=b"2")])
    assert [mistake.pointer for mistake in refused.value.mistakes] == ["/1"]
    assert flow.events() == []


async def test_batch_partial_admits_what_it_can(autojump_clock) -> None:
    """What is refused stands in its place; what is not is in, up to the budget."""
    flow = Flow(bounded(client_events_max=2))
    flow.put()
    shape = InvalidEvent("bad shape")
    answers = flow.intake.admit_partial(
        [submission(event_id="a"), shape, submission("nobody"), submission(event_id="a"), submission(), submission()]
    )
    kinds = [type(answer) if isinstance(answer, Refused) else answer.is_new for answer in answers]
    assert kinds == [True, InvalidEvent, UnknownClient, False, True, ClientFull]
    assert answers[1] is shape
    assert isinstance(answers[3], Admitted)
    assert flow.ledger.totals().accepted == 2


async def test_event_for_disabled_endpoint_is_exhausted_at_once(autojump_clock, nursery) -> None:
    """It is taken in, given up as `gone` with no attempt, and its budget is free again; other endpoints get it."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint("gone", URL), endpoint("fine", OTHER))
    flow.sender.script(URL, 410)
    flow.admit()
    await now()
    event = flow.admit()
    gone, fine = event.deliveries
    assert (gone.status, gone.reason, gone.attempt_count) == (Status.EXHAUSTED, Reason.GONE, 0)
    await now()
    assert fine.status is Status.DELIVERED
    assert event.status is Status.EXHAUSTED
    assert flow.ledger.totals().unsettled_bytes == 0
    assert flow.balanced()
