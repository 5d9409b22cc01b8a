"""The timer: who is looked at when, in how many turns of the loop, and what it keeps of who was forgotten."""

import gc
import math
import weakref

import trio
from hookd.flow.timer import SOON, Timer
from trio.testing import MockClock, wait_all_tasks_blocked


class Looker:
    """Notes each look: up to when the timer looks, and the time. Asks for the next ones in turn."""

    def __init__(self, *next_ats: float, goes_by_clock: bool = True) -> None:
        self.goes_by_clock = goes_by_clock
        self.seen: list[tuple[float, float]] = []
        self._next_ats = list(next_ats)

    def look(self, at: float) -> float:
        self.seen.append((at, trio.current_time()))
        return self._next_ats.pop(0) if self._next_ats else math.inf


async def test_looker_is_looked_at_when_it_says(autojump_clock, nursery) -> None:
    """At each moment that it names, and no more once it names none."""
    timer, one = Timer(), Looker(5, 7.5)
    nursery.start_soon(timer.run)
    timer.look_at(one, 2)
    await trio.sleep(100)
    assert one.seen == [(2, 2), (5, 5), (7.5, 7.5)]


async def test_sooner_look_takes_the_place_of_a_later_one(autojump_clock, nursery) -> None:
    """Asked for while the timer waits for another. A later one than it has is not noted: the look says when next."""
    timer, one, other = Timer(), Looker(20), Looker()
    nursery.start_soon(timer.run)
    timer.look_at(other, 6)
    timer.look_at(one, 9)
    await trio.sleep(1)
    timer.look_at(one, 3)
    timer.look_at(one, 8)
    await trio.sleep(100)
    assert one.seen == [(3, 3), (20, 20)]
    assert other.seen == [(6, 6)]


async def test_look_at_the_same_moment_again_is_one_look(autojump_clock, nursery) -> None:
    """What it had for 9 before 3 came up is of the past by then."""
    timer, one = Timer(), Looker(9)
    nursery.start_soon(timer.run)
    timer.look_at(one, 9)
    timer.look_at(one, 3)
    await trio.sleep(100)
    assert one.seen == [(3, 3), (9, 9)]


async def test_look_that_is_wanted_soon_is_in_the_next_turn(autojump_clock, nursery) -> None:
    timer, one = Timer(), Looker()
    nursery.start_soon(timer.run)
    await wait_all_tasks_blocked()
    timer.look_at(one, SOON)
    assert one.seen == []
    await wait_all_tasks_blocked()
    assert one.seen == [(0, 0)]


async def test_who_is_forgotten_is_not_looked_at(autojump_clock, nursery) -> None:
    timer, one = Timer(), Looker()
    nursery.start_soon(timer.run)
    timer.look_at(one, 3)
    timer.forget(one)
    timer.forget(one)
    await trio.sleep(100)
    assert one.seen == []


async def test_all_that_are_due_by_the_clock_are_looked_at_in_one_turn(mock_clock: MockClock, nursery) -> None:
    """After a long turn of others."""
    many = await looked_at_late(mock_clock, nursery, goes_by_clock=True)
    assert [one.seen for one in many[:11]] == [[(2, 2)]] * 11
    assert [one.seen for one in many[11:]] == [[]] * 9


async def test_by_the_moments_waited_for_each_is_looked_at_once_and_at_its_own(mock_clock: MockClock, nursery) -> None:
    """Each in a turn of its own. What is due later is not looked at in vain: with n of them that were n² looks."""
    many = await looked_at_late(mock_clock, nursery, goes_by_clock=False)
    assert [one.seen for one in many[:11]] == [[(1 + number / 10, 2)] for number in range(11)]
    assert [one.seen for one in many[11:]] == [[]] * 9


async def looked_at_late(mock_clock: MockClock, nursery: trio.Nursery, *, goes_by_clock: bool) -> list[Looker]:
    """Twenty that want a look at 1.0, 1.1 and so on, after the time has gone on to 2 at once."""
    timer, many = Timer(), [Looker(goes_by_clock=goes_by_clock) for _ in range(20)]
    nursery.start_soon(timer.run)
    for number, one in enumerate(many):
        timer.look_at(one, 1 + number / 10)
    await wait_all_tasks_blocked()
    mock_clock.jump(2)
    await wait_all_tasks_blocked()
    return many


async def test_looks_that_are_wanted_no_more_are_let_go(autojump_clock, nursery) -> None:
    """A day's worth of couriers that came, waited for a far moment and went is not kept until then."""
    timer, stays = Timer(), Looker()
    timer.look_at(stays, 50)
    kept = []
    for number in range(1000):
        one = Looker()
        timer.look_at(one, 3600 + number)
        timer.look_at(one, 1800 + number)
        timer.forget(one)
        kept.append(weakref.ref(one))
    del one
    gc.collect()
    assert sum(one() is not None for one in kept) < 100
    nursery.start_soon(timer.run)
    await trio.sleep(100)
    assert stays.seen == [(50, 50)]
