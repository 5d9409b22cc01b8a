"""Owns admission: which submissions are taken in. It decides without a wait.

Rules:
 1. The checks have the contract's order: client, known id, draining, the client's budget, the whole budget.
 2. A batch is checked whole before anything of it is admitted.
 3. The budget is taken before the 202. So the channel behind may be unbounded, and `send_nowait` cannot block.
What a producer's request looks like is edge/api's.
Limits: the channel holds at most the ledger's unsettled events, 8 B each.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec
import trio

from hookd.core.budget import Demand, wait_seconds
from hookd.core.client import Endpoint
from hookd.core.delivery import Delivery
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, Submission
from hookd.core.health import opening_age
from hookd.core.ledger import Ledger
from hookd.core.logged_lines import EventAccepted
from hookd.core.mistakes import Mistake
from hookd.core.refusal import ClientFull, Draining, IdConflict, Refused, WantOfRoom
from hookd.core.registry import Registry
from hookd.core.retry import Reason
from hookd.core.timestamps import Moment
from hookd.flow.dispatch import Dispatch
from hookd.flow.notice_watch import NoticeWatch
from hookd.flow.ports import Clock, Log


class Admitted(msgspec.Struct, frozen=True, gc=False):
    event: Event
    is_new: bool  # False: the id was known, and nothing was admitted


class _Wanting(msgspec.Struct, gc=False):
    """Who gets events of one client and type: found once for all of a plan, which has one time of admission."""

    client_id: str
    endpoint_ids: list[str]
    urls: list[str]
    openings: list[tuple[str, str, float]]  # of each delivery: endpoint id, URL as shown, its endpoint's age clock
    has_disabled: bool = False  # one of the endpoints is
    demands: dict[int, Demand] = {}  # by the bytes of the payload

    def deliveries(self, due_at: float) -> tuple[Delivery, ...]:
        return tuple(
            [
                Delivery(endpoint_id=endpoint_id, url=url, opened_at=opened_at, due_at=due_at)
                for endpoint_id, url, opened_at in self.openings
            ]
        )


class _Planned:
    """`event` is there once it is admitted: the same event may stand in a batch more than once."""

    __slots__ = ("event", "event_id", "submission", "wanting")

    def __init__(self, submission: Submission, event_id: str, wanting: _Wanting) -> None:
        self.submission = submission
        self.event_id = event_id
        self.wanting = wanting
        self.event: Event | None = None


class Intake:
    """`new_id` makes the ids of events that come without one."""

    def __init__(
        self,
        arrivals: trio.MemorySendChannel[Event],
        *,
        effective: EffectiveSettings,
        ledger: Ledger,
        registry: Registry,
        dispatch: Dispatch,
        notices: NoticeWatch,
        clock: Clock,
        new_id: Callable[[], str],
        log: Log,
    ) -> None:
        self._arrivals = arrivals
        self._effective = effective
        self._ledger = ledger
        self._registry = registry
        self._dispatch = dispatch
        self._notices = notices
        self._clock = clock
        self._new_id = new_id
        self._log = log
        self._ends_at: float | None = None  # monotonic: when a drain is over at the latest

    @property
    def is_draining(self) -> bool:
        return self._ends_at is not None

    def close(self) -> None:
        """Nothing new is admitted from now on. Known ids are still answered."""
        if self._ends_at is None:
            self._ends_at = self._clock.now().monotonic + self._effective.settings.drain.timeout_seconds

    def refuse_if_draining(self) -> None:
        if self._ends_at is not None:
            seconds_left = self._ends_at - self._clock.now().monotonic
            raise Draining(
                "hookd is draining and will stop; post to its successor",
                retry_after_seconds=wait_seconds(seconds_left),
            )

    def refuse_if_no_room(
        self, client_id: str, *, client: Demand, whole: Demand, now: Moment, waits: dict[str, int] | None = None
    ) -> None:
        """Raises ClientFull or Full, each with how long to wait. `waits` remembers that, of one moment's requests."""
        try:
            if self._ledger.refuse_if_full(client_id, client=client, whole=whole, now=now.monotonic):
                self._notices.filling(client_id)
        except ClientFull as refused:
            self._notices.full(client_id, refused.detail)
            if refused.retry_after_seconds is None:
                waits = {} if waits is None else waits
                if client_id not in waits:
                    waits[client_id] = self._next_attempt_seconds(client_id, now)
                refused.retry_after_seconds = waits[client_id]
            raise

    def admit(self, submission: Submission) -> Admitted:
        """One event, or raises Refused with nothing changed."""
        plan = _Plan(self, self._clock.now())
        return self._commit(plan, self._plan(submission, plan))

    def admit_whole(self, submissions: Sequence[Submission | Refused]) -> list[Admitted]:
        """All or none; a refusal carries the mistakes of every bad item, pointers from /0, and the first's kind."""
        now = self._clock.now()
        plan = _Plan(self, now, asks_once=True)
        planned = self._plan_together(submissions, plan)
        if planned is None:  # which item is refused, and which others, is found one by one
            plan = _Plan(self, now, remembers=True)
            planned = self._plan_each(submissions, plan)
        return [self._commit(plan, item) for item in planned]

    def admit_partial(self, submissions: Sequence[Submission | Refused]) -> list[Admitted | Refused]:
        """Each as far as it can be: what is refused stands in its place. Room is asked for once, where all have it."""
        now = self._clock.now()
        plan = _Plan(self, now, asks_once=True)
        planned = self._plan_together(submissions, plan)
        if planned is None:
            return self._admit_each(submissions, now)
        return [self._commit(plan, item) for item in planned]

    def has_room(self, clients: Mapping[str, Demand], whole: Demand, now: Moment) -> bool:
        """For all of these together. Where there is none nobody is told: each event is to ask for itself, then."""
        try:
            filling = [
                client_id
                for client_id, client in clients.items()
                if self._ledger.refuse_if_full(client_id, client=client, whole=whole, now=now.monotonic)
            ]
        except Refused as refused:
            refused.without_frames()
            return False
        for client_id in filling:
            self._notices.filling(client_id)
        return True

    def new_delivery(self, client_id: str, endpoint: Endpoint, now: Moment) -> Delivery:
        return Delivery(
            endpoint_id=endpoint.id,
            url=endpoint.shown_url,
            opened_at=self._ledger.terms.age_clock(client_id, endpoint.id, now=now.monotonic),
            due_at=now.monotonic,
        )

    def send(self, event: Event, now: Moment) -> None:
        """Sends an event's waiting deliveries on. Those to a disabled endpoint, or past their expiry, end here."""
        for delivery in event.deliveries:
            self.give_up_if_disabled(event, delivery, now)
            if delivery.is_waiting and self._ledger.terms.has_lapsed(event, delivery, now=now.monotonic):
                self._ledger.give_up(event, delivery, Reason.EXPIRED, now=now)
        if any(delivery.is_waiting for delivery in event.deliveries):
            self._arrivals.send_nowait(event)

    def give_up_if_disabled(self, event: Event, delivery: Delivery, now: Moment) -> None:
        if delivery.is_waiting and self._ledger.is_disabled(event.client_id, delivery.endpoint_id):
            self._ledger.give_up(event, delivery, Reason.GONE, now=now)

    def _next_attempt_seconds(self, client_id: str, now: Moment) -> int:
        """For a client of which nothing settled lately: nothing can settle before its next attempt.

        What is due already is in flight, or waits for room. When that ends is not known: then the longest wait is said.
        """
        next_attempt = self._dispatch.next_attempt(client_id)
        return wait_seconds(next_attempt - now.monotonic if next_attempt > now.monotonic else math.inf)

    def _plan_together(
        self, submissions: Sequence[Submission | Refused], plan: "_Plan"
    ) -> "list[_Planned | Event] | None":
        """None where any is refused, or where there is no room for all."""
        try:
            planned = [self._plan(submission, plan) for submission in submissions]
        except Refused as refused:
            refused.without_frames()
            return None
        return planned if plan.has_room() else None

    def _admit_each(self, submissions: Sequence[Submission | Refused], now: Moment) -> list[Admitted | Refused]:
        answers: list[Admitted | Refused] = []
        plan = _Plan(self, now)
        for submission in submissions:
            plan.begin_anew()
            try:
                answers.append(self._commit(plan, self._plan(submission, plan)))
            except Refused as refused:
                answers.append(refused.without_frames())
        return answers

    def _plan_each(self, submissions: Sequence[Submission | Refused], plan: "_Plan") -> "list[_Planned | Event]":
        """Raises Refused, of all that are refused. What does not fit is counted all the same."""
        planned: list[_Planned | Event] = []
        refused: list[tuple[int, Refused]] = []
        for index, submission in enumerate(submissions):
            try:
                planned.append(self._plan(submission, plan))
            except Refused as one:
                refused.append((index, one.without_frames()))
        if refused:
            raise _whole_batch_refused(refused, plan.wait_seconds())
        return planned

    def _plan(self, submission: Submission | Refused, plan: "_Plan") -> "_Planned | Event":
        """What admitting this comes to: the known event, or a new one whose demand is added to the plan's."""
        if isinstance(submission, Refused):
            raise submission
        wanting = plan.wanting(submission)
        client_id = wanting.client_id
        if submission.id is not None:
            known = self._ledger.find(client_id, submission.id)
            if known is not None:
                if known.type != submission.type or not known.has_payload(submission.payload):
                    raise _conflict(client_id, submission.id)
                return known
            twin = plan.find(client_id, submission.id)
            if twin is not None:
                if (twin.submission.type, twin.submission.payload) != (submission.type, submission.payload):
                    raise _conflict(client_id, submission.id)
                return twin
        if self._ends_at is not None:
            self.refuse_if_draining()
        if wanting.urls:
            payload_bytes = len(submission.payload)
            demand = wanting.demands.get(payload_bytes)
            if demand is None:
                demand = wanting.demands[payload_bytes] = self._ledger.demand(payload_bytes, wanting.urls)
            plan.demand(client_id, demand)
        planned = _Planned(submission, submission.id or self._new_id(), wanting)
        if submission.id is not None:
            plan.add(planned)
        return planned

    def wanting(self, submission: Submission, now: Moment) -> _Wanting:
        """Raises UnknownClient."""
        client = self._registry.get(submission.client_id)
        found = _Wanting(client.id, [], [], [])
        for endpoint in client.endpoints:
            if endpoint.wants(submission.type):
                health = self._ledger.health(client.id, endpoint.id)
                found.endpoint_ids.append(endpoint.id)
                found.urls.append(endpoint.url)
                found.openings.append((endpoint.id, endpoint.shown_url, opening_age(health, now.monotonic)))
                found.has_disabled |= health is not None and health.disabled
        return found

    def _commit(self, plan: "_Plan", item: "_Planned | Event") -> Admitted:
        """Nothing can refuse from here on."""
        if isinstance(item, Event):
            return Admitted(item, is_new=False)
        if item.event is not None:
            return Admitted(item.event, is_new=False)
        wanting = item.wanting
        deliveries = wanting.deliveries(plan.now.monotonic)
        event = item.event = self._ledger.open(item.submission, item.event_id, deliveries, now=plan.now)
        self._log.made(EventAccepted(event.id, event.client_id, event.type, wanting.endpoint_ids))
        if wanting.has_disabled or item.submission.expires_at is not None:
            self.send(event, plan.now)
        elif deliveries:
            self._arrivals.send_nowait(event)
        return Admitted(event, is_new=True)


