"""Owns the giving up of many deliveries at once: an endpoint answered 410 or was removed, some are cancelled, or old.

Rules:
 1. A few are given up in the moment itself, the others a slice at a time. In between others have a turn.
 2. No slice begins sooner than the log's writer has written the lines of the one before.
 3. Each is looked at again when its turn comes. What no longer applies (a resume, a 2xx) is left alone.
 4. There is one list for each cause at each endpoint. A later one replaces it, and has all that was left of it.
 5. At a stop `finish` gives up what is left, so that the report says why. It takes FINISH_SECONDS_MAX at most: whatever
    is left then is listed as undelivered, and the next start ends it.
It does not decide that something ends: the courier, the registration and the housekeeping do.
Limits: 8 B for each delivery that is to end; of a 410, 8 B for each event that is held of the client.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import trio

from hookd.core.delivery import Delivery
from hookd.core.event import Event
from hookd.core.ledger import Ledger
from hookd.core.registry import Registry
from hookd.core.retry import Reason
from hookd.flow.ports import Clock

# 5 ms at most: 30 us for each that is given up, 0.5 us for each event and delivery that is looked at. 10,000 lines a
# second are what the log's writer keeps up with: docs/decisions.md.
ROWS_AT_ONCE = 100
LOOKED_AT_AT_ONCE = 3000
SLICE_SECONDS = 0.01
# Some 20,000. A stop promises its end, and the report has yet to be written.
FINISH_SECONDS_MAX = 1.0


class _Cause(NamedTuple):
    reason: Reason
    client_id: str  # empty for an age: those are of all clients
    endpoint_id: str  # empty for an age, and for what is cancelled


class Endings:
    def __init__(self, *, ledger: Ledger, registry: Registry, clock: Clock, wake: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._registry = registry
        self._clock = clock
        self._wake = wake  # the courier of a client: what it waited for is given up
        self._lists: dict[_Cause, deque[Event]] = {}
        self._begin_slice(-math.inf)
        self._begun = trio.Event()
        self._came_through = trio.lowlevel.ParkingLot()  # of those who wait until a list is empty
        self.is_closed = False

    @property
    def left(self) -> int:
        """How many events stand on the lists; nothing of some of them may be left to give up."""
        return sum(map(len, self._lists.values()))

    def gone(self, client_id: str, endpoint_id: str) -> None:
        """The endpoint answered 410: what waits is given up, as long as it is disabled."""
        events = self._ledger.unsettled_events(client_id)
        self._begin(_Cause(Reason.GONE, client_id, endpoint_id), events)

    def removed(self, client_id: str, endpoint_id: str, *, attempts_of_schedule: int) -> int:
        """The endpoint was removed: what waits is given up, even if the id is registered again.

        An attempt in flight runs out. `attempts_of_schedule`: the removed endpoint's own. Returns how many waited.
        """
        waited = self._ledger.abandon(client_id, endpoint_id, attempts_of_schedule=attempts_of_schedule)
        cause = _Cause(Reason.ENDPOINT_REMOVED, client_id, endpoint_id)
        self._begin(cause, [*self._lists.get(cause, ()), *waited])  # the id may have been removed before
        return len(waited)

    def cancelled(self, client_id: str, events: Iterable[Event]) -> None:
        """What waits of these was cancelled, one delivery of each or several: it is given up."""
        self._lists.setdefault(_Cause(Reason.CANCELLED, client_id, ""), deque()).extend(events)
        self._begun.set()  # to look for them took its time already

    async def wait_cancelled(self, client_id: str) -> None:
        """Until all that was cancelled of the client and waited is given up, or nothing is given up any more."""
        while _Cause(Reason.CANCELLED, client_id, "") in self._lists and not self.is_closed:
            await self._came_through.park()

    def expired(self, events: Iterable[Event]) -> None:
        """All events of which something that waits has expired by now."""
        self._begin(_Cause(Reason.EXPIRED, "", ""), events)

    async def run(self) -> None:
        while True:
            if not self._lists:
                self._begun = trio.Event()
                await self._begun.wait()
            await trio.sleep(max(0.0, self._slice_began + SLICE_SECONDS - self._clock.now().monotonic))
            self._give_up_some()

    async def finish(self) -> None:
        """Gives up what is left, for FINISH_SECONDS_MAX, without regard to the log: others still have their turns."""
        give_up_until = self._clock.now().monotonic + FINISH_SECONDS_MAX
        while self._lists and (now := self._clock.now().monotonic) < give_up_until:
            self._begin_slice(now)
            self._give_up_some()
            await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """The report is made of what is there now: nothing is given up any more."""
        self.is_closed = True
        self._came_through.unpark_all()

    def _begin(self, cause: _Cause, events: Iterable[Event]) -> None:
        self._lists[cause] = deque(events)
        self._give_up_some()
        if self._lists:
            self._begun.set()

    def _begin_slice(self, now: float) -> None:
        self._slice_began, self._given_up, self._looked_at = now, 0, 0

    def _give_up_some(self) -> None:
        """As many as are left of this slice, from each list in turn; a slice later than the last begins anew."""
        now = self._clock.now()
        if now.monotonic >= self._slice_began + SLICE_SECONDS:
            self._begin_slice(now.monotonic)
        for cause in list(self._lists):
            events = self._lists[cause]
            while events and self._given_up < ROWS_AT_ONCE and self._looked_at < LOOKED_AT_AT_ONCE:
                event = events.popleft()
                self._looked_at += 1 + len(event.deliveries)
                for delivery in event.deliveries:
                    if self._applies(cause, event, delivery, now=now.monotonic):
                        self._given_up += 1
                        if self._ledger.give_up(event, delivery, cause.reason, now=now):
                            self._wake(event.client_id)
            del self._lists[cause]
            if events:
                self._lists[cause] = events  # behind the others
            elif cause.reason is Reason.ENDPOINT_REMOVED:
                self._forget(cause.client_id, cause.endpoint_id)
            elif cause.reason is Reason.CANCELLED:
                self._end_cancel(cause.client_id)

    def _applies(self, cause: _Cause, event: Event, delivery: Delivery, *, now: float) -> bool:
        if cause.reason is Reason.EXPIRED:
            return delivery.is_waiting and self._ledger.terms.has_expired(event, delivery, now=now)
        if cause.endpoint_id not in ("", delivery.endpoint_id):
            return False
        if cause.reason is Reason.GONE:
            return delivery.is_waiting and self._ledger.is_disabled(event.client_id, delivery.endpoint_id)
        return delivery.abandoned_as is cause.reason and not delivery.in_flight and not delivery.is_settled

    def _end_cancel(self, client_id: str) -> None:
        """A courier with nothing left ends, and whoever asked for the cancel is answered."""
        for endpoint_id in self._ledger.endpoint_ids(client_id):
            self._forget(client_id, endpoint_id)
        self._wake(client_id)
        self._came_through.unpark_all()

    def _forget(self, client_id: str, endpoint_id: str) -> None:
        """Its last delivery may have settled; one that is in flight is the courier's to look after."""
        if self._registry.endpoint(client_id, endpoint_id) is None:
            self._ledger.forget_endpoint(client_id, endpoint_id)
