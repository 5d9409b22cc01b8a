"""Owns the routes of one endpoint: what an operator can do to it."""

import re

import msgspec
import trio
from quart import Blueprint, Response

from hookd.core.client import Client, Endpoint
from hookd.core.client_schema import SECRET_PATTERN, Secret
from hookd.core.event import mistake_of
from hookd.core.mistakes import Mistake
from hookd.core.quoting import cut, quoted
from hookd.core.refusal import InvalidQuery, Malformed, NotFound
from hookd.core.report import AttemptView
from hookd.core.text_check import check_text
from hookd.edge.api.bodies import JSON, has_body, read_body
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.rendering import client_view, json_response
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.schemas import ClientView
from hookd.edge.api.services import Services

# The pacer does not count test attempts. While so many run, the next one waits for one to end.
TESTS_AT_ONCE_MAX = 16
# One secret.
ROTATE_BYTES_MAX = 64 * 1024


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
    """The secret in the body; None where there is no body, or none in it. Raises what `read_body` raises, and Malformed
    or InvalidQuery."""
    if not has_body():
        return None
    body = await read_body(services.effective, JSON, bytes_max=ROTATE_BYTES_MAX)
    check_text(body)
    try:
        secret = _decoder.decode(body).secret
    except msgspec.ValidationError as error:
        mistake = mistake_of(str(error), "", of="a rotation")
        detail = f"this is no rotation: {mistake.pointer or 'it'} {mistake.detail}"
        raise InvalidQuery(detail, mistakes=[mistake]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {cut(str(error))}; without a body a secret is made") from None
    if secret is not None and not re.fullmatch(SECRET_PATTERN, secret):
        mistake = Mistake("/secret", "must be whsec_ and then 24 to 64 bytes in base64")
        raise InvalidQuery(f"this is no rotation: /secret {mistake.detail}", mistakes=[mistake])
    return secret


def _find(services: Services, client_id: str, endpoint_id: str) -> tuple[Client, Endpoint]:
    """Raises UnknownClient or NotFound."""
    client = services.registry.get(client_id)
    endpoint = client.endpoint(endpoint_id)
    if endpoint is None:
        raise NotFound(f"client {client_id!r} has no endpoint {quoted(endpoint_id)}")
    return client, endpoint