class _Plan:
    """What a batch would take, before any of it is taken. All of it has the same time of admission.

    An event that does not fit is counted all the same. So `wait_seconds` is how long it takes until there is room for
    all of it. A demand only grows: with `asks_once` room is asked for once, by `has_room`, and what has room
    together has it one by one; with `remembers` a client that was refused once is refused from there on, unasked.
    """

    def __init__(self, intake: Intake, now: Moment, *, asks_once: bool = False, remembers: bool = False) -> None:
        self._intake = intake
        self._asks_once = asks_once
        self._remembers = remembers
        self.now = now
        self._wanting: dict[tuple[str, str], _Wanting] = {}
        self._waits: dict[str, int] = {}  # until a client's next attempt
        self._short: dict[str, Refused] = {}  # clients for which there is no room
        self.begin_anew()

    def begin_anew(self) -> None:
        """What was planned is admitted, or was refused. What holds for the moment stays known."""
        self._whole = Demand()
        self._clients: dict[str, Demand] = {}
        self._planned: dict[tuple[str, str], _Planned] = {}  # those that came with an id

    def wanting(self, submission: Submission) -> _Wanting:
        """Raises UnknownClient."""
        key = submission.client_id, submission.type
        found = self._wanting.get(key)
        if found is None:
            found = self._wanting[key] = self._intake.wanting(submission, self.now)
        return found

    def find(self, client_id: str, event_id: str) -> _Planned | None:
        return self._planned.get((client_id, event_id))

    def add(self, planned: _Planned) -> None:
        self._planned[planned.wanting.client_id, planned.event_id] = planned

    def demand(self, client_id: str, more: Demand) -> None:
        """Raises ClientFull or Full, unless room is asked for once."""
        client = self._clients.get(client_id)
        if client is None:
            self._clients[client_id] = Demand(more.events, more.bytes, more.row_bytes)
        else:
            client.add(more)
        if self._asks_once:
            return
        self._whole.add(more)
        if client_id in self._short:
            raise self._short[client_id]
        try:
            self._ask(client_id)
        except Refused as refused:
            if self._remembers:
                self._short[client_id] = refused
            raise

    def has_room(self) -> bool:
        """Whether all of it fits."""
        for client in self._clients.values():
            self._whole.add(client)
        return self._intake.has_room(self._clients, self._whole, self.now)

    def wait_seconds(self) -> int:
        """Until there is room for those that were refused, 0 where none was."""
        seconds = 0
        for client_id in self._short:
            try:
                self._ask(client_id)
            except Refused as refused:
                seconds = max(seconds, refused.retry_after_seconds or 0)
        return seconds

    def _ask(self, client_id: str) -> None:
        demand = self._clients[client_id]
        self._intake.refuse_if_no_room(client_id, client=demand, whole=self._whole, now=self.now, waits=self._waits)


def _conflict(client_id: str, event_id: str) -> IdConflict:
    return IdConflict(
        f"client {client_id!r} has an event {event_id!r} with another type or payload; ids are never reused"
    )


def _whole_batch_refused(refused: Sequence[tuple[int, Refused]], wait_seconds: int) -> Refused:
    first = refused[0][1]
    mistakes = [
        mistake for index, item in refused for mistake in (item.mistakes or (Mistake(f"/{index}", item.detail),))
    ]
    made = type(first)(
        f"nothing of the batch was admitted: {len(refused):,} of its events refused, the first: {first.detail}",
        mistakes=mistakes,
        retry_after_seconds=max(wait_seconds, *(item.retry_after_seconds or 0 for _, item in refused)) or None,
        **first.extra,
    )
    if isinstance(made, WantOfRoom) and isinstance(first, WantOfRoom):
        made.at(first.limit, first.client_id)
    return made
