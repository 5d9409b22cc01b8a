"""Every hold of the loop is seen, wherever it falls between two ticks. Time is turned by hand."""

import pytest
import trio
from hookd.edge.loop_watch import LoopWatch
from hookd.flow.housekeeping import Housekeeping

from tests.flow.harness import Flow, at


class Hand:
    """A clock that only moves when it is turned."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def turn() -> None:
    """Until the loop has waited once and more."""
    for _ in range(3):
        await trio.lowlevel.checkpoint()


async def test_hold_is_measured_to_its_end(autojump_clock) -> None:
    """The longest counts, until the count begins anew; a wait for events is none."""
    hand = Hand()
    watch = LoopWatch(hand)
    trio.lowlevel.add_instrument(watch)
    await turn()
    for held_seconds in (0.2, 0.06, 0.4, 0.05):
        hand.now += held_seconds
        await turn()
    assert watch.longest_seconds == pytest.approx(0.4)
    watch.begin_anew()
    hand.now += 0.051
    await turn()
    assert watch.longest_seconds == pytest.approx(0.051)
    watch.begin_anew()
    await trio.sleep(5)  # virtual
    assert watch.longest_seconds == 0


async def test_several_that_run_in_one_turn_hold_the_loop_together(autojump_clock, nursery) -> None:
    """Ten of 10 ms each keep a peer waiting for 100 ms."""
    hand = Hand()
    watch = LoopWatch(hand)

    async def hold() -> None:
        hand.now += 0.01

    trio.lowlevel.add_instrument(watch)
    await turn()
    for _ in range(10):
        nursery.start_soon(hold)
    await turn()
    assert watch.longest_seconds == pytest.approx(0.1)


@pytest.mark.parametrize("after_tick", [0.001, 0.25, 0.5, 0.75, 0.94])
async def test_hold_between_two_ticks_shows_as_lag(autojump_clock, nursery, after_tick: float) -> None:
    """Over before the next tick, which then is not late. Before, the lag was 0."""
    hand, flow = Hand(), Flow()
    watch = LoopWatch(hand)
    trio.lowlevel.add_instrument(watch)
    flow.housekeeping = Housekeeping(
        effective=flow.effective,
        ledger=flow.ledger,
        states=flow.states,
        endings=flow.endings,
        clock=flow.clock,
        log=flow.log,
        loop_watch=watch,
    )
    await flow.start(nursery)
    await at(3 + after_tick)
    hand.now += 0.051
    await turn()
    assert flow.housekeeping.loop_lag_seconds == pytest.approx(0.051)  # at once
    for second in range(4, 13):
        await at(second + 0.5)
        assert flow.housekeeping.loop_lag_seconds == pytest.approx(0.051)
    await at(14.5)
    assert flow.housekeeping.loop_lag_seconds == 0
