"""A traceparent goes with its event: to whom it is wanted, at every attempt, into the report and back."""

import msgspec
import pytest
from hookd.core.client import Endpoint
from hookd.core.report import lines
from hookd.flow.report_lines import read_report_lines

from tests.flow.harness import URL, Flow, Sent, at, endpoint, now, submission

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "https://other.example/hook"
TRACED = endpoint("traced", URL, trace_context=True)


async def flow_with(nursery, *endpoints: Endpoint) -> Flow:
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", *endpoints)
    return flow


def given(sent: Sent) -> list[str]:
    return [value for name, value in sent.request.headers if name == "traceparent"]


async def test_traceparent_goes_to_endpoints_that_want_it_at_each_attempt(autojump_clock, nursery) -> None:
    flow = await flow_with(nursery, TRACED, endpoint("plain", OTHER))
    flow.sender.script(URL, 500, 500, 200)
    flow.intake.admit(submission(traceparent=TRACEPARENT))
    await at(600)
    assert [given(sent) for sent in flow.sender.to(URL)] == [[TRACEPARENT]] * 3
    assert [given(sent) for sent in flow.sender.to(OTHER)] == [[]]


async def test_event_without_traceparent_has_none(autojump_clock, nursery) -> None:
    flow = await flow_with(nursery, TRACED)
    flow.admit()
    await now()
    assert [given(sent) for sent in flow.sender.transcript] == [[]]


async def test_endpoint_that_comes_to_want_it_gets_it_from_the_next_attempt_on(autojump_clock, nursery) -> None:
    """The definition in force counts, as with everything else."""
    flow = await flow_with(nursery, endpoint("traced", URL))
    flow.sender.script(URL, 500, 200)
    flow.intake.admit(submission(traceparent=TRACEPARENT))
    await now()
    flow.registration.put(msgspec.structs.replace(flow.registry.get("acme"), endpoints=(TRACED,)), end_unsettled=False)
    await at(60)
    assert [given(sent) for sent in flow.sender.transcript] == [[], [TRACEPARENT]]


@pytest.mark.parametrize("way", ["recover", "resend"])
async def test_report_brings_it_back(autojump_clock, nursery, way: str) -> None:
    """By the next start, or by hand."""
    before = await flow_with(nursery, TRACED)
    before.sender.script(URL, 500)
    before.intake.admit(submission(event_id="e1", traceparent=TRACEPARENT))
    await at(1)
    [line] = lines(before.ledger, now_monotonic=1, now_wall=before.clock.now().wall, payloads=True)
    assert line.traceparent == TRACEPARENT
    flow = await flow_with(nursery, TRACED)
    [answer] = getattr(flow.resend, way)(read_report_lines([msgspec.json.encode(line)]))
    assert answer.value == "admitted"
    await at(60)
    assert [given(sent) for sent in flow.sender.transcript] == [[TRACEPARENT]]


async def test_line_with_a_bad_traceparent_comes_back_without(autojump_clock, nursery) -> None:
    """A trace is no reason to lose an event."""
    line = {"kind": "undelivered", "event_id": "e", "client_id": "acme", "endpoint_id": "traced", "type": "t"}
    flow = await flow_with(nursery, TRACED)
    flow.resend.recover(read_report_lines([msgspec.json.encode(line | {"payload": 1, "traceparent": "00-x\r\n"})]))
    await now()
    assert [given(sent) for sent in flow.sender.transcript] == [[]]


async def test_replayed_event_keeps_it(autojump_clock, nursery) -> None:
    flow = await flow_with(nursery, endpoint("traced", URL, trace_context=True, schedule_seconds=()))
    flow.sender.script(URL, 500, 200)
    event = flow.intake.admit(submission(traceparent=TRACEPARENT)).event
    await now()
    flow.retry_now.retry(event)
    await at(1)
    assert [given(sent) for sent in flow.sender.transcript] == [[TRACEPARENT]] * 2
