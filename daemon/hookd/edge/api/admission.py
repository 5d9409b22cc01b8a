"""Owns the routes that admit: one event, batches of them, and a report's lines.

Rule: once a body is read and taken apart, admitting and answering are synchronous. A producer that hangs up cancels its
request at an await, and there is none. So its event is admitted and accounted for, or it is not there. A long body is
taken apart in slices, before anything of it is admitted.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta
from quart import Blueprint, Response, request

from hookd.core.event import (
    ClientEventBody,
    Event,
    EventBody,
    Submission,
    read_event,
    read_ids,
    refuse_long_payload,
    without_spaces,
)
from hookd.core.ids import is_id
from hookd.core.mistakes import Mistake
from hookd.core.quoting import cut
from hookd.core.refusal import InvalidEvent, Refused, UnsupportedMediaType
from hookd.core.trace_context import traceparent_from
from hookd.edge.api.batch_bodies import BatchBodies, Items
from hookd.edge.api.bodies import JSON, NDJSON, read_body
from hookd.edge.api.held_tokens import held_clients, not_held, refuse_other_clients
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.problems import body_of
from hookd.edge.api.queries import query
from hookd.edge.api.rendering import event_view, json_response
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.schemas import BatchAnswer, BatchItem, EventView, ResendAnswer
from hookd.edge.api.services import Services
from hookd.edge.api.slices import OneATurn
from hookd.flow.intake import Admitted
from hookd.flow.report_lines import ReportLine, ReportLines, line_bytes_max

T = TypeVar("T")
Sent = TypeVar("Sent", bound=Submission | Refused)

LONG_BODY_BYTES = 1 << 20
KEY = "Idempotency-Key"
KEY_FIELD = KEY.lower().encode()
TRACEPARENT_FIELD = b"traceparent"
TRACED = {"traceparent": "W3C Trace Context: goes on to endpoints with `trace_context`; ignored where it is not valid"}
FIELDS = {KEY: "Stands for the `id` of a single event", **TRACED}
LOCATION = {"Location": "Where the event is read"}
BATCH_ELSEWHERE = "this route takes one event, as application/json; a batch goes to POST /v1/events/batch"
ADMISSION_PROBLEMS = ("unknown-client", "id-conflict", "invalid-event", "client-full", "full", "draining")


class BatchQuery(msgspec.Struct):
    partial: Annotated[bool, Meta(description="Admit what can be; a refused event stands in its place")] = False


def admission_routes(services: Services) -> Blueprint:
    routes = Blueprint("admission", __name__)
    batches = BatchBodies(services.effective)
    long_ones = OneATurn()

    async def single(body: bytes, *, client_id: str | None) -> Response:
        """A long one is mostly spaces, or refused: 25 ms where it has 16 MiB."""
        if len(body) <= LONG_BODY_BYTES:
            return _single(services, _read(services, body, client_id=client_id))
        async with long_ones.turn():
            return _single(services, _read(services, body, client_id=client_id))

    @routes.post("/v1/events")
    @operation(
        "Admit one event",
        scope=Scope.PRODUCE,
        bodies={JSON: EventBody},
        answers={202: EventView, 200: EventView},
        problems=ADMISSION_PROBLEMS,
        headers=LOCATION,
        request_headers=FIELDS,
        names_clients=True,
    )
    async def post_event() -> Response:
        return await single(await _read_single_body(services), client_id=None)

    @routes.post("/v1/events/batch")
    @operation(
        "Admit a batch of events, whole or in part",
        scope=Scope.PRODUCE,
        bodies={JSON: list[EventBody], NDJSON: list[EventBody]},
        query=BatchQuery,
        answers={202: BatchAnswer},
        problems=ADMISSION_PROBLEMS,
        request_headers=TRACED,
        names_clients=True,
    )
    async def post_batch() -> Response:
        body = await read_body(services.effective, JSON, NDJSON)
        return await _batch(services, batches, body, client_id=None)

    @routes.post("/v1/clients/<client_id>/events")
    @operation(
        "Admit events of one client",
        scope=Scope.PRODUCE,
        bodies={JSON: (ClientEventBody, list[ClientEventBody]), NDJSON: list[ClientEventBody]},
        query=BatchQuery,
        answers={202: (EventView, BatchAnswer), 200: EventView},
        problems=ADMISSION_PROBLEMS,
        headers=LOCATION,
        request_headers=FIELDS,
    )
    async def post_client_event(client_id: str) -> Response:
        body = await read_body(services.effective, JSON, NDJSON)
        if request.mimetype == NDJSON or body.lstrip()[:1] == b"[":
            return await _batch(services, batches, body, client_id=client_id)
        return await single(body, client_id=client_id)

    @routes.post("/v1/resend")
    @operation(
        "Admit the lines of a report",
        scope=Scope.ADMIN,
        bodies={NDJSON: list[ReportLine]},
        answers={200: ResendAnswer},
        problems=("invalid-event", "client-full", "full", "draining"),
        names_clients=True,
    )
    async def resend() -> Response:
        body = await read_body(services.effective, NDJSON)
        lines = ReportLines(line_bytes_max=line_bytes_max(services.effective))
        with batches.turn() as turn:
            await batches.read(turn, body, lines.add, is_lines=True)
            checked = lines.checked()
            refuse_other_clients(line.client_id for line in checked)
            return json_response(ResendAnswer(services.resend.resend(checked)))

    return routes


async def _read_single_body(services: Services) -> bytes:
    """Raises as `read_body` does; what would be a batch is told where it goes."""
    try:
        body = await read_body(services.effective, JSON)
    except UnsupportedMediaType as refused:
        if request.mimetype == NDJSON:
            refused.detail = BATCH_ELSEWHERE
        raise
    if body[:1] == b"[" or (body[:1].isspace() and body.lstrip()[:1] == b"["):
        mistake = Mistake("", "is an array; this route takes one event")
        raise InvalidEvent(f"the body is an array; {BATCH_ELSEWHERE}", mistakes=[mistake])
    return body


def _single(services: Services, submission: Submission) -> Response:
    refuse_other_clients([submission.client_id])
    given = this_request().first
    if KEY_FIELD in given:
        submission = _keyed(submission)
    if TRACEPARENT_FIELD in given:
        (submission,) = _traced([submission])
    admitted = _logged(services, lambda: services.intake.admit(submission), submission)
    if not admitted.is_new:  # it may have a long history
        this_request().exchange.answer.refuse_if_full()
    response = json_response(event_view(services, admitted.event), 202 if admitted.is_new else 200)
    response.headers["location"] = f"/v1/clients/{admitted.event.client_id}/events/{admitted.event.id}"
    return response


async def _batch(services: Services, batches: BatchBodies, body: bytes, *, client_id: str | None) -> Response:
    def read(item: bytes, index: int) -> Submission | Refused:
        return _read_or_refused(services, item, client_id, index)

    is_lines = request.mimetype == NDJSON
    with batches.turn() as turn:
        found: tuple[Items, Sequence[Submission | Refused]] | None
        found = None if is_lines else batches.read_short(body, client_id=client_id)
        if found is None:
            found = await batches.read(turn, body, read, is_lines=is_lines)
        items, submissions = found[0], _held(found[1])
        if not submissions:
            raise InvalidEvent("the batch is empty; send at least one event")
        given = this_request().first
        if KEY_FIELD in given:
            _refuse_key(submissions)
        if TRACEPARENT_FIELD in given:
            submissions = _traced(submissions)
        this_request().exchange.answer.refuse_if_full()
        if query(BatchQuery).partial:
            return _admit_partial(services, items, submissions, client_id)
        admitted = _logged(services, lambda: services.intake.admit_whole(submissions), None)
        return json_response(BatchAnswer([_item(each.event) for each in admitted]), 202)


def _admit_partial(
    services: Services, items: Items, submissions: Sequence[Submission | Refused], client_id: str | None
) -> Response:
    answers = services.intake.admit_partial(submissions)
    refused, now = [answer for answer in answers if isinstance(answer, Refused)], services.clock.now()
    services.ledger.counters.refused.update(answer.slug for answer in refused)
    for each in refused:
        services.housekeeping.quarter_hour.refusals.note(each, now, is_event=True)
    found = [
        _item(answer.event) if isinstance(answer, Admitted) else _refused_item(items[index], client_id, answer)
        for index, answer in enumerate(answers)
    ]
    return json_response(BatchAnswer(found), 202)


def _held(submissions: Sequence[Submission | Refused]) -> Sequence[Submission | Refused]:
    """With a refusal in place of what is not for the token's clients."""
    held = held_clients()
    if held is None:
        return submissions
    return [
        not_held(each.client_id) if isinstance(each, Submission) and each.client_id not in held else each
        for each in submissions
    ]


