"""Owns the routes of clients: register, replace, read, list, remove; and an operator's hand on an endpoint."""

from typing import Any

import msgspec
import trio
from quart import Blueprint, Response, request

from daemon.core.client import Client, ClientRules, Endpoint, InvalidClient, Mistake, client_from, is_id
from daemon.core.event import check_text
from daemon.core.refusal import InvalidDefinition, InvalidQuery, Malformed, NotFound
from daemon.edge.api.bodies import JSON, query_flag, read_body
from daemon.edge.api.operations import Scope, operation
from daemon.edge.api.queries import ClientsQuery, EndingQuery
from daemon.edge.api.services import Services
from daemon.edge.api.views import client_view, encode

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000
# Test attempts are outside the pacer's count: those that come while so many run wait for one to end.
TESTS_AT_ONCE_MAX = 16


def client_routes(services: Services) -> Blueprint:
    routes = Blueprint("clients", __name__)
    testing = trio.CapacityLimiter(TESTS_AT_ONCE_MAX)

    @routes.put("/v1/clients/<client_id>")
    @operation("Register or replace a client", scope=Scope.ADMIN, query=EndingQuery)
    async def put_client(client_id: str) -> Response:
        body = await read_body(services.live, JSON)
        end_unsettled = query_flag("end_unsettled")
        client, made = _define(services, client_id, _decode(body))
        is_new = services.registration.put(client, end_unsettled=end_unsettled)
        services.log(
            "client.registered",
            client_id=client_id,
            endpoints=[endpoint.id for endpoint in client.endpoints],
            replaced=not is_new,
        )
        return _json(client_view(services, client, secrets=made), 201 if is_new else 200)

    @routes.get("/v1/clients/<client_id>")
    @operation("One client with its counts and health", scope=Scope.READ)
    async def get_client(client_id: str) -> Response:
        return _json(client_view(services, services.registry.get(client_id)))

    @routes.delete("/v1/clients/<client_id>")
    @operation("Remove a client", scope=Scope.ADMIN, query=EndingQuery, answers={204: None})
    async def delete_client(client_id: str) -> Response:
        services.registration.remove(client_id, end_unsettled=query_flag("end_unsettled"))
        services.log("client.removed", client_id=client_id)
        return Response("", 204)

    @routes.get("/v1/clients")
    @operation("The registered clients", scope=Scope.READ, query=ClientsQuery)
    async def list_clients() -> Response:
        return _json(_page(services))

    @routes.post("/v1/clients/<client_id>/endpoints/<endpoint_id>/pause")
    @operation("Hold an endpoint: no attempts, no probes, no expiry", scope=Scope.ADMIN)
    async def pause_endpoint(client_id: str, endpoint_id: str) -> Response:
        client, _ = _find(services, client_id, endpoint_id)
        services.registration.pause(client_id, endpoint_id)
        return _json(client_view(services, client))

    @routes.post("/v1/clients/<client_id>/endpoints/<endpoint_id>/resume")
    @operation("End a pause of either kind, and `disabled`", scope=Scope.ADMIN)
    async def resume_endpoint(client_id: str, endpoint_id: str) -> Response:
        client, _ = _find(services, client_id, endpoint_id)
        services.registration.resume(client_id, endpoint_id)
        return _json(client_view(services, client))

    @routes.post("/v1/clients/<client_id>/endpoints/<endpoint_id>/test")
    @operation("Post one event of type hookd.test, outside all accounts", scope=Scope.ADMIN)
    async def test_endpoint(client_id: str, endpoint_id: str) -> Response:
        _, endpoint = _find(services, client_id, endpoint_id)
        async with testing:
            return _json(await services.attempter.test(client_id, endpoint))

    @routes.post("/v1/clients/<client_id>/endpoints/<endpoint_id>/rotate-secret")
    @operation("Make a new secret; both sign for a while", scope=Scope.ADMIN)
    async def rotate_secret(client_id: str, endpoint_id: str) -> Response:
        _find(services, client_id, endpoint_id)
        secret = services.new_secret()
        client = services.registration.rotate_secret(client_id, endpoint_id, secret)
        services.log("endpoint.secret_rotated", client_id=client_id, endpoint_id=endpoint_id)
        return _json(client_view(services, client, secrets={endpoint_id: secret}))

    return routes


def _find(services: Services, client_id: str, endpoint_id: str) -> tuple[Client, Endpoint]:
    """Raises UnknownClient or NotFound."""
    client = services.registry.get(client_id)
    endpoint = client.endpoint(endpoint_id)
    if endpoint is None:
        raise NotFound(f"client {client_id!r} has no endpoint {endpoint_id!r}")
    return client, endpoint


def _decode(body: bytes) -> object:
    check_text(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {error}") from None


def _define(services: Services, client_id: str, definition: object) -> tuple[Client, dict[str, str]]:
    """The client, and the secrets made for it here."""
    if not is_id(client_id):
        raise InvalidDefinition("a client's id is 1 to 64 of A-Z a-z 0-9 _ -", mistakes=[Mistake("", "id in the path")])
    settings = services.live.settings
    rules = ClientRules(
        allow_http=settings.egress.allow_http,
        endpoints_max=settings.registry.endpoints_max,
        headers_max=settings.registry.headers_max,
    )
    old = services.registry.find(client_id)
    kept = {} if old is None else {endpoint.id: endpoint.secret for endpoint in old.endpoints}
    fresh: list[str] = []

    def new_secret() -> str:
        fresh.append(services.new_secret())
        return fresh[-1]

    try:
        client = client_from(definition, client_id=client_id, rules=rules, new_secret=new_secret, secrets=kept)
    except InvalidClient as invalid:
        first = invalid.mistakes[0]
        detail = f"the client is not valid: {first.pointer or 'it'} {first.detail}"
        raise InvalidDefinition(detail, mistakes=invalid.mistakes) from None
    return client, {endpoint.id: endpoint.secret for endpoint in client.endpoints if endpoint.secret in fresh}


def _page(services: Services) -> dict[str, Any]:
    """In order of id; the cursor is the last id of the page before."""
    limit = request.args.get("limit", str(LIMIT_DEFAULT))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= LIMIT_MAX):
        raise InvalidQuery(f"limit must be 1 to {LIMIT_MAX}, not {limit!r}")
    cursor = request.args.get("cursor", "")
    if cursor and not is_id(cursor):
        raise InvalidQuery("the cursor is not one that this listing gave")
    ids = sorted(client.id for client in services.registry if client.id > cursor)
    page = ids[: int(limit)]
    return {
        "clients": [client_view(services, services.registry.get(client_id)) for client_id in page],
        "next_cursor": page[-1] if len(ids) > len(page) else None,
    }


def _json(view: object, status: int = 200) -> Response:
    return Response(encode(view), status, content_type=JSON)
