"""Which clients have the largest backlogs, and what finding them costs others."""

from random import Random

from hookd.flow.backlogs import CLIENTS_MAX, Backlog, LargestBacklogs
from hookd.flow.gauges import LOOKED_AT_AT_ONCE

from tests.flow.harness import Flow, now
from tests.turns import turns_of_another


def found_of(all_of_them: list[Backlog]) -> list[Backlog]:
    largest = LargestBacklogs()
    for backlog in all_of_them:
        largest.look(backlog.client_id, backlog.events, backlog.bytes)
    return largest.found()


def test_found_are_the_largest_in_whatever_order_they_are_looked_at() -> None:
    """By events, then by bytes, as a sort of all of them has it; without a backlog none is found."""
    draw = Random(7)
    for count in (0, 1, CLIENTS_MAX - 1, CLIENTS_MAX, CLIENTS_MAX + 1, 500):
        backlogs = [Backlog(draw.randrange(9), draw.randrange(5), f"c{number}") for number in range(count)]
        draw.shuffle(backlogs)
        expected = sorted((backlog for backlog in backlogs if backlog.events), reverse=True)[:CLIENTS_MAX]
        found = found_of(backlogs)
        assert [backlog[:2] for backlog in found] == [backlog[:2] for backlog in expected]
        assert set(found) <= set(backlogs)
        assert len(set(found)) == len(found)


async def test_others_have_a_turn_while_many_clients_are_looked_at(autojump_clock, nursery) -> None:
    """However many there are, at most so many are looked at in one go."""
    flow = Flow()
    await flow.stand_by(nursery)  # no attempt begins
    for number in range(3 * LOOKED_AT_AT_ONCE):
        flow.put(f"c{number}")
        flow.admit(f"c{number}")
    await now()
    async with turns_of_another() as turns:
        gauges = await flow.gauge_collector.take()
    assert len(gauges.backlogs) == CLIENTS_MAX
    assert turns.count >= 8  # between the nine slices of three looks
