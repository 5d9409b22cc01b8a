"""Owns how a report's lines come back as deliveries, to their own endpoints only (contract section 7).

Rules: once for each (client, event, endpoint); attempts are counted on, with at least one left; the age starts
anew; an event that is held already gets the missing delivery added. What was in flight at three crashes is suspected
of them, and exhausted as `crashed` rather than attempted.
 * By hand (`resend`): all of one request or none, by the budget; to registered endpoints only.
 * At a start (`recover`): whatever the budgets say. What is owed to a client that is not registered yet waits for its
   PUT (flow/registration); an endpoint that its client no longer has ends it.
"""

import base64
import binascii
import enum
import math
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from hookd.core.budget import Demand
from hookd.core.client_schema import URL_CHARS_MAX
from hookd.core.delivery import CRASHES_MAX, Delivery
from hookd.core.event import Event, Submission, check_text, read_error
from hookd.core.ids import is_event_type, is_id
from hookd.core.ledger import Ledger
from hookd.core.mistakes import Mistake
from hookd.core.refusal import IdConflict, InvalidEvent
from hookd.core.registry import Registry
from hookd.core.retry import Reason
from hookd.core.timestamps import Moment, parse_rfc3339
from hookd.flow.dispatch import Dispatch
from hookd.flow.intake import Intake
from hookd.flow.ports import Clock, Log

# Of a report's lines; the summary is passed over.
UNDELIVERED = "undelivered"
KINDS = (UNDELIVERED, "exhausted")
SUMMARY = "summary"


class Answer(enum.Enum):
    """What became of one line."""

    ADMITTED = "admitted"
    KNOWN = "known"
    UNKNOWN_CLIENT = "unknown-client"
    UNKNOWN_ENDPOINT = "unknown-endpoint"
    NO_PAYLOAD = "no-payload"


class ReportLine(msgspec.Struct, frozen=True):
    """What resending needs of a report's line; the summary line is passed over."""

    kind: Annotated[str, Meta(extra_json_schema={"enum": [*KINDS, SUMMARY]}, examples=["undelivered"])]
    event_id: Annotated[str, Meta(examples=["in_0-paid"])] = ""
    client_id: Annotated[str, Meta(examples=["acme"])] = ""
    endpoint_id: Annotated[str, Meta(examples=["default"])] = ""
    url: Annotated[str, Meta(examples=["https://acme.example/hook"])] = ""
    type: Annotated[str, Meta(examples=["invoice.paid"])] = ""
    accepted_at: Annotated[str, Meta(examples=["2026-11-21T18:35:00.123Z"])] = ""
    attempt_count: Annotated[int, Meta(examples=[1])] = 0
    class_: Annotated[str, Meta(examples=["attempted_failed"])] = msgspec.field(default="", name="class")
    maybe_received: bool = False
    crash_count: Annotated[int, Meta(description="At how many crashes it was in flight", examples=[0])] = 0
    payload: Annotated[msgspec.Raw, Meta(examples=[{"invoice": "in_0"}])] | msgspec.UnsetType = msgspec.UNSET
    payload_base64: str | None = None

    @property
    def may_have_been_received(self) -> bool:
        return self.maybe_received or self.class_ == "outcome_unknown"

    def original_payload(self) -> bytes | None:
        """The bytes that were posted; raises ValueError where the base64 is none."""
        if self.payload_base64 is not None:
            return base64.b64decode(self.payload_base64, validate=True)
        return None if isinstance(self.payload, msgspec.UnsetType) else bytes(self.payload)


_decoder = msgspec.json.Decoder(ReportLine)


