"""Owns `hookd cancel`: gives up what is unsettled of an event, or of a client, all of it or a range.

Rules: what is ended does not come back by itself. So it asks on a terminal, with the number. Elsewhere it takes one
event's name for enough, and wants `--yes` for a client.
"""

import sys
from typing import Any

import click
import msgspec

from hookd.cli.api_client import Remote, part
from hookd.cli.completion import complete_names
from hookd.cli.event_action import act
from hookd.cli.failures import asking, usage
from hookd.cli.options import json_option, token_option, url_option
from hookd.cli.terminal import json_text, tell
from hookd.cli.times import daemon_now, time_of
from hookd.cli.waiting import waiting
from hookd.core.printable import printable

# 20,000 are found in half a second, and given up in two more, as fast as the log can say so.
TIMEOUT_SECONDS = 300.0
UNSETTLED = ("pending", "failed")


@click.command()
@click.argument("names", metavar="CLIENT [EVENT]", nargs=-1, required=True, shell_complete=complete_names)
@click.option("--since", metavar="TIME", help="Accepted then or later: 2h, or 2026-11-21T18:35:00Z.")
@click.option("--until", metavar="TIME", help="Accepted then or earlier.")
@click.option("--type", "types", metavar="TYPE", multiple=True, help="Of this type alone: invoice.*; several times.")
@click.option("--endpoint", metavar="ID", help="To this endpoint alone.")
@click.option("--dry-run", is_flag=True, help="Say how many match, cancel nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@url_option
@token_option
@json_option
def cancel(
    names: tuple[str, ...],
    since: str | None,
    until: str | None,
    types: tuple[str, ...],
    endpoint: str | None,
    dry_run: bool,
    yes: bool,
    url: str | None,
    token_file: str | None,
    as_json: bool,
) -> None:
    """Give up what is unsettled of an event, or of a client; an attempt in flight goes on to its end."""
    client_id, event_id = _named(names)
    if event_id and (since or until or types):
        usage("--since, --until and --type go with a client, not with one event")
    asks = not yes and sys.stdin.isatty()
    if not (dry_run or yes or asks or event_id):
        usage("--yes says that it is meant: there is no terminal to ask on")
    with asking():
        remote = Remote.named(url, token_file, timeout_seconds=TIMEOUT_SECONDS)
        if event_id:
            counted = _count(remote, client_id, event_id, endpoint) if dry_run or asks else {}
        else:
            now = daemon_now(remote) if since or until else 0.0
            asked: dict[str, Any] = {"since": time_of("--since", since, now), "until": time_of("--until", until, now)}
            asked |= {"types": types or None, "endpoint_id": endpoint}
            counted = _post(remote, client_id, asked, dry_run=True) if dry_run or asks else {}
    if dry_run:
        click.echo(json_text(counted) if as_json else f"{_said(counted)}; nothing was cancelled")
    elif asks and not _is_meant(counted, printable(" ".join(names))):
        tell("nothing was cancelled")
    elif event_id:
        body = msgspec.json.encode({} if endpoint is None else {"endpoint_id": endpoint})
        act("cancel", (client_id, event_id), body, url=url, token_file=token_file, as_json=as_json)
    else:
        with asking(), waiting("cancelling"):
            done = _post(remote, client_id, asked, dry_run=False)
        click.echo(json_text(done) if as_json else _done_text(done))


def _named(names: tuple[str, ...]) -> tuple[str, str]:
    """CLIENT, CLIENT EVENT or CLIENT/EVENT."""
    parts = names[0].partition("/")[::2] if len(names) == 1 else names
    if len(parts) != 2 or (not parts[1] and names != (parts[0],)):
        usage("name a CLIENT, or an event as CLIENT EVENT, or as CLIENT/EVENT")
    return parts[0], parts[1]


def _post(remote: Remote, client_id: str, asked: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
    body = msgspec.json.encode(asked | {"dry_run": dry_run})
    return remote.post(f"/v1/clients/{part(client_id)}/cancel", body).taken("matched", "cancelled", "in_flight")


def _count(remote: Remote, client_id: str, event_id: str, endpoint: str | None) -> dict[str, Any]:
    """Of one event, as it stands."""
    view = remote.get(f"/v1/clients/{part(client_id)}/events/{part(event_id)}").taken("id", "deliveries")
    found = [
        delivery
        for delivery in view["deliveries"]
        if endpoint in (None, delivery["endpoint_id"])
        and delivery["status"] in UNSETTLED
        and delivery["ends_as"] is None
    ]
    return {"matched": len(found), "cancelled": 0, "in_flight": sum(delivery["in_flight"] for delivery in found)}


def _said(counted: dict[str, Any]) -> str:
    return f"{counted['matched']:,} match, {counted['in_flight']:,} of them in flight"


def _done_text(done: dict[str, Any]) -> str:
    flying = f"; {done['in_flight']:,} in flight, whose attempt goes on to its end" if done["in_flight"] else ""
    return f"{done['matched']:,} match; {done['cancelled']:,} cancelled{flying}"


def _is_meant(counted: dict[str, Any], name: str) -> bool:
    if not counted["matched"]:
        tell("nothing matches")
        return False
    return click.confirm(f"{name}: {_said(counted)}. Cancel them?", err=True)
