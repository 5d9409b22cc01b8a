"""A report's lines come back as deliveries."""

import base64
from typing import Any

import msgspec
import pytest
from hookd.core.budget import cost_bytes
from hookd.core.delivery import Status
from hookd.core.refusal import ClientFull, Draining, Full, InvalidEvent, Malformed
from hookd.core.report import class_of, undelivered
from hookd.core.report import lines as lines_of
from hookd.core.retry import Reason
from hookd.core.settings import IntakeSettings, RetrySettings, Settings
from hookd.core.timestamps import rfc3339
from hookd.flow.report_lines import ReportLine, read_report_lines
from hookd.flow.resend import Answer

from tests.flow.harness import EPOCH, PAYLOAD, TYPE, URL, Flow, Hang, at, endpoint, now, only, standing

OTHER = "https://other.example/hook"


def written(event_id: str = "e1", **fields: Any) -> bytes:
    """A line as it stands in a report's file; `...` leaves a field out."""
    read: dict[str, Any] = {
        "kind": "undelivered",
        "class": "never_attempted",
        "event_id": event_id,
        "client_id": "acme",
        "endpoint_id": "default",
        "url": URL,
        "type": TYPE,
        "accepted_at": rfc3339(EPOCH - 3600),
        "attempt_count": 0,
        "next_attempt_at": None,
        "last_outcome": None,
        "payload": msgspec.Raw(PAYLOAD),
    }
    kept = {name: value for name, value in (read | fields).items() if value is not ...}
    return msgspec.json.encode(kept) + b"\n"


def line(event_id: str = "e1", **fields: Any) -> ReportLine:
    """As it comes off a report's file."""
    [found] = read_report_lines([written(event_id, **fields)])
    return found


async def test_line_not_known_is_admitted_and_delivered_under_its_own_id(autojump_clock, nursery) -> None:
    """Its acceptance keeps its time, its age starts anew, it counts as recovered and goes out at once."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    await at(10)
    assert flow.resend.resend([line()]) == [Answer.ADMITTED]
    event = flow.ledger.find("acme", "e1")
    assert event is not None
    assert event.accepted_at == EPOCH - 3600
    assert only(event).opened_at == 10
    await now()
    [sent] = flow.sender.transcript
    assert (sent.at, sent.event_id, sent.attempt_number, sent.request.body) == (10, "e1", 1, PAYLOAD)
    assert standing(event) == (Status.DELIVERED, None, 1)
    totals = flow.ledger.totals()
    assert (totals.accepted, totals.recovered, totals.opened) == (1, 1, 1)
    assert flow.balanced()


async def test_line_that_cannot_be_admitted_is_answered_in_its_place(autojump_clock, nursery) -> None:
    """known, unknown-client, unknown-endpoint and no-payload; the others of the request come in."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.admit(event_id="held")
    lines = [
        line("held"),
        line("e1"),
        line("e1"),
        line(client_id="nobody"),
        line(endpoint_id="elsewhere"),
        line("bare", payload=...),
        line("e2", kind="exhausted"),
    ]
    words = [answer.value for answer in flow.resend.resend(lines)]
    assert words == ["known", "admitted", "known", "unknown-client", "unknown-endpoint", "no-payload", "admitted"]
    assert {event.id for event in flow.events()} == {"held", "e1", "e2"}
    assert [answer.value for answer in flow.resend.resend(lines[:3])] == ["known"] * 3


@pytest.mark.parametrize(("attempt_count", "attempts_max", "expected"), [(1, 3, [2, 3]), (2, 3, [3]), (9, 10, [10])])
async def test_attempts_are_counted_on_with_at_least_one_left(
    autojump_clock, nursery, attempt_count, attempts_max, expected
) -> None:
    """Numbers and the schedule go on where the report left them."""
    flow = Flow(Settings(retry=RetrySettings(schedule_seconds=(5.0, 30.0))))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503)
    flow.resend.resend([line(attempt_count=attempt_count)])
    event = flow.ledger.find("acme", "e1")
    assert event is not None
    assert flow.attempts_max(event) == attempts_max
    await at(1000)
    assert [sent.attempt_number for sent in flow.sender.transcript] == expected
    assert flow.sender.times("e1") == [0, 30][: len(expected)]
    assert standing(event) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, attempts_max)