def read_report_lines(lines: Sequence[bytes]) -> list[ReportLine]:
    """The deliveries among a report's lines. Raises Malformed or InvalidEvent, pointers from /0."""
    read: list[ReportLine] = []
    mistakes: list[Mistake] = []
    for index, line in enumerate(lines):
        check_text(line)
        try:
            report_line = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise read_error(error, line, f"/{index}") from None
        if report_line.kind != SUMMARY:
            mistakes += [Mistake(f"/{index}{at}", detail) for at, detail in _mistakes(report_line)]
            read.append(report_line)
    if mistakes:
        first = mistakes[0]
        raise InvalidEvent(f"not lines of a report: {first.pointer} {first.detail}", mistakes=mistakes)
    return read


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
        """Admits what is not known yet; raises Draining, ClientFull, Full or IdConflict with nothing changed."""
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
        payload = line.original_payload()
        if event is not None and delivery is not None:
            self._believe(event, delivery, line, now)
            return Answer.KNOWN
        if payload is None:
            return Answer.NO_PAYLOAD
        if event is not None and (event.type != line.type or not event.has_payload(payload)):
            self._log("event.conflicting", level="error", event_id=line.event_id, client_id=line.client_id)
            return Answer.KNOWN
        self._admit(line, now)
        return Answer.ADMITTED

    def _believe(self, event: Event, delivery: Delivery, line: ReportLine, now: Moment) -> None:
        if not delivery.is_waiting:
            return
        self._ledger.take_past(
            event,
            delivery,
            attempt_count=line.attempt_count,
            maybe_received=line.may_have_been_received,
            crash_count=line.crash_count,
        )
        self._give_up_if_hopeless(event, delivery, now)

    def _answers(self, lines: Sequence[ReportLine]) -> list[Answer]:
        seen: set[tuple[str, str, str]] = set()
        firsts: dict[tuple[str, str], ReportLine] = {}
        answers = []
        for index, line in enumerate(lines):
            key = (line.client_id, line.event_id, line.endpoint_id)
            answer = Answer.KNOWN if key in seen else self._answer(line, index)
            if answer is Answer.ADMITTED:
                seen.add(key)
                first = firsts.setdefault(key[:2], line)
                if (first.type, first.original_payload()) != (line.type, line.original_payload()):
                    raise _conflict(line, index)
            answers.append(answer)
        return answers

    def _answer(self, line: ReportLine, index: int) -> Answer:
        known = self._ledger.find(line.client_id, line.event_id)
        if known is not None and known.delivery_to(line.endpoint_id) is not None:
            return Answer.KNOWN
        if self._registry.find(line.client_id) is None:
            return Answer.UNKNOWN_CLIENT
        if self._registry.endpoint(line.client_id, line.endpoint_id) is None:
            return Answer.UNKNOWN_ENDPOINT
        payload = line.original_payload()
        if payload is None:
            return Answer.NO_PAYLOAD
        if known is not None and (known.type != line.type or not known.has_payload(payload)):
            raise _conflict(line, index)
        return Answer.ADMITTED

    def _refuse_if_no_room(self, admitted: Sequence[ReportLine], now: Moment) -> None:
        """Asks for the most it could take: an event in several lines is counted in each."""
        whole = Demand()
        clients: dict[str, Demand] = {}
        for line in admitted:
            payload = line.original_payload()
            assert payload is not None
            known = self._ledger.find(line.client_id, line.event_id)
            endpoint = self._registry.endpoint(line.client_id, line.endpoint_id)
            assert endpoint is not None
            urls = [endpoint.url, *(delivery.url for delivery in (known.deliveries if known is not None else ()))]
            demand = self._ledger.demand(len(payload), urls)
            whole.add(demand)
            clients.setdefault(line.client_id, Demand()).add(demand)
        for client_id, demand in clients.items():
            self._intake.refuse_if_no_room(client_id, client=demand, whole=whole, now=now)

    def _admit(self, line: ReportLine, now: Moment) -> None:
        payload = line.original_payload()
        assert payload is not None
        delivery = self._delivery(line, now)
        event = self._ledger.find(line.client_id, line.event_id)
        if event is None:
            submission = Submission(line.client_id, line.type, payload, line.event_id)
            accepted_at = parse_rfc3339(line.accepted_at) if line.accepted_at else now.wall
            event = self._ledger.open(
                submission, line.event_id, (delivery,), now=now, recovered=True, accepted_at=accepted_at
            )
        else:
            self._ledger.add_delivery(event, delivery, payload=payload, now=now)
        self._give_up_if_hopeless(event, delivery, now)
        if delivery.is_waiting and self._registry.find(event.client_id) is not None:
            self._dispatch.add(event, delivery)

    def _give_up_if_hopeless(self, event: Event, delivery: Delivery, now: Moment) -> None:
        reason = self._reason_to_give_up(event, delivery)
        if reason is None:
            return
        self._ledger.give_up(event, delivery, reason, now=now)
        if self._registry.endpoint(event.client_id, delivery.endpoint_id) is None:
            self._ledger.forget_endpoint(event.client_id, delivery.endpoint_id)
        self._log(
            "delivery.given_up",
            level="warning",
            event_id=event.id,
            client_id=event.client_id,
            endpoint_id=delivery.endpoint_id,
            reason=reason.value,
            attempts=delivery.attempt_count,
        )

    def _reason_to_give_up(self, event: Event, delivery: Delivery) -> Reason | None:
        if delivery.crash_count >= CRASHES_MAX:
            return Reason.CRASHED
        client = self._registry.find(event.client_id)
        if client is not None and client.endpoint(delivery.endpoint_id) is None:
            return Reason.ENDPOINT_REMOVED
        return Reason.GONE if self._ledger.ensure_health(event.client_id, delivery.endpoint_id).disabled else None

    def _delivery(self, line: ReportLine, now: Moment) -> Delivery:
        """Attempts are counted on; the schedule goes on where it was, and one attempt at least is left.

        That the client may have it already is not forgotten either: the next report must not call it safe. What was
        given up and is sent again by hand is no longer suspected of crashes.
        """
        endpoint = self._registry.endpoint(line.client_id, line.endpoint_id)
        delivery = self._waiting_for_client(line, now) if endpoint is None else self._intake.new_delivery(endpoint, now)
        delivery.attempt_count = line.attempt_count
        delivery.attempts_max = max(delivery.attempts_max, line.attempt_count + 1)
        delivery.maybe_received = line.may_have_been_received
        delivery.crash_count = line.crash_count if line.kind == UNDELIVERED else 0
        return delivery

    def _waiting_for_client(self, line: ReportLine, now: Moment) -> Delivery:
        """Never due as things are; its endpoint's settings are those of a PUT to come."""
        return Delivery(
            endpoint_id=line.endpoint_id, url=line.url, opened_at=now.monotonic, due_at=math.inf, attempts_max=1
        )


