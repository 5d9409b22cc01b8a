"""Owns the text of `/problems/SLUG`: what each problem means and what to do. It is open to everyone."""

from typing import NamedTuple

from quart import Blueprint, Response

from hookd.core.quoting import quoted
from hookd.core.refusal import NotFound
from hookd.edge.api.operations import operation
from hookd.edge.api.problems import PROBLEMS
from hookd.edge.api.services import Services

TEXT = "text/plain; charset=utf-8"


class ProblemDoc(NamedTuple):
    means: str
    do: str


EXPLANATIONS: dict[str, ProblemDoc] = {
    "malformed-json": ProblemDoc(
        "The body cannot be read as JSON in UTF-8: it is cut off, has something after its end, a byte order mark,\n"
        "another encoding, NaN, or half of a pair of surrogates. `detail` says where. Nothing was admitted.",
        "Mend what writes the body; the same bytes will be refused again.",
    ),
    "unauthorized": ProblemDoc(
        "This hookd has tokens, and the request has none that it knows.",
        "Send `Authorization: Bearer TOKEN` with one of those that its configuration lists under [[http.tokens]].",
    ),
    "forbidden": ProblemDoc(
        "The token's scope does not reach to this route; or the token is held to certain clients (`clients`), and\n"
        "this speaks of others, or of the whole daemon; or there are no tokens, and the request comes, or may come,\n"
        "from a web page: its Host is no loopback name, or its Origin or Sec-Fetch-Site is foreign.",
        "Use a token of the scope that `detail` names, or one that is held to no clients. Without tokens ask as\n"
        "http://127.0.0.1:PORT or localhost.",
    ),
    "unknown-client": ProblemDoc(
        "No client of this id is registered. Clients put through the API are gone after a restart.",
        "PUT /v1/clients/CLIENT with its endpoints, then post again. Look for a typing mistake first.",
    ),
    "unknown-event": ProblemDoc(
        "No event of this id is held. It may never have been admitted; or it settled and was forgotten, which only\n"
        "those accepted before `remembers_since` can have been; or it came before this run began (`started_at`).",
        "Not sure that it was admitted? Post it again under the same id: it is admitted once. If it came before\n"
        "`started_at`, look into the last shutdown report: hookd report.",
    ),
    "not-found": ProblemDoc(
        "There is no such route, or the client has no endpoint of this id. No route ends with a slash; none redirects.",
        "Look at GET /openapi.json for the routes, at GET /v1/clients/CLIENT for its endpoints.",
    ),
    "method-not-allowed": ProblemDoc(
        "The route is there and does not take this method.",
        "Use one of those that the `Allow` header lists.",
    ),
    "not-acceptable": ProblemDoc(
        "A GET's `Accept` leaves out what the route answers with, which is JSON almost everywhere.",
        "Send `Accept: application/json`, `Accept: */*`, or none.",
    ),
    "body-timeout": ProblemDoc(
        "The body did not arrive within a minute. Nothing was admitted, and the connection is closed.",
        "Post again, in smaller batches if the line is slow. Does the body have as many bytes as Content-Length says?",
    ),
    "id-conflict": ProblemDoc(
        "The client has an event of this id already, with another type or payload. The one that is held stays.",
        "Use the id of an event for that event only. The same event must be the same bytes each time it is posted:\n"
        "white space and the order of keys count.",
    ),
    "ambiguous-id": ProblemDoc(
        "Several clients have an event of this id, and the short form of the path does not say which is meant.",
        "Ask for /v1/clients/CLIENT/events/ID; `clients` lists which clients have one.",
    ),
    "managed-by-config": ProblemDoc(
        "The client stands in hookd's config file, and what stands there is only changed there.",
        "Change the file and send SIGHUP.",
    ),
    "unsettled-deliveries": ProblemDoc(
        "The change would remove endpoints that still have `unsettled_deliveries` deliveries to come.",
        "Wait until they have settled, or say ?end_unsettled=true: they are then given up as endpoint_removed.",
    ),
    "payload-forgotten": ProblemDoc(
        "The event has settled, and its payload was dropped: payloads of settled events are kept within [retention],\n"
        "oldest dropped first. Its status and its attempts are still known.",
        "Ask whoever posted it. Raise retention.delivered_bytes_max or retention.exhausted_bytes_max to keep more.",
    ),
    "no-payload": ProblemDoc(
        "The event was delivered, and its payload was dropped: there is nothing to send again. Payloads of delivered\n"
        "events are kept within retention.delivered_bytes_max, oldest dropped first.",
        "Ask whoever posted it to post it again under another id. Raise retention.delivered_bytes_max to keep more.",
    ),
    "endpoint-disabled": ProblemDoc(
        "Every endpoint of the event that could be tried again answered 410 Gone, and is disabled.",
        "Ask the client. Then POST /v1/clients/CLIENT/endpoints/ENDPOINT/resume, or PUT another URL, and\n"
        "POST /v1/clients/CLIENT/replay to bring back what was given up meanwhile.",
    ),
    "registry-full": ProblemDoc(
        "As many clients are registered as registry.clients_max allows, or they take the memory that it gives them:\n"
        "8 KiB for each that may be registered. `detail` says which.",
        "DELETE clients that are no longer used, shorten their headers, or raise registry.clients_max.",
    ),
    "too-large": ProblemDoc(
        "The body is over intake.body_bytes_max, a payload over intake.payload_bytes_max, or the batch has more\n"
        "events than intake.batch_events_max. `detail` says which. Nothing was admitted.",
        "Post smaller batches; send a link in place of a large payload; or raise the limit that `detail` names.",
    ),
    "unsupported-media-type": ProblemDoc(
        "The Content-Type is missing or not taken here, its charset is not UTF-8, or the body is compressed.",
        "Send application/json, or application/x-ndjson where a route takes batches, in UTF-8, as it is.",
    ),
    "invalid-event": ProblemDoc(
        "The body is JSON and not an event: a field is missing, unknown, stands twice or holds something else, or the\n"
        "payload is nested too deep. `errors` lists each mistake with a pointer to it.",
        "Mend what writes the event; the same body will be refused again.",
    ),
    "invalid-client": ProblemDoc(
        "The client's id or one of its endpoints is not valid. `errors` lists each mistake with a pointer to it.",
        "Mend the fields that the pointers name. Plain http needs egress.allow_http, or --dev.",
    ),
    "invalid-query": ProblemDoc(
        "A query parameter is unknown here, stands twice or has a value it cannot have; or the body of a replay or a\n"
        "rotation does.",
        "Mend what `detail` names. A cursor is only good for the listing that gave it.",
    ),
    "client-full": ProblemDoc(
        "The client has as many unsettled events or bytes as intake.client_events_max and client_bytes_max allow, or\n"
        "as many as its share of the flight recorder holds: its endpoint is slow or down. Or the token has half of\n"
        "the connections, of the bodies or of the answers that all tokens share. `detail` says which. Others are\n"
        "not touched. Nothing was admitted.",
        "Keep the event, wait for the seconds that `Retry-After` says, post it again under the same id.\n"
        "GET /v1/clients/CLIENT says since when its endpoint fails, and with what.",
    ),
    "internal": ProblemDoc(
        "A bug in hookd ended this request. Others go on.",
        "Post again under the same id: whether or not it was admitted, it is admitted once. Report the traceback that\n"
        "the log has in its line `request.crashed`.",
    ),
    "full": ProblemDoc(
        "The whole daemon holds as many unsettled events or bytes as intake.unsettled_events_max and\n"
        "unsettled_bytes_max allow; or the flight recorder has no room (recorder.bytes_max); or as many bodies are\n"
        "being read as fit (intake.receiving_bytes_max); or as many answers wait for their readers to take them\n"
        "(http.sending_bytes_max). `detail` says which. Nothing was admitted.",
        "Keep the event, wait for the seconds that `Retry-After` says, post it again under the same id.\n"
        "GET /v1/clients says whose backlog it is.",
    ),
    "draining": ProblemDoc(
        "hookd was told to stop: it finishes what it can, takes nothing new and reports the rest. Known ids are still\n"
        "answered.",
        "Keep the event, wait for the seconds that `Retry-After` says, post it to the successor under the same id.",
    ),
}


def problem_routes(_: Services) -> Blueprint:
    routes = Blueprint("problems", __name__)

    @routes.get("/problems")
    @operation("The problems that answers name in `type`", scope=None, answers={200: TEXT})
    async def list_problems() -> Response:
        lines = [f"{problem.status}  /problems/{slug}  {problem.title}\n" for slug, problem in PROBLEMS.items()]
        return Response("".join(lines), content_type=TEXT)

    @routes.get("/problems/<slug>")
    @operation("What a problem means, and what to do", scope=None, answers={200: TEXT}, problems=("not-found",))
    async def get_problem(slug: str) -> Response:
        if slug not in PROBLEMS:
            raise NotFound(f"there is no problem {quoted(slug)}; /problems lists them")
        return Response(text_of(slug), content_type=TEXT)

    return routes


def text_of(slug: str) -> str:
    problem, explanation = PROBLEMS[slug], EXPLANATIONS[slug]
    heading = f"{problem.status} {slug}: {problem.title}"
    return f"{heading}\n\nWhat it means\n{explanation.means}\n\nWhat to do\n{explanation.do}\n"
