"""Owns which query parameters the routes take: one struct for each set of them, a field for each parameter.

Rule: what is not a field is refused for every route alike, in semantics.py; the values are read where they are used.
"""

import msgspec


class BatchQuery(msgspec.Struct, frozen=True):
    partial: bool = False


class EndingQuery(msgspec.Struct, frozen=True):
    end_unsettled: bool = False


class ClientsQuery(msgspec.Struct, frozen=True):
    limit: int = 100
    cursor: str | None = None


class EventsQuery(msgspec.Struct, frozen=True):
    client_id: str | None = None
    status: str | None = None
    type: str | None = None
    limit: int = 100
    cursor: str | None = None
