"""Owns the budget: what an unsettled event costs of it, and how long until some of it is free again.

Rules: room is only promised from what was measured: the rate at which events settled in the last 10 to 20 s. Where
nothing settled there is no rate, and whoever refuses says the longest wait, or when something will next be tried.
Pure: time comes in as a value. What is held stands in core/ledger.
Limits: one `Settling` for the daemon and one for each client that the ledger holds anything of, about 150 B.
"""

import math

import msgspec

# What the budget counts for a row. Measured at a million events of one delivery each, waiting in a lane: 576 B
# together over the payload; the rest is room for attempts, logs and the allocator.
EVENT_BYTES = 512
DELIVERY_BYTES = 512
# What `Retry-After` may say: sooner is a storm of repeats, later leaves room unused once an endpoint is back.
WAIT_SECONDS_MIN, WAIT_SECONDS_MAX = 1, 60
# Settling is counted in windows of this length: the present one and the one before.
WINDOW_SECONDS = 10.0
# What settled in the first moments is not taken for a rate of thousands a second.
MEASURED_SECONDS_MIN = 1.0


def cost_bytes(payload_bytes: int, delivery_count: int) -> int:
    """What an unsettled event takes of the budget; one that owes nothing to anybody takes none."""
    return payload_bytes + EVENT_BYTES + DELIVERY_BYTES * delivery_count if delivery_count else 0


class Demand(msgspec.Struct, gc=False):
    """Budget asked for, by one event or by several that are admitted together."""

    events: int = 0
    bytes: int = 0
    row_bytes: int = 0  # in the flight recorder, at most

    def plus(self, other: "Demand") -> "Demand":
        return Demand(self.events + other.events, self.bytes + other.bytes, self.row_bytes + other.row_bytes)

    def add(self, other: "Demand") -> None:
        self.events += other.events
        self.bytes += other.bytes
        self.row_bytes += other.row_bytes


class Settling(msgspec.Struct, gc=False):
    """How fast budget was given back lately."""

    began: float = -math.inf  # monotonic: the present window
    events: int = 0
    bytes: int = 0
    seconds_before: float = 0.0  # the length of the window before; none at the start and after a lull
    events_before: int = 0
    bytes_before: int = 0

    def note(self, freed_bytes: int, now: float) -> None:
        """One event gave its budget back."""
        self._turn(now)
        self.events += 1
        self.bytes += freed_bytes

    def seconds_until_free(self, lacking: Demand, now: float) -> float:
        """How long until so much more is given back at the measured rate; infinity if nothing settled lately."""
        self._turn(now)
        seconds = max(now - self.began + self.seconds_before, MEASURED_SECONDS_MIN)
        return max(
            _wait(lacking.events, self.events + self.events_before, seconds),
            _wait(lacking.bytes, self.bytes + self.bytes_before, seconds),
        )

    def _turn(self, now: float) -> None:
        age_seconds = now - self.began
        if age_seconds >= 2 * WINDOW_SECONDS:
            self.began = now
            self.seconds_before, self.events_before, self.bytes_before = 0.0, 0, 0
        elif age_seconds >= WINDOW_SECONDS:
            self.began += WINDOW_SECONDS
            self.seconds_before, self.events_before, self.bytes_before = WINDOW_SECONDS, self.events, self.bytes
        else:
            return
        self.events = self.bytes = 0


def wait_seconds(seconds: float) -> int:
    """Whole seconds for `Retry-After`, upward, within its bounds."""
    return math.ceil(min(max(seconds, WAIT_SECONDS_MIN), WAIT_SECONDS_MAX))


def _wait(lacking: int, freed: int, seconds: float) -> float:
    if lacking <= 0:
        return 0.0
    return lacking * seconds / freed if freed else math.inf
