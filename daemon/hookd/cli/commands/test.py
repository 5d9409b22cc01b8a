"""Owns `hookd test`: posts one event of type hookd.test to an endpoint, outside all accounts."""

import sys

import click

from hookd.cli.api_client import Remote, part
from hookd.cli.completion import complete_client, complete_endpoint
from hookd.cli.endpoint_action import named
from hookd.cli.failures import asking
from hookd.cli.options import json_option, token_option, url_option
from hookd.cli.terminal import json_text, tell
from hookd.core.attempt_text import advice, outcome_text
from hookd.core.printable import printable
from hookd.core.time_text import took
from hookd.process.exit_codes import ExitCode

# An attempt may take an hour, as the endpoint's timeout says; the daemon answers when it is over.
TIMEOUT_SECONDS = 3700.0


@click.command()
@click.argument("client", shell_complete=complete_client)
@click.argument("endpoint", required=False, shell_complete=complete_endpoint)
@url_option
@token_option
@json_option
def test(client: str, endpoint: str | None, url: str | None, token_file: str | None, as_json: bool) -> None:
    """Post one test event to an endpoint: exit 0 where it answered 2xx, else 3."""
    client, endpoint = named(client, endpoint)
    with asking():
        remote = Remote.named(url, token_file, timeout_seconds=TIMEOUT_SECONDS)
        answer = remote.post(f"/v1/clients/{part(client)}/endpoints/{part(endpoint)}/test", b"")
        attempt = answer.taken("outcome", "status_code", "error", "duration_seconds")
    status = attempt["status_code"]
    shown = f"{client}/{endpoint}: {outcome_text(attempt)}, after {took(attempt['duration_seconds'])}"
    click.echo(json_text(attempt) if as_json else printable(shown))
    for line in advice(attempt):
        tell(line)
    sys.exit(0 if status is not None and 200 <= status <= 299 else ExitCode.UNDELIVERED)
