"""Owns cancelling: what is unsettled and should no longer go out (contract section 2).

Rules:
 1. What waits is exhausted as `cancelled`, whatever it waits for: a pause, a probe, its turn, its client. What is in
    flight runs out: a 2xx delivers it, anything else exhausts it.
 2. It admits nothing. So neither a drain nor a disabled endpoint refuses it; a report that is being made does.
 3. A range is what was accepted before the request. What is accepted, added or reopened after that is left alone, and
    so is what settles before its turn comes.
 4. A range is looked for a slice at a time; others have a turn in between. What was found is not attempted from then
    on. It is given up by flow/endings, as fast as the log can say so, and the answer comes when all of it is.
 5. A caller that resets its connection half way ends the search. What was cancelled stays so; the log has the count.
Limits: one range at a time, others wait; 8 B for each event found, until it is given up.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import trio

from hookd.core.delivery import Delivery
from hookd.core.event import Event
from hookd.core.ledger import Ledger
from hookd.core.listing import Wanted
from hookd.core.quoting import quoted
from hookd.core.refusal import Draining, NotFound
from hookd.core.registry import Registry
from hookd.core.retry import Reason
from hookd.core.subscription import Subscription
from hookd.flow.dispatch import Dispatch
from hookd.flow.endings import Endings
from hookd.flow.ports import Clock, Log

# Then others have a turn: 4 ms at most. A look is 0.5 us. An event takes some, and one for each of its deliveries and
# for each text that its type is compared with: a range may have a hundred patterns.
LOOKS_AT_ONCE = 5000
LOOKS_PER_EVENT = 3
CANCELLED_AT_ONCE = 200
LOOKED_AT_AT_ONCE = 2000  # events that are listed for it
RETRY_AFTER_SECONDS = 5

Act = Callable[[Event, Delivery], None]


class Range(NamedTuple):
    """Which of a client's unsettled deliveries; None: whichever. Times are of acceptance (wall), both ends included."""

    since: float | None = None
    until: float | None = None
    types: Subscription | None = None
    endpoint_id: str | None = None

    def deliveries(self, event: Event) -> Sequence[Delivery]:
        """Those of the event that match."""
        if self.types is not None and not self.types.wants(event.type):
            return ()
        if not Wanted(since=self.since, until=self.until).holds(event):
            return ()
        if self.endpoint_id is None:
            return event.deliveries
        delivery = event.delivery_to(self.endpoint_id)
        return () if delivery is None else (delivery,)


class Cancelled(NamedTuple):
    """Deliveries. Of those that match, the cancelled ones waited, and those in flight run out."""

    matched: int
    cancelled: int
    in_flight: int


