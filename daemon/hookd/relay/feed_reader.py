"""Owns the reading of one daemon's settlement feed, and its cursor.

Rules: what a page says is done to the table in one step; its cursor is kept in Redis once all of it is acknowledged. A
gap, and a first page without a cursor, leave everything that was posted in doubt. A cursor that comes with what a relay
has left behind is read from once more: what is found twice is nothing new.
"""

import trio

from hookd.relay.daemon_api import FEED_PAGE_MAX, DaemonApi, Denied, Page
from hookd.relay.http_origin import Unanswered, Unsent
from hookd.relay.parking import DELIVERED, Ending
from hookd.relay.relay_log import RelayLog
from hookd.relay.relay_state import RelayState

WAIT_SECONDS = 10.0
FIRST_SECONDS_MAX = 3.0
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.1, 2.0
NOW = "now"
# What settles within this time comes in one page: a request that asks at once is answered with each event by itself.
GATHER_SECONDS = 0.1


class FeedReader:
    def __init__(self, state: RelayState, api: DaemonApi, log: RelayLog) -> None:
        self.api = api
        self.url = api.url
        self.is_caught_up = False
        self.problem: str | None = "not read yet"
        self._state = state
        self._log = log
        self._cursor: str | None = None
        self._rewound: str | None = None
        self._polling: trio.CancelScope | None = None

    async def begin(self) -> None:
        """Before anything is posted: its end is where to read from. A daemon that is away is read from its beginning.

        Raises Denied.
        """
        try:
            with trio.move_on_after(FIRST_SECONDS_MAX):
                page = await self.api.settlements(NOW, 0)
                if page is not None:
                    self._cursor = page.next_cursor
                    self._note(None)
        except (Unsent, Unanswered) as error:
            self._note(str(error))

    def rewind(self, cursor: str) -> None:
        """Reads from there on, instead."""
        self._rewound = cursor
        self.is_caught_up = False
        if self._polling is not None:
            self._polling.cancel()

    async def run(self) -> None:
        pause = PAUSE_SECONDS_MIN
        while True:
            problem = await self._read()
            self._note(problem)
            if problem is None:
                pause = PAUSE_SECONDS_MIN
                if self.is_caught_up:
                    await trio.sleep(GATHER_SECONDS)
                continue
            self.is_caught_up = False
            await trio.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    def _note(self, problem: str | None) -> None:
        """Said once, and once it is over."""
        if problem != self.problem:
            self._log("relay.feed", level="info" if problem is None else "warning", url=self.url, problem=problem)
        self.problem = problem

    async def _read(self) -> str | None:
        """One page; what went wrong."""
        if self._rewound is not None:
            self._cursor, self._rewound = self._rewound, None
        page: Page | None = None
        try:
            with trio.CancelScope() as self._polling:
                page = await self.api.settlements(self._cursor, WAIT_SECONDS if self.is_caught_up else 0.0)
                if page is None:  # a cursor that it does not know: as if there had been none
                    self._cursor = None
                    return "the cursor is not one of this daemon's"
        except (Unsent, Unanswered, Denied) as error:
            return str(error)
        finally:
            self._polling = None
        if page is not None:
            self._apply(page)
        return None

    def _apply(self, page: Page) -> None:
        table, now = self._state.table, trio.current_time()
        if page.gap or self._cursor is None:
            self._log("relay.gap", level="warning", url=self.url, run_id=page.run_id, rows=len(table.rows))
            self._state.counts["gaps"] += 1
            table.gap()
        for one in page.settlements:
            ending = DELIVERED if one.status == "delivered" else Ending("exhausted", one.reason or "")
            table.settle_event(one.client_id, one.event_id, ending, now)
        self._cursor = page.next_cursor
        self._state.cursors[self.url] = (page.next_cursor, table.settled_count)
        self.is_caught_up = len(page.settlements) < FEED_PAGE_MAX
        self._state.changed()
