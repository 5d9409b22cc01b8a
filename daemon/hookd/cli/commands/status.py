"""Owns `hookd status`: the daemon's totals and its clients on one screen, once or again and again.

The clients that need someone come first: disabled, paused, throttled, failing; then those with the oldest unsettled
delivery. At most 20 endpoints are shown. A long list is work for the daemon too. So watching rests four times as long
as the last reading took, and a second at least.
"""

import heapq
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from hookd.cli.api_client import Remote, Unreachable
from hookd.cli.failures import asking
from hookd.cli.options import json_option, token_option, url_option
from hookd.cli.terminal import clip, json_text, screen_size, span
from hookd.core.plurals import counted
from hookd.core.printable import printable
from hookd.core.units import approximate_size

ROWS_MAX = 20
PAGE = 500  # clients: a page is 10 to 20 ms of the daemon's loop
WATCH_EVERY_SECONDS = 1.0
STATUS_SECONDS_MAX = 5.0  # for each answer; who watches should see soon that none comes
REST_FACTOR = 4
STATUSES = ("pending", "failed", "delivered", "exhausted")
URGENCY = {"disabled": 0, "paused": 1, "throttled": 2}
FAILING, WAITING, WELL = 3, 4, 5
CLEAR, HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"


@click.command()
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
@url_option
@token_option
@json_option
def status(watch: bool, url: str | None, token_file: str | None, as_json: bool) -> None:
    """The totals, and the clients that need someone first."""
    with asking():
        remote = Remote.named(url, token_file, timeout_seconds=STATUS_SECONDS_MAX)
        (keep_showing if watch else show)(remote, as_json=as_json)


class Row(NamedTuple):
    """One endpoint."""

    client_id: str
    endpoint_id: str
    health: dict[str, Any]

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


class Overview(NamedTuple):
    """`rows` are the first of `endpoints`, of which `needy` are worse than waiting."""

    status: dict[str, Any]
    rows: list[Row]
    endpoints: int
    needy: int


def show(remote: Remote, *, as_json: bool) -> None:
    """Once. Raises Unreachable or Refusal."""
    click.echo(_text(read(remote), remote.url, as_json=as_json))


def keep_showing(remote: Remote, *, as_json: bool) -> None:
    """Until Ctrl-C; a daemon that does not answer is asked again. Raises Refusal."""
    redraws = sys.stdout.isatty() and not as_json
    if redraws:
        click.echo(CLEAR, nl=False)
    try:
        while True:
            started = time.monotonic()
            try:
                text = _text(read(remote), remote.url, as_json=as_json)
            except Unreachable as error:
                text = f"{printable(error)}; asking again"
                if as_json:
                    click.echo(text, err=True)
                    text = ""
            _put(text, redraws=redraws, apart=not as_json)
            took_seconds = time.monotonic() - started
            time.sleep(max(WATCH_EVERY_SECONDS - took_seconds, REST_FACTOR * took_seconds))
    except KeyboardInterrupt:
        return


def read(remote: Remote) -> Overview:
    """Raises Unreachable or Refusal."""
    status = remote.get("/v1/status").taken("run_id", "events", "deliveries", "memory", "per_second", "endpoints")
    endpoints = needy = 0

    def counted() -> Iterator[Row]:
        nonlocal endpoints, needy
        for row in _endpoints(remote):
            endpoints += 1
            needy += row.urgency < WAITING
            yield row

    return Overview(status, heapq.nsmallest(ROWS_MAX, counted(), key=lambda row: row.order), endpoints, needy)


def screen(overview: Overview, url: str) -> list[str]:
    """At most 100 columns."""
    status = overview.status
    events, deliveries, memory = status["events"], status["deliveries"], status["memory"]
    per_second, endpoints = status["per_second"], status["endpoints"]
    overdue = status["oldest_overdue_seconds"]
    up = span(status["uptime_seconds"])
    late = " (due, free to go, not begun)" if overdue else ""
    used = f"{approximate_size(memory['unsettled_bytes'])} of {approximate_size(memory['unsettled_bytes_max'])}"
    held = f"{memory['unsettled_events']:,} of {memory['unsettled_events_max']:,} events"
    states = ", ".join(f"{number:,} {state}" for state, number in endpoints.items())
    lines = [
        f"hookd {status['version']} {status['state']}, up {up}, run {status['run_id']}, {url}",
        f"events       {events['accepted']:,} accepted = {_by_status(events)}",
        f"             of these {events['recovered']:,} recovered, {events['unrouted']:,} delivered to nobody",
        f"deliveries   {deliveries['opened']:,} opened = {_by_status(deliveries)}",
        f"in flight    {deliveries['in_flight']:,}",
        f"oldest       unsettled {_age(status['oldest_unsettled_seconds'])}, overdue {_age(overdue)}{late}",
        f"memory       {used} ({_share(memory, 'bytes')}), {held} ({_share(memory, 'events')})",
        f"per second   {', '.join(f'{rate:,.1f} {what}' for what, rate in per_second.items())}",
        f"loop lag     {status['loop_lag_seconds'] * 1000:,.1f} ms",
        f"connections  {status['connections']['open']:,} of {status['connections']['max']:,}",
        f"endpoints    {states}; {counted(status['clients'], 'client')}",
    ]
    lines += _unusual(status)
    return [clip(printable(line)) for line in lines + _table(overview)]


