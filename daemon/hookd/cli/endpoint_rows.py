"""Owns the endpoints' rows of `hookd status`: their order, how many are shown, and how.

Those that need someone come first: disabled, paused, throttled, failing or with a last attempt that failed; then those
with the oldest unsettled delivery. Failing is what the health calls so: for 30 s at least, and by two attempts.
At most 20 endpoints are shown.
"""

import heapq
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from hookd.cli.api_client import Remote
from hookd.cli.terminal import COLUMNS_MAX, clip, span

ROWS_MAX = 20
NAME_COLUMNS_MIN, NAME_COLUMNS_MAX = 12, 30
ROW_COLUMNS = 64  # the rest of a row, its last failure with 16
PAGE = 500  # clients: a page is 10 to 20 ms of the daemon's loop
URGENCY = {"disabled": 0, "paused": 1, "throttled": 2}
FAILING, WAITING, WELL = 3, 4, 5
# In 16 columns there is room for the reason alone, or every failure to connect reads the same.
CONNECTING = re.compile(r"^cannot connect: (?:[0-9a-fA-F.:]+: )?")


class Row(NamedTuple):
    """One endpoint."""

    client_id: str
    endpoint_id: str
    health: dict[str, Any]
    at: str = ""  # which daemon's, among several

    @property
    def urgency(self) -> int:
        if self.health["state"] in URGENCY:
            return URGENCY[self.health["state"]]
        if self.health["consecutive_failures"]:
            return FAILING
        return WAITING if self.health["unsettled"] else WELL

    @property
    def order(self) -> tuple[int, float, str, str]:
        oldest_first = -(self.health["oldest_unsettled_seconds"] or 0)
        return self.urgency, oldest_first, self.client_id, self.endpoint_id


class Found(NamedTuple):
    """`rows` are the first of `endpoints`, of which `needy` are worse than waiting."""

    rows: list[Row]
    endpoints: int
    needy: int

    def to_json(self) -> list[dict[str, Any]]:
        """Those that need someone."""
        return [
            {"client_id": row.client_id, "endpoint_id": row.endpoint_id, **({"daemon": row.at} if row.at else {})}
            | row.health
            for row in self.rows
            if row.urgency < WAITING
        ]


def first_rows(rows: Iterable[Row]) -> Found:
    """As many as are shown, of all of them."""
    endpoints = needy = 0

    def counted() -> Iterator[Row]:
        nonlocal endpoints, needy
        for row in rows:
            endpoints += 1
            needy += row.urgency < WAITING
            yield row

    return Found(heapq.nsmallest(ROWS_MAX, counted(), key=lambda row: row.order), endpoints, needy)


def rows_of(client: dict[str, Any]) -> Iterator[Row]:
    for endpoint in client["endpoints"]:
        yield Row(client["id"], endpoint["id"], endpoint["health"])


def clients(remote: Remote) -> Iterator[dict[str, Any]]:
    """All of them, a page at a time. Raises Unreachable or Refusal."""
    cursor = ""
    while True:
        page = remote.get(f"/v1/clients?limit={PAGE}{cursor}").taken("clients", "next_cursor")
        yield from page["clients"]
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={page['next_cursor']}"


def table(found: Found, columns: int = COLUMNS_MAX) -> list[str]:
    """For people, with a blank line before it. What a narrow terminal lacks is taken from the names."""
    if not found.rows:
        return ["", "no clients are registered"]
    named = max(NAME_COLUMNS_MIN, min(NAME_COLUMNS_MAX, columns - ROW_COLUMNS))
    head = ("client/endpoint", "state", "unsettled", "in flight", "oldest", "last failure")
    lines = ["", "{:<{named}} {:<16} {:>9} {:>9} {:>8}  {}".format(*head, named=named)]
    for row in found.rows:
        health = row.health
        name = clip(f"{row.client_id}/{row.endpoint_id}{row.at and f' at {row.at}'}", named)
        oldest = shown_age(health["oldest_unsettled_seconds"])
        counts = f"{health['unsettled']:>9,} {health['in_flight']:>9,} {oldest:>8}"
        lines.append(f"{name:<{named}} {_state(row):<16} {counts}  {_last_failure(health)}".rstrip())
    hidden = found.endpoints - len(found.rows)
    if hidden:
        needy = max(0, found.needy - len(found.rows))
        lines.append(f"and {hidden:,} more" + (f", of which {needy:,} need attention" if needy else ""))
    return lines


def _state(row: Row) -> str:
    if row.urgency == FAILING:
        return "failing" if row.health["failing"] else f"ok, {row.health['consecutive_failures']:,} failed"
    if row.health["paused_by"] is not None and row.health["state"] == "paused":
        return f"paused: {row.health['paused_by']}"
    return str(row.health["state"])


def _last_failure(health: dict[str, Any]) -> str:
    last = health["last_outcome"]
    if last is None or (last["status_code"] is not None and last["status_code"] < 300):
        return ""
    return f"answered {last['status_code']}" if last["error"] is None else CONNECTING.sub("", last["error"])


def shown_age(seconds: float | None) -> str:
    return "-" if seconds is None else span(seconds)
