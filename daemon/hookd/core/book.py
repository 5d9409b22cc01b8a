"""Owns what the ledger holds of one client: its events, its endpoints' health, and its usage of the budget."""

from collections.abc import Iterable, Iterator

from hookd.core.budget import Usage
from hookd.core.delivery import Delivery
from hookd.core.event import Event
from hookd.core.health import Health


class Book:
    __slots__ = ("endpoints", "events", "usage")

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}  # by id, in order of admission
        self.endpoints: dict[str, Health] = {}
        self.usage = Usage()

    @property
    def is_empty(self) -> bool:
        return not self.events and not self.endpoints

    def ensure_health(self, endpoint_id: str) -> Health:
        """The endpoint's health, made where there is none yet."""
        health = self.endpoints.get(endpoint_id)
        if health is None:
            health = self.endpoints[endpoint_id] = Health()
        return health

    def unsettled_of(self, endpoint_id: str) -> Iterator[tuple[Event, Delivery]]:
        for event in self.events.values():
            delivery = event.delivery_to(endpoint_id)
            if delivery is not None and not delivery.is_settled:
                yield event, delivery

    def unsettled_count(self, endpoint_ids: Iterable[str]) -> int:
        """Deliveries to these endpoints."""
        return sum(self.endpoints[one].unsettled for one in endpoint_ids if one in self.endpoints)

    def waiting_count(self) -> int:
        """Deliveries that are unsettled and not in flight."""
        return sum(health.unsettled - health.in_flight for health in self.endpoints.values())
