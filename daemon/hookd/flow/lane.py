"""Owns an endpoint's waiting deliveries: first attempts in order, retries by due time, taken in turn.

Rules:
 1. A delivery that waits is a row here, never a task.
 2. A row stays when its delivery settles or gets another due time by other hands (expiry, removal, retry). A row that
    no longer fits its delivery is passed over when it comes up.
 3. First attempts and retries are kept apart: in one heap, what is overdue would always come before what is new.
 4. What an operator expedited goes before both, and does not wait for a probe.
 5. The lane holds its endpoint as it is registered now, and its health. Its courier replaces both: the endpoint at each
    change of the registration, the health with each delivery that comes in.
 6. With strict order what waits stands in one line (flow/line), and one is in flight at most. What is expedited goes
    before the schedule and the probe there, and not before what was accepted earlier.
 7. An endpoint's rate holds back whatever begins from here, a probe and what is expedited too.
Limits: the ledger bounds what waits; 8 B a first attempt, about 100 B a retry, 170 B one that is expedited.
"""

import heapq
import math
from collections import OrderedDict, deque
from itertools import count

import msgspec

from hookd.core.client import Endpoint
from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event
from hookd.core.health import Health
from hookd.core.rate import Rate
from hookd.flow.line import Line

_order = count()
_PENDING = Status.PENDING  # to reach a member through its enum takes Python 3.11 a while


class _Row(msgspec.Struct, order=True, gc=False):
    due_at: float
    order: int  # first in, first out among equals; and events themselves do not compare
    event: Event


