"""Owns the routes of one endpoint: what an operator can do to it."""

import re

import msgspec
import trio
from quart import Blueprint, Response

from hookd.core.client import Client, Endpoint
from hookd.core.client_schema import SECRET_PATTERN, Secret
from hookd.core.report import AttemptView
from hookd.edge.api.action_bodies import Action, read_action
from hookd.edge.api.bodies import JSON
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.rendering import client_view, json_response
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.schemas import ClientView
from hookd.edge.api.services import Services

# The pacer does not count test attempts. While so many run, the next one waits for one to end.
TESTS_AT_ONCE_MAX = 16

_ROTATION = Action("a rotation", "this is no rotation", "without a body a secret is made")


class RotateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The secret to sign with from now on; without it one is made."""

    secret: Secret | None = None


_decoder = msgspec.json.Decoder(RotateBody)


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
        "Make a new secret, or take the one given; the one before signs too for a while",
        scope=Scope.ADMIN,
        bodies={JSON: RotateBody},
        is_body_optional=True,
        answers={200: ClientView},
        problems=("unknown-client", "not-found", "managed-by-config", "draining"),
    )
    async def rotate_secret(client_id: str, endpoint_id: str) -> Response:
        _find(services, client_id, endpoint_id)
        given = await _given_secret(services)
        this_request().exchange.answer.refuse_if_full()
        secret = given or services.new_secret()
        client = services.registration.rotate_secret(client_id, endpoint_id, secret)
        services.log("endpoint.secret_rotated", client_id=client_id, endpoint_id=endpoint_id)
        return json_response(client_view(services, client, secrets=None if given else {endpoint_id: secret}))

    return routes


async def _given_secret(services: Services) -> str | None:
    """The secret in the body; None where there is no body, or none in it. Raises what `read_action` raises."""
    secret = (await read_action(services.effective, _ROTATION, _decoder, without=RotateBody())).secret
    if secret is not None and not re.fullmatch(SECRET_PATTERN, secret):
        raise _ROTATION.refusal("/secret", "must be whsec_ and then 24 to 64 bytes in base64")
    return secret


def _find(services: Services, client_id: str, endpoint_id: str) -> tuple[Client, Endpoint]:
    """Raises UnknownClient or NotFound."""
    return services.registry.get(client_id), services.registry.get_endpoint(client_id, endpoint_id)
