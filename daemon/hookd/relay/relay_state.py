"""Owns what the relay's tasks share: the table, the connection to Redis while there is one, the lease, and the counts.

Rules: whoever changes the table calls `changed`, and each task wakes for which there is something. The lease is what
keeps two relays from posting the same entry: others take over what a relay holds once Redis has not seen it for
`takeover_seconds`. It posts for a shorter time than that after it was last seen, by a clock that goes on while its host
sleeps, and after that only what Redis says is still its own.
"""

import time
from collections import Counter
from collections.abc import Callable

import trio

from hookd.relay.owed import OwedTable
from hookd.relay.redis_log import RedisLog

LEASE_SHARE = 0.6
# No answer of a daemon for so long, and at least one failure: what is read now would only be put aside.
AWAY_SECONDS = 1.0


def boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Bell:
    """Wakes its one listener; a ring that nobody hears is heard at the next wait."""

    def __init__(self, has_work: Callable[[], bool] = lambda: True) -> None:
        self.has_work = has_work
        self._event = trio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._event.wait()
        self._event = trio.Event()


class Lease:
    def __init__(self, seconds: float, clock: Callable[[], float] = boot_time) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until = float("-inf")

    def now(self) -> float:
        return self._clock()

    def renew(self, seen_at: float) -> None:
        """Redis saw the relay, no sooner than this."""
        self._until = seen_at + self._seconds

    @property
    def is_held(self) -> bool:
        return self._clock() < self._until


class RelayState:
    def __init__(self, table: OwedTable, takeover_seconds: float) -> None:
        self.table = table
        self.takeover_seconds = takeover_seconds
        self.lease = Lease(takeover_seconds * LEASE_SHARE)
        self.log: RedisLog | None = None
        self.counts: Counter[str] = Counter()
        self.lag: int | None = None
        self.pending = 0
        self.is_stopping = False
        self.read_up_to = (0, 0)  # the newest entry that any relay is known to have read
        self.cursors: dict[str, tuple[str, int]] = {}  # of each feed, to be kept once so many rows are acknowledged
        self.posts_in_flight = 0
        self.bells: dict[str, Bell] = {}
        self._answered_at = float("-inf")
        self._has_failed = False

    def bell(self, name: str, has_work: Callable[[], bool] = lambda: True) -> Bell:
        """The one of this name; a new one rings with a change only where its listener has work."""
        bell = self.bells.get(name)
        if bell is None:
            bell = self.bells[name] = Bell(has_work)
        return bell

    def changed(self) -> None:
        for bell in self.bells.values():
            if bell.has_work():
                bell.ring()

    def note_answer(self, now: float) -> None:
        """A daemon said something about a post."""
        self._answered_at, self._has_failed = now, False

    def note_failure(self) -> None:
        self._has_failed = True

    def is_away(self, now: float) -> bool:
        return self._has_failed and now - self._answered_at > AWAY_SECONDS
