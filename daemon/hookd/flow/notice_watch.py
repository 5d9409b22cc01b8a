"""Owns the making of notices: who saw what, what is due of it (core/watch), and where it goes.

Rules:
 1. Nothing is polled: flow/endpoint_states says what became of an endpoint, the ledger what was given up, the intake
    whose budget fills or is full. What time alone brings (a minute, 30 s of failures, a budget that empties) is looked
    at once a second.
 2. Each notice goes to the feed, and to `operations.client` (flow/operational_events). It is logged where no other line
    says as much. What one of them raises keeps it from no other, and tears nothing of whoever saw: all go through the
    ledger's guard.
Limits: a watch for each endpoint that is not well, or was not within a minute, and for each budget that fills; at most
WATCHES_MAX, 1 KiB each. Beyond that nothing is told, `is_full` says so, and what holds on is told once there is room.
"""

import math
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

import trio

from hookd.core.budget import FILLING_SHARE
from hookd.core.delivery import Delivery
from hookd.core.event import Event
from hookd.core.guard import NOTICES
from hookd.core.health import TOLD_OK, Health, State, Told
from hookd.core.ledger import Ledger
from hookd.core.notice import ERROR_CHARACTERS_MAX, Kind, Notice
from hookd.core.run_history import PreviousRun
from hookd.core.timestamps import Moment, rfc3339, rfc3339_or_none
from hookd.core.watch import WATCHES_MAX, BudgetWatch, EndpointWatch, GivenUp
from hookd.flow.feed import Feed
from hookd.flow.operational_events import OperationalEvents
from hookd.flow.ports import Clock, Log

LOOKED_AT_AT_ONCE = 1000

Key = tuple[str, str]  # client and endpoint
K = TypeVar("K")
W = TypeVar("W")


