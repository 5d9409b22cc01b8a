"""Owns which clients have the largest backlogs: the few of all that `/metrics` names.

Whoever looks at every client shows each to it in turn, as slowly as others need. It keeps the largest so far.
Limits: `CLIENTS_MAX` clients, about 3 kB, however many are looked at; a look takes a microsecond.
"""

import heapq
from typing import NamedTuple

# As many are named at a time, whatever is registered. A dashboard has room for no more.
CLIENTS_MAX = 20


class Backlog(NamedTuple):
    """What of the budget a client's unsettled events take. The more events the larger; then by bytes."""

    events: int
    bytes: int
    client_id: str


class LargestBacklogs:
    def __init__(self) -> None:
        self._smallest_first: list[Backlog] = []

    def look(self, client_id: str, events: int, backlog_bytes: int) -> None:
        """At a client that was not looked at before; one without a backlog is none of them."""
        kept = self._smallest_first
        if len(kept) < CLIENTS_MAX:
            if events:
                heapq.heappush(kept, Backlog(events, backlog_bytes, client_id))
        elif events > kept[0].events or (events == kept[0].events and backlog_bytes > kept[0].bytes):
            heapq.heappushpop(kept, Backlog(events, backlog_bytes, client_id))

    def found(self) -> list[Backlog]:
        """The largest first."""
        return sorted(self._smallest_first, reverse=True)
