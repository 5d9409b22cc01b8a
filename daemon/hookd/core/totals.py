"""Owns the ledger's totals: counts of events and deliveries since the start, what was forgotten included.

Rules: accepted events = pending + failed + delivered + exhausted events, at every step. The same holds for opened
deliveries. Only core/ledger changes the running totals; everyone else reads a snapshot.
"""

import msgspec

from hookd.core.budget import Demand
from hookd.core.delivery import Status


class Totals(msgspec.Struct, frozen=True):
    """A snapshot."""

    accepted: int
    recovered: int
    unrouted: int
    opened: int
    attempts: int
    in_flight: int
    events: dict[Status, int]
    deliveries: dict[Status, int]
    unsettled_events: int
    unsettled_bytes: int
    exhausted_held: int  # deliveries
    exhausted_forgotten: int  # deliveries

    @property
    def is_balanced(self) -> bool:
        return self.accepted == sum(self.events.values()) and self.opened == sum(self.deliveries.values())

    @property
    def undelivered(self) -> int:
        """Deliveries still unsettled."""
        return self.deliveries[Status.PENDING] + self.deliveries[Status.FAILED]


class RunningTotals:
    __slots__ = (
        "accepted",
        "attempts",
        "deliveries",
        "events",
        "exhausted_forgotten",
        "in_flight",
        "opened",
        "recovered",
        "unrouted",
    )

    def __init__(self) -> None:
        self.accepted = self.recovered = self.unrouted = self.opened = self.attempts = self.in_flight = 0
        self.exhausted_forgotten = 0
        self.events = dict.fromkeys(Status, 0)
        self.deliveries = dict.fromkeys(Status, 0)

    def move_event(self, before: Status, now: Status) -> None:
        self.events[before] -= 1
        self.events[now] += 1

    def move_delivery(self, before: Status, now: Status) -> None:
        self.deliveries[before] -= 1
        self.deliveries[now] += 1

    def snapshot(self, held: Demand) -> Totals:
        """`held` is what is unsettled in the whole daemon."""
        return Totals(
            accepted=self.accepted,
            recovered=self.recovered,
            unrouted=self.unrouted,
            opened=self.opened,
            attempts=self.attempts,
            in_flight=self.in_flight,
            events=dict(self.events),
            deliveries=dict(self.deliveries),
            unsettled_events=held.events,
            unsettled_bytes=held.bytes,
            exhausted_held=self.deliveries[Status.EXHAUSTED] - self.exhausted_forgotten,
            exhausted_forgotten=self.exhausted_forgotten,
        )
