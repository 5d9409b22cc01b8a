"""Owns `hookd redeliver`: sends an event's settled deliveries once more, and to endpoints that came later."""

import click
import msgspec

from hookd.cli.event_action import act, event_argument
from hookd.cli.options import json_option, token_option, url_option


@click.command()
@event_argument
@click.option("--endpoint", metavar="ID", help="To this endpoint alone.")
@url_option
@token_option
@json_option
def redeliver(
    names: tuple[str, ...], endpoint: str | None, url: str | None, token_file: str | None, as_json: bool
) -> None:
    """Send an event once more: what was delivered or given up of it, and to endpoints that came later."""
    body = msgspec.json.encode({} if endpoint is None else {"endpoint_id": endpoint})
    act("redeliver", names, body, url=url, token_file=token_file, as_json=as_json)
