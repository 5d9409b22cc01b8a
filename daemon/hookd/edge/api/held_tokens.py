"""Owns which clients a request may speak of: all of them, or those that its token is held to.

A token with `clients` sees and changes those alone (contract section 5). Where the client stands in the path, auth.py
judges it before the route runs. Where clients stand in a query or a body, the route's operation says `names_clients`,
and the route asks here. Every other route speaks of the whole daemon, and refuses such a token.
"""

from collections.abc import Iterable

from hookd.core.quoting import quoted
from hookd.core.refusal import Forbidden
from hookd.edge.api.request_exchange import this_request


def held_clients() -> frozenset[str] | None:
    """Those that this request's token is held to; None: it is held to none."""
    return this_request().exchange.clients


def refuse_other_clients(named: Iterable[str]) -> None:
    """Raises Forbidden where one of them is not the token's."""
    held = held_clients()
    if held is None:
        return
    for client_id in named:
        if client_id not in held:
            raise not_held(client_id)


def refuse_whole(where: str) -> None:
    """Raises Forbidden for a token that is held to clients: nothing was named. `where`: how to name them."""
    if held_clients() is not None:
        raise Forbidden(f"this token is held to certain clients; name them by {where}")


def not_held(client_id: str) -> Forbidden:
    return Forbidden(f"this token is held to certain clients, and {quoted(client_id)} is none of them")
