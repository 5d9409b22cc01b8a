"""Owns "retry now": attempting an event's unsettled or exhausted deliveries at once (contract section 2).

Rules: it goes over backoff, never over a disabled endpoint; one in flight is left alone; what is reopened takes
budget again. Everything that can refuse is asked before anything is changed.
"""

from daemon.core.delivery import SETTLED, Delivery, Status
from daemon.core.event import Event
from daemon.core.health import PausedBy
from daemon.core.ledger import Ledger
from daemon.core.live import Live
from daemon.core.refusal import EndpointDisabled
from daemon.core.registry import Registry
from daemon.flow.dispatch import Dispatch
from daemon.flow.intake import Intake
from daemon.flow.ports import Clock


class Retrying:
    def __init__(
        self,
        *,
        live: Live,
        ledger: Ledger,
        registry: Registry,
        dispatch: Dispatch,
        intake: Intake,
        clock: Clock,
    ) -> None:
        self._live = live
        self._ledger = ledger
        self._registry = registry
        self._dispatch = dispatch
        self._intake = intake
        self._clock = clock

    def retry(self, event: Event) -> bool:
        """True if anything became due; raises EndpointDisabled, Draining, ClientFull or Full with nothing changed."""
        self._intake.refuse_if_draining()
        now = self._clock.now()
        exhausted = [delivery for delivery in event.deliveries if delivery.status is Status.EXHAUSTED]
        reopenable = [delivery for delivery in exhausted if self._takes_attempts(event, delivery)]
        hastened = [
            delivery
            for delivery in event.deliveries
            if delivery.is_waiting and self._waits_for(event, delivery) > now.monotonic
        ]
        if reopenable:
            self._refuse_if_no_room(event)
        elif not hastened and any(self._is_disabled(event, delivery) for delivery in exhausted):
            raise EndpointDisabled(
                f"every endpoint of event {event.id!r} that could be retried answered 410 and is disabled; "
                "resume it or register another URL first"
            )
        for delivery in reopenable:
            endpoint = self._registry.endpoint(event.client_id, delivery.endpoint_id)
            assert endpoint is not None
            attempts_more = self._live.policy(endpoint).attempts_max
            self._ledger.reopen(event, delivery, attempts_more=attempts_more, now=now)
        for delivery in hastened:
            self._ledger.make_due(delivery, now=now)
        for delivery in (*reopenable, *hastened):
            self._dispatch.add(event, delivery, hastened=True)
        return bool(reopenable or hastened)

    def _refuse_if_no_room(self, event: Event) -> None:
        if event.status in SETTLED:
            assert event.payload is not None
            demand = self._ledger.demand(len(event.payload), [delivery.url for delivery in event.deliveries])
            self._ledger.refuse_if_full(event.client_id, client=demand, whole=demand)

    def _waits_for(self, event: Event, delivery: Delivery) -> float:
        """The time that the delivery waits for: its own, or its endpoint's next probe."""
        assert delivery.due_at is not None
        health = self._ledger.health(event.client_id, delivery.endpoint_id)
        return health.begins_from(delivery.due_at) if health.paused_by is PausedBy.FAILURES else delivery.due_at

    def _is_disabled(self, event: Event, delivery: Delivery) -> bool:
        registered = self._registry.endpoint(event.client_id, delivery.endpoint_id) is not None
        return registered and self._ledger.health(event.client_id, delivery.endpoint_id).disabled

    def _takes_attempts(self, event: Event, delivery: Delivery) -> bool:
        registered = self._registry.endpoint(event.client_id, delivery.endpoint_id) is not None
        return registered and not self._ledger.health(event.client_id, delivery.endpoint_id).disabled
