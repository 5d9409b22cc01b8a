"""Owns `hookd retry`: attempts an event's unsettled or exhausted deliveries now."""

import click

from hookd.cli.api_client import Remote, part
from hookd.cli.failures import asking, usage
from hookd.cli.options import json_option, token_option, url_option
from hookd.cli.terminal import json_text
from hookd.core.printable import printable


@click.command()
@click.argument("event", metavar="CLIENT/EVENT")
@url_option
@token_option
@json_option
def retry(event: str, url: str | None, token_file: str | None, as_json: bool) -> None:
    """Attempt an event's unsettled or exhausted deliveries now."""
    client_id, slash, event_id = event.partition("/")
    if not slash:
        usage("name the event as CLIENT/EVENT")
    with asking():
        answer = Remote.named(url, token_file).post(f"/v1/clients/{part(client_id)}/events/{part(event_id)}/retry", b"")
        view = answer.taken("id", "deliveries", statuses=(200, 202))
    if as_json:
        click.echo(json_text(view))
        return
    click.echo(printable(f"{view['id']}: {view['status']}" if answer.status == 202 else f"{view['id']}: nothing to do"))
    for delivery in view["deliveries"]:
        click.echo(printable(f"  {delivery['endpoint_id']} -> {delivery['url']}: {delivery['status']}"))
