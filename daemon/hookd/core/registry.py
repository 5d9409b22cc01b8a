"""Owns which clients are registered, with which endpoints. What becomes of their deliveries is flow/registration's."""

from collections.abc import Iterator

from hookd.core.client import Client, Endpoint
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.quoting import cut, quoted
from hookd.core.refusal import RegistryFull, UnknownClient


class Registry:
    """At most `registry.clients_max` clients of `endpoints_max` endpoints: 20,000 of one endpoint are about 20 MiB."""

    def __init__(self, effective: EffectiveSettings) -> None:
        self._effective = effective
        self._clients: dict[str, Client] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(self._clients.values())

    def find(self, client_id: str) -> Client | None:
        return self._clients.get(client_id)

    def get(self, client_id: str) -> Client:
        """Raises UnknownClient."""
        client = self._clients.get(client_id)
        if client is None:
            raise UnknownClient(
                f"no client {quoted(client_id)} is registered; PUT /v1/clients/{cut(client_id)} and post again"
            )
        return client

    def endpoint(self, client_id: str, endpoint_id: str) -> Endpoint | None:
        client = self._clients.get(client_id)
        return None if client is None else client.endpoint(endpoint_id)

    def put(self, client: Client) -> None:
        """Registers or replaces. Raises RegistryFull."""
        if client.id not in self._clients:
            self.refuse_if_full(len(self._clients) + 1)
        self._clients[client.id] = client

    def refuse_if_full(self, count: int) -> None:
        """Raises RegistryFull where so many clients are more than may be registered."""
        clients_max = self._effective.settings.registry.clients_max
        if count > clients_max:
            raise RegistryFull(f"{count:,} clients would be registered; registry.clients_max is {clients_max:,}")

    def remove(self, client_id: str) -> None:
        del self._clients[client_id]
