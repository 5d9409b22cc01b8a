"""Owns which clients are registered, with which endpoints. What becomes of their deliveries is flow/registration's."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from hookd.core.client import Client, Endpoint, tls_identities
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.endpoint_egress import TlsIdentity
from hookd.core.quoting import cut, quoted
from hookd.core.refusal import NotFound, RegistryFull, UnknownClient

REGISTERED_CLIENT_BYTES = 8 * 1024  # of usual ones: one endpoint at work takes 6 KiB, each more 1.3 KiB
LARGEST_CLIENT_BYTES = 3 * 2**20  # 16 endpoints, 20 headers of 4 KiB, 100 event types, 48 KiB of PEM: 2.5 MB


class Registry:
    """At most `registry.clients_max` clients. Those of the API have `clients_bytes_max` among them, the file's what it
    says: an operator who writes long headers into it sees them in `hookd check`."""

    def __init__(self, effective: EffectiveSettings) -> None:
        self._effective = effective
        self._clients: dict[str, Client] = {}
        self._bytes = 0  # of those that came by the API
        self._tls: Counter[TlsIdentity] = Counter()  # how many endpoints have each

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

    def get_endpoint(self, client_id: str, endpoint_id: str) -> Endpoint:
        """Raises UnknownClient or NotFound."""
        client = self.get(client_id)
        endpoint = client.endpoint(endpoint_id)
        if endpoint is None:
            has = ", ".join(one.id for one in client.endpoints)
            raise NotFound(f"client {client_id!r} has no endpoint {quoted(endpoint_id)}; it has {has or 'none'}")
        return endpoint

    def put(self, client: Client) -> None:
        """Registers or replaces. Raises RegistryFull."""
        old = self._clients.get(client.id)
        if old is None:
            self.refuse_if_full(len(self._clients) + 1)
        more_bytes = _counted_bytes(client) - _counted_bytes(old)
        if more_bytes > 0:
            self._refuse_if_too_large(more_bytes)
        tls = self._tls_after([(old, client)])
        if len(tls) > len(self._tls) and not client.managed_by_config:
            self.refuse_if_many_tls_contexts(tls)
        self._tls = tls
        self._bytes += more_bytes
        self._clients[client.id] = client

    def put_all(self, changes: Sequence[tuple[Client | None, Client | None]]) -> None:
        """All of them, or raises RegistryFull: who was registered before (or None), and who is now (or None)."""
        more_bytes = sum(_counted_bytes(after) - _counted_bytes(before) for before, after in changes)
        more = sum(before is None for before, _ in changes) - sum(after is None for _, after in changes)
        if more > 0:
            self.refuse_if_full(len(self._clients) + more)
        if more_bytes > 0:
            self._refuse_if_too_large(more_bytes)
        tls = self._tls_after(changes)
        if len(tls) > len(self._tls):
            self.refuse_if_many_tls_contexts(tls)
        self._tls = tls
        self._bytes += more_bytes
        for before, after in changes:
            if after is not None:
                self._clients[after.id] = after
            elif before is not None:
                del self._clients[before.id]

    def refuse_if_full(self, count: int) -> None:
        """Raises RegistryFull where so many clients are more than may be registered."""
        clients_max = self._effective.settings.registry.clients_max
        if count > clients_max:
            raise RegistryFull(f"{count:,} clients would be registered; registry.clients_max is {clients_max:,}")

    def refuse_if_many_tls_contexts(self, identities: Iterable[TlsIdentity]) -> None:
        """Raises RegistryFull where these are more than there may be contexts for."""
        count, contexts_max = len(set(identities)), self._effective.settings.egress.tls_contexts_max
        if count > contexts_max:
            raise RegistryFull(
                f"the registered endpoints would have {count} different sets of authorities and client certificates; "
                f"egress.tls_contexts_max is {contexts_max}"
            )

    def remove(self, client_id: str) -> None:
        client = self._clients.pop(client_id)
        self._bytes -= _counted_bytes(client)
        self._tls = self._tls_after([(client, None)])

    def _tls_after(self, changes: Sequence[tuple[Client | None, Client | None]]) -> Counter[TlsIdentity]:
        """How many endpoints will have each, once who was registered before is who is now."""
        tls = self._tls.copy()
        tls.subtract(tls_identities(before for before, _ in changes if before is not None))
        tls.update(tls_identities(after for _, after in changes if after is not None))
        return +tls  # without those that none has any more

    def _refuse_if_too_large(self, more_bytes: int) -> None:
        clients_max = self._effective.settings.registry.clients_max
        room_bytes = clients_bytes_max(clients_max)
        if self._bytes + more_bytes > room_bytes:
            raise RegistryFull(
                f"registered clients take {self._bytes:,} bytes and this {more_bytes:,} more; "
                f"registry.clients_max ({clients_max:,}) gives them {room_bytes:,}"
            )


def clients_bytes_max(clients_max: int) -> int:
    """The room for what the API registers: so much for each client, and one as large as it may be."""
    return LARGEST_CLIENT_BYTES + clients_max * REGISTERED_CLIENT_BYTES


def _counted_bytes(client: Client | None) -> int:
    return 0 if client is None or client.managed_by_config else client.held_bytes
