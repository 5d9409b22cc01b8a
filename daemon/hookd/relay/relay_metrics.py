"""Owns what the relay shows: /metrics in Prometheus' text form, and whether it is ready.

Counts are since the start. What is posted again is counted in Redis too, as `posted_again` in `STREAM:relay:GROUP`,
before it is posted: by all relays of the group, and no kill loses it.
"""

import time
from collections.abc import Mapping, Sequence

from hookd.relay.feed_reader import FeedReader
from hookd.relay.parking import State
from hookd.relay.relay_state import RelayState

_COUNTERS = {
    "read": "Entries read from the stream",
    "posted": "Events that a daemon took or knew",
    "posted_again": "Events posted again that may have arrived before",
    "acknowledged": "Entries acknowledged",
    "acknowledged_elsewhere": "Entries that were acknowledged already when the relay came to it",
    "delivered": "Entries acknowledged as delivered",
    "exhausted": "Entries written to STREAM:exhausted",
    "refused": "Entries written to STREAM:refused",
    "trimmed": "Pending entries that were trimmed from the stream",
    "taken_over": "Entries taken over from relays that were gone",
    "passed_by": "Entries of stuck clients that stayed in Redis as they were read",
    "handed_back": "Entries of stuck clients handed back to Redis",
    "taken_back": "Such entries claimed again",
    "lost": "Entries that another relay took over",
    "looked_up": "Events looked up in the daemons",
    "gaps": "Gaps in the settlement feeds",
    "registered": "Clients registered from --clients",
}


def troubles(state: RelayState, feeds: Sequence[FeedReader]) -> list[str]:
    """Why the relay is not ready; empty where it is."""
    found = [f"feed {feed.url}: {feed.problem}" for feed in feeds if feed.problem is not None]
    if state.log is None:
        found.append("Redis does not answer")
    elif not state.lease.is_held:
        found.append("Redis has not seen the relay for too long")
    return [*found, "the relay stops"] if state.is_stopping else found


def exposition(state: RelayState, feeds: Sequence[FeedReader]) -> str:
    table, lanes = state.table, state.table.lanes
    lines: list[str] = []
    for name, meaning in _COUNTERS.items():
        _say(lines, f"{name}_total", "counter", meaning, {"": state.counts[name]})
    if state.lag is not None:
        _say(lines, "lag", "gauge", "Entries of the stream that no relay has read", {"": state.lag})
    _say(
        lines, "pending", "gauge", "Entries that are read and not acknowledged, of the whole group", {"": state.pending}
    )
    _say(lines, "owed", "gauge", "Entries that this relay answers for, by where their events stand", _by_state(state))
    _say(lines, "oldest_owed_seconds", "gauge", "Age of the oldest of them", {"": _oldest_seconds(state)})
    parked = {f'{{reason="{reason.value}"}}': count for reason, count in lanes.parked().items()}
    _say(lines, "parked_clients", "gauge", "Clients whose entries are parked", parked)
    _say(lines, "parked", "gauge", "Entries of stuck clients that are held", {"": lanes.stuck_count})
    beyond = sum(lane.beyond for lane in lanes.beyond.values())
    _say(lines, "parked_beyond", "gauge", "Entries of stuck clients that stay in Redis", {"": beyond})
    _say(lines, "held_bytes", "gauge", "Bytes of the entries that are held", {"": lanes.held_bytes})
    _say(lines, "owed_max", "gauge", "The most that it answers for", {"": table.limits.owed_max})
    _say(lines, "redis_up", "gauge", "Whether Redis answers", {"": int(state.log is not None)})
    up = {f'{{url="{_escaped(feed.url)}"}}': int(feed.problem is None) for feed in feeds}
    _say(lines, "feed_up", "gauge", "Whether a daemon's feed answers", up)
    return "\n".join(lines) + "\n"


def _say(lines: list[str], name: str, kind: str, meaning: str, values: Mapping[str, float]) -> None:
    full = f"hookd_relay_{name}"
    lines += [f"# HELP {full} {meaning}.", f"# TYPE {full} {kind}"]
    lines += [
        f"{full}{labels} {value:g}" if isinstance(value, float) else f"{full}{labels} {value}"
        for labels, value in values.items()
    ]


def _by_state(state: RelayState) -> dict[str, float]:
    counts = state.table.by_state()
    return {f'{{state="{one.value}"}}': counts[one] for one in State}


def _oldest_seconds(state: RelayState) -> float:
    """By the time in its entry's id, which is the Redis host's: until 2286 the texts are in order of their times."""
    oldest = min(state.table.rows, default=None)
    return 0.0 if oldest is None else max(time.time() - int(oldest.partition("-")[0]) / 1000, 0.0)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
