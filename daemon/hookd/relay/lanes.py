"""Owns the lanes of all clients: which may post next, which are parked until when, and how much waits in them.

Rules: what moves is counted apart from what is stuck, and from what is *behind*: lanes that move again, with entries in
Redis that come before new ones. So none waits for the other: entries are read as long as little waits in lanes that
move and are not behind. A stuck lane holds `parked_max` entries; all of them together hold half of
`held_bytes_max`. What is over that leaves: it goes back to Redis, the newest first, and stays pending there. Its lane
knows how many are *beyond*, and lets no entry pass them.
Does not: know rows that are owed and wait for nothing here (owed.py).
"""

import heapq
import itertools
from collections import OrderedDict, deque
from collections.abc import Collection

import msgspec

from hookd.relay.parking import PROBE_MAX, SLOW_SECONDS, Lane, Reason, Row, State

HELD_ROW_BYTES = 1024
TAKE_BACK_MAX = 500
LANES_LOOKED_AT = 100
TAKE_BACKS_MAX = 4  # of them in one go, a call of Redis each: then new entries have their turn


class Limits(msgspec.Struct, frozen=True):
    parked_max: int = 1000  # entries that a stuck lane holds
    owed_max: int = 100_000  # entries that the relay answers for
    held_bytes_max: int = 64 * 2**20  # of entries that wait, with 1 KiB for each