def _refuse_key(submissions: Sequence[Submission | Refused]) -> None:
    """Raises InvalidEvent where the header's key would stand for an event of a batch."""
    if any(not each.id for each in submissions if isinstance(each, Submission)):
        raise InvalidEvent(f"{KEY} stands for the id of one event; in a batch give each event its own id")


def _keyed(submission: Submission) -> Submission:
    """With the id that the header gives, bare or in quotes. Raises InvalidEvent."""
    keys = {one.strip().removeprefix('"').removesuffix('"') for one in this_request().headers.getlist(KEY)}
    key = keys.pop()
    if keys:
        raise InvalidEvent(f"{KEY} is given twice, and both differ")
    if not is_id(key):
        raise InvalidEvent(f"{KEY} must be 1 to 64 of A-Z a-z 0-9 _ -, as an id is")
    if submission.id not in (None, key):
        mistake = Mistake("/id", f"is not what {KEY} says; give one of them, or the same twice")
        raise InvalidEvent(f"the event's id and {KEY} differ", mistakes=[mistake])
    return msgspec.structs.replace(submission, id=key)


def _traced(submissions: Sequence[Sent]) -> Sequence[Sent]:
    """With the request's traceparent, one text for all; as they are where it is not valid, or stands twice."""
    given = this_request().headers.getlist("traceparent")
    traceparent = traceparent_from(given[0]) if len(given) == 1 else None
    if traceparent is None:
        return submissions
    return [
        each if isinstance(each, Refused) else msgspec.structs.replace(each, traceparent=traceparent)
        for each in submissions
    ]


