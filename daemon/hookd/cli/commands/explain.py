"""Owns `hookd explain`: finds what a name names, and prints what core/explanation tells of it.

Rules: it says only what the API says, by the daemon's clock. Each thing that a person can do comes as a command to
paste. What endpoints and producers wrote is made harmless before it reaches the terminal.

Does not: decide or change anything.
"""

from typing import Any, NamedTuple

import click

from hookd.cli.api_client import Answer, Refusal, Remote, part
from hookd.cli.completion import complete_names
from hookd.cli.failures import asking, fail, usage
from hookd.cli.options import json_option, token_option, url_option
from hookd.cli.paste import HookdCommands
from hookd.cli.terminal import json_text
from hookd.cli.times import now_of
from hookd.core.explanation import Telling
from hookd.core.printable import printable
from hookd.process.exit_codes import ExitCode

WAITING_SHOWN_MAX = 10
ANOTHER_SHARD = "another may know it, by the proxy's --url URL/shard/NAME"


@click.command()
@click.argument(
    "names",
    metavar="CLIENT|EVENT|CLIENT/EVENT|CLIENT/ENDPOINT",
    nargs=-1,
    required=True,
    shell_complete=complete_names,
)
@url_option
@token_option
@json_option
def explain(names: tuple[str, ...], url: str | None, token_file: str | None, as_json: bool) -> None:
    """What a client, an endpoint or an event waits for, since when, until when, and what ends it."""
    if len(names) > 2:
        usage("name a CLIENT, an EVENT, CLIENT/EVENT or CLIENT/ENDPOINT")
    name = "/".join(names)  # the other commands take CLIENT EVENT, so does this one
    with asking():
        remote = Remote.named(url, token_file)
        try:
            found = find(remote, name)
        except NotFound as error:
            fail(ExitCode.USAGE, f"nothing is called {name!r}: {error}")
        click.echo(found_json(found) if as_json else "\n".join(explained(found, HookdCommands(url, token_file))))


class Found(NamedTuple):
    """What `name` names: a client, events, or both; `now` is the daemon's wall clock."""

    name: str
    client: dict[str, Any] | None
    events: list[tuple[dict[str, Any], dict[str, Any] | None]]  # each with its client, where that is registered
    ambiguous: list[str]  # clients that have an event of this id, where there are several
    status: dict[str, Any]  # empty where the token may not see it
    now: float


class NotFound(Exception):
    """Neither a client, nor an event, nor an endpoint; the message is what the daemon said of it."""


def find(remote: Remote, name: str) -> Found:
    """Raises NotFound, Unreachable or Refusal."""
    answered = remote.get("/v1/status")
    if answered.status == 404 and (shard := _shard_of(remote, name)) is not None:
        remote = remote.at_shard(shard)
        answered = remote.get("/v1/status")
    is_held = answered.problem_is("forbidden")  # what speaks of the whole daemon is not for a token of certain clients
    status = {} if is_held else answered.taken("now", "state")
    now = now_of(answered)
    client_id, slash, event_id = name.partition("/")
    if slash:
        answer = remote.get(f"/v1/clients/{_part(client_id)}/events/{_part(event_id)}")
        if answer.status == 404:
            return Found(name, _with_endpoint(remote, client_id, event_id, answer), [], [], status, now)
        event = answer.taken("id", "deliveries")
        return Found(name, None, [(event, _client_of(remote, event))], [], status, now)
    asked = remote.get(f"/v1/clients/{_part(name)}")
    is_none = asked.status == 404 or (is_held and asked.problem_is("forbidden"))  # it may name an event
    client = None if is_none else asked.taken("id", "endpoints")
    answer = remote.get(f"/v1/events/{_part(name)}")
    ambiguous = answer.body.get("clients", []) if answer.status == 409 else []
    if answer.status in (404, 409):
        waiting = [] if client is not None or ambiguous else _waiting_for_client(remote, name)
        if waiting:
            return Found(name, None, [(event, None) for event in waiting], [], status, now)
        if client is None and not ambiguous:
            if asked.status != 404:
                asked.taken()  # raises
            raise NotFound(f"{asked.problem}; {_absent(answer)}")
        return Found(name, client, [], ambiguous, status, now)
    event = answer.taken("id", "deliveries")
    return Found(name, client, [(event, _client_of(remote, event))], [], status, now)


def _with_endpoint(remote: Remote, client_id: str, endpoint_id: str, no_event: Answer) -> dict[str, Any]:
    """The client with this endpoint alone: `hookd status` and the page name endpoints so. Raises NotFound."""
    asked = remote.get(f"/v1/clients/{_part(client_id)}")
    client = {} if asked.status == 404 else asked.taken("id", "endpoints")
    endpoints = [one for one in client.get("endpoints", []) if one["id"] == endpoint_id]
    if not endpoints:
        raise NotFound(_absent(no_event))
    return {**client, "endpoints": endpoints}


def _shard_of(remote: Remote, name: str) -> str | None:
    """A proxy in front of several passes on what names the client in its path, or the daemon in an event's id. Raises
    Refusal where it has no daemon to pass it to."""
    client_id, slash, _ = name.partition("/")
    answer = remote.get(f"/v1/clients/{_part(client_id)}")
    if not answer.is_hookds:
        raise Refusal(answer)  # that no daemon is there says more than that the proxy has no status of its own
    if not slash and answer.status == 404:
        return remote.get(f"/v1/events/{_part(name)}").shard or answer.shard
    return answer.shard


def explained(found: Found, commands: HookdCommands) -> list[str]:
    """Lines of text."""
    lines: list[str] = []
    if found.status.get("state") == "draining":
        lines.append("The daemon is draining: what is not settled when it stops is listed in its report.")
    if found.client is not None:
        lines += Telling(commands, found.now).client(found.client)
    for event, client in found.events:
        lines += Telling(commands, found.now).event(event, client)
    if found.ambiguous:
        lines.append("Several clients have an event of this id; name one of them:")
        lines += [f"  {commands.explain(f'{client_id}/{found.name}')}" for client_id in found.ambiguous]
        if found.status.get("shard"):
            lines.append(f"This is shard {found.status['shard']} alone; {ANOTHER_SHARD}.")
    return [printable(line) for line in lines]


def found_json(found: Found) -> str:
    """What the sentences are made from."""
    return json_text(
        {"client": found.client, "events": [event for event, _ in found.events], "ambiguous": found.ambiguous}
    )


def _absent(answer: Answer) -> str:
    """What the daemon says; of several it speaks for itself alone."""
    others = f"; this is shard {answer.shard}: {ANOTHER_SHARD}"
    return answer.problem + (others if answer.shard else "")


def _waiting_for_client(remote: Remote, name: str) -> list[dict[str, Any]]:
    """Events that were recovered for a client that is not registered yet; the newest few."""
    asked = remote.get(f"/v1/events?client_id={_part(name)}&status=pending&limit={WAITING_SHOWN_MAX}")
    events: list[dict[str, Any]] = asked.body["events"] if asked.status == 200 else []
    return events


def _client_of(remote: Remote, event: dict[str, Any]) -> dict[str, Any] | None:
    answer: Answer = remote.get(f"/v1/clients/{_part(event['client_id'])}")
    return None if answer.status == 404 else answer.taken("id", "endpoints")


def _part(text: str) -> str:
    """As one part of a path. Raises NotFound for what no id is, and no route would match."""
    if not text or text in (".", ".."):
        raise NotFound("name a CLIENT, an EVENT, CLIENT/EVENT or CLIENT/ENDPOINT")
    return part(text)
