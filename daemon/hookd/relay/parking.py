"""Owns a client's lane in the relay: what waits to be posted for it, and for how long the lane is parked.

Rules: a lane has one request on its way at a time, so a client's entries are posted in the stream's order. A lane whose
client is full or unknown, or whose daemon does not answer, is parked: it is tried again after a pause that grows, with
few entries. While it is parked, or its request takes long, it is *stuck*, and holds no more than its share.
Does not: know what is owed (owed.py), or post.
"""

from collections import deque
from enum import Enum

import msgspec

BATCH_MAX = 200  # events in one request
PROBE_MAX = 16  # events in the first request after a pause
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.2, 30.0
# A lane whose request is on its way for so long is stuck until it is answered.
SLOW_SECONDS = 1.0


class Reason(Enum):
    """Why a lane is parked."""

    FULL = "client-full"
    UNKNOWN = "unknown-client"
    UNAVAILABLE = "unavailable"  # its daemon is full, drains, does not answer, or refuses our token
    SHARE = "share"  # it has as much of the relay's own table as is left for others


# The longest pause, by reason. Room and definitions come at any time; asking costs one small request.
_PAUSES_MAX = {Reason.FULL: 5.0, Reason.UNKNOWN: PAUSE_SECONDS_MAX, Reason.UNAVAILABLE: 5.0, Reason.SHARE: 1.0}


class State(Enum):
    """Of a row: where its event stands, as far as the relay knows."""

    WAITING = "waiting"  # in its lane
    POSTING = "posting"  # in a request that is not answered yet
    POSTED = "posted"  # the daemon holds it; it is owed until a feed says that it is settled
    DOUBTFUL = "doubtful"  # it may have been posted; a look-up will tell
    SETTLED = "settled"  # to be acknowledged
    LEAVING = "leaving"  # on its way back to Redis, where it stays pending


class Ending(msgspec.Struct, frozen=True, gc=False):
    """What is written of an entry as it is acknowledged."""

    kind: str  # "delivered", "exhausted", "refused" or "trimmed"
    why: str = ""  # the reason, or the problem's slug
    detail: str = ""


DELIVERED = Ending("delivered")


class Row(msgspec.Struct, gc=False, eq=False):
    """One entry that the relay answers for."""

    entry_id: str
    client_id: str
    event_id: str
    state: State
    item: bytes | None = None  # as it is posted; None: it is fetched from Redis when it is needed
    is_again: bool = False  # it may have been posted before
    is_counted: bool = False  # as posted again
    held_bytes: int = 0  # what it counts as, while it waits
    ending: Ending | None = None


class Lane:
    """One client's. Only the table changes it."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.waiting: deque[Row] = deque()
        self.held_count = 0  # rows that wait or are on their way, and their bytes
        self.held_bytes = 0
        self.row_count = 0  # in whatever state
        self.beyond = 0  # pending in Redis beyond what is held here
        self.is_posting = False
        self.posting_since = 0.0
        self.is_ready = False  # stands in the table's line of ready lanes
        self.is_stuck = False
        self.reason: Reason | None = None
        self.parked_at = 0.0
        self.parked_until = 0.0
        self.wake_at: float | None = None  # when the table looks at it again
        self.pause_seconds = PAUSE_SECONDS_MIN
        self.batch_max = BATCH_MAX

    def park(self, reason: Reason, now: float, seconds: float | None) -> None:
        """For `seconds`, where the daemon named them, else for twice as long as the time before."""
        longest = _PAUSES_MAX[reason]
        if reason is not self.reason:
            self.pause_seconds = PAUSE_SECONDS_MIN
        pause = min(self.pause_seconds if seconds is None else max(seconds, PAUSE_SECONDS_MIN), longest)
        self.pause_seconds = min(2 * self.pause_seconds, longest)
        self.reason, self.parked_at, self.parked_until = reason, now, now + pause
        self.batch_max = PROBE_MAX

    def hasten(self, now: float) -> None:
        """There may be room now: it is tried again soon, but no sooner than the shortest pause."""
        self.parked_until = min(self.parked_until, max(now, self.parked_at + PAUSE_SECONDS_MIN))

    def succeeded(self) -> None:
        """All of a request was taken."""
        self.reason, self.pause_seconds = None, PAUSE_SECONDS_MIN
        self.batch_max = min(2 * self.batch_max, BATCH_MAX)

    @property
    def is_behind(self) -> bool:
        """It moves, and what it has beyond comes before what is new."""
        return self.beyond > 0 and not self.is_stuck

    @property
    def is_idle(self) -> bool:
        """Nothing would be lost with it."""
        return not (self.row_count or self.beyond or self.is_posting or self.waiting)
