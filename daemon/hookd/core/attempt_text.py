"""Owns what an attempt came to, in words: its outcome, what can be done about it, and the row of a past one.

`explain`, `send`, `test` and the status page say it alike.
"""

from collections.abc import Iterator
from typing import Any

from hookd.core.time_text import moment, took

# Of what an endpoint answered; the event's page in the API has all that is kept of it.
EXCERPT_CHARS_MAX = 200
BLOCKED = (
    "hookd connects to no such address, unless egress.allow_networks names its network (under --dev it may be private)."
)


def outcome_text(outcome: dict[str, Any]) -> str:
    if outcome["outcome"] == "responded":
        return f"answered {outcome['status_code']}"
    return f"{outcome['outcome']}, {outcome['error']}"


def advice(outcome: dict[str, Any]) -> Iterator[str]:
    """What the operator can change about it, where there is something."""
    if outcome["outcome"] == "blocked":
        yield BLOCKED


def excerpt_text(attempt: dict[str, Any]) -> Iterator[str]:
    """What the endpoint said with its refusal, on one line; nothing where it said nothing."""
    said = " ".join((attempt["response_excerpt"] or "").split())
    if said:
        cut = said if len(said) <= EXCERPT_CHARS_MAX else f"{said[: EXCERPT_CHARS_MAX - 1]}…"
        yield f'Its body: "{cut}"'


def past_attempts(attempts: list[dict[str, Any]], now: float) -> Iterator[str]:
    """A row for each; of a long history the middle is not kept, which is said in its place."""
    before = 0
    for attempt in attempts:
        if attempt["number"] > before + 1:
            yield f"  … {attempt['number'] - before - 1:,} more, which are not kept"
        before = attempt["number"]
        what = "cut by a stop or a crash" if attempt["outcome"] is None else outcome_text(attempt)
        after = "" if attempt["duration_seconds"] is None else f" after {took(attempt['duration_seconds'])}"
        again = " (on a second connection)" if attempt["reconnected"] else ""
        yield f"  {attempt['number']:>3}  {moment(attempt['started_at'], now)}  {what}{after}{again}"


def maybe_received(attempt: dict[str, Any]) -> str:
    sent_unanswered = attempt["request_sent"] and attempt["outcome"] != "responded"
    return "; the request went out, so the client may have it" if sent_unanswered else ""
