"""The rule of the two signals. The first asks the daemon to stop; a second one forces it. And what times follow.

Two signals within `SECOND_SIGNAL_SECONDS` count as one: service managers send SIGTERM and SIGINT together.

Does not: install signal handlers (edge/signals.py), or drain (flow/drain.py).
"""

import math
from typing import NamedTuple

import trio

from hookd.flow.ports import Clock

SECOND_SIGNAL_SECONDS = 0.25
# What is left for peers of the API once the report is written; then their connections are cut.
API_GRACE_SECONDS = 0.5
# Kept connections without a request are closed so long after the drain began, and no earlier.
LAST_REQUESTS_SECONDS = 0.3


class Farewell(NamedTuple):
    """What the server's end gives its peers: those with a request, and those without."""

    grace_seconds: float
    patience_seconds: float


class Stopping:
    """What asked the daemon to stop, and whether it was asked twice."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.requested = trio.Event()
        self.forced = trio.Event()
        self.trigger = "error"
        self.requested_at = -math.inf  # monotonic

    def request(self, trigger: str, late_seconds: float) -> None:
        """`trigger` is the name of a signal, as the report shows it; `late_seconds` ago it came.

        Signals are told apart by when they came: the loop may have been busy since.
        """
        came_at = self._clock.now().monotonic - late_seconds
        if not self.requested.is_set():
            self.trigger, self.requested_at = trigger, came_at
            self.requested.set()
        elif came_at - self.requested_at > SECOND_SIGNAL_SECONDS:
            self.forced.set()

    def crash(self) -> None:
        """Ends the run by itself. No time is left to drain, unless that has begun already."""
        self.trigger = "error"
        self.requested.set()

    def seconds_to_drain(self, timeout_seconds: float) -> float:
        """What is left of `drain.timeout`. It begins with the signal, so a recovery may have used some of it.

        A forced stop leaves nothing. It cuts a recovery short: the report is not claimed then, and the next start
        admits its events again, so none of those admitted now may be attempted.
        """
        if self.forced.is_set():
            return 0.0
        return max(0.0, timeout_seconds - (self._clock.now().monotonic - self.requested_at))

    def farewell(self, drain_seconds: float) -> Farewell:
        """Peers that asked nothing since the drain began may be about to: they have their last answer, too."""
        if self.forced.is_set():
            return Farewell(0.0, 0.0)
        return Farewell(API_GRACE_SECONDS, max(0.0, LAST_REQUESTS_SECONDS - drain_seconds))
