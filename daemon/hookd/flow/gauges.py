"""Owns the gauges that cost more than reading a count: they look at every endpoint, courier and client, in slices.

`/v1/status` and `/metrics` ask for them. With 20,000 clients that all have a backlog, one look takes 200 ms of CPU.
Others have a turn between slices. So a look is not of one instant, and counts that must balance are read from the
ledger's totals instead.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, TypeVar

import trio

from hookd.core.health import PausedBy, State
from hookd.core.ledger import Ledger
from hookd.core.registry import Registry
from hookd.flow.backlogs import Backlog, LargestBacklogs
from hookd.flow.dispatch import Dispatch
from hookd.flow.ports import Clock

# Clients or couriers looked at in one go, 2 ms at most; then others have a turn.
LOOKED_AT_AT_ONCE = 100

T = TypeVar("T")


class Gauges(NamedTuple):
    endpoints: Counter[State]  # registered ones; one that nothing was ever sent to is ok
    paused_by: Counter[PausedBy]  # of those that are paused
    failing: int  # of them all, whatever their state
    oldest_unsettled_seconds: float | None
    oldest_overdue_seconds: float | None  # due, no state of its endpoint holds it back, and still waiting
    longest_ready_seconds: float | None  # as Courier.ready_from has it: what waits for us alone
    waiting_for_client: int  # deliveries that were recovered for a client that is not registered
    waiting_for_client_events: int
    backlogs: list[Backlog]  # the largest of all clients, the largest first


class GaugeCollector:
    def __init__(self, *, ledger: Ledger, registry: Registry, dispatch: Dispatch, clock: Clock) -> None:
        self._ledger = ledger
        self._registry = registry
        self._dispatch = dispatch
        self._clock = clock

    async def take(self) -> Gauges:
        overdue_seconds, ready_seconds = await self._waits()
        endpoints = await self._endpoints()
        held = await self._held()
        return Gauges(*endpoints, self._oldest_unsettled_seconds(), overdue_seconds, ready_seconds, *held)

    async def _endpoints(self) -> tuple[Counter[State], Counter[PausedBy], int]:
        states: Counter[State] = Counter(dict.fromkeys(State, 0))
        paused_by: Counter[PausedBy] = Counter(dict.fromkeys(PausedBy, 0))
        failing = 0
        async for clients, now in self._slices(list(self._registry)):
            for client in clients:
                for endpoint in client.endpoints:
                    health = self._ledger.health(client.id, endpoint.id)
                    state = State.OK if health is None else health.state(now)
                    states[state] += 1
                    if health is not None:
                        failing += health.fails_straight(now)
                        if state is State.PAUSED and health.paused_by is not None:
                            paused_by[health.paused_by] += 1
        return states, paused_by, failing

    async def _waits(self) -> tuple[float | None, float | None]:
        """The oldest that is overdue, and that is ready.

        Measured at each slice, so that what begins meanwhile is not counted as waiting on.
        """
        overdue = ready = 0.0
        async for couriers, now in self._slices(self._dispatch.couriers()):
            for courier in couriers:
                overdue = max(overdue, now - courier.next_due(now))
                ready = max(ready, now - courier.ready_from(now))
        return overdue or None, ready or None

    async def _held(self) -> tuple[int, int, list[Backlog]]:
        """What waits for its client, in deliveries and in events, and the largest backlogs."""
        deliveries = events = 0
        largest = LargestBacklogs()
        async for client_ids, _ in self._slices(self._ledger.client_ids()):
            for client_id in client_ids:
                held = self._ledger.held(client_id)
                largest.look(client_id, held.events, held.bytes)
                if self._registry.find(client_id) is None and (waiting := self._ledger.waiting_count(client_id)):
                    deliveries += waiting
                    events += held.events
        return deliveries, events, largest.found()

    async def _slices(self, items: Sequence[T]) -> AsyncIterator[tuple[Sequence[T], float]]:
        """Some at a time, with the monotonic time; others have a turn after each."""
        for first in range(0, len(items), LOOKED_AT_AT_ONCE):
            yield items[first : first + LOOKED_AT_AT_ONCE], self._clock.now().monotonic
            await trio.lowlevel.checkpoint()

    def _oldest_unsettled_seconds(self) -> float | None:
        oldest = self._ledger.unsettled.oldest()
        return None if oldest is None else self._clock.now().monotonic - oldest.since
