"""Owns how a report's lines come back as deliveries, to their own endpoints only (contract section 7).

Rules:
 1. Each (client, event, endpoint) comes back once. An event that is held already gets the missing delivery added.
 2. Attempts are counted on, and at least one is left. The age starts anew.
 3. A delivery that was in flight at three crashes is suspected of them: it is exhausted as `crashed`, not attempted.
    What was cancelled before it settled is exhausted as `cancelled`, and what is past its event's expiry as `expired`.
 4. By hand (`resend`): all of one request or nothing, by the budget, and to registered endpoints only.
 5. At a start (`recover`): whatever the budgets say. What is owed to a client that is not registered waits for its PUT
    (flow/registration). What is owed to an endpoint that its client no longer has is exhausted.
"""

import enum
import math
import sys
from collections.abc import Sequence

from hookd.core.budget import Demand
from hookd.core.delivery import CRASHES_MAX, SETTLED, Delivery
from hookd.core.event import Event, Submission
from hookd.core.ledger import Ledger
from hookd.core.registry import Registry
from hookd.core.retry import Reason
from hookd.core.timestamps import Moment, parse_rfc3339
from hookd.core.trace_context import traceparent_from
from hookd.flow.dispatch import Dispatch
from hookd.flow.intake import Intake
from hookd.flow.ports import Clock, Log
from hookd.flow.report_lines import UNDELIVERED, ReportLine


class Answer(enum.Enum):
    """What became of one line."""

    ADMITTED = "admitted"
    KNOWN = "known"
    UNKNOWN_CLIENT = "unknown-client"
    UNKNOWN_ENDPOINT = "unknown-endpoint"
    NO_PAYLOAD = "no-payload"
    CONFLICT = "conflict"  # another event has its id