async def test_what_a_reopening_granted_comes_back(autojump_clock, nursery) -> None:
    """A replay grants a whole schedule; a restart in the middle of it leaves what is left of that, not one attempt."""
    settings = Settings(retry=RetrySettings(schedule_seconds=(5.0, 30.0), jitter=0.0))
    flow, after = Flow(settings), Flow(settings)
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 404)
    event = flow.admit(event_id="e1")
    await at(100)
    assert flow.retry_now.retry(event)
    await at(101)
    assert (standing(event), flow.attempts_max(event)) == ((Status.FAILED, None, 4), 6)
    moment = flow.clock.now()
    lines = list(lines_of(flow.ledger, now_monotonic=moment.monotonic, now_wall=moment.wall, payloads=True))
    await after.start(nursery)
    after.put()
    after.sender.script(URL, 404)
    after.resend.recover(read_report_lines([msgspec.json.encode(one) for one in lines]))
    [recovered] = after.events()
    assert after.attempts_max(recovered) == 6
    await at(200)
    assert after.sender.times("e1") == [101, 131]
    assert standing(recovered) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, 6)


async def test_event_of_several_endpoints_comes_back_as_one_event(autojump_clock, nursery) -> None:
    """One line for each delivery, in one request or in several, also after the first was delivered."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", OTHER), endpoint("c", f"{OTHER}/c"))
    assert flow.resend.resend([line(endpoint_id="a"), line(endpoint_id="b", attempt_count=2)]) == [Answer.ADMITTED] * 2
    await now()
    event = flow.ledger.find("acme", "e1")
    assert event is not None
    assert event.status is Status.DELIVERED
    assert flow.resend.resend([line(endpoint_id="b"), line(endpoint_id="c")]) == [Answer.KNOWN, Answer.ADMITTED]
    assert (event.status, event.settled_at) == (Status.PENDING, None)
    await now()
    assert event.status is Status.DELIVERED
    assert [(one.endpoint_id, one.attempt_count) for one in event.deliveries] == [("a", 1), ("b", 3), ("c", 1)]
    assert len(flow.sender.transcript) == 3
    totals = flow.ledger.totals()
    assert (totals.accepted, totals.recovered, totals.opened, totals.unsettled_bytes) == (1, 1, 3, 0)
    assert flow.balanced()


async def test_lines_over_a_budget_are_refused_whole(autojump_clock, nursery) -> None:
    """All of one request or none."""
    flow = Flow(Settings(intake=IntakeSettings(client_events_max=1)))
    await flow.start(nursery)
    flow.put()
    with pytest.raises(ClientFull):
        flow.resend.resend([line("e1"), line("e2")])
    assert flow.events() == []
    assert flow.resend.resend([line("e1")]) == [Answer.ADMITTED]
    flow.set(intake=IntakeSettings(unsettled_events_max=1))
    with pytest.raises(Full):
        flow.resend.resend([line("e2")])


async def test_client_that_was_full_comes_back_whole_where_it_was(autojump_clock, nursery) -> None:
    """An event of several endpoints asks once, whether its lines come together or one by one."""
    flow = Flow(Settings(intake=IntakeSettings(client_events_max=2)))
    await flow.start(nursery)
    flow.sender.script(URL, Hang())
    flow.sender.script(OTHER, Hang())
    flow.put("acme", endpoint("a", URL), endpoint("b", OTHER))
    lines = [line(event_id, endpoint_id=endpoint_id) for event_id in ("e1", "e2") for endpoint_id in "ab"]
    assert flow.resend.resend(lines[:3]) == [Answer.ADMITTED] * 3
    assert flow.resend.resend(lines[3:]) == [Answer.ADMITTED]
    with pytest.raises(ClientFull):
        flow.resend.resend([line("e3", endpoint_id="a")])
    assert flow.balanced()


@pytest.mark.parametrize("lacking_bytes", [0, 1])
async def test_line_of_an_event_that_is_held_asks_for_its_new_delivery_alone(
    autojump_clock, nursery, lacking_bytes
) -> None:
    """It has its budget for the others: exactly that fits."""
    all_bytes = cost_bytes(len(PAYLOAD), 4)
    flow = Flow(Settings(intake=IntakeSettings(client_bytes_max=all_bytes - lacking_bytes)))
    await flow.start(nursery)
    endpoints = [endpoint(one, f"https://{one}.example/") for one in "abcd"]
    for one in endpoints:
        flow.sender.script(one.url, Hang())
    flow.put("acme", *endpoints[:3])
    flow.admit(event_id="e1")
    flow.put("acme", *endpoints)
    if lacking_bytes:
        with pytest.raises(ClientFull):
            flow.resend.resend([line("e1", endpoint_id="d")])
    else:
        assert flow.resend.resend([line("e1", endpoint_id="d")]) == [Answer.ADMITTED]


async def test_lines_while_draining_are_refused(autojump_clock) -> None:
    """What admits is refused."""
    flow = Flow()
    flow.put()
    flow.intake.close()
    with pytest.raises(Draining):
        flow.resend.resend([line()])
    assert flow.events() == []


@pytest.mark.parametrize("other", [{"type": "another"}, {"payload": msgspec.Raw(b"2")}])
async def test_line_naming_another_event_is_a_conflict(autojump_clock, nursery, other) -> None:
    """The id is taken by an event with another type or payload: that line is answered so, the others are admitted."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.admit(event_id="e1")
    flow.put("acme", endpoint(), endpoint("new", OTHER))
    answers = flow.resend.resend([line("e1", endpoint_id="new", **other), line("e2")])
    assert answers == [Answer.CONFLICT, Answer.ADMITTED]
    assert {event.id: len(event.deliveries) for event in flow.events()} == {"e1": 1, "e2": 1}


