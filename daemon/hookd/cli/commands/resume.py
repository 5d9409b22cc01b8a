"""Owns `hookd resume`: ends an endpoint's pause, of either kind, and its being disabled."""

import click

from hookd.cli.completion import complete_client, complete_endpoint
from hookd.cli.endpoint_action import act
from hookd.cli.options import json_option, token_option, url_option


@click.command()
@click.argument("client", shell_complete=complete_client)
@click.argument("endpoint", required=False, shell_complete=complete_endpoint)
@url_option
@token_option
@json_option
def resume(client: str, endpoint: str | None, url: str | None, token_file: str | None, as_json: bool) -> None:
    """End an endpoint's pause of either kind, and its being disabled."""
    act("resume", client, endpoint, url=url, token_file=token_file, as_json=as_json)
