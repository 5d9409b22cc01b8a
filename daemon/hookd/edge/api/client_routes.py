"""Owns the routes of clients: register, replace, read, list, remove."""

from typing import Annotated

import msgspec
import trio
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.client_schema import ClientDefinition, ShortDefinition
from hookd.core.ids import Id
from hookd.edge.api.bodies import JSON, read_body
from hookd.edge.api.definitions import ENDPOINT_BYTES_MAX, Definitions
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.pages import Page
from hookd.edge.api.queries import query
from hookd.edge.api.rendering import client_view, json_response
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.schemas import LIMIT_DEFAULT, ClientPage, ClientView, EndUnsettled, Limit
from hookd.edge.api.services import Services
from hookd.edge.api.slices import OneATurn


class ChangeQuery(msgspec.Struct):
    end_unsettled: EndUnsettled = False


class ClientsQuery(msgspec.Struct):
    limit: Limit = LIMIT_DEFAULT
    cursor: Annotated[Id, Meta(description="The next_cursor of the page before")] | None = None


def client_routes(services: Services) -> Blueprint:
    routes = Blueprint("clients", __name__)
    one_at_a_time = trio.Lock()
    reading = OneATurn()
    definitions = Definitions(services)

    @routes.put("/v1/clients/<client_id>")
    @operation(
        "Register or replace a client",
        scope=Scope.REGISTER,
        bodies={JSON: (ClientDefinition, ShortDefinition)},
        query=ChangeQuery,
        answers={201: ClientView, 200: ClientView},
        problems=("managed-by-config", "unsettled-deliveries", "registry-full", "invalid-client", "draining"),
    )
    async def put_client(client_id: str) -> Response:
        endpoints_max = services.effective.settings.registry.endpoints_max
        body = await read_body(services.effective, JSON, bytes_max=endpoints_max * ENDPOINT_BYTES_MAX)
        async with reading.turn():  # of 16 endpoints with 20 headers each: 4 ms
            definition = definitions.decode(body)
            await definitions.prove(client_id, definition)
            this_request().exchange.answer.refuse_if_full()
            client, made = definitions.define(client_id, definition)
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
        scope=Scope.REGISTER,
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
