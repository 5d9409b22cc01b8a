"""What waited for its client's registration is taken over: some in the moment of the PUT, the rest in slices."""

import math
from itertools import pairwise

import pytest
import trio
from hookd.core.client import Client
from hookd.core.retry import Reason
from hookd.flow.adoption import ROWS_AT_ONCE

from tests.flow.harness import at, endpoint, standing
from tests.flow.test_recovery import OTHER, Shelf, Start
from tests.flow.test_resend import written as line

MANY = 5 * ROWS_AT_ONCE


@pytest.fixture(name="start")
async def _start(nursery) -> Start:
    start = Start(Shelf(one=[line(f"e{number}") for number in range(MANY)]))
    await start.recover(nursery)
    start.flow.begin(nursery)
    return start


def due(start: Start) -> int:
    return sum(delivery.due_at != math.inf for event in start.flow.events() for delivery in event.deliveries)


async def test_many_become_due_in_slices_and_others_have_turns(autojump_clock, start) -> None:
    """A slice in the moment itself, another at each turn; all are sent, once each."""
    start.flow.put("acme", endpoint(url=OTHER))
    seen = [due(start)]
    while seen[-1] < MANY:
        await trio.lowlevel.checkpoint()
        seen.append(due(start))
    assert seen[0] == ROWS_AT_ONCE
    assert max(after - before for before, after in pairwise(seen)) <= 2 * ROWS_AT_ONCE  # two of its turns between ours
    await at(600)
    assert sorted(sent.event_id for sent in start.flow.sender.transcript) == sorted(f"e{n}" for n in range(MANY))
    assert start.flow.balanced()


async def test_one_client_s_rest_is_taken_over_after_another_s(autojump_clock, nursery) -> None:
    """Whoever comes when the last of an earlier one is taken over waits for nobody."""
    lines = [line(f"e{number}", client_id=client_id) for client_id in "ab" for number in range(MANY)]
    start = Start(Shelf(one=lines))
    await start.recover(nursery)
    start.flow.begin(nursery)
    for seconds, client_id, count in ((60.0, "a", MANY), (120.0, "b", 2 * MANY)):
        start.flow.put(client_id, endpoint(url=OTHER))
        await at(seconds)
        assert len(start.flow.sender.transcript) == count
    assert start.flow.balanced()


async def test_drain_takes_over_what_is_left_before_it_looks_what_may_begin(autojump_clock, start) -> None:
    start.flow.put("acme", endpoint(url=OTHER))
    assert due(start) < MANY
    await start.flow.drain(timeout_seconds=600.0)
    assert len(start.flow.sender.transcript) == MANY


async def test_client_that_is_removed_meanwhile_has_the_rest_given_up(autojump_clock, start) -> None:
    """What is left is looked at when its turn comes, by then it ends."""
    start.flow.put("acme", endpoint(url=OTHER))
    start.flow.registration.remove("acme", end_unsettled=True)
    await at(600)
    assert not start.flow.sender.transcript
    assert {standing(event)[1] for event in start.flow.events()} == {Reason.ENDPOINT_REMOVED}


async def test_client_that_is_registered_again_meanwhile_gets_each_once(autojump_clock, start) -> None:
    start.flow.put("acme", endpoint(url=OTHER))
    start.flow.put("acme", endpoint(url=OTHER, concurrency=2))
    await at(600)
    assert len(start.flow.sender.transcript) == len({sent.event_id for sent in start.flow.sender.transcript}) == MANY


async def test_strict_order_begins_when_all_of_it_is_taken_over(autojump_clock, start) -> None:
    """What comes newly meanwhile does not overtake what has yet to be taken over."""
    start.flow.put("acme", endpoint(url=OTHER, order="strict"))
    start.flow.admit("acme", "new")
    while due(start) < MANY + 1:
        assert not start.flow.sender.transcript
        await trio.lowlevel.checkpoint()
    await at(600)
    assert [sent.event_id for sent in start.flow.sender.transcript] == [*(f"e{n}" for n in range(MANY)), "new"]


async def test_strict_order_begins_where_nothing_was_left_to_take_over(autojump_clock, nursery) -> None:
    """All that waited was for an endpoint that is gone, and the last of another client was taken over just then."""
    many = [line(f"e{number}") for number in range(MANY)]
    start = Start(Shelf(one=[*many, line("lost", client_id="b", endpoint_id="gone")]))
    await start.recover(nursery)
    flow = start.flow
    flow.begin(nursery)
    flow.put("acme", endpoint(url=OTHER))

    class Then(trio.abc.Instrument):
        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            if flow.adoption._is_going_on and not flow.adoption._left and flow.registry.find("b") is None:
                flow.put("b", endpoint(url=OTHER, order="strict"))

    trio.lowlevel.add_instrument(Then())
    while flow.registry.find("b") is None:
        await trio.lowlevel.checkpoint()
    flow.admit("b", "new")
    await at(600)
    assert flow.sender.times("new")
    assert flow.balanced()


async def test_declared_client_that_is_changed_again_at_once_gets_what_waited(autojump_clock, nursery, start) -> None:
    """It is the last of a long list, and is put again while the others are still followed."""
    listed = {f"c{number}": Client(id=f"c{number}", endpoints=(endpoint(),)) for number in range(500)}
    listed["acme"] = Client(id="acme", endpoints=(endpoint(url=OTHER),))

    async def put_again() -> None:
        while start.flow.registry.find("acme") is None:
            await trio.lowlevel.checkpoint()
        start.flow.put("acme", endpoint(url=OTHER, concurrency=3))

    async with trio.open_nursery() as others:
        others.start_soon(put_again)
        await start.flow.declaration.declare(listed)
    await at(600)
    assert len(start.flow.sender.transcript) == MANY
    assert start.flow.balanced()
