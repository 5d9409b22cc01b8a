"""Owns sending again what has settled, and to endpoints that came later: what may be, its room, and the step itself.

Rules:
 1. The endpoint must be registered and not disabled, and the event must have its payload and not be past an expiry of
    its own.
 2. A settled event takes budget again. An unsettled one has it, and takes more for each endpoint that came later.
 3. Everything that can refuse is asked before anything is changed.
 4. With strict order it takes its place by when it was accepted (flow/line), not at the end.
Does not: decide what is sent again, or when. Retry, redeliver and replay do.
"""

from collections.abc import Sequence

from hookd.core.client import Endpoint
from hookd.core.delivery import SETTLED, Delivery
from hookd.core.event import Event
from hookd.core.expiring_event import has_lapsed
from hookd.core.ledger import Ledger
from hookd.core.registry import Registry
from hookd.core.timestamps import Moment
from hookd.flow.dispatch import Dispatch
from hookd.flow.intake import Intake
from hookd.flow.ports import Clock


class Reopening:
    def __init__(self, *, ledger: Ledger, registry: Registry, intake: Intake, dispatch: Dispatch, clock: Clock) -> None:
        self._ledger = ledger
        self._registry = registry
        self._intake = intake
        self._dispatch = dispatch
        self._clock = clock

    def is_possible(self, event: Event, delivery: Delivery) -> bool:
        return delivery.is_settled and event.payload is not None and self.takes(event, delivery.endpoint_id)

    def takes(self, event: Event, endpoint_id: str) -> bool:
        """Whether the endpoint is registered, and not disabled, and the event is not past an expiry of its own."""
        return (
            self._registry.endpoint(event.client_id, endpoint_id) is not None
            and not self._ledger.is_disabled(event.client_id, endpoint_id)
            and not has_lapsed(event, self._clock.now().monotonic)
        )

    def came_later(self, event: Event) -> list[Endpoint]:
        """The endpoints that want the event's type and are not owed it: added or subscribed after it was accepted."""
        client = self._registry.find(event.client_id)
        if client is None:
            return []
        return [one for one in client.endpoints if event.delivery_to(one.id) is None and one.wants(event.type)]

    def send_again(
        self,
        event: Event,
        settled: Sequence[Delivery],
        later: Sequence[Endpoint] = (),
        *,
        now: Moment,
        expedited: bool = False,
    ) -> None:
        """Reopens these deliveries, and opens one to each of these endpoints. Raises ClientFull or Full."""
        self._refuse_if_no_room(event, later, now)
        for delivery in settled:
            self._ledger.reopen(event, delivery, now=now)
            self._dispatch.add(event, delivery, expedited=expedited)
        for endpoint in later:
            assert event.payload is not None
            delivery = self._intake.new_delivery(event.client_id, endpoint, now)
            self._ledger.add_delivery(event, delivery, payload=event.payload, now=now)
            self._dispatch.add(event, delivery)

    def _refuse_if_no_room(self, event: Event, later: Sequence[Endpoint], now: Moment) -> None:
        is_settled = event.status in SETTLED
        if not is_settled and not later:
            return
        assert event.payload is not None
        held, operations = [one.url for one in event.deliveries], self._ledger.operations
        demand_of = operations.budget.demand if event.is_operational else self._ledger.demand
        demand = demand_of(len(event.payload), [*held, *(one.url for one in later)])
        if not is_settled:
            demand = demand.beyond(demand_of(len(event.payload), held))
        if event.is_operational:
            operations.refuse_if_full(event.client_id, demand, now=now.monotonic)
        else:
            self._intake.refuse_if_no_room(event.client_id, client=demand, whole=demand, now=now)
