"""Owns how text gets onto a terminal: what others wrote is made harmless, rows are cut, times and ages are short.

Ages and times go by the daemon's clock: a command may run on a machine whose clock is off.
"""

import json
import shutil

import msgspec

from hookd.core.timestamps import parse_rfc3339, rfc3339

COLUMNS_MAX = 100


def printable(text: object) -> str:
    """Without what would move the cursor, colour the screen or turn the line round: those characters as escapes."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in str(text))


def json_text(value: object) -> str:
    """One line of JSON, with the same characters escaped: outside ASCII they only stand in strings."""
    text = msgspec.json.encode(value).decode()
    return text if text.isprintable() else "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def clip(row: str, columns: int = COLUMNS_MAX) -> str:
    """At most so many characters, with a mark where something was cut off."""
    return row if len(row) <= columns else row[: max(0, columns - 1)] + "…"


def screen_size() -> tuple[int, int]:
    """Columns, at most 100, and lines."""
    size = shutil.get_terminal_size((COLUMNS_MAX, 24))
    return min(size.columns, COLUMNS_MAX), size.lines


def span(seconds: float) -> str:
    """A length of time in two units at most: 0.4s, 12s, 3m 5s, 2h 7m, 4d 1h."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s".replace(".0s", "s")
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days}d {hours_left}h"
    if hours:
        return f"{hours}h {minutes_left}m"
    return f"{minutes}m {seconds_left}s" if minutes else f"{seconds_left}s"


def moment(at: str, now: float) -> str:
    """An RFC 3339 time as its time of day in UTC, with the date if that is another one: 14:03:07Z."""
    shown = rfc3339(parse_rfc3339(at))
    return f"{shown[11:19]}Z" if shown[:10] == rfc3339(now)[:10] else f"{shown[:10]} {shown[11:19]}Z"


def ago(at: str, now: float) -> str:
    """14:03:07Z (12s ago); what the daemon's clock, set back since, has yet to reach is not that long ago."""
    return f"{moment(at, now)} ({span(max(0.0, now - parse_rfc3339(at)))} ago)"


def ahead(at: str, now: float) -> str:
    """in 12s, at 14:03:07Z"""
    return f"in {span(parse_rfc3339(at) - now)}, at {moment(at, now)}"
