"""Owns the look-ups: whether what is in doubt is known to a daemon, and what of it is posted again.

Rules: every daemon is asked, and an event is unknown only where each of them has said so; while one does not answer,
what the others do not know stays in doubt. Before that each feed is read to its end. What is exhausted is asked for its
reason.
Limits: 1,000 rows in one look-up, fewer where a daemon takes fewer.
"""

from collections.abc import Sequence

import trio

from hookd.relay.daemon_api import DaemonApi, Denied
from hookd.relay.feed_reader import FeedReader
from hookd.relay.http_origin import Unanswered, Unsent
from hookd.relay.parking import DELIVERED, Ending, Row, State
from hookd.relay.relay_state import RelayState

ROWS_MAX = 1000
PAUSE_SECONDS = 0.25


class LookUps:
    def __init__(self, state: RelayState, feeds: Sequence[FeedReader]) -> None:
        self._state = state
        self._table = state.table
        self._feeds = feeds
        self._rows_max = ROWS_MAX

    async def run(self) -> None:
        bell = self._state.bell("look_ups", lambda: bool(self._table.doubtful))
        while True:
            rows = self._table.some_doubtful(self._rows_max)
            if not rows or not all(feed.is_caught_up for feed in self._feeds):
                await bell.wait(PAUSE_SECONDS if rows else 1.0)
                continue
            try:
                await self._look_up(rows)
                self._rows_max = min(2 * self._rows_max, ROWS_MAX)
            except (Unsent, Unanswered, Denied):
                self._rows_max = max(self._rows_max // 2, 1)
                await trio.sleep(PAUSE_SECONDS)
            self._state.changed()

    async def _look_up(self, rows: list[Row]) -> None:
        gap_count = self._table.gap_count
        self._state.counts["looked_up"] += len(rows)
        for feed in self._feeds:
            rows = [row for row in rows if row.state is State.DOUBTFUL]
            if rows:
                statuses = await feed.api.look_up(rows)
                for row, status in zip(rows, statuses, strict=True):
                    if status is not None and row.state is State.DOUBTFUL:
                        await self._known(feed.api, row, status, gap_count)
        self._table.unknown([row for row in rows if row.state is State.DOUBTFUL], gap_count)

    async def _known(self, api: DaemonApi, row: Row, status: str, gap_count: int) -> None:
        if status == "delivered":
            self._table.settle(row, DELIVERED)
        elif status == "exhausted":
            self._table.settle(row, Ending("exhausted", await api.reason_of(row.client_id, row.event_id)))
        else:
            self._table.known(row, gap_count)
