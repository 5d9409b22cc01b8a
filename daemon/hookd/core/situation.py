"""Owns the situation: what the daemon and its endpoints are at, as values from which the page's sentences are made.

Rules: it decides nothing; core/troubles does. Times are wall. Pure: `flow/rounds` and the totals fill it.
Limits: of a group of endpoints that ails alike three are named.
"""

import enum
from collections.abc import Mapping
from typing import NamedTuple

from hookd.core.deadline import Deadline
from hookd.core.loss import Loss
from hookd.core.refusals import Spell
from hookd.core.retry import Reason
from hookd.core.run_history import PreviousRun

# Beside the worst of a group so many are named.
OTHERS_MAX = 2


class Ailment(enum.Enum):
    """What ails an endpoint, the worst first; each is a state of its own on the page."""

    DISABLED = "disabled"
    PAUSED = "paused"
    FAILING = "failing"
    HELD_UP = "held_up"
    THROTTLED = "throttled"
    PAUSED_BY_OPERATOR = "paused_by_operator"

    @property
    def words(self) -> str:
        """One word for one state, everywhere on the page."""
        return "down" if self is Ailment.PAUSED else self.value.replace("_", " ")

    @property
    def is_bad(self) -> bool:
        """Whether someone is hurt or something is lost; one colour for one state, everywhere on the page."""
        return self in (Ailment.DISABLED, Ailment.PAUSED, Ailment.FAILING)


class Pace(NamedTuple):
    """How fast an endpoint takes what comes: why what is due waits for it, though nothing ails it."""

    concurrency: int  # attempts at once, as configured
    at_once: int  # as many now: after a timeout it is less
    answer_seconds: float | None = None  # its last attempt took so long
    is_own: bool = False  # the concurrency is its client's, not the setting


class AilingEndpoint(NamedTuple):
    client_id: str
    endpoint_id: str
    unsettled: int
    budget_used: float  # its share of its client's budget
    since: float | None  # wall
    last_error: str | None
    ailment: Ailment | None = None  # None: it only has a backlog
    held_up_by: str | None = None  # of strict order: the event that fails, and is first
    deadline: Deadline | None = None  # of the oldest that is unsettled for it
    gone: int = 0  # deliveries given up since it is disabled
    pace: Pace | None = None  # of one that is slow: what is due waits for it, and nothing ails it

    @property
    def name(self) -> str:
        return f"{self.client_id}/{self.endpoint_id}"

    @property
    def weight(self) -> tuple[float, int]:
        """Of those with one ailment the heaviest is named; who is disabled holds nothing, and loses what comes."""
        return self.budget_used, self.gone


class Group(NamedTuple):
    """Endpoints with the same ailment; `worst` holds the most of its client's budget, `others` are the next."""

    endpoint_count: int
    worst: AilingEndpoint
    others: tuple[AilingEndpoint, ...] = ()

    def joined_by(self, found: AilingEndpoint) -> "Group":
        """With one more."""
        named = sorted((found, self.worst, *self.others), key=lambda one: one.weight, reverse=True)
        return Group(self.endpoint_count + 1, named[0], tuple(named[1 : 1 + OTHERS_MAX]))


class Situation(NamedTuple):
    """What the sentences are made from. Times are wall."""

    now: float
    started_at: float | None = None  # this run; what its endpoints did before is not known
    is_draining: bool = False
    endpoints: int = 0
    in_flight: int = 0
    unsettled: int = 0  # deliveries
    unsettled_events: int = 0
    unsettled_events_max: int = 1
    unsettled_bytes: int = 0
    unsettled_bytes_max: int = 1
    client_limit: str = "intake.client_events_max"  # that of a client which is full, with its value
    given_up_kept: str = ""  # whether it is lost: how long it is held
    refused: Spell | None = None  # with 503 `full`, of late
    refused_client: tuple[str | None, Spell] | None = None  # with 429 `client-full`, the last; None: a token's share
    given_up: int = 0  # deliveries in the last fifteen minutes, but for what a person ended
    given_up_last: str | None = None  # CLIENT/ENDPOINT of the newest that is held
    given_up_why: Reason | None = None  # and its reason
    given_up_endpoint: AilingEndpoint | None = None  # that of the newest, as it is now
    ailing: Mapping[Ailment, Group] = {}
    largest: AilingEndpoint | None = None  # who holds most of the whole budget
    full_clients: int = 0
    fullest: AilingEndpoint | None = None  # the endpoint that holds most of its client's budget
    fullest_refused: Spell | None = None  # its client, with 429
    crashed_couriers: int = 0
    recorder_failure: str | None = None
    reports_problem: str | None = None
    overdue_seconds: float = 0.0  # due, and no state of its endpoint holds it back
    ready_seconds: float = 0.0  # of these: what waits for hookd alone
    slowest: AilingEndpoint | None = None  # nothing ails it, and what is due longest of all waits for it
    slowest_seconds: float = 0.0
    failed_last: AilingEndpoint | None = None  # its last attempts failed, not for long enough to ail it: since longest
    failed_last_count: int = 0  # such endpoints
    loop_lag_seconds: float = 0.0
    previous_run: PreviousRun | None = None
    run_before_lost: Loss | None = None  # as its report lists it
    run_before_missing: tuple[str, ...] = ()  # of these the endpoints that are not registered now
    is_run_before_taken_up: bool = False  # someone has sent what its report lists
    unclaimed_reports: int = 0
    waiting_for_client: int = 0

    @property
    def used(self) -> float:
        """The whole budget's share that is taken, of events or of bytes, whichever is more."""
        events = self.unsettled_events / max(1, self.unsettled_events_max)
        return max(events, self.unsettled_bytes / max(1, self.unsettled_bytes_max))