def _read(services: Services, body: bytes, *, client_id: str | None, pointer: str = "") -> Submission:
    payload_bytes_max = services.effective.settings.intake.payload_bytes_max
    body = without_spaces(body, payload_bytes_max, pointer)
    submission = read_event(body, client_id=client_id, pointer=pointer)
    refuse_long_payload(len(submission.payload), payload_bytes_max, pointer)
    return submission


def _read_or_refused(services: Services, item: bytes, client_id: str | None, index: int) -> Submission | Refused:
    try:
        return _read(services, item, client_id=client_id, pointer=f"/{index}")
    except Refused as refused:
        return refused.without_frames()


def _logged(services: Services, admit: Callable[[], T], submission: Submission | None) -> T:
    try:
        return admit()
    except Refused as refused:
        services.log(
            "event.refused",
            level="warning",
            problem=refused.slug,
            client_id=None if submission is None else cut(submission.client_id),
            event_id=None if submission is None else submission.id,
        )
        raise


def _item(event: Event) -> BatchItem:
    return BatchItem(event.id, event.client_id, event.status)


def _refused_item(item: bytes, client_id: str | None, refused: Refused) -> BatchItem:
    event_id, given_client_id = read_ids(item)
    known_as = given_client_id if client_id is None else cut(client_id)
    return BatchItem(event_id, known_as, None, body_of(refused))
