"""Owns the routes of events: admission, reading, listing, retry and resend.

Rule: once a body is read, decode, admit and answer are synchronous. A producer that hangs up cancels its handler at
an await, and there is none: its event is in and accounted for, or it is not there.
"""

import base64
import binascii
from collections.abc import Callable
from typing import Any, TypeVar

from quart import Blueprint, Response, request

from daemon.core.client import is_id
from daemon.core.delivery import Status
from daemon.core.event import Event, Submission, read_array, read_event, read_lines
from daemon.core.refusal import AmbiguousId, InvalidEvent, InvalidQuery, Refused, TooLarge, UnknownEvent
from daemon.core.timestamps import rfc3339
from daemon.edge.api.bodies import JSON, NDJSON, check_payload_size, query_flag, read_body
from daemon.edge.api.operations import Scope, operation
from daemon.edge.api.problems import body_of
from daemon.edge.api.services import Services
from daemon.edge.api.views import encode, event_view
from daemon.flow.intake import Admitted
from daemon.flow.resend import read_report_lines

T = TypeVar("T")

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000


def event_routes(services: Services) -> Blueprint:
    routes = Blueprint("events", __name__)

    @routes.post("/v1/events")
    @operation("Admit one event", scope=Scope.PRODUCE)
    async def post_event() -> Response:
        body = await read_body(services.live, JSON)
        return _single(services, _read(services, body, client_id=None))

    @routes.post("/v1/events/batch")
    @operation("Admit a batch of events, whole or in part", scope=Scope.PRODUCE)
    async def post_batch() -> Response:
        body = await read_body(services.live, JSON, NDJSON)
        return _batch(services, _items(body), client_id=None)

    @routes.post("/v1/clients/<client_id>/events")
    @operation("Admit events of one client", scope=Scope.PRODUCE)
    async def post_client_event(client_id: str) -> Response:
        body = await read_body(services.live, JSON, NDJSON)
        if request.mimetype == NDJSON or body.lstrip()[:1] == b"[":
            return _batch(services, _items(body), client_id=client_id)
        return _single(services, _read(services, body, client_id=client_id))

    @routes.get("/v1/clients/<client_id>/events/<event_id>")
    @operation("One event with its deliveries and their attempts", scope=Scope.READ, producers_too=True)
    async def get_client_event(client_id: str, event_id: str) -> Response:
        return _json(event_view(services, _find(services, client_id, event_id)))

    @routes.get("/v1/events/<event_id>")
    @operation("One event, where only one client has this id", scope=Scope.READ, producers_too=True)
    async def get_event(event_id: str) -> Response:
        found = services.ledger.find_everywhere(event_id)
        if len(found) > 1:
            clients = sorted(event.client_id for event in found)
            raise AmbiguousId(
                f"{len(found):,} clients have an event {event_id!r}; ask /v1/clients/CLIENT/events/{event_id}",
                clients=clients[:LIMIT_DEFAULT],
            )
        if not found:
            raise _unknown_event(services, event_id)
        return _json(event_view(services, found[0]))

    @routes.get("/v1/events")
    @operation("Events, newest first", scope=Scope.READ, producers_too=True)
    async def list_events() -> Response:
        return _json(_page(services))

    @routes.post("/v1/clients/<client_id>/events/<event_id>/retry")
    @operation("Attempt an event's unsettled or exhausted deliveries now", scope=Scope.ADMIN)
    async def retry_event(client_id: str, event_id: str) -> Response:
        event = _find(services, client_id, event_id)
        changed = services.retrying.retry(event)
        return _json(event_view(services, event), 202 if changed else 200)

    @routes.post("/v1/resend")
    @operation("Admit the lines of a report", scope=Scope.ADMIN)
    async def resend() -> Response:
        body = await read_body(services.live, NDJSON)
        lines = read_report_lines(_bounded(services, read_lines(body)))
        answers = services.resend.resend(lines)
        return _json({"lines": [answer.value for answer in answers]})

    return routes


def _single(services: Services, submission: Submission) -> Response:
    admitted = _logged(services, lambda: services.intake.admit(submission), submission)
    response = _json(event_view(services, admitted.event), 202 if admitted.is_new else 200)
    response.headers["location"] = f"/v1/clients/{admitted.event.client_id}/events/{admitted.event.id}"
    return response


def _batch(services: Services, items: list[bytes], *, client_id: str | None) -> Response:
    partial = query_flag("partial")
    if not items:
        raise InvalidEvent("the batch is empty; send at least one event")
    submissions = [
        _read_or_refused(services, item, client_id, index) for index, item in enumerate(_bounded(services, items))
    ]
    if partial:
        answers = services.intake.admit_partial(submissions)
        services.ledger.tally.refused.update(answer.slug for answer in answers if isinstance(answer, Refused))
        return _json({"events": [_partial_item(s, a) for s, a in zip(submissions, answers, strict=True)]}, 202)
    admitted = _logged(services, lambda: services.intake.admit_whole(submissions), None)
    return _json({"events": [_item(each.event) for each in admitted]}, 202)


