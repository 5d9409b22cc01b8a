"""Owns the table of what the relay answers for: every entry that it has read and not acknowledged, and what is next.

The states of a row (parking.State) and what changes them:

    waiting   -> posting    its lane is ready, and there is room
    posting   -> posted     the daemon took it           -> settled   it says so, or a feed does
              -> waiting    refused for now, or never sent
              -> doubtful   no answer came; or a gap came while it was on its way
              -> settled    it is refused for good
    posted    -> settled    a feed says that it settled  -> doubtful  a feed has a gap
    doubtful  -> posted, settled or waiting              by a look-up in every daemon
    waiting   -> leaving    its lane is stuck and over its share; gone once Redis has it

Rules: a row goes only when Redis has confirmed its acknowledgement, or says that the entry is another relay's. What may
have been posted is posted again only after a look-up, and counted. One client may have as many rows as are still free.

Limits: `owed_max` rows of at most 700 B, beside what waits in lanes.py.
Does not: wait, post, or talk to Redis.
"""

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Sequence

from hookd.core.ids import is_id
from hookd.core.short_batch import BODY_BYTES as SHORT_BODY_BYTES
from hookd.relay.entry import Entry, Unpostable
from hookd.relay.lanes import TAKE_BACK_MAX, Lanes, Limits
from hookd.relay.parking import Ending, Lane, Reason, Row, State

READY_MAX = 4000  # rows that wait in lanes that move; more are not read before these are posted
BEHIND_MAX = 1000  # rows that wait in lanes that move again; more are not claimed again before these are posted
POST_BYTES_MAX = 2**20
SHORT_POST_MIN = 100  # rows of a post that ends where the daemon would not read it in one pass any more
SHARE_MIN = 1000  # rows that a client may have however full the table is