class NoticeWatch:
    """`feed` and `operations` are where notices go."""

    def __init__(
        self,
        run_id: str,
        *,
        ledger: Ledger,
        feed: Feed[Notice, Notice],
        operations: OperationalEvents,
        clock: Clock,
        log: Log,
    ) -> None:
        self._run_id = run_id
        self.feed = feed
        self.operations = operations
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._endpoints: dict[Key, EndpointWatch] = {}
        self._budgets: dict[str | None, BudgetWatch] = {}  # by client; None: the daemon's
        self._asked: dict[str, None] = {}  # clients whose budget, or the daemon's, was about to fill, as they asked
        self.made = 0
        self.untold = 0  # how often there was no room for a watch
        around = ledger.guard.around
        self._to_feed, self._to_client = around(NOTICES, feed.note), around(NOTICES, operations.deliver)
        self._deliver_waiting = around(NOTICES, operations.deliver_waiting)
        self._guarded_look, self._guarded_look_at_budgets = (
            around(NOTICES, self._look),
            around(NOTICES, self._look_at_budgets),
        )
        # What others call, and never raises.
        self.observe = around(NOTICES, self._observe)
        self.removed = around(NOTICES, self._removed)
        self.given_up = around(NOTICES, self._given_up)
        self.filling: Callable[[str], object] = self._asked.setdefault
        self.full = around(NOTICES, self._full)
        self.tell_run_before = around(NOTICES, self._tell_run_before)

    async def tell_of_time(self) -> None:
        """What time alone brings; once a second, a slice at a time."""
        now = self._clock.now().monotonic
        due = iter([key for key, watch in self._endpoints.items() if watch.look_at <= now])
        while looked_at := list(islice(due, LOOKED_AT_AT_ONCE)):
            for key in looked_at:
                self._guarded_look(*key)
            await trio.lowlevel.checkpoint()
        self._guarded_look_at_budgets()
        self._deliver_waiting()

    # Endpoints

    def _observe(self, client_id: str, endpoint_id: str, health: Health, state: Told) -> None:
        """Its state now, after whatever may have changed it."""
        watch = self._endpoints.get((client_id, endpoint_id))
        if watch is None and (state[0] is not State.OK or health.failing_since is not None):
            watch = self._watch(self._endpoints, (client_id, endpoint_id), EndpointWatch)
        if watch is None:
            return
        health.is_watched = True
        self._tell_of(watch, client_id, endpoint_id, health, state)

    def _tell_of(self, watch: EndpointWatch, client_id: str, endpoint_id: str, health: Health, state: Told) -> None:
        now, was_ok = self._clock.now(), watch.told == TOLD_OK
        for kind in watch.due(state, failures=health.consecutive_failures, now=now.monotonic):
            self._tell(
                kind,
                now,
                is_logged=kind is Kind.FAILING or (kind is Kind.RECOVERED and was_ok),  # endpoint.ok says the rest
                client_id=client_id,
                endpoint_id=endpoint_id,
                state=state[0].value,
                since=_since(kind, health, now),
                error=_cut(health.last_error),
                counts={"consecutive_failures": health.consecutive_failures, "unsettled": health.unsettled},
                **{} if state[1] is None else {"paused_by": state[1].value},
            )

    def _look(self, client_id: str, endpoint_id: str) -> None:
        """At an endpoint of which something is due."""
        now, watch = self._clock.now(), self._endpoints[client_id, endpoint_id]
        given_up = watch.take_given_up(now.monotonic)
        health = self._ledger.health(client_id, endpoint_id) or Health()
        state = health.told_at(now.monotonic)
        if given_up is not None:
            self._tell_given_up(client_id, endpoint_id, state[0], given_up, now)
        self._tell_of(watch, client_id, endpoint_id, health, state)
        if watch.is_idle:
            del self._endpoints[client_id, endpoint_id]
            health.is_watched = False

    def _removed(self, client_id: str, endpoint_id: str) -> None:
        watch = self._endpoints.get((client_id, endpoint_id))
        if watch is not None:
            watch.begin_anew()

    def _given_up(self, event: Event, delivery: Delivery) -> None:
        """A step of the ledger is under way: it is told a minute later, or more."""
        key = event.client_id, delivery.endpoint_id
        watch = self._endpoints.get(key) or self._watch(self._endpoints, key, EndpointWatch)
        if watch is not None:
            assert delivery.reason is not None
            watch.note_given_up(event.id, delivery.reason, self._clock.now())

    def _tell_given_up(self, client_id: str, endpoint_id: str, state: State, given_up: GivenUp, now: Moment) -> None:
        self._tell(
            Kind.EXHAUSTED,
            now,
            is_logged=False,  # each of them is
            client_id=client_id,
            endpoint_id=endpoint_id,
            state=state.value,
            since=rfc3339(given_up.began.wall),
            counts={"exhausted": given_up.count},
            reasons={reason.value: count for reason, count in given_up.reasons.items()},
            first_event_id=given_up.first_event_id,
            last_event_id=given_up.last_event_id,
        )

    # Budgets

    def _full(self, client_id: str, detail: str) -> None:
        """An event of the client was refused for want of room."""
        watch = self._budgets.get(client_id) or self._watch(self._budgets, client_id, BudgetWatch)
        if watch is not None and not watch.knows(Kind.CLIENT_FULL):
            watch.note(Kind.CLIENT_FULL)
            self._look_at_budget(client_id, watch, error=detail)

    def _look_at_budgets(self) -> None:
        if self._asked and self._ledger.used(None).share >= FILLING_SHARE:
            self._note_filling(None, Kind.DAEMON_FILLING)
        for client_id in self._asked:
            if self._ledger.used(client_id).share >= FILLING_SHARE:
                self._note_filling(client_id, Kind.CLIENT_FILLING)
        self._asked.clear()
        for key, watch in list(self._budgets.items()):
            watch.see(self._ledger.used(key).share)
            self._look_at_budget(key, watch)
            if watch.is_idle(self._clock.now().monotonic):
                del self._budgets[key]

    def _note_filling(self, key: str | None, kind: Kind) -> None:
        watch = self._budgets.get(key) or self._watch(self._budgets, key, BudgetWatch)
        if watch is not None:
            watch.note(kind)

    def _look_at_budget(self, client_id: str | None, watch: BudgetWatch, *, error: str | None = None) -> None:
        now, used = self._clock.now(), self._ledger.used(client_id)
        if client_id is not None and used.share >= FILLING_SHARE:
            watch.note(Kind.CLIENT_FILLING)
        for kind in watch.due(now.monotonic):
            state = "full" if kind is Kind.CLIENT_FULL else "filling"
            why = _cut(error) if kind is Kind.CLIENT_FULL else None
            self._tell(kind, now, is_logged=True, client_id=client_id, state=state, error=why, counts=used._asdict())

    # All

    def _tell_run_before(self, before: PreviousRun | None) -> None:
        """What the run before left; nothing, where it left nothing or that is not known."""
        if before is not None and before.undelivered:
            counts = {"undelivered": before.undelivered, "recovered": before.recovered}
            about = {"state": before.ended, "counts": counts, "run_id": before.run_id}
            self._tell(Kind.RUN_UNDELIVERED, self._clock.now(), is_logged=True, **about)

    def _watch(self, watches: dict[K, W], key: K, make: Callable[[], W]) -> W | None:
        """A new one; None where there are too many."""
        if len(self._endpoints) + len(self._budgets) >= WATCHES_MAX:
            self.untold += 1
            return None
        watch = watches[key] = make()
        return watch

    def _tell(self, kind: Kind, now: Moment, *, is_logged: bool, **fields: Any) -> None:
        self.made += 1
        notice = Notice(id=f"ntc_{self._run_id}_{self.made}", type=kind, at=rfc3339(now.wall), **fields)
        if is_logged:
            self._log_it(notice)
        self._to_feed(notice)
        self._to_client(notice)

    def _log_it(self, notice: Notice) -> None:
        self._log(
            notice.type.value.removeprefix("hookd."),
            level="info" if notice.type is Kind.RECOVERED else "warning",
            client_id=notice.client_id,
            endpoint_id=notice.endpoint_id,
            state=notice.state,
            error=notice.error,
            **notice.counts,
        )


def _since(kind: Kind, health: Health, now: Moment) -> str | None:
    """When the failures, or the state, began; None of an endpoint that is well."""
    match kind:
        case Kind.FAILING:
            return rfc3339_or_none(health.failing_since)
        case Kind.RECOVERED:
            return None
        case _:  # it is not known of one that is throttled still after a resume
            return None if health.since == -math.inf else rfc3339(now.wall + health.since - now.monotonic)


def _cut(error: str | None) -> str | None:
    return None if error is None else error[:ERROR_CHARACTERS_MAX]