class Lane:
    """One endpoint's. The courier counts `in_flight`; the pacer keeps `is_offered`, and since when (monotonic)."""

    __slots__ = (
        "_expedited",
        "_firsts",
        "_line",
        "_rate",
        "_retries",
        "_retry_next",
        "endpoint",
        "endpoint_id",
        "health",
        "in_flight",
        "is_offered",
        "is_strict",
        "offered_at",
    )

    def __init__(self, endpoint_id: str, *, endpoint: Endpoint | None, health: Health) -> None:
        self.endpoint_id = endpoint_id
        self.endpoint: Endpoint | None = None  # as registered now; None: it is not
        self.health = health  # the ledger's row
        self.in_flight = 0
        self.is_offered = False
        self.is_strict = False  # its endpoint is, as registered now
        self.offered_at = math.inf
        self._firsts: deque[Event] = deque()
        # By the event's sequence: however often one is expedited, it is one row. None: nothing is, as nearly always.
        # It finds its first at once. A dict looks at every freed place before it: 60 us an event, of 100,000.
        self._expedited: OrderedDict[int, _Row] | None = None
        self._retries: list[_Row] = []
        self._retry_next = False
        self._line: Line | None = None  # None: in any order
        self._rate: Rate | None = None
        self.take_endpoint(endpoint)

    def take_endpoint(self, endpoint: Endpoint | None) -> None:
        """The endpoint as it is registered from here on; what waits takes its order. None: it is not registered."""
        was_registered, self.endpoint = self.endpoint is not None, endpoint
        if endpoint is None:
            if was_registered:
                self.clear()
            return
        self._rate, self.is_strict = endpoint.rate, endpoint.is_strict
        if not self.is_strict:
            self.health.held_up_by = None
        if self.is_strict == (self._line is not None):
            return
        waiting = self._waiting()
        self.clear()
        self._line = Line(self.endpoint_id) if self.is_strict else None
        for event, delivery in waiting:
            self.add(event, delivery)

    @property
    def has_turn(self) -> bool:
        """Whether one more may be in flight as far as its order goes."""
        return self._line is None or not self.in_flight

    def add(self, event: Event, delivery: Delivery) -> None:
        """Takes a delivery that waits; it may be here already with another due time."""
        assert delivery.due_at is not None
        if self._line is not None:
            self._line.add(event)
            if not self.in_flight:
                self.note_held_up()
        elif delivery.attempt_count == 0:
            self._firsts.append(event)
        else:
            heapq.heappush(self._retries, _Row(delivery.due_at, next(_order), event))

    def note_held_up(self) -> None:
        """In a line all others wait for the first. Where that has failed, the health says so."""
        if self._line is None:
            return
        first, health = self._line.first(), self.health
        health.held_up_by = None
        if first is not None and first[1].status is Status.FAILED:
            health.held_up_by, health.held_up_attempts = first[0].id, first[1].attempt_count

    def expedite(self, event: Event, delivery: Delivery) -> None:
        """A delivery that waits here goes before all others and does not wait for the next probe."""
        assert delivery.due_at is not None
        if self._expedited is None:
            self._expedited = OrderedDict()
        self._expedited[event.sequence] = _Row(delivery.due_at, next(_order), event)

    def clear(self) -> None:
        """Its endpoint was removed: nothing that waits here is attempted any more."""
        self._firsts.clear()
        self._expedited = None
        self._retries.clear()
        if self._line is not None:
            self._line = Line(self.endpoint_id)

    def next_due(self) -> float:
        """When the next delivery is due (monotonic), infinity if none waits."""
        if self._line is not None:
            return self._due_in_line(self._line)
        if not self._retries and not self._expedited:  # as nearly always
            first = self._first() if self._firsts else None
            if first is None:
                return math.inf
            assert first.due_at is not None
            return first.due_at
        self._pass_over()
        due_at = math.inf
        for event in (*self._firsts_next(), *(retry.event for retry in self._retries[:1])):
            delivery = event.delivery_to(self.endpoint_id)
            assert delivery is not None
            assert delivery.due_at is not None
            due_at = min(due_at, delivery.due_at)
        return due_at

    def begins_from(self) -> float:
        """The earliest (monotonic) that an attempt may begin from here; infinity while none may."""
        due_at = self.next_due()
        if due_at == math.inf:
            return due_at
        health = self.health
        is_expedited = self._expedited is not None and self.is_expedited
        begins_from = health.expedited_begins_from(due_at) if is_expedited else health.begins_from(due_at)
        return begins_from if self._rate is None else max(begins_from, self.health.rate_log.begins_from(self._rate))

    def owed_from(self) -> float:
        """Since when (monotonic) the next is due as far as its endpoint's order and rate go; infinity if none is."""
        if not self.has_turn:
            return math.inf
        due_at = self.next_due()
        return due_at if self._rate is None else max(due_at, self.health.rate_log.begins_from(self._rate))

    def note_begin(self, now: float) -> None:
        """An attempt from here begins."""
        if self._rate is not None:
            self.health.rate_log.note(self._rate, now)

    @property
    def is_expedited(self) -> bool:
        """Whether an operator expedited something that waits here; in a line, its first."""
        self._pass_over()
        if self._line is not None:
            first = self._line.first()
            return first is not None and self._expedited is not None and first[0].sequence in self._expedited
        return self._expedited is not None

    def take(self, now: float, *, oldest: bool = False) -> tuple[Event, Delivery] | None:
        """The next delivery that may begin, removed; None if none is due. A probe takes the oldest, due or not."""
        if self._line is not None:
            return self._take_from(self._line, now, oldest=oldest)
        if not self._retries and not self._expedited:  # the oldest is the first
            first = self._first()
            if first is None:
                return None
            self._retry_next = self._retry_next or not oldest
            return self._firsts.popleft(), first
        self._pass_over()
        if self._expedited:
            event = self._expedited.popitem(last=False)[1].event
        elif oldest:
            found = self._oldest()
            if found is None:
                return None
            event = found
        else:
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

    def _due_in_line(self, line: Line) -> float:
        first = line.first()
        if first is None:
            return math.inf
        assert first[1].due_at is not None
        return first[1].due_at

    def _take_from(self, line: Line, now: float, *, oldest: bool) -> tuple[Event, Delivery] | None:
        first = line.first()
        if first is None or (self._due_in_line(line) > now and not oldest):
            return None
        line.pop()
        if self._expedited is not None:
            self._expedited.pop(first[0].sequence, None)
        return first

    def _waiting(self) -> list[tuple[Event, Delivery]]:
        """What waits here, in the order of acceptance."""
        events = [
            *self._firsts,
            *(row.event for row in self._retries),
            *(row.event for row in (self._expedited or {}).values()),
        ]
        if self._line is not None:
            events += self._line.events()
        found = []
        for event in sorted(dict.fromkeys(events), key=lambda event: event.sequence):
            delivery = event.delivery_to(self.endpoint_id)
            if delivery is not None and delivery.is_waiting and delivery.due_at is not None:
                found.append((event, delivery))
        return found

    def _first(self) -> Delivery | None:
        """That of the event at the front of the firsts, once those are passed over that no longer wait there."""
        firsts = self._firsts
        while firsts:
            bundle = firsts[0].bundle
            # The only one of an event that is here is to here. To ask for it by its endpoint is a call more.
            delivery = bundle if type(bundle) is Delivery else firsts[0].delivery_to(self.endpoint_id)
            # As `is_waiting` has it of one that was never attempted. That is a call more, four times an event.
            if (
                delivery is not None
                and not delivery.attempt_count
                and delivery.status is _PENDING
                and delivery.particulars.abandoned_as is None
            ):
                return delivery
            firsts.popleft()
        return None

    def _firsts_next(self) -> tuple[Event, ...]:
        return (self._firsts[0],) if self._firsts else ()

    def _oldest(self) -> Event | None:
        """By admission. A look at every retry, 2 ms for 20,000, at most once in five seconds: a probe asks for it."""
        waiting = [retry.event for retry in self._retries if self._fits(retry.event, retry.due_at)]
        return min((*self._firsts_next(), *waiting), key=lambda event: event.sequence, default=None)

    def _pass_over(self) -> None:
        """Drops rows from the fronts whose delivery no longer waits there."""
        while self._expedited and not self._waits(self._expedited[first := next(iter(self._expedited))]):
            del self._expedited[first]
        if not self._expedited:
            self._expedited = None
        self._first()
        while self._retries and not self._fits(self._retries[0].event, self._retries[0].due_at):
            heapq.heappop(self._retries)

    def _waits(self, row: _Row) -> bool:
        """Whether its delivery waits for just this: one that was attempted since has another due time."""
        delivery = row.event.delivery_to(self.endpoint_id)
        return delivery is not None and delivery.is_waiting and delivery.due_at == row.due_at

    def _fits(self, event: Event, due_at: float) -> bool:
        delivery = event.delivery_to(self.endpoint_id)
        return delivery is not None and delivery.is_waiting and delivery.due_at == due_at
