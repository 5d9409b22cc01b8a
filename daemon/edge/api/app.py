"""Owns the application: which routes there are, and that every error of any of them is a problem+json."""

import sys
import traceback

from quart import Blueprint, Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from daemon.core.event import DEPTH_MAX
from daemon.core.refusal import Refused
from daemon.edge.api.access import refuse_foreign_request
from daemon.edge.api.bodies import finish_body
from daemon.edge.api.clients import client_routes
from daemon.edge.api.events import event_routes
from daemon.edge.api.operations import Scope, operation, operation_of
from daemon.edge.api.problems import answer, of_status
from daemon.edge.api.receiving import Receiving, counting_connection
from daemon.edge.api.services import Services
from daemon.edge.api.views import encode, status_view

# The decoder nests one C call for each level of JSON and takes them from the same limit as our own frames.
FRAMES = 1000


def create_app(services: Services) -> QuartTrio:
    sys.setrecursionlimit(max(sys.getrecursionlimit(), DEPTH_MAX + FRAMES))
    app = QuartTrio("hookd", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = None  # receiving.py bounds bodies, by the settings in force
    app.asgi_http_class = counting_connection(Receiving(services.live))
    for routes in (event_routes(services), client_routes(services), status_routes(services)):
        app.register_blueprint(routes)
    for view in app.view_functions.values():
        operation_of(view)
    if not services.live.settings.http.tokens:
        app.before_request(_refuse_foreign_request)
    app.after_request(finish_body)

    # All are async: quart runs a plain function in a thread, of which stuck DNS lookups may leave none.
    @app.errorhandler(Refused)
    async def refused(error: Refused) -> Response:
        return answer(error)

    @app.errorhandler(HTTPException)
    async def framework_refused(error: HTTPException) -> Response:
        return _framework_refused(error)

    @app.errorhandler(Exception)
    async def crashed(error: Exception) -> Response:
        services.log("request.crashed", level="error", traceback="".join(traceback.format_exception(error)))
        return answer(Refused("an unexpected error; the log has the traceback"))

    return app


def status_routes(services: Services) -> Blueprint:
    routes = Blueprint("status", __name__)

    @routes.get("/v1/status")
    @operation("The daemon's totals", scope=Scope.READ)
    async def get_status() -> Response:
        return Response(encode(status_view(services)), content_type="application/json")

    @routes.get("/livez")
    @operation("Whether the process answers", scope=None)
    async def get_livez() -> Response:
        return Response("ok\n", content_type="text/plain; charset=utf-8")

    @routes.get("/readyz")
    @operation("Whether it takes events", scope=None)
    async def get_readyz() -> Response:
        if services.intake.is_draining:
            services.intake.refuse_if_draining()
        return Response("ok\n", content_type="text/plain; charset=utf-8")

    return routes


async def _refuse_foreign_request() -> None:
    refuse_foreign_request()


def _framework_refused(error: HTTPException) -> Response:
    response = answer(of_status(error.code or 500))
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["allow"] = ", ".join(sorted(allowed))
    return response
