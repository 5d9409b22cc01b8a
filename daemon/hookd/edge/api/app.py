"""Owns the application: which routes there are, what goes before and after each of them, and that every error of any of
them is a problem+json.
"""

import sys
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, cast

from quart import Blueprint, Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from hookd.core.event import DEPTH_MAX
from hookd.core.refusal import Refused
from hookd.edge.api.admission import admission_routes
from hookd.edge.api.auth import Access
from hookd.edge.api.bodies import finish_body
from hookd.edge.api.body_budget import BodyBudget
from hookd.edge.api.client_routes import client_routes
from hookd.edge.api.endpoint_routes import endpoint_routes
from hookd.edge.api.event_routes import event_routes
from hookd.edge.api.health_checks import check_routes
from hookd.edge.api.metrics import metrics_routes
from hookd.edge.api.negotiation import Terms, check, obey, routing_refused, terms_of
from hookd.edge.api.openapi import add_openapi
from hookd.edge.api.operations import Operation, Scope, operation, operation_of
from hookd.edge.api.page import page_routes
from hookd.edge.api.problem_docs import problem_routes
from hookd.edge.api.problems import answer
from hookd.edge.api.rendering import json_response, status_view
from hookd.edge.api.replay_routes import replay_routes
from hookd.edge.api.request_exchange import ApiRequest, ClientDisconnected, RequestExchange
from hookd.edge.api.schemas import StatusView
from hookd.edge.api.services import Services
from hookd.edge.api.settlement_routes import settlement_routes

# The decoder nests one C call for each level of JSON and takes them from the same limit as our own frames.
FRAMES = 1000


def create_app(services: Services) -> QuartTrio:
    sys.setrecursionlimit(max(sys.getrecursionlimit(), DEPTH_MAX + FRAMES))
    app = Api(services)
    obey(app)
    for routes in ROUTES:
        app.register_blueprint(routes(services))
    add_openapi(app, services)
    app.finish_routes()
    return app


View = Callable[..., Awaitable[Response]]


class Route(NamedTuple):
    view: View
    operation: Operation
    terms: Terms


class Api(QuartTrio):
    """Quart-Trio with the order of what belongs to every request written down in `handle_request`.

    What would be registered by `before_request`, `after_request` or `errorhandler` is not called: to look for it at
    each request, and to run what is found, costs as much as it takes to admit an event.
    """

    def __init__(self, services: Services) -> None:
        super().__init__("hookd", static_folder=None)
        self.asgi_http_class = partial(RequestExchange, BodyBudget(services.effective))  # type: ignore[assignment]
        self._services = services
        self._access = Access(services.effective, services.clock, services.log)
        self._routes: dict[str, Route] = {}

    def finish_routes(self) -> None:
        """Once all are there. Raises LookupError where one was left without an operation."""
        for name, view in self.view_functions.items():
            operation = operation_of(view)
            self._routes[name] = Route(cast(View, view), operation, terms_of(operation))

    def create_url_adapter(self, request: Any) -> MapAdapter | None:
        """For the path and the method alone: Quart's takes the host apart, which access.py judges."""
        if request is None:
            return None
        return MapAdapter(self.url_map, "", "/", "", request.scheme, request.path, request.method)

    async def handle_request(self, request: Any) -> Response:
        async with self.request_context(request) as context:
            try:
                response = await self._answer(request, context.url_adapter)
            except ClientDisconnected:
                raise
            except Exception as error:
                response = self._refusal(request, error)
            await finish_body(request, response)
            return response

    async def _answer(self, request: ApiRequest, adapter: MapAdapter | None) -> Response:
        """Strangers are refused first, whatever they ask for."""
        rule = request.url_rule  # None: there is no such route, or it does not take the method
        route = None if rule is None else self._routes[rule.endpoint]
        self._access.judge(request, None if route is None else route.operation)
        response = check(request, None if route is None else route.terms, adapter)
        if response is not None:
            return response
        assert route is not None
        arguments = request.view_args or {}
        if route.operation.bodies:  # once its body is read it waits for nothing, or says so itself
            return await route.view(**arguments)
        return await request.connection.listening(partial(route.view, **arguments))

    def _refusal(self, request: ApiRequest, error: Exception) -> Response:
        counted = partial(_counted, self._services)
        match error:
            case Refused():
                return counted(error)
            case HTTPException():  # werkzeug's, which knows the routes
                return routing_refused(request, error, counted)
            case _:
                lines = traceback.format_exception(error)
                self._services.log("request.crashed", level="error", traceback="".join(lines))
                return counted(Refused("an unexpected error; the log has the traceback"))


def status_routes(services: Services) -> Blueprint:
    routes = Blueprint("status", __name__)

    @routes.get("/v1/status")
    @operation("The daemon's totals", scope=Scope.READ, answers={200: StatusView})
    async def get_status() -> Response:
        return json_response(status_view(services, await services.gauge_collector.take()))

    return routes


def _counted(services: Services, error: Refused) -> Response:
    services.ledger.counters.refused[error.slug] += 1
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
