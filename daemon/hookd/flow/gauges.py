"""Owns the gauges that cost more than reading a count: they look at every endpoint and every courier, in slices.

`/v1/status` and `/metrics` ask for them. With 20,000 clients that all have a backlog, one look takes 200 ms of CPU.
Others have a turn between slices. So a look is not of one instant, and counts that must balance are read from the
ledger's totals instead.
"""

from collections import Counter
from typing import NamedTuple

import trio

from hookd.core.health import State
from hookd.core.ledger import Ledger
from hookd.core.registry import Registry
from hookd.flow.dispatch import Dispatch
from hookd.flow.ports import Clock

# Clients or couriers looked at in one go, 2 ms at most; then others have a turn.
LOOKED_AT_AT_ONCE = 200


class Gauges(NamedTuple):
    endpoints: Counter[State]  # registered ones; one that nothing was ever sent to is ok
    oldest_unsettled_seconds: float | None
    oldest_overdue_seconds: float | None  # due, no state of its endpoint holds it back, and still waiting
    waiting_for_client: int  # deliveries that were recovered for a client that is not registered


class GaugeCollector:
    def __init__(self, *, ledger: Ledger, registry: Registry, dispatch: Dispatch, clock: Clock) -> None:
        self._ledger = ledger
        self._registry = registry
        self._dispatch = dispatch
        self._clock = clock

    async def take(self) -> Gauges:
        overdue_seconds = await self._oldest_overdue_seconds()
        endpoints = await self._endpoints()
        waiting_for_client = await self._waiting_for_client()
        return Gauges(endpoints, self._oldest_unsettled_seconds(), overdue_seconds, waiting_for_client)

    async def _endpoints(self) -> Counter[State]:
        states: Counter[State] = Counter(dict.fromkeys(State, 0))
        clients = list(self._registry)
        for first in range(0, len(clients), LOOKED_AT_AT_ONCE):
            now = self._clock.now().monotonic
            for client in clients[first : first + LOOKED_AT_AT_ONCE]:
                for endpoint in client.endpoints:
                    health = self._ledger.health(client.id, endpoint.id)
                    states[State.OK if health is None else health.state(now)] += 1
            await trio.lowlevel.checkpoint()
        return states

    async def _oldest_overdue_seconds(self) -> float | None:
        """Measured at each slice, so that what begins meanwhile is not counted as waiting on."""
        oldest = 0.0
        couriers = self._dispatch.couriers()
        for first in range(0, len(couriers), LOOKED_AT_AT_ONCE):
            now = self._clock.now().monotonic
            for courier in couriers[first : first + LOOKED_AT_AT_ONCE]:
                oldest = max(oldest, now - courier.next_due(now))
            await trio.lowlevel.checkpoint()
        return oldest or None

    async def _waiting_for_client(self) -> int:
        waiting = 0
        client_ids = self._ledger.client_ids()
        for first in range(0, len(client_ids), LOOKED_AT_AT_ONCE):
            for client_id in client_ids[first : first + LOOKED_AT_AT_ONCE]:
                if self._registry.find(client_id) is None:
                    waiting += self._ledger.waiting_count(client_id)
            await trio.lowlevel.checkpoint()
        return waiting

    def _oldest_unsettled_seconds(self) -> float | None:
        oldest = self._ledger.unsettled.oldest()
        return None if oldest is None else self._clock.now().monotonic - oldest.since
