"""The application: what every request passes, in order, and the list of its routes.

Rules: every error is a problem+json; but what the status page does not find, a browser gets as a page. What belongs to
every request is called by `Api.handle_request` alone.
"""

import sys
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, cast

import quart.ctx
from quart import Response
from quart.sessions import NullSession
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from hookd.core.json_depth import DEPTH_MAX
from hookd.core.refusal import Refused
from hookd.edge.api.admission import admission_routes
from hookd.edge.api.answer_budget import AnswerBudget
from hookd.edge.api.auth import Auth
from hookd.edge.api.bodies import finish_body
from hookd.edge.api.body_budget import BodyBudget
from hookd.edge.api.callers import Callers
from hookd.edge.api.cancel_routes import cancel_routes
from hookd.edge.api.client_routes import client_routes
from hookd.edge.api.declaration_routes import declaration_routes
from hookd.edge.api.endpoint_routes import endpoint_routes
from hookd.edge.api.event_routes import event_routes
from hookd.edge.api.health_checks import check_routes
from hookd.edge.api.lookup_routes import lookup_routes
from hookd.edge.api.metrics import metrics_routes
from hookd.edge.api.negotiation import READING, RouteTerms, check, refuse_redirects, routing_refused, terms_of
from hookd.edge.api.notice_routes import notice_routes
from hookd.edge.api.openapi import add_openapi
from hookd.edge.api.operations import Operation, Scope, operation_of
from hookd.edge.api.page import page_routes
from hookd.edge.api.problem_docs import problem_routes
from hookd.edge.api.problems import answer
from hookd.edge.api.replay_routes import replay_routes
from hookd.edge.api.request_exchange import ApiRequest, ClientDisconnected, RequestExchange, length_of
from hookd.edge.api.sent_routes import sent_routes
from hookd.edge.api.services import Services
from hookd.edge.api.settlement_routes import settlement_routes
from hookd.edge.api.status_routes import status_routes

# Up to Quart 0.22 a request has a context of its own, from 0.23 on the app's.
REQUEST_CONTEXT: Any = getattr(quart.ctx, "RequestContext", quart.ctx.AppContext)
# The decoder nests one C call for each level of JSON and takes them from the same limit as our own frames.
FRAMES = 1000


class Api(QuartTrio):
    """Quart-Trio, with the order of what every request passes written down in two methods.

    Functions registered by `before_request`, `after_request`, `errorhandler` or for a teardown are not called: looking
    for them at each request, and running them, costs as much as admitting an event. Nor are signals sent.
    """

    async def handle_request(self, request: Any) -> Response:
        """First `_checked_answer`; an error becomes a problem+json; then the rest of the body is thrown away."""
        async with self.request_context(request) as context:
            try:
                response = await self._checked_answer(request, context.url_adapter)
            except ClientDisconnected:
                raise
            except Exception as error:
                response = self._refusal(request, error)
                request.routing_exception = None  # it holds these frames, and would be garbage that only gc finds
                request.exchange.answer.settle(length_of(response))
            await finish_body(request, response)
            return response

    async def _checked_answer(self, request: ApiRequest, adapter: MapAdapter | None) -> Response:
        """The checks in their order, and then the route. A stranger learns nothing of the routes."""
        rule = request.url_rule  # None: there is no such route, or it does not take the method
        route = None if rule is None else self._routes[rule.endpoint]
        # 1. Who may ask: the token and its scope, or a program on this machine.
        self._auth.judge(request, None if route is None else route.operation)
        # 2. What may be asked: the path, the method, OPTIONS, Accept, the query.
        response = check(request, None if route is None else route.terms, adapter)
        if response is not None:
            return response
        assert route is not None
        # 3. The route, which reads and checks the body.
        arguments = request.view_args or {}
        if route.operation.bodies:  # once its body is read it waits for nothing, or says so itself
            return await self._run(request, route, arguments)
        return await request.exchange.listening(partial(self._run, request, route, arguments))

    async def _run(self, request: ApiRequest, route: "Route", arguments: dict[str, Any]) -> Response:
        """The route's answer, which counts from here on. Where it has a body, the route itself asks for room."""
        answer, reads = request.exchange.answer, request.method in READING
        if not reads and not route.operation.bodies:
            answer.refuse_if_full()
        response = await route.view(**arguments)
        answer.settle(length_of(response), was_read=reads)
        if not reads and route.operation.scope is Scope.ADMIN:
            self._note_act(request, response)
        return response

    def _note_act(self, request: ApiRequest, response: Response) -> None:
        """Who did what an admin alone may do; the routes log what came of it."""
        self._services.log(
            "admin.acted",
            token=request.exchange.token_name,
            method=request.method,
            path=request.path,
            status=response.status_code,
        )

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

    def __init__(self, services: Services) -> None:
        super().__init__("hookd", static_folder=None)
        self.asgi_http_class = partial(  # type: ignore[assignment]
            RequestExchange,
            BodyBudget(services.effective),
            AnswerBudget(services.effective),
            Callers(services.effective),
        )
        self._services = services
        self._auth = Auth(services.effective, services.clock, services.log)
        self._routes: dict[str, Route] = {}

    def request_context(self, request: Any) -> Any:
        """Without a look for a session: there are none."""
        return REQUEST_CONTEXT(self, request=request, session=NullSession())

    async def do_teardown_request(self, *_: Any, **__: Any) -> None:
        """Nothing is torn down: see above."""

    async def do_teardown_appcontext(self, *_: Any, **__: Any) -> None:
        """Nothing is torn down."""

    def finish_routes(self) -> None:
        """To be called once all routes are there. Raises LookupError where a route has no operation."""
        for name, view in self.view_functions.items():
            operation = operation_of(view)
            self._routes[name] = Route(cast(View, view), operation, terms_of(operation))

    def create_url_adapter(self, request: Any) -> MapAdapter | None:
        """Matches the path and the method alone. Quart's takes the host apart too, which auth.py judges."""
        if request is None:
            return None
        return MapAdapter(self.url_map, "", "/", "", request.scheme, request.path, request.method)


View = Callable[..., Awaitable[Response]]


class Route(NamedTuple):
    view: View
    operation: Operation
    terms: RouteTerms


def create_app(services: Services) -> QuartTrio:
    """The application over these services."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), DEPTH_MAX + FRAMES))
    app = Api(services)
    refuse_redirects(app)
    for routes in ROUTES:
        app.register_blueprint(routes(services))
    add_openapi(app, services)
    app.finish_routes()
    return app


def _counted(services: Services, error: Refused) -> Response:
    services.ledger.counters.refused[error.slug] += 1
    services.housekeeping.quarter_hour.refusals.note(error, services.clock.now())
    return answer(error)


ROUTES = (
    admission_routes,
    event_routes,
    lookup_routes,
    sent_routes,
    client_routes,
    declaration_routes,
    endpoint_routes,
    replay_routes,
    cancel_routes,
    settlement_routes,
    notice_routes,
    status_routes,
    check_routes,
    metrics_routes,
    page_routes,
    problem_routes,
)
