"""Owns the delivery of notices to `operations.client`: each is an event of hookd's own (contract section 9).

Rules:
 1. It is delivered like any event: signed, retried, listed, retried by hand. Its id is the notice's.
 2. Nothing about that client goes to it. So a receiver of notices that fails makes no more of them for itself.
 3. It takes none of the platform's budget (core/column). What finds no room, what comes while hookd drains, and what
    has no registered client to go to is counted by why, and said when that changes; the feed lists it all the same.
 4. What the run before left waits until the client is registered: a platform registers its clients after a start.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from hookd.core.client import Client, Endpoint
from hookd.core.delivery import Delivery
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, Submission
from hookd.core.ledger import Ledger
from hookd.core.notice import Kind, Notice, payload_of
from hookd.core.refusal import IdConflict, Refused
from hookd.core.registry import Registry
from hookd.core.timestamps import Moment
from hookd.flow.ports import Clock, Log


class Intake(Protocol):
    """What is asked of flow/intake, which knows the notices' makers itself."""

    def refuse_if_draining(self) -> None: ...

    def new_delivery(self, client_id: str, endpoint: Endpoint, now: Moment) -> Delivery: ...

    def send(self, event: Event, now: Moment) -> None: ...


class OperationalEvents:
    """`refused`: how many were not admitted, by the problem's slug. `intake` is made after this."""

    def __init__(
        self,
        *,
        effective: EffectiveSettings,
        ledger: Ledger,
        registry: Registry,
        intake: Callable[[], Intake],
        clock: Clock,
        log: Log,
    ) -> None:
        self._effective = effective
        self._ledger = ledger
        self._registry = registry
        self._intake = intake
        self._clock = clock
        self._log = log
        self._waiting: Notice | None = None
        self._said: str | None = None
        self.refused: Counter[str] = Counter()

    def deliver(self, notice: Notice) -> None:
        client_id = self._effective.settings.operations.client
        if not client_id or notice.client_id == client_id:
            return
        if notice.type is Kind.RUN_UNDELIVERED and self._registry.find(client_id) is None:
            self._waiting = notice
            return
        try:
            self._admit(self._registry.get(client_id), notice)
        except Refused as refused:
            self._refuse(refused, notice)
        else:
            self._said = None

    def deliver_waiting(self) -> None:
        """What waits for the client, once it is registered."""
        waiting = self._waiting
        if waiting is not None and self._registry.find(self._effective.settings.operations.client) is not None:
            self._waiting = None
            self.deliver(waiting)

    def _admit(self, client: Client, notice: Notice) -> None:
        """Raises Refused."""
        intake = self._intake()
        intake.refuse_if_draining()
        wanting = [endpoint for endpoint in client.endpoints if endpoint.wants(notice.type.value)]
        if not wanting:
            return
        if self._ledger.find(client.id, notice.id) is not None:
            raise IdConflict(f"client {client.id!r} has an event {notice.id!r} of its own")
        now, payload, operations = self._clock.now(), payload_of(notice), self._ledger.operations
        demand = operations.budget.demand(len(payload), [endpoint.url for endpoint in wanting])
        operations.refuse_if_full(client.id, demand, now=now.monotonic)
        submission = Submission(client.id, notice.type.value, payload, notice.id)
        deliveries = tuple(intake.new_delivery(client.id, endpoint, now) for endpoint in wanting)
        event = self._ledger.open(submission, notice.id, deliveries, now=now, is_operational=True)
        intake.send(event, now)

    def _refuse(self, refused: Refused, notice: Notice) -> None:
        self.refused[refused.slug] += 1
        if self._said == refused.slug:
            return
        self._said = refused.slug
        self._log(
            "notice.not_delivered",
            level="warning",
            notice_id=notice.id,
            type=notice.type.value,
            problem=refused.slug,
            detail=refused.detail,
        )
