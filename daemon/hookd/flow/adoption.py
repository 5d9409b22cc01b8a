"""Owns the taking over of deliveries that waited for their client's registration: they become due, and are routed.

Rules:
 1. A few are taken over in the moment of the registration itself, the others a slice at a time. In between others have
    a turn: 20,000 in one go held the loop for 0.4 s. Of clients that are registered beside those under way none are
    taken over in that moment: a whole registry may be declared in one step.
 2. Each is looked at when its turn comes. One that was expedited, ended, or whose endpoint is gone is left alone.
 3. A drain takes over what is left before it asks what may still begin.
 4. An endpoint with strict order begins when all of it is taken over: what comes newly may not overtake it.
Limits: 8 B for each event of such a client.
"""

import math
from collections import deque

import trio

from hookd.core.delivery import Delivery
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
        self._is_going_on = False
        self._clients: list[str] = []  # whose are left

    def begin(self, client_id: str) -> None:
        """The client is registered now."""
        self._left.extend(self._ledger.unsettled_events(client_id))
        self._ledger.note_adopting(client_id, is_adopting=True)
        self._clients.append(client_id)
        if not (self._is_going_on and self._left):  # with nothing left, what goes on ends at its next turn
            self._take_some()
        if self._left and not self._is_going_on:
            self._is_going_on = True
            self._dispatch.start_soon(self.finish)

    async def finish(self) -> None:
        """Takes over what is left, with turns for others."""
        while self._left:
            self._take_some()
            await trio.lowlevel.checkpoint()
        self._is_going_on = False

    def _take_some(self) -> None:
        """A slice, endpoint by endpoint, the oldest first: so its courier has its lanes in the ledger's order."""
        taken: dict[tuple[str, str], list[tuple[Event, Delivery]]] = {}
        count = looked_at = 0
        while self._left and count < ROWS_AT_ONCE and looked_at < LOOKED_AT_AT_ONCE:
            event = self._left.popleft()
            looked_at += len(event.deliveries)
            for delivery in event.deliveries:
                if self._waits_for_client(event, delivery):
                    taken.setdefault((event.client_id, delivery.endpoint_id), []).append((event, delivery))
                    count += 1
        now = self._clock.now()
        for client_id in dict.fromkeys(client_id for client_id, _ in taken):
            for endpoint_id in self._ledger.endpoint_ids(client_id):
                for event, delivery in taken.get((client_id, endpoint_id), ()):
                    self._ledger.make_due(delivery, now=now)
                    self._dispatch.add(event, delivery)
        if not self._left:
            self._end()

    def _end(self) -> None:
        """All of it is in the lanes: strict ones may begin."""
        for client_id in self._clients:
            self._ledger.note_adopting(client_id, is_adopting=False)
            self._dispatch.wake(client_id)
        self._clients.clear()

    def _waits_for_client(self, event: Event, delivery: Delivery) -> bool:
        is_registered = self._registry.endpoint(event.client_id, delivery.endpoint_id) is not None
        return delivery.is_waiting and delivery.due_at == math.inf and is_registered
