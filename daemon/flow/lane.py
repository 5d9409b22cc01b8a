"""Owns an endpoint's waiting deliveries: first attempts in order, retries by due time, taken in turn.

Rules: a delivery that waits is a row here, never a task. Rows are not removed when their delivery settles or falls
due at another time by other hands (expiry, removal, retry): a row that no longer fits its delivery is passed over
when it comes up. What is overdue in one heap would always sort before what is new; hence the two.
Limits: the ledger bounds what waits; 8 B a first attempt, about 100 B a retry.
"""

import heapq
import math
from collections import deque
from itertools import count
from typing import NamedTuple

from daemon.core.delivery import Delivery
from daemon.core.event import Event

_order = count()


class _Retry(NamedTuple):
    due_at: float
    order: int  # first in, first out among equals; and events themselves do not compare
    event: Event


class Lane:
    """One endpoint's; `in_flight` is counted by its courier."""

    __slots__ = ("_firsts", "_retries", "_retry_next", "endpoint_id", "in_flight")

    def __init__(self, endpoint_id: str) -> None:
        self.endpoint_id = endpoint_id
        self.in_flight = 0
        self._firsts: deque[Event] = deque()
        self._retries: list[_Retry] = []
        self._retry_next = False

    def add(self, event: Event, delivery: Delivery) -> None:
        """Takes a delivery that waits; it may be here already with another due time."""
        assert delivery.due_at is not None
        if delivery.attempt_count == 0:
            self._firsts.append(event)
        else:
            heapq.heappush(self._retries, _Retry(delivery.due_at, next(_order), event))

    def next_due(self) -> float:
        """When the next delivery is due (monotonic), infinity if none waits."""
        self._pass_over()
        first_due = -math.inf
        if self._firsts:
            delivery = self._firsts[0].delivery_to(self.endpoint_id)
            assert delivery is not None
            assert delivery.due_at is not None
            first_due = delivery.due_at
        retry_due = self._retries[0].due_at if self._retries else math.inf
        return min(first_due, retry_due) if self._firsts else retry_due

    def take(self, now: float) -> tuple[Event, Delivery] | None:
        """The next delivery that is due, removed; None if none is."""
        self._pass_over()
        retry_is_due = bool(self._retries) and self._retries[0].due_at <= now
        if retry_is_due and (self._retry_next or not self._firsts):
            event = heapq.heappop(self._retries).event
            self._retry_next = False
        elif self._firsts:
            event = self._firsts.popleft()
            self._retry_next = True
        else:
            return None
        delivery = event.delivery_to(self.endpoint_id)
        assert delivery is not None
        return event, delivery

    def _pass_over(self) -> None:
        """Drops rows from both fronts whose delivery no longer waits there."""
        while self._firsts and not self._fits(self._firsts[0]):
            self._firsts.popleft()
        while self._retries and not self._fits(self._retries[0].event, self._retries[0].due_at):
            heapq.heappop(self._retries)

    def _fits(self, event: Event, due_at: float | None = None) -> bool:
        delivery = event.delivery_to(self.endpoint_id)
        if delivery is None or not delivery.is_waiting:
            return False
        return delivery.attempt_count == 0 if due_at is None else delivery.due_at == due_at
