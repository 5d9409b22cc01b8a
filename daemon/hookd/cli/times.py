"""Owns how times are given to the commands: a length of time ago, or a time. They go by the daemon's clock."""

import time

from hookd.cli.api_client import Answer, Remote
from hookd.cli.failures import usage
from hookd.core.timestamps import parse_rfc3339, rfc3339
from hookd.core.units import parse_duration

# A token that is held to certain clients may not ask for the status, nor one that only posts; and a proxy in front of
# several daemons need not say which of them answers.
WITHOUT_STATUS = (403, 404)


def daemon_now(remote: Remote) -> float:
    """By the daemon's clock, which events are shown by. Raises Refusal or Unreachable."""
    return now_of(remote.get("/v1/status"))


def now_of(status: Answer) -> float:
    """Of the answer to a GET of /v1/status: where it is refused its head still has the time, to the second; where that
    has none, this machine's. Raises Refusal or Unreachable."""
    if status.status in WITHOUT_STATUS:
        return time.time() if status.date is None else status.date
    return parse_rfc3339(status.taken("now")["now"])


def time_of(option: str, text: str | None, now: float) -> str | None:
    """A length of time is one ago."""
    if text is None:
        return None
    try:
        return rfc3339(now - parse_duration(text))
    except ValueError:
        pass
    try:
        return rfc3339(parse_rfc3339(text))
    except ValueError:
        usage(f"{option} is a length of time such as 2h, or a time such as 2026-11-21T18:35:00Z")
