"""Owns "retry now": attempting an event's unsettled or exhausted deliveries at once (contract section 2).

Rules:
 1. It does not wait for backoff or a probe. It does wait for a Retry-After. A disabled endpoint is not attempted.
 2. A delivery in flight is left alone.
 3. What is reopened takes budget again.
 4. Everything that can refuse is asked before anything is changed.
"""

from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event
from hookd.core.health import PausedBy
from hookd.core.ledger import Ledger
from hookd.core.refusal import EndpointDisabled
from hookd.core.registry import Registry
from hookd.core.timestamps import Moment
from hookd.flow.dispatch import Dispatch
from hookd.flow.intake import Intake
from hookd.flow.ports import Clock
from hookd.flow.reopening import Reopening


class RetryNow:
    def __init__(
        self,
        *,
        ledger: Ledger,
        registry: Registry,
        dispatch: Dispatch,
        intake: Intake,
        reopening: Reopening,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._dispatch = dispatch
        self._intake = intake
        self._reopening = reopening
        self._clock = clock

    def retry(self, event: Event) -> bool:
        """True if anything became due; raises EndpointDisabled, Draining, ClientFull or Full with nothing changed."""
        self._intake.refuse_if_draining()
        now = self._clock.now()
        exhausted = [delivery for delivery in event.deliveries if delivery.status is Status.EXHAUSTED]
        reopenable = [delivery for delivery in exhausted if self._reopening.is_possible(event, delivery)]
        expedited = [delivery for delivery in event.deliveries if self.can_hasten(event, delivery, now)]
        if reopenable:
            self._reopening.send_again(event, reopenable, now=now, expedited=True)
        elif not expedited and any(self._is_blocked(event, delivery) for delivery in event.deliveries):
            raise EndpointDisabled(
                f"every endpoint of event {event.id!r} that could be retried answered 410 and is disabled; "
                "resume it or register another URL first"
            )
        for delivery in expedited:
            self.hasten(event, delivery, now, expedited=True)
        return bool(reopenable or expedited)

    def can_hasten(self, event: Event, delivery: Delivery, now: Moment) -> bool:
        """Whether it waits for a later time, and its endpoint takes anything."""
        return (
            delivery.is_waiting
            and self._reopening.takes(event, delivery.endpoint_id)
            and self._waits_for(event, delivery) > now.monotonic
        )

    def hasten(self, event: Event, delivery: Delivery, now: Moment, *, expedited: bool) -> None:
        """It is due now; expedited, it does not wait for a probe either.

        One that is due has its row in its lane, and gets no second one, however often it is retried.
        """
        assert delivery.due_at is not None
        if delivery.due_at > now.monotonic:
            self._ledger.make_due(delivery, now=now)
            self._dispatch.add(event, delivery, expedited=expedited)
        elif expedited:
            self._dispatch.expedite(event, delivery)

    def _waits_for(self, event: Event, delivery: Delivery) -> float:
        """The time that the delivery waits for: its own, or its endpoint's next probe."""
        assert delivery.due_at is not None
        health = self._ledger.health(event.client_id, delivery.endpoint_id)
        if health is None or health.paused_by is not PausedBy.FAILURES:
            return delivery.due_at
        return health.begins_from(delivery.due_at)

    def _is_blocked(self, event: Event, delivery: Delivery) -> bool:
        """Whether it could be retried but for the 410; one that waits still is about to be given up."""
        is_retriable = delivery.is_waiting or delivery.status is Status.EXHAUSTED
        return is_retriable and self._is_disabled(event, delivery)

    def _is_disabled(self, event: Event, delivery: Delivery) -> bool:
        registered = self._registry.endpoint(event.client_id, delivery.endpoint_id) is not None
        return registered and self._ledger.is_disabled(event.client_id, delivery.endpoint_id)
