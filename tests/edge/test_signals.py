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
    signals.attach(received.append)
    assert received == ["SIGHUP", "SIGTERM"]
    os.kill(os.getpid(), signal.SIGINT)
    with trio.fail_after(5):
        while len(received) < 3:
            await trio.lowlevel.checkpoint()
    assert received == ["SIGHUP", "SIGTERM", "SIGINT"]
    signals.detach()


def test_signal_after_the_loop_has_ended_is_harmless():
    """A signal that comes when the report is written and the loop is gone raises nothing."""
    signals = Signals([])

    async def main() -> None:
        signals.attach(lambda name: None)

    trio.run(main)
    os.kill(os.getpid(), signal.SIGTERM)
