"""Owns the delivery: the duty to bring one event to one endpoint, its four statuses and the legal changes of them.

Rules:
 1. Every legal change of a status stands in `TRANSITIONS`. Any other raises and changes nothing.
 2. In flight, due and attempts are fields; no status exists for them.
 3. Only core/ledger changes a `Delivery`: it keeps the totals in step.
A test compares this drawing with the table:

    pending --SUCCEEDED--> delivered            failed --SUCCEEDED--> delivered
    pending --FAILED-----> failed               failed --FAILED-----> failed
    pending --GAVE_UP----> exhausted            failed --GAVE_UP----> exhausted
    delivered --REOPENED-> pending              exhausted --REOPENED--> pending
"""

import enum
from collections.abc import Iterable
from operator import attrgetter
from typing import TypeVar

import msgspec

from hookd.core import history
from hookd.core.history import Attempt
from hookd.core.outcome import Exchange, Outcome, is_success
from hookd.core.particulars import NOTHING, Particulars, changed
from hookd.core.retry import Reason

# A delivery that was in flight at so many crashes of hookd is suspected of them, and given up as `crashed`.
CRASHES_MAX = 3

T = TypeVar("T")


class Status(enum.Enum):
    PENDING = "pending"
    FAILED = "failed"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"

    # Members compare by identity, so they may hash by it. Enum's own hash is Python code, called 40 times an event.
    __hash__ = object.__hash__


