"""Owns what pause, resume and test have in common: how an endpoint is named, one POST to its route, its state then."""

import click

from hookd.cli.api_client import Remote, part
from hookd.cli.failures import asking, usage
from hookd.cli.terminal import json_text
from hookd.core.printable import printable


def named(client: str, endpoint: str | None) -> tuple[str, str]:
    """CLIENT, CLIENT ENDPOINT, or CLIENT/ENDPOINT as `hookd status` has it: no id holds a slash."""
    if endpoint is None:
        client, slash, endpoint = client.partition("/")
        if slash and not endpoint:
            usage("name the endpoint as CLIENT ENDPOINT, or as CLIENT/ENDPOINT")
    return client, endpoint or "default"


def act(
    action: str, client: str, endpoint: str | None, *, url: str | None, token_file: str | None, as_json: bool
) -> None:
    """Ends the command where the daemon refuses."""
    client, endpoint = named(client, endpoint)
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
