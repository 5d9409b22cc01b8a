"""A batch's room is asked for once: it is admitted whole exactly where its events would be, one by one."""

from typing import Any

import msgspec
import trio
from hookd.core.event import Submission
from hookd.core.refusal import Refused
from hookd.core.settings import IntakeSettings, Settings
from hookd.flow.intake import Admitted
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.flow.harness import Flow, endpoint, submission

LIMITS = st.fixed_dictionaries(
    {
        "unsettled_events_max": st.integers(1, 8),
        "unsettled_bytes_max": st.integers(1000, 9000),
        "client_events_max": st.integers(1, 5),
        "client_bytes_max": st.integers(1000, 6000),
    }
)
IDS = st.sampled_from(["a", "b", "c"])


def submissions(ids: st.SearchStrategy[str | None]) -> st.SearchStrategy[list[Submission]]:
    one = st.builds(
        submission,
        st.sampled_from(["one", "two", "unrouted", "disabled", "nobody"]),
        ids,
        type=st.sampled_from(["x.y", "z"]),
        payload=st.sampled_from([b"1", b'"' + b"p" * 700 + b'"']),
    )
    return st.lists(one, max_size=7)


SUBMISSIONS = submissions(st.none() | IDS)


def new_flow(limits: dict[str, int]) -> Flow:
    flow = Flow(Settings(intake=IntakeSettings(**limits)))
    flow.put("one")
    flow.put("two", endpoint("all"), endpoint("some", event_types=("x.*",)))
    flow.put("unrouted", endpoint(event_types=("never",)))
    flow.put("disabled", endpoint("gone"), endpoint("there"))
    flow.ledger.ensure_health("disabled", "gone").disable(0.0)
    flow.ledger.ensure_health("one", "default").pause(0.0)
    return flow


def held(flow: Flow) -> list[Any]:
    """All that it holds, and all that its log said."""
    rows = [
        (msgspec.structs.asdict(event), list(map(msgspec.structs.asdict, event.deliveries))) for event in flow.events()
    ]
    for row, _ in rows:
        del row["bundle"]
    return [rows, flow.ledger.totals(), flow.log.lines, [event.id for event in flow.ledger.unsettled]]


@given(limits=LIMITS, before=SUBMISSIONS, batch=SUBMISSIONS)
def test_whole_batch_is_admitted_where_each_of_it_is(
    limits: dict[str, int], before: list[Submission], batch: list[Submission]
) -> None:
    """What is held and logged is then the same; else nothing of it is there."""

    async def compare() -> None:
        whole, single = new_flow(limits), new_flow(limits)
        for flow in (whole, single):
            flow.intake.admit_partial(before)
        assert held(whole) == held(single)
        untouched = held(whole)
        try:
            admitted = [(one.event.id, one.is_new) for one in whole.intake.admit_whole(batch)]
        except Refused:
            assert held(whole) == untouched
            assert any(isinstance(one, Refused) for one in single.intake.admit_partial(batch))
        else:
            found = [single.intake.admit(one) for one in batch]
            assert [(one.event.id, one.is_new) for one in found] == admitted
            assert held(whole) == held(single)

    trio.run(compare, clock=MockClock(autojump_threshold=0))


@given(limits=LIMITS, before=submissions(IDS), batch=submissions(IDS))
def test_partial_batch_is_admitted_as_its_events_are_one_by_one(
    limits: dict[str, int], before: list[Submission], batch: list[Submission]
) -> None:
    """With the same answers, refusals and notices, whether or not there is room for all of it."""

    async def compare() -> None:
        partial, single = new_flow(limits), new_flow(limits)
        for some in (before, batch):
            assert [said(one) for one in partial.intake.admit_partial(some)] == [answered(single, one) for one in some]
            assert held(partial) == held(single)
            for flow in (partial, single):
                await flow.notices.tell_of_time()
            assert told(partial) == told(single)

    trio.run(compare, clock=MockClock(autojump_threshold=0))


def answered(flow: Flow, one: Submission) -> Any:
    try:
        return said(flow.intake.admit(one))
    except Refused as refused:
        return said(refused)


def said(answer: Admitted | Refused) -> Any:
    if isinstance(answer, Refused):
        return answer.slug, answer.detail, answer.retry_after_seconds
    return answer.event.id, answer.is_new


def told(flow: Flow) -> list[Any]:
    return flow.notices.feed.ring.page(None, limit=100).rows
