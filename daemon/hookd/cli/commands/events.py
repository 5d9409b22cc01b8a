"""Owns `hookd events`: the events that are held, newest first, one line each."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import click

from hookd.cli.api_client import Remote, part
from hookd.cli.completion import complete_client
from hookd.cli.failures import asking, fail, refused
from hookd.cli.options import json_option, token_option, url_option
from hookd.cli.terminal import aligned, fit, json_text, moment, tell, widths_of
from hookd.cli.times import daemon_now, time_of
from hookd.core.delivery import Status
from hookd.core.quoting import quoted
from hookd.core.retry import Reason
from hookd.process.exit_codes import ExitCode

LIMIT_DEFAULT = 50
# Of a filter that finds little: each page of the daemon's looks at 10,000 events.
PAGES_MAX = 1000
PAGE_LIMIT_MAX = 1000
HEAD: tuple[str, ...] = ("ACCEPTED", "STATUS", "EVENT", "CLIENT", "TYPE")


@click.command()
@click.argument("client", required=False, shell_complete=complete_client)
@click.option("--endpoint", metavar="ID", help="With a delivery to this endpoint.")
@click.option("--status", type=click.Choice([one.value for one in Status]), help="In this status.")
@click.option("--reason", type=click.Choice([one.value for one in Reason]), help="Given up for this reason.")
@click.option("--type", "event_type", metavar="TYPE", help="Of this type.")
@click.option("--since", metavar="TIME", help="Accepted then or later: 2h, or 2026-11-21T18:35:00Z.")
@click.option("--until", metavar="TIME", help="Accepted then or earlier.")
@click.option("--limit", type=click.IntRange(1), default=LIMIT_DEFAULT, show_default=True, help="How many at most.")
@url_option
@token_option
@json_option
def events(
    client: str | None,
    endpoint: str | None,
    status: str | None,
    reason: str | None,
    event_type: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    url: str | None,
    token_file: str | None,
    as_json: bool,
) -> None:
    """The events that are held, newest first; of one client, or of all."""
    with asking():
        remote = Remote.named(url, token_file)
        now = daemon_now(remote)
        asked = {"client_id": client, "endpoint_id": endpoint, "status": status, "reason": reason, "type": event_type}
        asked |= {"since": time_of("--since", since, now), "until": time_of("--until", until, now)}
        rows = _Rows(remote, {name: value for name, value in asked.items() if value is not None}, limit)
        if as_json:
            for event in rows:
                click.echo(json_text(event))
        else:
            _show(rows, now)
        if client is not None and not rows.found:
            _refuse_unregistered(remote, client, endpoint)
        if rows.has_more:
            tell(f"there are more than {limit:,}; --limit shows them")


def _show(events: Iterable[dict[str, Any]], now: float) -> None:
    """Each column is as wide as what the first thousand rows hold; it only grows after that."""
    left, head, widths = iter(events), [HEAD], list[int]()
    while rows := [*head, *(_row(event, now) for event in islice(left, PAGE_LIMIT_MAX))]:
        widths, head = widths_of(rows, widths), []
        for line in aligned(rows, widths):
            click.echo(fit(line))


def _refuse_unregistered(remote: Remote, client_id: str, endpoint_id: str | None) -> None:
    """Ends the command where the client, or its endpoint, is not registered.

    An event outlives its client's registration: so this is asked only where nothing was found. A token that may not see
    clients changes nothing.
    """
    answer = remote.get(f"/v1/clients/{part(client_id)}")
    if answer.problem_is("unknown-client"):
        refused(answer)
    if endpoint_id is None or answer.status != 200:
        return
    if endpoint_id not in [one["id"] for one in answer.taken("endpoints")["endpoints"]]:
        fail(ExitCode.USAGE, f"client {client_id} has no endpoint {quoted(endpoint_id)}")


class _Rows:
    """Page by page, up to the limit."""

    def __init__(self, remote: Remote, asked: dict[str, str], limit: int) -> None:
        self._remote, self._asked, self._limit = remote, asked, limit
        self.has_more = False
        self.found = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        cursor, left = None, self._limit
        for _ in range(PAGES_MAX):
            query = self._asked | {"limit": str(min(left, PAGE_LIMIT_MAX))} | ({"cursor": cursor} if cursor else {})
            page = self._remote.get(f"/v1/events?{urlencode(query)}").taken("events", "next_cursor")
            self.found += len(page["events"])
            yield from page["events"]
            left -= len(page["events"])
            cursor = page["next_cursor"]
            if cursor is None or not left:
                break
        self.has_more = cursor is not None


def _row(event: dict[str, Any], now: float) -> tuple[str, ...]:
    status = "delivered (to nobody)" if event["unrouted"] else event["status"]
    reasons = sorted({delivery["reason"] for delivery in event["deliveries"] if delivery["reason"]})
    said = f"{status} ({', '.join(reasons)})" if reasons else status
    return moment(event["accepted_at"], now), said, event["id"], event["client_id"], event["type"]
