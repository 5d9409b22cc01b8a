"""Owns the relay's time with Redis: connecting, what it does while connected, and connecting again.

Rules: any trouble ends the connection; the next one begins with a look at what is the relay's own. So an answer that
was lost, whatever it said, is made up for in one place. While connected five tasks work: entries are read and claimed
again; they are waited for; what settled is acknowledged; what leaves is handed back; and once a second the relay is
seen, looks for relays that are gone, and at how all stands.
"""

from collections.abc import Mapping, Sequence
from itertools import islice

import trio

from hookd.relay.entry import position_of, text_of
from hookd.relay.feed_reader import FeedReader
from hookd.relay.log_troubles import GroupGone, LogAway, LogRefused
from hookd.relay.parking import Row
from hookd.relay.redis_log import IDS_MAX, Names, Read, RedisLog, open_log
from hookd.relay.relay_log import RelayLog
from hookd.relay.relay_state import Bell, RelayState

READ_MAX = 500
READ_MIN = 500  # fewer are not read while there is something to post: a small read makes small requests
PASSING_MAX = 100  # clients whose entries a read leaves in Redis
TRICKLE = 100  # entries read a second while no daemon answers: enough to hear when one does
LEAVING_MAX = 200
KEEP_SECONDS = 1.0
GATHER_SECONDS = 0.01
RECONNECT_SECONDS_MIN, RECONNECT_SECONDS_MAX = 0.1, 2.0
# A member of the group that has nothing and was not seen for so many take-over times is forgotten.
FORGOTTEN_AFTER = 20
PARKED, RELEASED = "parked:", "released"
READ_UP_TO = "read up to"