async def test_lines_naming_two_events_by_one_id_are_a_conflict(autojump_clock, nursery) -> None:
    """Within one request too: the second is refused, not delivered with the first one's payload."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", OTHER))
    answers = flow.resend.resend([line(endpoint_id="a"), line(endpoint_id="b", payload=msgspec.Raw(b"2"))])
    assert answers == [Answer.ADMITTED, Answer.CONFLICT]
    (event,) = flow.events()
    assert [delivery.endpoint_id for delivery in event.deliveries] == ["a"]


@pytest.mark.parametrize("other", [{"type": "another"}, {"payload": msgspec.Raw(b"2")}])
async def test_another_event_at_the_same_endpoint_is_a_conflict_and_never_known(autojump_clock, nursery, other) -> None:
    """`known` would claim the report, and the line's event would be lost in silence; delivered or not is all one."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.admit(event_id="e1")
    for _ in range(2):
        assert flow.resend.resend([line("e1", **other), line("e1")]) == [Answer.CONFLICT, Answer.KNOWN]
        await now()
    assert flow.resend.resend([line("e2"), line("e2", **other)]) == [Answer.ADMITTED, Answer.CONFLICT]
    assert flow.resend.resend([line("e1", payload=...)]) == [Answer.KNOWN]


async def test_line_for_disabled_endpoint_is_gone_without_attempt(autojump_clock, nursery) -> None:
    """It is in and accounted for, and nothing is sent."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 410)
    flow.admit()
    await now()
    assert flow.resend.resend([line()]) == [Answer.ADMITTED]
    await now()
    event = flow.ledger.find("acme", "e1")
    assert event is not None
    assert standing(event) == (Status.EXHAUSTED, Reason.GONE, 0)
    assert len(flow.sender.transcript) == 1


async def test_line_of_removed_and_returned_endpoint_waits_in_its_lane(autojump_clock, nursery) -> None:
    """A resent delivery waits behind a hung endpoint like any other, and is attempted once."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint(concurrency=1))
    flow.sender.script(URL, Hang(), 200)
    flow.admit(event_id="hung")
    await now()
    flow.resend.resend([line()])
    await at(14)
    assert flow.sender.times("e1") == []
    await at(16)
    assert flow.sender.times("e1") == [15]


