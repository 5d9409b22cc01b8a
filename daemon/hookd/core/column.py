"""Owns what the ledger counts and bounds of one kind of events: the platform's, or hookd's own (contract section 9).

Rules:
 1. An event is of one column from its admission on. Each column has totals, counters, a budget and a retention of its
    own: neither takes room from the other, and each balances by itself.
 2. Books, health and lanes are for both: to an endpoint they are events like any.
 3. hookd's own events are in no flight recorder, no report and no settlement feed. A later run tells what is true then.
Limits: `intake.*` and `retention.*` for the platform's. OPERATIONS_LIMITS for hookd's own, whatever the settings are:
5,000 unsettled ones in 8 MiB, 1,000 delivered and 1,000 exhausted ones, 512 KiB of payloads of each, and 256 KiB of
excerpts. A settled one is forgotten after a day.
"""

from collections.abc import Callable
from typing import ClassVar

from hookd.core.book import Book
from hookd.core.budget import Budget, Demand, Usage
from hookd.core.counters import Counters
from hookd.core.delivery import Delivery
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event
from hookd.core.expiries import Expiries
from hookd.core.expiring_event import ExpiringEvent
from hookd.core.guarded_recorder import GuardedRecorder
from hookd.core.retention import Retention
from hookd.core.settings import IntakeSettings, RetentionSettings, Settings
from hookd.core.totals import RunningTotals, Totals
from hookd.core.unsettled import Unsettled

_KIB, _MIB = 2**10, 2**20

OPERATIONS_LIMITS = EffectiveSettings(
    Settings(
        intake=IntakeSettings(
            unsettled_events_max=5000, client_events_max=5000, unsettled_bytes_max=8 * _MIB, client_bytes_max=8 * _MIB
        ),
        retention=RetentionSettings(
            delivered_events_max=1000,
            delivered_bytes_max=512 * _KIB,
            exhausted_events_max=1000,
            exhausted_bytes_max=512 * _KIB,
            excerpts_bytes_max=256 * _KIB,
        ),
    )
)


# All of that at its fullest: 8 MiB of charges and what each unsettled event may take over its own, 2 MiB; two times
# 2 MiB of settled rows, 1 MiB of payloads, the excerpts.
OPERATIONS_BYTES = 16 * _MIB


class OperationalEvent(Event, gc=False, eq=False):
    """One of hookd's own."""

    is_operational: ClassVar[bool] = True


def nobody(event: Event) -> None:
    """Who is told of an operational event that settled."""


class Column:
    """`own_usage`: its events count in no client's budget, but there."""

    __slots__ = (
        "_own_usage",
        "budget",
        "counters",
        "expiries",
        "kind",
        "on_settled",
        "recorder",
        "retention",
        "totals",
        "unsettled",
    )

    def __init__(
        self,
        effective: EffectiveSettings,
        recorder: GuardedRecorder,
        *,
        unsettled: Unsettled | None = None,
        on_settled: Callable[[Event], None] = nobody,
        own_usage: Usage | None = None,
    ) -> None:
        self.unsettled = Unsettled() if unsettled is None else unsettled  # of all clients
        self.recorder = recorder
        self.on_settled = on_settled
        self.totals = RunningTotals()
        self.counters = Counters()
        self.expiries = Expiries()
        self.budget = Budget(effective, recorder)
        self.retention = Retention(effective)
        self._own_usage = own_usage
        self.kind: type[Event] = Event if own_usage is None else OperationalEvent  # of its events

    def snapshot(self) -> Totals:
        return self.totals.snapshot(self.budget.whole.held)

    def refuse_if_full(self, client_id: str, demand: Demand, *, now: float) -> None:
        """Of hookd's own events, whoever they go to. Raises ClientFull."""
        self.budget.refuse_if_full(client_id, self._own_usage, client=demand, whole=demand, now=now)

    # For the ledger

    def count_accepted(self, event: Event, *, recovered: bool) -> None:
        self.totals.accepted += 1
        self.totals.recovered += recovered
        self.totals.events[event.status] += 1

    def count_opened(self, book: Book, delivery: Delivery) -> None:
        self.totals.opened += 1
        self.totals.deliveries[delivery.status] += 1
        endpoint_id = delivery.endpoint_id
        (book.endpoints.get(endpoint_id) or book.ensure_health(endpoint_id)).unsettled += 1

    def enter(self, event: Event, book: Book) -> None:
        """The event is unsettled from here on and takes budget."""
        self.unsettled.add(event)
        book.unsettled.add(event)
        if type(event) is ExpiringEvent:
            self.expiries.add(event)
        self.budget.enter(event, self._own_usage or book.usage)

    def leave(self, event: Event, book: Book, *, settled_at: float) -> None:
        """The event has settled, at `settled_at` (monotonic), and gives its budget back."""
        self.unsettled.remove(event)
        book.unsettled.remove(event)
        if type(event) is ExpiringEvent:
            self.expiries.remove(event)
        self.budget.leave(event, self._own_usage or book.usage, settled_at=settled_at)

    def take(self, event: Event, book: Book) -> None:
        """Of an event that is unsettled already, and has changed."""
        self.budget.enter(event, self._own_usage or book.usage)

    def give_back(self, event: Event, book: Book) -> None:
        """Of an event that stays unsettled, and is about to change."""
        self.budget.leave(event, self._own_usage or book.usage, settled_at=None)
