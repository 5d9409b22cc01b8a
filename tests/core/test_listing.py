"""How much one page of a listing does: by the looks that it takes, whatever the filter and however many deliveries."""

from collections.abc import Callable

import pytest
from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event
from hookd.core.listing import BLOCK, LOOKS_PER_ROW, PAGE_LOOKS_MAX, ROWS_PASSED_MAX, Listing, Wanted
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
    """Events of so many deliveries each."""

    def __init__(self, events: int, deliveries: int) -> None:
        bundle = tuple(
            Delivery(endpoint_id=f"e{number}", url="https://a.example/", opened_at=0.0, due_at=0.0)
            for number in range(deliveries)
        )
        self.rows = {number: _event(number, bundle) for number in range(1, events + 1)}
        self.listing = Listing()
        for event in self.rows.values():
            self.listing.add(event)

    def keep(self, wanted: Callable[[int], bool]) -> None:
        """The others are forgotten."""
        for number in [one for one in self.rows if not wanted(one)]:
            self.listing.remove(self.rows.pop(number))

    def between(self, before: int, cursor: int | None) -> int:
        """How many rows a page looked at that began at the one and gave the other."""
        return sum((cursor or 0) <= number < before for number in self.rows)


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
    looked_at = 0
    while before is not None:
        page, cursor = held.listing.page(None, wanted=wanted, before=before, limit=100)
        assert page == []
        found = held.between(before, cursor)
        assert 0 < found * looks_per_row <= PAGE_LOOKS_MAX + looks_per_row
        looked_at += found
        before = cursor
    assert looked_at == len(held.rows)


def test_each_filter_counts_what_it_asks() -> None:
    """A look at a row is one; times, and what stands in deliveries, are more."""
    assert Wanted().looks == Wanted(event_type="a").looks == LOOKS_PER_ROW
    assert Wanted(since=0.0).looks < Wanted(since=0.0, until=1.0).looks
    assert Wanted(status=Status.FAILED).looks == Wanted(reason=Reason.GONE).looks > LOOKS_PER_ROW
    assert not Wanted(since=0.0, event_type="a").asks_deliveries
    assert Wanted(endpoint_id="e0").asks_deliveries


def test_numbers_that_are_held_no_more_take_no_looks() -> None:
    """One event in a hundred is left, and in most blocks one or none: the pages are full, and hold all that are."""
    held = Held(20_000, 1)
    held.keep(lambda number: number % 100 == 7)
    found: list[Event] = []
    before: int | None = 20_001
    pages = 0
    while before is not None:
        page, before = held.listing.page(None, before=before, limit=50)
        found += page
        pages += 1
    assert found == list(reversed(held.rows.values()))
    assert pages == 200 // 50


def test_block_of_which_all_are_forgotten_takes_nothing() -> None:
    """Also the one that still gets events, which then gets more."""
    held = Held(3 * BLOCK, 1)
    held.keep(lambda number: number < 5)
    assert len(held.listing._blocks) == 1
    later = _event(3 * BLOCK + 1, ())
    held.listing.add(later)
    assert held.listing.page(None, before=3 * BLOCK + 2, limit=1).events == [later]


def test_block_that_gets_no_more_is_a_tuple_until_one_of_it_goes() -> None:
    """The collector looks through lists."""
    held = Held(3 * BLOCK, 1)
    assert [type(rows) for rows in held.listing._blocks.values()] == [tuple, tuple, tuple, list]
    held.keep(lambda number: number != 2 * BLOCK)
    assert [type(rows) for rows in held.listing._blocks.values()] == [tuple, tuple, list, list]


def test_pages_of_a_client_with_many_rows_do_not_walk_past_those_of_the_pages_before() -> None:
    """The numbers are walked, past the rows of others. Each row comes once, newest first."""
    held = Held(ROWS_PASSED_MAX + 2000, 1)
    others = {number: event for number, event in held.rows.items() if not number % 20}
    for event in others.values():
        event.client_id = "other"
    rows = {event.id: event for event in held.rows.values() if event.client_id == "acme"}
    assert len(rows) > ROWS_PASSED_MAX
    found: list[Event] = []
    before: int | None = len(held.rows) + 1
    while before is not None:
        page, cursor = held.listing.page(rows.values(), before=before, limit=1000)
        assert held.between(before, cursor) * LOOKS_PER_ROW <= PAGE_LOOKS_MAX + LOOKS_PER_ROW
        found += page
        before = cursor
    assert found == list(reversed(rows.values()))
