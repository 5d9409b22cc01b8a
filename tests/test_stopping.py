"""The rule of the two signals, and what is left of the drain's time."""

from hookd.core.timestamps import Moment
from hookd.process.stopping import Stopping


class SetClock:
    """Shows what the test says."""

    def __init__(self) -> None:
        self.monotonic = 100.0

    def now(self) -> Moment:
        return Moment(self.monotonic, 1.7e9)


def test_recovery_takes_its_time_off_the_drain() -> None:
    """The drain's time runs from the signal. The signal came before it was heard, and a recovery went on since."""
    clock = SetClock()
    stopping = Stopping(clock)
    stopping.request("SIGTERM", late_seconds=0.5)
    assert stopping.seconds_to_drain(5.0) == 4.5
    clock.monotonic = 103.0
    assert stopping.seconds_to_drain(5.0) == 1.5
    clock.monotonic = 110.0
    assert stopping.seconds_to_drain(5.0) == 0.0


def test_second_signal_forces_and_leaves_no_time() -> None:
    """Within a quarter of a second two are one."""
    clock = SetClock()
    stopping = Stopping(clock)
    stopping.request("SIGTERM", late_seconds=0.0)
    clock.monotonic = 100.2
    stopping.request("SIGINT", late_seconds=0.0)
    assert not stopping.forced.is_set()
    clock.monotonic = 101.0
    stopping.request("SIGINT", late_seconds=0.0)
    assert (stopping.forced.is_set(), stopping.trigger) == (True, "SIGTERM")
    assert stopping.seconds_to_drain(5.0) == 0.0
