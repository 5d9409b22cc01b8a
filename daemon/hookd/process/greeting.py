"""Owns what a person at a terminal is told once the daemon listens: the page, one command to paste, how to stop.

Does not: say anything to a pipe or a log. There the first line on stdout and `daemon.started` are all.
"""

import shlex

from hookd.core.settings import Settings
from hookd.core.units import format_duration

EVENT = '{"client_id": "%s", "type": "invoice.paid", "payload": {"amount": 42}}'
CLIENT = '{"url": "https://example.com/hook"}'


def greeting(url: str, settings: Settings) -> str:
    """`url` is the first that is listened on. Lines of text."""
    stop = f"Ctrl-C drains for up to {format_duration(settings.drain.timeout_seconds)}; a second one stops at once"
    return (
        f"  page   {url}/{' (it asks for a token of scope read)' if settings.http.tokens else ''}\n"
        f"  try    {_command(url, settings)}\n"
        f"  stop   {stop}. Either way a report goes to {settings.drain.report_directory}\n"
    )


def _command(url: str, settings: Settings) -> str:
    """Posts an event; registers a client where none is configured, since nobody would get the event."""
    if settings.clients:
        command, body = f"curl {url}/v1/events", EVENT % settings.clients[0].id
    else:
        command, body = f"curl -X PUT {url}/v1/clients/acme", CLIENT
    token = ' -H "authorization: Bearer $(cat TOKEN_FILE)"' if settings.http.tokens else ""
    return f"{command}{token} -H 'content-type: application/json' -d {shlex.quote(body)}"
