"""What a settled event is charged."""

from hookd.core.delivery import Delivery
from hookd.core.event import Event
from hookd.core.retention import SETTLED_DELIVERY_BYTES, SETTLED_EVENT_BYTES, row_bytes


def event_with(*histories: bytes, event_id: str = "e", event_type: str = "t") -> Event:
    deliveries = tuple(
        Delivery(endpoint_id="x", url="https://x.example/", opened_at=0.0, due_at=None, history=history)
        for history in histories
    )
    return Event(
        sequence=1,
        id=event_id,
        client_id="a",
        type=event_type,
        payload=b"",
        accepted_at=0.0,
        since=0.0,
        bundle=deliveries,
    )


def test_row_is_charged_its_texts_and_each_of_its_deliveries_with_its_history() -> None:
    """The more deliveries and the longer their histories, the more."""
    assert row_bytes(event_with()) == SETTLED_EVENT_BYTES + 2
    assert row_bytes(event_with(event_id="e" * 10, event_type="t" * 20)) == SETTLED_EVENT_BYTES + 30
    assert row_bytes(event_with(b"")) == SETTLED_EVENT_BYTES + 2 + SETTLED_DELIVERY_BYTES
    histories = [b"h" * number for number in range(16)]
    assert row_bytes(event_with(*histories)) == SETTLED_EVENT_BYTES + 2 + 16 * SETTLED_DELIVERY_BYTES + sum(range(16))
