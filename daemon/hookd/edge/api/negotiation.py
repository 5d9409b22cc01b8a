"""Owns what HTTP asks of every route alike: methods, `Accept`, the query's parameters, and paths without a route.

Rules: nothing redirects, because a client that follows a redirect repeats a POST as a GET. An error is always
problem+json, whatever `Accept` says; but of the status page a browser gets it as a page. Only what reads is refused for
its `Accept`: an answer that its caller does not read is no reason to lose an event. The query is read here, by
queries.py, before the route runs.
Limit: an `Accept` of more than RANGES_MAX is refused before it is taken apart; a head holds 3,000, and they took 10 ms.

Does not: know who may call (auth.py), or what a body may hold (bodies.py).
"""

import re
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import msgspec
from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as UnknownRoute
from werkzeug.routing import MapAdapter

from hookd.core.quoting import quoted
from hookd.core.refusal import NotAcceptable, NotFound, Refused
from hookd.edge.api.near_misses import hint
from hookd.edge.api.operations import Operation
from hookd.edge.api.problems import of_status
from hookd.edge.api.queries import read_query
from hookd.edge.api.request_exchange import ApiRequest

JSON = "application/json"
READING = ("GET", "HEAD")
# Browsers send eight.
RANGES_MAX = 100
_QUALITY = re.compile(r"[0-9]*\.?[0-9]*")


class RouteTerms(NamedTuple):
    """What a route answers with, and what it may be asked."""

    media_types: tuple[str, ...]  # none: it never answers with a body
    query: type[msgspec.Struct] | None


def refuse_redirects(app: QuartTrio) -> None:
    """Switches werkzeug's redirects off; to be called before any route is added."""
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False


def check(request: ApiRequest, terms: RouteTerms | None, adapter: MapAdapter | None) -> Response | None:
    """The answer to a request that no route needs to answer; None where the route has to. Reads the `parameters`.

    Raises NotFound, MethodNotAllowed, NotAcceptable or InvalidQuery.
    """
    if request.scope["path"].startswith("//"):  # werkzeug takes it for one slash; a proxy's rules may not
        raise NotFound(_no_route(request))
    if request.routing_exception is not None:
        raise request.routing_exception
    if request.method == "OPTIONS":
        assert adapter is not None
        return Response("", 204, headers={"allow": _allow(adapter.allowed_methods())})
    assert terms is not None
    if request.method in READING and terms.media_types and request.first.get(b"accept", "*/*") != "*/*":
        refuse_unacceptable(accepted(request), terms.media_types)
    request.parameters = read_query(request, terms.query)
    return None


def terms_of(operation: Operation) -> RouteTerms:
    kinds = [one for kind in operation.answers.values() for one in (kind if isinstance(kind, tuple) else (kind,))]
    given = {kind if isinstance(kind, str) else JSON for kind in kinds if kind is not None}
    media_types = {kind.partition(";")[0] for kind in given} if operation.answers else {JSON}
    return RouteTerms(tuple(sorted(media_types)), operation.query)


def accepted(request: ApiRequest) -> list[tuple[str, float]]:
    """The ranges of `Accept` in lower case, with their qualities, the best first; more than RFC 9110 has is read.

    `*` is `*/*`, as Java sends it. A quality that is no number excludes nothing; werkzeug drops the whole range.
    Raises NotAcceptable where there are more than RANGES_MAX, or parameters.
    """
    ranges = []
    given = ",".join(request.headers.getlist("accept"))
    if given.count(",") + given.count(";") >= 2 * RANGES_MAX:
        raise NotAcceptable(f"Accept has more than {RANGES_MAX} ranges")
    for part in given.split(","):
        media_range, *parameters = (one.strip().lower() for one in part.split(";"))
        if media_range:
            ranges.append(("*/*" if media_range == "*" else media_range, _quality_in(parameters)))
    return sorted(ranges, key=lambda each: -each[1])


def names(request: ApiRequest, media_type: str) -> bool:
    """Whether `Accept` has it by name. Raises NotAcceptable as `accepted` does."""
    return any(one == media_type and quality for one, quality in accepted(request))


def _quality_in(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = (part.strip() for part in parameter.partition("="))
        if name == "q":
            return min(float(value), 1.0) if value.strip(".") and _QUALITY.fullmatch(value) else 1.0
    return 1.0


def refuse_unacceptable(ranges: Collection[tuple[str, float]], media_types: Collection[str]) -> None:
    """Raises NotAcceptable unless one of them is in the ranges of `Accept` (RFC 9110, section 12.5.1)."""
    if ranges and not any(_quality(ranges, media_type) for media_type in media_types):
        raise NotAcceptable(f"the answer is {' or '.join(media_types)}, and Accept leaves that out")


def routing_refused(request: ApiRequest, error: HTTPException, answer: Callable[[Refused], Response]) -> Response:
    """What the framework refuses by itself, in our form."""
    refused = of_status(error.code or 500)
    if isinstance(error, UnknownRoute):
        refused.detail = _no_route(request)
    elif isinstance(error, MethodNotAllowed):
        detail = f"{_path(request)} does not take {quoted(request.method, ascii)}; Allow lists what it takes"
        refused.detail = f"{detail}{_hint(request)}"
    response = answer(refused)
    if isinstance(error, MethodNotAllowed):
        response.headers["allow"] = _allow(error.valid_methods or ())
    return response


def _no_route(request: ApiRequest) -> str:
    if len(request.path) > 1 and request.path.endswith("/"):
        return f"there is no route {_path(request)}: no route ends with a slash"
    return f"there is no route {_path(request)}{_hint(request) or '; /openapi.json lists those that there are'}"


def _hint(request: ApiRequest) -> str:
    return hint(request.method, request.scope["path"])


def _path(request: ApiRequest) -> str:
    """As it came: werkzeug's has one slash where two stand first."""
    return quoted(request.scope["path"], ascii)


def _quality(ranges: Collection[tuple[str, float]], media_type: str) -> float:
    """The quality of the most specific range that covers it; 0 where none does. Parameters of a range are ignored."""
    kind = media_type.partition("/")[0]
    for covering in (media_type, f"{kind}/*", "*/*"):
        found = [quality for one, quality in ranges if one == covering]
        if found:
            return max(found)
    return 0.0


def _allow(methods: Iterable[str]) -> str:
    return ", ".join(sorted(methods))