def _text(overview: Overview, url: str, *, as_json: bool) -> str:
    if not as_json:
        return "\n".join(screen(overview, url))
    needy = [
        {"client_id": row.client_id, "endpoint_id": row.endpoint_id, **row.health}
        for row in overview.rows
        if row.urgency < WAITING
    ]
    return json_text({**overview.status, "needs_attention": needy})


def _put(text: str, *, redraws: bool, apart: bool) -> None:
    if not redraws:
        if text:
            click.echo(f"{text}\n" if apart else text)
        return
    columns, lines_max = screen_size()
    lines = text.split("\n")
    if len(lines) >= lines_max:
        lines = [*lines[: max(1, lines_max - 2)], "…"]
    click.echo(HOME + "".join(f"{clip(line, columns)}{CLEAR_LINE}\n" for line in lines) + CLEAR_BELOW, nl=False)


def _endpoints(remote: Remote) -> Iterator[Row]:
    cursor = ""
    while True:
        page = remote.get(f"/v1/clients?limit={PAGE}{cursor}").taken("clients", "next_cursor")
        for client in page["clients"]:
            for endpoint in client["endpoints"]:
                yield Row(client["id"], endpoint["id"], endpoint["health"])
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={page['next_cursor']}"


def _unusual(status: dict[str, Any]) -> list[str]:
    lines = []
    if status.get("crashed_couriers"):
        lines.append(
            f"BUG          {counted(status['crashed_couriers'], 'courier')} crashed; the log has the tracebacks"
        )
    if status["waiting_for_client"]:
        lines.append(
            f"recovered    waiting for their client's PUT: {counted(status['waiting_for_client'], 'delivery')}"
        )
    if (previous := status["previous_run"]) is not None:
        undelivered = "unknown" if previous["undelivered"] is None else f"{previous['undelivered']:,}"
        ended = f"ended {previous['ended']}, {undelivered} undelivered, {previous['recovered']:,} recovered"
        lines.append(f"run before   {previous['run_id']} {ended}")
    return lines


def _table(overview: Overview) -> list[str]:
    if not overview.rows:
        return ["", "no clients are registered"]
    head = ("client/endpoint", "state", "unsettled", "in flight", "oldest", "last failure")
    lines = ["", "{:<30} {:<16} {:>9} {:>9} {:>8}  {}".format(*head)]
    for row in overview.rows:
        health = row.health
        name = clip(f"{row.client_id}/{row.endpoint_id}", 30)
        counts = f"{health['unsettled']:>9,} {health['in_flight']:>9,} {_age(health['oldest_unsettled_seconds']):>8}"
        lines.append(f"{name:<30} {_state(row):<16} {counts}  {_last_failure(health)}".rstrip())
    hidden = overview.endpoints - len(overview.rows)
    if hidden:
        needy = max(0, overview.needy - len(overview.rows))
        lines.append(f"and {hidden:,} more" + (f", of which {needy:,} need attention" if needy else ""))
    return lines


def _state(row: Row) -> str:
    if row.urgency == FAILING:
        return "failing"
    if row.health["paused_by"] is not None and row.health["state"] == "paused":
        return f"paused: {row.health['paused_by']}"
    return str(row.health["state"])


def _last_failure(health: dict[str, Any]) -> str:
    last = health["last_outcome"]
    if last is None or (last["status_code"] is not None and last["status_code"] < 300):
        return ""
    return f"answered {last['status_code']}" if last["error"] is None else str(last["error"])


def _by_status(counts: dict[str, int]) -> str:
    return " + ".join(f"{counts[status]:,} {status}" for status in STATUSES)


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else span(seconds)


def _share(memory: dict[str, int], what: str) -> str:
    return f"{100 * memory[f'unsettled_{what}'] / memory[f'unsettled_{what}_max']:.0f} %"