class LogConnection:
    def __init__(self, state: RelayState, url: str, names: Names, feeds: Sequence[FeedReader], log: RelayLog) -> None:
        self._state = state
        self._table = state.table
        self._url = url
        self._names = names
        self._feeds = feeds
        self._log = log
        self._stopping = trio.Event()
        self._stopped = trio.Event()
        self._was_connected = False
        self._has_no_group = False  # as far as is known: making one needs memory, which a full Redis has not
        self._last_id = "0-0"  # that was read
        self._is_dry = False  # there was nothing behind it; it is waited for
        self._dry = Bell()
        self._reading = state.bell("reading", lambda: not self._is_dry or bool(self._table.lanes.beyond))
        self._problem: str | None = None

    async def run(self) -> None:
        """Until `stop`. Raises LogRefused where Redis never let it in."""
        pause = RECONNECT_SECONDS_MIN
        while not self._stopping.is_set():
            problems: list[BaseException] = []
            began_at = trio.current_time()
            try:
                async with open_log(self._url, self._names) as log:
                    await self._connected(log)
            except* (LogAway, GroupGone, LogRefused) as group:
                problems = list(_leaves(group))
            if not problems:
                continue
            self._heed(problems)
            if trio.current_time() - began_at > RECONNECT_SECONDS_MAX:
                pause = RECONNECT_SECONDS_MIN
            with trio.move_on_after(pause):
                await self._stopping.wait()
            pause = min(2 * pause, RECONNECT_SECONDS_MAX)
        self._stopped.set()

    async def stop(self) -> None:
        """Ends the work, and leaves what is pending to other relays, if Redis is there."""
        self._stopping.set()
        await self._stopped.wait()

    def _heed(self, problems: Sequence[BaseException]) -> None:
        for problem in problems:
            if isinstance(problem, GroupGone):
                if self._was_connected:
                    self._log("relay.group_gone", level="error", rows=len(self._table.rows), error=str(problem))
                self._table.clear()
                self._has_no_group = True
                return
        if not self._was_connected:
            for problem in problems:
                if isinstance(problem, LogRefused):
                    raise problem
        said = str(problems[0])
        if said != self._problem:
            self._log("relay.redis_away", level="warning", error=said)
        self._problem = said

    async def _connected(self, log: RedisLog) -> None:
        if self._has_no_group:
            await log.make_group()
            self._has_no_group = False
        await self._look_at_own(log)
        if self._problem is not None or not self._was_connected:
            self._log("relay.redis_connected", rows=len(self._table.rows))
        self._was_connected, self._problem = True, None
        self._last_id, self._is_dry = "0-0", False
        self._state.log = log
        self._state.changed()
        tasks = self._read_entries, self._wait_for_entries, self._acknowledge, self._hand_back, self._keep
        try:
            async with trio.open_nursery() as nursery:
                for task in tasks:
                    nursery.start_soon(task, log)
                await self._stopping.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._state.log = None  # before the library ends its connections, which takes its time
        await log.release()

    async def _look_at_own(self, log: RedisLog) -> None:
        """What is not the relay's own any more is dropped; what is, and was never seen, is in doubt."""
        seen_at = self._state.lease.now()
        await log.survey()
        own = await log.own_ids()
        lost = self._table.keep_only(frozenset(own))
        self._state.counts["lost"] += len(lost)
        missing = [entry_id for entry_id in own if entry_id not in self._table.rows]
        for at in range(0, len(missing), IDS_MAX):
            self._table.add(await log.own(missing[at : at + IDS_MAX]), is_doubtful=True)
        self._state.read_up_to = max(self._state.read_up_to, await log.kept_position(READ_UP_TO))
        self._state.lease.renew(seen_at)

    # --- entries come -------------------------------------------------------------------------------------------------

    async def _read_entries(self, log: RedisLog) -> None:
        trickled_at = float("-inf")
        while True:
            await self._take_back(log)
            now = trio.current_time()
            count, bytes_max = self._table.read_room()
            if self._state.is_away(now):
                count = min(count, TRICKLE) if now - trickled_at >= 1.0 else 0
                trickled_at = now if count else trickled_at
            elif count < READ_MIN and self._table.lanes.fresh_count:
                count = 0
            if count and bytes_max and not (self._is_dry or self._state.is_stopping):
                newest = text_of(self._state.read_up_to)
                read = await log.read(min(count, READ_MAX), bytes_max, self._passing(now), newest)
                self._add(read)
                self._last_id, self._is_dry = read.last_id, read.is_dry
                if not read.is_dry:
                    continue
                self._dry.ring()
            await self._reading.wait(1.0)

    def _passing(self, now: float) -> list[str]:
        """Clients whose entries would only be handed back. None while no daemon answers: unread they need no place."""
        return [] if self._state.is_away(now) else list(islice(self._table.lanes.beyond, PASSING_MAX))

    async def _wait_for_entries(self, log: RedisLog) -> None:
        """Until there is an entry after the last one. Once a second it is looked for anyhow."""
        while True:
            await self._dry.wait(KEEP_SECONDS)
            if self._is_dry:
                await log.wait(self._last_id, KEEP_SECONDS)
                self._is_dry = False
                self._reading.ring()

    def _add(self, read: Read) -> None:
        """Entries that were read once before, by a group that is gone, may have been posted."""
        if not (read.entries or read.unpostable or read.passed):
            return
        up_to, entries = self._state.read_up_to, read.entries
        if entries and position_of(entries[0].id) <= up_to:  # they come in order
            self._table.add([one for one in entries if position_of(one.id) <= up_to], is_doubtful=True)
            entries = [one for one in entries if position_of(one.id) > up_to]
        self._table.add(entries)
        self._refuse(read)
        counts = self._state.counts
        for one in read.passed:
            self._table.lanes.set_beyond(one.client_id, one.beyond)
            counts["passed_by"] += one.entries
        counts["read"] += len(read.entries) + len(read.unpostable) + sum(one.entries for one in read.passed)
        self._state.read_up_to = max(up_to, position_of(read.last_id))
        self._state.changed()

    def _refuse(self, read: Read) -> None:
        for one in read.unpostable:
            self._log.refused(one.client_id, one.event_id, one.problem, one.detail)
        self._table.refuse(read.unpostable)

    async def _take_back(self, log: RedisLog) -> None:
        for client_id, count in self._table.take_back_wanted(trio.current_time()):
            if self._state.is_stopping:
                return
            read = await log.take_back(client_id, count, max(self._table.take_back_bytes(), 1))
            entries = [(entry, entry.id in read.again) for entry in read.entries]
            self._table.took_back(client_id, entries, read.beyond)
            self._refuse(read)
            self._state.counts["taken_back"] += len(entries)
            self._lose_trimmed(read.trimmed)
            self._state.changed()

    def _lose_trimmed(self, count: int) -> None:
        if count:
            self._state.counts["trimmed"] += count
            self._log("relay.trimmed", level="error", count=count)

    # --- entries go ---------------------------------------------------------------------------------------------------

    async def _acknowledge(self, log: RedisLog) -> None:
        bell = self._state.bell("settled", lambda: bool(self._table.settled))
        kept_at = trio.current_time()
        while True:
            is_due = trio.current_time() - kept_at >= KEEP_SECONDS
            rows = list(islice(self._table.settled, IDS_MAX))
            cursors = self._cursors_due(len(rows)) if is_due else {}
            if not rows and not cursors:
                await bell.wait(KEEP_SECONDS)
                await trio.sleep(GATHER_SECONDS)
                continue
            kept_at = trio.current_time() if is_due else kept_at
            done, failed, problem = await log.settle(rows, self._kept(cursors))
            self._acknowledged(rows, done, failed)
            for feed, cursor in cursors.items():
                if self._state.cursors.get(feed) == cursor:
                    del self._state.cursors[feed]
            if problem:
                self._log("relay.not_written", level="error", count=len(failed), error=problem)
                await trio.sleep(KEEP_SECONDS)

    def _cursors_due(self, count: int) -> dict[str, tuple[str, int]]:
        """Of feeds whose settlements are all acknowledged once so many more rows are."""
        done = self._table.settled_count - len(self._table.settled) + count
        return {feed: cursor for feed, cursor in self._state.cursors.items() if cursor[1] <= done}

    def _kept(self, cursors: Mapping[str, tuple[str, int]]) -> dict[str, str]:
        """As the relays' hash has it; with how far the stream was read."""
        if not cursors:
            return {}
        kept = {f"cursor {self._names.member} {feed}": cursor for feed, (cursor, _) in cursors.items()}
        return kept | {READ_UP_TO: text_of(self._state.read_up_to)}

    def _acknowledged(self, rows: Sequence[Row], done: int, failed: set[str]) -> None:
        counts = self._state.counts
        for row in rows:
            first = self._table.settled.popleft()
            assert first is row, "rows are acknowledged in the order in which they settled"
            if row.entry_id in failed:
                self._table.settled.append(row)
            elif row.ending is not None:
                counts[row.ending.kind] += 1
        self._table.acknowledged([row for row in rows if row.entry_id not in failed])
        counts["acknowledged"] += done
        counts["acknowledged_elsewhere"] += len(rows) - len(failed) - done
        self._state.changed()

    async def _hand_back(self, log: RedisLog) -> None:
        bell = self._state.bell("leaving", lambda: bool(self._table.lanes.leaving))
        while True:
            some = self._table.some_leaving(LEAVING_MAX)
            if some is None:
                await bell.wait(KEEP_SECONDS)
                continue
            client_id, rows = some
            gone, beyond = await log.park(client_id, rows)
            self._table.left(client_id, rows, beyond)
            self._state.counts["handed_back"] += len(gone)
            self._state.counts["lost"] += len(rows) - len(gone)
            self._state.changed()

    # --- once a second ------------------------------------------------------------------------------------------------

    async def _keep(self, log: RedisLog) -> None:
        while True:
            if not self._state.lease.is_held:
                raise LogAway("the relay was not seen for too long: others may have taken over")
            seen_at = self._state.lease.now()
            survey = await log.survey()
            self._state.lease.renew(seen_at)
            self._state.lag, self._state.pending = survey.lag, survey.pending
            for member in survey.members:
                if member.name.startswith(PARKED):
                    self._table.lanes.set_beyond(member.name.removeprefix(PARKED), member.pending)
                elif member.name != self._names.member and not self._state.is_stopping:
                    is_gone = member.idle_seconds >= self._state.takeover_seconds and member.pending
                    is_old = member.idle_seconds >= FORGOTTEN_AFTER * self._state.takeover_seconds
                    if is_gone or is_old or (member.name == RELEASED and member.pending):
                        await self._take_over(log, member.name)
            self._state.changed()
            await trio.sleep(KEEP_SECONDS)

    async def _take_over(self, log: RedisLog, name: str) -> None:
        """All that it has left behind, as far as there is room; and each feed from where it was read to."""
        total, cursors = 0, dict[str, str]()
        while (count := min(self._table.limits.owed_max - len(self._table.rows), IDS_MAX)) > 0:
            taken = await log.take_over(name, idle_seconds=self._state.takeover_seconds, count=count)
            self._table.add(taken.entries, is_doubtful=True)
            self._lose_trimmed(taken.trimmed)
            cursors |= taken.cursors
            total += len(taken.entries)
            if taken.found < count:
                break
        for feed in self._feeds:
            if feed.url in cursors:
                feed.rewind(cursors[feed.url])
        if total:
            self._state.counts["taken_over"] += total
            self._log("relay.took_over", level="warning", member=name, entries=total)


def _leaves(group: BaseException) -> list[BaseException]:
    if isinstance(group, BaseExceptionGroup):
        return [leaf for one in group.exceptions for leaf in _leaves(one)]
    return [group]
