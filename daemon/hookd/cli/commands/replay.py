"""Owns `hookd replay`: sends a client's events again after an outage, as far as the budgets have room."""

import shlex
import sys
from typing import Any

import click
import msgspec

from hookd.cli.api_client import Remote, part
from hookd.cli.completion import complete_client
from hookd.cli.failures import asking
from hookd.cli.options import json_option, token_option, url_option
from hookd.cli.terminal import json_text, tell
from hookd.cli.times import daemon_now, time_of
from hookd.cli.waiting import waiting
from hookd.process.exit_codes import ExitCode

# 270,000 events are looked at in about a second, and 20,000 reopened in one more.
TIMEOUT_SECONDS = 300.0
STATUSES = ("exhausted", "delivered", "failed")
STATUSES_DEFAULT = ("exhausted",)


@click.command()
@click.argument("client", shell_complete=complete_client)
@click.option(
    "--status",
    "statuses",
    type=click.Choice(STATUSES),
    multiple=True,
    default=STATUSES_DEFAULT,
    show_default=True,
    help="Reopen what was given up; send again what was delivered, also to endpoints that came later; make due now "
    "what waits after a failure. May be given several times.",
)
@click.option("--since", metavar="TIME", help="In that status then or later: 2h, or 2026-11-21T18:35:00Z.")
@click.option("--until", metavar="TIME", help="In that status then or earlier.")
@click.option("--type", "types", metavar="TYPE", multiple=True, help="Of this type alone: invoice.*; several times.")
@click.option("--endpoint", metavar="ID", help="To this endpoint alone.")
@click.option("--dry-run", is_flag=True, help="Say how many match, change nothing.")
@url_option
@token_option
@json_option
def replay(
    client: str,
    statuses: tuple[str, ...],
    since: str | None,
    until: str | None,
    types: tuple[str, ...],
    endpoint: str | None,
    dry_run: bool,
    url: str | None,
    token_file: str | None,
    as_json: bool,
) -> None:
    """Send a client's events again after an outage: exit 3 where some had no room."""
    with asking():
        remote = Remote.named(url, token_file, timeout_seconds=TIMEOUT_SECONDS)
        now = daemon_now(remote) if since or until else 0.0
        asked: dict[str, Any] = {"statuses": statuses, "dry_run": dry_run}
        asked |= {"since": time_of("--since", since, now), "until": time_of("--until", until, now)}
        asked |= {"types": types or None, "endpoint_id": endpoint}
        with waiting("replaying"):
            answer = remote.post(f"/v1/clients/{part(client)}/replay", msgspec.json.encode(asked))
        done = answer.taken("matched", "reopened", "left", "stopped_by", "without_payload", "until")
    if as_json:
        click.echo(json_text(done))
    else:
        matches = "matches" if done["matched"] == 1 else "match"
        reopened = "nothing was reopened" if dry_run else f"{done['reopened']:,} reopened"
        click.echo(f"{done['matched']:,} {matches}; {reopened}")
        if not done["matched"] and statuses == STATUSES_DEFAULT:
            tell("nothing that matches was given up; what waits after a failure is made due now by --status failed")
    if done["without_payload"]:
        tell(f"{done['without_payload']:,} were delivered then and cannot be sent again: their payloads were dropped")
    if done["left"]:
        _say_left(done, ["hookd", "replay", client, *_options(asked | {"until": done["until"]})])
        sys.exit(ExitCode.UNDELIVERED)


def _say_left(done: dict[str, Any], command: list[str]) -> None:
    if done["stopped_by"] == "draining":
        tell(f"{done['left']:,} are left: hookd began to drain. What it does not finish stands in its report")
        return
    tell(f"{done['left']:,} had no room ({done['stopped_by']}). In {done['retry_after_seconds']:g} s go on with:")
    tell(f"  {shlex.join(command)}")


def _options(asked: dict[str, Any]) -> list[str]:
    """To ask the same again."""
    named = {"since": "--since", "until": "--until", "endpoint_id": "--endpoint"}
    given = [(option, asked[name]) for name, option in named.items() if asked[name] is not None]
    repeated = [("--status", one) for one in asked["statuses"]] + [("--type", one) for one in asked["types"] or ()]
    return [text for pair in (*repeated, *given) for text in pair]
