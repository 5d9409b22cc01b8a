"""Owns the giving up of many deliveries at once: of an endpoint that answered 410 or was removed, and of great age.

Rules:
 1. A few are given up in the moment itself, the others a slice at a time. In between others have a turn.
 2. No slice begins sooner than the log's writer has written the lines of the one before.
 3. Each is looked at again when its turn comes. What no longer applies (a resume, a 2xx) is left alone.
 4. Whatever is to be given up is listed once. A later list of the same cause at the same endpoint replaces the earlier:
    it has all that was left of it.
 5. At a stop nothing stays on the lists: `finish` gives up all of it, so that the report says why.
It does not decide that something ends: the courier, the registration and the housekeeping do.
Limits: at most what is unsettled stands on the lists, about 64 B each, once for each cause.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import trio

from hookd.core.delivery import Delivery
from hookd.core.event import Event
from hookd.core.ledger import Ledger
from hookd.core.registry import Registry
from hookd.core.retry import Reason
from hookd.flow.ports import Clock

# About 5 ms. 10,000 lines a second are what the log's writer keeps up with: docs/decisions.md.
ROWS_AT_ONCE = 200
SLICE_SECONDS = 0.02

Pair = tuple[Event, Delivery]


class _Cause(NamedTuple):
    reason: Reason
    client_id: str  # empty for an age: those are of all clients
    endpoint_id: str


class Endings:
    def __init__(self, *, ledger: Ledger, registry: Registry, clock: Clock) -> None:
        self._ledger = ledger
        self._registry = registry
        self._clock = clock
        self._lists: dict[_Cause, deque[Pair]] = {}
        self._slice_began = float("-inf")  # monotonic
        self._slice_rows = 0
        self._begun = trio.Event()

    @property
    def left(self) -> int:
        """How many stand on the lists; some of them may have settled otherwise."""
        return sum(map(len, self._lists.values()))

    def gone(self, client_id: str, endpoint_id: str) -> None:
        """The endpoint answered 410: what waits is given up, as long as it is disabled."""
        waiting = self._ledger.waiting(client_id, endpoint_id)
        self._begin(_Cause(Reason.GONE, client_id, endpoint_id), waiting)

    def removed(self, client_id: str, endpoint_id: str, *, attempts_of_schedule: int) -> int:
        """The endpoint was removed: what waits is given up, even if the id is registered again.

        An attempt in flight runs out. `attempts_of_schedule`: the removed endpoint's own. Returns how many waited.
        """
        waited: list[Pair] = []
        waits_still: list[Pair] = []  # from an earlier removal too
        for event, delivery in self._ledger.unsettled_of(client_id, endpoint_id):
            if not delivery.is_abandoned:
                self._ledger.abandon(event, delivery, attempts_of_schedule=attempts_of_schedule)
                if not delivery.in_flight:
                    waited.append((event, delivery))
            if not delivery.in_flight:
                waits_still.append((event, delivery))
        self._begin(_Cause(Reason.ENDPOINT_REMOVED, client_id, endpoint_id), waits_still)
        return len(waited)

    def expired(self, pairs: Iterable[Pair]) -> None:
        """All that has expired by now."""
        self._begin(_Cause(Reason.EXPIRED, "", ""), pairs)

    async def run(self) -> None:
        while True:
            if not self._lists:
                self._begun = trio.Event()
                await self._begun.wait()
            await trio.sleep(max(0.0, self._slice_began + SLICE_SECONDS - self._clock.now().monotonic))
            self._give_up_some()

    async def finish(self) -> None:
        """Gives up all that is left, without regard to the log: others still have their turns."""
        while self._lists:
            self._slice_rows = 0
            self._give_up_some()
            await trio.lowlevel.checkpoint()

    def _begin(self, cause: _Cause, pairs: Iterable[Pair]) -> None:
        self._lists[cause] = deque(pairs)
        self._give_up_some()
        if self._lists:
            self._begun.set()

    def _give_up_some(self) -> None:
        """As many as are left of this slice, from each list in turn; a slice later than the last begins anew."""
        now = self._clock.now()
        if now.monotonic >= self._slice_began + SLICE_SECONDS:
            self._slice_began, self._slice_rows = now.monotonic, 0
        for cause in list(self._lists):
            pairs = self._lists[cause]
            while pairs and self._slice_rows < ROWS_AT_ONCE:
                event, delivery = pairs.popleft()
                self._slice_rows += 1
                if self._applies(cause, event, delivery, now=now.monotonic):
                    self._ledger.give_up(event, delivery, cause.reason, now=now)
            del self._lists[cause]
            if pairs:
                self._lists[cause] = pairs  # behind the others
            elif cause.reason is Reason.ENDPOINT_REMOVED:
                self._forget(cause.client_id, cause.endpoint_id)

    def _applies(self, cause: _Cause, event: Event, delivery: Delivery, *, now: float) -> bool:
        match cause.reason:
            case Reason.ENDPOINT_REMOVED:
                return delivery.is_abandoned and not delivery.in_flight and not delivery.is_settled
            case Reason.GONE:
                return delivery.is_waiting and self._ledger.is_disabled(event.client_id, delivery.endpoint_id)
            case Reason.EXPIRED:
                return delivery.is_waiting and self._ledger.terms.has_expired(event, delivery, now=now)
            case _:
                raise AssertionError(cause.reason)

    def _forget(self, client_id: str, endpoint_id: str) -> None:
        """Its last delivery may have settled; one that is in flight is the courier's to look after."""
        if self._registry.endpoint(client_id, endpoint_id) is None:
            self._ledger.forget_endpoint(client_id, endpoint_id)
