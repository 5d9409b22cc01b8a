"""Owns the reading of the two clocks: trio's monotonic one for waits and ages, the wall's for what people see.

And the first of them: the event loop's, which gives a process that was stopped one look at its sockets before its
deadlines have passed.
"""

import math
import time
from collections.abc import Callable

import trio

from hookd.core.timestamps import WALL_MAX, Moment

# A loop that wakes up so much later than it wanted to was not running: stopped, or its host was.
STOPPED_SECONDS = 0.5
# So that 0 is long ago, however lately the host was started.
OFFSET_SECONDS = 100_000.0


class SystemClock:
    """A wall clock that stands before 1970, or after 9999, is read as that: a report with such times is none.

    `monotonic` is the event loop's clock. Asked itself it takes half of what `trio.current_time` does, five times an
    event.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, *, monotonic: Callable[[], float] = trio.current_time
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def now(self) -> Moment:
        wall = self._wall()
        return Moment(self._monotonic(), wall if 0.0 <= wall <= WALL_MAX else _within_years(wall))

    def wall(self) -> float:
        return _within_years(self._wall())


def _within_years(wall: float) -> float:
    return min(max(wall, 0.0), WALL_MAX)


class LoopClock(trio.abc.Clock):
    """Monotonic; after a stop the first reading is of the moment at which the loop wanted to wake up.

    SIGSTOP, `docker pause` or a suspended host interrupt the wait for events. When it goes on every deadline is past,
    and the interpreter then ends the wait without a look at the sockets (PEP 475): answers that came in time would all
    be timeouts, and their events be sent again. With this reading nothing has expired yet; trio looks at its sockets
    at once, and the next reading is the true one.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._wakes_at = 0.0  # while the loop waits

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        now = self._monotonic() + OFFSET_SECONDS
        if self._wakes_at:
            wakes_at, self._wakes_at = self._wakes_at, 0.0
            if now > wakes_at + STOPPED_SECONDS:
                return math.nextafter(wakes_at, 0.0)
        return now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Trio asks once before each wait, and reads the time once after it."""
        now = self._monotonic() + OFFSET_SECONDS
        self._wakes_at = max(now, deadline)
        return deadline - now
