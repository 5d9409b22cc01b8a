"""Owns the table from a refusal's slug to its HTTP status, and the form of every error answer (RFC 9457)."""

from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET
from quart import Response

from hookd.core.refusal import Refused
from hookd.edge.api.schemas import MistakeView, ProblemView

PROBLEM_JSON = "application/problem+json"
# A batch or a definition can have thousands of mistakes; whoever mends the first hundred posts again.
ERRORS_MAX = 100


class Problem(NamedTuple):
    status: int
    title: str


PROBLEMS: dict[str, Problem] = {
    "malformed-json": Problem(400, "The body is not JSON in UTF-8"),
    "unauthorized": Problem(401, "A token is needed"),
    "forbidden": Problem(403, "This is not allowed"),
    "unknown-client": Problem(404, "No such client"),
    "unknown-event": Problem(404, "No such event"),
    "not-found": Problem(404, "No such route"),
    "method-not-allowed": Problem(405, "The route does not take this method"),
    "not-acceptable": Problem(406, "The answer is JSON"),
    "body-timeout": Problem(408, "The body took too long"),
    "id-conflict": Problem(409, "The id names another event"),
    "ambiguous-id": Problem(409, "Several clients have an event of this id"),
    "managed-by-config": Problem(409, "The config file manages this client"),
    "unsettled-deliveries": Problem(409, "Unsettled deliveries would end"),
    "endpoint-disabled": Problem(409, "The endpoint is disabled"),
    "no-payload": Problem(409, "The payload is held no more, so nothing can be sent"),
    "registry-full": Problem(409, "The registry is full"),
    "payload-forgotten": Problem(410, "The payload is held no more"),
    "too-large": Problem(413, "Too large"),
    "unsupported-media-type": Problem(415, "The media type is not taken here"),
    "invalid-event": Problem(422, "The event is not valid"),
    "invalid-client": Problem(422, "The client is not valid"),
    "invalid-query": Problem(422, "The query, or the body, is not valid"),
    "client-full": Problem(429, "The client, or the token, is at its share"),
    "internal": Problem(500, "A bug in hookd"),
    "full": Problem(503, "The daemon's budget is full"),
    "draining": Problem(503, "The daemon is draining"),
}


def body_of(refused: Refused) -> ProblemView:
    """The body of the answer. An `extra` that ProblemView does not have is a bug, and a test finds it."""
    problem = PROBLEMS[refused.slug]
    extra: dict[str, Any] = refused.extra
    listed, omitted = refused.mistakes[:ERRORS_MAX], len(refused.mistakes[ERRORS_MAX:])
    return ProblemView(
        type=f"/problems/{refused.slug}",
        title=problem.title,
        status=problem.status,
        detail=f"{refused.detail}; {omitted:,} more errors are not listed" if omitted else refused.detail,
        errors=[MistakeView(*mistake) for mistake in listed] or UNSET,
        errors_omitted=omitted or UNSET,
        retry_after_seconds=refused.retry_after_seconds or UNSET,
        **extra,
    )


def answer(refused: Refused) -> Response:
    body = body_of(refused)
    response = Response(msgspec.json.encode(body), body.status, content_type=PROBLEM_JSON)
    if refused.retry_after_seconds is not None:
        response.headers["retry-after"] = str(refused.retry_after_seconds)
    if response.status_code == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


def of_status(status: int) -> Refused:
    """What the framework refuses by itself, in our form."""
    slugs = {404: "not-found", 405: "method-not-allowed", 408: "body-timeout", 413: "too-large", 400: "malformed-json"}
    refused = Refused(HTTPStatus(status).description or HTTPStatus(status).phrase)
    refused.slug = slugs.get(status, "internal")
    return refused
