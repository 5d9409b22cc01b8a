"""Owns what a change of the registered clients does to their deliveries (contract section 2, registration changes).

Rules:
 1. Endpoints match by id. Waiting deliveries take the new URL and settings; an attempt in flight ends as it began.
 2. The waiting deliveries of a removed endpoint are given up at once; one in flight, when its attempt fails.
 3. A change that would end unsettled deliveries is refused, unless the caller asked for that.
 4. Deliveries that were recovered before their client was registered begin when it is (flow/adoption). Those to an
    endpoint that the client has no more are given up then.
 5. A definition that says `paused` pauses or resumes, however often it is put. Where the config file says it, that
    counts when it is new in the file: a reload does not undo an operator's hand.
 6. The registry and the lanes change in the same moment: only `_register` and `_unregister` change either.
"""

from collections.abc import Iterable, Sequence

import msgspec

from hookd.core.client import OLD_SECRETS_MAX, Client, Endpoint, OldSecret, tls_identities
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.ledger import Ledger
from hookd.core.refusal import ManagedByConfig, UnsettledDeliveries
from hookd.core.registry import Registry
from hookd.flow.adoption import Adoption
from hookd.flow.dispatch import Dispatch
from hookd.flow.endings import Endings
from hookd.flow.endpoint_states import EndpointStates
from hookd.flow.intake import Intake
from hookd.flow.ports import Clock, Log


