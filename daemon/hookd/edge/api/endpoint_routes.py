"""Owns the routes of one endpoint: what an operator can do to it."""

import trio
from quart import Blueprint, Response

from hookd.core.client import Client, Endpoint
from hookd.core.quoting import quoted
from hookd.core.refusal import NotFound
from hookd.core.report import AttemptView
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.rendering import client_view, json_response
from hookd.edge.api.schemas import ClientView
from hookd.edge.api.services import Services

# The pacer does not count test attempts. While so many run, the next one waits for one to end.
TESTS_AT_ONCE_MAX = 16


def endpoint_routes(services: Services) -> Blueprint:
    routes = Blueprint("endpoints", __name__)
    testing = trio.CapacityLimiter(TESTS_AT_ONCE_MAX)

    @routes.post("/v1/clients/<client_id>/endpoints/<endpoint_id>/pause")
    @operation(
        "Hold an endpoint: no attempts, no probes, no expiry",
        scope=Scope.ADMIN,
        answers={200: ClientView},
        problems=("unknown-client", "not-found"),
    )
    async def pause_endpoint(client_id: str, endpoint_id: str) -> Response:
        client, _ = _find(services, client_id, endpoint_id)
        services.registration.pause(client_id, endpoint_id)
        return json_response(client_view(services, client))

    @routes.post("/v1/clients/<client_id>/endpoints/<endpoint_id>/resume")
    @operation(
        "End a pause of either kind, and `disabled`",
        scope=Scope.ADMIN,
        answers={200: ClientView},
        problems=("unknown-client", "not-found"),
    )
    async def resume_endpoint(client_id: str, endpoint_id: str) -> Response:
        client, _ = _find(services, client_id, endpoint_id)
        services.registration.resume(client_id, endpoint_id)
        return json_response(client_view(services, client))

    @routes.post("/v1/clients/<client_id>/endpoints/<endpoint_id>/test")
    @operation(
        "Post one event of type hookd.test, outside all accounts",
        scope=Scope.ADMIN,
        answers={200: AttemptView},
        problems=("unknown-client", "not-found"),
    )
    async def test_endpoint(client_id: str, endpoint_id: str) -> Response:
        _, endpoint = _find(services, client_id, endpoint_id)
        async with testing:
            return json_response(await services.attempter.test(client_id, endpoint))

    @routes.post("/v1/clients/<client_id>/endpoints/<endpoint_id>/rotate-secret")
    @operation(
        "Make a new secret; both sign for a while",
        scope=Scope.ADMIN,
        answers={200: ClientView},
        problems=("unknown-client", "not-found", "managed-by-config", "draining"),
    )
    async def rotate_secret(client_id: str, endpoint_id: str) -> Response:
        _find(services, client_id, endpoint_id)
        secret = services.new_secret()
        client = services.registration.rotate_secret(client_id, endpoint_id, secret)
        services.log("endpoint.secret_rotated", client_id=client_id, endpoint_id=endpoint_id)
        return json_response(client_view(services, client, secrets={endpoint_id: secret}))

    return routes


def _find(services: Services, client_id: str, endpoint_id: str) -> tuple[Client, Endpoint]:
    """Raises UnknownClient or NotFound."""
    client = services.registry.get(client_id)
    endpoint = client.endpoint(endpoint_id)
    if endpoint is None:
        raise NotFound(f"client {client_id!r} has no endpoint {quoted(endpoint_id)}")
    return client, endpoint
