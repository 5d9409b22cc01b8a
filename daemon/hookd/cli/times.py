"""Owns how times are given to the commands: a length of time ago, or a time. They go by the daemon's clock."""

from hookd.cli.api_client import Remote
from hookd.cli.failures import usage
from hookd.core.timestamps import parse_rfc3339, rfc3339
from hookd.core.units import parse_duration


def daemon_now(remote: Remote, *given: str | None) -> float:
    """By the daemon's clock, which events are shown by; a token that may not ask for it has this machine's."""
    answer = remote.get("/v1/status")
    if answer.status == 200:
        return parse_rfc3339(answer.taken("now")["now"])
    if any(given):
        answer.taken("now")  # raises what it was refused with
    return 0.0


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
