"""Signals are obeyed from the first line on and are never lost between the held ones and the running loop."""

import os
import signal

import pytest
import trio
from hookd.edge.signals import OBEYED, Signals


@pytest.fixture(name="restored", autouse=True)
def _restored():
    before = {number: signal.getsignal(number) for number in OBEYED}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_signals_before_and_after_attaching_arrive_in_order():
    """What was held comes first, at attaching; what comes later is delivered inside the loop."""
    signals = Signals(["SIGHUP"])
    os.kill(os.getpid(), signal.SIGTERM)
    received: list[str] = []
    signals.attach(lambda name, _late_seconds: received.append(name))
    assert received == ["SIGHUP", "SIGTERM"]
    os.kill(os.getpid(), signal.SIGINT)
    with trio.fail_after(5):
        while len(received) < 3:
            await trio.lowlevel.checkpoint()
    assert received == ["SIGHUP", "SIGTERM", "SIGINT"]
    signals.detach()


async def test_signal_that_a_busy_loop_hears_of_late_says_when_it_came():
    """The handler reads the clock: two come at 10 s and 10.1 s, and the loop hears of them at 13 s and 14 s."""
    readings = iter([10.0, 10.1, 13.0, 14.0])
    signals = Signals([], monotonic=lambda: next(readings))
    received: list[tuple[str, float]] = []
    signals.attach(lambda name, late_seconds: received.append((name, round(late_seconds, 3))))
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    with trio.fail_after(5):
        while len(received) < 2:
            await trio.lowlevel.checkpoint()
    assert received == [("SIGINT", 3.0), ("SIGTERM", 3.9)]
    signals.detach()


def test_signal_after_the_loop_has_ended_is_harmless():
    """A signal that comes when the report is written and the loop is gone raises nothing."""
    signals = Signals([])

    async def main() -> None:
        signals.attach(lambda _name, _late_seconds: None)

    trio.run(main)
    os.kill(os.getpid(), signal.SIGTERM)
