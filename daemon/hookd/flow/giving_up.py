"""Owns the telling of deliveries that are given up: one line each, whichever way it comes."""

from collections.abc import Callable

from hookd.core.delivery import Delivery
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
