"""Owns the telling of endpoints' states, to the log and the notices: each change once, whichever way it comes.

Rules:
 1. Whoever may have changed a state says `tell`: after an attempt, a 410, a pause, a resume, another URL.
 2. Time changes a state too, where a Retry-After runs out. `tell_of_time` looks at the throttled ones once a second.
 3. What was told last stands in the endpoint's health. Without a change nothing is told.
It does not change a state.
Limits: one key for each throttled endpoint, about 150 B; a look at 20,000 of them takes 10 ms, a slice at a time.
"""

from itertools import islice

import trio

from hookd.core.health import TOLD_OK, Health, State, Told
from hookd.core.ledger import Ledger
from hookd.flow.notice_watch import NoticeWatch
from hookd.flow.ports import Clock, Log

LOOKED_AT_AT_ONCE = 1000


class EndpointStates:
    def __init__(self, *, ledger: Ledger, notices: NoticeWatch, clock: Clock, log: Log) -> None:
        self._ledger = ledger
        self._notices = notices
        self._clock = clock
        self._log = log
        self._throttled: dict[tuple[str, str], None] = {}

    def tell(self, client_id: str, endpoint_id: str) -> None:
        """Logs the endpoint's state, if it is another than was told last."""
        health = self._ledger.health(client_id, endpoint_id)
        if not self._throttled and health is not None and health.is_untold_ok:
            return  # after nearly every attempt
        told = TOLD_OK if health is None else health.told_at(self._clock.now().monotonic)
        if told[0] is State.THROTTLED:
            self._throttled[client_id, endpoint_id] = None
        else:
            self._throttled.pop((client_id, endpoint_id), None)
        if health is None:
            return
        if told != health.told:
            health.told = told
            self._log_state(client_id, endpoint_id, health, told)
        self._notices.observe(client_id, endpoint_id, health, told)

    def tell_removed(self, client_id: str, endpoint_id: str) -> None:
        """It is registered no more; a later one of this id is another."""
        self._notices.removed(client_id, endpoint_id)
        self.tell(client_id, endpoint_id)

    def _log_state(self, client_id: str, endpoint_id: str, health: Health, told: Told) -> None:
        state = told[0]
        self._log(
            f"endpoint.{state.value}",
            level="info" if state is State.OK else "warning",
            client_id=client_id,
            endpoint_id=endpoint_id,
            paused_by=None if told[1] is None else told[1].value,
            window=health.window,
            error=health.last_error,
        )

    async def tell_of_time(self) -> None:
        """Looks at every throttled endpoint: its time may be over. And the notices look at what is due."""
        throttled = iter(list(self._throttled))
        while looked_at := list(islice(throttled, LOOKED_AT_AT_ONCE)):
            for client_id, endpoint_id in looked_at:
                self.tell(client_id, endpoint_id)
            await trio.lowlevel.checkpoint()
        await self._notices.tell_of_time()
