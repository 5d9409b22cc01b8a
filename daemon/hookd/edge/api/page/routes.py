"""Owns the page's routes: the overview, an endpoint, an event, and what the search box asks for.

Rules: where tokens are configured, a browser without one gets the shell: the same page without any data, which asks for
a token and then for itself. What is not found is a problem as for any route; a browser gets it as a page.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
import trio
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.refusal import NotFound, Refused, UnknownClient, UnknownEvent
from hookd.core.situation import Ailment
from hookd.edge.api.event_routes import find_event
from hookd.edge.api.negotiation import names
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.page.details import endpoint_page, event_page
from hookd.edge.api.page.document import HTML, Document
from hookd.edge.api.page.overview import Overview
from hookd.edge.api.page.visit import Visit
from hookd.edge.api.problems import PROBLEMS
from hookd.edge.api.queries import query
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.services import Services
from hookd.flow.rounds import Rounds, Wanted

# No CLIENT/EVENT is longer; what is typed beyond finds nothing.
NAME_CHARACTERS_MAX = 129
CLIENTS_MAX = 100


class OverviewQuery(msgspec.Struct):
    state: Annotated[Ailment, Meta(description="Only endpoints that this ails")] | None = None
    name: Annotated[str, Meta(description="Only endpoints with this in CLIENT/ENDPOINT")] = ""


class FindQuery(msgspec.Struct):
    name: Annotated[str, Meta(description="CLIENT, EVENT, CLIENT/EVENT or CLIENT/ENDPOINT")] = ""


def page_routes(services: Services) -> Blueprint:
    routes = Blueprint("page", __name__)
    document = Document()
    rounds = Rounds(
        effective=services.effective,
        ledger=services.ledger,
        registry=services.registry,
        dispatch=services.dispatch,
        clock=services.clock,
    )
    overview = Overview(services, rounds)
    one_at_a_time = trio.Lock()  # each looks through all of a client's events; many at once were one turn of 0.7 s

    @routes.get("/")
    @operation("The status page", scope=Scope.READ, query=OverviewQuery, answers={200: HTML}, has_shell=True)
    async def get_page() -> Response:
        visit = Visit.of(services, root="")
        if visit.is_stranger:
            return document.page("shell.html", visit=visit)
        asked = query(OverviewQuery)
        values = await overview.look(Wanted(asked.state, asked.name[:NAME_CHARACTERS_MAX]))
        return document.page("overview.html", visit=visit, **values)

    async def page_of_one(template: str, read: Callable[[Visit], Awaitable[dict[str, Any]]]) -> Response:
        """Of an endpoint or an event; where it is not there, a page that says so."""
        visit = Visit.of(services, root="../../../")
        if visit.is_stranger:
            return document.page("shell.html", visit=visit)
        try:
            values = await read(visit)
        except (UnknownClient, UnknownEvent, NotFound) as refused:
            return _absent(document, visit, refused)
        return document.page(template, visit=visit, **values)

    @routes.get("/clients/<client_id>/endpoints/<endpoint_id>")
    @operation(
        "An endpoint's page",
        scope=Scope.READ,
        answers={200: HTML, 404: HTML},
        problems=("unknown-client", "not-found"),
        has_shell=True,
    )
    async def get_endpoint_page(client_id: str, endpoint_id: str) -> Response:
        async def read(visit: Visit) -> dict[str, Any]:
            async with one_at_a_time:
                return await endpoint_page(services, overview, visit, client_id, endpoint_id)

        return await page_of_one("endpoint.html", read)

    @routes.get("/clients/<client_id>/events/<event_id>")
    @operation(
        "An event's page",
        scope=Scope.READ,
        answers={200: HTML, 404: HTML},
        problems=("unknown-client", "unknown-event"),
        has_shell=True,
    )
    async def get_event_page(client_id: str, event_id: str) -> Response:
        async def read(visit: Visit) -> dict[str, Any]:
            return event_page(services, visit, find_event(services, client_id, event_id))

        return await page_of_one("event.html", read)

    @routes.get("/find")
    @operation(
        "What a client's or an event's id names, as a page",
        scope=Scope.READ,
        query=FindQuery,
        answers={200: HTML},
        has_shell=True,
    )
    async def find_page() -> Response:
        visit = Visit.of(services, root="")
        if visit.is_stranger:
            return document.page("shell.html", visit=visit)
        return _found(document, services, visit, query(FindQuery).name[:NAME_CHARACTERS_MAX])

    return routes


def _found(document: Document, services: Services, visit: Visit, name: str) -> Response:
    """The event's page where `name` names one event and nothing else; otherwise links to all that it names."""
    first, slash, second = name.partition("/")
    if slash:
        event = services.ledger.find(first, second)
        events = [] if event is None else [event]
        client, endpoint = None, services.registry.endpoint(first, second) if first and second else None
    else:
        events = list(services.ledger.find_everywhere(name)) if name else []
        client, endpoint = services.registry.find(name), None
    if len(events) == 1 and client is None and endpoint is None:
        return document.page("event.html", visit=visit, **event_page(services, visit, events[0]))
    named = sorted(event.client_id for event in events)
    return document.page(
        "found.html", visit=visit, name=name, client=client, endpoint=endpoint, event_clients=named[:CLIENTS_MAX]
    )


def _absent(document: Document, visit: Visit, refused: Refused) -> Response:
    """A page for browsers, which name HTML in `Accept`. For others it raises what it was given."""
    if not names(this_request(), "text/html"):
        raise refused
    problem = PROBLEMS[refused.slug]
    return document.page("absent.html", problem.status, visit=visit, title=problem.title, detail=refused.detail)
