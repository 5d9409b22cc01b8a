"""Owns what the ledger holds of one client: its events, its endpoints' health, and its usage of the budget."""

from collections.abc import Iterable

from hookd.core.budget import Usage
from hookd.core.event import Event
from hookd.core.health import Health
from hookd.core.unsettled import Unsettled


class Book:
    __slots__ = ("client_id", "endpoints", "events", "is_adopting", "unsettled", "usage")

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id  # the one text that the client's events share
        self.events: dict[str, Event] = {}  # by id, in order of admission
        self.unsettled = Unsettled()
        self.endpoints: dict[str, Health] = {}
        self.usage = Usage()
        self.is_adopting = False  # what waited for the client's registration is being taken over

    @property
    def is_empty(self) -> bool:
        return not self.events and not self.endpoints

    def ensure_health(self, endpoint_id: str) -> Health:
        """The endpoint's health, made where there is none yet."""
        health = self.endpoints.get(endpoint_id)
        if health is None:
            health = self.endpoints[endpoint_id] = Health()
        return health

    def owed(self, endpoint_ids: Iterable[str]) -> int:
        """Unsettled deliveries to these endpoints, those of a removed endpoint of the same id left out."""
        return sum(self.endpoints[one].owed for one in endpoint_ids if one in self.endpoints)

    def oldest_unsettled(self) -> dict[str, float]:
        """By endpoint, since when (monotonic) its oldest unsettled event is: one look for all of them.

        It ends once each is found. With 20,000 events that one of 16 endpoints holds up alone that takes 20 ms.
        """
        missing = sum(1 for health in self.endpoints.values() if health.unsettled)
        found: dict[str, float] = {}
        for event in self.unsettled:
            if len(found) == missing:
                break
            for delivery in event.deliveries:
                if delivery.endpoint_id not in found and not delivery.is_settled:
                    found[delivery.endpoint_id] = event.since
        return found
