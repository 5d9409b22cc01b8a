"""Owns `hookd send`: posts one event and follows it until it is settled, one line for each attempt."""

import sys
import time
from typing import Any, NoReturn

import click
import msgspec

from hookd.cli.api_client import Remote
from hookd.cli.completion import complete_client
from hookd.cli.failures import asking, usage
from hookd.cli.options import json_option, token_option, url_option
from hookd.cli.terminal import json_text
from hookd.core.attempt_text import advice, outcome_text
from hookd.core.printable import printable
from hookd.process.exit_codes import ExitCode

FOLLOW_EVERY_SECONDS = 0.2
# Of stdin, which may have no end. A daemon takes 256 KiB out of the box.
PAYLOAD_BYTES_MAX = 1 << 28
OF_EVENT = ("id", "client_id", "status", "unrouted", "settled_at", "deliveries")


@click.command(context_settings={"ignore_unknown_options": True})  # a payload may be -1
@click.argument("client", shell_complete=complete_client)
@click.argument("event_type", metavar="TYPE")
@click.argument("payload", metavar="[JSON or -]", default="{}")
@url_option
@token_option
@json_option
def send(client: str, event_type: str, payload: str, url: str | None, token_file: str | None, as_json: bool) -> None:
    """Post one event and follow it: exit 0 delivered, 3 exhausted."""
    raw = sys.stdin.buffer.read(PAYLOAD_BYTES_MAX + 1) if payload == "-" else payload.encode()
    if len(raw) > PAYLOAD_BYTES_MAX:
        usage(f"the payload is longer than {PAYLOAD_BYTES_MAX:,} bytes, which no daemon takes")
    body = msgspec.json.encode({"type": event_type, "payload": msgspec.Raw(_checked_json(raw))})
    with asking():
        remote = Remote.named(url, token_file)
        answer = remote.post(f"/v1/clients/{client}/events", body)
        _follow(remote, answer.taken(*OF_EVENT, statuses=(200, 202)), as_json=as_json)


def _checked_json(raw: bytes) -> bytes:
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except RecursionError:
        usage("the payload is nested too deep")
    except msgspec.DecodeError as error:
        usage(f"the payload is not JSON: {error}")
    return raw


def _follow(remote: Remote, event: dict[str, Any], *, as_json: bool) -> NoReturn:
    """Until it is settled; one line for each attempt."""
    shown: set[tuple[str, int]] = set()
    click.echo(printable(f"{event['id']} accepted for {event['client_id']}"), err=True)
    while True:
        for delivery in event["deliveries"]:
            for attempt in delivery["attempts"]:
                key = (delivery["endpoint_id"], attempt["number"])
                if attempt["outcome"] is not None and key not in shown:
                    shown.add(key)
                    said = (outcome_text(attempt), *advice(attempt))
                    message = f"{delivery['endpoint_id']} attempt {attempt['number']}: {'; '.join(said)}"
                    click.echo(printable(message), err=True)
        if event["settled_at"] is not None:
            break
        time.sleep(FOLLOW_EVERY_SECONDS)
        event = remote.get(f"/v1/clients/{event['client_id']}/events/{event['id']}").taken(*OF_EVENT)
    status = "delivered (to nobody)" if event["unrouted"] else event["status"]
    click.echo(json_text(event) if as_json else printable(status))
    sys.exit(0 if event["status"] == "delivered" else ExitCode.UNDELIVERED)
