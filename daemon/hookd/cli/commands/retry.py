"""Owns `hookd retry`: attempts an event's unsettled or exhausted deliveries now."""

import click

from hookd.cli.event_action import act, event_argument
from hookd.cli.options import json_option, token_option, url_option


@click.command()
@event_argument
@url_option
@token_option
@json_option
def retry(names: tuple[str, ...], url: str | None, token_file: str | None, as_json: bool) -> None:
    """Attempt an event's unsettled or exhausted deliveries now."""
    act("retry", names, b"", url=url, token_file=token_file, as_json=as_json)