class Lanes:
    """By client. `now` is monotonic."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.of_client: dict[str, Lane] = {}
        self.leaving: dict[str, list[Row]] = {}
        self.beyond: OrderedDict[str, Lane] = OrderedDict()  # those with entries in Redis beyond what is held
        self.held_count = self.held_bytes = 0
        self.stuck_count = self.stuck_bytes = 0
        self.behind_count = 0
        self._ready: deque[Lane] = deque()
        self._parked: list[tuple[float, int, Lane]] = []
        self._posting: dict[str, Lane] = {}
        self._numbers = itertools.count()

    def lane(self, client_id: str) -> Lane:
        lane = self.of_client.get(client_id)
        if lane is None:
            lane = self.of_client[client_id] = Lane(client_id)
        return lane

    @property
    def fresh_count(self) -> int:
        """Rows that are held of lanes that move and are not behind."""
        return self.held_count - self.stuck_count - self.behind_count

    def drop_idle(self, lane: Lane) -> None:
        if lane.is_idle and self.of_client.get(lane.client_id) is lane:
            self.set_stuck(lane, False)
            del self.of_client[lane.client_id]

    def parked(self) -> dict[Reason, int]:
        """How many lanes are parked, by reason."""
        reasons = [lane.reason for lane in self.of_client.values() if lane.reason is not None]
        return {reason: reasons.count(reason) for reason in Reason}

    # --- whose turn it is ---------------------------------------------------------------------------------------------

    def next_ready(self, now: float) -> Lane | None:
        self._wake_parked(now)
        while self._ready:
            lane = self._ready.popleft()
            lane.is_ready = False
            if not lane.is_posting and lane.waiting and lane.parked_until <= now:
                return lane
            self.drop_idle(lane)
        return None

    @property
    def has_work(self) -> bool:
        """A lane may post, or there is a next time to look."""
        return bool(self._ready or self._parked)

    def next_due(self) -> float | None:
        """When a parked lane is to be looked at again."""
        return self._parked[0][0] if self._parked else None

    def begin(self, lane: Lane, now: float) -> None:
        lane.is_posting, lane.posting_since = True, now
        self._posting[lane.client_id] = lane

    def finish(self, lane: Lane, *, is_taken: bool) -> None:
        """Its request has ended. Whoever parks it has done so before."""
        lane.is_posting = False
        del self._posting[lane.client_id]
        if is_taken:
            lane.succeeded()
        if lane.reason is None:
            self.set_stuck(lane, False)
        self.make_ready(lane)
        self.drop_idle(lane)

    def mark_slow(self, now: float) -> None:
        """Lanes whose request takes long hold their share alone from now on."""
        for lane in self._posting.values():
            if now - lane.posting_since > SLOW_SECONDS:
                self.set_stuck(lane, True)

    def park(self, lane: Lane, reason: Reason, now: float, seconds: float | None) -> None:
        lane.park(reason, now, seconds)
        self.set_stuck(lane, True)
        self._wake_at(lane, lane.parked_until)

    def hasten(self, lane: Lane, now: float) -> None:
        """What it was parked for may have passed."""
        lane.hasten(now)
        self._wake_at(lane, lane.parked_until)

    def make_ready(self, lane: Lane) -> None:
        if not lane.waiting or lane.is_ready or lane.is_posting:
            return
        if lane.reason is not None:
            self._wake_at(lane, lane.parked_until)
        else:
            lane.is_ready = True
            self._ready.append(lane)

    def _wake_at(self, lane: Lane, at: float) -> None:
        """A lane counts in the heap once, for the next time at which it is to be looked at."""
        if lane.wake_at is None or at < lane.wake_at:
            lane.wake_at = at
            heapq.heappush(self._parked, (at, next(self._numbers), lane))

    def _wake_parked(self, now: float) -> None:
        while self._parked and self._parked[0][0] <= now:
            at, _, lane = heapq.heappop(self._parked)
            if lane.wake_at != at:
                continue  # it was woken sooner
            lane.wake_at = None
            if lane.parked_until > now:
                self._wake_at(lane, lane.parked_until)
            elif not lane.is_ready and not lane.is_posting:
                lane.is_ready = True
                self._ready.append(lane)

    # --- what waits ---------------------------------------------------------------------------------------------------

    def wait_last(self, row: Row) -> None:
        """Behind the others of its lane; or it leaves, where the lane holds its share."""
        lane = self.lane(row.client_id)
        self.hold(row)
        lane.waiting.append(row)
        if lane.beyond or lane.client_id in self.leaving:
            self._leave([lane.waiting.pop()])
        else:
            self._shed(lane)
        self.make_ready(lane)

    def wait_first(self, row: Row) -> None:
        """Before the others: it was here before. Counted already where it was on its way."""
        lane = self.lane(row.client_id)
        if not row.held_bytes:
            self.hold(row)
        lane.waiting.appendleft(row)
        self._shed(lane)
        self.make_ready(lane)

    def hold(self, row: Row) -> None:
        self._count(row, HELD_ROW_BYTES + len(row.item or b""), 1)

    def weigh(self, row: Row) -> None:
        """Its item has come."""
        self._count(row, HELD_ROW_BYTES + len(row.item or b"") - row.held_bytes, 0)

    def let_go(self, row: Row) -> None:
        if row.held_bytes:
            self._count(row, -row.held_bytes, -1)

    def remove_waiting(self, client_id: str, entry_ids: Collection[str]) -> None:
        """They are no longer the relay's."""
        lane = self.lane(client_id)
        lane.waiting = deque(row for row in lane.waiting if row.entry_id not in entry_ids)
        if client_id in self.leaving:
            self.stay_left(client_id, entry_ids)

    def stay_left(self, client_id: str, entry_ids: Collection[str]) -> None:
        """Redis has these of the ones that leave."""
        still = [row for row in self.leaving.get(client_id, ()) if row.entry_id not in entry_ids]
        if still:
            self.leaving[client_id] = still
        else:
            self.leaving.pop(client_id, None)

    def _count(self, row: Row, held_bytes: int, count: int) -> None:
        lane = self.lane(row.client_id)
        row.held_bytes += held_bytes
        lane.held_bytes += held_bytes
        lane.held_count += count
        self.held_bytes += held_bytes
        self.held_count += count
        if lane.is_stuck:
            self.stuck_bytes += held_bytes
            self.stuck_count += count
        elif lane.beyond:
            self.behind_count += count

    def set_stuck(self, lane: Lane, is_stuck: bool) -> None:
        if lane.is_stuck != is_stuck:
            was_behind = lane.is_behind
            lane.is_stuck = is_stuck
            self.behind_count += (lane.is_behind - was_behind) * lane.held_count
            sign = 1 if is_stuck else -1
            self.stuck_bytes += sign * lane.held_bytes
            self.stuck_count += sign * lane.held_count
        self._shed(lane)

    def _shed(self, lane: Lane) -> None:
        """What is over a stuck lane's share leaves."""
        shed: list[Row] = []
        while lane.is_stuck and lane.waiting and self._is_over(lane):
            shed.append(lane.waiting.pop())
            self.let_go(shed[-1])
        self._leave(shed[::-1])

    def _is_over(self, lane: Lane) -> bool:
        return lane.held_count > self.limits.parked_max or self.stuck_bytes > self.limits.held_bytes_max // 2

    def _leave(self, rows: list[Row]) -> None:
        """Redis has their fields; what is left here is the row."""
        for row in rows:
            self.let_go(row)
            row.state, row.item = State.LEAVING, None
            self.leaving.setdefault(row.client_id, []).append(row)

    # --- what is beyond -----------------------------------------------------------------------------------------------

    def set_beyond(self, client_id: str, count: int) -> None:
        """So many of its entries are in Redis beyond what is held."""
        lane = self.lane(client_id)
        was_behind = lane.is_behind
        lane.beyond = count
        self.behind_count += (lane.is_behind - was_behind) * lane.held_count
        if count:
            self.beyond[client_id] = lane
        else:
            self.beyond.pop(client_id, None)
            self.drop_idle(lane)

    def take_back_wanted(self, now: float, count_max: int) -> list[tuple[str, int]]:
        """Clients whose entries are to be claimed again, and how many: a few of those that are looked at."""
        wanted: list[tuple[str, int]] = []
        for client_id in list(itertools.islice(self.beyond, LANES_LOOKED_AT)):
            if len(wanted) == TAKE_BACKS_MAX:
                break
            lane = self.beyond[client_id]
            if count_max <= 0 and lane.is_behind:
                continue  # it is the first once there is room
            self.beyond.move_to_end(client_id)
            if (count := min(self._take_back_count(lane, now, count_max), lane.beyond)) > 0:
                wanted.append((client_id, count))
                count_max -= 0 if lane.is_stuck else count
        return wanted

    def _take_back_count(self, lane: Lane, now: float, count_max: int) -> int:
        waiting = len(lane.waiting)
        if lane.client_id in self.leaving:
            return 0
        if lane.is_stuck:  # enough to try it with
            return PROBE_MAX - waiting if waiting < PROBE_MAX // 2 and lane.parked_until <= now else 0
        if waiting >= lane.batch_max:  # as much as it may post: what it could not would leave once more
            return 0
        return min(2 * lane.batch_max - waiting, TAKE_BACK_MAX, count_max)
