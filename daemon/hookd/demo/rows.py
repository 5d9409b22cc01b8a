"""A receiver's row in the demo's table, and the sentence that says what is to be seen in it.

Pure: made from the daemon's own answers. The times are the daemon's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hookd.core.printable import printable
from hookd.core.time_text import span
from hookd.core.timestamps import parse_rfc3339

NOW_SECONDS = 0.05
WELL, TROUBLED, STOPPED = "well", "troubled", "stopped"


class Row(NamedTuple):
    client_id: str
    state: str
    mood: str  # WELL, TROUBLED or STOPPED
    unsettled: int
    in_flight: int
    answer: str
    upcoming: str
    sentence: str


def rows_of(clients: Sequence[Mapping[str, Any]], shown: Sequence[str], now: str) -> list[Row]:
    """Those `shown`, in that order; `clients` is of GET /v1/clients, `now` of GET /v1/status."""
    by_id = {client["id"]: client for client in clients}
    return [_row(client_id, by_id.get(client_id), parse_rfc3339(now)) for client_id in shown]


def sentences(rows: Sequence[Row]) -> list[str]:
    """What is to be seen: each one that is not well, the worst first, and one that is."""
    by_mood = {mood: [row.sentence for row in rows if row.mood == mood] for mood in (STOPPED, TROUBLED, WELL)}
    return by_mood[STOPPED] + by_mood[TROUBLED] + by_mood[WELL][:1]


def _row(client_id: str, client: Mapping[str, Any] | None, now: float) -> Row:
    if client is None or not client["endpoints"]:
        unknown = f"{client_id} is not registered with this daemon yet"
        return Row(client_id, "unknown", STOPPED, 0, 0, "-", "-", unknown)
    health = client["endpoints"][0]["health"]
    state, mood = _state(health)
    return Row(
        client_id,
        state,
        mood,
        health["unsettled"],
        health["in_flight"],
        _answer(health),
        _upcoming(health, now),
        f"{client_id} {_sentence(health, now)}",
    )


def _state(health: Mapping[str, Any]) -> tuple[str, str]:
    state = health["state"]
    if state == "paused":
        return f"paused: {health['paused_by']}", STOPPED
    if state != "ok":
        return state, STOPPED if state == "disabled" else TROUBLED
    return ("failing", TROUBLED) if health["consecutive_failures"] else ("ok", WELL)


def _answer(health: Mapping[str, Any]) -> str:
    last = health["last_outcome"]
    if last is None:
        return "-"
    if last["outcome"] != "responded":
        return printable(last["outcome"].replace("_", " "))
    return f"{last['status_code']}, Retry-After" if health["not_before"] else str(last["status_code"])


def _upcoming(health: Mapping[str, Any], now: float) -> str:
    """The next attempt, or what comes instead."""
    if health["state"] == "disabled" or health["paused_by"] == "operator":
        return "once resumed"
    if health["state"] == "paused":
        return "probing" if health["in_flight"] else f"probe {_in(health['next_probe_at'], now)}"
    at = health["not_before"] or health["next_attempt_at"]
    if at is None:
        return "-"
    return _in(at, now) if parse_rfc3339(at) > now + NOW_SECONDS else "now"


def _sentence(health: Mapping[str, Any], now: float) -> str:
    if health["state"] == "disabled":
        return "answered 410: disabled. What comes for it is given up as gone, until someone resumes it."
    if health["paused_by"] == "operator":
        return "is paused by an operator: nothing is sent to it, and nothing expires."
    if health["state"] == "paused":
        return "failed for 30 s: paused by failures. What waits is kept; one probe at a time asks."
    if health["not_before"]:
        return f"asked for a rest by Retry-After: nothing is sent to it for {_left(health['not_before'], now)}."
    if health["state"] == "throttled":
        return f"answers {_answer(health)}: throttled, {health['concurrency_now']} in flight at most."
    if health["consecutive_failures"]:
        return f"fails ({_answer(health)}): each event waits for its retry, under its own webhook-id."
    if health["unsettled"] > health["concurrency_now"]:
        return f"gets {health['concurrency_now']} at a time: the others wait, for it alone."
    return "is well: it does not notice what becomes of the others."


def _in(at: str | None, now: float) -> str:
    return "soon" if at is None else f"in {_left(at, now)}"


def _left(at: str, now: float) -> str:
    return span(max(0.0, parse_rfc3339(at) - now))
