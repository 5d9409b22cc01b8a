"""Owns the route that declares the whole registry: its body, read in slices, and its answer.

Rules: nothing is registered before every definition is read, and each mistake is told with its pointer. No other long
body is taken apart meanwhile. Whoever hangs up once the body is here has it carried out all the same.
Limits: `intake.body_bytes_max`; `registry.clients_max` definitions, each no larger than that of a single PUT, together
BODY_MULTIPLE times `body_bytes_max` of memory until they are registered.
"""

import re
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.batch import BYTES_AT_ONCE, Span, array_spans
from hookd.core.client import Client
from hookd.core.client_schema import EndpointDefinition, Secret, Url
from hookd.core.event import mistake_of
from hookd.core.ids import is_id
from hookd.core.mistakes import Mistake
from hookd.core.quoting import cut
from hookd.core.refusal import Forbidden, InvalidDefinition, Malformed, RegistryFull, TooLarge
from hookd.core.text_check import text_checks
from hookd.core.units import format_size
from hookd.edge.api.bodies import JSON, read_body
from hookd.edge.api.body_budget import BODY_MULTIPLE
from hookd.edge.api.definitions import ENDPOINT_BYTES_MAX, Definitions
from hookd.edge.api.held_tokens import held_clients, refuse_other_clients
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.queries import query
from hookd.edge.api.rendering import json_response
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.schemas import ClientId, EndUnsettled
from hookd.edge.api.services import Services
from hookd.edge.api.slices import Slices
from hookd.flow.declaration import Change, ChangeName

MISTAKES_MAX = 100  # further ones are not looked for: each costs its definition
DEFINITIONS_AT_ONCE = 20


class DeclaredDefinition(msgspec.Struct, forbid_unknown_fields=True):
    """A client with its id: with endpoints, or in the short form."""

    id: ClientId
    endpoints: Annotated[list[EndpointDefinition], Meta(min_length=1)] | None = None
    url: Url | None = None
    secret: Secret | None = None


class DeclarationBody(msgspec.Struct, forbid_unknown_fields=True):
    clients: Annotated[list[DeclaredDefinition], Meta(description="At most registry.clients_max; their ids are unique")]


class DeclarationQuery(msgspec.Struct):
    prune: Annotated[bool, Meta(description="Remove what the API registered and the list lacks")] = False
    end_unsettled: EndUnsettled = False


class DeclaredView(msgspec.Struct):
    id: ClientId
    change: Annotated[ChangeName, Meta(description="registered: it is new")]
    secrets: Annotated[dict[str, str], Meta(description="By endpoint: those that this call made")]


class DeclarationAnswer(msgspec.Struct):
    clients: Annotated[list[DeclaredView], Meta(description="In the order of the list")]
    removed: list[ClientId]


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    clients: msgspec.Raw


_decoder = msgspec.json.Decoder(_Body)
_BEGIN = re.compile(rb'[ \t\n\r]{0,99}\{[ \t\n\r]{0,99}"clients"[ \t\n\r]{0,99}:[ \t\n\r]{0,99}(?=\[)')


def declaration_routes(services: Services) -> Blueprint:
    routes = Blueprint("declaration", __name__)

    @routes.put("/v1/clients")
    @operation(
        "Declare all clients: all of them are registered or none",
        scope=Scope.REGISTER,
        bodies={JSON: DeclarationBody},
        query=DeclarationQuery,
        answers={200: DeclarationAnswer},
        problems=("managed-by-config", "unsettled-deliveries", "registry-full", "invalid-client", "draining"),
        names_clients=True,
    )
    async def declare() -> Response:
        asked = query(DeclarationQuery)
        if asked.prune and held_clients() is not None:
            raise Forbidden("prune speaks of the whole registry, and this token is held to certain clients")
        body = await read_body(services.effective, JSON)
        async with this_request().exchange.body.long_bodies:
            reading = _Reading(services)
            await reading.read(body)
            refuse_other_clients(reading.clients)
            this_request().exchange.answer.refuse_if_full()
            changes = await services.declaration.declare(
                reading.clients, prune=asked.prune, end_unsettled=asked.end_unsettled
            )
            return json_response(_view(changes, reading.secrets))

    return routes


