"""Owns the books of all clients of which anything is held, and how they are read.

Rules:
 1. Reading changes nothing: what was never mentioned by a change has no book and no row.
 2. A book is made at the first change that mentions its client, and dropped once it is empty.
What is changed in them, and when, is core/ledger's.
"""

from collections.abc import Iterable, Iterator, Sequence

from hookd.core.book import Book
from hookd.core.budget import Demand
from hookd.core.delivery import Delivery
from hookd.core.event import Event
from hookd.core.health import Health
from hookd.core.listing import Rows
from hookd.core.unsettled import Unsettled

_NOTHING: dict[str, Event] = {}


class Books:
    def __init__(self) -> None:
        self._books: dict[str, Book] = {}
        self.unsettled = Unsettled()  # of all clients

    def find(self, client_id: str, event_id: str) -> Event | None:
        book = self._books.get(client_id)
        return None if book is None else book.events.get(event_id)

    def find_everywhere(self, event_id: str) -> list[Event]:
        """The events of this id, at most one for each client."""
        return [book.events[event_id] for book in self._books.values() if event_id in book.events]

    def health(self, client_id: str, endpoint_id: str) -> Health | None:
        """The endpoint's health, for whoever reads it. None: nothing was ever sent to it, and it is ok."""
        book = self._books.get(client_id)
        return None if book is None else book.endpoints.get(endpoint_id)

    def knows(self, client_id: str) -> bool:
        """Whether an event of the client is held, or anything of its endpoints' health."""
        return client_id in self._books

    def is_disabled(self, client_id: str, endpoint_id: str) -> bool:
        """Whether the endpoint answered 410 and nobody resumed it since."""
        health = self.health(client_id, endpoint_id)
        return health is not None and health.disabled

    def of_client(self, client_id: str) -> Rows:
        """Every event held of one client, in order of admission."""
        book = self._books.get(client_id)
        return _NOTHING.values() if book is None else book.events.values()

    def waiting(self, client_id: str, endpoint_id: str) -> list[tuple[Event, Delivery]]:
        """The endpoint's unsettled deliveries that are not in flight, as a list that outlives their settling."""
        return [pair for pair in self.unsettled_of(client_id, endpoint_id) if pair[1].is_waiting]

    def unsettled_of(self, client_id: str, endpoint_id: str) -> Iterator[tuple[Event, Delivery]]:
        """In order of admission."""
        for event in self.unsettled_events(client_id):
            delivery = event.delivery_to(endpoint_id)
            if delivery is not None and not delivery.is_settled:
                yield event, delivery

    def unsettled_count(self, client_id: str, endpoint_ids: Iterable[str]) -> int:
        """How many deliveries a removal of these endpoints would end."""
        book = self._books.get(client_id)
        return 0 if book is None else book.owed(endpoint_ids)

    def endpoint_ids(self, client_id: str) -> list[str]:
        """The endpoints of which anything is held, registered or not."""
        book = self._books.get(client_id)
        return [] if book is None else list(book.endpoints)

    def client_ids(self) -> list[str]:
        """The clients of which anything is held, registered or not."""
        return list(self._books)

    def waiting_count(self, client_id: str) -> int:
        """How many deliveries wait for a client that is not registered."""
        book = self._books.get(client_id)
        return 0 if book is None else book.owed(book.endpoints)

    def oldest_unsettled(self, client_id: str) -> dict[str, float]:
        """By endpoint, since when (monotonic) its oldest unsettled event is; none where nothing is unsettled."""
        book = self._books.get(client_id)
        return {} if book is None else book.oldest_unsettled()

    def held(self, client_id: str) -> Demand:
        """What of the budget its unsettled events take."""
        book = self._books.get(client_id)
        return Demand() if book is None else book.usage.held

    def unsettled_events(self, client_id: str) -> list[Event]:
        """The client's events of which something is unsettled, in order of admission."""
        book = self._books.get(client_id)
        return [] if book is None else list(book.unsettled.by_sequence())

    def unsettled_slices(self, client_id: str, rows: int) -> Iterator[Sequence[Event]]:
        """The same without a list of all of them: see core/unsettled."""
        book = self._books.get(client_id)
        return iter(()) if book is None else book.unsettled.slices(rows)

    def is_adopting(self, client_id: str) -> bool:
        """Whether some of what waited for its registration has yet to be taken over."""
        book = self._books.get(client_id)
        return book is not None and book.is_adopting

    # For whoever changes them

    def note_adopting(self, client_id: str, *, is_adopting: bool) -> None:
        if client_id in self._books:
            self._books[client_id].is_adopting = is_adopting

    def ensure_health(self, client_id: str, endpoint_id: str) -> Health:
        """The endpoint's health, for whoever changes it: the first mention makes it."""
        book = self._books.get(client_id) or self._book(client_id)
        return book.endpoints.get(endpoint_id) or book.ensure_health(endpoint_id)

    def _health_of(self, event: Event, delivery: Delivery) -> Health:
        """The health of an unsettled delivery's endpoint: it is there as long as anything is unsettled."""
        return self._books[event.client_id].endpoints[delivery.endpoint_id]

    def _book(self, client_id: str) -> Book:
        book = self._books.get(client_id)
        if book is None:
            book = self._books[client_id] = Book(client_id)
        return book

    def _drop_if_empty(self, client_id: str) -> None:
        if self._books[client_id].is_empty:
            del self._books[client_id]
