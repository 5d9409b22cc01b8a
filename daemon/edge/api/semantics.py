"""Owns what HTTP asks of every route alike: methods, `Accept`, the query's parameters, and paths that lead nowhere.

Rules: nothing redirects, since a producer's POST would come back as a GET; an error is always problem+json, whatever
`Accept` says; the query is read here, by queries.py, before the route runs.
It does not know who may call (access.py) nor what a body may hold (bodies.py).
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import msgspec
from quart import Response, g, request
from quart.globals import request_ctx
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as UnknownRoute

from daemon.core.refusal import NotAcceptable, NotFound, Refused
from daemon.edge.api.operations import Operation, operation_of
from daemon.edge.api.problems import of_status
from daemon.edge.api.queries import read_query

JSON = "application/json"


class Terms(NamedTuple):
    """What a route answers with, and what it may be asked."""

    media_types: tuple[str, ...]  # none: it never answers with a body
    query: type[msgspec.Struct] | None


def obey(app: QuartTrio) -> None:
    """Before any route is added: nothing of werkzeug's redirects."""
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False


def checks(app: QuartTrio) -> Callable[[], Any]:
    """What goes before each request, once every route is there."""
    terms = {name: terms_of(operation_of(view)) for name, view in app.view_functions.items()}

    async def check() -> Response | None:
        if request.scope["path"].startswith("//"):  # werkzeug takes it for one slash, a proxy's rules may not
            raise NotFound(_no_route())
        if request.routing_exception is not None:
            return None  # access comes first; the error's handler answers it
        if request.method == "OPTIONS":
            assert request_ctx.url_adapter is not None
            return Response("", 204, headers={"allow": _allow(request_ctx.url_adapter.allowed_methods())})
        asked_of = terms[str(request.endpoint)]
        accept = request.headers.get("accept")
        if accept and asked_of.media_types and accept != "*/*":
            refuse_unacceptable(list(request.accept_mimetypes), asked_of.media_types)
        g.query = read_query(asked_of.query)
        return None

    return check


def terms_of(operation: Operation) -> Terms:
    kinds = [one for kind in operation.answers.values() for one in (kind if isinstance(kind, tuple) else (kind,))]
    given = {kind if isinstance(kind, str) else JSON for kind in kinds if kind is not None}
    media_types = {kind.partition(";")[0] for kind in given} if operation.answers else {JSON}
    return Terms(tuple(sorted(media_types)), operation.query)


def refuse_unacceptable(ranges: Collection[tuple[str, float]], media_types: Collection[str]) -> None:
    """Raises NotAcceptable unless one of them is in the ranges of `Accept` (RFC 9110, section 12.5.1)."""
    if ranges and not any(_quality(ranges, media_type) for media_type in media_types):
        raise NotAcceptable(f"the answer is {' or '.join(media_types)}, and Accept leaves that out")


def routing_refused(error: HTTPException, answer: Callable[[Refused], Response]) -> Response:
    """What the framework refuses by itself, in our form."""
    refused = of_status(error.code or 500)
    if isinstance(error, UnknownRoute):
        refused.detail = _no_route()
    elif isinstance(error, MethodNotAllowed):
        refused.detail = f"{_path()} does not take {request.method[:20]!a}; Allow lists what it takes"
    response = answer(refused)
    if isinstance(error, MethodNotAllowed):
        response.headers["allow"] = _allow(error.valid_methods or ())
    return response


def _no_route() -> str:
    if len(request.path) > 1 and request.path.endswith("/"):
        return f"there is no route {_path()}: no route ends with a slash"
    return f"there is no route {_path()}; /openapi.json lists those that there are"


def _path() -> str:
    return ascii(request.path[:100])


def _quality(ranges: Collection[tuple[str, float]], media_type: str) -> float:
    """Of the most specific range that covers it; 0 where none does. Parameters of a range are passed over."""
    kind = media_type.partition("/")[0]
    for covering in (media_type, f"{kind}/*", "*/*"):
        found = [quality for one, quality in ranges if one.partition(";")[0].strip().lower() == covering]
        if found:
            return max(found)
    return 0.0


def _allow(methods: Iterable[str]) -> str:
    return ", ".join(sorted(methods))
