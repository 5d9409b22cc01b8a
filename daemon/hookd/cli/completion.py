"""Owns what the shell offers: ids of clients and of their endpoints, asked of the daemon that the command would ask,
and names of files. A shell that has our completion no longer offers files by itself.

Rules: a shell that completes must not hang or print. So it asks for a second in all, and whatever fails offers nothing.
Limits: at most 10,000 ids are looked through, in pages of a thousand.
"""

import time
from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

from hookd.cli.api_client import Refusal, Remote, Unreachable, Unreadable, part

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
            answer = _remote(ctx, remaining_seconds).get(f"/v1/clients?limit={PAGE}{cursor}")
            page = answer.taken("clients", "next_cursor")
            found += _beginning((client["id"] for client in page["clients"]), begun)
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
    except (Unreachable, Unreadable, Refusal):
        pass
    return found


def complete_endpoint(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Ids of the endpoints of the client that was named before."""
    return _endpoints(ctx, ctx.params.get("client") or "", begun)


def complete_names(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Of a command that takes CLIENT and one more name: clients, then that client's endpoints if `explain` asks."""
    before = ctx.params.get(parameter.name or "") or ()
    if not before:
        return complete_client(ctx, parameter, begun)
    return _endpoints(ctx, before[0], begun) if len(before) == 1 and ctx.info_name == "explain" else []


def complete_file(_ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The shell lists them itself."""
    return [CompletionItem(begun, type="file")]


def complete_directory(_ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(begun, type="dir")]


def _endpoints(ctx: click.Context, client_id: str, begun: str) -> list[CompletionItem]:
    try:
        client = _remote(ctx, SECONDS_MAX).get(f"/v1/clients/{part(client_id)}").taken("endpoints")
        return list(_beginning((endpoint["id"] for endpoint in client["endpoints"]), begun))
    except (Unreachable, Unreadable, Refusal):
        return []


def _remote(ctx: click.Context, timeout_seconds: float) -> Remote:
    """Raises Unreachable or Unreadable."""
    return Remote.named(ctx.params.get("url"), ctx.params.get("token_file"), timeout_seconds=timeout_seconds)


def _beginning(ids: Iterable[str], begun: str) -> Iterable[CompletionItem]:
    return (CompletionItem(one) for one in ids if one.startswith(begun))
