"""Owns the posts: which lane is next, what is sent, and what each answer means for its rows.

Rules: one request of a lane at a time, and POSTS_MAX in all, of which lanes whose daemon does not answer have a part
alone. Nothing is posted without the lease. What may have arrived without an answer is in doubt, and looked up before it
is posted again.
Limits: POSTS_MAX bodies of 1 MiB and one event more.
"""

from collections.abc import Sequence

import trio

from hookd.relay.daemon_api import SETTLED, DaemonApi, Denied, Item, Refused, Taken, refusal_of
from hookd.relay.definitions_file import CannotRead, DefinitionsFile, NoDefinitions
from hookd.relay.http_origin import Unanswered, Unsent
from hookd.relay.log_troubles import GroupGone, LogAway, LogRefused
from hookd.relay.parking import DELIVERED, Ending, Lane, Reason, Row
from hookd.relay.redis_log import TRIMMED
from hookd.relay.relay_log import RelayLog
from hookd.relay.relay_state import RelayState

POSTS_MAX = 32
STUCK_POSTS_MAX = 8
LOOK_SECONDS = 0.25


class Posting:
    def __init__(self, state: RelayState, api: DaemonApi, definitions: DefinitionsFile | None, log: RelayLog) -> None:
        self._state = state
        self._table = state.table
        self._api = api
        self._definitions = definitions
        self._log = log
        self._stuck_posts = 0

    async def run(self) -> None:
        bell = self._state.bell("posting", lambda: self._table.lanes.has_work)
        async with trio.open_nursery() as nursery:
            while True:
                now = trio.current_time()
                self._table.lanes.mark_slow(now)
                if self._may_post() and (batch := self._table.next_batch(now)) is not None:
                    self._begin(nursery, *batch)
                    continue
                due = self._table.lanes.next_due()
                await bell.wait(LOOK_SECONDS if due is None else min(max(due - now, 0.001), LOOK_SECONDS))

    def _may_post(self) -> bool:
        state = self._state
        return not state.is_stopping and state.lease.is_held and state.posts_in_flight < POSTS_MAX

    def _begin(self, nursery: trio.Nursery, lane: Lane, rows: list[Row]) -> None:
        is_suspect = lane.reason is Reason.UNAVAILABLE
        if is_suspect and self._stuck_posts >= STUCK_POSTS_MAX:
            self._table.put_back(rows)
            self._table.lanes.park(lane, Reason.UNAVAILABLE, trio.current_time(), None)
            self._table.lanes.finish(lane, is_taken=False)
            return
        self._state.posts_in_flight += 1
        self._stuck_posts += is_suspect
        nursery.start_soon(self._post, lane, rows, is_suspect)

    async def _post(self, lane: Lane, rows: list[Row], is_suspect: bool) -> None:
        """From the rows to what the answer means for each. A lane that is not parked here was taken whole."""
        try:
            if await self._fetch(lane, rows):
                await self._ask(lane, [row for row in rows if row.item is not None])
            self._table.put_back(rows)  # those of which nothing was said
        finally:
            self._state.posts_in_flight -= 1
            self._stuck_posts -= is_suspect
            self._table.lanes.finish(lane, is_taken=lane.parked_at < lane.posting_since)
            self._state.changed()

    async def _ask(self, lane: Lane, rows: list[Row]) -> None:
        if not rows:
            return
        if not self._state.lease.is_held:  # whatever took so long, another relay may have them now
            self._park(lane, Reason.UNAVAILABLE, None)
            return
        gap_count = self._table.gap_count
        try:
            answer = await self._api.post(lane.client_id, [row.item for row in rows if row.item is not None])
        except Unsent as error:
            self._failed(lane, str(error))
            return
        except Unanswered as error:
            self._table.unanswered(rows)
            self._failed(lane, str(error))
            return
        self._state.note_answer(trio.current_time())
        if isinstance(answer, Taken):
            await self._take(lane, rows, answer.items, gap_count)
        elif answer.reason is None and len(rows) == 1:
            self._refuse(rows[0], answer)
        else:
            await self._put_off(lane, answer)

    async def _take(self, lane: Lane, rows: Sequence[Row], items: Sequence[Item], gap_count: int) -> None:
        put_off: Refused | None = None
        exhausted: list[Row] = []
        for row, item in zip(rows, items, strict=True):
            if item.status is None:
                refusal = refusal_of(item.problem or {})
                if refusal.reason is None:
                    self._refuse(row, refusal)
                else:
                    put_off = refusal
            else:
                self._state.counts["posted"] += 1
                if item.status not in SETTLED:
                    self._table.posted(row, gap_count)
                elif item.status == "delivered":
                    self._table.settle(row, DELIVERED)
                else:
                    exhausted.append(row)
        for row in exhausted:
            await self._settle_exhausted(row)
        if put_off is not None:
            await self._put_off(lane, put_off)

    async def _settle_exhausted(self, row: Row) -> None:
        """It was known, and given up before."""
        try:
            reason = await self._api.reason_of(row.client_id, row.event_id)
        except (Unsent, Unanswered, Denied):
            self._table.unanswered([row])
        else:
            self._table.settle(row, Ending("exhausted", reason))

    def _refuse(self, row: Row, refusal: Refused) -> None:
        self._log.refused(row.client_id, row.event_id, refusal.problem, refusal.detail)
        self._table.settle(row, Ending("refused", refusal.problem, refusal.detail))

    async def _put_off(self, lane: Lane, refusal: Refused) -> None:
        """Refused for now; or as a whole, and then what is wrong with which event is found out with few."""
        reason = Reason.UNAVAILABLE if refusal.reason is None else refusal.reason
        self._log.parked(lane, reason, refusal.detail)
        self._park(lane, reason, refusal.retry_after_seconds)
        if refusal.reason is None:
            lane.batch_max = 1
        if reason is Reason.UNKNOWN and await self._introduce(lane.client_id):
            self._table.lanes.hasten(lane, trio.current_time())

    async def _introduce(self, client_id: str) -> bool:
        """Registers the client, as the file has it."""
        if self._definitions is None:
            return False
        try:
            self._definitions.refresh()
        except (CannotRead, NoDefinitions) as error:
            self._log("relay.clients_not_read", level="warning", error=str(error))
        definition = self._definitions.find(client_id)
        if definition is None:
            return False
        try:
            mistake = await self._api.put_client(client_id, definition)
        except (Unsent, Unanswered) as error:
            mistake = str(error)
        if mistake is not None:
            self._log("relay.client_not_registered", level="warning", client_id=client_id, error=mistake)
            return False
        self._log("relay.client_registered", client_id=client_id)
        self._state.counts["registered"] += 1
        return True

    def _failed(self, lane: Lane, problem: str) -> None:
        self._state.note_failure()
        self._log.parked(lane, Reason.UNAVAILABLE, problem)
        self._park(lane, Reason.UNAVAILABLE, None)

    def _park(self, lane: Lane, reason: Reason, seconds: float | None) -> None:
        self._table.lanes.park(lane, reason, trio.current_time(), seconds)

    async def _fetch(self, lane: Lane, rows: list[Row]) -> bool:
        """Reads the events of those that have none out of Redis; what cannot be read now is put off."""
        wanted = [row for row in rows if row.item is None]
        if not wanted:
            return True
        log = self._state.log
        try:
            if log is None:
                raise LogAway("no connection")
            read, lost = await log.fetch(wanted)
        except (LogAway, GroupGone, LogRefused):
            self._park(lane, Reason.UNAVAILABLE, None)
            return False
        of_id = {row.entry_id: row for row in wanted}
        for entry in read.entries:
            row = of_id[entry.id]
            self._table.fetched(row, entry.item or b"")
            if row.is_again and not row.is_counted:
                row.is_counted = True
                self._state.counts["posted_again"] += 1
        for one in read.unpostable:
            row = of_id[one.id]
            self._log.refused(row.client_id, row.event_id, one.problem, one.detail)
            kind = "trimmed" if one.problem == TRIMMED else "refused"
            self._table.settle(row, Ending(kind, one.problem, one.detail))
        self._state.counts["lost"] += len(lost)
        self._table.drop([of_id[entry_id] for entry_id in lost])
        return True
