"""Owns what makes an unsettled delivery one that is not attempted any more: a removed endpoint, a cancel.

Rules:
 1. It is abandoned in one step. An attempt in flight is its last: a 2xx delivers it, anything else gives it up for the
    reason that it was abandoned for. The first reason stays.
 2. What waits is given up by the caller, or by flow/endings where there are thousands.
 3. A cancel stands in the recorder before anything else is done: a crash may not undo it. A removal does not: the next
    start sees that the endpoint is not there.
"""

from hookd.core.books import Books
from hookd.core.delivery import SETTLED, Delivery
from hookd.core.event import Event
from hookd.core.guarded_recorder import GuardedRecorder
from hookd.core.particulars import NOTHING, Particulars
from hookd.core.retry import Reason
from hookd.core.terms import Terms


class Abandonment(Books):
    """A part of the ledger, which has these two."""

    terms: Terms
    _recorder: GuardedRecorder

    def abandon(self, client_id: str, endpoint_id: str, *, attempts_of_schedule: int) -> list[Event]:
        """The endpoint was removed, whatever is registered under the id from here on.

        An attempt in flight is the last. Returns the events of what waits, to be given up, each with one such delivery:
        20,000 take about 10 ms. `attempts_of_schedule` is the removed endpoint's own.
        """
        health = self.health(client_id, endpoint_id)
        if health is None or not health.owed:
            return []
        waited: list[Event] = []
        alike: Particulars | None = None
        abandoned = NOTHING  # of the last one that was never attempted, whose particulars were `alike`
        for event in self.unsettled_events(client_id):
            delivery = event.delivery_to(endpoint_id)
            if delivery is None or delivery.status in SETTLED or delivery.is_abandoned:
                continue
            before = delivery.particulars
            if before is alike and not delivery.attempt_count:  # as most of thousands are
                delivery.particulars = abandoned
            else:
                delivery.abandon(Reason.ENDPOINT_REMOVED, attempts_of_schedule)
                if not delivery.attempt_count:
                    alike, abandoned = before, delivery.particulars
            delivery.due_at = None
            health.abandoned += 1
            if not delivery.in_flight:
                waited.append(event)
        return waited

    def cancel(self, event: Event, delivery: Delivery) -> bool:
        """An unsettled delivery that was not abandoned yet.

        Returns whether others waited for it, in strict order: one of them may begin now.
        """
        delivery.abandon(Reason.CANCELLED, self.terms.attempts_of_schedule(event, delivery))
        health = self._health_of(event, delivery)
        health.abandoned += 1
        self._recorder.cancelled(event, delivery)
        frees_others = health.held_up_by == event.id and not delivery.in_flight
        if frees_others:
            health.held_up_by = None
        return frees_others
