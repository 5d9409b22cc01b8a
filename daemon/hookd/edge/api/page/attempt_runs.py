"""Owns how equal attempts that follow each other become one line: an endpoint that is down has little else.

Attempts are equal if they came to the same status or error. What the endpoint said does not count: it is kept of each
delivery's last attempt alone. The newest of a run is shown. The rest is folded where it is more than `SHOWN_REST_MAX`,
and stays there for who opens it.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from hookd.core.plurals import counted
from hookd.core.time_text import took
from hookd.edge.api.sent_routes import SentAttempt

# To fold fewer saves no line worth a click.
SHOWN_REST_MAX = 2


class AttemptRun(NamedTuple):
    """The newest first."""

    shown: Sequence[SentAttempt]
    folded: Sequence[SentAttempt]  # the rest of them, or none

    @property
    def counted(self) -> str:
        return counted(len(self.folded), "attempt")

    @property
    def took(self) -> str:
        """The shortest and the longest of what is folded: 12 ms to 18 ms; empty where none ended."""
        seconds = sorted(
            one.attempt.duration_seconds for one in self.folded if one.attempt.duration_seconds is not None
        )
        ends = [took(one) for one in (*seconds[:1], *seconds[-1:])]
        return " to ".join(dict.fromkeys(ends))


def attempt_runs(attempts: Sequence[SentAttempt]) -> Iterator[AttemptRun]:
    """In their order."""
    for _, equal in groupby(attempts, key=_what_came):
        run = list(equal)
        shown = run if len(run) <= 1 + SHOWN_REST_MAX else run[:1]
        yield AttemptRun(shown, run[len(shown) :])


def _what_came(one: SentAttempt) -> tuple[object, ...]:
    attempt = one.attempt
    return attempt.outcome, attempt.status_code, attempt.error
