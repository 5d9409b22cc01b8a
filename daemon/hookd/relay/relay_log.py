"""Owns the lines that the relay logs of its clients and entries: each trouble when it begins, not each time.

Limits: CLIENTS_MAX clients whose last trouble is remembered.
"""

from collections.abc import Callable

from hookd.core.quoting import cut
from hookd.relay.parking import Lane, Reason

CLIENTS_MAX = 10_000


class RelayLog:
    """`write` is the log's own: an event's name, its level and fields."""

    def __init__(self, write: Callable[..., None]) -> None:
        self._write = write
        self._said: dict[str, Reason] = {}

    def __call__(self, event: str, *, level: str = "info", **fields: object) -> None:
        self._write(event, level=level, **fields)

    def parked(self, lane: Lane, reason: Reason, detail: str) -> None:
        """Once for each reason in a row."""
        if lane.reason is None:
            self._said.pop(lane.client_id, None)
        if self._said.get(lane.client_id) is reason:
            return
        if len(self._said) >= CLIENTS_MAX:
            self._said.clear()
        self._said[lane.client_id] = reason
        self._write("relay.parked", level="warning", client_id=lane.client_id, reason=reason.value, detail=cut(detail))

    def refused(self, client_id: str, event_id: str, problem: str, detail: str) -> None:
        self._write(
            "relay.refused",
            level="warning",
            client_id=cut(client_id),
            event_id=cut(event_id),
            problem=problem,
            detail=cut(detail),
        )