def _conflict(line: ReportLine, index: int) -> IdConflict:
    return IdConflict(
        f"client {line.client_id!r} has an event {line.event_id!r} with another type or payload",
        mistakes=[Mistake(f"/{index}/event_id", "names another event here")],
    )


def _mistakes(line: ReportLine) -> list[tuple[str, str]]:
    found = []
    if line.kind not in KINDS:
        found.append(("/kind", 'must be "undelivered", "exhausted" or "summary"'))
    for name in ("event_id", "client_id", "endpoint_id"):
        if not is_id(getattr(line, name)):
            found.append((f"/{name}", "must be 1 to 64 of A-Z a-z 0-9 _ -"))
    if not is_event_type(line.type):
        found.append(("/type", "must be 1 to 128 of A-Z a-z 0-9 _ . : / -"))
    if len(line.url) > URL_CHARS_MAX:
        found.append(("/url", f"is longer than {URL_CHARS_MAX:,} characters"))
    if line.attempt_count < 0:
        found.append(("/attempt_count", "must not be negative"))
    if not 0 <= line.crash_count <= max(0, line.attempt_count):
        found.append(("/crash_count", "must be from 0 to attempt_count"))
    try:
        line.original_payload()
    except (ValueError, binascii.Error):
        found.append(("/payload_base64", "is not base64"))
    try:
        if line.accepted_at:
            parse_rfc3339(line.accepted_at)
    except ValueError:
        found.append(("/accepted_at", "is not an RFC 3339 time"))
    return found
