"""How much one page of a listing does: by the looks that it takes, whatever the filter and however many deliveries."""

import pytest
from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event
from hookd.core.listing import PAGE_LOOKS_MAX, Listing, Wanted
from hookd.core.retry import Reason

NOTHING = 1.0  # a time before all events
FILTERS = (
    Wanted(status=Status.FAILED),
    Wanted(reason=Reason.GONE),
    Wanted(endpoint_id="e9", reason=Reason.GONE),
    Wanted(status=Status.FAILED, endpoint_id="e0"),
    Wanted(event_type="another"),
    Wanted(since=0.0, until=NOTHING),
    Wanted(status=Status.FAILED, event_type="invoice.paid", endpoint_id="e1", reason=Reason.GONE, since=0.0, until=9e9),
)


class Held:
    """Events of so many deliveries each, and how many were looked at."""

    def __init__(self, events: int, deliveries: int) -> None:
        bundle = tuple(
            Delivery(endpoint_id=f"e{number}", url="https://a.example/", opened_at=0.0, due_at=0.0)
            for number in range(deliveries)
        )
        self.rows = {number: _event(number, bundle) for number in range(1, events + 1)}
        self.looked_at = 0
        self.listing = Listing((self._find,))
        for number in self.rows:
            self.listing.add(number)

    def _find(self, sequence: int) -> Event | None:
        self.looked_at += 1
        return self.rows.get(sequence)


def _event(number: int, bundle: tuple[Delivery, ...]) -> Event:
    return Event(
        sequence=number,
        id=f"evt_{number}",
        client_id="acme",
        type="invoice.paid",
        payload=b"1",
        accepted_at=1e9 + number,
        since=0.0,
        bundle=bundle[0] if len(bundle) == 1 else bundle,
    )


@pytest.mark.parametrize("deliveries", [1, 16])
@pytest.mark.parametrize("wanted", FILTERS)
def test_page_takes_so_many_looks_whatever_it_asks_for(wanted: Wanted, deliveries: int) -> None:
    """At rows, and at each delivery that it may ask; the cursor leads on, and every row is looked at once."""
    held = Held(PAGE_LOOKS_MAX // 2, deliveries)
    looks_per_row = wanted.looks + deliveries * wanted.asks_deliveries
    before: int | None = len(held.rows) + 1
    while before is not None:
        looked_before = held.looked_at
        page, before = held.listing.page(None, wanted=wanted, before=before, limit=100)
        assert page == []
        assert (held.looked_at - looked_before - 1) * looks_per_row <= PAGE_LOOKS_MAX + looks_per_row
    assert len(held.rows) <= held.looked_at <= 1.2 * len(held.rows) + 200


def test_each_filter_counts_what_it_asks() -> None:
    """A look at a row is one; times, and what stands in deliveries, are more."""
    assert Wanted().looks == Wanted(event_type="a").looks == 1
    assert Wanted(since=0.0).looks < Wanted(since=0.0, until=1.0).looks
    assert Wanted(status=Status.FAILED).looks == Wanted(reason=Reason.GONE).looks > 1
    assert not Wanted(since=0.0, event_type="a").asks_deliveries
    assert Wanted(endpoint_id="e0").asks_deliveries
