"""Owns the application: which routes there are, and that every error of any of them is a problem+json."""

import sys
import traceback
from functools import partial

from quart import Blueprint, Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from daemon.core.event import DEPTH_MAX
from daemon.core.refusal import Refused
from daemon.edge.api.access import Access
from daemon.edge.api.admission import admission_routes
from daemon.edge.api.bodies import finish_body
from daemon.edge.api.checks import check_routes
from daemon.edge.api.clients import client_routes
from daemon.edge.api.endpoints import endpoint_routes
from daemon.edge.api.events import event_routes
from daemon.edge.api.explanations import problem_routes
from daemon.edge.api.metrics import metrics_routes
from daemon.edge.api.openapi import add_openapi
from daemon.edge.api.operations import Scope, operation, operation_of
from daemon.edge.api.page import page_routes
from daemon.edge.api.problems import answer
from daemon.edge.api.receiving import Receiving, counting_connection
from daemon.edge.api.replay import replay_routes
from daemon.edge.api.semantics import checks, obey, routing_refused
from daemon.edge.api.services import Services
from daemon.edge.api.settlements import settlement_routes
from daemon.edge.api.shapes import StatusView
from daemon.edge.api.views import json_response, status_view

# The decoder nests one C call for each level of JSON and takes them from the same limit as our own frames.
FRAMES = 1000


def create_app(services: Services) -> QuartTrio:
    sys.setrecursionlimit(max(sys.getrecursionlimit(), DEPTH_MAX + FRAMES))
    app = QuartTrio("hookd", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = None  # receiving.py bounds bodies, by the settings in force
    app.asgi_http_class = counting_connection(Receiving(services.live))
    obey(app)
    for routes in ROUTES:
        app.register_blueprint(routes(services))
    add_openapi(app, services)
    access = Access(services.live, services.clock, services.log)
    app.after_request(finish_body)

    @app.before_request
    async def refuse_strangers() -> None:
        rule = request.url_rule  # None: there is no such route, or it does not take the method
        access.judge(None if rule is None else operation_of(app.view_functions[rule.endpoint]))

    app.before_request(checks(app))  # after the strangers are gone

    # All are async: quart runs a plain function in a thread, of which stuck DNS lookups may leave none.
    @app.errorhandler(Refused)
    async def refused(error: Refused) -> Response:
        return _counted(services, error)

    @app.errorhandler(HTTPException)
    async def framework_refused(error: HTTPException) -> Response:
        return routing_refused(error, partial(_counted, services))

    @app.errorhandler(Exception)
    async def crashed(error: Exception) -> Response:
        services.log("request.crashed", level="error", traceback="".join(traceback.format_exception(error)))
        return _counted(services, Refused("an unexpected error; the log has the traceback"))

    return app


def status_routes(services: Services) -> Blueprint:
    routes = Blueprint("status", __name__)

    @routes.get("/v1/status")
    @operation("The daemon's totals", scope=Scope.READ, answers={200: StatusView})
    async def get_status() -> Response:
        return json_response(status_view(services, await services.survey.take()))

    return routes


def _counted(services: Services, error: Refused) -> Response:
    services.ledger.tally.refused[error.slug] += 1
    return answer(error)


ROUTES = (
    admission_routes,
    event_routes,
    client_routes,
    endpoint_routes,
    replay_routes,
    settlement_routes,
    status_routes,
    check_routes,
    metrics_routes,
    page_routes,
    problem_routes,
)
