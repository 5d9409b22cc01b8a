"""Strict order: one at a time, in the order of acceptance, each settled before the next begins."""

from typing import Any

import pytest
from hookd.core.client import Endpoint
from hookd.core.delivery import Status
from hookd.core.outcome import Unreachable
from hookd.core.settings import RetrySettings, Settings

from tests.flow.harness import URL, Flow, Held, at, endpoint, now

OTHER = "https://other.example/"


def strict(**fields: Any) -> Endpoint:
    return endpoint(order="strict", schedule_seconds=(5.0, 5.0), **fields)


async def flow_with(nursery, *endpoints: Endpoint, settings: Settings | None = None) -> Flow:
    flow = Flow(settings)
    await flow.start(nursery)
    flow.put("acme", *endpoints or (strict(),))
    return flow


def sent(flow: Flow, url: str = URL) -> list[str]:
    return [one.event_id for one in flow.sender.to(url)]


async def test_events_go_one_at_a_time_in_order_of_acceptance(autojump_clock, nursery) -> None:
    """The next begins when the one before has settled, however wide the window is."""
    flow = await flow_with(nursery, strict(concurrency=8))
    held = [Held() for _ in range(5)]
    flow.sender.script(URL, *held)
    for number in range(5):
        flow.admit(event_id=f"e{number}")
    for number in range(5):
        await now()
        assert sent(flow) == [f"e{one}" for one in range(number + 1)]
        held[number].release(200)
    await now()
    assert flow.sender.peaks[URL] == 1
    assert all(event.status is Status.DELIVERED for event in flow.events())


async def test_failing_one_holds_up_those_behind_it_and_no_sibling(autojump_clock, nursery) -> None:
    """Until it settles, delivered or exhausted. Which one it is stands in the health; those behind promise no time."""
    flow = await flow_with(nursery, strict(), endpoint("other", OTHER))
    flow.sender.script(URL, 500, 500, 500, 200)
    events = [flow.admit(event_id=f"e{number}") for number in range(3)]
    await at(4)
    assert sent(flow) == ["e0"]
    assert sorted(sent(flow, OTHER)) == ["e0", "e1", "e2"]
    health = flow.ledger.ensure_health("acme", "default")
    assert health.held_up_by == "e0"
    begins = [flow.ledger.terms.begins_at(event, event.deliveries[0], now=4.0) for event in events]
    assert begins == [5.0, None, None]
    await at(10)
    assert sent(flow) == ["e0", "e0", "e0", "e1", "e2"]
    assert [event.deliveries[0].status for event in events] == [Status.EXHAUSTED, Status.DELIVERED, Status.DELIVERED]
    assert health.held_up_by is None


async def test_probe_is_the_first_of_the_line(autojump_clock, nursery) -> None:
    """While paused by failures one is probed with; nothing overtakes it when the endpoint is well again."""
    flow = await flow_with(nursery, endpoint(order="strict", schedule_seconds=(1.0,) * 50))
    flow.sender.script(URL, *[Unreachable("refused")] * 40, 200)
    for number in range(3):
        flow.admit(event_id=f"e{number}")
    await at(3000)
    first = sent(flow).index("e1")
    assert sent(flow)[:first] == ["e0"] * first
    assert sent(flow)[first:] == ["e1", "e2"]


async def test_what_is_expedited_does_not_overtake(autojump_clock, nursery) -> None:
    """Retry now hurries the first of the line; of those behind it, it changes nothing that is sent."""
    flow = await flow_with(nursery)
    flow.sender.script(URL, 500, 200)
    events = [flow.admit(event_id=f"e{number}") for number in range(3)]
    await at(1)
    flow.retry_now.retry(events[2])
    await at(2)
    assert sent(flow) == ["e0"]
    flow.retry_now.retry(events[0])
    await now()
    assert sent(flow) == ["e0", "e0", "e1", "e2"]
    assert flow.sender.times("e0") == [0, 2]


async def test_reopened_one_goes_before_those_accepted_later(autojump_clock, nursery) -> None:
    flow = await flow_with(nursery, strict(give_up_on=(400,)))
    held = Held()
    flow.sender.script(URL, 400, held, 200)
    events = [flow.admit(event_id=f"e{number}") for number in range(4)]
    await now()
    assert sent(flow) == ["e0", "e1"]
    flow.retry_now.retry(events[0])
    held.release(200)
    await now()
    assert sent(flow) == ["e0", "e1", "e0", "e2", "e3"]


async def test_expired_one_lets_the_next_go(autojump_clock, nursery) -> None:
    """What holds up is given up at its age; the younger one behind it goes then."""
    flow = await flow_with(
        nursery,
        endpoint(order="strict", schedule_seconds=(600.0,)),
        settings=Settings(retry=RetrySettings(age_seconds_max=60.0)),
    )
    flow.sender.script(URL, 500, 200)
    first = flow.admit(event_id="e0")
    await at(30)
    flow.admit(event_id="e1")
    await at(80)
    assert first.status is Status.EXHAUSTED
    assert sent(flow) == ["e0", "e1"]
    assert flow.ledger.ensure_health("acme", "default").held_up_by is None


async def test_order_changes_with_the_registration(autojump_clock, nursery) -> None:
    """To strict: what flies ends first, then the oldest goes. From strict: what waited is no longer held up."""
    flow = await flow_with(nursery, endpoint(concurrency=2, schedule_seconds=(5.0, 5.0)))
    held = [Held(), Held(), Held()]
    flow.sender.script(URL, *held, 500)
    for number in range(4):
        flow.admit(event_id=f"e{number}")
    await now()
    first, second = sent(flow)  # in one tick: either may be sent first
    assert {first, second} == {"e0", "e1"}
    flow.put("acme", strict(concurrency=2))
    held[1].release(200)
    await now()
    assert len(sent(flow)) == 2
    held[0].release(500)
    await at(5)
    assert sent(flow)[2:] == [first]
    held[2].release(500)
    await at(6)
    assert flow.ledger.ensure_health("acme", "default").held_up_by == first
    flow.put("acme", endpoint(concurrency=2, schedule_seconds=(5.0, 5.0)))
    await now()
    assert sorted(sent(flow)[3:]) == ["e2", "e3"]
    assert flow.ledger.ensure_health("acme", "default").held_up_by is None


@pytest.mark.parametrize("steps", [[200], [500, 200], [200, 500, 500, 500]])
async def test_every_delivery_settles_in_order(autojump_clock, nursery, steps: list[int]) -> None:
    """Whatever the receiver answers: no event begins before the one before it has settled."""
    flow = await flow_with(nursery)
    flow.sender.script(URL, *steps * 20)
    for number in range(40):
        flow.admit(event_id=f"e{number:02}")
    await at(4000)
    assert sent(flow) == sorted(sent(flow))
    assert flow.ledger.totals().unsettled_events == 0
