"""Owns what retry and redeliver have in common: an event that is named, one POST to its route, and a table of it."""

from typing import Any

import click

from hookd.cli.api_client import Remote, part
from hookd.cli.completion import complete_names
from hookd.cli.failures import asking, usage
from hookd.cli.paste import HookdCommands
from hookd.cli.terminal import aligned, fit, json_text, tell, widths_of
from hookd.core.printable import printable

HEAD = ("ENDPOINT", "STATUS", "ATTEMPTS", "URL")
OF_ALL = {"retry": "; all that waits of a client after a failure: hookd replay CLIENT --status failed"}
event_argument = click.argument("names", metavar="CLIENT EVENT", nargs=-1, required=True, shell_complete=complete_names)


def act(
    action: str, names: tuple[str, ...], body: bytes, *, url: str | None, token_file: str | None, as_json: bool
) -> None:
    """Ends the command where the daemon refuses."""
    client_id, event_id = _named(action, names)
    with asking():
        path = f"/v1/clients/{part(client_id)}/events/{part(event_id)}/{action}"
        answer = Remote.named(url, token_file).post(path, body)
        view = answer.taken("id", "status", "deliveries", statuses=(200, 202))
    if as_json:
        click.echo(json_text(view))
        return
    click.echo(printable(f"{view['id']}: {view['status']}" if answer.status == 202 else f"{view['id']}: nothing to do"))
    if answer.status == 200 and (why := _why_nothing(action, view, client_id, HookdCommands(url, token_file))):
        tell(why)
    if view["deliveries"]:
        rows = [HEAD, *(_row(delivery) for delivery in view["deliveries"])]
        for line in aligned(rows, widths_of(rows)):
            click.echo(fit(f"  {line}"))


def _named(action: str, names: tuple[str, ...]) -> tuple[str, str]:
    """CLIENT EVENT, or CLIENT/EVENT."""
    parts = names[0].partition("/")[::2] if len(names) == 1 else names
    if len(parts) != 2 or not parts[1]:
        usage(f"name the event as CLIENT EVENT, or as CLIENT/EVENT{OF_ALL.get(action, '')}")
    return parts[0], parts[1]


def _why_nothing(action: str, view: dict[str, Any], client_id: str, commands: HookdCommands) -> str | None:
    """What does what was meant."""
    status = view["status"]
    if action == "redeliver" and status in ("pending", "failed"):
        return f"it is still owed; for an attempt now: {commands.retry(client_id, view['id'])}"
    if action == "retry" and status == "delivered":
        return f"it was delivered; to send it once more: {commands.redeliver(client_id, view['id'])}"
    return None


def _row(delivery: dict[str, Any]) -> tuple[str, ...]:
    said = f"{delivery['status']} ({delivery['reason']})" if delivery["reason"] else delivery["status"]
    attempts = f"{delivery['attempt_count']} of {delivery['attempts_max']}"
    return delivery["endpoint_id"], said, attempts, delivery["url"]
