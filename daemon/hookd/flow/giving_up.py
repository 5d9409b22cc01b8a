"""Owns the telling of what is given up, a line for each delivery whichever way it comes, and of what is forgotten."""

from collections.abc import Callable

from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event
from hookd.flow.ports import Log


def given_up_logger(log: Log) -> Callable[[Event, Delivery], None]:
    """For the ledger's `on_given_up`."""

    def tell(event: Event, delivery: Delivery) -> None:
        assert delivery.reason is not None
        log(
            "delivery.exhausted",
            level="warning",
            event_id=event.id,
            client_id=event.client_id,
            endpoint_id=delivery.endpoint_id,
            reason=delivery.reason.value,
            attempts=delivery.attempt_count,
        )

    return tell


def forgotten_logger(log: Log) -> Callable[[Event], None]:
    """For the ledger's `on_forgotten`."""

    def tell(event: Event) -> None:
        exhausted = [one.endpoint_id for one in event.deliveries if one.status is Status.EXHAUSTED]
        log("event.forgotten", level="warning", event_id=event.id, client_id=event.client_id, exhausted=exhausted)

    return tell