class _Reading:
    """The definitions of one body, one after the other."""

    def __init__(self, services: Services) -> None:
        self.clients: dict[str, Client] = {}
        self.secrets: dict[str, dict[str, str]] = {}  # made for these clients
        self._definitions = Definitions(services)
        self._registry = services.effective.settings.registry
        self._room_bytes = BODY_MULTIPLE * services.effective.settings.intake.body_bytes_max
        self._mistakes: list[Mistake] = []

    async def read(self, body: bytes) -> None:
        """Raises InvalidDefinition, Malformed, TooLarge or RegistryFull."""
        slices, checked = Slices(steps_at_once=DEFINITIONS_AT_ONCE), 0
        for came in text_checks(body):
            await slices.did(came - checked)
            checked = came
        for index, (begin, end) in enumerate(_definition_spans(body)):
            if index == self._registry.clients_max:
                raise RegistryFull(f"more than {index:,} clients would be registered, which is registry.clients_max")
            await self._read_one(f"/clients/{index}", body[begin:end])
            await slices.did(end - begin)
            if len(self._mistakes) >= MISTAKES_MAX:
                break
        if self._mistakes:
            first = self._mistakes[0]
            raise InvalidDefinition(
                f"nothing was registered: {first.pointer} {first.detail}", mistakes=self._mistakes[:MISTAKES_MAX]
            )

    async def _read_one(self, at: str, text: bytes) -> None:
        most = self._registry.endpoints_max * ENDPOINT_BYTES_MAX
        if len(text) > most:
            raise TooLarge(f"{at} is larger than {format_size(most)}, what one client's definition may take")
        definition = self._definitions.decode(text)
        client_id = definition.pop("id", None) if isinstance(definition, dict) else None
        if not isinstance(client_id, str) or not is_id(client_id):
            detail = "must be an object with an id, of 1 to 64 of A-Z a-z 0-9 _ -, and with endpoints"
            self._mistakes.append(Mistake(at, detail))
        elif client_id in self.clients:
            self._mistakes.append(Mistake(f"{at}/id", f"client {client_id!r} stands in the list already"))
        else:
            await self._define(at, client_id, definition)

    async def _define(self, at: str, client_id: str, definition: object) -> None:
        try:
            await self._definitions.prove(client_id, definition)
            self.clients[client_id], made = self._definitions.define(client_id, definition)
        except InvalidDefinition as invalid:
            self._mistakes += [Mistake(at + pointer, detail) for pointer, detail in invalid.mistakes]
        else:
            if made:
                self.secrets[client_id] = made
            self._room_bytes -= self.clients[client_id].definition_bytes
            if self._room_bytes < 0:
                detail = f"these definitions take over {BODY_MULTIPLE} times intake.body_bytes_max of memory"
                raise TooLarge(f"{detail}; PUT the clients one by one")


def _definition_spans(body: bytes) -> Iterator[Span]:
    """From where to where each definition lies, one at a time. Raises Malformed, InvalidDefinition or TooLarge.

    A long body is taken apart where its array begins: to decode 16 MiB of `[0,0…` takes 70 ms in one step.
    """
    begun = _BEGIN.match(body) if len(body) > BYTES_AT_ONCE else None
    if begun is not None:
        return array_spans(body, begun.end(), behind=b"}")
    try:
        array = bytes(_decoder.decode(body).clients)
    except msgspec.ValidationError as error:
        mistake = mistake_of(str(error), "", of="a declaration")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {cut(str(error))}") from None
    else:
        if array.startswith(b"["):
            return array_spans(body, body.index(array), behind=b"}")
        mistake = Mistake("/clients", "must be an array of clients")
    raise InvalidDefinition(f"nothing was registered: {mistake.pointer or 'it'} {mistake.detail}", mistakes=[mistake])


def _view(changes: list[Change], secrets: dict[str, dict[str, str]]) -> DeclarationAnswer:
    declared = [
        DeclaredView(change.client_id, change.name, secrets.get(change.client_id, {}))
        for change in changes
        if change.after is not None
    ]
    return DeclarationAnswer(declared, [change.client_id for change in changes if change.after is None])
