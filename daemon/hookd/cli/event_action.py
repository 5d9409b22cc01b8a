"""Owns what retry and redeliver have in common: an event that is named, one POST to its route, and a table of it."""

from typing import Any

import click

from hookd.cli.api_client import Remote, part
from hookd.cli.completion import complete_names
from hookd.cli.failures import asking, usage
from hookd.cli.terminal import fit, json_text
from hookd.core.printable import printable

event_argument = click.argument("names", metavar="CLIENT EVENT", nargs=-1, required=True, shell_complete=complete_names)


def act(
    action: str, names: tuple[str, ...], body: bytes, *, url: str | None, token_file: str | None, as_json: bool
) -> None:
    """Ends the command where the daemon refuses."""
    client_id, event_id = _named(names)
    with asking():
        path = f"/v1/clients/{part(client_id)}/events/{part(event_id)}/{action}"
        answer = Remote.named(url, token_file).post(path, body)
        view = answer.taken("id", "status", "deliveries", statuses=(200, 202))
    if as_json:
        click.echo(json_text(view))
        return
    click.echo(printable(f"{view['id']}: {view['status']}" if answer.status == 202 else f"{view['id']}: nothing to do"))
    if view["deliveries"]:
        click.echo(fit(_row("ENDPOINT", "STATUS", "ATTEMPTS", "URL")))
    for delivery in view["deliveries"]:
        click.echo(fit(printable(_of(delivery))))


def _named(names: tuple[str, ...]) -> tuple[str, str]:
    """CLIENT EVENT, or CLIENT/EVENT."""
    parts = names[0].partition("/")[::2] if len(names) == 1 else names
    if len(parts) != 2 or not parts[1]:
        usage("name the event as CLIENT EVENT, or as CLIENT/EVENT")
    return parts[0], parts[1]


def _of(delivery: dict[str, Any]) -> str:
    said = f"{delivery['status']} ({delivery['reason']})" if delivery["reason"] else delivery["status"]
    attempts = f"{delivery['attempt_count']} of {delivery['attempts_max']}"
    return _row(delivery["endpoint_id"], said, attempts, delivery["url"])


def _row(endpoint_id: str, status: str, attempts: str, url: str) -> str:
    return f"  {endpoint_id:16} {status:26} {attempts:9} {url}"