def _read(services: Services, body: bytes, *, client_id: str | None, pointer: str = "") -> Submission:
    submission = read_event(body, client_id=client_id, pointer=pointer)
    check_payload_size(services.live, submission.payload, pointer)
    return submission


def _read_or_refused(services: Services, item: bytes, client_id: str | None, index: int) -> Submission | Refused:
    try:
        return _read(services, item, client_id=client_id, pointer=f"/{index}")
    except Refused as refused:
        return refused


def _items(body: bytes) -> list[bytes]:
    return read_lines(body) if request.mimetype == NDJSON else read_array(body)


def _bounded(services: Services, items: list[bytes]) -> list[bytes]:
    events_max = services.live.settings.intake.batch_events_max
    if len(items) > events_max:
        raise TooLarge(f"{len(items):,} items in one batch; intake.batch_events_max is {events_max:,}")
    return items


def _logged(services: Services, admit: Callable[[], T], submission: Submission | None) -> T:
    try:
        return admit()
    except Refused as refused:
        services.log(
            "event.refused",
            level="warning",
            problem=refused.slug,
            client_id=None if submission is None else submission.client_id,
            event_id=None if submission is None else submission.id,
        )
        raise


def _item(event: Event) -> dict[str, Any]:
    return {"id": event.id, "client_id": event.client_id, "status": event.status.value}


def _partial_item(submission: Submission | Refused, answer: Admitted | Refused) -> dict[str, Any]:
    if isinstance(answer, Admitted):
        return _item(answer.event)
    known = submission if isinstance(submission, Submission) else None
    return {
        "id": None if known is None else known.id,
        "client_id": None if known is None else known.client_id,
        "status": None,
        "problem": body_of(answer),
    }


def _find(services: Services, client_id: str, event_id: str) -> Event:
    """Raises UnknownClient or UnknownEvent; an event outlives its client's registration."""
    event = services.ledger.find(client_id, event_id)
    if event is None:
        services.registry.get(client_id)
        raise _unknown_event(services, event_id)
    return event


def _unknown_event(services: Services, event_id: str) -> UnknownEvent:
    remembers_since = rfc3339(services.ledger.remembers_since)
    return UnknownEvent(
        f"no event {event_id!r} is held; events that settled and were accepted before {remembers_since} "
        "may be forgotten, and a restart starts empty",
        remembers_since=remembers_since,
        started_at=rfc3339(services.run.started_at),
    )


def _page(services: Services) -> dict[str, Any]:
    unknown = sorted(set(request.args) - {"client_id", "status", "type", "limit", "cursor"})
    if unknown:
        raise InvalidQuery(f"{unknown[0]!r} is no parameter here; there are client_id, status, type, limit, cursor")
    client_id = request.args.get("client_id")
    if client_id is not None and not is_id(client_id):
        raise InvalidQuery("client_id must be 1 to 64 of A-Z a-z 0-9 _ -")
    events, before = services.ledger.page(
        client_id=client_id,
        status=_status(),
        event_type=request.args.get("type"),
        before=_cursor(),
        limit=_limit(),
    )
    return {
        "events": [event_view(services, event) for event in events],
        "next_cursor": None if before is None else _cursor_of(before),
    }


def _status() -> Status | None:
    given = request.args.get("status")
    try:
        return None if given is None else Status(given)
    except ValueError:
        words = ", ".join(status.value for status in Status)
        raise InvalidQuery(f"status must be one of {words}, not {given!r}") from None


def _limit() -> int:
    given = request.args.get("limit", str(LIMIT_DEFAULT))
    if not (given.isascii() and given.isdigit() and len(given) <= 4 and 1 <= int(given) <= LIMIT_MAX):
        raise InvalidQuery(f"limit must be 1 to {LIMIT_MAX}, not {given!r}")
    return int(given)


def _cursor() -> int | None:
    given = request.args.get("cursor")
    if given is None:
        return None
    try:
        text = base64.urlsafe_b64decode(given.encode("ascii") + b"=" * (-len(given) % 4))
        before = int(text[1:]) if text[1:].isdigit() and len(text) <= 20 else -1
        if given != _cursor_of(before):
            raise ValueError("not of our making")
        return before
    except (ValueError, binascii.Error):
        raise InvalidQuery("the cursor is not one that this listing gave") from None


def _cursor_of(before: int) -> str:
    return base64.urlsafe_b64encode(b"e%d" % before).decode().rstrip("=")


def _json(view: object, status: int = 200) -> Response:
    return Response(encode(view), status, content_type=JSON)
