"""Owns `hookd replay`: reopens what of a client was given up, as far as the budgets have room."""

import sys

import click
import msgspec

from hookd.cli.api_client import Remote, part
from hookd.cli.completion import complete_client
from hookd.cli.failures import asking
from hookd.cli.options import json_option, token_option, url_option
from hookd.cli.terminal import json_text, tell
from hookd.process.exit_codes import ExitCode

# 270,000 events are looked at in about a second, and 20,000 reopened in one more.
TIMEOUT_SECONDS = 300.0


@click.command()
@click.argument("client", shell_complete=complete_client)
@click.option("--since", metavar="TIME", help="Given up then or later: 2026-11-21T18:35:00Z.")
@click.option("--until", metavar="TIME", help="Given up then or earlier.")
@click.option("--dry-run", is_flag=True, help="Say how many match, reopen nothing.")
@url_option
@token_option
@json_option
def replay(
    client: str,
    since: str | None,
    until: str | None,
    dry_run: bool,
    url: str | None,
    token_file: str | None,
    as_json: bool,
) -> None:
    """Reopen what of a client was given up: exit 3 where some had no room."""
    body = {"since": since, "until": until, "dry_run": dry_run}
    with asking():
        remote = Remote.named(url, token_file, timeout_seconds=TIMEOUT_SECONDS)
        answer = remote.post(f"/v1/clients/{part(client)}/replay", msgspec.json.encode(body))
        done = answer.taken("matched", "reopened")
    matched, reopened = done["matched"], done["reopened"]
    if as_json:
        click.echo(json_text(done))
    else:
        matches = "matches" if matched == 1 else "match"
        click.echo(f"{matched:,} {matches}; {'nothing was reopened' if dry_run else f'{reopened:,} reopened'}")
    if reopened < matched and not dry_run:
        tell(f"{matched - reopened:,} had no room, or hookd began to drain: call this again later")
        sys.exit(ExitCode.UNDELIVERED)
