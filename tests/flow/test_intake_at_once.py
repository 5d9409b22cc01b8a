"""A batch's room is asked for once: it is admitted whole exactly where its events would be, one by one."""

from typing import Any

import msgspec
import trio
from hookd.core.event import Submission
from hookd.core.refusal import Refused
from hookd.core.settings import IntakeSettings, Settings
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
SUBMISSIONS = st.lists(
    st.builds(
        submission,
        st.sampled_from(["one", "two", "unrouted", "disabled", "nobody"]),
        st.none() | st.sampled_from(["a", "b", "c"]),
        type=st.sampled_from(["x.y", "z"]),
        payload=st.sampled_from([b"1", b'"' + b"p" * 700 + b'"']),
    ),
    max_size=7,
)


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
            found = single.intake.admit_partial(batch)
            assert [(one.event.id, one.is_new) for one in found if not isinstance(one, Refused)] == admitted
            assert len(found) == len(admitted)
            assert held(whole) == held(single)

    trio.run(compare, clock=MockClock(autojump_threshold=0))
