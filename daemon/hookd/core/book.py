"""Owns what the ledger holds of one client: its events, its endpoints' health, and its usage of the budget."""

from collections.abc import Iterable

from hookd.core.budget import Usage
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

    def owed(self, endpoint_ids: Iterable[str]) -> int:
        """Unsettled deliveries to these endpoints, those of a removed endpoint of the same id left out."""
        return sum(self.endpoints[one].owed for one in endpoint_ids if one in self.endpoints)