class OwedTable:
    """All of it. Every method is one step; `now` is monotonic."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.lanes = Lanes(limits)
        self.rows: dict[str, Row] = {}
        self.doubtful: dict[str, Row] = {}
        self.settled: deque[Row] = deque()
        self.settled_count = 0  # ever; a feed's cursor is kept once so many are acknowledged
        self.gap_count = 0
        self._of_event: dict[tuple[str, str], list[Row]] = {}

    # --- entries come -----------------------------------------------------------------------------------------------

    def add(self, entries: Iterable[Entry], *, is_doubtful: bool = False, is_again: bool = False) -> None:
        """What was read: into their lanes, or back to Redis; what another may have posted is looked up first."""
        for entry in entries:
            row = self._new_row(entry, is_again=is_again)
            if row is None:
                continue
            if is_doubtful and is_id(row.client_id) and is_id(row.event_id):
                self._doubt(row)
            else:  # of a name that is none no daemon is asked: reading the entry will tell
                self.lanes.wait_last(row)

    def refuse(self, entries: Iterable[Unpostable], *, kind: str = "refused") -> None:
        """Entries that can never be posted are owed their line in the stream of those, and nothing else."""
        for entry in entries:
            if (row := self._new_row(entry)) is not None:
                self._settle(row, Ending(kind, entry.problem, entry.detail))

    def _new_row(self, entry: Entry | Unpostable, *, is_again: bool = False) -> Row | None:
        if entry.id in self.rows:
            return None
        item = entry.item if isinstance(entry, Entry) else None
        row = Row(entry.id, entry.client_id, entry.event_id, State.WAITING, item, is_again)
        self.rows[row.entry_id] = row
        self._of_event.setdefault((row.client_id, row.event_id), []).append(row)
        self.lanes.lane(row.client_id).row_count += 1
        return row

    def read_room(self) -> tuple[int, int]:
        """How many entries, and how many bytes, may be read now."""
        lanes, limits = self.lanes, self.limits
        ready = READY_MAX - lanes.fresh_count
        return max(min(ready, limits.owed_max - len(self.rows)), 0), max(limits.held_bytes_max - lanes.held_bytes, 0)

    def by_state(self) -> dict[State, int]:
        """How many rows are in each state, without a look at all of them: there may be 100,000."""
        lanes = self.lanes
        counts = {
            State.WAITING: sum(len(lane.waiting) for lane in lanes.of_client.values()),
            State.DOUBTFUL: len(self.doubtful),
            State.SETTLED: len(self.settled),
            State.LEAVING: sum(map(len, lanes.leaving.values())),
        }
        counts[State.POSTING] = lanes.held_count - counts[State.WAITING]
        counts[State.POSTED] = len(self.rows) - sum(counts.values())
        return counts

    def take_back_bytes(self) -> int:
        """How many bytes may be claimed again: a quarter stays free for what is new."""
        return max(self.limits.held_bytes_max * 3 // 4 - self.lanes.held_bytes, 0)

    def take_back_wanted(self, now: float) -> list[tuple[str, int]]:
        """Clients whose entries are to be claimed again, and how many: there is room for them."""
        if self.limits.owed_max - len(self.rows) < TAKE_BACK_MAX or not self.take_back_bytes():
            return []
        return self.lanes.take_back_wanted(now, BEHIND_MAX - self.lanes.behind_count)

    def took_back(self, client_id: str, entries: Sequence[tuple[Entry, bool]], beyond: int) -> None:
        """What was claimed again, each with whether it may have been posted before, and how many are still there."""
        self.lanes.set_beyond(client_id, 0)  # while these are taken in, which stand before the others
        for entry, is_again in entries:
            self.add([entry], is_again=is_again)
        self.lanes.set_beyond(client_id, beyond)

    # --- entries are posted -----------------------------------------------------------------------------------------

    def next_batch(self, now: float) -> tuple[Lane, list[Row]] | None:
        """The next lane that may post, and what it posts."""
        while (lane := self.lanes.next_ready(now)) is not None:
            if self._has_share(lane):
                return lane, self._take(lane, now)
            self.lanes.park(lane, Reason.SHARE, now, None)
        return None

    def _has_share(self, lane: Lane) -> bool:
        """Of rows that wait for nothing here, a client may have as many as are still free; each has a least number."""
        owed = lane.row_count - lane.held_count
        return owed < max(SHARE_MIN, self.limits.owed_max - len(self.rows))

    def _take(self, lane: Lane, now: float) -> list[Row]:
        rows: list[Row] = []
        size, body_bytes = 0, 1
        while lane.waiting and len(rows) < lane.batch_max and (not rows or size < POST_BYTES_MAX):
            was_short = body_bytes <= SHORT_BODY_BYTES
            body_bytes += len(lane.waiting[0].item or b"") + 1
            if len(rows) >= SHORT_POST_MIN and was_short and body_bytes > SHORT_BODY_BYTES:
                break
            row = lane.waiting.popleft()
            row.state = State.POSTING
            rows.append(row)
            size += row.held_bytes
        self.lanes.begin(lane, now)
        return rows

    def fetched(self, row: Row, item: bytes) -> None:
        """Its event was read out of Redis again."""
        if self._is_posting(row):
            row.item = item
            self.lanes.weigh(row)

    def posted(self, row: Row, gap_count: int) -> None:
        """The daemon has it. `gap_count` is as it was before the request: a gap meanwhile leaves it in doubt."""
        if self._is_posting(row):
            self.lanes.let_go(row)
            row.item = None
            if gap_count == self.gap_count:
                row.state = State.POSTED
            else:
                self._doubt(row)

    def unanswered(self, rows: Iterable[Row]) -> None:
        """The daemon may have them."""
        for row in rows:
            if self._is_posting(row):
                self.lanes.let_go(row)
                row.item = None
                self._doubt(row)

    def put_back(self, rows: Sequence[Row]) -> None:
        """They were not taken, and are the first of their lane again."""
        for row in reversed(rows):
            if self._is_posting(row):
                row.state = State.WAITING
                self.lanes.wait_first(row)

    def settle(self, row: Row, ending: Ending) -> None:
        if self._is_there(row):
            self._settle(row, ending)

    # --- what the daemons say ----------------------------------------------------------------------------------------

    def settle_event(self, client_id: str, event_id: str, ending: Ending, now: float) -> None:
        """A feed says that this event has settled.

        Two entries may name one event with two payloads. So where there are several, one that is on its way waits for
        its own answer.
        """
        rows = self._of_event.get((client_id, event_id), [])
        for row in list(rows):
            if row.state in (State.POSTED, State.DOUBTFUL) or (row.state is State.POSTING and len(rows) == 1):
                self._settle(row, ending)
        lane = self.lanes.of_client.get(client_id)
        if lane is not None and lane.reason in (Reason.FULL, Reason.SHARE):
            self.lanes.hasten(lane, now)

    def gap(self) -> None:
        """A feed has missed something, or a daemon is another one now: nothing that was posted is certain."""
        self.gap_count += 1
        for row in self.rows.values():
            if row.state is State.POSTED:
                self._doubt(row)

    def some_doubtful(self, count: int) -> list[Row]:
        """To be looked up, the newest first: the older ones come before them in their lanes, then."""
        return list(itertools.islice(reversed(self.doubtful.values()), count))

    def known(self, row: Row, gap_count: int) -> None:
        """A daemon has it, unsettled. `gap_count` is as it was before it was asked."""
        if gap_count == self.gap_count and self.doubtful.get(row.entry_id) is row:
            del self.doubtful[row.entry_id]
            row.state = State.POSTED

    def unknown(self, rows: Iterable[Row], gap_count: int) -> None:
        """No daemon has them: they are posted again. Newest first, as they were given."""
        for row in rows:
            if gap_count == self.gap_count and self.doubtful.get(row.entry_id) is row:
                del self.doubtful[row.entry_id]
                row.state, row.is_again = State.WAITING, True
                self.lanes.wait_first(row)

    # --- entries go ---------------------------------------------------------------------------------------------------

    def some_leaving(self, count: int) -> tuple[str, list[Row]] | None:
        """Some of one client's, to be handed back to Redis."""
        for client_id, rows in self.lanes.leaving.items():
            return client_id, rows[:count]
        return None

    def left(self, client_id: str, rows: Collection[Row], beyond: int) -> None:
        """Redis has them, and so many of that client's in all."""
        self.lanes.stay_left(client_id, {row.entry_id for row in rows})
        for row in rows:
            self._remove(row)
        self.lanes.set_beyond(client_id, beyond)

    def acknowledged(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._remove(row)

    def keep_only(self, entry_ids: Collection[str]) -> list[Row]:
        """What is not among these is another relay's now; returns those. What is settled is acknowledged anyhow."""
        rows = self.rows.values()
        lost = [row for row in rows if row.entry_id not in entry_ids and row.state is not State.SETTLED]
        self.drop(lost)
        return lost

    def drop(self, rows: Collection[Row]) -> None:
        """They are not the relay's to answer for any more. What is settled is acknowledged anyhow."""
        rows = [row for row in rows if row.state is not State.SETTLED]
        gone = {row.entry_id for row in rows}
        for client_id in {row.client_id for row in rows}:
            self.lanes.remove_waiting(client_id, gone)
        for row in rows:
            self.doubtful.pop(row.entry_id, None)
            self.lanes.let_go(row)
            self._remove(row)

    def clear(self) -> None:
        """The stream or its group is gone, and with it whatever was pending. What is on its way is passed over."""
        self.acknowledged(list(self.settled))
        self.settled.clear()
        self.keep_only(())
        for client_id in list(self.lanes.beyond):
            self.lanes.set_beyond(client_id, 0)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _is_there(self, row: Row) -> bool:
        return self.rows.get(row.entry_id) is row

    def _is_posting(self, row: Row) -> bool:
        return row.state is State.POSTING and self._is_there(row)

    def _doubt(self, row: Row) -> None:
        row.state = State.DOUBTFUL
        self.doubtful[row.entry_id] = row

    def _settle(self, row: Row, ending: Ending) -> None:
        """One that waits or leaves is not settled by a feed: it was not posted."""
        if row.state is State.SETTLED:
            return
        self.doubtful.pop(row.entry_id, None)
        self.lanes.let_go(row)
        row.state, row.ending, row.item = State.SETTLED, ending, None
        self.settled.append(row)
        self.settled_count += 1

    def _remove(self, row: Row) -> None:
        if not self._is_there(row):
            return
        del self.rows[row.entry_id]
        rows = self._of_event[row.client_id, row.event_id]
        rows.remove(row)
        if not rows:
            del self._of_event[row.client_id, row.event_id]
        lane = self.lanes.lane(row.client_id)
        lane.row_count -= 1
        self.lanes.drop_idle(lane)
