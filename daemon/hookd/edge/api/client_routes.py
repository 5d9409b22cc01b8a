"""Owns the routes of clients: register, replace, read, list, remove."""

from typing import Annotated

import msgspec
import trio
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.client import Client
from hookd.core.client_definition import ClientRules, InvalidClient, client_from
from hookd.core.client_schema import ClientDefinition, ShortDefinition
from hookd.core.event import check_text
from hookd.core.ids import Id, is_id
from hookd.core.mistakes import Mistake
from hookd.core.quoting import cut
from hookd.core.refusal import InvalidDefinition, Malformed, TooLarge
from hookd.edge.api.bodies import JSON, read_body
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.pages import Page
from hookd.edge.api.queries import query
from hookd.edge.api.rendering import client_view, json_response
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.schemas import LIMIT_DEFAULT, ClientPage, ClientView, Limit
from hookd.edge.api.services import Services
from hookd.edge.api.slices import OneATurn

EndUnsettled = Annotated[bool, Meta(description="Give up what is unsettled of the endpoints that go")]


# What one endpoint of a definition may take in the body. At its longest it has 260 values in 100 KiB. An empty object
# takes 3 bytes of a body and 72 of memory; a text with one letter beyond the basic plane takes four times its length.
ENDPOINT_BYTES_MAX = 256 * 1024
ENDPOINT_VALUES_MAX = 4096


class ChangeQuery(msgspec.Struct):
    end_unsettled: EndUnsettled = False


class ClientsQuery(msgspec.Struct):
    limit: Limit = LIMIT_DEFAULT
    cursor: Annotated[Id, Meta(description="The next_cursor of the page before")] | None = None


def client_routes(services: Services) -> Blueprint:
    routes = Blueprint("clients", __name__)
    one_at_a_time = trio.Lock()
    definitions = OneATurn()

    @routes.put("/v1/clients/<client_id>")
    @operation(
        "Register or replace a client",
        scope=Scope.ADMIN,
        bodies={JSON: (ClientDefinition, ShortDefinition)},
        query=ChangeQuery,
        answers={201: ClientView, 200: ClientView},
        problems=("managed-by-config", "unsettled-deliveries", "registry-full", "invalid-client", "draining"),
    )
    async def put_client(client_id: str) -> Response:
        endpoints_max = services.effective.settings.registry.endpoints_max
        body = await read_body(services.effective, JSON, bytes_max=endpoints_max * ENDPOINT_BYTES_MAX)
        async with definitions.turn():  # of 16 endpoints with 20 headers each: 4 ms
            _refuse_many_values(body, endpoints_max * ENDPOINT_VALUES_MAX)
            this_request().exchange.answer.refuse_if_full()
            client, made = _define(services, client_id, _decode(body))
            is_new = services.registration.put(client, end_unsettled=query(ChangeQuery).end_unsettled)
            services.log(
                "client.registered",
                client_id=client_id,
                endpoints=[endpoint.id for endpoint in client.endpoints],
                replaced=not is_new,
            )
            return json_response(client_view(services, client, secrets=made), 201 if is_new else 200)

    @routes.get("/v1/clients/<client_id>")
    @operation(
        "One client with its counts and health",
        scope=Scope.READ,
        answers={200: ClientView},
        problems=("unknown-client",),
    )
    async def get_client(client_id: str) -> Response:
        return json_response(client_view(services, services.registry.get(client_id)))

    @routes.delete("/v1/clients/<client_id>")
    @operation(
        "Remove a client",
        scope=Scope.ADMIN,
        query=ChangeQuery,
        answers={204: None},
        problems=("unknown-client", "managed-by-config", "unsettled-deliveries", "draining"),
    )
    async def delete_client(client_id: str) -> Response:
        services.registration.remove(client_id, end_unsettled=query(ChangeQuery).end_unsettled)
        services.log("client.removed", client_id=client_id)
        return Response("", 204)

    @routes.get("/v1/clients")
    @operation("The registered clients", scope=Scope.READ, query=ClientsQuery, answers={200: ClientPage})
    async def list_clients() -> Response:
        async with one_at_a_time:
            return json_response(await _page(services, query(ClientsQuery)))

    return routes


def _refuse_many_values(body: bytes, most: int) -> None:
    """Raises TooLarge before anything is built: commas and brackets are counted, those in texts as well."""
    count = body.count(b",") + body.count(b"[") + body.count(b"{")
    if count > most:
        raise TooLarge(
            f"the definition has {count:,} commas and brackets; as registry.endpoints_max is, at most {most:,} are read"
        )


def _decode(body: bytes) -> object:
    check_text(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {cut(str(error))}") from None


def _define(services: Services, client_id: str, definition: object) -> tuple[Client, dict[str, str]]:
    """The client, and the secrets that were made for it."""
    if not is_id(client_id):
        raise InvalidDefinition("a client's id is 1 to 64 of A-Z a-z 0-9 _ -", mistakes=[Mistake("", "id in the path")])
    settings = services.effective.settings
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


async def _page(services: Services, asked: ClientsQuery) -> ClientPage:
    """Ordered by id; the cursor is the last id of the page before. One that is removed meanwhile is left out."""
    after = asked.cursor or ""
    ids = sorted(client.id for client in services.registry if client.id > after)
    page = Page[ClientView](this_request().exchange.answer)
    last = after
    for client_id in ids[: asked.limit]:
        client = services.registry.find(client_id)
        if client is not None and not await page.add(client_view(services, client)):
            break
        last = client_id
    return ClientPage(clients=page.rows, next_cursor=last if ids and last != ids[-1] else None)
