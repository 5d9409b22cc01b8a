"""Owns the registry as a platform declares it: all of its clients in one call, in force together or not at all.

Rules:
 1. What is declared is compared with what is registered in slices. It comes into force in one step. If the registry
    has changed meanwhile, the comparison begins anew.
 2. Only what differs is touched: who declares the same again changes nothing.
 3. With `prune`, a client that came by the API and is not declared is removed. The config file's clients stay.
 4. What would end unsettled deliveries is refused, unless the caller asked for that. They end in the same step.
 5. What the ledger knows anything of, and what is to be paused, is followed in that step too: an event that comes in
    the next moment must find it so. For the others nothing follows but log lines, in slices behind it. A client that
    was changed again meanwhile is left to that change.
Limits: beside the clients, two references for each that is declared or removed. The step costs some 2 us for each of
them, and some 20 us (estimated) for each that changes and that the ledger knows.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import trio

from hookd.core.client import Client
from hookd.core.ledger import Ledger
from hookd.core.refusal import UnsettledDeliveries
from hookd.core.registry import Registry
from hookd.flow.dispatch import Dispatch
from hookd.flow.intake import Intake
from hookd.flow.ports import Log
from hookd.flow.registration import Registration, removed_endpoints

CLIENTS_AT_ONCE = 100

ChangeName = Literal["registered", "replaced", "unchanged", "removed"]


class Change(NamedTuple):
    """What becomes of one client. `before` is None for a new one, `after` for one that is removed."""

    before: Client | None
    after: Client | None

    @property
    def client_id(self) -> str:
        client = self.before if self.after is None else self.after
        assert client is not None
        return client.id

    @property
    def name(self) -> ChangeName:
        if self.before is None:
            return "registered"
        if self.after is None:
            return "removed"
        return "unchanged" if self.before == self.after else "replaced"


class Declaration:
    def __init__(
        self,
        *,
        registry: Registry,
        registration: Registration,
        ledger: Ledger,
        dispatch: Dispatch,
        intake: Intake,
        log: Log,
    ) -> None:
        self._registry = registry
        self._registration = registration
        self._ledger = ledger
        self._dispatch = dispatch
        self._intake = intake
        self._log = log

    async def declare(
        self, declared: Mapping[str, Client], *, prune: bool = False, end_unsettled: bool = False
    ) -> list[Change]:
        """What became of each that was declared, in this order, and then of each that was removed.

        Raises Refused with nothing changed.
        """
        changes = await self._changes(declared, prune=prune)
        while not self._are_current(changes, declared, prune=prune):
            changes = await self._changes(declared, prune=prune)
        self._intake.refuse_if_draining()
        self._refuse_if_unsettled(changes, end_unsettled=end_unsettled)
        real = [change for change in changes if change.name != "unchanged" or _says_paused(change.after)]
        self._registry.put_all([(change.before, change.after) for change in real])
        behind = [change for change in real if not self._follow_at_once(change)]
        counts = Counter(change.name for change in changes)
        self._log(
            "clients.declared",
            registered=counts["registered"],
            replaced=counts["replaced"],
            unchanged=counts["unchanged"],
            removed=counts["removed"],
        )
        for number, change in enumerate(behind):
            if self._registry.find(change.client_id) is change.after:
                self._registration.follow(change.before, change.after)
            if number % CLIENTS_AT_ONCE == CLIENTS_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        return changes

    async def _changes(self, declared: Mapping[str, Client], *, prune: bool) -> list[Change]:
        changes: list[Change] = []
        for client in declared.values():
            before = self._registry.find(client.id)
            self._registration.refuse_if_managed(before)
            changes.append(Change(before, self._registration.with_old_secrets(before, client)))
            if len(changes) % CLIENTS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return changes + [Change(client, None) for client in self._undeclared(declared, prune=prune)]

    def _undeclared(self, declared: Mapping[str, Client], *, prune: bool) -> list[Client]:
        if not prune:
            return []
        return [client for client in self._registry if not client.managed_by_config and client.id not in declared]

    def _are_current(self, changes: Sequence[Change], declared: Mapping[str, Client], *, prune: bool) -> bool:
        removed = sum(change.after is None for change in changes)
        if removed != len(self._undeclared(declared, prune=prune)):
            return False
        return all(self._registry.find(change.client_id) is change.before for change in changes)

    def _refuse_if_unsettled(self, changes: Sequence[Change], *, end_unsettled: bool) -> None:
        """Raises UnsettledDeliveries, of all of them together."""
        counts = {change.client_id: count for change in changes if (count := self._ended_by(change))}
        if counts and not end_unsettled:
            raise UnsettledDeliveries(
                f"this would end {sum(counts.values()):,} unsettled deliveries of {len(counts):,} clients, "
                f"{next(iter(counts))!r} among them; say ?end_unsettled=true to give them up",
                unsettled_deliveries=sum(counts.values()),
            )

    def _ended_by(self, change: Change) -> int:
        removed = removed_endpoints(change.before, change.after)
        return self._ledger.unsettled_count(change.client_id, [endpoint.id for endpoint in removed]) if removed else 0

    def _follow_at_once(self, change: Change) -> bool:
        """False: nothing is held of it, and what is left to do may wait."""
        self._dispatch.take_client(change.client_id, change.after)
        if not self._ledger.knows(change.client_id) and not _says_paused(change.after):
            return False
        self._registration.follow(change.before, change.after)
        return True


def _says_paused(client: Client | None) -> bool:
    """Whether it is more than its definition: what it says holds also where nothing of it has changed."""
    return client is not None and any(endpoint.paused is not None for endpoint in client.endpoints)
