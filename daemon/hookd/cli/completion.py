"""Owns what the shell offers for a client's id: those of the daemon that the command would ask.

Rules: a shell that completes must not hang or print. So it asks for a second in all, and whatever fails offers nothing.
Limits: at most 10,000 ids are looked through, in pages of a thousand.
"""

import time

import click
from click.shell_completion import CompletionItem

from hookd.cli.api_client import Refusal, Remote, Unreachable, Unreadable

SECONDS_MAX = 1.0
PAGES_MAX = 10
PAGE = 1000


def complete_client(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Ids of clients that begin so."""
    deadline = time.monotonic() + SECONDS_MAX
    found: list[CompletionItem] = []
    cursor = ""
    try:
        for _ in range(PAGES_MAX):
            remaining_seconds = deadline - time.monotonic()
            if remaining_seconds <= 0:
                break
            remote = Remote.named(
                ctx.params.get("url"), ctx.params.get("token_file"), timeout_seconds=remaining_seconds
            )
            page = remote.get(f"/v1/clients?limit={PAGE}{cursor}").taken("clients", "next_cursor")
            found += [CompletionItem(client["id"]) for client in page["clients"] if client["id"].startswith(begun)]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
    except (Unreachable, Unreadable, Refusal):
        pass
    return found
