"""One cancel scope for many things: each has the whole of its own time, and nothing of another's."""

import math

import pytest
import trio
from hookd.flow.alarm import Alarm
from hookd.flow.timer import Timer
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock


async def test_each_thing_has_its_own_time(autojump_clock) -> None:
    """It is cut when its own time is over, whatever the one before had left."""
    cut_at = []
    with Alarm() as alarm:
        for seconds in (5, 1, 3):
            alarm.renew()
            with alarm.within(seconds):
                await trio.sleep_forever()
            cut_at.append(trio.current_time())
    assert cut_at == [5, 6, 9]


async def test_thing_that_is_done_in_time_is_not_cut_by_its_own_deadline(autojump_clock) -> None:
    """The deadline of what is done passes in the middle of the next thing, which has a later one."""
    with Alarm() as alarm:
        with alarm.within(2):
            await trio.sleep(1)
        alarm.renew()
        with alarm.within(4):
            await trio.sleep(3.5)
            assert trio.current_time() == 4.5
        alarm.renew()
        with alarm.within(1):
            await trio.sleep(2)
    assert trio.current_time() == 5.5


async def test_it_rings_while_idle(autojump_clock) -> None:
    """Whoever waits for the next thing is woken out of the `with`, when the last one's time would have been over."""
    went_on = False
    with Alarm() as alarm:
        with alarm.within(2):
            await trio.sleep(1)
        await trio.sleep_forever()
        went_on = True
    assert not went_on
    assert trio.current_time() == 2
    await trio.lowlevel.checkpoint()  # nothing of it is left


async def test_it_rings_between_being_woken_and_running(autojump_clock) -> None:
    """Woken at the moment at which the old deadline passes: the next thing has all of its time."""
    task = trio.lowlevel.current_task()
    cut_at = []
    async with trio.open_nursery() as nursery:

        async def wake() -> None:
            await trio.sleep_until(2)  # the deadline's own moment
            trio.lowlevel.reschedule(task)

        nursery.start_soon(wake)
        with Alarm() as alarm:
            with alarm.within(2.0):
                pass
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
            assert trio.current_time() == 2
            alarm.renew()
            await trio.lowlevel.checkpoint_if_cancelled()
            with alarm.within(3):
                await trio.sleep_forever()
            cut_at.append(trio.current_time())
    assert cut_at == [5]


async def test_error_passes_and_the_next_thing_has_its_time(autojump_clock) -> None:
    """What is raised within is the caller's."""
    with Alarm() as alarm:
        with pytest.raises(ValueError, match="mine"), alarm.within(1):
            raise ValueError("mine")
        await trio.sleep(2)
        alarm.renew()
        with alarm.within(1):
            await trio.sleep_forever()
        assert trio.current_time() == 3


async def test_cancellation_from_outside_is_not_the_alarms(autojump_clock) -> None:
    """It passes through all of it."""
    went_on = False
    with trio.move_on_after(1) as outer:
        with Alarm() as alarm:
            with alarm.within(5):
                await trio.sleep_forever()
            went_on = True
        went_on = True
    assert outer.cancelled_caught
    assert not went_on


async def cut_by_alarm(steps: list[tuple[int, int]], timer: Timer | None = None) -> list[tuple[bool, float]]:
    found = []
    with Alarm(timer) as alarm:
        for takes, has in steps:
            done = False
            alarm.renew()
            with alarm.within(has):
                await trio.sleep(takes)
                done = True
            found.append((done, trio.current_time()))
    return found


async def cut_by_timed_alarm(steps: list[tuple[int, int]]) -> list[tuple[bool, float]]:
    timer = Timer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timer.run)
        found = await cut_by_alarm(steps, timer)
        nursery.cancel_scope.cancel()
    return found


async def cut_by_trio(steps: list[tuple[int, int]]) -> list[tuple[bool, float]]:
    found = []
    for takes, has in steps:
        done = False
        with trio.move_on_after(has):
            await trio.sleep(takes)
            done = True
        found.append((done, trio.current_time()))
    return found


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8))
def test_it_is_as_move_on_after(steps: list[tuple[int, int]]) -> None:
    """Of things that take so long and have so much time the same are cut, at the same moments."""
    found = [
        trio.run(cut, [(2 * takes, 2 * has + 1) for takes, has in steps], clock=MockClock(autojump_threshold=0))
        for cut in (cut_by_alarm, cut_by_timed_alarm, cut_by_trio)
    ]
    assert found[0] == found[1] == found[2]


async def test_timer_rings_many_each_at_its_time(autojump_clock, nursery) -> None:
    """Ten tasks with things of their own, long and short: the timer has one entry for each, and each is cut in time."""
    timer = Timer()
    nursery.start_soon(timer.run)
    seen: list[tuple[float, float]] = []

    async def do_things(number: int) -> None:
        with Alarm(timer) as alarm:
            for has in (30 + number, 30 + number, 2, 30 + number):
                alarm.renew()
                began = trio.current_time()
                with alarm.within(has):
                    await trio.sleep(1 if trio.current_time() < 1 else math.inf)
                    continue
                seen.append((has, trio.current_time() - began))

    async with trio.open_nursery() as tasks:
        for number in range(10):
            tasks.start_soon(do_things, number)
    assert len(seen) == 30
    assert all(has == took for has, took in seen)


async def test_timer_rings_while_idle(autojump_clock, nursery) -> None:
    """As without: whoever waits for the next thing is woken out of the `with`."""
    timer = Timer()
    nursery.start_soon(timer.run)
    with Alarm(timer) as alarm:
        for _ in range(3):
            alarm.renew()
            with alarm.within(2):
                await trio.sleep(1)
        await trio.sleep_forever()
    assert trio.current_time() == 4
