"""Owns how lengths and moments of time are written for people: short, in two units at most, in UTC.

Ages go by the daemon's clock, which comes in as a value: whoever reads may sit at a machine whose clock is off.
"""

from hookd.core.timestamps import parse_rfc3339, rfc3339


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


def took(seconds: float) -> str:
    """How long one thing took: as `span`, but a part of a second in milliseconds: 0.8 ms, 6 ms, 12 ms, 3.1s."""
    milliseconds = max(0.0, seconds) * 1000
    if milliseconds >= 999.5:
        return span(seconds)
    return (f"{milliseconds:.1f}" if milliseconds < 9.95 else f"{milliseconds:.0f}").removesuffix(".0") + " ms"


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
