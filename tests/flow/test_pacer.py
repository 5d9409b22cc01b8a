"""The ring of ready lanes: who begins next, how many in one tick, and how many at once."""

import math
from itertools import pairwise

import pytest
import trio
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.health import Health
from hookd.core.settings import DeliverySettings, Settings
from hookd.flow.lane import Lane
from hookd.flow.pacer import PLACES_BACK, STARTS_PER_TICK, TICKS_PER_FAILING_START, Pacer

from tests.flow.harness import now


class Beginner:
    """Begins from any lane it is asked for, and offers it again until it has begun so often from it."""

    def __init__(self, pacer: Pacer, *, times: float = 1, refuses: bool = False, is_failing: bool = False) -> None:
        self._pacer = pacer
        self._times = times
        self._refuses = refuses
        self._is_failing = is_failing
        self.begun: list[str] = []
        self.asked = 0

    def offer(self, lane: Lane) -> None:
        self._pacer.offer(lane, self, 0.0, is_failing=self._is_failing)

    def begin(self, lane: Lane) -> bool:
        self.asked += 1
        if self._refuses:
            return False
        self.begun.append(lane.endpoint_id)
        lane.in_flight += 1
        self._pacer.began(is_failing=self._is_failing)
        if self.begun.count(lane.endpoint_id) < self._times:
            self.offer(lane)
        return True


def paced(connections_max: int = 1_000_000) -> Pacer:
    return Pacer(EffectiveSettings(Settings(delivery=DeliverySettings(connections_max=connections_max))))


def lane(name: str, in_flight: int = 0) -> Lane:
    made = Lane(name, endpoint=None, health=Health())
    made.in_flight = in_flight
    return made