class Change(enum.Enum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GAVE_UP = "gave_up"
    REOPENED = "reopened"

    __hash__ = object.__hash__


TRANSITIONS: dict[tuple[Status, Change], Status] = {
    (Status.PENDING, Change.SUCCEEDED): Status.DELIVERED,
    (Status.PENDING, Change.FAILED): Status.FAILED,
    (Status.PENDING, Change.GAVE_UP): Status.EXHAUSTED,
    (Status.FAILED, Change.SUCCEEDED): Status.DELIVERED,
    (Status.FAILED, Change.FAILED): Status.FAILED,
    (Status.FAILED, Change.GAVE_UP): Status.EXHAUSTED,
    (Status.DELIVERED, Change.REOPENED): Status.PENDING,
    (Status.EXHAUSTED, Change.REOPENED): Status.PENDING,
}

# Settled: no way out but being reopened.
SETTLED = frozenset(
    status
    for status in Status
    if all(change is Change.REOPENED for (source, change) in TRANSITIONS if source is status)
)


class IllegalTransition(Exception):
    """A bug of ours: a change that the table does not have."""


def _particular(name: str, nothing: T) -> T:  # noqa: ARG001 - its type counts
    """Reads and changes one of a delivery's particulars, of the same type as `nothing`, its value as a rule."""
    read = attrgetter(f"particulars.{name}")

    def write(delivery: "Delivery", value: T) -> None:
        if read(delivery) != value:
            delivery.particulars = changed(delivery.particulars, name, value)

    return property(read, write)  # type: ignore[return-value]


class Delivery(msgspec.Struct, gc=False, eq=False):
    """One row, 96 B. `gc=False` and no reference to its event: it is in no cycle and costs the collector nothing."""

    endpoint_id: str
    url: str  # as shown: without query values; the endpoint's own text, which its deliveries share
    opened_at: float  # on its endpoint's age clock (core/health): the delivery's age runs from here
    due_at: float | None  # monotonic; None in flight and when settled
    status: Status = Status.PENDING
    settled_at: float | None = None  # wall
    attempt_count: int = 0  # attempts begun, the one in flight included
    in_flight: bool = False
    history: bytes = b""  # its attempts: core/history reads and writes them
    particulars: Particulars = NOTHING  # what few deliveries have, by the names that follow

    reason = _particular("reason", NOTHING.reason)
    attempts_before = _particular("attempts_before", NOTHING.attempts_before)
    probe_failures = _particular("probe_failures", NOTHING.probe_failures)
    is_probing = _particular("is_probing", NOTHING.is_probing)
    attempts_max_at_end = _particular("attempts_max_at_end", NOTHING.attempts_max_at_end)
    maybe_received = _particular("maybe_received", NOTHING.maybe_received)
    abandoned_as = _particular("abandoned_as", NOTHING.abandoned_as)
    crash_count = _particular("crash_count", NOTHING.crash_count)
    owed_since = _particular("owed_since", NOTHING.owed_since)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Of a long history the first and the last nine, oldest first; made at each use."""
        return history.attempts(self.history)

    @property
    def last_attempt(self) -> Attempt:
        """Only where one has begun, of which anything is known."""
        return history.last_attempt(self.history)

    @property
    def is_settled(self) -> bool:
        return self.status in SETTLED

    @property
    def is_waiting(self) -> bool:
        """Unsettled, not in flight and not about to be given up: a lane holds it."""
        return not self.in_flight and self.status not in SETTLED and self.particulars.abandoned_as is None

    @property
    def is_abandoned(self) -> bool:
        """No attempt begins any more; one in flight is the last, and only a 2xx counts."""
        return self.particulars.abandoned_as is not None

    @property
    def is_cancelled(self) -> bool:
        """It is unsettled, and will be exhausted as cancelled unless an attempt in flight delivers it."""
        return self.particulars.abandoned_as is Reason.CANCELLED and self.status not in SETTLED

    @property
    def unscheduled_attempts(self) -> int:
        """Attempts that take nothing from the schedule: those before it was last reopened, and probes that failed."""
        particulars = self.particulars
        return particulars.attempts_before + particulars.probe_failures

    @property
    def failures(self) -> int:
        """Failed attempts since it was last opened, as the schedule counts them: at least 1, since one has failed."""
        return max(1, self.attempt_count - self.unscheduled_attempts - self.particulars.is_probing)

    def attempts_allowed(self, attempts_of_schedule: int) -> int:
        """How many attempts it gets in all by a schedule of so many: derived at each use, never added up."""
        return self.unscheduled_attempts + attempts_of_schedule

    def attempts_max(self, attempts_of_schedule: int) -> int:
        """The same as it is shown. One that waits keeps the attempt that it waits for, however short the schedule."""
        if self.is_settled or self.is_abandoned:
            return self.particulars.attempts_max_at_end
        return max(self.attempts_allowed(attempts_of_schedule), self.attempt_count + (not self.in_flight))

    # Only core/ledger calls these: it keeps the totals in step

    def freeze(self, attempts_of_schedule: int) -> None:
        """From here on it shows the attempts that this schedule granted, whatever is in force later."""
        particulars = self.particulars
        allowed = particulars.attempts_before + attempts_of_schedule + particulars.probe_failures  # `attempts_allowed`
        most = allowed if allowed > self.attempt_count else self.attempt_count
        self.particulars = changed(particulars, "attempts_max_at_end", most)

    def abandon(self, reason: Reason, attempts_of_schedule: int) -> None:
        """An attempt in flight is its last, and it shows what that schedule granted. The first reason stays."""
        assert not self.is_abandoned
        self.freeze(attempts_of_schedule)
        self.abandoned_as = reason
        self.due_at = None

    def begin_attempt(self, *, url: str, started_at: float, is_probe: bool) -> None:
        """`started_at` is wall time."""
        assert self.is_waiting
        self.in_flight = True
        if is_probe:
            self.is_probing = True
        self.due_at = None
        self.url = url
        self.attempt_count += 1
        self.history = history.with_begun(self.history, self.attempt_count, started_at)

    def end_attempt(self, outcome: Outcome | None, exchange: Exchange, *, duration_seconds: float) -> None:
        """The attempt in flight is over; its outcome is None where it was cut. The status is the caller's."""
        assert self.in_flight
        self.history = history.with_end(self.history, outcome, exchange, duration_seconds=duration_seconds)
        self.in_flight = False
        if self.particulars.is_probing:
            self.is_probing = False
            self.probe_failures += outcome is None or not is_success(outcome)
        if exchange.sending_started and (exchange.answer is None or exchange.unanswered_before):
            self.maybe_received = True

    def take_past(
        self, *, attempt_count: int, unscheduled_attempts: int, maybe_received: bool, crash_count: int
    ) -> None:
        """Of two accounts of what earlier runs did, the worse is believed."""
        assert not self.history
        if attempt_count > self.attempt_count:
            self.attempt_count, self.attempts_before = attempt_count, unscheduled_attempts
        self.maybe_received |= maybe_received
        self.crash_count = max(self.crash_count, crash_count)

    def begin_anew(self, *, opened_at: float, now: float) -> None:
        """It was reopened: due now (monotonic), with a new age and a whole schedule."""
        self.opened_at = opened_at
        self.due_at = self.owed_since = now
        self.attempts_before = self.attempt_count
        self.probe_failures = 0
        self.abandoned_as = None
        self.crash_count = 0


def after(status: Status, change: Change) -> Status:
    """The status that follows; raises IllegalTransition."""
    try:
        return TRANSITIONS[status, change]
    except KeyError:
        raise IllegalTransition(f"a {status.value} delivery cannot have {change.value}") from None


def status_of_event(deliveries: Iterable[Delivery]) -> Status:
    """An event's status follows from its deliveries. It is never stored (contract section 2)."""
    statuses = {delivery.status for delivery in deliveries}
    if Status.FAILED in statuses:
        return Status.FAILED
    if Status.PENDING in statuses:
        return Status.PENDING
    if Status.EXHAUSTED in statuses:
        return Status.EXHAUSTED
    return Status.DELIVERED
