"""Owns the application: which routes there are, and that every error of any of them is a problem+json."""

import sys
import traceback

from quart import Blueprint, Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from daemon.core.event import DEPTH_MAX
from daemon.core.refusal import Refused
from daemon.edge.api.access import refuse_foreign_request
from daemon.edge.api.bodies import discard_rest
from daemon.edge.api.checks import check_routes
from daemon.edge.api.clients import client_routes
from daemon.edge.api.events import event_routes
from daemon.edge.api.metrics import metrics_routes
from daemon.edge.api.operations import Scope, operation, operation_of
from daemon.edge.api.page import page_routes
from daemon.edge.api.problems import answer, of_status
from daemon.edge.api.services import Services
from daemon.edge.api.views import encode, status_view

# The decoder nests one C call for each level of JSON and takes them from the same limit as our own frames.
FRAMES = 1000


def create_app(services: Services) -> QuartTrio:
    sys.setrecursionlimit(max(sys.getrecursionlimit(), DEPTH_MAX + FRAMES))
    app = QuartTrio("hookd", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = None  # bodies.py bounds them, by the settings in force
    for routes in (event_routes, client_routes, status_routes, check_routes, metrics_routes, page_routes):
        app.register_blueprint(routes(services))
    for view in app.view_functions.values():
        operation_of(view)
    if not services.live.settings.http.tokens:
        app.before_request(_refuse_foreign_request)
    app.after_request(_finish_body)

    # All are async: quart runs a plain function in a thread, of which stuck DNS lookups may leave none.
    @app.errorhandler(Refused)
    async def refused(error: Refused) -> Response:
        return _counted(services, error)

    @app.errorhandler(HTTPException)
    async def framework_refused(error: HTTPException) -> Response:
        return _framework_refused(services, error)

    @app.errorhandler(Exception)
    async def crashed(error: Exception) -> Response:
        services.log("request.crashed", level="error", traceback="".join(traceback.format_exception(error)))
        return _counted(services, Refused("an unexpected error; the log has the traceback"))

    return app


def status_routes(services: Services) -> Blueprint:
    routes = Blueprint("status", __name__)

    @routes.get("/v1/status")
    @operation("The daemon's totals", scope=Scope.READ)
    async def get_status() -> Response:
        return Response(encode(status_view(services, await services.survey.take())), content_type="application/json")

    return routes


async def _finish_body(response: Response) -> Response:
    # One that is too large or too slow has been read for long enough.
    if response.status_code in (408, 413) or not await discard_rest():
        response.headers["connection"] = "close"
    return response


async def _refuse_foreign_request() -> None:
    refuse_foreign_request()


def _counted(services: Services, error: Refused) -> Response:
    services.ledger.tally.refused[error.slug] += 1
    return answer(error)


def _framework_refused(services: Services, error: HTTPException) -> Response:
    response = _counted(services, of_status(error.code or 500))
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["allow"] = ", ".join(sorted(allowed))
    return response