class Resend:
    def __init__(
        self,
        *,
        ledger: Ledger,
        registry: Registry,
        dispatch: Dispatch,
        intake: Intake,
        clock: Clock,
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._dispatch = dispatch
        self._intake = intake
        self._clock = clock
        self._log = log

    def resend(self, lines: Sequence[ReportLine]) -> list[Answer]:
        """Admits what is not known yet; raises Draining, ClientFull or Full with nothing changed."""
        self._intake.refuse_if_draining()
        answers = self._answers(lines)
        admitted = [line for line, answer in zip(lines, answers, strict=True) if answer is Answer.ADMITTED]
        now = self._clock.now()
        self._refuse_if_no_room(admitted, now)
        for line in admitted:
            self._admit(line, now)
            self._log(
                "event.resent",
                event_id=line.event_id,
                client_id=line.client_id,
                type=line.type,
                endpoints=[line.endpoint_id],
                attempt_count=line.attempt_count,
            )
        return answers

    def recover(self, lines: Sequence[ReportLine]) -> list[Answer]:
        """What lines of a report come to at a start, before any attempt begins; the exhausted are passed over.

        Never refuses. Of what is known, from an older report, the worse of both pasts is believed; another event under
        an id that is known is logged, and stays in its report.
        """
        now = self._clock.now()
        return [self._recover(line, now) for line in lines if line.kind == UNDELIVERED]

    def _recover(self, line: ReportLine, now: Moment) -> Answer:
        event = self._ledger.find(line.client_id, line.event_id)
        delivery = None if event is None else event.delivery_to(line.endpoint_id)
        if event is not None and _is_another(event, line):
            self._log("event.conflicting", level="error", event_id=line.event_id, client_id=line.client_id)
            return Answer.CONFLICT
        if event is not None and delivery is not None:
            self._believe(event, delivery, line, now)
            return Answer.KNOWN
        if line.original_payload() is None:
            return Answer.NO_PAYLOAD
        self._admit(line, now)
        return Answer.ADMITTED

    def _believe(self, event: Event, delivery: Delivery, line: ReportLine, now: Moment) -> None:
        if not delivery.is_waiting:
            return
        self._ledger.take_past(
            event,
            delivery,
            attempt_count=line.attempt_count,
            unscheduled_attempts=line.unscheduled_attempts,
            maybe_received=line.may_have_been_received,
            crash_count=line.crash_count,
        )
        self._give_up_if_hopeless(event, delivery, line, now)

    def _answers(self, lines: Sequence[ReportLine]) -> list[Answer]:
        seen: set[tuple[str, str, str]] = set()
        firsts: dict[tuple[str, str], ReportLine] = {}
        answers = []
        for line in lines:
            key = (line.client_id, line.event_id, line.endpoint_id)
            answer = self._answer(line)
            if answer is Answer.ADMITTED:
                first = firsts.setdefault(key[:2], line)
                if (first.type, first.original_payload()) != (line.type, line.original_payload()):
                    answer = Answer.CONFLICT
                elif key in seen:
                    answer = Answer.KNOWN
                else:
                    seen.add(key)
            answers.append(answer)
        return answers

    def _answer(self, line: ReportLine) -> Answer:
        known = self._ledger.find(line.client_id, line.event_id)
        if known is not None and known.delivery_to(line.endpoint_id) is not None:
            return Answer.CONFLICT if _is_another(known, line) else Answer.KNOWN
        if self._registry.find(line.client_id) is None:
            return Answer.UNKNOWN_CLIENT
        if self._registry.endpoint(line.client_id, line.endpoint_id) is None:
            return Answer.UNKNOWN_ENDPOINT
        payload = line.original_payload()
        if payload is None:
            return Answer.NO_PAYLOAD
        if known is not None and _is_another(known, line):
            return Answer.CONFLICT
        return Answer.ADMITTED

    def _refuse_if_no_room(self, admitted: Sequence[ReportLine], now: Moment) -> None:
        """Asks for what it takes: an event once, and of one that is unsettled already for its new deliveries alone."""
        whole = Demand()
        clients: dict[str, Demand] = {}
        for (client_id, event_id), lines in _by_event(admitted).items():
            demand = self._demand(self._ledger.find(client_id, event_id), client_id, lines)
            whole.add(demand)
            clients.setdefault(client_id, Demand()).add(demand)
        for client_id, demand in clients.items():
            self._intake.refuse_if_no_room(client_id, client=demand, whole=whole, now=now)

    def _demand(self, known: Event | None, client_id: str, lines: Sequence[ReportLine]) -> Demand:
        payload = lines[0].original_payload()
        assert payload is not None
        held = [] if known is None else [delivery.url for delivery in known.deliveries]
        more = [self._registry.get_endpoint(client_id, line.endpoint_id).url for line in lines]
        demand = self._ledger.demand(len(payload), [*held, *more])
        if known is None or known.status in SETTLED:
            return demand
        return demand.beyond(self._ledger.demand(len(payload), held))

    def _admit(self, line: ReportLine, now: Moment) -> None:
        payload = line.original_payload()
        assert payload is not None
        delivery = self._delivery(line, now)
        event = self._ledger.find(line.client_id, line.event_id)
        if event is None:
            submission = Submission(
                line.client_id,
                line.type,
                payload,
                line.event_id,
                traceparent=traceparent_from(line.traceparent),
                expires_at=parse_rfc3339(line.expires_at) if line.expires_at else None,
            )
            accepted_at = parse_rfc3339(line.accepted_at) if line.accepted_at else now.wall
            event = self._ledger.open(
                submission, line.event_id, (delivery,), now=now, recovered=True, accepted_at=accepted_at
            )
        else:
            self._ledger.add_delivery(event, delivery, payload=payload, now=now)
        self._give_up_if_hopeless(event, delivery, line, now)
        if delivery.is_waiting and self._registry.find(event.client_id) is not None:
            self._dispatch.add(event, delivery)

    def _give_up_if_hopeless(self, event: Event, delivery: Delivery, line: ReportLine, now: Moment) -> None:
        is_cancelled = line.cancelled and line.kind == UNDELIVERED
        reason = Reason.CANCELLED if is_cancelled else self._reason_to_give_up(event, delivery, now)
        if reason is None:
            return
        self._ledger.give_up(event, delivery, reason, now=now)
        if self._registry.endpoint(event.client_id, delivery.endpoint_id) is None:
            self._ledger.forget_endpoint(event.client_id, delivery.endpoint_id)

    def _reason_to_give_up(self, event: Event, delivery: Delivery, now: Moment) -> Reason | None:
        if delivery.crash_count >= CRASHES_MAX:
            return Reason.CRASHED
        client = self._registry.find(event.client_id)
        if client is not None and client.endpoint(delivery.endpoint_id) is None:
            return Reason.ENDPOINT_REMOVED
        if self._ledger.terms.has_lapsed(event, delivery, now=now.monotonic):
            return Reason.EXPIRED
        return Reason.GONE if self._ledger.is_disabled(event.client_id, delivery.endpoint_id) else None

    def _delivery(self, line: ReportLine, now: Moment) -> Delivery:
        """Attempts are counted on; the schedule goes on where it was, and one attempt at least is left.

        What was given up gets a whole schedule, and is no longer suspected of crashes. That the client may have it
        already is not forgotten: the next report must not call it safe.
        """
        endpoint = self._registry.endpoint(line.client_id, line.endpoint_id)
        delivery = (
            self._waiting_for_client(line, now)
            if endpoint is None
            else self._intake.new_delivery(line.client_id, endpoint, now)
        )
        delivery.attempt_count = line.attempt_count
        delivery.attempts_before = line.unscheduled_attempts if line.kind == UNDELIVERED else line.attempt_count
        delivery.maybe_received = line.may_have_been_received
        delivery.crash_count = line.crash_count if line.kind == UNDELIVERED else 0
        return delivery

    def _waiting_for_client(self, line: ReportLine, now: Moment) -> Delivery:
        """Never due as things are; its endpoint's settings are those of a PUT to come."""
        opened_at = self._ledger.terms.age_clock(line.client_id, line.endpoint_id, now=now.monotonic)
        endpoint_id, url = sys.intern(line.endpoint_id), sys.intern(line.url)  # a report has each thousands of times
        return Delivery(endpoint_id=endpoint_id, url=url, opened_at=opened_at, due_at=math.inf)


def _by_event(lines: Sequence[ReportLine]) -> dict[tuple[str, str], list[ReportLine]]:
    found: dict[tuple[str, str], list[ReportLine]] = {}
    for line in lines:
        found.setdefault((line.client_id, line.event_id), []).append(line)
    return found


def _is_another(event: Event, line: ReportLine) -> bool:
    """Whether the line is of another event, as far as it tells: one without its payload tells the type alone."""
    payload = line.original_payload()
    return event.type != line.type or (payload is not None and not event.has_payload(payload))
