"""Owns what waits for an endpoint with strict order: one line, in the order of acceptance.

Rules:
 1. The first of the line is attempted until it settles. What stands behind it waits, due or not.
 2. One that settled by other hands (expiry, removal, cancel) is passed over.
 3. Whoever comes later and was accepted earlier, such as a reopened one, goes before those behind it.
The lane (flow/lane) says when the first may begin, and that it is alone in flight.
Limits: the ledger bounds what waits; 100 B each.
"""

import heapq
from itertools import count

from hookd.core.delivery import Delivery
from hookd.core.event import Event

_arrival = count()


class Line:
    __slots__ = ("_endpoint_id", "_rows")

    def __init__(self, endpoint_id: str) -> None:
        self._endpoint_id = endpoint_id
        self._rows: list[tuple[int, int, Event]] = []  # by sequence, and since events do not compare, by arrival

    def add(self, event: Event) -> None:
        heapq.heappush(self._rows, (event.sequence, next(_arrival), event))

    def first(self) -> tuple[Event, Delivery] | None:
        """The first that waits, left where it is."""
        while self._rows:
            event = self._rows[0][2]
            delivery = event.delivery_to(self._endpoint_id)
            if delivery is not None and delivery.is_waiting:
                return event, delivery
            heapq.heappop(self._rows)
        return None

    def pop(self) -> None:
        """The first is taken."""
        heapq.heappop(self._rows)

    def events(self) -> list[Event]:
        """Those that wait, in their order."""
        return [event for _, _, event in sorted(self._rows)]
