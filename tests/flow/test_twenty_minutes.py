"""What the README says of a client that was down for twenty minutes, with the default settings, in virtual time."""

import trio
from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.outcome import Unreachable

from tests.flow.harness import URL, Flow, at, statuses

DOWN_SECONDS = 20 * 60
# The longest wait between two probes, with the window's growth behind it.
FOUND_WITHIN_SECONDS = 60


async def down(nursery: trio.Nursery) -> Flow:
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Unreachable("refused"))
    return flow


async def test_backlog_of_twenty_minutes_is_delivered_within_a_minute_of_the_return(autojump_clock, nursery) -> None:
    """An event every ten seconds: the endpoint is paused, a probe finds it back, and nothing was given up."""
    flow = await down(nursery)
    events: list[Event] = []
    for number in range(DOWN_SECONDS // 10):
        await at(10 * number)
        events.append(flow.admit(event_id=f"e{number}"))
    await at(DOWN_SECONDS)
    assert set(statuses(events)) <= {Status.PENDING, Status.FAILED}
    flow.sender.script(URL, 200)
    await at(DOWN_SECONDS + FOUND_WITHIN_SECONDS + 1)
    assert statuses(events) == {Status.DELIVERED: len(events)}


async def test_single_event_of_an_outage_keeps_its_schedule(autojump_clock, nursery) -> None:
    """Five failures pause nothing, so nobody probes: its sixth attempt is due when the README says."""
    flow = await down(nursery)
    event = flow.admit(event_id="lonely")
    await at(DOWN_SECONDS)
    flow.sender.script(URL, 200)
    await at(42 * 60 + 36)
    assert flow.sender.times("lonely") == [0, 5, 35, 155, 755, 2555]
    assert event.status is Status.DELIVERED