def test_payload_in_base64_is_the_original() -> None:
    """Bytes that hold a line break come back as they were posted."""
    original = b'{\n  "amount": 1\n}'
    read = line(payload=msgspec.Raw(b'{   "amount": 1 }'), payload_base64=base64.b64encode(original).decode())
    assert read.original_payload() == original


def test_summary_line_is_passed_over() -> None:
    """A whole file can be posted as it is."""
    assert read_report_lines([b'{"kind": "summary", "format": 1}']) == []


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"kind": "delivered"}, "/kind"),
        ({"event_id": "no spaces"}, "/event_id"),
        ({"client_id": ""}, "/client_id"),
        ({"endpoint_id": "a/b"}, "/endpoint_id"),
        ({"type": "?"}, "/type"),
        ({"attempt_count": -1}, "/attempt_count"),
        ({"attempt_count": "1"}, "/attempt_count"),
        ({"attempt_count": msgspec.Raw(b"9" * 4300)}, "/attempt_count"),
        ({"attempt_count": 2**31}, "/attempt_count"),
        ({"attempt_count": 1, "crash_count": msgspec.Raw(b"9" * 4300)}, "/crash_count"),
        ({"payload_base64": "%"}, "/payload_base64"),
        ({"payload_base64": "/w=="}, "/payload_base64"),  # not UTF-8
        ({"payload_base64": "eyI="}, "/payload_base64"),  # {"
        ({"payload_base64": base64.b64encode(b"[" * 1001 + b"]" * 1001).decode()}, "/payload_base64"),
        ({"accepted_at": "yesterday"}, "/accepted_at"),
    ],
)
def test_line_with_a_mistake_is_named(fields, pointer) -> None:
    """Every mistake points into its line."""
    with pytest.raises(InvalidEvent) as refused:
        line(**fields)
    assert [mistake.pointer for mistake in refused.value.mistakes] == [f"/0{pointer}"]


def test_line_that_is_not_json_is_malformed() -> None:
    """Cut lines are refused, not guessed at."""
    with pytest.raises(Malformed):
        read_report_lines([b'{"kind": "summary"}', b'{"kind": "undel'])


async def test_line_whose_outcome_is_unknown_stays_so_in_the_next_report(autojump_clock, nursery) -> None:
    """That the client may have it is not forgotten over a restart: another stop must not call it safe to send again."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503)
    unknown = line("e1", **{"class": "outcome_unknown", "attempt_count": 1})
    given_up = line("e3", **{"kind": "exhausted", "class": ..., "maybe_received": True, "attempt_count": 1})
    flow.resend.resend([unknown, line("e2", attempt_count=1), given_up])
    await now()
    assert {event.id: class_of(delivery) for event, delivery in undelivered(flow.ledger)} == {
        "e1": "outcome_unknown",
        "e2": "attempted_failed",
        "e3": "outcome_unknown",
    }


async def test_line_that_is_given_up_leaves_its_endpoint_disabled(autojump_clock, nursery) -> None:
    """It is registered still, and its 410 still stands, though nothing of it is unsettled any more."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.ledger.ensure_health("acme", "default").disable(0.0)
    flow.resend.recover([line("e1")])
    event = flow.ledger.find("acme", "e1")
    assert event is not None
    assert standing(event) == (Status.EXHAUSTED, Reason.GONE, 0)
    assert flow.ledger.is_disabled("acme", "default")
