"""Owns reopening: which exhausted deliveries may be pending again, and what that takes (contract section 2).

Rules: the endpoint must be registered and not disabled. A settled event takes budget again; an unsettled one has it.
Does not: decide what is reopened, or when. Retry and replay do.
"""

from hookd.core.delivery import SETTLED, Delivery, Status
from hookd.core.event import Event
from hookd.core.ledger import Ledger
from hookd.core.registry import Registry
from hookd.core.timestamps import Moment
from hookd.flow.intake import Intake


class Reopening:
    def __init__(self, *, ledger: Ledger, registry: Registry, intake: Intake) -> None:
        self._ledger = ledger
        self._registry = registry
        self._intake = intake

    def is_possible(self, event: Event, delivery: Delivery) -> bool:
        return (
            delivery.status is Status.EXHAUSTED
            and self._registry.endpoint(event.client_id, delivery.endpoint_id) is not None
            and not self._ledger.is_disabled(event.client_id, delivery.endpoint_id)
        )

    def refuse_if_no_room(self, event: Event, now: Moment) -> None:
        """Raises ClientFull or Full."""
        if event.status in SETTLED:
            assert event.payload is not None
            urls, operations = [one.url for one in event.deliveries], self._ledger.operations
            if event.is_operational:
                demand = operations.budget.demand(len(event.payload), urls)
                operations.refuse_if_full(event.client_id, demand, now=now.monotonic)
                return
            demand = self._ledger.demand(len(event.payload), urls)
            self._intake.refuse_if_no_room(event.client_id, client=demand, whole=demand, now=now)

    def reopen(self, event: Event, delivery: Delivery, now: Moment) -> None:
        """There is room, and it is possible; the caller hands the delivery to dispatch."""
        self._ledger.reopen(event, delivery, now=now)