class Cancel:
    def __init__(
        self,
        *,
        ledger: Ledger,
        registry: Registry,
        dispatch: Dispatch,
        endings: Endings,
        clock: Clock,
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._dispatch = dispatch
        self._endings = endings
        self._clock = clock
        self._log = log
        self._one_at_a_time = trio.CapacityLimiter(1)

    def cancel(self, event: Event, endpoint_id: str | None = None) -> bool:
        """One event, or its delivery to one endpoint. True if anything of it was unsettled.

        Raises Draining or NotFound with nothing changed.
        """
        self._refuse_if_closed()
        if endpoint_id is not None and event.delivery_to(endpoint_id) is None:
            raise NotFound(f"event {event.id!r} has no delivery to an endpoint {quoted(endpoint_id)}")
        now = self._clock.now()
        found = [one for one in Range(endpoint_id=endpoint_id).deliveries(event) if _may_be_cancelled(one)]
        for delivery in found:
            if delivery.in_flight:
                self._ledger.cancel(event, delivery)
            else:
                self._ledger.give_up(event, delivery, Reason.CANCELLED, now=now)
                self._forget_if_removed(event, delivery)
        if found:
            self._log("event.cancelled", event_id=event.id, client_id=event.client_id, deliveries=len(found))
            self._dispatch.wake(event.client_id)
        return bool(found)

    async def cancel_range(self, client_id: str, wanted: Range, *, dry_run: bool = False) -> Cancelled:
        """Raises UnknownClient, NotFound or Draining with nothing changed. A dry run only counts."""
        self._refuse_if_closed()
        self._refuse_if_unknown(client_id, wanted.endpoint_id)
        asked_at = self._clock.now().monotonic
        slices = self._ledger.unsettled_slices(client_id, LOOKED_AT_AT_ONCE)
        search = _Search(wanted, asked_at, slices)
        async with self._one_at_a_time:
            self._refuse_if_closed()  # it may have waited
            if dry_run:
                await search.run()
                return Cancelled(search.waiting + search.in_flight, 0, search.in_flight)
            await self._cancel(client_id, search)
        return Cancelled(search.waiting + search.in_flight, search.waiting, search.in_flight)

    async def _cancel(self, client_id: str, search: "_Search") -> None:
        waited: list[Event] = []

        def cancel(event: Event, delivery: Delivery) -> None:
            self._ledger.cancel(event, delivery)
            if not delivery.in_flight:
                waited.append(event)

        def end_slice() -> None:
            if waited:
                self._endings.cancelled(client_id, waited)
                waited.clear()

        try:
            await search.run(cancel, end_slice, is_over=lambda: self._endings.is_closed)
        finally:
            self._dispatch.wake(client_id)
            self._log("client.cancelled", client_id=client_id, cancelled=search.waiting, in_flight=search.in_flight)
        await self._endings.wait_cancelled(client_id)

    def _refuse_if_closed(self) -> None:
        if self._endings.is_closed:
            raise Draining(
                "hookd has stopped, and its report lists what is left", retry_after_seconds=RETRY_AFTER_SECONDS
            )

    def _refuse_if_unknown(self, client_id: str, endpoint_id: str | None) -> None:
        """Events outlive their client's registration, and so do deliveries their endpoint's."""
        if not self._ledger.knows(client_id):
            self._registry.get(client_id)
        is_held = endpoint_id is None or self._ledger.health(client_id, endpoint_id) is not None
        if not is_held and self._registry.endpoint(client_id, endpoint_id or "") is None:
            raise NotFound(f"client {client_id!r} has no endpoint {quoted(endpoint_id or '')}")

    def _forget_if_removed(self, event: Event, delivery: Delivery) -> None:
        """It may have been the last of an endpoint that is not registered."""
        if self._registry.endpoint(event.client_id, delivery.endpoint_id) is None:
            self._ledger.forget_endpoint(event.client_id, delivery.endpoint_id)


class _Search:
    """One look at what is unsettled of a client, and what it has found so far."""

    def __init__(self, wanted: Range, asked_at: float, slices: Iterator[Sequence[Event]]) -> None:
        self._wanted = wanted
        self._looks = LOOKS_PER_EVENT + (0 if wanted.types is None else wanted.types.comparisons)
        self._asked_at = asked_at
        self._slices = slices
        self.waiting = self.in_flight = 0

    async def run(
        self,
        act: Act | None = None,
        end_slice: Callable[[], None] = lambda: None,
        *,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Acts on each that matches. Each slice asks first whether anything may still be changed."""
        for events in self._slices:
            place = 0
            while place < len(events) and not is_over():
                place = self._look(events, place, act)
                end_slice()
                await trio.lowlevel.checkpoint()

    def _look(self, events: Sequence[Event], place: int, act: Act | None) -> int:
        """One slice, from that place on; returns where the next begins."""
        looks, found_before = 0, self.waiting + self.in_flight
        for number in range(place, len(events)):
            event = events[number]
            for delivery in self._wanted.deliveries(event):
                if _may_be_cancelled(delivery) and delivery.particulars.owed_since <= self._asked_at:
                    self.in_flight += delivery.in_flight
                    self.waiting += not delivery.in_flight
                    if act is not None:
                        act(event, delivery)
            looks += self._looks + len(event.deliveries)
            if looks >= LOOKS_AT_ONCE or self.waiting + self.in_flight - found_before >= CANCELLED_AT_ONCE:
                return number + 1
        return len(events)


def _may_be_cancelled(delivery: Delivery) -> bool:
    """What its endpoint's removal ends anyway is left to that."""
    return not delivery.is_settled and not delivery.is_abandoned
