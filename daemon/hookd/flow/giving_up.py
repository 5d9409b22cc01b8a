"""Owns the telling of what is given up, to the log and the notices, each once; and the line of what is forgotten."""

from collections.abc import Callable

from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event
from hookd.flow.ports import Log


def given_up_teller(log: Log, to_notices: Callable[[Event, Delivery], None]) -> Callable[[Event, Delivery], None]:
    """For the ledger's `on_given_up`. `to_notices` raises nothing; the log may."""

    def tell(event: Event, delivery: Delivery) -> None:
        assert delivery.reason is not None
        to_notices(event, delivery)
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