class Registration:
    def __init__(
        self,
        *,
        effective: EffectiveSettings,
        registry: Registry,
        ledger: Ledger,
        dispatch: Dispatch,
        intake: Intake,
        states: EndpointStates,
        endings: Endings,
        adoption: Adoption,
        clock: Clock,
        log: Log,
    ) -> None:
        self._effective = effective
        self._registry = registry
        self._ledger = ledger
        self._dispatch = dispatch
        self._intake = intake
        self._states = states
        self._endings = endings
        self._adoption = adoption
        self._clock = clock
        self._log = log

    def put(self, client: Client, *, end_unsettled: bool = False) -> bool:
        """Registers or replaces; True where the client is new. Raises Refused with nothing changed."""
        self._intake.refuse_if_draining()
        old = self._registry.find(client.id)
        self.refuse_if_managed(old)
        removed = removed_endpoints(old, client)
        self._refuse_if_unsettled(client.id, removed, end_unsettled=end_unsettled)
        client = self.with_old_secrets(old, client)
        self._register(client)
        self.follow(old, client)
        return old is None

    def remove(self, client_id: str, *, end_unsettled: bool = False) -> None:
        """Raises Refused with nothing changed."""
        self._intake.refuse_if_draining()
        old = self._registry.get(client_id)
        self.refuse_if_managed(old)
        self._refuse_if_unsettled(client_id, old.endpoints, end_unsettled=end_unsettled)
        self._unregister(client_id)
        self.follow(old, None)

    def take_config(self, clients: Iterable[Client]) -> int:
        """The config file's clients, at the start and at SIGHUP. Raises RegistryFull with nothing changed.

        A client that the file no longer names is removed, if the file managed it. Nobody is asked about what waits for
        what the file drops: it is given up. Returns how many deliveries that are.
        """
        wanted = {client.id: client for client in clients}
        kept = [client for client in self._registry if not client.managed_by_config and client.id not in wanted]
        self._registry.refuse_if_full(len(kept) + len(wanted))
        self._registry.refuse_if_many_tls_contexts(tls_identities([*kept, *wanted.values()]))
        ended = 0
        for old in [client for client in self._registry if client.managed_by_config and client.id not in wanted]:
            self._unregister(old.id)
            ended += self.follow(old, None)
        for client in wanted.values():
            before = self._registry.find(client.id)
            client = self.with_old_secrets(before, client)
            self._register(client)
            ended += self.follow(before, client)
        return ended

    def pause(self, client_id: str, endpoint_id: str) -> None:
        """By an operator: no attempt begins until it is resumed; what is in flight finishes."""
        self._ledger.ensure_health(client_id, endpoint_id).pause(self._clock.now().monotonic)
        self._states.tell(client_id, endpoint_id)

    def resume(self, client_id: str, endpoint_id: str) -> None:
        """Ends any pause, `disabled` and a Retry-After. What was given up as gone stays so until it is replayed."""
        health = self._ledger.health(client_id, endpoint_id)
        if health is not None:
            health.resume(self._clock.now().monotonic)
        self._log("endpoint.resumed", client_id=client_id, endpoint_id=endpoint_id)
        self._states.tell(client_id, endpoint_id)
        self._dispatch.wake(client_id)

    def rotate_secret(self, client_id: str, endpoint_id: str, secret: str) -> Client:
        """Signs with this secret from now on, and for `delivery.secret_overlap` with the old ones too.

        Raises Refused with nothing changed. While hookd drains it refuses: the new secret would be lost with the stop.
        """
        self._intake.refuse_if_draining()
        client = self._registry.get(client_id)
        self.refuse_if_managed(client)
        endpoints = [
            self._with_secret(endpoint, before=endpoint, secret=secret) if endpoint.id == endpoint_id else endpoint
            for endpoint in client.endpoints
        ]
        rotated = msgspec.structs.replace(client, endpoints=tuple(endpoints))
        self._register(rotated)
        return rotated

    def with_old_secrets(self, old: Client | None, client: Client) -> Client:
        """The client as it is to be registered: what signed before it signs on, for `delivery.secret_overlap`.

        A PUT that repeats a secret still in force changes nothing: a platform that repeats what it once stored does
        not know what was rotated since. The config file does know: its word counts.
        """
        now = self._clock.now().monotonic
        kept = []
        for endpoint in client.endpoints:
            before = None if old is None else old.endpoint(endpoint.id)
            if before is not None:
                is_repeated = not client.managed_by_config and endpoint.secret in before.secrets(now)
                secret = before.secret if is_repeated else endpoint.secret
                endpoint = self._with_secret(endpoint, before=before, secret=secret)
            kept.append(endpoint)
        return msgspec.structs.replace(client, endpoints=tuple(kept))

    def _with_secret(self, endpoint: Endpoint, *, before: Endpoint, secret: str) -> Endpoint:
        """The endpoint with this secret, beside those that signed `before` and still may."""
        now = self._clock.now().monotonic
        old_secrets = [old for old in before.old_secrets if now < old.until and old.secret != secret]
        if secret != before.secret:
            until = now + self._effective.settings.delivery.secret_overlap_seconds
            old_secrets.insert(0, OldSecret(before.secret, until))
        return msgspec.structs.replace(endpoint, secret=secret, old_secrets=tuple(old_secrets[:OLD_SECRETS_MAX]))

    def _register(self, client: Client) -> None:
        """Raises RegistryFull. The lanes have the new definition in the same moment as the registry."""
        self._registry.put(client)
        self._dispatch.take_client(client.id, client)

    def _unregister(self, client_id: str) -> None:
        self._registry.remove(client_id)
        self._dispatch.take_client(client_id, None)

    def refuse_if_managed(self, old: Client | None) -> None:
        if old is not None and old.managed_by_config:
            raise ManagedByConfig(f"client {old.id!r} is managed by the config file; change it there and send SIGHUP")

    def _refuse_if_unsettled(self, client_id: str, removed: Sequence[Endpoint], *, end_unsettled: bool) -> None:
        count = self._ledger.unsettled_count(client_id, [endpoint.id for endpoint in removed])
        if count and not end_unsettled:
            raise UnsettledDeliveries(
                f"this would end {count:,} unsettled deliveries of client {client_id!r}; "
                f"say ?end_unsettled=true to give them up",
                unsettled_deliveries=count,
            )

    def follow(self, old: Client | None, client: Client | None) -> int:
        """Does to the deliveries what the registry says now; None: the client is registered no more.

        Returns how many deliveries waited for endpoints that are no more, and are given up.
        """
        if client is None:
            assert old is not None
            return self._end_all(old.id, old.endpoints)
        ended = self._end_all(client.id, removed_endpoints(old, client))
        self._pause_or_resume(old, client)
        if old is None and self._ledger.waiting_count(client.id):
            self._adopt(client)
        if old is not None:
            self._retarget(client.id, _moved(old, client))
        self._dispatch.wake(client.id)
        return ended

    def _pause_or_resume(self, old: Client | None, client: Client) -> None:
        for endpoint in client.endpoints:
            before = None if old is None else old.endpoint(endpoint.id)
            is_known = client.managed_by_config and before is not None and before.paused == endpoint.paused
            if endpoint.paused is None or is_known:
                continue
            health = self._ledger.health(client.id, endpoint.id)
            is_held = health is not None and health.is_held
            if endpoint.paused and not is_held:
                self.pause(client.id, endpoint.id)
            elif is_held and not endpoint.paused:
                self.resume(client.id, endpoint.id)

    def _retarget(self, client_id: str, moved: Sequence[Endpoint]) -> None:
        """These have another URL."""
        if not moved:
            return
        self._ledger.retarget(client_id, {endpoint.id: endpoint.shown_url for endpoint in moved})
        for endpoint in moved:
            health = self._ledger.health(client_id, endpoint.id)
            if health is not None:
                health.start_anew(self._clock.now().monotonic)
            self._states.tell(client_id, endpoint.id)

    def _adopt(self, client: Client) -> None:
        """The deliveries that waited for this client's registration."""
        self._ledger.retarget(client.id, {endpoint.id: endpoint.shown_url for endpoint in client.endpoints})
        for endpoint_id in self._ledger.endpoint_ids(client.id):
            if client.endpoint(endpoint_id) is None:
                self._end(client.id, endpoint_id, None)
        self._adoption.begin(client.id)

    def _end_all(self, client_id: str, removed: Sequence[Endpoint]) -> int:
        in_all = 0
        for endpoint in removed:
            in_all += (ended := self._end(client_id, endpoint.id, endpoint))
            self._log(
                "endpoint.removed",
                level="warning" if ended else "info",
                client_id=client_id,
                endpoint_id=endpoint.id,
                deliveries_ended=ended,
            )
        return in_all

    def _end(self, client_id: str, endpoint_id: str, removed: Endpoint | None) -> int:
        """Ends what is owed to an endpoint that is registered no more, or never was; returns how much waited."""
        attempts_of_schedule = self._effective.attempts_of_schedule(removed)
        # The health stays while anything is unsettled, and an endpoint registered meanwhile takes it over.
        health = self._ledger.health(client_id, endpoint_id)
        if health is not None:
            health.be_removed(self._clock.now().monotonic)
        ended = self._endings.removed(client_id, endpoint_id, attempts_of_schedule=attempts_of_schedule)
        self._states.tell_removed(client_id, endpoint_id)
        return ended


def removed_endpoints(old: Client | None, client: Client | None) -> list[Endpoint]:
    """Those of `old` that the client has no more; all, where it is registered no more."""
    if old is None:
        return []
    return [endpoint for endpoint in old.endpoints if client is None or client.endpoint(endpoint.id) is None]


def _moved(old: Client, client: Client) -> list[Endpoint]:
    """Those of the client's endpoints that had another URL."""
    before = {endpoint.id: endpoint.url for endpoint in old.endpoints}
    return [endpoint for endpoint in client.endpoints if before.get(endpoint.id, endpoint.url) != endpoint.url]
