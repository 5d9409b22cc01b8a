"""Owns `hookd status`: the daemon's totals and its clients on one screen, once or again and again.

Of several daemons it shows one table (cli/fleet). A long list is work for the daemon too. So watching rests four times
as long as the last reading took, and a second at least.
"""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import click

from hookd.cli.api_client import Remote, Unreachable
from hookd.cli.endpoint_rows import Found, clients, first_rows, rows_of, shown_age, table
from hookd.cli.failures import asking, fail
from hookd.cli.fleet import fleet_json, fleet_screen, read_fleet, unclaimed_lines
from hookd.cli.options import json_option, token_option
from hookd.cli.terminal import COLUMNS_MAX, clip, folded, json_text, screen_size, span, width
from hookd.core.plurals import counted
from hookd.core.printable import printable
from hookd.core.units import approximate_size
from hookd.process.exit_codes import ExitCode

TOTALS_INDENT = 13
WATCH_EVERY_SECONDS = 1.0
STATUS_SECONDS_MAX = 5.0  # for each answer; who watches should see soon that none comes
REST_FACTOR = 4
ENDED = {"clean": "stopped", "reported": "stopped with a report", "crash": "crashed or was killed"}
STATUSES = ("pending", "failed", "delivered", "exhausted")
CLEAR, HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"


@click.command()
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
@click.option(
    "--url",
    "urls",
    metavar="URL",
    multiple=True,
    help="The daemon's address (HOOKD_URL; http://127.0.0.1:8080). Several: one table of them all.",
)
@token_option
@json_option
def status(watch: bool, urls: tuple[str, ...], token_file: str | None, as_json: bool) -> None:
    """The totals, and the clients that need someone first."""
    with asking():
        remotes = [Remote.named(url, token_file, timeout_seconds=STATUS_SECONDS_MAX) for url in urls or (None,)]
        reading = partial(_read_one if len(remotes) == 1 else _read_several, remotes, as_json=as_json)
        if watch:
            keep_showing(lambda: reading().text, as_json=as_json)
            return
        shown = reading()
    click.echo(shown.text)
    if shown.silent:
        fail(ExitCode.UNAVAILABLE, "; ".join(shown.silent))


class Shown(NamedTuple):
    text: str
    silent: Iterable[str]  # why some of several did not answer


class Overview(NamedTuple):
    status: dict[str, Any]
    found: Found


def _read_one(remotes: Sequence[Remote], *, as_json: bool) -> Shown:
    """Raises Unreachable or Refusal."""
    overview = read(remotes[0])
    if as_json:
        return Shown(json_text({**overview.status, "needs_attention": overview.found.to_json()}), ())
    return Shown("\n".join(screen(overview, remotes[0].url, width())), ())


def _read_several(remotes: Sequence[Remote], *, as_json: bool) -> Shown:
    """Raises Unreachable or Refusal."""
    fleet = read_fleet(remotes)
    text = json_text(fleet_json(fleet)) if as_json else "\n".join(fleet_screen(fleet))
    return Shown(text, [one.problem for one in fleet.silent])


def keep_showing(text_of: Callable[[], str], *, as_json: bool) -> None:
    """Until Ctrl-C; a daemon that does not answer is asked again. Raises Refusal."""
    redraws = sys.stdout.isatty() and not as_json
    if redraws:
        click.echo(CLEAR, nl=False)
    try:
        while True:
            started = time.monotonic()
            try:
                text = text_of()
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
    return Overview(status, first_rows(row for client in clients(remote) for row in rows_of(client)))


def screen(overview: Overview, url: str, columns: int = COLUMNS_MAX) -> list[str]:
    """At most so many columns. A total that does not fit goes on in the next line; a row is cut."""
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
        f"hookd {status['version']} {status['state']}, up {up}, run {status['run_id']}, {url}{_named(status)}",
        f"events       {events['accepted']:,} accepted = {_by_status(events)}",
        f"             of these {events['recovered']:,} recovered, {events['unrouted']:,} delivered to nobody",
        f"deliveries   {deliveries['opened']:,} opened = {_by_status(deliveries)}",
        f"in flight    {deliveries['in_flight']:,}",
        f"oldest       unsettled {shown_age(status['oldest_unsettled_seconds'])}, overdue {shown_age(overdue)}{late}",
        f"memory       {used} ({_share(memory, 'bytes')}), {held} ({_share(memory, 'events')})",
        f"per second   {', '.join(f'{rate:,.1f} {what}' for what, rate in per_second.items())}",
        f"loop lag     {status['loop_lag_seconds'] * 1000:,.1f} ms",
        f"connections  {status['connections']['open']:,} of {status['connections']['max']:,}",
        f"endpoints    {states}; {counted(status['clients'], 'client')}",
    ]
    lines += _unusual(status)
    totals = [part for line in lines for part in folded(printable(line), columns, TOTALS_INDENT)]
    return totals + [clip(printable(line), columns) for line in table(overview.found, columns)]


def _put(text: str, *, redraws: bool, apart: bool) -> None:
    if not redraws:
        if text:
            click.echo(f"{text}\n" if apart else text)
        return
    columns, lines_max = screen_size()
    lines = text.split("\n")
    if len(lines) >= lines_max:
        shown = max(1, lines_max - 2)
        lines = [*lines[:shown], f"… {counted(len(lines) - shown, 'line')} more than this terminal has"]
    click.echo(HOME + "".join(f"{clip(line, columns)}{CLEAR_LINE}\n" for line in lines) + CLEAR_BELOW, nl=False)


def _named(status: dict[str, Any]) -> str:
    return f", shard {status['shard']}" if status.get("shard") else ""


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
    if status.get("notices"):
        lines.append(f"notices      {status['notices']:,} made{_told(status['operations'])}")
    if (previous := status["previous_run"]) is not None:
        undelivered = "unknown" if previous["undelivered"] is None else f"{previous['undelivered']:,}"
        left = f"{undelivered} undelivered, {previous['recovered']:,} recovered"
        lines.append(f"run before   {previous['run_id']} {ENDED.get(previous['ended'], previous['ended'])}: {left}")
    return lines + unclaimed_lines([status])


def _told(operations: dict[str, int]) -> str:
    """What became of them at `operations.client`, where there is one."""
    if not operations["accepted"] and not operations["refused"]:
        return ""
    return f"; to operations.client {_by_status(operations)}, {operations['refused']:,} refused"


def _by_status(counts: dict[str, int]) -> str:
    return " + ".join(f"{counts[status]:,} {status}" for status in STATUSES)


def _share(memory: dict[str, int], what: str) -> str:
    return f"{100 * memory[f'unsettled_{what}'] / memory[f'unsettled_{what}_max']:.0f} %"
