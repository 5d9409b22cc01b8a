"""Owns `GET /v1/status`: the daemon's totals."""

from quart import Blueprint, Response

from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.rendering import json_response, status_view
from hookd.edge.api.schemas import StatusView
from hookd.edge.api.services import Services


def status_routes(services: Services) -> Blueprint:
    routes = Blueprint("status", __name__)

    @routes.get("/v1/status")
    @operation("The daemon's totals", scope=Scope.READ, answers={200: StatusView})
    async def get_status() -> Response:
        return json_response(status_view(services, await services.gauge_collector.take()))

    return routes