@pytest.mark.parametrize("lanes", [1, 1000])
async def test_at_most_a_few_begin_before_another_ready_task_has_its_turn(autojump_clock, nursery, lanes) -> None:
    """A thousand attempts due together are a ramp: in each tick a few, from one lane or from a thousand."""
    pacer = paced()
    beginner = Beginner(pacer, times=1000 // lanes)
    nursery.start_soon(pacer.run)
    await now()
    for number in range(lanes):
        beginner.offer(lane(str(number)))
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
        beginner.offer(lane(name, in_flight))
    nursery.start_soon(pacer.run)
    await now()
    assert beginner.begun == ["none", "one", "also-one", "five", "nine"]


async def test_lane_with_an_attempt_in_flight_waits_for_as_many_as_it_lost_places_and_no_longer(
    autojump_clock, nursery
) -> None:
    """Strictly fewest in flight first would keep it behind lanes that always have none, for ever."""
    pacer = paced()
    beginner = Beginner(pacer)
    beginner.offer(lane("busy", in_flight=1))
    for number in range(2 * PLACES_BACK):
        beginner.offer(lane(str(number)))
    nursery.start_soon(pacer.run)
    await now()
    assert beginner.begun.index("busy") == PLACES_BACK - 1


async def test_failing_ones_begin_every_few_ticks_and_keep_no_other_waiting(autojump_clock, nursery) -> None:
    """A hundred that fail at once and are ready again: one that is well begins in the very tick that offers it."""
    pacer = paced()
    failing, well = Beginner(pacer, times=math.inf, is_failing=True), Beginner(pacer)
    for number in range(100):
        failing.offer(lane(str(number)))
    nursery.start_soon(pacer.run)
    for tick in range(1, 100):
        await trio.lowlevel.checkpoint()
        well.offer(lane(f"well-{tick}"))
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        assert len(well.begun) == tick
    turns = 3 * 99
    assert len(failing.begun) == pytest.approx(turns / TICKS_PER_FAILING_START, abs=2)


async def test_failing_ones_begin_though_well_ones_always_have_more(autojump_clock, nursery) -> None:
    """Of a single slot too: what is well does not take every one that becomes free."""
    pacer = paced(connections_max=1)
    failing, well = Beginner(pacer, times=math.inf, is_failing=True), Beginner(pacer, times=math.inf)
    failing.offer(lane("failing"))
    well.offer(lane("well"))
    nursery.start_soon(pacer.run)
    for _ in range(10 * TICKS_PER_FAILING_START):
        await now()
        pacer.ended(is_failing=len(failing.begun) > len(well.begun))
        if failing.begun:
            return
    pytest.fail("none began")


async def test_failing_ones_hold_at_most_half_of_the_slots(autojump_clock, nursery) -> None:
    """Thousands that hang leave room for who answers; half of one slot is one."""
    for most, half in ((1, 1), (8, 4), (9, 5)):
        pacer = paced(connections_max=most)
        failing, well = Beginner(pacer, times=math.inf, is_failing=True), Beginner(pacer, times=math.inf)
        for number in range(10):
            failing.offer(lane(str(number)))
        nursery.start_soon(pacer.run)
        await now()
        assert len(failing.begun) == half
        well.offer(lane("well"))
        await now()
        assert len(well.begun) == most - half
        pacer.ended(is_failing=True)
        await now()
        assert len(failing.begun) + len(well.begun) == most + 1


async def test_each_end_of_a_failing_one_lets_one_begin(autojump_clock, nursery) -> None:
    """Half of the slots, however many ended before; the end of one that was well gives them none."""
    pacer = paced(connections_max=8)
    failing = Beginner(pacer, times=math.inf, is_failing=True)
    failing.offer(lane("failing"))
    nursery.start_soon(pacer.run)
    for begun in range(4, 10):
        await now()
        assert len(failing.begun) == begun
        pacer.began(is_failing=False)
        pacer.ended(is_failing=False)
        await now()
        assert len(failing.begun) == begun
        pacer.ended(is_failing=True)


async def test_lanes_with_much_to_begin_take_turns(autojump_clock, nursery) -> None:
    """Each begins one before any begins its second."""
    pacer = paced()
    beginner = Beginner(pacer, times=3)
    for name in "abc":
        beginner.offer(lane(name))
    nursery.start_soon(pacer.run)
    await now()
    assert beginner.begun == list("abc" * 3)


async def test_connections_max_is_held_and_each_end_lets_one_begin(autojump_clock, nursery) -> None:
    """At most so many in flight in the whole daemon; raised settings are seen at the next end."""
    effective = EffectiveSettings(Settings(delivery=DeliverySettings(connections_max=3)))
    pacer = Pacer(effective)
    beginner = Beginner(pacer, times=math.inf)
    beginner.offer(lane("a"))
    nursery.start_soon(pacer.run)
    for begun in (3, 4, 5):
        await now()
        assert len(beginner.begun) == begun
        pacer.ended(is_failing=False)
    effective.settings = Settings(delivery=DeliverySettings(connections_max=10))
    pacer.ended(is_failing=False)
    await now()
    assert len(beginner.begun) == 10 + 4  # four have ended


async def test_lane_offered_twice_is_asked_once(autojump_clock, nursery) -> None:
    """It is in the ring at most once; after it was asked it may be offered again."""
    pacer = paced()
    beginner = Beginner(pacer)
    one = lane("a")
    beginner.offer(one)
    beginner.offer(one)
    nursery.start_soon(pacer.run)
    await now()
    assert beginner.asked == 1
    beginner.offer(one)
    await now()
    assert beginner.asked == 2


async def test_courier_that_begins_nothing_takes_no_slot(autojump_clock, nursery) -> None:
    """What was offered and may not begin any more is passed over; the one behind it begins."""
    pacer = paced(connections_max=1)
    refusing, beginner = Beginner(pacer, refuses=True), Beginner(pacer)
    for number in range(20):
        refusing.offer(lane(str(number)))
    beginner.offer(lane("last"))
    nursery.start_soon(pacer.run)
    await now()
    assert (refusing.asked, beginner.begun) == (20, ["last"])


async def test_wait_idle_returns_when_the_last_attempt_ends(autojump_clock, nursery) -> None:
    """At once while none is in flight, else with the last of them; one that began meanwhile counts."""
    pacer = paced()
    with trio.fail_after(0):
        await pacer.wait_idle()
    pacer.began(is_failing=False)
    pacer.began(is_failing=False)
    returned = trio.Event()

    async def wait() -> None:
        await pacer.wait_idle()
        returned.set()

    nursery.start_soon(wait)
    await now()
    pacer.ended(is_failing=False)
    await now()
    assert not returned.is_set()
    pacer.ended(is_failing=False)
    pacer.began(is_failing=False)
    await now()
    assert not returned.is_set()
    pacer.ended(is_failing=False)
    await now()
    assert returned.is_set()
