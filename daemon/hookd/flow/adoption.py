"""Owns the taking over of deliveries that waited for their client's registration: they become due, and are routed.

Rules:
 1. A few are taken over in the moment of the registration itself, the others a slice at a time. In between others have
    a turn: 20,000 in one go held the loop for 0.4 s.
 2. Each is looked at when its turn comes. One that was expedited, ended, or whose endpoint is gone is left alone.
 3. A drain takes over what is left before it asks what may still begin.
Limits: 8 B for each event of such a client.
"""

import math
from collections import deque

import trio

from hookd.core.event import Event
from hookd.core.ledger import Ledger
from hookd.core.registry import Registry
from hookd.flow.dispatch import Dispatch
from hookd.flow.ports import Clock

# About 5 ms.
ROWS_AT_ONCE = 200
LOOKED_AT_AT_ONCE = 2000


class Adoption:
    def __init__(self, *, ledger: Ledger, registry: Registry, dispatch: Dispatch, clock: Clock) -> None:
        self._ledger = ledger
        self._registry = registry
        self._dispatch = dispatch
        self._clock = clock
        self._left: deque[Event] = deque()
        self._begun = trio.Event()

    def begin(self, client_id: str) -> None:
        """The client is registered now."""
        self._left.extend(self._ledger.unsettled_events(client_id))
        self._take_some()
        if self._left:
            self._begun.set()

    async def run(self) -> None:
        while True:
            if not self._left:
                self._begun = trio.Event()
                await self._begun.wait()
            await trio.lowlevel.checkpoint()
            self._take_some()

    async def finish(self) -> None:
        while self._left:
            self._take_some()
            await trio.lowlevel.checkpoint()

    def _take_some(self) -> None:
        now, taken, looked_at = self._clock.now(), 0, 0
        while self._left and taken < ROWS_AT_ONCE and looked_at < LOOKED_AT_AT_ONCE:
            event = self._left.popleft()
            looked_at += 1
            for delivery in event.deliveries:
                is_registered = self._registry.endpoint(event.client_id, delivery.endpoint_id) is not None
                if delivery.is_waiting and delivery.due_at == math.inf and is_registered:
                    self._ledger.make_due(delivery, now=now)
                    self._dispatch.add(event, delivery)
                    taken += 1
