"""Tasks that do one piece of work after the other: none is lost, and none goes on for ever."""

import pytest
import trio
from hookd.flow.alarm import Alarm
from hookd.flow.flight_tasks import FlightTasks

from tests.flow.harness import now


class Desk:
    """Work is a number of seconds, each with `within` seconds to do it in."""

    def __init__(self, *, within: float = 10.0) -> None:
        self.done: list[tuple[float, float]] = []  # which, and when
        self.cut: list[tuple[float, float]] = []
        self.tasks: set[trio.lowlevel.Task] = set()
        self._within = within

    async def do(self, seconds: float, alarm: Alarm) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self.tasks.add(trio.lowlevel.current_task())
        if seconds < 0:
            raise ValueError("this work fails")
        if seconds == 0:
            return  # without ever setting the alarm
        with alarm.within(self._within):
            await trio.sleep(seconds)
            self.done.append((seconds, trio.current_time()))
            return
        self.cut.append((seconds, trio.current_time()))


async def test_one_task_does_what_comes_one_after_the_other(autojump_clock) -> None:
    """Each piece has the whole of its own time."""
    desk = Desk(within=3.0)
    tasks = FlightTasks(desk.do)
    async with trio.open_nursery() as nursery:
        for seconds in (1.0, 2.0, 2.5):
            tasks.begin(seconds, nursery)
            await trio.sleep(seconds + 0.25)
    assert desk.done == [(1.0, 1.0), (2.0, 3.25), (2.5, 6.0)]
    assert len(desk.tasks) == 1
    assert trio.current_time() == 6.5  # when its alarm ended it


async def test_where_nobody_is_idle_another_begins(autojump_clock) -> None:
    """As many at once as are begun."""
    desk = Desk()
    tasks = FlightTasks(desk.do)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            for _ in range(5):
                tasks.begin(1.0, nursery)
            await trio.sleep(1.5)
    assert desk.done == [(1.0, 1.0)] * 5 + [(1.0, 2.5)] * 5
    assert len(desk.tasks) == 5


async def test_one_whose_alarm_is_not_set_ends_with_its_work(autojump_clock) -> None:
    """Nothing would end its waiting: an alarm that rang, and one that was never set."""
    desk = Desk(within=3.0)
    tasks = FlightTasks(desk.do)
    async with trio.open_nursery() as nursery:
        tasks.begin(5.0, nursery)
        tasks.begin(0.0, nursery)
    assert trio.current_time() == 3
    assert (desk.cut, desk.done) == ([(5.0, 3.0)], [])


async def test_the_one_that_was_busy_last_is_taken_first(autojump_clock) -> None:
    """So those that are not needed any more come to their end."""
    desk = Desk(within=4.0)
    tasks = FlightTasks(desk.do)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            tasks.begin(1.0, nursery)
        for _ in range(3):
            await trio.sleep(1.5)
            tasks.begin(1.0, nursery)
        assert len(nursery.child_tasks) == 1
    assert len(desk.tasks) == 3


async def test_one_that_stays_idle_is_ended_by_its_alarm(autojump_clock) -> None:
    """And the next piece of work has a task of its own, which is not cut by what rang."""
    desk = Desk(within=4.0)
    tasks = FlightTasks(desk.do)
    async with trio.open_nursery() as nursery:
        tasks.begin(1.0, nursery)
        await trio.sleep(4.5)
        assert not nursery.child_tasks
        tasks.begin(3.0, nursery)
    assert desk.done == [(1.0, 1.0), (3.0, 7.5)]
    assert len(desk.tasks) == 2


@pytest.mark.parametrize("order", ["work first", "alarm first"])
async def test_work_that_comes_as_the_alarm_rings_is_done(autojump_clock, order: str) -> None:
    """At the very moment: by the one that was idle, or by another, and in its whole time."""
    desk = Desk(within=4.0)
    tasks = FlightTasks(desk.do)
    async with trio.open_nursery() as nursery:
        if order == "work first":

            async def hand() -> None:
                await trio.sleep_until(4.0)
                tasks.begin(3.0, nursery)

            nursery.start_soon(hand)
            await now()
        tasks.begin(1.0, nursery)
        if order == "alarm first":
            await trio.sleep_until(4.0)
            tasks.begin(3.0, nursery)
    assert desk.done == [(1.0, 1.0), (3.0, 7.0)]


async def test_a_cancelled_nursery_ends_the_idle_and_the_busy(autojump_clock) -> None:
    """Also one that was handed work and has not run since. What comes later begins anew, in another nursery."""
    desk = Desk()
    tasks = FlightTasks(desk.do)
    async with trio.open_nursery() as nursery:
        for seconds in (1.0, 1.0, 9.0):
            tasks.begin(seconds, nursery)
        await trio.sleep(2)
        tasks.begin(1.0, nursery)
        nursery.cancel_scope.cancel()
    assert (trio.current_time(), len(desk.done)) == (2, 2)
    async with trio.open_nursery() as nursery:
        tasks.begin(1.0, nursery)
    assert desk.done[2:] == [(1.0, 3.0)]


async def test_an_error_is_the_nurserys(autojump_clock) -> None:
    """Whoever keeps the tasks contains it."""
    tasks = FlightTasks(Desk().do)

    async def keep() -> None:
        async with trio.open_nursery() as nursery:
            tasks.begin(1.0, nursery)
            await trio.sleep(2)
            tasks.begin(-1.0, nursery)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as raised:
        await keep()
    assert [str(error) for error in raised.value.exceptions] == ["this work fails"]
