"""The ring of ready lanes: who begins next, how many in one tick, and how many at once."""

import math
from itertools import pairwise

import pytest
import trio

from daemon.core.live import Live
from daemon.core.settings import DeliverySettings, Settings
from daemon.flow.lane import Lane
from daemon.flow.pacer import STARTS_PER_TICK, Pacer
from tests.flow.harness import now


class Beginner:
    """Begins from any lane it is asked for, and offers it again until it has begun so often from it."""

    def __init__(self, pacer: Pacer, *, times: int = 1, refuses: bool = False) -> None:
        self._pacer = pacer
        self._times = times
        self._refuses = refuses
        self.begun: list[str] = []
        self.asked = 0

    def begin(self, lane: Lane) -> bool:
        self.asked += 1
        if self._refuses:
            return False
        self.begun.append(lane.endpoint_id)
        lane.in_flight += 1
        self._pacer.began()
        if self.begun.count(lane.endpoint_id) < self._times:
            self._pacer.offer(lane, self)
        return True


def paced(connections_max: int = 1_000_000) -> Pacer:
    return Pacer(Live(Settings(delivery=DeliverySettings(connections_max=connections_max))))


def lane(name: str, in_flight: int = 0) -> Lane:
    made = Lane(name)
    made.in_flight = in_flight
    return made


@pytest.mark.parametrize("lanes", [1, 1000])
async def test_at_most_a_few_begin_before_another_ready_task_has_its_turn(autojump_clock, nursery, lanes) -> None:
    """A thousand attempts due together are a ramp: in each tick eight, from one lane or from a thousand."""
    pacer = paced()
    beginner = Beginner(pacer, times=1000 // lanes)
    nursery.start_soon(pacer.run)
    await now()
    for number in range(lanes):
        pacer.offer(lane(str(number)), beginner)
    at_each_turn = []
    while len(beginner.begun) < 1000:
        await trio.lowlevel.checkpoint()
        at_each_turn.append(len(beginner.begun))
    steps = [after - before for before, after in pairwise([0, *at_each_turn])]
    assert max(steps) <= 2 * STARTS_PER_TICK  # two of its turns may lie between two of ours
    assert len(steps) >= 1000 / (2 * STARTS_PER_TICK)
    assert trio.current_time() == 0


async def test_fewest_in_flight_goes_first_and_among_equals_the_longest_waiting(autojump_clock, nursery) -> None:
    """One that answers quickly does not stand behind those that hold what they have."""
    pacer = paced()
    beginner = Beginner(pacer)
    for name, in_flight in (("five", 5), ("one", 1), ("also-one", 1), ("none", 0), ("nine", 9)):
        pacer.offer(lane(name, in_flight), beginner)
    nursery.start_soon(pacer.run)
    await now()
    assert beginner.begun == ["none", "one", "also-one", "five", "nine"]


async def test_lanes_with_much_to_begin_take_turns(autojump_clock, nursery) -> None:
    """Each begins one before any begins its second."""
    pacer = paced()
    beginner = Beginner(pacer, times=3)
    for name in "abc":
        pacer.offer(lane(name), beginner)
    nursery.start_soon(pacer.run)
    await now()
    assert beginner.begun == list("abc" * 3)


async def test_connections_max_is_held_and_each_end_lets_one_begin(autojump_clock, nursery) -> None:
    """At most so many in flight in the whole daemon; raised settings are seen at the next end."""
    live = Live(Settings(delivery=DeliverySettings(connections_max=3)))
    pacer = Pacer(live)
    beginner = Beginner(pacer, times=math.inf)
    pacer.offer(lane("a"), beginner)
    nursery.start_soon(pacer.run)
    for begun in (3, 4, 5):
        await now()
        assert len(beginner.begun) == begun
        pacer.ended()
    live.settings = Settings(delivery=DeliverySettings(connections_max=10))
    pacer.ended()
    await now()
    assert len(beginner.begun) == 10 + 4  # four have ended


async def test_lane_offered_twice_is_asked_once(autojump_clock, nursery) -> None:
    """It is in the ring at most once; after it was asked it may be offered again."""
    pacer = paced()
    beginner = Beginner(pacer)
    one = lane("a")
    pacer.offer(one, beginner)
    pacer.offer(one, beginner)
    nursery.start_soon(pacer.run)
    await now()
    assert beginner.asked == 1
    pacer.offer(one, beginner)
    await now()
    assert beginner.asked == 2


async def test_courier_that_begins_nothing_takes_no_slot(autojump_clock, nursery) -> None:
    """What was offered and may not begin any more is passed over; the one behind it begins."""
    pacer = paced(connections_max=1)
    refusing, beginner = Beginner(pacer, refuses=True), Beginner(pacer)
    for number in range(20):
        pacer.offer(lane(str(number)), refusing)
    pacer.offer(lane("last"), beginner)
    nursery.start_soon(pacer.run)
    await now()
    assert (refusing.asked, beginner.begun) == (20, ["last"])


async def test_wait_idle_returns_when_the_last_attempt_ends(autojump_clock, nursery) -> None:
    """At once while none is in flight, else with the last of them; one that began meanwhile counts."""
    pacer = paced()
    with trio.fail_after(0):
        await pacer.wait_idle()
    pacer.began()
    pacer.began()
    returned = trio.Event()

    async def wait() -> None:
        await pacer.wait_idle()
        returned.set()

    nursery.start_soon(wait)
    await now()
    pacer.ended()
    await now()
    assert not returned.is_set()
    pacer.ended()
    pacer.began()
    await now()
    assert not returned.is_set()
    pacer.ended()
    await now()
    assert returned.is_set()
