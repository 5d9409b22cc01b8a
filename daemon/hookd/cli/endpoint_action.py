"""Owns what pause and resume have in common: one POST to an endpoint's route, and its state as it is then."""

import click

from hookd.cli.api_client import Remote, part
from hookd.cli.failures import asking
from hookd.cli.terminal import json_text
from hookd.core.printable import printable


def act(action: str, client: str, endpoint: str, *, url: str | None, token_file: str | None, as_json: bool) -> None:
    """Ends the command where the daemon refuses."""
    with asking():
        answer = Remote.named(url, token_file).post(
            f"/v1/clients/{part(client)}/endpoints/{part(endpoint)}/{action}", b""
        )
        view = answer.taken("id", "endpoints")
    if as_json:
        click.echo(json_text(view))
        return
    for one in view["endpoints"]:
        if one["id"] == endpoint:
            health = one["health"]
            by = f" by {health['paused_by']}" if health["paused_by"] else ""
            click.echo(printable(f"{client}/{endpoint}: {health['state']}{by}; {health['unsettled']:,} unsettled"))
