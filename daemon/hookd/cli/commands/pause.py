"""Owns `hookd pause`: holds an endpoint."""

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
def pause(client: str, endpoint: str | None, url: str | None, token_file: str | None, as_json: bool) -> None:
    """Hold an endpoint: no attempts, no probes, no expiry."""
    act("pause", client, endpoint, url=url, token_file=token_file, as_json=as_json)
